//! Several layers: what overlayfs shows of them is what comes of unpacking one on top of the other.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cove_engine::unpack::{UnpackOptions, settle, unpack};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::builder::{Block, Tar};
use crate::listing::{Listing, assert_same, gnu_tar, is_root, list};

/// An overlay mount that ends with the test.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// Unpacks, settles and mounts; lists what is seen.
fn merged(layers: &[Tar]) -> Listing {
    let place = tempfile::tempdir().unwrap();
    let options = UnpackOptions::default();
    let mut folders: Vec<PathBuf> = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let folder = place.path().join(number.to_string());
        std::fs::create_dir(&folder).unwrap();
        let unpacked = unpack(&*layer.end(), &folder, &options).unwrap();
        if !unpacked.is_independent() {
            settle(&folder, &unpacked, &folders, &options).unwrap();
        }
        folders.insert(0, folder);
    }
    let (upper, work, at) = (place.path().join("upper"), place.path().join("work"), place.path().join("merged"));
    for folder in [&upper, &work, &at] {
        std::fs::create_dir(folder).unwrap();
    }
    let lower: Vec<_> = folders.iter().map(|folder| folder.to_str().unwrap()).collect();
    let data = format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), upper.display(), work.display());
    mount("overlay", &at, "overlay", MountFlags::empty(), Some(&*std::ffi::CString::new(data).unwrap())).unwrap();
    let mounted = Mounted(at);
    let listing = list(&mounted.0);
    drop(mounted);
    listing
}

/// The oracle: whiteouts first, then GNU tar, layer after layer in one folder.
fn sequential(layers: &[Tar]) -> Listing {
    let folder = tempfile::tempdir().unwrap();
    for layer in layers {
        let bytes = layer.end();
        let listing = std::process::Command::new("tar")
            .args(["-t", "--quoting-style=literal", "-f", "-"])
            .stdin({
                let file = tempfile::tempfile().unwrap();
                std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
                file
            })
            .output()
            .unwrap();
        let names: Vec<PathBuf> = listing
            .stdout
            .split(|byte| *byte == b'\n')
            .map(|name| PathBuf::from(std::ffi::OsStr::from_bytes(name)))
            .collect();
        for name in &names {
            hide(folder.path(), name);
        }
        // As docker does, the folder of a whiteout is made even if nothing else is in it.
        for name in names.iter().filter(|name| whiteout(name).is_some()) {
            std::fs::create_dir_all(folder.path().join(name.parent().unwrap())).unwrap();
        }
        gnu_tar(&bytes, folder.path(), &["--exclude=.wh.*"]);
    }
    list(folder.path())
}

fn whiteout(name: &Path) -> Option<&str> {
    name.file_name()?.to_str()?.strip_prefix(".wh.")
}

fn hide(root: &Path, name: &Path) {
    let Some(hidden) = whiteout(name) else { return };
    // The parent's links are followed, by chroot as it were: the test has no absolute ones.
    let parent = root.join(name.parent().unwrap());
    if hidden == ".wh..opq" {
        for entry in parent.read_dir().into_iter().flatten() {
            remove(&entry.unwrap().path());
        }
    } else {
        remove(&parent.join(hidden));
    }
}

fn remove(path: &Path) {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path).unwrap(),
        Ok(_) => std::fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// Compares all but what GNU tar leaves to chance: the times of folders that no entry sets last.
fn compare(layers: &[Tar]) {
    let (mut found, mut expected) = (merged(layers), sequential(layers));
    for listing in [&mut found, &mut expected] {
        listing.remove(Path::new(""));
        for node in listing.values_mut().filter(|node| node.kind == 'd') {
            node.modified = (0, 0);
        }
    }
    assert_same(&found, &expected);
}

fn base() -> Tar {
    let mut tar = Tar::new();
    tar.folder("usr").folder("usr/lib").file("usr/lib/libc", "libc").link("lib", "usr/lib").link("lib64", "/usr/lib");
    tar.add(Block::new(b'5', "tmp").mode(0o1777), &[]).add(Block::new(b'5', "srv").mode(0o2750).owner(7, 8), &[]);
    tar.pax(&[("SCHILY.xattr.user.mark", b"1")]).folder("etc").file("etc/passwd", "root").file("etc/gone", "");
    tar.folder("opaque").file("opaque/old", "").folder("cut").file("cut/old", "").link("dangling", "run/later");
    tar.link("loop", "loop").file("file", "f").folder("a").link("a/up", "../srv");
    tar
}

#[test]
fn implied_folders_are_what_they_are_below() {
    if !is_root() {
        return;
    }
    let mut second = Tar::new();
    second.file("tmp/x", "").folder("srv/deep").file("srv/deep/y", "").file("etc/new", "").file("etc/.wh.gone", "");
    compare(&[base(), second.clone()]);
    let mut third = Tar::new();
    third.file("srv/deep/z", "").file("etc/passwd", "changed").file(".wh.file", "");
    compare(&[base(), second, third]);
}

#[test]
fn the_root_is_what_the_nearest_layer_that_carries_one_says() {
    if !is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let options = UnpackOptions::default();
    let mut bottom = Tar::new();
    bottom.pax(&[("SCHILY.xattr.user.mark", b"1")]).add(Block::new(b'5', "./").mode(0o711).owner(3, 4), &[]);
    let (mut upper, mut top) = (Tar::new(), Tar::new());
    upper.file("x", "").link("l", "etc");
    top.file("l/y", "").hard("z", "x");
    let mut folders: Vec<PathBuf> = Vec::new();
    for layer in [bottom, upper, top] {
        let folder = place.path().join(folders.len().to_string());
        std::fs::create_dir(&folder).unwrap();
        let unpacked = unpack(&*layer.end(), &folder, &options).unwrap();
        assert_eq!(unpacked.carries_root, folders.is_empty());
        settle(&folder, &unpacked, &folders, &options).unwrap();
        folders.insert(0, folder);
    }
    let roots: Vec<_> = folders.iter().map(|folder| list(folder)[Path::new("")].clone()).collect();
    assert_eq!((roots[0].mode, roots[0].owner, roots[0].modified), (0o711, (3, 4), (1_000_000_000, 0)));
    assert!(roots.iter().all(|root| *root == roots[0]));
}

#[test]
fn links_below_stay_links() {
    if !is_root() {
        return;
    }
    let mut second = Tar::new();
    second.file("lib/a", "a").folder("lib/modules").file("lib/modules/m", "m").file("usr/lib/b", "b");
    second.add(Block::new(b'5', "usr/lib/modules").mode(0o700), &[]).file("a/up/s", "s").hard("a/up/t", "lib/a");
    compare(&[base(), second.clone()]);
    let found = merged(&[base(), second]);
    assert_eq!(found[Path::new("lib")].kind, 'l');
    let mut absolute = Tar::new();
    absolute.file("lib64/c", "c").file("lib64/.wh.libc", "");
    let found = merged(&[base(), absolute]);
    assert_eq!(found[Path::new("lib64")].kind, 'l');
    assert_eq!(found[Path::new("usr/lib/c")].content, b"c");
    assert!(!found.contains_key(Path::new("usr/lib/libc")));
    let mut dangling = Tar::new();
    dangling.file("dangling/pid", "1").file("loop/x", "");
    let found = merged(&[base(), dangling]);
    assert_eq!(found[Path::new("run/later/pid")].content, b"1");
    assert_eq!(found[Path::new("loop/x")].kind, '-', "a link that leads nowhere is hidden by the folder");
}

#[test]
fn whiteouts_hide_what_is_below_and_nothing_else() {
    if !is_root() {
        return;
    }
    let mut second = Tar::new();
    second
        .folder("opaque")
        .file("opaque/new", "")
        .file("opaque/.wh..wh..opq", "")
        .file("cut/new", "")
        .file(".wh.cut", "");
    second.file("lib/.wh.libc", "").file(".wh.srv", "").file("srv", "a file now").file(".wh.nothing", "");
    let mut third = Tar::new();
    third.folder("srv").file("srv/x", "").file("cut/.wh.new", "").file("cut/newer", "");
    compare(&[base(), second.clone()]);
    compare(&[base(), second, third]);
}

#[test]
fn whiteouts_of_nothing_are_not_listed() {
    if !is_root() {
        return;
    }
    // Folders that no other layer has, or that are cut off: overlayfs does not merge them.
    let mut second = Tar::new();
    second.folder("new").file("new/.wh.x", "").file("opaque/.wh..wh..opq", "").file("opaque/.wh.old", "");
    second.file("implied/.wh.x", "");
    let found = merged(&[base(), second.clone()]);
    assert!(found.values().all(|node| node.kind != 'c'));
    compare(&[base(), second]);
}

#[test]
fn hard_links_into_lower_layers_bring_the_file_up() {
    if !is_root() {
        return;
    }
    let mut second = Tar::new();
    second.hard("etc/copy", "etc/passwd").hard("other/copy", "etc/passwd").hard("through", "lib/libc");
    second.hard("symbolic", "lib").folder("other").hard("changed", "file").file("file", "new content");
    compare(&[base(), second.clone()]);
    let found = merged(&[base(), second]);
    assert_eq!(found[Path::new("etc/copy")].names.len(), 3, "they are names of one file");
    let folder = tempfile::tempdir().unwrap();
    for (target, reason) in [("etc", "folders"), ("etc/nothing", "neither"), ("file/x", "neither")] {
        let (below, own) = (folder.path().join("below"), folder.path().join("own"));
        for folder in [&below, &own] {
            remove(folder);
            std::fs::create_dir(folder).unwrap();
        }
        let mut tar = Tar::new();
        tar.hard("x", target);
        let options = UnpackOptions::default();
        unpack(&*base().end(), &below, &options).unwrap();
        let unpacked = unpack(&*tar.end(), &own, &options).unwrap();
        let error = settle(&own, &unpacked, &[below], &options).unwrap_err().to_string();
        assert!(error.contains(reason), "{target}: {error}");
    }
}

/// Random layers of names whose kinds do not clash in ways that GNU tar refuses.
fn random_layer(random: &mut SmallRng, seen_links: &mut BTreeSet<String>) -> Tar {
    let mut tar = Tar::new();
    let folder = |random: &mut SmallRng| {
        let names = ["d1", "d2", "d1/e1", "d1/e2", "d2/e1", "d3", "d3/e1/g1", "l1", "l2"];
        names.choose(random).unwrap().to_string()
    };
    // What `l2` leads to stays: GNU tar makes nothing behind a link that leads nowhere.
    let safe = |folder: String| if folder == "d2" { "d3".to_owned() } else { folder };
    for number in 0..random.random_range(1..14) {
        let (mode, time) = (random.random_range(0..0o10000) | 0o700, random.random_range(1..2_000_000_000));
        // Which one of `l1/f` and `d1/f` of one layer wins is not what GNU tar says, see `merge`.
        let inside = |random: &mut SmallRng, kind: &str| {
            let folder = folder(random);
            let through = if folder.starts_with('l') && kind != ".wh.f" { "-through-link" } else { "" };
            format!("{folder}/{kind}{}{through}", random.random_range(0..3))
        };
        match random.random_range(0..10) {
            0..4 => {
                let data = format!("{number}{time}");
                let owner = random.random_range(0..3);
                let block = Block::new(b'0', inside(random, "f")).mode(mode).mtime(time).owner(owner, owner);
                tar.add(block.size(data.len() as u64), data.as_bytes());
            }
            // Without set-group-id: GNU tar lets folders that it has to invent inherit it.
            4..6 => {
                _ = tar.add(Block::new(b'5', folder(random).replace('l', "d")).mode(mode & 0o5777).owner(1, 2), &[])
            }
            6 => _ = tar.link(inside(random, "s"), "../nowhere"),
            7 if seen_links.is_empty() => {
                seen_links.extend(["l1".to_owned(), "l2".to_owned()]);
                tar.folder("d1").folder("d2").folder("d2/e1").link("l1", "d1").link("l2", "d2/e1");
            }
            7 => _ = tar.file(format!("{}/.wh..wh..opq", safe(folder(random).replace('l', "d"))), ""),
            8 => _ = tar.file(inside(random, ".wh.f"), ""),
            _ => _ = tar.file(format!("{}/.wh.e1", safe(folder(random))), ""),
        }
    }
    tar
}

#[test]
fn random_layers_merge_as_if_unpacked_one_on_top_of_the_other() {
    if !is_root() {
        return;
    }
    let rounds = std::env::var("COVE_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(30);
    let first = std::env::var("COVE_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    for seed in first..first + rounds {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut links = BTreeSet::new();
        // Links are in the first layer or nowhere, so that no name is a folder here and a link there.
        let mut bottom = Tar::new();
        bottom.folder("d1").folder("d2").folder("d2/e1").link("l1", "d1").link("l2", "d2/e1");
        links.insert("l1".to_owned());
        let mut layers = vec![bottom];
        layers.extend((0..random.random_range(1..4)).map(|_| random_layer(&mut random, &mut links)));
        if let Some(folder) = std::env::var_os("COVE_TEST_KEEP") {
            for (number, layer) in layers.iter().enumerate() {
                std::fs::write(Path::new(&folder).join(format!("{number}.tar")), layer.end()).unwrap();
            }
        }
        let result = std::panic::catch_unwind(|| compare(&layers));
        assert!(result.is_ok(), "seed {seed}");
    }
}

#[test]
fn links_whose_target_has_another_name_now_share_one_file() {
    if !is_root() {
        return;
    }
    let mut second = Tar::new();
    second.hard("one", "etc/passwd").hard("srv/two", "etc/passwd").hard("three", "etc/passwd");
    second.file("etc/passwd", "another file");
    compare(&[base(), second.clone()]);
    let found = merged(&[base(), second]);
    assert_eq!(found[Path::new("one")].content, b"root");
    assert_eq!(found[Path::new("one")].names, ["one", "srv/two", "three"].map(PathBuf::from));
}

#[test]
fn what_moves_into_an_opaque_folder_takes_nothing_from_below() {
    if !is_root() {
        return;
    }
    let mut below = Tar::new();
    below.folder("usr").folder("usr/lib").folder("usr/lib/x").link("lib", "usr/lib");
    below.add(Block::new(b'5', "usr/lib/x/y").mode(0o2711).owner(3, 4), &[]).link("usr/lib/x/z", "/usr");
    let mut second = Tar::new();
    second.folder("usr/lib/x").file("usr/lib/x/.wh..wh..opq", "").file("lib/x/y/new", "").file("lib/x/z/new", "");
    let found = merged(&[below, second]);
    assert_eq!((found[Path::new("usr/lib/x/y")].mode, found[Path::new("usr/lib/x/y")].owner), (0o755, (0, 0)));
    assert_eq!(found[Path::new("usr/lib/x/z")].kind, 'd', "the link below is hidden");
    assert!(found.contains_key(Path::new("usr/lib/x/z/new")) && !found.contains_key(Path::new("usr/new")));
}

#[test]
fn an_opaque_root_hides_links_below_it() {
    if !is_root() {
        return;
    }
    let (mut second, mut third) = (Tar::new(), Tar::new());
    second.file(".wh..wh..opq", "").file("lib/x", "");
    third.file("lib/y", "").file("lib64/z", "");
    let found = merged(&[base(), second, third]);
    assert_eq!(found[Path::new("lib")].kind, 'd');
    assert!(found.contains_key(Path::new("lib/x")) && found.contains_key(Path::new("lib/y")));
    assert!(found.contains_key(Path::new("lib64/z")), "it does not lead to usr/lib, which is not there");
}
