//! Archives that readers understand differently, or not at all: each is refused, for the right reason.

use cove_engine::tar::{Archive, Entry, TarError, TarLimits};

use crate::builder::{Block, Tar, pax};

const LIMITS: TarLimits = TarLimits { header_bytes: 1 << 20, bytes: 1 << 30 };

fn names(bytes: &[u8]) -> Result<Vec<String>, TarError> {
    let (mut archive, mut entry) = (Archive::new(bytes, LIMITS), Entry::default());
    let mut names = Vec::new();
    while archive.next(&mut entry)? {
        names.push(String::from_utf8_lossy(&entry.path).into_owned());
    }
    assert_eq!(archive.position(), bytes.len() as u64);
    Ok(names)
}

type Build = fn(&mut Tar) -> &mut Tar;

#[test]
fn ambiguous_archives_are_refused() {
    let sparse = "sparse";
    let cases: &[(&str, Build)] = &[
        // TARmageddon: the size in the header says 0, the PAX record hides an archive inside the file.
        ("disagree about the size", |tar| {
            let hidden = Tar::new().file("hidden", "").end();
            tar.pax(&[("size", hidden.len().to_string().as_bytes())]).add(Block::new(b'0', "x"), &hidden)
        }),
        ("disagree about the size", |tar| tar.pax(&[("size", b"0")]).file("x", [0; 512])),
        ("disagree about the size", |tar| {
            tar.pax(&[("size", b"512")]).add(Block::new(b'S', "x").gnu().size(512).field(483, b"512 "), &[0; 512])
        }),
        ("only files have data", |tar| tar.add(Block::new(b'5', "x").size(512), &[0; 512])),
        ("only files have data", |tar| tar.add(Block::new(b'2', "x").link("y").size(512), &[])),
        ("only files have data", |tar| tar.pax(&[("size", b"512")]).add(Block::new(b'5', "x"), &[])),
        ("only files have data", |tar| tar.pax(&[("size", b"512")]).add(Block::new(b'1', "x").link("y"), &[])),
        ("only files have data", |tar| tar.add(Block::new(0, "folder/").size(1), b"x")),
        ("disagree about a name", |tar| tar.extension(b'L', b"a\0").pax(&[("path", b"b")]).file("c", "")),
        ("disagree about a name", |tar| tar.extension(b'K', b"a\0").pax(&[("linkpath", b"b")]).link("c", "d")),
        ("not followed", |tar| tar.pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("c", "")),
        ("not followed", |tar| tar.extension(b'L', b"a\0").extension(b'L', b"b\0").file("c", "")),
        ("not followed", |tar| tar.pax(&[("path", b"a")]).extension(b'g', b"").file("c", "")),
        ("not followed", |tar| tar.file("c", "").pax(&[("path", b"a")])),
        ("not followed", |tar| tar.extension(b'K', b"a")),
        ("global PAX header sets `path`", |tar| tar.extension(b'g', &pax(&[("path", b"x")])).file("c", "")),
        ("global PAX header sets `size`", |tar| tar.extension(b'g', &pax(&[("size", b"0")])).file("c", "")),
        ("NUL", |tar| tar.extension(b'L', b"a\0b\0").file("c", "")),
        ("NUL", |tar| tar.pax(&[("path", b"a\0b")]).file("c", "")),
        ("NUL", |tar| tar.pax(&[("linkpath", b"a\0")]).link("c", "d")),
        ("NUL", |tar| tar.pax(&[("SCHILY.xattr.user.x", b"1"), ("SCHILY.xattr.", b"1")]).file("c", "")),
        ("not end in NUL", |tar| tar.add(Block::new(b'L', "x").size(4), b"name-goes-on\0").file("c", "")),
        ("not end in NUL", |tar| tar.extension(b'L', &[b'n'; 512]).file("c", "")),
        ("no name", |tar| tar.file("", "")),
        ("no name", |tar| tar.extension(b'L', b"\0").file("c", "")),
        ("`path` is malformed", |tar| tar.pax(&[("path", b"")]).file("c", "")),
        ("`size` is malformed", |tar| tar.pax(&[("size", b"")]).file("c", "")),
        ("`size` is malformed", |tar| tar.pax(&[("size", b"-1")]).file("c", "")),
        ("`size` is malformed", |tar| tar.pax(&[("size", b"+0")]).file("c", "")),
        ("`size` is malformed", |tar| tar.pax(&[("size", b"99999999999999999999")]).file("c", "")),
        ("`size` is malformed", |tar| tar.pax(&[("size", b"18446744073709551615")]).file("c", "").raw(b"")),
        ("`uid` is malformed", |tar| tar.pax(&[("uid", b"4294967295")]).file("c", "")),
        ("`uid` is malformed", |tar| tar.pax(&[("uid", b"4294967296")]).file("c", "")),
        ("`mtime` is malformed", |tar| tar.pax(&[("mtime", b"now")]).file("c", "")),
        ("SCHILY.realsize", |tar| tar.pax(&[("SCHILY.realsize", b"9")]).file("c", "")),
        ("record is malformed", |tar| tar.extension(b'x', b"9 path=a\n\0\0").file("c", "")),
        ("record is malformed", |tar| tar.extension(b'x', b"8 path=a\n").file("c", "")),
        ("record is malformed", |tar| tar.extension(b'x', b"99 path=a\n").file("c", "")),
        ("record is malformed", |tar| tar.extension(b'x', b"10  path=a\n").file("c", "")),
        ("record is malformed", |tar| tar.extension(b'x', b"-9 path=a\n").file("c", "")),
        ("record is malformed", |tar| tar.extension(b'x', b"7 path\n").file("c", "")),
        ("record is malformed", |tar| tar.extension(b'x', b"5 =a\n").file("c", "")),
        ("record is malformed", |tar| tar.extension(b'x', b"3 \n").file("c", "")),
        ("without a target", |tar| tar.link("c", "")),
        ("without a target", |tar| tar.hard("c", "")),
        ("ends in a slash", |tar| tar.file("c/", "")),
        ("type `Z` are unknown", |tar| tar.add(Block::new(b'Z', "c"), &[])),
        ("type `D` are unknown", |tar| tar.add(Block::new(b'D', "c"), &[])),
        ("type `M` are unknown", |tar| tar.add(Block::new(b'M', "c"), &[])),
        ("type `V` are unknown", |tar| tar.add(Block::new(b'V', "c"), &[])),
        ("type `S` are unknown", |tar| tar.add(Block::new(b'S', "c"), &[])),
        ("field `size`", |tar| tar.add(Block::new(b'0', "c").gnu().field(124, &[0xff; 12]), &[])),
        ("field `size`", |tar| tar.add(Block::new(b'0', "c").field(124, b"            "), &[])),
        ("field `size`", |tar| tar.add(Block::new(b'0', "c").field(124, b"\x8000000000001"), &[])),
        ("field `size`", |tar| tar.add(Block::new(b'0', "c").field(124, b"0000000000x\0"), &[])),
        ("field `uid`", |tar| tar.add(Block::new(b'0', "c").field(108, b"\xff\xff\xff\xff\xff\xff\xff\xfe"), &[])),
        ("field `uid`", |tar| tar.add(Block::new(b'0', "c").field(108, b"\x80\0\0\0\xff\xff\xff\xff"), &[])),
        ("field `devmajor`", |tar| tar.add(Block::new(b'3', "c").device(0o10000, 0), &[])),
        ("field `devminor`", |tar| tar.add(Block::new(b'3', "c").device(1, 0o4_000_000), &[])),
        ("prefix field is ambiguous", |tar| tar.add(Block::new(b'0', "c").gnu().field(345, b"a/prefix"), &[])),
        ("prefix field is ambiguous", |tar| {
            tar.add(Block::new(b'0', "c").field(345, &[b'p'; 155]).field(508, b"tar\0"), &[])
        }),
        (sparse, |tar| tar.pax(&[("GNU.sparse.name", b"y")]).file("x", "")),
        (sparse, |tar| {
            tar.pax(&[("GNU.sparse.numblocks", b"1"), ("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"1")]);
            tar.add(Block::new(b'0', "x").gnu().size(1), b"x")
        }),
        (sparse, |tar| {
            tar.pax(&[("GNU.sparse.numblocks", b"1"), ("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"0")])
                .file("x", "x")
        }),
        (sparse, |tar| {
            tar.pax(&[("GNU.sparse.numblocks", b"1"), ("GNU.sparse.map", b"0,2"), ("GNU.sparse.size", b"9")])
                .file("x", "x")
        }),
        (sparse, |tar| {
            tar.pax(&[("GNU.sparse.numblocks", b"1"), ("GNU.sparse.map", b"0,0"), ("GNU.sparse.size", b"9")])
                .file("x", "x")
        }),
        (sparse, |tar| {
            tar.pax(&[("GNU.sparse.numblocks", b"2"), ("GNU.sparse.map", b"4,1,0,1"), ("GNU.sparse.size", b"9")])
                .file("x", "xy")
        }),
        (sparse, |tar| {
            tar.pax(&[("GNU.sparse.numblocks", b"2"), ("GNU.sparse.map", b"0,2,1,1"), ("GNU.sparse.size", b"9")])
                .file("x", "xyz")
        }),
        (sparse, |tar| {
            tar.pax(&[("GNU.sparse.numblocks", b"2"), ("GNU.sparse.map", b"0,1,4,1"), ("GNU.sparse.size", b"9")])
                .file("x", "xy")
        }),
        (sparse, |tar| {
            tar.pax(&[("GNU.sparse.numblocks", b"1"), ("GNU.sparse.map", b"0"), ("GNU.sparse.size", b"9")])
                .file("x", "")
        }),
        (sparse, |tar| {
            tar.pax(&[
                ("GNU.sparse.numblocks", b"1"),
                ("GNU.sparse.map", b"18446744073709551615,1"),
                ("GNU.sparse.size", b"9"),
            ])
            .file("x", "x")
        }),
        (sparse, |tar| tar.pax(&[("GNU.sparse.numblocks", b"1"), ("GNU.sparse.map", b"0,1")]).file("x", "x")),
        (sparse, |tar| tar.pax(&[("GNU.sparse.offset", b"0"), ("GNU.sparse.size", b"9")]).file("x", "x")),
        (sparse, |tar| tar.pax(&[("GNU.sparse.major", b"2"), ("GNU.sparse.minor", b"0")]).file("x", "x")),
        (sparse, |tar| {
            tar.pax(&[("GNU.sparse.numblocks", b"2"), ("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"1")])
                .file("x", "x")
        }),
        (sparse, |tar| {
            tar.pax(&[("GNU.sparse.numblocks", b"1"), ("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"1")])
                .add(Block::new(b'2', "x").link("y"), &[])
        }),
        (sparse, |tar| {
            tar.pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"9")])
                .file("x", "1\n0\n9\n")
        }),
        (sparse, |tar| {
            tar.pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"9")])
                .file("x", [b'1'; 512])
        }),
        (sparse, |tar| {
            tar.pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.size", b"9")])
                .file("x", [0; 512])
        }),
        (sparse, |tar| tar.add(Block::new(b'S', "x").gnu().field(386, b"0\0\0\0\0\0\0\0\0\0\0\0"), &[])),
        (sparse, |tar| tar.add(Block::new(b'S', "x").gnu().field(482, b"\x01"), &[])),
    ];
    for (number, (reason, build)) in cases.iter().enumerate() {
        let mut tar = Tar::new();
        let error = names(&build(&mut tar).end()).expect_err(&format!("case {number}, {reason}")).to_string();
        assert!(error.contains(reason), "case {number}, {reason}: {error}");
    }
}

#[test]
fn sizes_too_large_for_octal_digits_come_from_pax_records() {
    // The file is not there, so the archive is cut off; but it is this size that is waited for.
    let mut tar = Tar::new();
    tar.pax(&[("size", b"8589934592")]).add(Block::new(b'0', "x"), &[]);
    assert!(matches!(names(&tar.end()), Err(TarError::Truncated { .. })));
}

#[test]
fn checksums_and_ends_are_checked() {
    let good = Tar::new().file("a", "abc").file("b", [7; 600]).end();
    assert_eq!(names(&good).unwrap(), ["a", "b"]);
    for at in 0..512 {
        let mut bad = good.clone();
        bad[at] ^= 1;
        // Some writers end the checksum in other ways; the number itself must be right.
        assert!(names(&bad).is_err() || (154..156).contains(&at), "byte {at}");
    }
    for length in 0..good.len() {
        let result = names(&good[..length]);
        // Between entries, in the padding of a file, and from the first block of the end marker on.
        let may_end =
            [0, 1024, 2560].contains(&length) || (515..1024).contains(&length) || (2136..2560).contains(&length);
        let may_end = may_end || length == 3072;
        assert_eq!(result.is_ok(), may_end, "{length}: {result:?}");
    }
    let mut lone = Tar::new();
    lone.file("a", "").raw(&[0; 512]).file("b", "");
    assert!(names(&lone.end()).unwrap_err().to_string().contains("block of zeros"));
    // Nothing after the end is read as an entry.
    let mut two = good.clone();
    two.extend_from_slice(&Tar::new().file("c", "").end());
    assert_eq!(names(&two).unwrap(), ["a", "b"]);
}
