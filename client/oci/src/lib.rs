//! The vocabulary of OCI images and registries, in the specifications' own words.
//!
//! Everything here is checked when it is made, so the rest of the program handles only values that cannot be
//! wrong: a [`Digest`] is well formed, a [`RepositoryName`] follows the grammar, a [`Manifest`] has a known
//! shape and keeps the exact bytes it was read from. There is no I/O in this crate: no sockets, no files, no
//! async runtime.

mod descriptor;
mod digest;
mod error_code;
mod image_config;
mod manifest;
mod name;
mod platform;
mod reference;
mod scope;
mod verified;

pub use descriptor::{Codec, Descriptor, media_type};
pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use error_code::ErrorCode;
pub use image_config::{
    Empty, Healthcheck, History, ImageConfig, ImageConfigError, ImageDocument, Rootfs, RunConfig, chain_ids,
};
pub use manifest::{Manifest, ManifestError, ManifestKind, Referrer};
pub use name::{ManifestReference, NameError, RepositoryName, Tag};
pub use platform::{Platform, PlatformError};
pub use reference::{DOCKER_HUB, Reference, ReferenceDefaults, ReferenceError, RegistryName};
pub use scope::{Action, Actions, ResourceScope, Scope, ScopeError};
pub use verified::{Verified, Verifier, VerifyError};
