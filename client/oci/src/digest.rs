//! Content digests and the hashers that compute them.
//!
//! Grammar and registered algorithms: OCI image specification, descriptor.md "Digests".

use std::fmt;
use std::str::FromStr;

use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest as _, Sha256, Sha512};

/// A registered digest algorithm that Cove computes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Algorithm {
    /// SHA-256, the default everywhere.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name in a digest, before the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// Length of the encoded part in hexadecimal characters.
    fn hex_length(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text {
            "sha256" => Ok(Algorithm::Sha256),
            "sha512" => Ok(Algorithm::Sha512),
            _ => Err(DigestError::Algorithm(shortened(text))),
        }
    }
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no colon between algorithm and value.
    #[error("`{0}` is not a digest: write it as sha256: followed by 64 hexadecimal digits")]
    Shape(String),
    /// The algorithm is none of those that Cove computes.
    #[error("digest algorithm `{0}` is not supported: use sha256 or sha512")]
    Algorithm(String),
    /// The value has the wrong length or characters.
    #[error("`{text}` is not a digest: {algorithm} takes {expected} lower-case hexadecimal digits")]
    Encoded {
        /// What was given.
        text: String,
        /// The algorithm it names.
        algorithm: Algorithm,
        /// How many digits that algorithm takes.
        expected: usize,
    },
}

/// A content digest such as `sha256:…`; always well formed and of a supported algorithm.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    text: Box<str>,
    algorithm: Algorithm,
}

impl Digest {
    /// Digest of `bytes`.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The algorithm before the colon.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The whole digest, `algorithm:hex`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The hexadecimal part after the colon.
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.as_str().len() + 1..]
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, encoded) = text.split_once(':').ok_or_else(|| DigestError::Shape(shortened(text)))?;
        let algorithm = Algorithm::from_str(algorithm)?;
        let expected = algorithm.hex_length();
        let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if encoded.len() != expected || !encoded.bytes().all(lower_hex) {
            return Err(DigestError::Encoded { text: shortened(text), algorithm, expected });
        }
        Ok(Digest { text: text.into(), algorithm })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Input that came from outside, cut to what fits into a message.
pub(crate) fn shortened(text: &str) -> String {
    const LIMIT: usize = 80;
    let mut short = String::new();
    for character in text.chars().take(LIMIT) {
        match character.is_control() {
            true => short.extend(character.escape_default()),
            false => short.push(character),
        }
    }
    if text.chars().nth(LIMIT).is_some() {
        short.push('…');
    }
    short
}

/// Computes a [`Digest`] over bytes that arrive in pieces, and can be put down and taken up again.
#[derive(Clone)]
pub struct Hasher {
    state: State,
}

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

/// Names the encoding of a saved state. `sha2` promises a stable encoding within a minor version only, so the
/// version is part of the name: a state saved by another one is refused and the caller hashes again.
const SAVED_STATE: &str = "sha2-0.11";

impl Hasher {
    /// A hasher that has seen no bytes.
    pub fn new(algorithm: Algorithm) -> Self {
        let state = match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        };
        Hasher { state }
    }

    /// The algorithm that this hasher computes.
    pub fn algorithm(&self) -> Algorithm {
        match self.state {
            State::Sha256(_) => Algorithm::Sha256,
            State::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Sha256(hasher) => hasher.update(bytes),
            State::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of all bytes taken in.
    pub fn finish(self) -> Digest {
        let algorithm = self.algorithm();
        let encoded = match self.state {
            State::Sha256(hasher) => hex::encode(hasher.finalize()),
            State::Sha512(hasher) => hex::encode(hasher.finalize()),
        };
        Digest { text: format!("{algorithm}:{encoded}").into(), algorithm }
    }

    /// The state as text, to go on later with [`Hasher::resume`], in another process too.
    pub fn save(&self) -> String {
        let encoded = match &self.state {
            State::Sha256(hasher) => hex::encode(hasher.serialize()),
            State::Sha512(hasher) => hex::encode(hasher.serialize()),
        };
        format!("{SAVED_STATE}:{}:{encoded}", self.algorithm())
    }

    /// The hasher that was saved; `None` if the text is not of this version, and the bytes must be hashed again.
    pub fn resume(saved: &str) -> Option<Self> {
        let (algorithm, encoded) = saved.strip_prefix(SAVED_STATE)?.strip_prefix(':')?.split_once(':')?;
        let bytes = hex::decode(encoded).ok()?;
        let state = match Algorithm::from_str(algorithm).ok()? {
            Algorithm::Sha256 => State::Sha256(Sha256::deserialize(&bytes.as_slice().try_into().ok()?).ok()?),
            Algorithm::Sha512 => State::Sha512(Sha512::deserialize(&bytes.as_slice().try_into().ok()?).ok()?),
        };
        Some(Hasher { state })
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hasher({})", self.algorithm())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// FIPS 180-4 example values for the message "abc".
    const ABC_256: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const ABC_512: &str = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";

    #[test]
    fn computes_the_published_values() {
        assert_eq!(Digest::of(Algorithm::Sha256, b"abc").as_str(), ABC_256);
        assert_eq!(Digest::of(Algorithm::Sha512, b"abc").as_str(), ABC_512);
    }

    #[test]
    fn a_saved_hasher_goes_on_where_it_was() {
        for (algorithm, expected) in [(Algorithm::Sha256, ABC_256), (Algorithm::Sha512, ABC_512)] {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"a");
            let mut resumed = Hasher::resume(&hasher.save()).unwrap();
            resumed.update(b"bc");
            assert_eq!(resumed.finish().as_str(), expected);
        }
        assert!(Hasher::resume("sha2-0.10:sha256:00").is_none());
        assert!(Hasher::resume("sha2-0.11:sha256:00").is_none());
        assert!(Hasher::resume("").is_none());
    }

    #[test]
    fn refuses_what_is_no_digest() {
        let upper = ABC_256.to_uppercase();
        for text in [
            "",
            "sha256",
            "sha256:",
            "sha256:abc",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &upper,
            "sha256:../../etc/passwd",
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text} must not parse");
        }
        let long = format!("sha256:{}", "a".repeat(65));
        assert!(long.parse::<Digest>().is_err());
        assert_eq!(ABC_256.parse::<Digest>().unwrap().hex().len(), 64);
    }
}
