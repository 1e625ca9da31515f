//! Random work in a tree, as a container does it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chownat, lremovexattr, lsetxattr,
    makedev, mknodat, utimensat,
};

const NAMES: [&[u8]; 12] =
    [b"a", b"b", b"c", b"d", b"e-", b"e", b"new\nline", b"\xff\xfe", b"\xc3\xa9", b" ", b".hidden", &[b'n'; 200]];
/// A valid list of one named user besides owner, group, others and mask.
const ACL: &[u8] = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xe8\x03\0\0\x04\0\x04\0\xff\xff\xff\xff\
    \x10\0\x06\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

const VALUES: [&[u8]; 3] = [b"", b"value", b"with\0zero\nand = all\xff"];

/// Every path in a tree but the root.
fn all(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    // Lists of folders have no order that is always the same.
    found.sort();
    found
}

fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_dir())
}

fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_file())
}

fn a_time(random: &mut SmallRng) -> Timespec {
    let tv_nsec = *[0, 1, 500_000_000, 999_999_999].choose(random).unwrap();
    // Often the same second: docker takes one without nanoseconds for the same time.
    let tv_sec = if random.random() { 1_000_000_000 } else { random.random_range(-1000..2_000_000_000) };
    Timespec { tv_sec, tv_nsec }
}

fn set_time(path: &Path, time: Timespec) {
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn remove(path: &Path) {
    if is_folder(path) { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
}

/// Does so many random things.
pub fn work(root: &Path, random: &mut SmallRng, steps: usize) {
    for _ in 0..steps {
        let paths = all(root);
        let folders: Vec<&Path> =
            std::iter::once(root).chain(paths.iter().map(PathBuf::as_path).filter(|path| is_folder(path))).collect();
        let depth = |path: &Path| path.strip_prefix(root).unwrap().components().count();
        let folder =
            folders.iter().filter(|path| depth(path) < 4).collect::<Vec<_>>().choose(random).unwrap().to_path_buf();
        let new = folder.join(OsStr::from_bytes(NAMES.choose(random).unwrap()));
        let old = paths.choose(random).cloned();
        step(root, random, &new, old.as_deref(), &paths);
    }
}

fn step(root: &Path, random: &mut SmallRng, new: &Path, old: Option<&Path>, paths: &[PathBuf]) {
    let is_free = new.symlink_metadata().is_err();
    let file = || old.filter(|path| is_file(path));
    match random.random_range(0..25) {
        0..4 if is_free || is_file(new) => {
            let size = *[0, 1, 511, 512, 513, 5000].choose(random).unwrap();
            fs::write(new, vec![b'x'; size]).unwrap();
        }
        4..8 if is_free => fs::create_dir(new).unwrap(),
        8 if is_free => symlink(["/etc", "..", "a/b", "nowhere"].choose(random).unwrap(), new).unwrap(),
        9 if is_free => {
            if let Some(old) = old.filter(|path| !is_folder(path)) {
                fs::hard_link(old, new).unwrap();
            }
        }
        10 if is_free => {
            let kind = *[FileType::Fifo, FileType::CharacterDevice, FileType::BlockDevice, FileType::Socket]
                .choose(random)
                .unwrap();
            let device = if matches!(kind, FileType::Fifo | FileType::Socket) {
                0
            } else {
                makedev(120, random.random_range(1..300))
            };
            mknodat(CWD, new, kind, Mode::from_raw_mode(0o640), device).unwrap();
        }
        11 | 12 => old.into_iter().for_each(remove),
        // A folder that hides the one below.
        13 | 14 => {
            if let Some(old) = old.filter(|path| is_folder(path)) {
                remove(old);
                fs::create_dir(old).unwrap();
                if random.random() {
                    fs::write(old.join("a"), "anew").unwrap();
                }
            }
        }
        // Something of another kind.
        15 => {
            if let Some(old) = old {
                let was_folder = is_folder(old);
                remove(old);
                if was_folder { fs::write(old, "file").unwrap() } else { fs::create_dir(old).unwrap() }
            }
        }
        16 => {
            // Folders of layers below cannot be renamed without redirections: then nothing happens.
            if let Some(old) = old
                && !new.starts_with(old)
            {
                let _ = fs::rename(old, new);
            }
        }
        17 => {
            if let Some(old) = old.filter(|path| !path.is_symlink()) {
                let mode = *[0o600, 0o755, 0o4755, 0o2755, 0o1777, 0o700].choose(random).unwrap();
                fs::set_permissions(old, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        18 => {
            if let Some(old) = old {
                let (uid, gid) = (random.random_range(0..3), random.random_range(0..3_000_000));
                chownat(CWD, old, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW)
                    .unwrap();
            }
        }
        // Copied up and nothing else.
        19 => {
            if let Some(old) = old.filter(|path| !path.is_symlink()) {
                let mode = old.symlink_metadata().unwrap().permissions();
                fs::set_permissions(old, mode).unwrap();
            }
        }
        20 => {
            let time = a_time(random);
            old.into_iter().chain(random.random_bool(0.1).then_some(root)).for_each(|path| set_time(path, time));
        }
        21 => {
            if let Some(old) = file() {
                let writing = fs::OpenOptions::new().write(true).open(old).unwrap();
                writing.write_all_at(b"appended", writing.metadata().unwrap().len()).unwrap();
            }
        }
        // Other content, nothing else.
        22 => {
            if let Some(old) = file() {
                let found = old.metadata().unwrap();
                let writing = fs::OpenOptions::new().write(true).open(old).unwrap();
                if found.len() > 0 {
                    writing.write_all_at(b"y", found.len() / 2).unwrap();
                }
                drop(writing);
                set_time(old, Timespec { tv_sec: found.mtime(), tv_nsec: found.mtime_nsec() });
            }
        }
        23 => attribute(random, old, root),
        24 => {
            if let Some(old) = file() {
                // A hole that is large enough to be stored as one, or too small for that.
                let length = *[10_000_u64, 3 << 20].choose(random).unwrap();
                let writing = fs::OpenOptions::new().write(true).open(old).unwrap();
                writing.write_all_at(b"far", length + random.random_range(0..3)).unwrap();
                if random.random() {
                    writing.set_len(length * 2).unwrap();
                }
            }
        }
        _ => {
            if let Some(first) = paths.first() {
                set_time(first, a_time(random));
            }
        }
    }
}

fn attribute(random: &mut SmallRng, old: Option<&Path>, root: &Path) {
    let old = if random.random_bool(0.05) { Some(root) } else { old };
    let Some(old) = old else { return };
    let value = VALUES.choose(random).unwrap();
    let names: &[&str] = match () {
        () if is_file(old) => &[
            "user.a",
            "user.b",
            "trusted.c",
            "trusted.overlay.opaque",
            "user.overlay.opaque",
            "security.capability",
            "system.posix_acl_access",
        ],
        () if is_folder(old) => &[
            "user.a",
            "trusted.c",
            "trusted.overlay.origin",
            "user.overlay.origin",
            "system.posix_acl_default",
            "system.posix_acl_access",
        ],
        () => &["trusted.c"],
    };
    let name = *names.choose(random).unwrap();
    let value = match name {
        "security.capability" => CAPABILITY,
        _ if name.starts_with("system") => ACL,
        _ => value,
    };
    if random.random_bool(0.3) {
        let _ = lremovexattr(old, name);
    } else {
        // Kernels before 6.7 do not let anybody set overlayfs's attributes.
        let _ = lsetxattr(old, name, value, XattrFlags::empty());
    }
}
