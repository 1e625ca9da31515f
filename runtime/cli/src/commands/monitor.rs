//! `monitor`: what `cove` starts beside a container. Nobody calls it by hand.

use std::path::PathBuf;

use cove_container::ContainerId;
use lexopt::{Arg, Parser, ValueExt};

use crate::Failed;

pub(super) fn monitor(mut parser: Parser) -> Result<u8, Failed> {
    let mut values = Vec::new();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(value) => values.push(value),
            other => return Err(other.unexpected().into()),
        }
    }
    let Ok([root, run, id]) = <[_; 3]>::try_from(values) else {
        return Err(Failed::from("root folder, run folder and id of a container are needed"));
    };
    let id = ContainerId::try_from(id.string()?)?;
    cove_monitor::run(&PathBuf::from(root), &PathBuf::from(run), id)?;
    Ok(0)
}
