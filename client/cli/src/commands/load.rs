//! `cove load`

use std::io::{self, Read};

use cove_container::events::Event;
use cove_engine::Loaded;
use fs_err as fs;

use crate::arguments::{Load, ProgressStyle};
use crate::context::Context;
use crate::error::Error;
use crate::listing::familiar;
use crate::progress::{Direction, Reporter};

/// Reads images from a tar archive, of a file or of stdin.
pub fn run(context: &Context, arguments: &Load) -> Result<(), Error> {
    let input: Box<dyn Read + Send> = match &arguments.input {
        Some(path) if path.as_os_str() != "-" => Box::new(open(path)?),
        _ if context.printer.terminals().input => {
            return Err(Error::Options(
                "requested load from stdin, but stdin is empty: name a file with -i, or redirect one",
            ));
        }
        _ => Box::new(io::stdin()),
    };
    let (store, defaults) = (context.store()?, context.defaults()?);
    let is_moving = context.printer.error_size().is_some() && !arguments.quiet;
    let style = if is_moving { ProgressStyle::Auto } else { ProgressStyle::None };
    let reporter = Reporter::start(context.printer.clone(), style, arguments.quiet, Direction::Pull);
    let loaded = store.load(input, arguments.platform.as_ref(), &reporter)?;
    reporter.finish();
    for image in loaded {
        let id = match &image {
            Loaded::Named(name) => store.find(&name.to_string(), &defaults)?.image.id().to_string(),
            Loaded::Id(id) => id.to_string(),
        };
        context.tell(&Event::of_image("load", &id, &id));
        context.printer.line(match image {
            Loaded::Named(name) => format!("Loaded image: {}", familiar(&name, &defaults)),
            Loaded::Id(id) => format!("Loaded image ID: {id}"),
        })?;
    }
    Ok(())
}

/// Opens a file; where it is not there, docker's words say so.
pub fn open(path: &std::path::Path) -> Result<fs::File, Error> {
    fs::File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::NoFile(path.to_owned()),
        _ => error.into(),
    })
}
