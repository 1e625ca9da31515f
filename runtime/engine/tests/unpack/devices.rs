//! Device nodes: those that cannot be made, and those that overlayfs takes for whiteouts.

use std::path::Path;

use cove_engine::unpack::{UnpackOptions, unpack};

use crate::builder::{Block, Tar};
use crate::layers::unpacked;
use crate::listing::{is_root, list};

const PLACE: &str = "COVE_TEST_WITHOUT_DEVICES";

fn with_devices() -> Tar {
    let mut tar = Tar::new();
    tar.folder("dev").add(Block::new(b'3', "dev/null").device(1, 3), &[]).hard("dev/again", "dev/null");
    tar.hard("outside", "dev/again").file("dev/.wh.zero", "").add(Block::new(b'3', "dev/zero").device(1, 5), &[]);
    tar.add(Block::new(b'4', "dev/gone").device(7, 0), &[]).file("dev/gone", "a file after all");
    tar.add(Block::new(b'6', "pipe"), &[]);
    tar
}

/// Not a test of its own: the process that may not make devices.
#[test]
fn unpacks_devices_without_the_right_to() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let unpacked = unpack(&*with_devices().end(), Path::new(&place), &UnpackOptions::default()).unwrap();
    assert_eq!(unpacked.skipped_devices, 3);
    assert!(unpacked.links_below.is_empty());
    println!("unpacked");
}

#[test]
fn devices_that_cannot_be_made_hide_what_is_below() {
    if !is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let child = std::process::Command::new("setpriv")
        .args(["--bounding-set=-mknod", "--inh-caps=-mknod"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "devices::unpacks_devices_without_the_right_to", "--nocapture"])
        .env(PLACE, place.path())
        .output();
    let Ok(child) = child else { return };
    assert!(String::from_utf8_lossy(&child.stdout).contains("unpacked"), "{child:?}");
    let tree = list(place.path());
    for path in ["dev/null", "dev/again", "outside", "dev/zero"] {
        let node = &tree[Path::new(path)];
        assert_eq!((node.kind, node.device), ('c', 0), "{path}");
    }
    assert_eq!(tree[Path::new("dev/gone")].content, b"a file after all");
    assert_eq!(tree[Path::new("pipe")].kind, 'p');
}

#[test]
fn devices_that_are_whiteouts_to_overlayfs_are_known_to_be() {
    if !is_root() {
        return;
    }
    let zero = |path| Block::new(b'3', path).device(0, 0).mode(0o600);
    let mut tar = Tar::new();
    tar.folder("d").add(zero("d/x"), &[]).hard("d/y", "d/x").file("z", "").add(zero("z"), &[]);
    tar.add(zero("replaced"), &[]).file("replaced", "new").add(zero("folder"), &[]).folder("folder");
    let (folder, result) = unpacked(&tar);
    assert!(result.unwrap().is_independent());
    let tree = list(folder.path());
    for path in ["d/x", "d/y", "z"] {
        assert_eq!((tree[Path::new(path)].kind, tree[Path::new(path)].device), ('c', 0), "{path}");
    }
    // As for every whiteout, overlayfs must be told to look for it.
    assert!(tree[Path::new("d")].xattrs.contains_key(std::ffi::OsStr::new("trusted.overlay.origin")));
    assert_eq!(tree[Path::new("replaced")].content, b"new");
    assert_eq!(tree[Path::new("folder")].kind, 'd');
    // Nothing can be in it.
    let mut inside = Tar::new();
    inside.add(zero("x"), &[]).file("x/y", "");
    assert!(unpacked(&inside).1.unwrap_err().to_string().contains("no folder"));
}
