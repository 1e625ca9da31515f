//! The command line: clap structures only, with docker's names, aliases and descriptions. What they mean is for
//! `commands`; how help and usage errors look is for `help` and `usage`.

mod container;
mod image;
mod life;
mod look;
mod registry;
mod system;
mod volume;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use container::{ContainerOptions, Create, Run};
pub use image::{
    History, Images, Import, Inspect, InspectImage, Load, Mount, Prune, Remove, Save, Tag as TagImage, Unmount,
};
pub use life::{
    Attach, Commit, Copy, Exec, Export, Kill, Pause, PruneContainers, RemoveContainers, Rename, Restart, Start, Stop,
    Unpause, Update, Wait,
};
pub use look::{Diff, Events, InspectContainers, InspectNetworks, ListNetworks, Logs, Port, Ps, Stats, Top};
pub use registry::{InspectManifest, Login, Logout, ProgressStyle, Pull, Push, Search};
pub use system::{Completion, DiskUsage, Info, Service, Shell, SystemPrune, Version, Watch};
pub use volume::{CreateVolume, InspectVolumes, ListVolumes, PruneVolumes, RemoveVolumes, VolumeCommand};

/// Run containers; push, pull and keep images
#[derive(Debug, Parser)]
#[command(name = "cove", disable_help_subcommand = true, disable_version_flag = true)]
pub struct Cove {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What stands before the command.
#[derive(Debug, Args)]
pub struct Global {
    /// Location of client config files
    #[arg(long, value_name = "string", env = "DOCKER_CONFIG", hide_env = true)]
    pub config: Option<PathBuf>,
    /// Enable debug mode
    #[arg(short = 'D', long)]
    pub debug: bool,
    /// Set the logging level ("debug", "info", "warn", "error", "fatal")
    #[arg(short = 'l', long, value_name = "string", env = "COVE_LOG", hide_env = true)]
    pub log_level: Option<String>,
    /// Folder of images and containers
    #[arg(long, value_name = "string", env = "COVE_ROOT", hide_env = true)]
    pub root: Option<PathBuf>,
    /// Folder of what does not outlive a restart of the machine
    #[arg(long, value_name = "string", env = "COVE_RUN", hide_env = true)]
    pub run: Option<PathBuf>,
    /// Print version information and quit
    #[arg(short = 'v', long)]
    pub version: bool,
    /// Docker's options that lead to its daemon: known, so that they can be refused with a reason.
    #[arg(short = 'H', long, value_name = "list", hide = true)]
    pub host: Vec<String>,
    #[arg(short = 'c', long, value_name = "string", hide = true)]
    pub context: Option<String>,
    #[arg(long, hide = true)]
    pub tls: bool,
    #[arg(long, hide = true)]
    pub tlsverify: bool,
    #[arg(long, value_name = "string", hide = true)]
    pub tlscacert: Option<String>,
    #[arg(long, value_name = "string", hide = true)]
    pub tlscert: Option<String>,
    #[arg(long, value_name = "string", hide = true)]
    pub tlskey: Option<String>,
}

impl Global {
    /// The first option that only makes sense with a daemon.
    pub fn daemon_option(&self) -> Option<&'static str> {
        [
            (!self.host.is_empty(), "--host"),
            (self.context.as_deref().is_some_and(|context| context != "default"), "--context"),
            (self.tls, "--tls"),
            (self.tlsverify, "--tlsverify"),
            (self.tlscacert.is_some(), "--tlscacert"),
            (self.tlscert.is_some(), "--tlscert"),
            (self.tlskey.is_some(), "--tlskey"),
        ]
        .into_iter()
        .find_map(|(given, name)| given.then_some(name))
    }
}

/// The commands at the top.
#[derive(Debug, Subcommand)]
pub enum Command {
    Run(Run),
    Ps(Ps),
    Attach(Attach),
    Commit(Commit),
    Cp(Copy),
    Create(Create),
    Diff(Diff),
    Events(Events),
    Exec(Exec),
    Export(Export),
    Kill(Kill),
    Logs(Logs),
    Pause(Pause),
    Port(Port),
    Rename(Rename),
    Restart(Restart),
    Rm(RemoveContainers),
    Start(Start),
    Stats(Stats),
    Stop(Stop),
    Top(Top),
    Unpause(Unpause),
    Update(Update),
    Wait(Wait),
    /// Manage containers
    Container {
        #[command(subcommand)]
        command: Option<ContainerCommand>,
    },
    Pull(Pull),
    Push(Push),
    Images(Images),
    Login(Login),
    Logout(Logout),
    Search(Search),
    Version(Version),
    Info(Info),
    /// Manage images
    Image {
        #[command(subcommand)]
        command: Option<ImageCommand>,
    },
    /// Manage networks
    Network {
        #[command(subcommand)]
        command: Option<NetworkCommand>,
    },
    /// Manage image manifests and manifest lists
    Manifest {
        #[command(subcommand)]
        command: Option<ManifestCommand>,
    },
    /// Manage Cove
    System {
        #[command(subcommand)]
        command: Option<SystemCommand>,
    },
    /// Manage volumes
    Volume {
        #[command(subcommand)]
        command: Option<VolumeCommand>,
    },
    Completion(Completion),
    History(History),
    Import(Import),
    Inspect(Inspect),
    Load(Load),
    Rmi(Remove),
    Save(Save),
    Tag(TagImage),
}

/// `cove container …`
#[derive(Debug, Subcommand)]
pub enum ContainerCommand {
    Attach(Attach),
    Commit(Commit),
    Cp(Copy),
    Create(Create),
    Diff(Diff),
    Exec(Exec),
    Export(Export),
    Inspect(InspectContainers),
    Kill(Kill),
    Logs(Logs),
    #[command(visible_aliases = ["list", "ps"])]
    Ls(Ps),
    Pause(Pause),
    Prune(PruneContainers),
    Port(Port),
    Rename(Rename),
    Restart(Restart),
    #[command(visible_alias = "remove")]
    Rm(RemoveContainers),
    Run(Run),
    Start(Start),
    Stats(Stats),
    Stop(Stop),
    Top(Top),
    Unpause(Unpause),
    Update(Update),
    Wait(Wait),
}

/// `cove image …`
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    History(History),
    Import(Import),
    Inspect(InspectImage),
    Load(Load),
    #[command(alias = "list")]
    Ls(Images),
    Mount(Mount),
    Prune(Prune),
    Pull(Pull),
    Push(Push),
    #[command(alias = "remove")]
    Rm(Remove),
    Save(Save),
    Tag(TagImage),
    #[command(alias = "umount")]
    Unmount(Unmount),
}

/// `cove network …`
#[derive(Debug, Subcommand)]
pub enum NetworkCommand {
    Inspect(InspectNetworks),
    #[command(visible_alias = "list")]
    Ls(ListNetworks),
}

/// `cove manifest …`
#[derive(Debug, Subcommand)]
pub enum ManifestCommand {
    Inspect(InspectManifest),
}

/// `cove system …`
#[derive(Debug, Subcommand)]
pub enum SystemCommand {
    Df(DiskUsage),
    Events(Events),
    Info(Info),
    Prune(SystemPrune),
    Service(Service),
    Watch(Watch),
}
