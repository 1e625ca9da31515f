//! `kill`.

use cove_launcher::Container;
use lexopt::{Arg, Parser, ValueExt};

use crate::Failed;
use crate::arguments::Global;
use crate::commands::needed;

pub(super) fn kill(global: &Global, mut parser: Parser) -> Result<u8, Failed> {
    let (mut all, mut id, mut signal) = (false, None, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("all") | Arg::Short('a') => all = true,
            Arg::Value(value) if id.is_none() => id = Some(value.string()?),
            Arg::Value(value) if signal.is_none() => signal = Some(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let name = signal.unwrap_or_else(|| "TERM".to_owned());
    let signal = cove_launcher::signal(&name).ok_or_else(|| format!("unknown signal {name:?}"))?;
    Container::find(&global.root, &needed(id)?)?.kill(signal, all)?;
    Ok(0)
}
