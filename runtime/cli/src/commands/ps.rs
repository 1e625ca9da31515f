//! `ps`: the host's ps, and of its lines those of the container.

use std::collections::HashSet;
use std::process::Command;

use cove_launcher::Container;
use lexopt::{Arg, Parser, ValueExt};

use crate::arguments::Global;
use crate::commands::{is_json, needed};
use crate::{Failed, output};

pub(super) fn ps(global: &Global, mut parser: Parser) -> Result<u8, Failed> {
    let (mut json, mut id, mut words) = (false, None, Vec::new());
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("format") | Arg::Short('f') => json = is_json(&mut parser)?,
            Arg::Value(value) => {
                id = Some(value.string()?);
                // Everything after the name is for ps.
                words = parser.raw_args()?.map(|word| word.string()).collect::<Result<Vec<_>, _>>()?;
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let container = Container::find(&global.root, &needed(id)?)?;
    let processes: Vec<i32> = container.processes()?.iter().map(|pid| pid.as_raw_nonzero().get()).collect();
    if json {
        output::print(&serde_json::to_string(&processes)?);
        return Ok(0);
    }
    if words.is_empty() {
        words.push("-ef".to_owned());
    }
    let ran = Command::new("ps").args(&words).output().map_err(|error| format!("cannot run ps: {error}"))?;
    if !ran.status.success() {
        return Err(String::from_utf8_lossy(&ran.stderr).trim_end().to_owned().into());
    }
    let text = String::from_utf8_lossy(&ran.stdout);
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let column = header.split_whitespace().position(|word| word == "PID");
    let column = column.ok_or("couldn't find PID field in ps output")?;
    output::print(header);
    let wanted: HashSet<i32> = processes.into_iter().collect();
    for line in lines {
        let number = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        if number.is_some_and(|number: i32| wanted.contains(&number)) {
            output::print(line);
        }
    }
    Ok(0)
}
