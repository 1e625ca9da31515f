//! `cove-runtime`: an OCI runtime with runc's command line.
//!
//! One process of one thread, from beginning to end: it is cloned to become the container's.

mod arena;
mod arguments;
mod commands;
mod gate;
mod init;
mod log;
mod output;

use std::process::ExitCode;

use arguments::Global;
use log::Log;

#[global_allocator]
static ARENA: arena::Arena = arena::Arena::new();

/// Why a command has failed, and the exit status that says so.
pub(crate) struct Failed {
    text: String,
    code: u8,
}

impl Failed {
    fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }
}

impl<E: std::fmt::Display> From<E> for Failed {
    fn from(error: E) -> Self {
        Self { text: error.to_string(), code: 1 }
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    if words.next().is_some_and(|program| init::is_meant(&program)) {
        return init::run(words);
    }
    let mut parser = lexopt::Parser::from_env();
    let (global, command) = match Global::parse(&mut parser) {
        Ok(parsed) => parsed,
        Err(error) => {
            output::error(&format!("cove-runtime: {error}\n`cove-runtime --help` tells what there is."));
            return ExitCode::FAILURE;
        }
    };
    let log = match Log::open(&global) {
        Ok(log) => log,
        Err(error) => {
            output::error(&format!("cove-runtime: cannot open the log: {}", cove_launcher::plain(&error)));
            return ExitCode::FAILURE;
        }
    };
    match commands::call(&global, &command, parser, &log) {
        Ok(code) => ExitCode::from(code),
        Err(failed) => {
            log.error(&failed.text);
            ExitCode::from(failed.code)
        }
    }
}
