//! `kill -9` at any moment of a pull: nothing is visible too early, nothing that arrived is lost, nothing stays behind.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Memory, noise, pull, tar};
use cove_engine::{Places, PruneFilter, RemoveOptions, Store};
use cove_oci::ReferenceDefaults;

const FOLDER: &str = "COVE_TEST_KILLED_PULL";
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
