//! Images that are mounted to be looked at: what they show, who can get there, and that they stay.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use common::{Memory, pull, store, tar};
use cove_engine::{Error, Places, PruneFilter, RemoveOptions, Store};
use cove_oci::ReferenceDefaults;

fn defaults() -> ReferenceDefaults {
    ReferenceDefaults::default()
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// The options of the mount at a folder.
fn options_of(folder: &Path) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let fitting = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found = fitting.filter(|fields| Path::new(fields[4]) == folder).map(|fields| fields[5].to_owned());
    found.flat_map(|options| options.split(',').map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mounted_is_closed_to_others_and_stays() {
    if !is_root() {
        return;
    }
    let (_folder, store) = store();
    let source = Memory::image(&[tar(&[("a", b"a")])]);
    pull(&store, &source, "app").await.unwrap();
    let image = store.find("app", &defaults()).unwrap().image;
    let at = store.mount(&image).unwrap();
    assert_eq!(std::fs::read(at.join("a")).unwrap(), b"a");
    let options = options_of(&at);
    for option in ["ro", "nosuid", "nodev"] {
        assert!(options.iter().any(|found| found == option), "{option} of {options:?}");
    }
    let mode = std::fs::metadata(&store.places().run).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(store.mount(&image).unwrap(), at);
    assert_eq!(options_of(&at), options, "it is mounted once");

    store.tag(&image, &common::reference("other")).unwrap();
    store.remove("other", &defaults(), RemoveOptions::default()).unwrap();
    for (name, force) in [("app", false), (image.id().hex(), false), (image.id().hex(), true)] {
        let error = store.remove(name, &defaults(), RemoveOptions { force }).unwrap_err();
        assert!(error.to_string().starts_with("conflict: unable to delete "), "{error}");
    }
    let pruned = store.prune(&PruneFilter { all: true, ..PruneFilter::default() }).unwrap();
    assert!(pruned.removed.is_empty());
    store.prune_partial().unwrap();
    assert_eq!(std::fs::read(at.join("a")).unwrap(), b"a");

    store.unmount(&image).unwrap();
    assert!(!at.exists());
    assert!(!store.places().run.join("roots").join(image.id().hex()).exists());
    store.unmount(&image).unwrap();
    store.remove("app", &defaults(), RemoveOptions::default()).unwrap();
    assert!(matches!(store.mount(&image), Err(Error::NoSuchImage(_))));
    // What a start of the machine leaves behind.
    for folder in ["images", "roots"] {
        std::fs::create_dir_all(store.places().run.join(folder).join("gone")).unwrap();
    }
    store.prune_partial().unwrap();
    for folder in ["images", "roots"] {
        assert_eq!(std::fs::read_dir(store.places().run.join(folder)).unwrap().count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_whose_root_is_opaque_hides_all_that_is_below() {
    if !is_root() {
        return;
    }
    let (_folder, store) = store();
    let bottom = tar(&[("etc/", b""), ("etc/old", b""), ("gone", b"")]);
    let middle = tar(&[(".wh..wh..opq", b""), ("etc/new", b""), ("kept", b"")]);
    let top = tar(&[("etc/newest", b""), ("link", b"")]);
    pull(&store, &Memory::image(&[bottom, middle, top]), "app").await.unwrap();
    let image = store.find("app", &defaults()).unwrap().image;
    let at = store.mount(&image).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.extend(std::fs::read_dir(at.join("etc")).unwrap().map(|entry| entry.unwrap().file_name()));
    names.sort();
    assert_eq!(names, ["etc", "kept", "link", "new", "newest"]);
    store.unmount(&image).unwrap();
}

#[test]
fn a_run_folder_that_others_can_enter_is_refused_or_closed() {
    let folder = tempfile::tempdir().unwrap();
    let open = |run: &Path| Store::open(Places { root: folder.path().join("lib"), run: run.to_owned() });
    let given = folder.path().join("given");
    std::fs::create_dir(&given).unwrap();
    std::fs::set_permissions(&given, std::fs::Permissions::from_mode(0o755)).unwrap();
    let error = open(&given).unwrap_err().to_string();
    assert!(error.contains("can be entered by others"), "{error}");
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&given, &link).unwrap();
    assert!(open(&link).unwrap_err().to_string().contains("no folder of this user"));
    let ours = folder.path().join("cove");
    std::fs::create_dir(&ours).unwrap();
    std::fs::set_permissions(&ours, std::fs::Permissions::from_mode(0o755)).unwrap();
    open(&ours).unwrap();
    assert_eq!(std::fs::metadata(&ours).unwrap().mode() & 0o777, 0o700);
    if is_root() {
        std::os::unix::fs::chown(&ours, Some(7), None).unwrap();
        assert!(open(&ours).unwrap_err().to_string().contains("no folder of this user"));
    }
}

const INSIDE: &str = "COVE_TEST_INSIDE_A_NAMESPACE";

/// Not a test of its own: the process in a namespace that a user made.
#[tokio::test(flavor = "multi_thread")]
async fn works_inside() {
    let Some(folder) = std::env::var_os(INSIDE) else { return };
    let store = Store::open(Places::under(folder.as_ref())).unwrap();
    let owned = {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(7);
        header.set_gid(8);
        header.set_size(0);
        builder.append_data(&mut header, "etc/owned", &b""[..]).unwrap();
        builder.into_inner().unwrap()
    };
    let top = tar(&[("etc/.wh.gone", b""), ("opaque/.wh..wh..opq", b""), ("opaque/new", b"")]);
    let bottom = tar(&[("etc/", b""), ("etc/gone", b""), ("opaque/", b""), ("opaque/old", b"")]);
    pull(&store, &Memory::image(&[bottom, owned, top]), "app").await.unwrap();
    let image = store.find("app", &defaults()).unwrap().image;
    let at = store.mount(&image).unwrap();
    assert!(at.join("etc/owned").exists() && !at.join("etc/gone").exists());
    assert!(at.join("opaque/new").exists() && !at.join("opaque/old").exists());
    store.unmount(&image).unwrap();
    println!("it works inside");
}

/// Neither `trusted.` attributes nor other ids exist there; where a user made it, its root is not the machine's.
#[test]
fn images_are_unpacked_and_mounted_in_a_namespace_that_somebody_made() {
    let folder = tempfile::tempdir().unwrap();
    let child = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "works_inside", "--nocapture"])
        .env(INSIDE, folder.path())
        .output();
    let Ok(child) = child else { return };
    let (output, error) = (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    if error.contains("unshare failed") {
        return;
    }
    assert!(output.contains("it works inside"), "{output}{error}");
}
