//! Layers that want too much: refused soon, with little memory. Work is counted, not timed.

use std::io::Read;

use cove_engine::unpack::{UnpackLimits, UnpackOptions, unpack};

use crate::builder::{Block, Tar, pax};
use crate::listing::is_root;

fn refusal(tar: impl Read, limits: UnpackLimits) -> String {
    let folder = tempfile::tempdir().unwrap();
    unpack(tar, folder.path(), &UnpackOptions { limits, ..UnpackOptions::default() }).unwrap_err().to_string()
}

/// Repeats an archive's entries for ever, with a number in each name.
struct Endless {
    make: fn(u64) -> Tar,
    number: u64,
    bytes: Vec<u8>,
    start: usize,
}

fn endless(make: fn(u64) -> Tar) -> Endless {
    Endless { make, number: 0, bytes: Vec::new(), start: 0 }
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.start == self.bytes.len() {
            self.number += 1;
            self.bytes = (self.make)(self.number).0;
            self.start = 0;
        }
        let count = buffer.len().min(self.bytes.len() - self.start);
        buffer[..count].copy_from_slice(&self.bytes[self.start..self.start + count]);
        self.start += count;
        Ok(count)
    }
}

#[test]
fn endless_layers_are_refused() {
    let limits = UnpackLimits { entries: 500, ..UnpackLimits::default() };
    let files = |number| Tar::new().file(format!("{number}"), "").clone();
    assert!(refusal(endless(files), limits).contains("more entries than 500"));
    let limits = UnpackLimits { bytes: 1 << 20, ..UnpackLimits::default() };
    assert!(refusal(endless(files), limits).contains("more than 1048576 bytes"));
    // Zeros after the end.
    assert!(refusal(std::io::repeat(0), limits).contains("more than 1048576 bytes"));
    let limits = UnpackLimits { tree_bytes: 1 << 16, ..UnpackLimits::default() };
    for make in [
        (|number| Tar::new().folder(format!("{number}")).clone()) as fn(u64) -> Tar,
        |number| Tar::new().link(format!("{number}"), "x".repeat(99)).clone(),
        |number| Tar::new().hard(format!("{number}"), "below").clone(),
        |number| Tar::new().file(format!("{number}/{number}/{number}/x"), "").clone(),
        |number| Tar::new().file(format!("{number}"), "").file(format!(".wh.{number}"), "").clone(),
    ] {
        assert!(refusal(endless(make), limits).contains("bytes in names of folders and links"));
    }
    // What is replaced is not kept.
    let folder = tempfile::tempdir().unwrap();
    let tar = (0..3000).fold(Tar::new(), |mut tar, number| {
        tar.link("same", number.to_string()).folder("same").file("same/x/y", "").file("same", "");
        tar
    });
    unpack(&*tar.end(), folder.path(), &UnpackOptions { limits, ..UnpackOptions::default() }).unwrap();
}

#[test]
fn deep_and_long_paths_are_refused() {
    let limits = UnpackLimits::default();
    let mut deep = Tar::new();
    deep.pax(&[("path", "a/".repeat(1026).as_bytes())]).folder("x");
    assert!(refusal(&*deep.end(), limits).contains("deeper folders than 1024"));
    let mut long = Tar::new();
    long.pax(&[("path", "abcdefgh/".repeat(500).as_bytes())]).folder("x");
    assert!(refusal(&*long.end(), limits).contains("4095"));
    // Each entry is short, but the links lead further and further.
    let mut climbing = Tar::new();
    climbing.folder("0");
    for number in 1..60 {
        let name = "n".repeat(90);
        climbing.folder(format!("{}/{name}", number - 1)).link(format!("{number}"), format!("{}/{name}", number - 1));
    }
    let error = refusal(&*climbing.end(), limits);
    assert!(error.contains("4095") || error.contains("too many links"), "{error}");
    let mut name = Tar::new();
    name.pax(&[("path", &[b'n'; 300])]).file("x", "");
    assert!(refusal(&*name.end(), limits).contains("cannot make the file"));
    // The deepest that is allowed can be made, and removed again.
    let folder = tempfile::tempdir().unwrap();
    let mut deepest = Tar::new();
    deepest.pax(&[("path", "a/".repeat(1024).as_bytes())]).folder("x").file("a", "");
    unpack(&*deepest.end(), folder.path(), &UnpackOptions::default()).unwrap();
    assert!(folder.path().join("a").is_file());
}

#[test]
fn large_headers_are_refused_before_they_are_read() {
    let limits = UnpackLimits { pax_bytes: 4096, ..UnpackLimits::default() };
    for flag in *b"xgLK" {
        let header = Tar::new().add(Block::new(flag, "x").size(0o77_777_777_777), &[]).clone();
        let error = refusal(header.0.chain(std::io::repeat(b'a')), limits);
        assert!(error.contains("larger than 4096 bytes"), "{error}");
    }
    let attribute = vec![b'a'; 5000];
    let mut tar = Tar::new();
    tar.pax(&[("SCHILY.xattr.user.x", &attribute)]).file("x", "");
    assert!(refusal(&*tar.end(), limits).contains("larger than 4096 bytes"));
    // Sparse maps, which come in pieces.
    let mut leading = Tar::new();
    leading.pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"9999999")]);
    let lines = (0..3000).map(|number| format!("{}\n1\n", number * 2)).collect::<String>();
    leading.file("x", format!("3000\n{lines}"));
    assert!(refusal(&*leading.end(), limits).contains("larger than 4096 bytes"));
    let mut old = Tar::new();
    let pairs = |from: u64, count: u64| {
        (from..from + count).map(|number| format!("{:011o}\0{:011o}\0", number * 2, 1)).collect::<String>().into_bytes()
    };
    let header = Block::new(b'S', "x").gnu().size(512).field(386, &pairs(0, 4)).field(482, b"\x01");
    old.add(header.field(483, b"77777777777\0"), &[]);
    for number in 0..20 {
        let mut block = pairs(4 + number * 21, 21);
        block.push(1);
        old.raw(&block);
    }
    assert!(refusal(&*old.end(), limits).contains("larger than 4096 bytes"));
    // Many attributes of one name or of many are not compared with each other one by one.
    let records: Vec<_> = (0..20_000).map(|number| format!("SCHILY.xattr.user.{number}")).collect();
    let records: Vec<_> = records.iter().map(|key| (key.as_str(), &b""[..])).collect();
    assert!(pax(&records).len() < 1 << 20);
    let mut many = Tar::new();
    many.pax(&records).file("x", "");
    // The file system has no room for that many.
    assert!(refusal(&*many.end(), UnpackLimits::default()).contains("extended attribute"));
}

/// How many system calls of these kinds unpacking takes, told by strace; `None` without strace.
fn calls(tar: &Tar) -> Option<u64> {
    const RUN: &str = "COVE_TEST_UNPACK_ARCHIVE";
    let place = tempfile::tempdir().unwrap();
    let (archive, folder, log) = (place.path().join("tar"), place.path().join("folder"), place.path().join("log"));
    std::fs::write(&archive, tar.end()).unwrap();
    std::fs::create_dir(&folder).unwrap();
    let status = std::process::Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=file,desc", "-o"])
        .arg(&log)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "bombs::unpacks_what_it_is_told_to", "--nocapture"])
        .env(RUN, format!("{}:{}", archive.display(), folder.display()))
        .output();
    status.ok()?.status.success().then(|| std::fs::read_to_string(log).unwrap().lines().count() as u64)
}

/// The other half of [`calls`]: nothing to do when it runs as a test.
#[test]
fn unpacks_what_it_is_told_to() {
    if let Ok(told) = std::env::var("COVE_TEST_UNPACK_ARCHIVE") {
        let (archive, folder) = told.split_once(':').unwrap();
        let archive = std::fs::File::open(archive).unwrap();
        unpack(archive, folder.as_ref(), &UnpackOptions::default()).unwrap();
    }
}

#[test]
fn work_grows_with_the_entries_and_not_faster() {
    if !is_root() {
        return;
    }
    let shapes: [fn(usize) -> Tar; 4] = [
        // containerd's CVE-2026-95838: each opaque whiteout looked at everything that was there.
        |count| {
            let mut tar = Tar::new();
            for number in 0..count {
                tar.file(format!("d/{number}"), "").file("d/.wh..wh..opq", "").file(format!("d/.wh.{number}"), "");
            }
            tar
        },
        |count| {
            let mut tar = Tar::new();
            for number in 0..count {
                tar.folder(format!("d{number}"))
                    .file(format!(".wh.d{number}"), "")
                    .file("same/x/y/z", "")
                    .file("same", "");
            }
            tar
        },
        |count| (0..count).fold(Tar::new(), |mut tar, number| tar.file(format!("d{}/f", number % 40), "").clone()),
        |count| {
            (0..count)
                .fold(Tar::new(), |mut tar, number| tar.hard(format!("h{number}"), "below").file(".wh.x", "").clone())
        },
    ];
    for (number, shape) in shapes.iter().enumerate() {
        let (Some(none), Some(once), Some(twice)) = (calls(&shape(0)), calls(&shape(100)), calls(&shape(200))) else {
            eprintln!("skipped: strace is not here");
            return;
        };
        let (once, twice) = (once - none, twice - none);
        assert!(twice <= once * 23 / 10, "shape {number}: {once} calls, then {twice}");
    }
}

#[test]
fn default_acls_are_bounded_and_counted() {
    let acl = |tar: &mut Tar, path: &str, size: usize| {
        tar.pax(&[("SCHILY.xattr.system.posix_acl_default", &vec![2; size])]).folder(path);
    };
    let mut large = Tar::new();
    acl(&mut large, "a", (1 << 16) + 1);
    assert!(refusal(&*large.end(), UnpackLimits::default()).contains("more than 64 KiB"));
    let limits = UnpackLimits { tree_bytes: 1 << 18, ..UnpackLimits::default() };
    let mut many = Tar::new();
    for number in 0..8 {
        acl(&mut many, &format!("{number}"), 60_000);
    }
    assert!(refusal(&*many.end(), limits).contains("bytes in names of folders and links"));
    // What is replaced or gone does not count, nor does it make room for more than it took.
    let mut again = Tar::new();
    for number in 0..200 {
        acl(&mut again, "same", 60_000 - number);
        again.file("same", "");
    }
    let folder = tempfile::tempdir().unwrap();
    unpack(&*again.end(), folder.path(), &UnpackOptions { limits, ..UnpackOptions::default() }).unwrap();
    for number in 0..8 {
        acl(&mut again, &format!("{number}"), 60_000);
    }
    assert!(refusal(&*again.end(), limits).contains("bytes in names of folders and links"));
}

#[test]
fn links_are_not_followed_without_end() {
    // Each name leads through forty links of four thousand bytes, and no two after each other have the same parent.
    let mut tar = Tar::new();
    let name = "n".repeat(200);
    let around = format!("{name}/../").repeat(19);
    tar.pax(&[("path", name.as_bytes())]).folder("x").folder("other");
    for number in 0..40 {
        let target = if number == 39 { format!("{around}.") } else { format!("{around}l{}", number + 1) };
        tar.pax(&[("linkpath", target.as_bytes())]).link(format!("l{number}"), "x");
    }
    let make = |number: u64| Tar::new().file(format!("l0/{number}"), "").file("other/x", "").clone();
    let limits = UnpackLimits { entries: 30_000, ..UnpackLimits::default() };
    let error = refusal(std::io::Cursor::new(tar.0).chain(endless(make)), limits);
    assert!(error.contains("lead through links too often"), "{error}");
}

/// The other half of [`settling_links_does_not_look_at_every_folder_again`].
#[test]
fn settles_what_it_is_told_to() {
    let Ok(told) = std::env::var("COVE_TEST_SETTLE_ARCHIVES") else { return };
    let place = std::path::Path::new(&told);
    let options = UnpackOptions::default();
    let mut below: Vec<std::path::PathBuf> = Vec::new();
    for name in ["below", "own"] {
        let folder = place.join(name);
        std::fs::create_dir(&folder).unwrap();
        let archive = std::fs::File::open(place.join(format!("{name}.tar"))).unwrap();
        let unpacked = unpack(archive, &folder, &options).unwrap();
        cove_engine::unpack::settle(&folder, &unpacked, &below, &options).unwrap();
        below.insert(0, folder);
    }
}

#[test]
fn settling_links_does_not_look_at_every_folder_again() {
    let calls = |links: usize| {
        let place = tempfile::tempdir().unwrap();
        let (mut below, mut own) = (Tar::new(), Tar::new());
        let deep = "f/".repeat(40);
        for number in 0..links {
            let path = format!("{deep}{number}");
            below.file(path.as_str(), "");
            own.hard(format!("links/{number}"), path);
        }
        std::fs::write(place.path().join("below.tar"), below.end()).unwrap();
        std::fs::write(place.path().join("own.tar"), own.end()).unwrap();
        let log = place.path().join("log");
        let traced = std::process::Command::new("strace")
            .args(["-f", "-qq", "-e", "trace=openat2", "-o"])
            .arg(&log)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "bombs::settles_what_it_is_told_to", "--nocapture"])
            .env("COVE_TEST_SETTLE_ARCHIVES", place.path())
            .output();
        traced.ok()?.status.success().then(|| std::fs::read_to_string(log).unwrap().lines().count())
    };
    let (Some(some), Some(more)) = (calls(10), calls(110)) else {
        eprintln!("skipped: strace is not here");
        return;
    };
    assert!(more < some + 100, "{some} folders opened for 10 links, {more} for 110");
}
