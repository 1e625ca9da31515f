//! `cove export`

use std::io::{self, Write};

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
