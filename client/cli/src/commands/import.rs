//! `cove import`

use std::io::{self, Read};

use cove_engine::ImportOptions;
use cove_oci::{Platform, Reference};

use super::load::open;
use crate::arguments::Import;
use crate::context::Context;
use crate::error::Error;

/// Makes an image of one layer of a tar archive, and prints its id.
pub fn run(context: &Context, arguments: &Import) -> Result<(), Error> {
    let file = arguments.file.to_string_lossy();
    if file.starts_with("http://") || file.starts_with("https://") {
        return Err(Error::Options(
            "importing from an address is not offered: download the archive, for instance with `curl URL | cove import - NAME`",
        ));
    }
    let reference =
        arguments.reference.as_deref().map(|name| Reference::parse(name, &context.defaults()?).map_err(Error::from));
    let options = ImportOptions {
        changes: arguments.change.clone(),
        message: arguments.message.clone().unwrap_or_else(|| format!("Imported from {file}")),
        reference: reference.transpose()?.map(Reference::or_latest),
        platform: arguments.platform.clone().unwrap_or_else(Platform::host),
    };
    let store = context.store()?;
    let tar: Box<dyn Read + Send> = match &*file {
        "-" => Box::new(io::stdin()),
        _ => Box::new(open(&arguments.file)?),
    };
    let id = store.import(tar, options)?;
    Ok(context.printer.line(id.to_string())?)
}
