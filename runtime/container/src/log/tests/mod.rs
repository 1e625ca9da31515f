//! The log as docker users know it: written, turned, read and followed.
#![allow(clippy::unwrap_used)]

mod follow;
mod format;
mod options;
mod read;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

use super::{Log, LogOptions, LogReader, Query, Record, Stream};

/// Numbers that look random and are the same in every run.
pub(super) struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    pub fn below(&mut self, limit: u64) -> usize {
        (self.next() % limit) as usize
    }
}

pub(super) fn options(max_size: u64, max_file: u32) -> LogOptions {
    LogOptions { max_size: Some(max_size), max_file, ..LogOptions::default() }
}

pub(super) fn open(path: &Path, options: &LogOptions) -> Log {
    Log::open(path, options, &BTreeMap::new()).unwrap()
}

pub(super) fn records(path: &Path, query: Query) -> Vec<Record> {
    LogReader::open(path, query).unwrap().map(Result::unwrap).collect()
}

pub(super) fn bytes(records: &[Record], stream: Stream) -> Vec<u8> {
    records.iter().filter(|record| record.stream == stream).flat_map(|record| record.bytes.clone()).collect()
}

pub(super) fn text(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8(record.bytes.clone()).unwrap()).collect()
}
