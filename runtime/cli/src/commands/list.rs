//! `list`.

use cove_launcher::{Container, State};
use lexopt::{Arg, Parser};

use crate::arguments::Global;
use crate::commands::is_json;
use crate::{Failed, output};

pub(super) fn list(global: &Global, mut parser: Parser) -> Result<u8, Failed> {
    let (mut json, mut quiet) = (false, false);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("format") | Arg::Short('f') => json = is_json(&mut parser)?,
            Arg::Long("quiet") | Arg::Short('q') => quiet = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let containers = Container::all(&global.root)?;
    // One that was removed a moment ago is passed over.
    let states: Vec<State<'_>> = containers.iter().filter_map(|container| container.state().ok()).collect();
    if quiet {
        for state in &states {
            output::print(state.id);
        }
    } else if json {
        output::print(&serde_json::to_string(&states)?);
    } else {
        table(&states);
    }
    Ok(0)
}

fn table(states: &[State<'_>]) {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let row = |state: &State<'_>| {
        let bundle = state.bundle.display().to_string();
        let (created, owner) = (state.created.to_owned(), format!("#{}", state.owner));
        [state.id.to_owned(), state.pid.to_string(), state.status.to_string(), bundle, created, owner]
    };
    let rows: Vec<_> = std::iter::once(header).chain(states.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0).max(9) + 3;
    let widths: [usize; 6] = std::array::from_fn(width);
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        output::print(cells.collect::<String>().trim_end());
    }
}
