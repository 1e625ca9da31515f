//! `cove-server`: an OCI registry with built-in accounts and token service.

pub mod auth;
pub mod blobs;
mod kept;
pub mod metadata;
