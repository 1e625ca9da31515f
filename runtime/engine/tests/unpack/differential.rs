//! The same archives unpacked by GNU tar and by Cove: the trees must be the same to the last attribute.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use cove_engine::unpack::{UnpackOptions, unpack};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, makedev, mknodat, utimensat};

use crate::builder::{Block, Tar};
use crate::listing::{assert_same, gnu_tar, is_root, list};

fn compare(archive: &[u8]) {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    unpack(archive, ours.path(), &UnpackOptions::default()).unwrap();
    gnu_tar(archive, theirs.path(), &[]);
    let (mut found, mut expected) = (list(ours.path()), list(theirs.path()));
    // Nothing says when a root that is not in the archive was changed.
    found.remove(Path::new(""));
    expected.remove(Path::new(""));
    assert_same(&found, &expected);
}

/// Whatever a file system can hold.
fn nasty_tree(root: &Path, with_xattrs: bool) {
    let long = "long-name-".repeat(12);
    for folder in ["bin", "deep/er", "tmp", "empty", "read-only"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::create_dir(root.join(&long)).unwrap();
    for (number, path) in [
        "bin/su".to_owned(),
        "deep/er/file".to_owned(),
        format!("{long}/{long}"),
        "read-only/x".to_owned(),
        "with space\tand\nnewline".to_owned(),
        "back\\slash".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let path = root.join(path);
        std::fs::write(&path, vec![b'x'; number * 700]).unwrap();
        chown(&path, Some(1000 + number as u32), Some(2_000_000)).unwrap();
    }
    std::fs::write(root.join(OsStr::from_bytes(b"not-utf8-\xff\xfe")), "bytes").unwrap();
    std::fs::hard_link(root.join("bin/su"), root.join("deep/su")).unwrap();
    std::fs::hard_link(root.join("bin/su"), root.join(&long).join("su")).unwrap();
    symlink("/absolute/nowhere", root.join("absolute")).unwrap();
    symlink(&long, root.join("to-long")).unwrap();
    symlink(format!("{long}/{long}"), root.join("to-longer")).unwrap();
    std::fs::hard_link(root.join("absolute"), root.join("deep/absolute")).unwrap();
    let file = std::fs::File::create(root.join("sparse")).unwrap();
    file.set_len(10 << 20).unwrap();
    for at in (0..120_u64).map(|n| n * 65536 + 4096) {
        file.write_all_at(&[b's'; 4096], at).unwrap();
    }
    std::fs::File::create(root.join("hole")).unwrap().set_len(1 << 20).unwrap();
    let large = std::fs::File::create(root.join("large")).unwrap();
    large.write_all_at(&(0..3_000_000_u32).map(|n| (n * 7 / 3) as u8).collect::<Vec<_>>(), 0).unwrap();
    mknodat(CWD, root.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 3)).unwrap();
    mknodat(CWD, root.join("disk"), FileType::BlockDevice, Mode::from_raw_mode(0o660), makedev(259, 70_000)).unwrap();
    mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let chmod = |path: &str, mode| rustix::fs::chmod(root.join(path), Mode::from_raw_mode(mode)).unwrap();
    for (path, mode) in
        [("bin/su", 0o6755), ("tmp", 0o1777), ("read-only", 0o555), ("empty", 0), ("large", 0o002), ("deep", 0o2775)]
    {
        chmod(path, mode);
    }
    if with_xattrs {
        let set = |path: &str, name: &str, value: &[u8]| {
            rustix::fs::lsetxattr(root.join(path), name, value, XattrFlags::empty()).unwrap();
        };
        // cap_net_raw=ep, version 2.
        set("large", "security.capability", &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        set("bin/su", "user.nul\u{e9}", b"\0a\n=b\0");
        set("deep", "user.folder", b"");
        set("absolute", "trusted.on-a-link", b"1");
        set("pipe", "trusted.on-a-pipe", b"2");
    }
}

fn set_times(root: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let mut paths: Vec<_> = list(root).into_keys().collect();
    paths.reverse();
    for path in paths {
        let times = Timestamps { last_access: time, last_modification: time };
        let full = if path.as_os_str().is_empty() { root.to_path_buf() } else { root.join(path) };
        utimensat(CWD, full, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

fn packed(root: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("tar").arg("-c").args(arguments).arg("-C").arg(root).arg(".").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn every_format_of_gnu_tar_is_read_as_gnu_tar_reads_it() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    nasty_tree(root.path(), true);
    for (seconds, nanoseconds) in [(1_350_244_992, 23_960_108), (-86_401, 500_000_000), (10_000_000_000, 1)] {
        set_times(root.path(), seconds, nanoseconds);
        for arguments in [
            &["--format=gnu"][..],
            &["--format=gnu", "--sparse"],
            &["--format=oldgnu", "--sparse"],
            &["--format=pax", "--xattrs", "--xattrs-include=*"],
            &["--format=pax", "--sparse", "--sparse-version=0.0"],
            &["--format=pax", "--sparse", "--sparse-version=0.1"],
            &["--format=pax", "--sparse", "--sparse-version=1.0", "--xattrs", "--xattrs-include=*"],
            &["--format=gnu", "--incremental"],
        ] {
            if arguments.contains(&"--incremental") {
                // Folders with data: no container engine reads them.
                let folder = tempfile::tempdir().unwrap();
                let archive = packed(root.path(), arguments);
                assert!(unpack(&*archive, folder.path(), &UnpackOptions::default()).is_err());
                continue;
            }
            compare(&packed(root.path(), arguments));
        }
    }
}

#[test]
fn old_formats_are_read_as_gnu_tar_reads_them() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("a/b")).unwrap();
    std::fs::write(root.path().join("a/b/file"), "content").unwrap();
    std::fs::hard_link(root.path().join("a/b/file"), root.path().join("a/link")).unwrap();
    symlink("b/file", root.path().join("a/symbolic")).unwrap();
    let prefix = format!("{}/{}", "p".repeat(90), "q".repeat(40));
    set_times(root.path(), 1_000_000_000, 0);
    compare(&packed(root.path(), &["--format=v7"]));
    std::fs::create_dir_all(root.path().join(&prefix)).unwrap();
    std::fs::write(root.path().join(&prefix).join("file"), "behind a prefix").unwrap();
    set_times(root.path(), 1_000_000_000, 0);
    compare(&packed(root.path(), &["--format=ustar"]));
}

#[test]
fn handmade_entries_are_read_as_gnu_tar_reads_them() {
    if !is_root() {
        return;
    }
    let mut tar = Tar::new();
    tar.extension(b'g', &crate::builder::pax(&[("comment", b"as git writes it")]));
    tar.folder("./").file("/absolute", "a").file("./././dotted//twice", "b");
    tar.add(Block::new(0, "v7-folder/").field(257, &[0; 8]), &[]).add(Block::new(0, "v7-folder/x").size(1), b"x");
    tar.add(Block::new(b'7', "contiguous").size(3), b"abc");
    tar.add(Block::new(b'0', "b256").gnu().field(124, b"\x80\0\0\0\0\0\0\0\0\0\0\x02"), b"hi");
    tar.add(Block::new(b'0', "before-1970").gnu().field(136, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00"), b"");
    tar.extension(b'L', &[&[b'n'; 150][..], b"\0"].concat()).extension(b'K', b"a/long/target\0").link("short", "t");
    tar.extension(b'L', b"hard-name\0").extension(b'K', b"./b256\0").hard("h", "x");
    tar.pax(&[("path", b"caf\xc3\xa9/\xff"), ("size", b"3"), ("uid", b"3000000"), ("mtime", b"-1.25")])
        .file("x", "abc");
    tar.pax(&[("linkpath", &[b'l'; 300]), ("hdrcharset", b"BINARY"), ("path", b"pax-link")]).link("y", "z");
    tar.pax(&[("SCHILY.xattr.user.a", b"1"), ("SCHILY.xattr.user.a", b"2")]).file("doubled", "");
    tar.add(Block::new(b'1', "link-with-size").link("absolute").size(512), &[]);
    tar.add(Block::new(b'0', "no-owner").field(108, &[0; 16]).field(329, b"              \0 "), &[]);
    for folder in ["dotted", "caf\u{e9}", "dotted/"] {
        tar.folder(folder);
    }
    compare(&tar.end());
}

#[test]
fn attributes_of_libarchive_are_read_where_nothing_better_is_there() {
    if !is_root() {
        return;
    }
    let mut tar = Tar::new();
    tar.pax(&[
        ("LIBARCHIVE.xattr.user.a%20b", b"AAECAw"),
        ("LIBARCHIVE.xattr.user.both", b"AAAA"),
        ("SCHILY.xattr.user.both", b"better"),
    ]);
    tar.file("x", "");
    let (folder, result) = crate::layers::unpacked(&tar);
    result.unwrap();
    let xattrs = &list(folder.path())[Path::new("x")].xattrs;
    assert_eq!(xattrs[OsStr::new("user.a b")], [0, 1, 2, 3]);
    assert_eq!(xattrs[OsStr::new("user.both")], b"better");
}

#[test]
fn holes_stay_holes() {
    use std::os::unix::fs::MetadataExt;
    let mut tar = Tar::new();
    tar.pax(&[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"huge"),
        ("GNU.sparse.realsize", b"8796093022208"),
    ]);
    let map = b"2\n1099511627776\n3\n8796093022208\n0\n";
    let mut data = map.to_vec();
    data.resize(512, 0);
    data.extend_from_slice(b"end");
    tar.file("GNUSparseFile.1/huge", data);
    let (folder, result) = crate::layers::unpacked(&tar);
    result.unwrap();
    let file = std::fs::File::open(folder.path().join("huge")).unwrap();
    let metadata = file.metadata().unwrap();
    assert_eq!(metadata.len(), 8 << 40);
    assert!(metadata.blocks() < 64, "{} blocks", metadata.blocks());
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, 1 << 40).unwrap();
    assert_eq!(&bytes, b"end\0");
}
