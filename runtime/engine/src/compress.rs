//! Compresses layers on all cores, always to the same bytes.
//!
//! The tar is cut into blocks of a fixed size that are compressed independently, so the result depends neither on
//! the number of cores nor on who was quicker. For gzip each block is a member of its own (RFC 1952 allows any
//! number), compressed as a whole by libdeflate, which is faster than zlib at a better ratio. A field in each
//! member's header says how long the member is: who knows the field can decompress blocks whole and side by side,
//! everybody else skips it. For zstd each block is a frame (RFC 8878).

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use cove_oci::{Algorithm, Codec, Digest, Hasher};
use libdeflater::{CompressionLvl, Compressor};

/// Uncompressed bytes of a gzip member.
pub const GZIP_BLOCK: usize = 1024 * 1024;
/// Uncompressed bytes of a zstd frame: larger, for zstd gains from what it has seen.
const ZSTD_BLOCK: usize = 4 * 1024 * 1024;
/// At this level libdeflate's output is about a hundredth smaller than zlib's at 6, which is what docker uses, in
/// less than two thirds of the time (BENCHMARKS.md).
const GZIP_LEVEL: i32 = 5;
/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;
/// The field's name in the header, RFC 1952 section 2.3.1.1.
pub const SIZE_FIELD: [u8; 2] = *b"CV";
/// Bytes before the compressed data: the fixed header, the length of the extra field, the field.
const HEADER: usize = 10 + 2 + 8;
/// Bytes after it: CRC-32 and size.
const TRAILER: usize = 8;

/// What came of compressing a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compressed {
    /// Digest of the tar.
    pub diff_id: Digest,
    /// Bytes of the tar.
    pub uncompressed: u64,
    /// Digest of what was written.
    pub digest: Digest,
    /// Bytes that were written.
    pub size: u64,
}

/// Compresses `tar` into `out` with so many threads. `done` is told how many bytes of the tar are finished.
pub fn compress(
    codec: Codec,
    tar: impl Read + Send,
    out: &mut impl Write,
    threads: usize,
    done: &dyn Fn(u64),
) -> io::Result<Compressed> {
    let block_size = match codec {
        Codec::Identity | Codec::Gzip => GZIP_BLOCK,
        Codec::Zstd => ZSTD_BLOCK,
    };
    let threads = threads.max(1);
    // In order of the tar: where each block's result will come from. The bound keeps memory in bounds.
    let (order, ordered) = sync_channel::<Receiver<io::Result<Vec<u8>>>>(2 * threads);
    let (work, queue) = sync_channel::<Block>(threads);
    let queue = Arc::new(Mutex::new(queue));
    thread::scope(|scope| {
        let reader = scope.spawn(move || read_blocks(tar, block_size, &work, &order));
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            scope.spawn(move || compress_blocks(codec, &queue));
        }
        drop(queue);
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let (mut size, mut finished) = (0, 0u64);
        for result in ordered {
            let compressed = result.recv().map_err(|_| io::Error::other("a compressing thread has ended early"))??;
            hasher.update(&compressed);
            out.write_all(&compressed)?;
            size += compressed.len() as u64;
            finished += block_size as u64;
            done(finished);
        }
        let (diff_id, uncompressed) =
            reader.join().map_err(|_| io::Error::other("the thread that reads the layer has ended early"))??;
        done(uncompressed);
        Ok(Compressed { diff_id, uncompressed, digest: hasher.finish(), size })
    })
}

/// A piece of the tar, and where its compressed form is awaited.
struct Block {
    bytes: Vec<u8>,
    result: SyncSender<io::Result<Vec<u8>>>,
}

fn read_blocks(
    mut tar: impl Read,
    block_size: usize,
    work: &SyncSender<Block>,
    order: &SyncSender<Receiver<io::Result<Vec<u8>>>>,
) -> io::Result<(Digest, u64)> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut total = 0;
    loop {
        let mut bytes = Vec::with_capacity(block_size);
        tar.by_ref().take(block_size as u64).read_to_end(&mut bytes)?;
        // What has no bytes still is one block: an empty file is no gzip file.
        let last = bytes.len() < block_size;
        if !bytes.is_empty() || total == 0 {
            hasher.update(&bytes);
            total += bytes.len() as u64;
            let (result, awaited) = sync_channel(1);
            // Nobody listens any more when writing has failed: the writer tells why.
            if order.send(awaited).is_err() || work.send(Block { bytes, result }).is_err() {
                break;
            }
        }
        if last {
            break;
        }
    }
    Ok((hasher.finish(), total))
}

fn compress_blocks(codec: Codec, queue: &Mutex<Receiver<Block>>) {
    let mut encoder = Encoder::new(codec);
    loop {
        let block = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok(block) = block else { return };
        let _ = block.result.send(encoder.encode(&block.bytes));
    }
}

/// Compresses one block at a time.
enum Encoder {
    Identity,
    Gzip(Compressor),
    Zstd,
}

impl Encoder {
    fn new(codec: Codec) -> Self {
        match codec {
            Codec::Identity => Encoder::Identity,
            Codec::Gzip => Encoder::Gzip(Compressor::new(CompressionLvl::new(GZIP_LEVEL).unwrap_or_default())),
            Codec::Zstd => Encoder::Zstd,
        }
    }

    fn encode(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Encoder::Identity => Ok(block.to_vec()),
            Encoder::Gzip(compressor) => gzip_member(compressor, block),
            Encoder::Zstd => {
                let mut frame = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
                frame.include_checksum(true)?;
                frame.include_contentsize(true)?;
                frame.compress(block)
            }
        }
    }
}

/// One member: header with the size field, compressed data, CRC-32, size. RFC 1952 section 2.3.
fn gzip_member(compressor: &mut Compressor, block: &[u8]) -> io::Result<Vec<u8>> {
    let mut member = vec![0; HEADER + compressor.deflate_compress_bound(block.len()) + TRAILER];
    let data = compressor.deflate_compress(block, &mut member[HEADER..]).map_err(io::Error::other)?;
    let size = HEADER + data + TRAILER;
    member.truncate(size);
    let too_large = |_| io::Error::other("a block is too large for gzip");
    let total = u32::try_from(size).map_err(too_large)?;
    let length = u32::try_from(block.len()).map_err(too_large)?;
    // Deflate, with an extra field, no time, an unknown system: nothing that differs from machine to machine.
    member[..10].copy_from_slice(&[0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255]);
    member[10..12].copy_from_slice(&8u16.to_le_bytes());
    member[12..14].copy_from_slice(&SIZE_FIELD);
    member[14..16].copy_from_slice(&4u16.to_le_bytes());
    member[16..20].copy_from_slice(&total.to_le_bytes());
    member[size - 8..size - 4].copy_from_slice(&libdeflater::crc32(block).to_le_bytes());
    member[size - 4..].copy_from_slice(&length.to_le_bytes());
    Ok(member)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Three and a half blocks that compress a little.
    fn tar() -> Vec<u8> {
        let mut state = 1u32;
        let mut byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 28) as u8
        };
        (0..GZIP_BLOCK * 7 / 2).map(|_| byte()).collect()
    }

    fn compressed(codec: Codec, tar: &[u8], threads: usize) -> (Vec<u8>, Compressed) {
        let mut out = Vec::new();
        let compressed = compress(codec, tar, &mut out, threads, &|_| {}).unwrap();
        (out, compressed)
    }

    #[test]
    fn other_programs_read_it_and_cores_do_not_matter() {
        for tar in [tar(), Vec::new(), vec![7; GZIP_BLOCK], vec![7; 10]] {
            for codec in [Codec::Gzip, Codec::Zstd] {
                let (bytes, stated) = compressed(codec, &tar, 1);
                assert_eq!(compressed(codec, &tar, 3).0, bytes, "the same with three threads");
                assert_eq!(stated.digest, Digest::of(Algorithm::Sha256, &bytes));
                assert_eq!(stated.diff_id, Digest::of(Algorithm::Sha256, &tar));
                assert_eq!((stated.size, stated.uncompressed), (bytes.len() as u64, tar.len() as u64));
                let mut back = Vec::new();
                match codec {
                    Codec::Zstd => zstd::stream::copy_decode(&bytes[..], &mut back).unwrap(),
                    _ => drop(flate2::bufread::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut back).unwrap()),
                }
                assert!(back == tar, "{codec:?} of {} bytes", tar.len());
            }
        }
    }

    #[test]
    fn each_member_says_how_long_it_is() {
        let (bytes, _) = compressed(Codec::Gzip, &tar(), 2);
        let (mut offset, mut members) = (0, 0);
        while offset < bytes.len() {
            assert_eq!(bytes[offset..offset + 4], [0x1f, 0x8b, 8, 4]);
            assert_eq!(bytes[offset + 12..offset + 14], SIZE_FIELD);
            offset += u32::from_le_bytes(bytes[offset + 16..offset + 20].try_into().unwrap()) as usize;
            members += 1;
        }
        assert_eq!((offset, members), (bytes.len(), 4));
    }

    #[test]
    fn what_fails_is_told_and_nothing_hangs() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken disk"))
            }
        }
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::other("full disk"))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let read = compress(Codec::Gzip, Broken, &mut Vec::new(), 2, &|_| {});
        assert!(read.unwrap_err().to_string().contains("broken disk"));
        let write = compress(Codec::Gzip, &tar()[..], &mut Broken, 2, &|_| {});
        assert!(write.unwrap_err().to_string().contains("full disk"));
    }
}
