//! Unpacks a tar archive, for measuring: `unpack ARCHIVE FOLDER [gzip|zstd] [ahead]`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use cove_engine::decompress::{decompress, read_ahead};
use cove_engine::unpack::{UnpackLimits, UnpackOptions, unpack};
use cove_oci::Codec;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let codec = match arguments.get(3).map(String::as_str) {
        Some("gzip") => Codec::Gzip,
        Some("zstd") => Codec::Zstd,
        _ => Codec::Identity,
    };
    let folder = std::path::Path::new(&arguments[2]);
    let open = || decompress(codec, fs_err::File::open(&arguments[1])?, &UnpackLimits::default());
    let options = UnpackOptions::default();
    let unpacked = if arguments.get(4).is_some() {
        read_ahead(open, |tar| unpack(tar, folder, &options))
    } else {
        unpack(open().unwrap(), folder, &options)
    };
    println!("{:#?}", unpacked.unwrap());
}
