//! Identifiers: 64 hexadecimal digits, of which people see the first twelve.

use std::fmt;
use std::io::Read;

use serde::{Deserialize, Serialize};

/// What a container is called for good.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// A new one.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self(bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(hexadecimal).collect()))
    }

    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve, which are also the container's host name.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

fn hexadecimal(digit: u8) -> char {
    char::from(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 })
}

impl TryFrom<String> for ContainerId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(is_digit) { Ok(Self(text)) } else { Err(format!("no id: `{text}`")) }
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> String {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::ContainerId;

    #[test]
    fn only_what_looks_like_one_is_one() {
        let id = ContainerId::random().expect("random numbers");
        assert_eq!(ContainerId::try_from(id.to_string()), Ok(id.clone()));
        assert_eq!(id.short().len(), 12);
        assert_ne!(id, ContainerId::random().expect("random numbers"));
        for wrong in ["", "abc", &"A".repeat(64), &"g".repeat(64), &"a".repeat(65), "../etc"] {
            assert!(ContainerId::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
