//! Decompression: streams in pieces, hints that lie, bombs.

use std::io::{self, Read, Write};

use cove_engine::decompress::{decompress, read_ahead};
use cove_engine::unpack::UnpackLimits;
use cove_oci::Codec;
use flate2::{Compression, GzBuilder};

fn read(codec: Codec, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    decompress(codec, bytes, &UnpackLimits::default())?.read_to_end(&mut out)?;
    Ok(out)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = GzBuilder::new().filename("name").comment("comment").write(Vec::new(), Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// A member as Cove writes it, with any size in its extra field.
fn member(bytes: &[u8], size: impl Fn(usize) -> usize) -> Vec<u8> {
    let make = |size: u32| {
        let extra = [&b"xx\x01\0?CV\x04\0"[..], &size.to_le_bytes()].concat();
        let mut writer = GzBuilder::new().extra(extra).write(Vec::new(), Compression::fast());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    };
    make(size(make(0).len()) as u32)
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 28) as u8
    };
    (0..length).map(next).collect()
}

/// Gives a few bytes at a time.
struct Slow<'a>(&'a [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = self.1 % 7 + 1;
        let count = self.1.min(buffer.len()).min(self.0.len());
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

#[test]
fn members_and_frames_in_a_row_are_one_stream() {
    let content = noise(3_000_000);
    let pieces = [&content[..1_048_576], &content[1_048_576..2_000_000], &[], &content[2_000_000..]];
    let own = |piece: &&[u8]| member(piece, |size| size);
    let skippable = [&b"\x5a\x2a\x4d\x18\x05\0\0\0hello"[..]].concat();
    let zstd = |piece: &&[u8]| [zstd::bulk::compress(piece, 1).unwrap(), skippable.clone()].concat();
    for (codec, stream) in [
        (Codec::Gzip, pieces.iter().map(|piece| gzip(piece)).collect::<Vec<_>>().concat()),
        (Codec::Gzip, pieces.iter().map(own).collect::<Vec<_>>().concat()),
        (Codec::Gzip, [own(&pieces[0]), gzip(pieces[1]), own(&pieces[3])].concat()),
        (Codec::Zstd, pieces.iter().map(zstd).collect::<Vec<_>>().concat()),
        (Codec::Identity, content.clone()),
    ] {
        assert!(read(codec, &stream).unwrap() == content, "{codec:?}");
        let mut slow = Vec::new();
        decompress(codec, Slow(&stream, 0), &UnpackLimits::default()).unwrap().read_to_end(&mut slow).unwrap();
        assert!(slow == content, "{codec:?}, slowly");
        let mut ahead = Vec::new();
        let open = || decompress(codec, &*stream, &UnpackLimits::default());
        read_ahead(open, |reader| {
            reader.read_to_end(&mut ahead).map(|_| assert_eq!(reader.read(&mut [0]).unwrap(), 0))
        })
        .unwrap();
        assert!(ahead == content, "{codec:?}, ahead");
    }
}

#[test]
fn damaged_and_short_streams_are_refused() {
    let content = noise(5000);
    for (codec, stream) in [
        (Codec::Gzip, gzip(&content)),
        (Codec::Gzip, member(&content, |size| size)),
        (Codec::Zstd, {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            encoder.include_checksum(true).unwrap();
            encoder.write_all(&content).unwrap();
            encoder.finish().unwrap()
        }),
    ] {
        for length in (1..stream.len()).step_by(3) {
            assert!(read(codec, &stream[..length]).is_err(), "{codec:?} cut off at {length}");
        }
        for at in (0..stream.len()).step_by(5) {
            let mut damaged = stream.clone();
            damaged[at] ^= 0x10;
            assert!(read(codec, &damaged).is_ok_and(|read| read == content) || read(codec, &damaged).is_err(), "{at}");
        }
        assert!(read(codec, &[&stream[..], b"junk"].concat()).is_err(), "{codec:?} with junk");
        let mut seen = Vec::new();
        let cut = &stream[..stream.len() - 1];
        let open = || decompress(codec, cut, &UnpackLimits::default());
        assert!(read_ahead(open, |reader| reader.read_to_end(&mut seen)).is_err(), "errors come through threads");
    }
    assert!(read(Codec::Gzip, b"").is_err());
    assert!(read(Codec::Gzip, b"\x28\xb5\x2f\xfd").is_err());
}

#[test]
fn sizes_that_members_tell_are_only_hints() {
    let content = noise(100_000);
    for lie in [0, 1, 17, 200, 1 << 20, 3 << 20, u32::MAX as usize] {
        let stream = [member(&content, |_| lie), gzip(&content)].concat();
        assert!(read(Codec::Gzip, &stream).unwrap() == [&content[..], &content].concat(), "{lie}");
    }
    for off in [-9_isize, -8, -1, 1, 8, 9] {
        let lie = |size: usize| size.checked_add_signed(off).unwrap();
        let stream = [member(&content, lie), gzip(&content)].concat();
        assert!(read(Codec::Gzip, &stream).unwrap() == [&content[..], &content].concat(), "{off}");
    }
    // A member that hides another one: its own trailer once more at the end of what it claims to be.
    let inner = member(&content, |size| size * 2 + 8);
    let hidden = gzip(&noise(1000));
    let mut stream = [&inner[..], &hidden].concat();
    let claimed = inner.len() * 2 + 8;
    stream.resize(claimed - 8, 0);
    stream.extend_from_slice(&inner[inner.len() - 8..]);
    assert!(read(Codec::Gzip, &stream).is_err(), "every other reader sees the hidden member and the junk after it");
}

#[test]
fn bombs_are_refused() {
    let limits = UnpackLimits { ratio: 100, ratio_from: 1 << 20, zstd_window_log: 20, ..UnpackLimits::default() };
    let zeros = vec![0; 64 << 20];
    for (codec, bomb) in [(Codec::Gzip, gzip(&zeros)), (Codec::Zstd, zstd::bulk::compress(&zeros, 3).unwrap())] {
        let mut seen = 0;
        let mut reader = decompress(codec, &*bomb, &limits).unwrap();
        let mut buffer = vec![0; 65536];
        let error = loop {
            match reader.read(&mut buffer) {
                Ok(0) => panic!("the bomb went off"),
                Ok(count) => seen += count,
                Err(error) => break error.to_string(),
            }
        };
        assert!(seen < 48 << 20, "{codec:?}: {error} after {seen}");
        assert!(error.contains("100 times") || codec == Codec::Zstd, "{error}");
    }
    // A window larger than allowed.
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(24).unwrap();
    encoder.write_all(&noise(100)).unwrap();
    encoder.flush().unwrap();
    encoder.write_all(&noise(100)).unwrap();
    let frame = encoder.finish().unwrap();
    let mut out = Vec::new();
    assert!(decompress(Codec::Zstd, &*frame, &limits).unwrap().read_to_end(&mut out).is_err());
    assert!(read(Codec::Zstd, &frame).is_ok());
}

#[test]
fn members_that_lie_about_their_size_are_believed_once() {
    struct Counted<'a>(&'a [u8], &'a std::cell::Cell<u64>);
    impl Read for Counted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1.set(self.1.get() + 1);
            self.0.read(buffer)
        }
    }
    let small = member(b"small", |_| (2 << 20) - 1);
    let stream = small.repeat((8 << 20) / small.len());
    let reads = std::cell::Cell::new(0);
    let mut out = Vec::new();
    let mut decoder = decompress(Codec::Gzip, Counted(&stream, &reads), &UnpackLimits::default()).unwrap();
    decoder.read_to_end(&mut out).unwrap();
    assert_eq!(out.len(), stream.len() / small.len() * 5);
    // Each time that one is believed the buffer is filled up to its end.
    assert!(reads.get() < 1000, "{} reads", reads.get());
}
