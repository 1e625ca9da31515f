//! The server in service: what operators set, see and rely on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "service/credentials.rs"]
mod credentials;
#[path = "service/logs.rs"]
mod logs;
#[path = "service/proxies.rs"]
mod proxies;
#[path = "service/readiness.rs"]
mod readiness;
#[path = "service/search.rs"]
mod search;
#[path = "service/settings.rs"]
mod settings;
#[path = "service/timeouts.rs"]
mod timeouts;
#[path = "service/tls.rs"]
mod tls;
