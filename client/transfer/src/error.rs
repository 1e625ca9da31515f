//! What can go wrong between two places, and on which side.

use std::error::Error as StdError;
use std::fmt;

use cove_oci::Digest;

/// Which side of a copy failed: the first thing that somebody wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where content is read from.
    Source,
    /// Where content is written to.
    Target,
}

/// What kind of failure it was, for those who decide what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The manifest, blob or repository is not there.
    NotFound,
    /// Nobody is logged in, or the credentials are wrong.
    Unauthorized,
    /// Whoever is logged in may not do this.
    Denied,
    /// Too many requests.
    RateLimited,
    /// No answer: no connection, no name, a time-out.
    Unreachable,
    /// The content is not what its digest says, or not what a manifest may be.
    Corrupt,
    /// No room on the disk.
    NoSpace,
    /// The content is of a sort that this place cannot take.
    Unsupported,
    /// Everything else.
    Other,
}

/// Why a copy failed.
#[derive(Debug)]
pub struct Error {
    side: Side,
    kind: Kind,
    digest: Option<Digest>,
    source: Box<dyn StdError + Send + Sync>,
}

impl Error {
    /// A failure of one side. `source` says what failed, with the URL or the path, and what to do.
    pub fn new(side: Side, kind: Kind, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Error { side, kind, digest: None, source: source.into() }
    }

    /// The same, about the content with this digest.
    #[must_use]
    pub fn about(mut self, digest: &Digest) -> Self {
        self.digest.get_or_insert_with(|| digest.clone());
        self
    }

    /// Which side failed.
    pub fn side(&self) -> Side {
        self.side
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What the failure was about.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The failure itself, as the side told it.
    pub fn cause(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.source
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.digest {
            // Most causes name the digest, in a URL or a path.
            Some(digest) => {
                let cause = self.source.to_string();
                if cause.contains(digest.hex()) { f.write_str(&cause) } else { write!(f, "{digest}: {cause}") }
            }
            None => self.source.fmt(f),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.source()
    }
}
