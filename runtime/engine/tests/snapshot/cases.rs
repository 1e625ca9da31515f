//! Single cases, each for what it says.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use cove_engine::tar::{Archive, Entry, EntryKind, TarLimits};
use cove_engine::{SnapshotError, SnapshotOptions, diff, write_layer};
use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, makedev, mknodat};

use crate::listing::is_root;
use crate::mounted::Container;

/// The entries of an archive.
pub fn entries(tar: &[u8]) -> Vec<Entry> {
    let mut archive = Archive::new(tar, TarLimits { header_bytes: 1 << 20, bytes: 1 << 40 });
    let (mut entry, mut entries) = (Entry::default(), Vec::new());
    while archive.next(&mut entry).unwrap() {
        entries.push(entry.clone());
    }
    entries
}

/// Their names.
pub fn names(tar: &[u8]) -> Vec<String> {
    entries(tar).iter().map(|entry| entry.path.escape_ascii().to_string()).collect()
}

/// A small image.
fn container() -> Container {
    Container::new(|root| {
        for folder in ["d1/sub/deep", "d2", "d3/x", "empty", "etc"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for file in ["d1/a", "d1/b", "d1/sub/s", "d1/sub/deep/z", "d2/c", "d3/x/f", "file", "etc/passwd"] {
            fs::write(root.join(file), file).unwrap();
        }
        fs::hard_link(root.join("file"), root.join("hard")).unwrap();
        symlink("d1", root.join("link")).unwrap();
    })
}

/// What is told after some work, and the names of the layer.
fn told(work: impl FnOnce(&Path)) -> (Vec<String>, Vec<String>) {
    let mut container = container();
    work(container.root());
    container.unmount();
    let changes = container.diff();
    let told = changes.iter().map(|change| format!("{} {}", change.kind.letter(), change.path.display())).collect();
    (told, names(&container.layer()))
}

fn remove(path: &Path) {
    fs::remove_dir_all(path).unwrap();
}

#[track_caller]
fn assert_told(work: impl FnOnce(&Path), changes: &[&str], layer: &[&str]) {
    let (found, names) = told(work);
    assert_eq!(found, changes);
    assert_eq!(names, layer);
}

/// The answers of docker 20.10 to the same work, names of a folder sorted.
#[test]
fn docker_says_the_same() {
    if !is_root() {
        return;
    }
    assert_told(|_| {}, &[], &[]);
    assert_told(|root| fs::write(root.join("d1/new"), "").unwrap(), &["C /d1", "A /d1/new"], &["d1/", "d1/new"]);
    assert_told(|root| fs::write(root.join("d1/a"), "x").unwrap(), &["C /d1", "C /d1/a"], &["d1/", "d1/a"]);
    assert_told(
        |root| fs::write(root.join("d1/sub/deep/z"), "x").unwrap(),
        &["C /d1", "C /d1/sub", "C /d1/sub/deep", "C /d1/sub/deep/z"],
        &["d1/", "d1/sub/", "d1/sub/deep/", "d1/sub/deep/z"],
    );
    assert_told(
        |root| {
            remove(&root.join("d1/sub"));
            fs::create_dir(root.join("d1/sub")).unwrap();
        },
        &["C /d1", "C /d1/sub", "D /d1/sub/deep", "D /d1/sub/s"],
        &["d1/", "d1/sub/", "d1/sub/.wh..wh..opq"],
    );
    assert_told(
        |root| {
            remove(&root.join("d1"));
            fs::create_dir_all(root.join("d1/sub/n")).unwrap();
            fs::write(root.join("d1/sub/s"), "q").unwrap();
        },
        &["C /d1", "D /d1/a", "D /d1/b", "C /d1/sub", "D /d1/sub/deep", "A /d1/sub/n", "C /d1/sub/s"],
        &["d1/", "d1/.wh..wh..opq", "d1/sub/", "d1/sub/n/", "d1/sub/s"],
    );
    assert_told(
        |root| {
            remove(&root.join("d1"));
            fs::write(root.join("d1"), "f").unwrap();
        },
        &["C /d1"],
        &["d1"],
    );
    assert_told(
        |root| {
            fs::remove_file(root.join("file")).unwrap();
            fs::create_dir(root.join("file")).unwrap();
            fs::write(root.join("file/1"), "1").unwrap();
        },
        &["C /file", "A /file/1"],
        &["file/", "file/1"],
    );
    assert_told(|root| fs::remove_file(root.join("d1/a")).unwrap(), &["C /d1", "D /d1/a"], &["d1/", "d1/.wh.a"]);
    // A file that came and went leaves a folder's time, which docker's layer has too.
    assert_told(
        |root| {
            fs::write(root.join("d1/t"), "").unwrap();
            fs::remove_file(root.join("d1/t")).unwrap();
        },
        &[],
        &["d1/"],
    );
    assert_told(
        |root| {
            fs::create_dir_all(root.join("n/m")).unwrap();
            fs::write(root.join("n/1"), "1").unwrap();
        },
        &["A /n", "A /n/1", "A /n/m"],
        &["n/", "n/1", "n/m/"],
    );
    assert_told(
        |root| fs::set_permissions(root.join("d1/sub"), fs::Permissions::from_mode(0o700)).unwrap(),
        &["C /d1", "C /d1/sub"],
        &["d1/", "d1/sub/"],
    );
    assert_told(|root| fs::write(root.join("hard"), "h").unwrap(), &["C /hard"], &["hard"]);
    assert_told(
        |root| {
            for name in ["d1-b", "d1/c", "d1.c"] {
                fs::write(root.join(name), "").unwrap();
            }
        },
        &["C /d1", "A /d1/c", "A /d1-b", "A /d1.c"],
        &["d1/", "d1/c", "d1-b", "d1.c"],
    );
    assert_told(
        |root| {
            fs::remove_file(root.join("etc/passwd")).unwrap();
            remove(&root.join("empty"));
        },
        &["D /empty", "C /etc", "D /etc/passwd"],
        &[".wh.empty", "etc/", "etc/.wh.passwd"],
    );
    // Docker does not tell of the root; its layer has none.
    assert_told(|root| fs::set_permissions(root, fs::Permissions::from_mode(0o700)).unwrap(), &[], &["./"]);
}

#[test]
fn what_was_only_copied_up_is_left_out() {
    if !is_root() {
        return;
    }
    let touch = |path: &Path| {
        let mode = path.metadata().unwrap().permissions();
        fs::set_permissions(path, mode).unwrap();
    };
    assert_told(|root| touch(&root.join("d1/a")), &[], &[]);
    // It is no longer the same file as `file`.
    assert_told(|root| touch(&root.join("hard")), &[], &["hard"]);
    // The same size at the same time, but not the same.
    assert_told(
        |root| {
            let file = root.join("d1/a");
            let found = file.metadata().unwrap();
            fs::OpenOptions::new().write(true).open(&file).unwrap().write_all_at(b"X", 0).unwrap();
            let time = Timespec { tv_sec: found.mtime(), tv_nsec: found.mtime_nsec() };
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(CWD, &file, &times, rustix::fs::AtFlags::empty()).unwrap();
        },
        &[],
        &["d1/", "d1/a"],
    );
    assert_told(
        |root| lsetxattr(root.join("d1/a"), "user.mark", b"1", XattrFlags::empty()).unwrap(),
        &[],
        &["d1/", "d1/a"],
    );
}

/// An archive may have cut them off, docker thinks.
#[test]
fn nanoseconds_count_only_where_both_times_have_some() {
    if !is_root() {
        return;
    }
    let set = |path: &Path, tv_nsec| {
        let time = Timespec { tv_sec: 1_000_000_000, tv_nsec };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::empty()).unwrap();
    };
    let mut container = Container::new(|root| {
        for (name, nanoseconds) in [("none", 0), ("some", 1)] {
            fs::write(root.join(name), "").unwrap();
            set(&root.join(name), nanoseconds);
        }
    });
    for name in ["none", "some"] {
        set(&container.root().join(name), 2);
    }
    container.unmount();
    let changes: Vec<_> = container.diff().into_iter().map(|change| change.path).collect();
    assert_eq!(changes, [Path::new("/some")]);
    assert_eq!(names(&container.layer()), ["none", "some"]);
}

#[test]
fn what_the_runtime_made_is_left_out_while_it_is_empty() {
    if !is_root() {
        return;
    }
    let mut container = container();
    let root = container.root();
    for folder in ["data/volume", "more/volume", "d2/volume", "empty/volume"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("etc/hosts"), "").unwrap();
    fs::write(root.join("etc/hostname"), "written to").unwrap();
    fs::write(root.join("more/other"), "").unwrap();
    fs::write(root.join("d2/volume/file"), "").unwrap();
    container.unmount();
    let made = ["/data/volume/", "//more//volume", "/d2/volume", "/empty/volume", "/etc/hosts", "/etc/hostname", "/d1"];
    let options = SnapshotOptions { made: made.iter().map(Into::into).collect(), ..SnapshotOptions::default() };
    let changes = diff(&container.upper, &container.lowers, &options).unwrap();
    let told: Vec<_> =
        changes.iter().map(|change| format!("{} {}", change.kind.letter(), change.path.display())).collect();
    assert_eq!(
        told,
        ["C /d2", "A /d2/volume", "A /d2/volume/file", "C /etc", "A /etc/hostname", "A /more", "A /more/other"]
    );
    let mut layer = Vec::new();
    write_layer(&container.upper, &container.lowers, &options, &mut layer).unwrap();
    // The time of a folder in which something was made has changed.
    assert_eq!(
        names(&layer),
        ["d2/", "d2/volume/", "d2/volume/file", "empty/", "etc/", "etc/hostname", "more/", "more/other"]
    );
}

#[test]
fn names_that_mark_what_is_removed_are_refused() {
    if !is_root() {
        return;
    }
    for name in [".wh.x", "d1/.wh..wh..opq", "new/.wh.d"] {
        let mut container = container();
        let path = container.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        container.unmount();
        let error =
            write_layer(&container.upper, &container.lowers, &container.options(), std::io::sink()).unwrap_err();
        assert!(
            matches!(&error, SnapshotError::ReservedName { path } if *path == Path::new("/").join(name)),
            "{error}"
        );
        assert!(container.diff().iter().any(|change| change.path.ends_with(name)), "docker tells of it");
    }
}

#[test]
fn a_socket_leaves_nothing_and_not_what_it_replaced() {
    if !is_root() {
        return;
    }
    let socket = |path: &Path| mknodat(CWD, path, FileType::Socket, Mode::from_raw_mode(0o600), 0).unwrap();
    let (changes, layer) = told(|root| socket(&root.join("d1/socket")));
    assert_eq!((changes, layer), (vec!["C /d1".to_owned(), "A /d1/socket".to_owned()], vec!["d1/".to_owned()]));
    let (_, layer) = told(|root| {
        fs::remove_file(root.join("d1/a")).unwrap();
        socket(&root.join("d1/a"));
    });
    assert_eq!(layer, ["d1/", "d1/.wh.a"]);
}

#[test]
fn links_devices_and_attributes_are_what_they_are() {
    if !is_root() {
        return;
    }
    let mut container = container();
    let root = container.root();
    fs::write(root.join("n"), "n").unwrap();
    fs::hard_link(root.join("n"), root.join("z")).unwrap();
    fs::hard_link(root.join("d1/a"), root.join("a2")).unwrap();
    mknodat(CWD, root.join("dev"), FileType::CharacterDevice, Mode::from_raw_mode(0o600), makedev(10, 200)).unwrap();
    for name in ["user.a", "trusted.b"] {
        lsetxattr(root.join("n"), name, b"v", XattrFlags::empty()).unwrap();
    }
    let escaped = lsetxattr(root.join("n"), "trusted.overlay.c", b"v", XattrFlags::empty()).is_ok();
    container.unmount();
    let entries = entries(&container.layer());
    let found = |name: &str| entries.iter().find(|entry| entry.path == name.as_bytes()).unwrap();
    assert_eq!(
        (found("n").kind, found("z").kind, found("z").link.as_slice()),
        (EntryKind::File, EntryKind::HardLink, &b"n"[..])
    );
    assert_eq!((found("a2").kind, found("d1/a").link.as_slice()), (EntryKind::File, &b"a2"[..]));
    assert_eq!((found("dev").kind, found("dev").device), (EntryKind::CharacterDevice, (10, 200)));
    let xattrs: Vec<_> =
        found("n").xattrs.iter().map(|xattr| String::from_utf8_lossy(&xattr.name).into_owned()).collect();
    let expected = ["trusted.b", "trusted.overlay.c", "user.a"];
    assert_eq!(xattrs, if escaped { &expected[..] } else { &["trusted.b", "user.a"] });
    for entry in &entries {
        assert!(entry.xattrs.iter().all(|xattr| !xattr.name.starts_with(b"trusted.overlay.o")), "{entry:?}");
    }
}

/// A container's log of a terabyte without content.
#[test]
fn a_file_of_holes_costs_what_it_has() {
    if !is_root() {
        return;
    }
    let mut container = container();
    let file = fs::File::create(container.root().join("holes")).unwrap();
    file.set_len(1 << 40).unwrap();
    file.write_all_at(b"in the middle", 1 << 39).unwrap();
    drop(file);
    fs::File::create(container.root().join("small")).unwrap().set_len(1 << 19).unwrap();
    container.unmount();
    let layer = container.layer();
    assert!(layer.len() < 1 << 20, "{} bytes", layer.len());
    let entries = entries(&layer);
    assert_eq!(entries.iter().map(|entry| entry.size).collect::<Vec<_>>(), [1 << 40, 1 << 19]);
    // GNU tar reads it too.
    let place = tempfile::tempdir().unwrap();
    crate::listing::gnu_tar(&layer, place.path(), &[]);
    let found = fs::File::open(place.path().join("holes")).unwrap();
    let (mut text, found_size) = (vec![0; 13], found.metadata().unwrap());
    found.read_exact_at(&mut text, 1 << 39).unwrap();
    assert_eq!((text.as_slice(), found_size.len()), (&b"in the middle"[..], 1 << 40));
    assert!(found_size.blocks() < 1000);
}

/// The same file, copied up and not changed, is compared without reading its holes.
#[test]
fn a_copied_up_file_of_holes_is_not_read() {
    if !is_root() {
        return;
    }
    let mut container = Container::new(|root| {
        let file = fs::File::create(root.join("holes")).unwrap();
        file.set_len(1 << 40).unwrap();
        file.write_all_at(b"in the middle", 1 << 39).unwrap();
    });
    let file = container.root().join("holes");
    fs::set_permissions(&file, file.metadata().unwrap().permissions()).unwrap();
    container.unmount();
    assert!(container.upper.join("holes").exists());
    assert!(names(&container.layer()).is_empty());
}

/// Other programs agree about names, links and times.
#[test]
fn gnu_tar_reads_a_layer_as_we_do() {
    if !is_root() {
        return;
    }
    let mut container = Container::new(|_| {});
    let root = container.root();
    let long = "l".repeat(200);
    fs::create_dir_all(root.join(&long).join(&long)).unwrap();
    fs::write(root.join(&long).join(&long).join("file"), "deep").unwrap();
    symlink(format!("{long}/{long}/{long}"), root.join("link")).unwrap();
    fs::hard_link(root.join(&long).join(&long).join("file"), root.join("z-hard")).unwrap();
    let mut file = fs::File::create(root.join("old")).unwrap();
    file.write_all(b"old").unwrap();
    let time = Timespec { tv_sec: -1000, tv_nsec: 500_000_000 };
    rustix::fs::futimens(&file, &Timestamps { last_access: time, last_modification: time }).unwrap();
    std::os::unix::fs::chown(root.join("old"), Some(3_000_000_000), Some(2_097_152)).unwrap();
    let mut seen = crate::listing::list(root);
    container.unmount();
    let place = tempfile::tempdir().unwrap();
    crate::listing::gnu_tar(&container.layer(), place.path(), &[]);
    let mut found = crate::listing::list(place.path());
    for listing in [&mut found, &mut seen] {
        listing.remove(Path::new(""));
    }
    crate::listing::assert_same(&found, &seen);
}
