//! The keys that leave a container running: `ctrl-p,ctrl-q`.

use crate::error::Error;

/// A sequence of keys, and how much of it was typed so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys {
    keys: Vec<u8>,
    typed: usize,
}

/// What a typed piece comes to.
#[derive(Debug, PartialEq, Eq)]
pub struct Typed {
    /// What the container gets.
    pub input: Vec<u8>,
    /// Whether the whole sequence was typed; what follows it is lost.
    pub detached: bool,
}

impl Default for DetachKeys {
    fn default() -> Self {
        Self { keys: vec![16, 17], typed: 0 }
    }
}

impl DetachKeys {
    /// Reads docker's notation: letters, `ctrl-` and a letter or one of `@ [ \ ] ^ _`, separated by commas.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let key = |word: &str| -> Option<u8> {
            match word.as_bytes() {
                [key] => Some(*key),
                [b'c', b't', b'r', b'l', b'-', letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
                b"ctrl-@" => Some(0),
                b"ctrl-[" => Some(27),
                b"ctrl-\\" => Some(28),
                b"ctrl-]" => Some(29),
                b"ctrl-^" => Some(30),
                b"ctrl-_" => Some(31),
                _ => None,
            }
        };
        let keys = text.split(',').map(|word| key(word).ok_or_else(|| Error::DetachKeys(word.to_owned())));
        Ok(Self { keys: keys.collect::<Result<_, _>>()?, typed: 0 })
    }

    /// Takes what was typed. Keys of a sequence that is not finished are held back until it is clear that it is none.
    pub fn type_in(&mut self, bytes: &[u8]) -> Typed {
        let mut input = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if self.keys.get(self.typed) == Some(&byte) {
                self.typed += 1;
                if self.typed == self.keys.len() {
                    self.typed = 0;
                    return Typed { input, detached: true };
                }
                continue;
            }
            input.extend(&self.keys[..self.typed]);
            self.typed = 0;
            if self.keys.first() == Some(&byte) {
                self.typed = 1;
            } else {
                input.push(byte);
            }
        }
        Typed { input, detached: false }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{DetachKeys, Typed};

    fn typed(input: &[u8], detached: bool) -> Typed {
        Typed { input: input.to_vec(), detached }
    }

    #[test]
    fn only_the_whole_sequence_detaches() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.type_in(b"ls\r"), typed(b"ls\r", false));
        assert_eq!(keys.type_in(b"\x10"), typed(b"", false));
        assert_eq!(keys.type_in(b"x"), typed(b"\x10x", false), "ctrl-p alone reaches the shell with the next key");
        assert_eq!(keys.type_in(b"\x10\x10\x11after"), typed(b"\x10", true));
        assert_eq!(keys.type_in(b"\x10"), typed(b"", false));
        assert_eq!(keys.type_in(b"\x11"), typed(b"", true));
    }

    #[test]
    fn dockers_notation() {
        let mut keys = DetachKeys::parse("a,ctrl-b,ctrl-@").unwrap();
        assert_eq!(keys.type_in(b"a\x02\x00"), typed(b"", true));
        for wrong in ["", "ctrl-", "ctrl-A", "ab", "a,,b", "ctrl-1"] {
            assert!(DetachKeys::parse(wrong).is_err(), "{wrong}");
        }
    }
}
