//! Archives that were damaged at random, with checksums mended: none makes us panic or leave the folder, and those that
//! we accept are the same to GNU tar and, where it is installed, to Go's archive/tar, which docker reads layers with.
//!
//! `COVE_TEST_ROUNDS` and `COVE_TEST_SEED` choose how many and which.

use std::path::Path;
use std::process::{Command, Stdio};

use cove_engine::tar::{Archive, Entry, EntryKind, TarLimits};
use cove_engine::unpack::{UnpackLimits, UnpackOptions, unpack};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::builder::{Block, Tar};

const LIMITS: TarLimits = TarLimits { header_bytes: 1 << 20, bytes: 1 << 24 };

/// Archives to begin with: every extension that there is.
fn seeds() -> Vec<Vec<u8>> {
    let mut plain = Tar::new();
    plain.folder("a/").file("a/b", "one").file("a/c", [2; 700]).link("l", "a/b").hard("h", "a/b").file("a/.wh.x", "");
    plain.add(Block::new(b'3', "null").device(1, 3), &[]).add(Block::new(b'6', "pipe"), &[]).file("d/.wh..wh..opq", "");
    plain.add(Block::new(b'0', "name").field(345, b"prefix"), &[]).add(Block::new(0, "v7/").field(257, &[0; 8]), &[]);
    let mut pax = Tar::new();
    pax.extension(b'g', &crate::builder::pax(&[("comment", b"x")]));
    pax.pax(&[("path", b"long/path"), ("size", b"5"), ("uid", b"70000"), ("gid", b"1"), ("mtime", b"-1.5")])
        .file("x", "12345");
    pax.pax(&[("linkpath", b"target"), ("atime", b"3.25"), ("SCHILY.xattr.user.x", b"1")])
        .link("y", "z")
        .file("end", "e");
    let mut gnu = Tar::new();
    gnu.extension(b'L', &[&[b'n'; 130][..], b"\0"].concat()).extension(b'K', b"long/target\0").link("x", "y");
    gnu.add(Block::new(b'0', "b256").gnu().field(124, b"\x80\0\0\0\0\0\0\0\0\0\0\x03"), b"abc").file("end", "e");
    let sparse = Block::new(b'S', "old-sparse").gnu().size(515).field(386, b"00000000002\x0000000001000\x00");
    let sparse = sparse.field(410, b"00000002000\x0000000000003\x00").field(483, b"00000002020\0");
    gnu.add(sparse, &[b'x'; 515]).file("end", "e");
    let mut holes = Tar::new();
    let version =
        |major: &'static [u8], minor: &'static [u8]| [("GNU.sparse.major", major), ("GNU.sparse.minor", minor)];
    let more: &[(&str, &[u8])] = &[("GNU.sparse.name", b"s"), ("GNU.sparse.realsize", b"2000")];
    holes.pax(&[&version(b"1", b"0"), more].concat());
    let mut data = b"2\n1\n512\n1000\n2\n".to_vec();
    data.resize(512, 0);
    holes.file("GNUSparseFile.0/s", [&data[..], &[b'a'; 514]].concat());
    let more: &[(&str, &[u8])] = &[
        ("GNU.sparse.name", b"t"),
        ("GNU.sparse.size", b"2000"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.map", b"1,512,1000,2"),
    ];
    holes.pax(&[&version(b"0", b"1"), more].concat()).file("GNUSparseFile.0/t", [b't'; 514]);
    let more: &[(&str, &[u8])] =
        &[("GNU.sparse.size", b"4"), ("GNU.sparse.numblocks", b"1"), ("GNU.sparse.offset", b"1")];
    holes.pax(&[more, &[("GNU.sparse.numbytes", b"2")]].concat()).file("u", "ab").file("end", "e");
    [plain, pax, gnu, holes].iter().map(Tar::end).collect()
}

fn mutate(bytes: &mut Vec<u8>, random: &mut SmallRng) {
    let blocks = bytes.len() / 512;
    if blocks == 0 {
        return;
    }
    let block = random.random_range(0..blocks) * 512;
    match random.random_range(0..10) {
        0..5 => {
            let fields =
                [0, 1, 99, 100, 108, 116, 124, 125, 130, 134, 135, 136, 156, 157, 256, 257, 262, 263, 329, 337, 345];
            let more = [357, 386, 398, 410, 482, 483, 494, 500, 508, 2, 8, 12, 20, 30, 40];
            let at = block + *[&fields[..], &more].concat().choose(random).unwrap();
            let interesting = b"\0\0 0123457789/.-+\n=,\x7f\x80\xff1xgLKS25";
            for offset in 0..random.random_range(1..4) {
                bytes[(at + offset).min(block + 511)] = *interesting.choose(random).unwrap();
            }
            mend(&mut bytes[block..block + 512]);
        }
        5 => {
            let at = block + random.random_range(0..512);
            bytes[at] = random.random();
            mend(&mut bytes[block..block + 512]);
        }
        6 => {
            let copy = bytes[block..block + 512].to_vec();
            let to = random.random_range(0..=blocks) * 512;
            bytes.splice(to..to, copy);
        }
        7 => drop(bytes.drain(block..block + 512)),
        8 => bytes.truncate(random.random_range(0..bytes.len())),
        _ => {
            // A digit of some text: lengths and numbers of records.
            let digits: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()).collect();
            if let Some(at) = digits.choose(random) {
                bytes[*at] = b'0' + random.random_range(0..10_u8);
                let block = at / 512 * 512;
                let end = (block + 512).min(bytes.len());
                mend(&mut bytes[block..end]);
            }
        }
    }
}

/// Sets the checksum where there seems to be one.
fn mend(block: &mut [u8]) {
    if block.len() == 512 && block[154] == 0 && block[155] == b' ' {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// What an archive holds: name, and for files the content.
struct Read {
    names: Vec<Vec<u8>>,
    content: Vec<u8>,
    ends_in_hole: bool,
    lines: String,
}

fn read(bytes: &[u8]) -> Option<Read> {
    let (mut archive, mut entry) = (Archive::new(bytes, LIMITS), Entry::default());
    let mut read = Read { names: Vec::new(), content: Vec::new(), ends_in_hole: false, lines: String::new() };
    while archive.next(&mut entry).ok()? {
        assert!(!entry.path.is_empty() && !entry.path.contains(&0) && !entry.link.contains(&0));
        assert!(entry.mode <= 0o7777 && entry.uid != u32::MAX && entry.gid != u32::MAX);
        let start = read.content.len();
        // Nobody wants to see terabytes of holes.
        let is_huge = entry.size > 1 << 20;
        while let Some((offset, piece)) = archive.data().ok()? {
            let end = offset.checked_add(piece.len() as u64).unwrap();
            assert!(end <= entry.size);
            if !is_huge {
                read.content.resize(start + end as usize, 0);
                read.content[start + offset as usize..].copy_from_slice(piece);
            }
        }
        if is_huge {
            return None;
        }
        read.ends_in_hole |= read.content.len() < start + entry.size as usize;
        read.content.resize(start + entry.size as usize, 0);
        let kind = match entry.kind {
            EntryKind::File => '0',
            EntryKind::HardLink => '1',
            EntryKind::SymbolicLink => '2',
            EntryKind::CharacterDevice => '3',
            EntryKind::BlockDevice => '4',
            EntryKind::Folder => '5',
            EntryKind::Fifo => '6',
        };
        let (device, time) = (entry.device, entry.modified);
        let device = if matches!(kind, '3' | '4') { device } else { (0, 0) };
        read.lines += &format!(
            "{kind} {} {} {} {:o} {} {} {}.{:09} {}:{} {} {}\n",
            hex(&entry.path),
            hex(&entry.link),
            entry.size,
            entry.mode,
            entry.uid,
            entry.gid,
            time.seconds,
            time.nanoseconds,
            device.0,
            device.1,
            entry.xattrs.len(),
            hex(&read.content[start..]),
        );
        read.names.push(entry.path.clone());
    }
    Some(read)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "."
}

fn gnu(arguments: &[&str], bytes: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new("tar")
        .args(arguments)
        .args(["-P", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || drop(std::io::Write::write_all(&mut input, &bytes)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.status.success().then_some(output.stdout)
}

fn unescape(listing: &[u8]) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = listing.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    names.pop();
    names
}

/// Prints of each archive in a folder what Go reads, in the form of [`Read::lines`].
const GO: &str = r#"package main
import ("archive/tar";"encoding/hex";"fmt";"io";"os";"path/filepath";"strings")
func read(path string) string {
	f, _ := os.Open(path); defer f.Close(); r := tar.NewReader(f); out := ""
	for {
		h, err := r.Next()
		if err == io.EOF { return out }
		if err != nil { return "error " + err.Error() + "\n" }
		if h.Typeflag == tar.TypeXGlobalHeader { continue }
		t := h.Typeflag
		if t == '7' || t == 'S' || t == 0 { t = '0' }
		size := h.Size
		if t != '0' { size = 0 }
		data, err := io.ReadAll(r)
		if err != nil { return "error " + err.Error() + "\n" }
		link := h.Linkname
		if t != '1' && t != '2' { link = "" }
		maj, min := h.Devmajor, h.Devminor
		if t != '3' && t != '4' { maj, min = 0, 0 }
		x := 0
		for k := range h.PAXRecords { if strings.HasPrefix(k, "SCHILY.xattr.") { x++ } }
		out += fmt.Sprintf("%c %s. %s. %d %o %d %d %d.%09d %d:%d %d %s.\n", t, hex.EncodeToString([]byte(h.Name)), hex.EncodeToString([]byte(link)), size, h.Mode&07777, h.Uid, h.Gid, h.ModTime.Unix(), h.ModTime.Nanosecond(), maj, min, x, hex.EncodeToString(data))
	}
}
func main() {
	paths, _ := filepath.Glob(filepath.Join(os.Args[1], "*.tar"))
	for _, p := range paths { os.WriteFile(p+".go", []byte(read(p)), 0644) }
}
"#;

#[test]
fn damaged_archives_are_refused_or_read_as_others_read_them() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let (rounds, first) = (number("COVE_TEST_ROUNDS").unwrap_or(3000), number("COVE_TEST_SEED").unwrap_or(0));
    let place = tempfile::tempdir().unwrap();
    let (accepted, canary) = (place.path().join("accepted"), place.path().join("canary"));
    std::fs::create_dir(&accepted).unwrap();
    std::fs::write(&canary, "alive").unwrap();
    let seeds = seeds();
    if let Some(folder) = std::env::var_os("COVE_TEST_KEEP") {
        seeds
            .iter()
            .enumerate()
            .for_each(|(n, seed)| std::fs::write(Path::new(&folder).join(format!("seed-{n}.tar")), seed).unwrap());
    }
    let mut kept = Vec::new();
    for seed in first..first + rounds {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut bytes = seeds.choose(&mut random).unwrap().clone();
        for _ in 0..random.random_range(1..4) {
            mutate(&mut bytes, &mut random);
        }
        let read = read(&bytes);
        if seed % 4 == 0 {
            // Into a folder beside the canary.
            let folder = place.path().join("folder");
            std::fs::create_dir(&folder).unwrap();
            let limits = UnpackLimits { bytes: 1 << 24, ..UnpackLimits::default() };
            let result = unpack(&*bytes, &folder, &UnpackOptions { limits, ..UnpackOptions::default() });
            assert!(read.is_some() || result.is_err() || bytes.len() > 1 << 20 || huge(&bytes), "seed {seed}");
            std::fs::remove_dir_all(&folder).unwrap();
            assert_eq!(std::fs::read(&canary).unwrap(), b"alive");
            assert_eq!(place.path().read_dir().unwrap().count(), 2, "seed {seed}");
        }
        let Some(read) = read else { continue };
        if let Some(folder) = std::env::var_os("COVE_TEST_KEEP") {
            std::fs::write(Path::new(&folder).join(format!("{seed}.tar")), &bytes).unwrap();
        }
        // GNU tar refuses nothing at all, which docker takes for an empty layer.
        if seed % 8 == 0 && !bytes.is_empty() {
            // Of the last file's padding nothing is missed by docker and by us, but by GNU tar.
            bytes.resize(bytes.len().next_multiple_of(512), 0);
            let listing = gnu(&["-t", "--quoting-style=literal"], &bytes);
            // Names with newlines cannot be told apart in a listing.
            if !read.names.iter().any(|name| name.contains(&b'\n')) {
                assert_eq!(listing.map(|listing| unescape(&listing)), Some(read.names.clone()), "seed {seed}, names");
            }
            let content = gnu(&["-xO"], &bytes);
            assert!(content.is_some(), "seed {seed}, which GNU tar refuses");
            // A pipe cannot be made longer, so such holes are missing in it.
            assert!(read.ends_in_hole || content == Some(read.content.clone()), "seed {seed}, content");
        }
        std::fs::write(accepted.join(format!("{seed}.tar")), &bytes).unwrap();
        kept.push((seed, read.lines));
    }
    assert!(kept.len() > rounds as usize / 20, "only {} accepted", kept.len());
    compare_with_go(place.path(), &accepted, &kept);
}

fn huge(bytes: &[u8]) -> bool {
    let (mut archive, mut entry) = (Archive::new(bytes, LIMITS), Entry::default());
    while archive.next(&mut entry).unwrap_or(false) {
        if entry.size > 1 << 20 {
            return true;
        }
    }
    false
}

fn compare_with_go(place: &Path, accepted: &Path, kept: &[(u64, String)]) {
    let program = place.join("main.go");
    std::fs::write(&program, GO).unwrap();
    let run = Command::new("go").arg("run").arg(&program).arg(accepted).env("GO111MODULE", "off").output();
    if !run.is_ok_and(|output| output.status.success()) {
        eprintln!("not compared with Go's archive/tar: go is not here");
        return;
    }
    let mut differences = Vec::new();
    for (seed, ours) in kept {
        let theirs = std::fs::read_to_string(accepted.join(format!("{seed}.tar.go"))).unwrap();
        if *ours != theirs {
            let short = |lines: &str| {
                lines.lines().map(|line| line.chars().take(200).collect::<String>() + "\n").collect::<String>()
            };
            differences.push(format!("seed {seed}\n ours\n{} Go\n{}", short(ours), short(&theirs)));
        }
    }
    let some = differences.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
    assert!(differences.is_empty(), "{} of {} differ:\n{some}", differences.len(), kept.len());
}
