//! What must be true of any bytes whatever. A panic is a find.

use std::path::Path;

use cove_engine::tar::{Archive, Entry, TarLimits};
use cove_engine::unpack::{UnpackLimits, UnpackOptions, unpack};
use cove_oci::{Algorithm, Manifest, Reference, ReferenceDefaults};
use cove_remote::Challenge;

/// One kind of input, and what must be true of it.
pub type Target = (&'static str, fn(&[u8]));

/// All of them by name; their corpora are the folders of the same names.
pub const TARGETS: [Target; 5] = [
    ("reference", reference),
    ("manifest", manifest),
    ("challenge", challenge),
    ("tar", tar),
    ("whiteouts", whiteouts),
];

/// A reference that is read, written and read again is the same one.
pub fn reference(bytes: &[u8]) {
    let defaults = ReferenceDefaults::default();
    let Some(parsed) = std::str::from_utf8(bytes).ok().and_then(|text| Reference::parse(text, &defaults).ok()) else {
        return;
    };
    for text in [parsed.to_string(), parsed.familiar()] {
        assert_eq!(Reference::parse(&text, &defaults).as_ref(), Ok(&parsed), "{text}");
    }
}

/// A manifest keeps its bytes, and all that it names has a digest and a size.
pub fn manifest(bytes: &[u8]) {
    let Ok(manifest) = Manifest::parse(bytes.to_vec(), None) else { return };
    assert_eq!(manifest.bytes(), bytes);
    assert_eq!(manifest.digest(Algorithm::Sha256), manifest.descriptor().digest);
    let named = manifest.blobs().chain(manifest.children()).chain(manifest.subject());
    for descriptor in named {
        assert!(!descriptor.digest.hex().is_empty());
        descriptor.layer_codec();
    }
}

/// What comes of a header is no larger than the header.
pub fn challenge(bytes: &[u8]) {
    let Some(challenges) = std::str::from_utf8(bytes).ok().and_then(|text| Challenge::parse(text).ok()) else { return };
    let size = |challenge: &Challenge| {
        challenge.scheme.len()
            + challenge.parameters.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    };
    assert!(challenges.iter().map(size).sum::<usize>() <= bytes.len());
}

/// Entries are what their documentation says, and their data lies inside of them.
pub fn tar(bytes: &[u8]) {
    let mut archive = Archive::new(bytes, TarLimits { header_bytes: 1 << 16, bytes: 1 << 22 });
    let mut entry = Entry::default();
    while archive.next(&mut entry).unwrap_or(false) {
        assert!(!entry.path.is_empty() && !entry.path.contains(&0) && !entry.link.contains(&0));
        assert!(entry.mode <= 0o7777 && entry.uid != u32::MAX && entry.gid != u32::MAX);
        let mut end = 0;
        while let Ok(Some((offset, piece))) = archive.data() {
            assert!(offset >= end && !piece.is_empty());
            end = offset + piece.len() as u64;
            assert!(end <= entry.size);
        }
    }
    assert!(archive.position() <= bytes.len() as u64);
    // And nothing of it leaves its folder.
    beside_a_canary(bytes);
}

/// Lines are names of an archive's entries: `name`, `name/` a folder, `name>target` a link, `name=target` a hard link.
/// No name of a whiteout is in what comes of it.
pub fn whiteouts(bytes: &[u8]) {
    let mut archive = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n').take(60) {
        let at = line.iter().position(|byte| matches!(byte, b'>' | b'='));
        let (name, flag, target) = match at {
            Some(at) => (&line[..at], if line[at] == b'>' { b'2' } else { b'1' }, &line[at + 1..]),
            None if line.ends_with(b"/") => (line, b'5', &b""[..]),
            None => (line, b'0', &b""[..]),
        };
        if !name.is_empty() && name.len() <= 100 && target.len() <= 100 && !line.contains(&0) {
            archive.extend_from_slice(&header(name, flag, target));
        }
    }
    beside_a_canary(&archive);
}

fn header(name: &[u8], flag: u8, target: &[u8]) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name);
    for (at, field) in [(100, &b"0000755\0"[..]), (108, b"0000000\0"), (116, b"0000000\0"), (124, b"00000000000\0")] {
        block[at..at + field.len()].copy_from_slice(field);
    }
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = flag;
    block[157..157 + target.len()].copy_from_slice(target);
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn beside_a_canary(archive: &[u8]) {
    let Ok(place) = tempfile::tempdir() else { return };
    let (folder, canary) = (place.path().join("folder"), place.path().join("canary"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&canary, "alive").unwrap();
    let limits = UnpackLimits { bytes: 1 << 22, entries: 1000, ..UnpackLimits::default() };
    let result = unpack(archive, &folder, &UnpackOptions { limits, ..UnpackOptions::default() });
    assert_eq!(std::fs::read(&canary).unwrap(), b"alive");
    assert_eq!(place.path().read_dir().unwrap().count(), 2);
    if result.is_ok() {
        no_whiteout_names(&folder);
    }
}

fn no_whiteout_names(folder: &Path) {
    for entry in folder.read_dir().unwrap() {
        let entry = entry.unwrap();
        assert!(!entry.file_name().as_encoded_bytes().starts_with(b".wh."), "{:?}", entry.path());
        if entry.file_type().unwrap().is_dir() {
            no_whiteout_names(&entry.path());
        }
    }
}
