//! `cove diff`

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::arguments::Diff;
use crate::containers::snapshot_options;
use crate::context::Context;
use crate::error::Error;

/// Tells what a container has changed of its image.
pub fn run(context: &Context, arguments: &Diff) -> Result<(), Error> {
    let container = super::find(context, &arguments.container)?;
    let _lock = container.lock_shared()?;
    let record = container.record()?;
    let lowers: Vec<PathBuf> = record.layers.iter().rev().cloned().collect();
    let changes = cove_engine::diff(&container.changes(), &lowers, &snapshot_options(&record));
    let mut text = Vec::new();
    for change in changes.map_err(cove_engine::Error::from)? {
        text.push(u8::try_from(change.kind.letter()).unwrap_or_default());
        text.push(b' ');
        text.extend_from_slice(change.path.as_os_str().as_bytes());
        text.push(b'\n');
    }
    Ok(context.printer.bytes(&text)?)
}
