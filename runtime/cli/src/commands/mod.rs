//! One file a command.

mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod monitor;
mod pause;
mod ps;
mod spec;
mod start;
mod state;
mod update;

use lexopt::{Arg, Parser, ValueExt};

use crate::Failed;
use crate::arguments::Global;
use crate::log::Log;

/// Calls a command; its exit status.
pub(crate) fn call(global: &Global, command: &str, parser: Parser, log: &Log) -> Result<u8, Failed> {
    log.debug(&format!("{command}: begins"));
    let prefixed = |result: Result<u8, Failed>| {
        result.map_err(|failed| Failed { text: format!("{command} failed: {}", failed.text), ..failed })
    };
    match command {
        "create" => prefixed(create::create(global, parser, log)),
        "run" => prefixed(create::run(global, parser, log)),
        "start" => start::start(global, parser),
        "state" => state::state(global, parser),
        "kill" => kill::kill(global, parser),
        "delete" => delete::delete(global, parser, log),
        "exec" => prefixed(exec::exec(global, parser, log)),
        "list" => list::list(global, parser),
        "ps" => ps::ps(global, parser),
        "pause" => pause::pause(global, parser),
        "resume" => pause::resume(global, parser),
        "update" => update::update(global, parser),
        "events" => events::events(global, parser),
        "features" => features::features(parser),
        "spec" => spec::spec(parser),
        "monitor" => monitor::monitor(parser),
        "namespaces" => monitor::namespaces(parser),
        _ => {
            Err(Failed::from(format!("no command is called {command:?}; `cove-runtime --help` tells which there are")))
        }
    }
}

/// The name of a container, as the only thing that follows.
fn only_id(mut parser: Parser) -> Result<String, Failed> {
    let mut id = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(value) if id.is_none() => id = Some(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    needed(id)
}

/// The value of `--format`.
fn is_json(parser: &mut Parser) -> Result<bool, Failed> {
    match parser.value()?.string()?.as_str() {
        "json" => Ok(true),
        "table" => Ok(false),
        other => Err(format!("invalid format option: {other:?} is neither table nor json").into()),
    }
}

fn needed(id: Option<String>) -> Result<String, Failed> {
    id.ok_or_else(|| Failed::from("the name of a container is needed"))
}
