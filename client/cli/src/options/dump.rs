//! `cove __options IMAGE_CONFIG run|create …`: prints what the options come to, for the test that compares it with docker's.
//! Only in builds for tests: a release does not have it.

use std::ffi::OsString;

use clap::{FromArgMatches, Parser, Subcommand};
use cove_container::check::Kernel;
use cove_oci::RunConfig;
use serde_json::json;

use super::request;
use crate::arguments::{Create, Run};
use crate::command_line;
use crate::printer::Printer;
use crate::usage;

/// The word behind the program's name.
pub const WORD: &str = "__options";

/// Names a folder that stands for `/sys`: what is asked of the kernel is then the same on every machine.
const KERNEL: &str = "COVE_OPTIONS_SYS";

#[derive(Debug, Parser)]
#[command(name = "cove", disable_help_subcommand = true)]
struct Container {
    #[command(subcommand)]
    command: ContainerCommand,
}

#[derive(Debug, Subcommand)]
enum ContainerCommand {
    Run(Box<Run>),
    Create(Box<Create>),
}

/// Reads the words behind `__options`; the exit status.
pub fn dump(printer: &Printer, words: &[OsString]) -> u8 {
    let Some((image, rest)) = words.split_first() else { return 2 };
    let image: RunConfig = match serde_json::from_str(&image.to_string_lossy()) {
        Ok(image) => image,
        Err(error) => {
            printer.note(error.to_string());
            return 2;
        }
    };
    let arguments: Vec<OsString> = std::iter::once("cove".into()).chain(rest.iter().cloned()).collect();
    let command = <Container as clap::CommandFactory>::command();
    let mut parser = command_line::with_switches(command.clone());
    let read = parser.try_get_matches_from_mut(&arguments).and_then(|matches| Container::from_arg_matches(&matches));
    let (name, create, detached) = match read.map(|container| container.command) {
        Ok(ContainerCommand::Run(run)) => ("run", run.create, run.detach),
        Ok(ContainerCommand::Create(create)) => ("create", *create, false),
        Err(error) => {
            let refused = usage::refuse(&error, &command, &arguments);
            printer.note(refused.text);
            return refused.status;
        }
    };
    let kernel = match std::env::var_os(KERNEL) {
        Some(folder) => Kernel::at(folder.clone().into(), folder.into()),
        None => Kernel::read(),
    };
    let requested = create.check_before_image(&kernel).and_then(|()| request(&create, detached, &image, &kernel));
    match requested {
        Ok(requested) => {
            for warning in requested.warnings {
                printer.note(format!("WARNING: {warning}"));
            }
            let shown = json!({
                "Config": requested.config,
                "HostConfig": requested.host_config,
                "Networks": requested.endpoints,
            });
            let _ = printer.text(&format!("{shown}\n"));
            0
        }
        Err(error) => {
            printer.note(error.text(name));
            error.status(name)
        }
    }
}
