//! Arguments of the commands about Cove itself.

use clap::{Args, Subcommand};

use crate::filter::Filter;

/// Show the Cove version information
#[derive(Debug, Args)]
pub struct Version {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long, value_name = "string")]
    pub format: Option<String>,
}

/// Display system-wide information
#[derive(Debug, Args)]
pub struct Info {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long, value_name = "string")]
    pub format: Option<String>,
}

/// Show disk usage
#[derive(Debug, Args)]
pub struct DiskUsage {
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE', where TEMPLATE is a Go template
    #[arg(long, value_name = "string")]
    pub format: Option<String>,
    /// Show detailed information on space usage
    #[arg(short, long)]
    pub verbose: bool,
}

/// Remove unused data
#[derive(Debug, Args)]
pub struct SystemPrune {
    /// Remove all unused images not just dangling ones
    #[arg(short, long)]
    pub all: bool,
    /// Provide filter values (e.g. "label=<key>=<value>")
    #[arg(long, value_name = "filter")]
    pub filter: Vec<Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub force: bool,
    /// Prune anonymous volumes
    #[arg(long)]
    pub volumes: bool,
}

/// Install a systemd unit that starts containers with the machine and watches over them
///
/// The unit runs `cove system watch`. Ordinary users get a unit of their own systemd. It is written, not started: what to
/// call next is printed.
#[derive(Debug, Args)]
pub struct Service {
    /// Print the unit instead of writing it
    #[arg(long)]
    pub print: bool,
    /// Remove the unit
    #[arg(long)]
    pub remove: bool,
    /// Install it for this user's systemd instead of the system's
    #[arg(long)]
    pub user: bool,
}

/// Start containers by their restart policies and watch over them, in the foreground
///
/// What runs under systemd (see `cove system service`), or under any other supervisor. When it is asked to end (SIGTERM) it
/// stops all containers, each within its stop timeout.
#[derive(Debug, Args)]
pub struct Watch {}

/// Generate the autocompletion script for the specified shell
#[derive(Debug, Args)]
pub struct Completion {
    #[command(subcommand)]
    pub shell: Option<Shell>,
}

/// The shells that are known.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Shell {
    /// Generate the autocompletion script for bash
    Bash,
    /// Generate the autocompletion script for fish
    Fish,
    /// Generate the autocompletion script for powershell
    Powershell,
    /// Generate the autocompletion script for zsh
    Zsh,
}
