//! Layers of the sizes that real images have.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::{Dice, Noise};

/// A layer of so many small files in 300 folders, of text that differs with `seed`.
pub fn many_files(path: &Path, count: u64, seed: u64) -> PathBuf {
    let mut tar = tar::Builder::new(create(path));
    let mut dice = Dice::new(seed);
    for number in 0..count {
        let times = usize::try_from(dice.within(0..300)).expect("a small number");
        let content = format!("file {number} of {seed}: {}\n", dice.number()).repeat(times);
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_500_000_000 + number);
        let name = format!("many-{seed}/{:03}/{number}", number % 300);
        tar.append_data(&mut header, name, content.as_bytes()).expect("write a tar");
    }
    tar.finish().expect("write a tar");
    path.to_owned()
}

/// A layer of so many large files, half of which compresses.
pub fn large_files(path: &Path, count: u64, bytes: u64) -> PathBuf {
    let mut tar = tar::Builder::new(create(path));
    for number in 0..count {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes);
        header.set_mode(0o600);
        let content = Noise::new(bytes / 2).chain(io::repeat(b'x').take(bytes - bytes / 2));
        tar.append_data(&mut header, format!("large/{number}"), content).expect("write a tar");
    }
    tar.finish().expect("write a tar");
    path.to_owned()
}

fn create(path: &Path) -> File {
    File::create(path).unwrap_or_else(|error| panic!("make {}: {error}", path.display()))
}
