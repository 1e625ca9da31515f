//! Arguments of `cove volume …`.

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;

use crate::completion::volume_names;
use crate::filter::Filter;
use crate::options::values;

/// `cove volume …`
#[derive(Debug, Subcommand)]
pub enum VolumeCommand {
    Create(CreateVolume),
    Inspect(InspectVolumes),
    #[command(alias = "list")]
    Ls(ListVolumes),
    Prune(PruneVolumes),
    #[command(alias = "remove")]
    Rm(RemoveVolumes),
}

/// Create a volume
#[derive(Debug, Args)]
pub struct CreateVolume {
    /// Specify volume driver name (default "local")
    #[arg(short, long, value_name = "string")]
    pub driver: Option<String>,
    /// Set metadata for a volume
    #[arg(long, value_name = "list", value_parser = values::label)]
    pub label: Vec<String>,
    /// Docker's older way to say the name.
    #[arg(long, value_name = "string", hide = true)]
    pub name: Option<String>,
    /// Set driver specific options: 'type', 'device' and 'o', as mount(8) takes them
    #[arg(short, long, value_name = "map")]
    pub opt: Vec<String>,
    #[arg(value_name = "VOLUME")]
    pub volume: Option<String>,
}

/// Display detailed information on one or more volumes
#[derive(Debug, Args)]
pub struct InspectVolumes {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long, value_name = "string")]
    pub format: Option<String>,
    #[arg(required = true, value_name = "VOLUME", add = ArgValueCompleter::new(volume_names))]
    pub volumes: Vec<String>,
}

/// List volumes
#[derive(Debug, Args)]
pub struct ListVolumes {
    /// Provide filter values (e.g. "dangling=true")
    #[arg(short, long, value_name = "filter")]
    pub filter: Vec<Filter>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE', where TEMPLATE is a Go template
    #[arg(long, value_name = "string")]
    pub format: Option<String>,
    /// Only display volume names
    #[arg(short, long)]
    pub quiet: bool,
}

/// Remove unused local volumes
#[derive(Debug, Args)]
pub struct PruneVolumes {
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short, long)]
    pub all: bool,
    /// Provide filter values (e.g. "label=<label>")
    #[arg(long, value_name = "filter")]
    pub filter: Vec<Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub force: bool,
}

/// Remove one or more volumes
///
/// A volume that a container has cannot be removed
#[derive(Debug, Args)]
pub struct RemoveVolumes {
    /// Force the removal of one or more volumes
    #[arg(short, long)]
    pub force: bool,
    #[arg(required = true, value_name = "VOLUME", add = ArgValueCompleter::new(volume_names))]
    pub volumes: Vec<String>,
}
