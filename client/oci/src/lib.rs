//! The vocabulary of OCI images and registries, in the specifications' own words.
//!
//! Everything here is checked when it is made, so the rest of the program handles only values that cannot be
//! wrong: a [`Digest`] is well formed, a [`RepositoryName`] follows the grammar, a [`Manifest`] has a known
//! shape and keeps the exact bytes it was read from. There is no I/O in this crate: no sockets, no files, no
//! async runtime.

mod descriptor;
mod digest;
mod error_code;
mod manifest;
mod name;
mod scope;

pub use descriptor::{Descriptor, media_type};
pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use error_code::ErrorCode;
pub use manifest::{Manifest, ManifestError, ManifestKind, Referrer};
pub use name::{ManifestReference, NameError, RepositoryName, Tag};
pub use scope::{Action, Actions, ResourceScope, Scope, ScopeError};
