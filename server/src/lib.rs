//! `cove-server`: an OCI registry with built-in accounts and token service.
//!
//! A request's way: [`listen`] accepts it, [`routes`] wraps it and finds the handler, [`call`] settles who asks
//! and whether they may, the handlers tell the story, [`metadata`] and [`blobs`] do the work.

pub mod access_log;
pub mod auth;
pub mod blobs;
pub mod body;
pub mod call;
pub mod check;
pub mod collector;
pub mod commands;
pub mod endpoint;
pub mod error;
pub mod handlers;
mod kept;
pub mod listen;
pub mod metadata;
pub mod pulls;
pub mod routes;
pub mod settings;
pub mod state;
pub mod upload;
