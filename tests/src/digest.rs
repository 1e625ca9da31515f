//! Digests, reckoned here and not with the crate under test.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// `sha256:…` of bytes.
pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    name(Sha256::digest(bytes).as_slice())
}

/// `sha256:…` of a file's content.
pub fn sha256_of_file(path: &Path) -> String {
    let mut file = File::open(path).unwrap_or_else(|error| panic!("open {}: {error}", path.display()));
    sha256_of(&mut file).unwrap_or_else(|error| panic!("read {}: {error}", path.display())).0
}

/// `sha256:…` and length of everything that a reader gives.
pub(crate) fn sha256_of(reader: &mut impl Read) -> io::Result<(String, u64)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut length = 0;
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok((name(hash.finalize().as_slice()), length));
        }
        hash.update(&buffer[..count]);
        length += count as u64;
    }
}

fn name(hash: &[u8]) -> String {
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
