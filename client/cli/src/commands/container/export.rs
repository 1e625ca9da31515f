//! `cove export`

use std::io::{self, Write};
use std::path::Path;

use cove_container::events::Event;

use crate::arguments::Export;
use crate::commands::save::into_file;
use crate::containers::{Access, Files};
use crate::context::Context;
use crate::error::Error;

/// Writes the whole tree of a container as an archive.
pub fn run(context: &Context, arguments: &Export) -> Result<(), Error> {
    if arguments.output.is_none() && context.printer.terminals().out {
        return Err(Error::Options("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
    }
    if let Some(path) = &arguments.output {
        check_output(path).map_err(|text| Error::Local(format!("failed to export container: {text}")))?;
    }
    let container = super::find(context, &arguments.container)?;
    let record = container.record()?;
    let files = Files::open(context, &container, &record, Access::Read)?;
    let store = context.store()?;
    context.tell(&Event::of_container(&record, "export", &[]));
    match &arguments.output {
        Some(path) => into_file(path, |out| Ok(store.export(files.root(), out)?)),
        None => {
            let mut out = io::stdout().lock();
            store.export(files.root(), &mut out)?;
            Ok(out.flush()?)
        }
    }
}

/// Why a file cannot be written there, in docker's words.
fn check_output(path: &Path) -> Result<(), String> {
    if path.is_dir() {
        return Err("cannot write to a directory".to_owned());
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.exists() => {
            Err(format!("invalid output path: stat {}: no such file or directory", folder.display()))
        }
        _ => Ok(()),
    }
}
