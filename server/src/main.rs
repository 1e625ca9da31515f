//! The program `cove-server`: the registry, and the administrator's commands beside it.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use cove_server::commands::{self, CommandLine};

/// Gives memory back: with glibc's allocator the 19 MiB of a password's verification stay with every thread that
/// has ever done one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
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
