//! What stands before the command.

use std::path::PathBuf;

use cove_launcher::{OCI_VERSION, RootFolder};
use lexopt::{Arg, Parser, ValueExt};

use crate::output;

const HELP: &str = "\
cove-runtime: makes, starts, enters and removes OCI containers

Usage: cove-runtime [OPTIONS] COMMAND ...

Commands:
  create    Make a container whose process waits for `start`
  delete    Remove a container
  events    Show what a container uses
  exec      Run one more process in a container
  features  Show what this runtime can do
  kill      Send a signal to a container's process
  list      List containers
  pause     Freeze a container's processes
  ps        List a container's processes
  resume    Let frozen processes go on
  run       Make and start a container
  spec      Write a config.json to begin with
  start     Let the process of a container run
  state     Show a container's state
  update    Change a container's limits

Options:
  --root DIR           Where containers are remembered [default: /run/cove-runtime, or in $XDG_RUNTIME_DIR]
  --seccomp-cache DIR  Where compiled seccomp programs are kept [default: in the folder of --root]
  --log FILE           Where errors are written, besides standard error
  --log-format FORMAT  text or json [default: text]
  --systemd-cgroup     Ask systemd for cgroups; cgroupsPath is SLICE:PREFIX:NAME then
  --debug              Log more
  --quiet              Say nothing on standard error of what the log file has
  --help, --version";

/// Options of all commands.
#[derive(Debug)]
pub(crate) struct Global {
    pub(crate) root: RootFolder,
    pub(crate) log: Option<PathBuf>,
    pub(crate) json: bool,
    pub(crate) debug: bool,
    pub(crate) quiet: bool,
    pub(crate) systemd_cgroup: bool,
}

impl Global {
    /// The options, and the command that follows them.
    pub(crate) fn parse(parser: &mut Parser) -> Result<(Self, String), lexopt::Error> {
        let (mut root, mut seccomp_cache) = (None, None);
        let mut global = Self {
            root: RootFolder::at(PathBuf::new()),
            log: None,
            json: false,
            debug: false,
            quiet: false,
            systemd_cgroup: false,
        };
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("root") => root = Some(PathBuf::from(parser.value()?)),
                Arg::Long("seccomp-cache") => seccomp_cache = Some(PathBuf::from(parser.value()?)),
                Arg::Long("log") => {
                    global.log = Some(PathBuf::from(parser.value()?)).filter(|path| !path.as_os_str().is_empty())
                }
                Arg::Long("log-format") => match parser.value()?.string()?.as_str() {
                    "json" => global.json = true,
                    "text" => global.json = false,
                    _ => return Err("--log-format is text or json".into()),
                },
                Arg::Long("debug") => global.debug = true,
                // `cove` reads the log and says it in its own words; stderr is the container's.
                Arg::Long("quiet") => global.quiet = true,
                Arg::Long("systemd-cgroup") => global.systemd_cgroup = true,
                // Callers give it to every runtime: what an ordinary user cannot do is found out, not told.
                Arg::Long("rootless") => drop(parser.value()?),
                Arg::Long("help") | Arg::Short('h') => {
                    output::print(HELP);
                    std::process::exit(0);
                }
                Arg::Long("version") | Arg::Short('v') => {
                    output::print(&format!("cove-runtime version {}\nspec: {OCI_VERSION}", env!("CARGO_PKG_VERSION")));
                    std::process::exit(0);
                }
                Arg::Value(command) => {
                    global.root = RootFolder::at(root.unwrap_or_else(default_root));
                    if let Some(folder) = seccomp_cache {
                        global.root = global.root.with_seccomp_cache(folder);
                    }
                    return Ok((global, command.string()?));
                }
                other => return Err(other.unexpected()),
            }
        }
        output::print(HELP);
        std::process::exit(1)
    }
}

fn default_root() -> PathBuf {
    let user = std::env::var_os("XDG_RUNTIME_DIR").filter(|_| cove_launcher::is_rootless());
    user.map_or_else(|| PathBuf::from("/run"), PathBuf::from).join("cove-runtime")
}
