//! The commands, one file each: plain functions given the context and their arguments.

mod completion;
mod container;
mod disk_usage;
mod events;
mod history;
mod images;
mod import;
mod info;
mod inspect;
mod load;
mod login;
mod logout;
mod manifest;
mod mount;
mod network;
mod prune;
pub mod pull;
mod push;
mod remove;
mod save;
mod search;
mod tag;
mod version;
mod volume;

use crate::arguments::{Command, Cove, ImageCommand, ManifestCommand, SystemCommand};
use crate::context::Context;
use crate::error::Error;

pub use version::VERSION;

/// Runs the command that was asked for. A group without one of its commands never comes here: it is a wish for help.
pub fn run(context: &Context, cove: Cove) -> Result<(), Error> {
    let Some(command) = cove.command else { return version::short(context) };
    match command {
        Command::Completion(arguments) => completion::run(context, &arguments),
        Command::Container { command } => command.map_or(Ok(()), |command| container::run_command(context, command)),
        Command::Attach(arguments) => container::attach::run(context, &arguments),
        Command::Commit(arguments) => container::commit::run(context, &arguments),
        Command::Cp(arguments) => container::copy::run(context, &arguments),
        Command::Create(arguments) => container::run::create(context, &arguments),
        Command::Diff(arguments) => container::diff::run(context, &arguments),
        Command::Events(arguments) => events::run(context, &arguments),
        Command::Exec(arguments) => container::exec::run(context, &arguments),
        Command::Export(arguments) => container::export::run(context, &arguments),
        Command::Kill(arguments) => container::kill::run(context, &arguments),
        Command::Logs(arguments) => container::logs::run(context, &arguments),
        Command::Pause(arguments) => container::pause::pause(context, &arguments),
        Command::Port(arguments) => container::port::run(context, &arguments),
        Command::Ps(arguments) => container::list::run(context, &arguments),
        Command::Rename(arguments) => container::rename::run(context, &arguments),
        Command::Restart(arguments) => container::stop::restart(context, &arguments),
        Command::Rm(arguments) => container::remove::run(context, &arguments),
        Command::Run(arguments) => container::run::run(context, &arguments),
        Command::Start(arguments) => container::start::run(context, &arguments),
        Command::Stats(arguments) => container::stats::run(context, &arguments),
        Command::Stop(arguments) => container::stop::run(context, &arguments),
        Command::Top(arguments) => container::top::run(context, &arguments),
        Command::Unpause(arguments) => container::pause::unpause(context, &arguments),
        Command::Update(arguments) => container::update::run(context, &arguments),
        Command::Wait(arguments) => container::wait::run(context, &arguments),
        Command::History(arguments) => history::run(context, &arguments),
        Command::Image { command } => command.map_or(Ok(()), |command| image(context, command)),
        Command::Images(arguments) => images::run(context, &arguments),
        Command::Import(arguments) => import::run(context, &arguments),
        Command::Info(arguments) => info::run(context, &arguments),
        Command::Inspect(arguments) => inspect::run(context, &arguments),
        Command::Load(arguments) => load::run(context, &arguments),
        Command::Login(arguments) => login::run(context, &arguments),
        Command::Logout(arguments) => logout::run(context, &arguments),
        Command::Manifest { command: Some(ManifestCommand::Inspect(arguments)) } => manifest::run(context, &arguments),
        Command::Manifest { command: None } => Ok(()),
        Command::Network { command } => command.map_or(Ok(()), |command| network::run_command(context, command)),
        Command::Pull(arguments) => pull::run(context, &arguments),
        Command::Push(arguments) => push::run(context, &arguments),
        Command::Rmi(arguments) => remove::run(context, &arguments),
        Command::Save(arguments) => save::run(context, &arguments),
        Command::Search(arguments) => search::run(context, &arguments),
        Command::System { command } => command.map_or(Ok(()), |command| system(context, command)),
        Command::Tag(arguments) => tag::run(context, &arguments),
        Command::Version(arguments) => version::run(context, &arguments),
        Command::Volume { command } => command.map_or(Ok(()), |command| volume::run(context, command)),
    }
}

/// Whether a command works in the store: without root it then has to run inside a user namespace.
pub fn needs_store(cove: &Cove) -> bool {
    match &cove.command {
        Some(Command::Container { command }) => command.is_some(),
        Some(Command::Image { command }) => command.is_some(),
        Some(Command::Network { command }) => command.is_some(),
        Some(Command::System { command }) => command.is_some(),
        Some(Command::Volume { command }) => command.is_some(),
        Some(
            Command::Attach(_)
            | Command::Commit(_)
            | Command::Cp(_)
            | Command::Create(_)
            | Command::Diff(_)
            | Command::Events(_)
            | Command::Exec(_)
            | Command::Export(_)
            | Command::History(_)
            | Command::Kill(_)
            | Command::Logs(_)
            | Command::Pause(_)
            | Command::Port(_)
            | Command::Ps(_)
            | Command::Rename(_)
            | Command::Restart(_)
            | Command::Rm(_)
            | Command::Start(_)
            | Command::Stats(_)
            | Command::Stop(_)
            | Command::Top(_)
            | Command::Unpause(_)
            | Command::Update(_)
            | Command::Wait(_)
            | Command::Images(_)
            | Command::Import(_)
            | Command::Info(_)
            | Command::Inspect(_)
            | Command::Load(_)
            | Command::Pull(_)
            | Command::Push(_)
            | Command::Rmi(_)
            | Command::Run(_)
            | Command::Save(_)
            | Command::Tag(_),
        ) => true,
        None
        | Some(
            Command::Completion(_)
            | Command::Login(_)
            | Command::Logout(_)
            | Command::Manifest { .. }
            | Command::Search(_)
            | Command::Version(_),
        ) => false,
    }
}

/// Whether a command starts containers.
pub fn starts_containers(cove: &Cove) -> bool {
    use crate::arguments::ContainerCommand;
    match &cove.command {
        Some(Command::Run(_) | Command::Start(_) | Command::Restart(_)) => true,
        Some(Command::Container { command: Some(command) }) => {
            matches!(command, ContainerCommand::Run(_) | ContainerCommand::Start(_) | ContainerCommand::Restart(_))
        }
        _ => false,
    }
}

/// Whether a command writes the files of images.
pub fn unpacks(cove: &Cove) -> bool {
    let below = |command: &ImageCommand| {
        matches!(command, ImageCommand::Pull(_) | ImageCommand::Load(_) | ImageCommand::Import(_))
    };
    match &cove.command {
        Some(
            Command::Commit(_)
            | Command::Create(_)
            | Command::Run(_)
            | Command::Pull(_)
            | Command::Load(_)
            | Command::Import(_),
        ) => true,
        Some(Command::Image { command }) => command.as_ref().is_some_and(below),
        _ => false,
    }
}

fn image(context: &Context, command: ImageCommand) -> Result<(), Error> {
    match command {
        ImageCommand::History(arguments) => history::run(context, &arguments),
        ImageCommand::Import(arguments) => import::run(context, &arguments),
        ImageCommand::Inspect(arguments) => inspect::run_image(context, &arguments),
        ImageCommand::Load(arguments) => load::run(context, &arguments),
        ImageCommand::Ls(arguments) => images::run(context, &arguments),
        ImageCommand::Mount(arguments) => mount::run(context, &arguments),
        ImageCommand::Prune(arguments) => prune::run(context, &arguments),
        ImageCommand::Pull(arguments) => pull::run(context, &arguments),
        ImageCommand::Push(arguments) => push::run(context, &arguments),
        ImageCommand::Rm(arguments) => remove::run(context, &arguments),
        ImageCommand::Save(arguments) => save::run(context, &arguments),
        ImageCommand::Tag(arguments) => tag::run(context, &arguments),
        ImageCommand::Unmount(arguments) => mount::unmount(context, &arguments),
    }
}

fn system(context: &Context, command: SystemCommand) -> Result<(), Error> {
    match command {
        SystemCommand::Df(arguments) => disk_usage::run(context, &arguments),
        SystemCommand::Events(arguments) => events::run(context, &arguments),
        SystemCommand::Info(arguments) => info::run(context, &arguments),
        SystemCommand::Prune(arguments) => prune::run_system(context, &arguments),
    }
}
