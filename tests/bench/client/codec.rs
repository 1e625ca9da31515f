//! The compression alone, without a client or a network around it.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use libdeflater::{CompressionLvl, Compressor};

const BLOCK: usize = 1 << 20;
/// The level that cove compresses with.
const LEVEL: i32 = 5;

/// Compresses layers in blocks on all cores and forgets the result: how long that takes, and how many bytes come of it.
pub fn compress(layers: &[PathBuf]) -> (Duration, u64) {
    let start = Instant::now();
    let files = Mutex::new(layers.iter().map(|path| File::open(path).expect("open a layer")).collect::<Vec<_>>());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let sizes: Vec<u64> = thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(|| work(&files))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker ends well")).collect()
    });
    (start.elapsed(), sizes.iter().sum())
}

/// Takes block after block until there are none.
fn work(files: &Mutex<Vec<File>>) -> u64 {
    let mut compressor = Compressor::new(CompressionLvl::new(LEVEL).expect("a level"));
    let mut block = Vec::with_capacity(BLOCK);
    let mut packed = vec![0; compressor.deflate_compress_bound(BLOCK)];
    let mut bytes = 0;
    loop {
        {
            let mut files = files.lock().expect("nobody panics with it");
            let Some(file) = files.last_mut() else { return bytes };
            block.clear();
            file.take(BLOCK as u64).read_to_end(&mut block).expect("read a layer");
            if block.is_empty() {
                files.pop();
                continue;
            }
        }
        bytes += compressor.deflate_compress(&block, &mut packed).expect("it fits") as u64;
    }
}
