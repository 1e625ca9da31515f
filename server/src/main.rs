//! The program `cove-server`: the registry, and the administrator's commands beside it.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use cove_server::commands::{self, CommandLine};

fn main() -> ExitCode {
    give_memory_back();
    let line = CommandLine::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the program could not start: {error}")),
    };
    match runtime.block_on(commands::run(line)) {
        Ok(code) => code,
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(message: &str) -> ExitCode {
    writeln!(std::io::stderr(), "cove-server: {message}").ok(); // nobody left to tell
    ExitCode::FAILURE
}

/// Tells glibc's allocator to give large blocks back, and to keep few arenas. Left alone it learns from the 19 MiB
/// that verifying a password takes to keep such blocks, and does so once for every arena.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
fn give_memory_back() {
    const MIB: libc::c_int = 1024 * 1024;
    // SAFETY: `mallopt` only sets numbers of the allocator, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 4 * MIB);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 4 * MIB);
        libc::mallopt(libc::M_ARENA_MAX, 4);
    }
}

#[cfg(not(target_env = "gnu"))]
fn give_memory_back() {}
