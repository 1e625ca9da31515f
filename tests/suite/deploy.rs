//! What lies under `deploy/`, tried as operators use it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "deploy/backup.rs"]
mod backup;
#[path = "deploy/container.rs"]
mod container;
#[path = "deploy/proxies.rs"]
mod proxies;
#[path = "deploy/units.rs"]
mod units;

use std::path::PathBuf;

/// A file of `deploy/`.
fn recipe(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

/// Its text.
fn recipe_text(name: &str) -> String {
    let path = recipe(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

/// The text with `from`, which must be in it, replaced by `to`.
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "`{from}` is to be replaced, and is not in:\n{text}");
    text.replace(from, to)
}
