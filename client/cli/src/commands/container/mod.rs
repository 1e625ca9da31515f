//! Commands on containers, one file each.

pub mod attach;
pub mod commit;
pub mod copy;
pub mod diff;
pub mod exec;
pub mod export;
pub mod kill;
pub mod list;
pub mod logs;
pub mod pause;
pub mod port;
pub mod prune;
pub mod remove;
pub mod rename;
pub mod run;
pub mod start;
pub mod stats;
pub mod stop;
pub mod top;
pub mod update;
pub mod wait;

use cove_container::Container;

use crate::arguments::ContainerCommand;
use crate::containers::put_right;
use crate::context::Context;
use crate::error::Error;

/// `cove container …`
pub fn run_command(context: &Context, command: ContainerCommand) -> Result<(), Error> {
    match command {
        ContainerCommand::Attach(arguments) => attach::run(context, &arguments),
        ContainerCommand::Commit(arguments) => commit::run(context, &arguments),
        ContainerCommand::Cp(arguments) => copy::run(context, &arguments),
        ContainerCommand::Create(arguments) => run::create(context, &arguments),
        ContainerCommand::Diff(arguments) => diff::run(context, &arguments),
        ContainerCommand::Exec(arguments) => exec::run(context, &arguments),
        ContainerCommand::Export(arguments) => export::run(context, &arguments),
        ContainerCommand::Kill(arguments) => kill::run(context, &arguments),
        ContainerCommand::Logs(arguments) => logs::run(context, &arguments),
        ContainerCommand::Pause(arguments) => pause::pause(context, &arguments),
        ContainerCommand::Prune(arguments) => prune::run(context, &arguments),
        ContainerCommand::Inspect(arguments) => crate::commands::inspect::run_containers(context, &arguments),
        ContainerCommand::Port(arguments) => port::run(context, &arguments),
        ContainerCommand::Ls(arguments) => list::run(context, &arguments),
        ContainerCommand::Rename(arguments) => rename::run(context, &arguments),
        ContainerCommand::Restart(arguments) => stop::restart(context, &arguments),
        ContainerCommand::Rm(arguments) => remove::run(context, &arguments),
        ContainerCommand::Run(arguments) => run::run(context, &arguments),
        ContainerCommand::Start(arguments) => start::run(context, &arguments),
        ContainerCommand::Stats(arguments) => stats::run(context, &arguments),
        ContainerCommand::Stop(arguments) => stop::run(context, &arguments),
        ContainerCommand::Top(arguments) => top::run(context, &arguments),
        ContainerCommand::Unpause(arguments) => pause::unpause(context, &arguments),
        ContainerCommand::Update(arguments) => update::run(context, &arguments),
        ContainerCommand::Wait(arguments) => wait::run(context, &arguments),
    }
}

/// Finds a container, and puts right what a dead monitor has left of it.
fn find(context: &Context, name: &str) -> Result<Container, Error> {
    let container = context.containers().find(name)?;
    match put_right(context, &container) {
        Ok(_) => Ok(container),
        // It has gone with its monitor.
        Err(Error::Container(cove_container::Error::NoSuchContainer(_))) => {
            Err(cove_container::Error::NoSuchContainer(name.to_owned()).into())
        }
        Err(error) => Err(error),
    }
}

/// Does something with each of several containers. One that fails does not keep the others from it; each for which it
/// was done is named on stdout, in the user's words.
fn each(
    context: &Context,
    names: &[String],
    work: impl Fn(&str, &Container) -> Result<(), Error>,
) -> Result<(), Error> {
    each_by(context, names, |name| find(context, name).and_then(|container| work(name, &container)))
}

/// The same, by what is called so.
fn each_by(context: &Context, names: &[String], work: impl Fn(&str) -> Result<(), Error>) -> Result<(), Error> {
    let mut failed = false;
    for name in names {
        match work(name) {
            Ok(()) => context.printer.line(name)?,
            Err(error) => {
                failed = true;
                if let Some(text) = error.text() {
                    context.printer.note(text);
                }
            }
        }
    }
    if failed { Err(Error::Told) } else { Ok(()) }
}
