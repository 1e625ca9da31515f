//! `cove`: push, pull and keep images with docker's words, flags and output.

mod arguments;
mod command_line;
mod commands;
mod completion;
mod containers;
mod context;
mod error;
mod field_order;
mod filter;
mod format;
mod help;
mod inspection;
mod listing;
#[allow(dead_code)] // until `run` and `create` are wired in
mod options;
mod printer;
mod progress;
mod prompt;
mod rootless;
mod settings;
mod table;
mod template;
mod units;
mod usage;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use clap_complete::CompleteEnv;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::arguments::{Cove, Global};
use crate::command_line::Asked;
use crate::context::Context;
use crate::error::Error;
use crate::printer::Printer;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let printer = Arc::new(Printer::standard());
    let completing = CompleteEnv::with_factory(command_line::command).var(completion::VARIABLE).bin("cove");
    match completing.try_complete(arguments.clone(), std::env::current_dir().ok().as_deref()) {
        Ok(false) => {}
        // A shell that asks for completions shows no messages.
        Ok(true) | Err(_) => return ExitCode::SUCCESS,
    }
    #[cfg(debug_assertions)]
    if let [_, word, rest @ ..] = arguments.as_slice()
        && word == options::dump::WORD
    {
        return ExitCode::from(options::dump::dump(&printer, rest));
    }
    match command_line::read(&arguments, printer.width().unwrap_or(help::PLAIN_WIDTH)) {
        Ok(Asked::Help(text)) => {
            let _ = printer.text(&text);
            ExitCode::SUCCESS
        }
        Ok(Asked::Run(cove)) => match run(&printer, *cove) {
            Ok(status) => ExitCode::from(status),
            Err(error) => {
                if let Some(text) = error.text() {
                    printer.note(text);
                }
                ExitCode::from(error.status())
            }
        },
        Err(refused) => {
            printer.note(refused.text);
            ExitCode::from(refused.status)
        }
    }
}

/// Runs the command; its exit status.
fn run(printer: &Arc<Printer>, cove: Cove) -> Result<u8, Error> {
    if let Some(option) = cove.global.daemon_option() {
        return Err(Error::DaemonOption(option));
    }
    start_log(&cove.global, commands::unpacks(&cove))?;
    let context = Context::new(Arc::clone(printer), &cove.global);
    if commands::needs_store(&cove)
        && let Some(status) = rootless::enter(&context, commands::starts_containers(&cove))?
    {
        return Ok(status);
    }
    commands::run(&context, cove).map(|()| 0)
}

/// What the crates below have to say goes to stderr, from `--log-level` on; warnings without it. That only one user id
/// can be used matters to those commands that write files of images, and would be noise in all others.
fn start_log(global: &Global, unpacks: bool) -> Result<(), Error> {
    let level = match global.log_level.as_deref() {
        _ if global.debug => LevelFilter::DEBUG,
        None | Some("") => LevelFilter::WARN,
        Some("trace") => LevelFilter::TRACE,
        Some("debug") => LevelFilter::DEBUG,
        Some("info") => LevelFilter::INFO,
        Some("warn" | "warning") => LevelFilter::WARN,
        Some("error") => LevelFilter::ERROR,
        Some("fatal" | "panic") => LevelFilter::OFF,
        Some(other) => return Err(Error::LogLevel(other.to_owned())),
    };
    let about_ids = if unpacks || level > LevelFilter::WARN { level } else { level.min(LevelFilter::ERROR) };
    let filter = Targets::new().with_default(level).with_target("cove_engine::user_namespace", about_ids);
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(!no_colour && std::io::stderr().is_terminal())
        .with_target(level > LevelFilter::INFO)
        .without_time();
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    Ok(())
}
