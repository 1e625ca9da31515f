//! `delete`.

use cove_launcher::{Container, Error};
use lexopt::{Arg, Parser, ValueExt};

use crate::Failed;
use crate::arguments::Global;
use crate::commands::needed;
use crate::log::Log;

pub(super) fn delete(global: &Global, mut parser: Parser, log: &Log) -> Result<u8, Failed> {
    let (mut force, mut id) = (false, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("force") | Arg::Short('f') => force = true,
            Arg::Value(value) if id.is_none() => id = Some(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let id = needed(id)?;
    match Container::find(&global.root, &id) {
        // Whoever wants it gone has what they want. A folder without a record is what a runtime that was killed has left.
        Err(Error::NoSuchContainer) if force => Ok(global.root.folder(&id)?.remove().map(|()| 0)?),
        container => {
            for warning in container?.delete(force)? {
                log.warning(&warning);
            }
            Ok(0)
        }
    }
}
