//! `cove-server`: an OCI registry with built-in accounts and token service.

pub mod metadata;
