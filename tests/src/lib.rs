//! What the whole-process tests of Cove are made of: types that own a process (the server, PostgreSQL, an S3
//! server, dockerd, containerd) and clean up when they are dropped, the registry clients behind one trait, and
//! images made from nothing.
//!
//! The tests themselves are under `tests/suite`, and `tests/run` runs them: it installs the programs that they
//! need and builds `cove-server`. Nothing here touches what the machine's own daemons and users have: every
//! process has its own folder, ports and configuration, and all traffic stays on 127.0.0.1.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

pub mod attacks;
mod authority;
pub mod benchmarks;
mod bundle;
mod busybox;
mod canary;
pub mod clients;
mod command;
mod conformance;
pub mod console;
mod containerd;
mod debian;
mod dice;
mod digest;
mod distribution;
mod dockerd;
pub mod endurance;
mod engine;
mod exchanger;
mod forward;
mod image;
mod layers;
mod loop_disk;
mod makers;
mod nasty;
mod oci_runtime;
mod ordinary;
mod ordinary_engine;
mod port;
mod postgres;
mod process;
mod proxy;
mod pusher;
mod registry;
pub mod rights;
mod runtime_engine;
mod runtime_program;
mod runtime_validation;
mod s3;
mod scratch;
mod server;
mod space;
mod terminal;
mod tree;
mod wire;

use std::path::{Path, PathBuf};

pub use authority::Authority;
pub use bundle::{Bundle, DEFAULT_CAPABILITIES};
pub use busybox::busybox_image;
pub use canary::Canary;
pub use command::{Cmd, Finished, words};
pub use conformance::Conformance;
pub use containerd::Containerd;
pub use debian::{debian, small_debian};
pub use dice::Dice;
pub use digest::{sha256, sha256_of_file};
pub use distribution::Distribution;
pub use dockerd::Dockerd;
pub use engine::{CoveEngine, own_network};
pub use exchanger::Exchanger;
pub use forward::ForwardProxy;
pub use image::{Artifact, Image, Index, Noise};
pub use layers::{large_files, many_files};
pub use loop_disk::LoopDisk;
pub use makers::{MAKERS, Makers};
pub use nasty::{nastier_image, nasty_image};
pub use oci_runtime::{Container, OciRuntime};
pub use ordinary::Ordinary;
pub use ordinary_engine::OrdinaryEngine;
pub use port::free_port;
pub use postgres::Postgres;
pub use process::{Process, wait_until};
pub use proxy::{Asked, Proxy};
pub use pusher::{Pusher, Pushers, Workload};
pub use registry::{Answer, Login, Registry, Served, add_query, media_type};
pub use runtime_engine::Engine;
pub use runtime_program::{failing_runtime_program, runc_program, runtime_program, runtime_version};
pub use runtime_validation::{Verdict, validate, validation_programs};
pub use s3::S3;
pub use scratch::Scratch;
pub use server::{Server, ServerBuilder};
pub use space::Space;
pub use terminal::{Screen, Terminal};
pub use tree::Tree;
pub use ureq::SendBody;
pub use wire::Wire;

/// A program that `tests/run` has built from `tests/tools`.
pub fn tool(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/bin").join(name);
    assert!(path.exists(), "{} is not there: run `tests/run` once, which builds it", path.display());
    path
}

/// The folder that cargo builds into for this profile (`target/debug`, `target/release`).
fn build_folder() -> PathBuf {
    // A test is target/debug/deps/NAME-HASH, a benchmark target/release/NAME.
    let program = std::env::current_exe().expect("the path of this program");
    let folder = program.parent().expect("a program lies in a folder");
    if folder.ends_with("deps") {
        folder.parent().expect("deps lies in a folder").to_owned()
    } else {
        folder.to_owned()
    }
}

/// A folder under `target/` for what is costly to make and the same in every run.
pub fn cache_folder() -> PathBuf {
    let folder = build_folder().parent().expect("target/debug has a parent").join("tests/cache");
    std::fs::create_dir_all(&folder).expect("make the cache folder");
    folder
}
