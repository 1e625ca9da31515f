//! `kill -9` at any moment of a pull: nothing is visible too early, nothing that arrived is lost, nothing stays behind.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Memory, noise, pull, tar};
use cove_engine::{Places, PruneFilter, RemoveOptions, Store};
use cove_oci::ReferenceDefaults;

const FOLDER: &str = "COVE_TEST_KILLED_PULL";
const MOVED: &str = "COVE_TEST_KILLED_MOVE";
const ROUNDS: u64 = 40;

fn source() -> Memory {
    let mut source = Memory::image(&[
        tar(&[("base", &noise(1, 1_500_000))]),
        // Needs the folder below it: settled before it is published.
        tar(&[("srv/page", &noise(2, 700_000))]),
        tar(&[("srv/", b""), ("srv/other", &noise(3, 300_000))]),
    ]);
    source.faults.pause = Some(Duration::from_millis(1));
    source
}

/// Not a test of its own: the process that is killed.
#[tokio::test(flavor = "multi_thread")]
async fn killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = Store::open(Places::under(folder.as_ref())).unwrap();
    pull(&store, &source(), "app").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_pull_goes_on_where_it_was_and_leaves_nothing() {
    let (folder, store) = common::store();
    let mut source = source();
    source.faults.pause = None;
    let manifest = source.manifest();
    let (mut resumed, mut finished) = (0, 0);
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(10 + round * 317 % 350));
        child.kill().unwrap();
        child.wait().unwrap();

        let visible = store.find("app", &ReferenceDefaults::default()).is_ok();
        let arrived: Vec<(_, u64)> = manifest
            .blobs()
            .map(|blob| {
                let path = store.places().root.join("partial").join(blob.digest.hex());
                (blob.clone(), std::fs::metadata(path).map_or(0, |found| found.len()))
            })
            .collect();
        source.asked();
        let copied = pull(&store, &source, "app").await.unwrap();
        assert_eq!(copied.was_up_to_date(), visible);
        finished += u64::from(visible);
        let asked = source.asked();
        for (blob, length) in arrived.iter().filter(|_| !visible) {
            let offsets: Vec<u64> =
                asked.iter().filter(|(digest, _)| *digest == blob.digest).map(|(_, offset)| *offset).collect();
            match *length {
                length if length == blob.size => assert!(offsets.is_empty(), "{offsets:?}"),
                length => assert_eq!(offsets, [length]),
            }
            resumed += u64::from(*length > 0);
        }
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
        let image = store.find("app", &ReferenceDefaults::default()).unwrap().image;
        assert_eq!(std::fs::read(image.layers()[0].folder.join("base")).unwrap(), noise(1, 1_500_000));
        assert_eq!(std::fs::read(image.layers()[1].folder.join("srv/page")).unwrap(), noise(2, 700_000));

        store.remove("app", &ReferenceDefaults::default(), RemoveOptions::default()).unwrap();
        store.prune(&PruneFilter::default()).unwrap();
        store.prune_partial().unwrap();
        for folder in ["layers", "blobs/sha256", "images", "references", "staging", "partial", "trash", "leases"] {
            let left: Vec<_> = std::fs::read_dir(store.places().root.join(folder)).unwrap().collect();
            assert!(left.is_empty(), "round {round}, {folder}: {left:?}");
        }
    }
    assert!(resumed > 10, "the moments are badly chosen: {resumed} resumed, {finished} finished");
}

fn versions() -> [Memory; 2] {
    ["old", "new"].map(|text| Memory::image(&[tar(&[("base", b"base")]), tar(&[("version", text.as_bytes())])]))
}

/// Not a test of its own: the process that is killed.
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_name_moves() {
    let Some(folder) = std::env::var_os(MOVED) else { return };
    let store = Store::open(Places::under(folder.as_ref())).unwrap();
    pull(&store, &versions()[1], "app").await.unwrap();
}

/// Killed at the first rename, at the second, and so on: whoever comes next finds the old image under the name, or the
/// new one, and never one that is complete and has no name.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_moves_stands_for_the_old_or_the_new_image() {
    let [old, new] = versions().map(|source| source.manifest().config().unwrap().digest.clone());
    let (mut seen, mut journals) = (Vec::new(), 0);
    for nth in 1.. {
        let (folder, store) = common::store();
        pull(&store, &versions()[0], "app").await.unwrap();
        let inject = format!("inject=rename:signal=KILL:when={nth}");
        let traced = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=rename", "-e", &inject])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "killed_while_a_name_moves"])
            .env(MOVED, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        // Where processes may not be watched, the records' own tests have to do.
        let Ok(status) = traced else { return };
        journals += u32::from(store.places().root.join("journal.json").exists());
        let store = Store::open(store.places().clone()).unwrap();
        let image = store.find("app", &ReferenceDefaults::default()).unwrap().image;
        assert!([&old, &new].contains(&image.id()), "killed at rename {nth}");
        for image in store.images().unwrap() {
            let names = image.tags().len() + image.digests().len();
            assert!(names > 0, "killed at rename {nth}: {} has no name", image.id());
        }
        let is_there = store.image(&new).unwrap().is_some();
        assert_eq!(is_there, *image.id() == new, "killed at rename {nth}: the new image is there, and its name");
        seen.push(is_there);
        store.prune_partial().unwrap();
        assert_eq!(store.check().unwrap(), Vec::<String>::new(), "killed at rename {nth}");
        pull(&store, &versions()[1], "app").await.unwrap();
        assert_eq!(store.find("app", &ReferenceDefaults::default()).unwrap().image.id(), &new);
        if status.success() || nth > 100 {
            break;
        }
    }
    if seen.len() > 1 {
        assert!(!seen[0] && seen.ends_with(&[true]), "{seen:?}");
        assert!(journals > 1, "no kill came between two records: {seen:?}");
    }
}
