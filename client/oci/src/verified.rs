//! Bytes that have a digest: nobody can finish reading wrong ones.

use std::io::{self, Read};

use crate::{Digest, Hasher};

/// What was read is not what was named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Fewer or more bytes.
    #[error("{digest} should have {expected} bytes and has {found}")]
    Size {
        /// What was to be read.
        digest: Digest,
        /// Size that was stated.
        expected: u64,
        /// Bytes that came; for too many, those up to the first too many.
        found: u64,
    },
    /// Other bytes.
    #[error("the content of {expected} has the digest {found}: it was damaged or replaced on its way")]
    Digest {
        /// What was to be read.
        expected: Digest,
        /// What came.
        found: Digest,
    },
}

/// Checks bytes that come in pieces against a digest and a size.
#[derive(Debug, Clone)]
pub struct Verifier {
    expected: Digest,
    size: u64,
    seen: u64,
    hasher: Hasher,
}

impl Verifier {
    /// A verifier that has seen nothing.
    pub fn new(digest: &Digest, size: u64) -> Self {
        Verifier { expected: digest.clone(), size, seen: 0, hasher: Hasher::new(digest.algorithm()) }
    }

    /// Takes in the next bytes; fails as soon as there are too many.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), VerifyError> {
        self.seen += bytes.len() as u64;
        if self.seen > self.size {
            return Err(self.wrong_size());
        }
        self.hasher.update(bytes);
        Ok(())
    }

    /// How many bytes were seen.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Compares size and digest.
    pub fn finish(self) -> Result<(), VerifyError> {
        if self.seen != self.size {
            return Err(self.wrong_size());
        }
        let found = self.hasher.finish();
        if found == self.expected { Ok(()) } else { Err(VerifyError::Digest { expected: self.expected, found }) }
    }

    fn wrong_size(&self) -> VerifyError {
        VerifyError::Size { digest: self.expected.clone(), expected: self.size, found: self.seen }
    }
}

/// A reader whose end is an error if size or digest differ.
#[derive(Debug)]
pub struct Verified<R> {
    inner: R,
    verifier: Option<Verifier>,
}

impl<R: Read> Verified<R> {
    /// Verifies what `inner` gives.
    pub fn new(inner: R, digest: &Digest, size: u64) -> Self {
        Verified { inner, verifier: Some(Verifier::new(digest, size)) }
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let wrong = |error: VerifyError| io::Error::new(io::ErrorKind::InvalidData, error);
        match &mut self.verifier {
            Some(verifier) if count > 0 => verifier.update(&buffer[..count]).map_err(wrong)?,
            Some(_) if !buffer.is_empty() => {
                if let Some(verifier) = self.verifier.take() {
                    verifier.finish().map_err(wrong)?;
                }
            }
            _ => {}
        }
        Ok(count)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Algorithm;

    #[test]
    fn wrong_bytes_cannot_be_read_to_their_end() {
        let digest = Digest::of(Algorithm::Sha256, b"abc");
        let read = |bytes: &[u8], size: u64| {
            let mut out = Vec::new();
            Verified::new(bytes, &digest, size).read_to_end(&mut out).map(|_| out)
        };
        assert_eq!(read(b"abc", 3).unwrap(), b"abc");
        for (bytes, size) in [(&b"abd"[..], 3), (b"ab", 3), (b"abcd", 3), (b"", 3), (b"abc", 4)] {
            assert!(read(bytes, size).is_err(), "{bytes:?} of {size}");
        }
    }
}
