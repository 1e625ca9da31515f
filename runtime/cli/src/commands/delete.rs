//! `delete`.

use cove_launcher::{Container, Error};
use lexopt::{Arg, Parser, ValueExt};

use crate::Failed;
use crate::arguments::Global;
use crate::commands::needed;

pub(super) fn delete(global: &Global, mut parser: Parser) -> Result<u8, Failed> {
    let (mut force, mut id) = (false, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("force") | Arg::Short('f') => force = true,
            Arg::Value(value) if id.is_none() => id = Some(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    match Container::find(&global.root, &needed(id)?) {
        // Whoever wants it gone has what they want.
        Err(Error::NoSuchContainer) if force => Ok(0),
        container => {
            container?.delete(force)?;
            Ok(0)
        }
    }
}
