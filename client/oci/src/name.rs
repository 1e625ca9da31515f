//! Names of repositories, tags, and what stands behind the last slash of a manifest's path.
//!
//! Grammar: OCI distribution specification, "Pulling manifests".

use std::fmt;
use std::str::FromStr;

use crate::digest::shortened;
use crate::{Digest, DigestError};

/// Longest repository name, in bytes. Clients limit host and name together to 255.
const REPOSITORY_NAME_LIMIT: usize = 255;
/// Longest tag, in bytes.
const TAG_LIMIT: usize = 128;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A repository name has more than 255 characters.
    #[error("repository name `{0}` has more than {REPOSITORY_NAME_LIMIT} characters: choose a shorter one")]
    RepositoryTooLong(String),
    /// A repository name does not follow the grammar.
    #[error(
        "`{0}` is not a repository name: use lower-case letters and digits, separated by `.`, `_`, `__` or `-`, in parts joined by `/`"
    )]
    Repository(String),
    /// A tag does not follow the grammar.
    #[error(
        "`{0}` is not a tag: use up to {TAG_LIMIT} letters, digits, `_`, `.` and `-`, and do not begin with `.` or `-`"
    )]
    Tag(String),
    /// A reference with a colon is not a digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_text! {
    /// A repository name of any depth, such as `library/debian` or `team/service/api`.
    RepositoryName
}

checked_text! {
    /// A tag, such as `latest`.
    Tag
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > REPOSITORY_NAME_LIMIT {
            return Err(NameError::RepositoryTooLong(shortened(text)));
        }
        if !text.split('/').all(is_path_component) {
            return Err(NameError::Repository(shortened(text)));
        }
        Ok(RepositoryName(text.into()))
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(part: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    alphanumeric(*first)
        && alphanumeric(*last)
        && bytes.split(|byte| alphanumeric(*byte)).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|byte| *byte == b'-')
        })
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let mut bytes = text.bytes();
        let valid = text.len() <= TAG_LIMIT
            && bytes.next().is_some_and(word)
            && bytes.all(|byte| word(byte) || byte == b'.' || byte == b'-');
        if valid { Ok(Tag(text.into())) } else { Err(NameError::Tag(shortened(text))) }
    }
}

/// What names a manifest within a repository: a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ManifestReference {
    /// By tag, which may move.
    Tag(Tag),
    /// By digest, which never changes.
    Digest(Digest),
}

impl FromStr for ManifestReference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        // A tag cannot contain a colon, a digest must.
        if text.contains(':') {
            Ok(ManifestReference::Digest(text.parse()?))
        } else {
            Ok(ManifestReference::Tag(text.parse()?))
        }
    }
}

impl fmt::Display for ManifestReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ManifestReference::Tag(tag) => tag.fmt(f),
            ManifestReference::Digest(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_names_follow_the_grammar() {
        for name in ["a", "debian", "library/debian", "a/b/c/d/e/f", "a.b", "a_b", "a__b", "a---b", "0/1", "a-b.c_d"] {
            assert!(name.parse::<RepositoryName>().is_ok(), "{name} must parse");
        }
        let bad = [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a..b",
            "a___b",
            "a._b",
            "a-.b",
            "-a",
            "a-",
            ".a",
            "a.",
            "_catalog",
            "..",
            "a/../b",
            "a/%2e%2e/b",
            "a b",
            "a\0b",
            "ä",
            "a/.",
            "a\\b",
            "a:b",
            "a@b",
        ];
        for name in bad {
            assert!(name.parse::<RepositoryName>().is_err(), "{name:?} must not parse");
        }
        assert!("a".repeat(255).parse::<RepositoryName>().is_ok());
        assert!("a".repeat(256).parse::<RepositoryName>().is_err());
    }

    #[test]
    fn tags_follow_the_grammar() {
        for tag in ["latest", "v1.2.3", "_x", "1", "A-b_c.d"] {
            assert!(tag.parse::<Tag>().is_ok(), "{tag} must parse");
        }
        for tag in ["", ".a", "-a", "a/b", "a b", "a:b", "ä", "a\0"] {
            assert!(tag.parse::<Tag>().is_err(), "{tag:?} must not parse");
        }
        assert!("a".repeat(128).parse::<Tag>().is_ok());
        assert!("a".repeat(129).parse::<Tag>().is_err());
    }

    #[test]
    fn a_colon_makes_a_digest() {
        assert!(matches!("latest".parse(), Ok(ManifestReference::Tag(_))));
        assert!(matches!("sha256:nonsense".parse::<ManifestReference>(), Err(NameError::Digest(_))));
    }
}
