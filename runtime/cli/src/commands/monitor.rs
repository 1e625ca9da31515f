//! `monitor`: what `cove` starts beside a container. Nobody calls it by hand.

use std::path::PathBuf;

use cove_container::ContainerId;
use lexopt::{Arg, Parser, ValueExt};

use crate::Failed;

pub(super) fn monitor(mut parser: Parser) -> Result<u8, Failed> {
    let (mut values, mut shared) = (Vec::new(), false);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(value) => values.push(value),
            Arg::Long("shared") => shared = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let Ok([root, run, id]) = <[_; 3]>::try_from(values) else {
        return Err(Failed::from("root folder, run folder and id of a container are needed"));
    };
    let id = ContainerId::try_from(id.string()?)?;
    cove_monitor::run(&PathBuf::from(root), &PathBuf::from(run), id, shared)?;
    Ok(0)
}

/// `namespaces`: what `cove` starts beside the first container of an ordinary user.
pub(super) fn namespaces(mut parser: Parser) -> Result<u8, Failed> {
    match parser.next()? {
        Some(Arg::Value(run)) => cove_monitor::hold(&PathBuf::from(run))?,
        Some(other) => return Err(other.unexpected().into()),
        None => return Err(Failed::from("a run folder is needed")),
    }
    Ok(0)
}
