//! What is wrong with the options of a container, in docker's words.

use std::io;
use std::path::PathBuf;

use cove_container::check::CheckError;
use cove_container::config::UnknownMode;
use cove_oci::{PlatformError, ReferenceError};

/// What is wrong with the value of one option. Docker puts `invalid argument "…" for "--…" flag: ` before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // each is its text
pub enum ValueError {
    #[error("strconv.{reader}: parsing {text:?}: {reason}")]
    Number { reader: &'static str, text: String, reason: &'static str },
    #[error("invalid size: '{0}'")]
    Size(String),
    #[error("invalid suffix: '{0}'")]
    Suffix(String),
    #[error("failed to parse {0} as a rational number")]
    Rational(String),
    #[error("value is too precise")]
    TooPrecise,
    #[error("time: invalid duration {0:?}")]
    Duration(String),
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit { unit: String, text: String },
    #[error("valid streams are STDIN, STDOUT and STDERR")]
    Stream,
    #[error("invalid environment variable: {0}")]
    Environment(String),
    #[error("invalid label '{0}': empty name")]
    EmptyLabel(String),
    #[error("label '{0}' contains whitespaces")]
    LabelWithSpaces(String),
    #[error("sysctl '{0}' is not allowed")]
    Sysctl(String),
    #[error("empty string specified for links")]
    EmptyLink,
    #[error("bad format for links: {0}")]
    Link(String),
    #[error("bad format for add-host: {0:?}")]
    ExtraHost(String),
    #[error("invalid IP address in add-host: {0:?}")]
    ExtraHostAddress(String),
    #[error("IP address is not correctly formatted: {0}")]
    Address(String),
    #[error("{0} is not a valid domain")]
    Domain(String),
    #[error("invalid device cgroup format '{0}'")]
    DeviceRule(String),
    #[error("bad format: {0}")]
    DeviceFormat(String),
    #[error("bad format for device path: {0}")]
    DevicePath(String),
    #[error("invalid weight for device: {0}")]
    Weight(String),
    #[error(
        "invalid rate for device: {0}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
    )]
    Rate(String),
    #[error(
        "invalid rate for device: {0}. The correct format is <device-path>:<number>. Number must be a positive integer"
    )]
    Operations(String),
    #[error("invalid ulimit argument: {0}")]
    Ulimit(String),
    #[error("invalid ulimit type: {0}")]
    UlimitKind(String),
    #[error("too many limit value arguments - {0}, can only have up to two, `soft[:hard]`")]
    UlimitValues(String),
    #[error("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")]
    UlimitOrder { soft: i64, hard: i64 },
    #[error("gpu request key '{0}' can be specified only once")]
    GpuTwice(String),
    #[error("invalid count ({0}): value must be either \"all\" or an integer: invalid syntax")]
    GpuCount(String),
    #[error("unexpected key '{key}' in '{field}'")]
    UnexpectedKey { key: String, field: String },
    #[error("invalid field '{0}' must be a key=value pair")]
    MountField(String),
    #[error("invalid value for {key}: {value}")]
    MountValue { key: String, value: String },
    #[error("invalid value for {key}: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")")]
    Recursive { key: String, value: String },
    #[error("cannot mix '{options}-*' options with mount type '{kind}'")]
    MixedMount { options: &'static str, kind: String },
    #[error("target is required")]
    NoTarget,
    #[error("option 'bind-recursive={0}' requires 'readonly' to be specified in conjunction")]
    RecursiveWritable(&'static str),
    #[error("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction")]
    RecursivePropagation,
    #[error("invalid mount config for type {0:?}: mount type unknown")]
    MountKind(String),
    #[error("invalid mount config for type \"bind\": invalid propagation mode: {0}")]
    Propagation(String),
    #[error("invalid field {0}")]
    NetworkField(String),
    #[error("invalid field key {0}")]
    NetworkKey(String),
    #[error("network name/id is not specified")]
    NoNetwork,
    #[error("invalid key value pair format in driver options")]
    DriverOption,
    #[error("parse error on line 1, column {0}: bare \" in non-quoted field")]
    BareQuote(usize),
    #[error("parse error on line 1, column {0}: extraneous or missing \" in quoted-field")]
    OpenQuote(usize),
    #[error("EOF")]
    Nothing,
}

/// Why no container can be made of the options. Where docker's client says it, its status is 125 and it points at the
/// help; where docker's daemon says it, the status of `create` is 1.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each is its text
pub enum OptionError {
    #[error("{0} is not a valid mac address")]
    MacAddress(String),
    #[error("invalid value: {0}. Valid memory swappiness range is 0-100")]
    Swappiness(i64),
    #[error("invalid pull option: '{0}': must be one of \"always\", \"missing\" or \"never\"")]
    Pull(String),
    #[error("conflicting options: cannot specify both --attach and --detach")]
    AttachAndDetach,
    #[error("conflicting options: cannot specify both --restart and --rm")]
    RestartAndRemove,
    #[error("invalid empty volume spec")]
    EmptyVolume,
    #[error("invalid spec: {spec}: {reason}")]
    Volume { spec: String, reason: &'static str },
    #[error("invalid containerPort: {0}")]
    ContainerPort(String),
    #[error("invalid hostPort: {0}")]
    HostPort(String),
    #[error("invalid IP address: {0}")]
    PortAddress(String),
    #[error("invalid proto: {0}")]
    Protocol(String),
    #[error("no port specified: {0}<empty>")]
    NoPort(String),
    #[error("invalid ranges specified for container and host Ports: {container} and {host}")]
    PortRanges { container: String, host: String },
    #[error("invalid publish opts format (should be name=value but got '{0}')")]
    PublishField(String),
    #[error("invalid port format for --expose: {0}")]
    Expose(String),
    #[error("invalid range format for --expose: {text}, error: {reason}")]
    ExposeRange { text: String, reason: String },
    #[error("bad format for path: {0}")]
    DeviceFormat(String),
    #[error("bad mode specified: {0}")]
    DeviceMode(String),
    #[error("{0} is not an absolute path")]
    DevicePath(String),
    #[error("open {}: {}", path.display(), reason(source))]
    File { path: PathBuf, source: io::Error },
    #[error("invalid env file ({}): {reason}", path.display())]
    Lines { path: PathBuf, reason: String },
    #[error("{0}: invalid {1} mode")]
    Mode(&'static str, &'static str),
    #[error("invalid restart policy format: no policy provided before colon")]
    RestartName,
    #[error("invalid restart policy format: maximum retry count must be an integer")]
    RestartCount,
    #[error("invalid logging opts for driver {0}")]
    LogOptions(String),
    #[error("Invalid --security-opt: {0:?}")]
    Security(String),
    #[error("opening seccomp profile ({path}) failed: open {path}: {}", reason(source))]
    Profile { path: String, source: io::Error },
    #[error("compacting json for seccomp profile ({path}) failed: {source}")]
    ProfileJson { path: String, source: serde_json::Error },
    #[error("invalid storage option")]
    Storage,
    #[error("--no-healthcheck conflicts with --health-* options")]
    Health,
    #[error("{0} cannot be negative")]
    Negative(&'static str),
    #[error("network {0:?} is specified multiple times")]
    NetworkTwice(String),
    #[error("conflicting options: cannot attach both user-defined and non-user-defined network-modes")]
    NetworkKinds,
    #[error("conflicting options: cannot specify both {0} and per-network {1}")]
    NetworkOption(&'static str, &'static str),
    #[error("network-scoped aliases are only supported for user-defined networks")]
    Aliases,
    #[error("no name set for network")]
    NetworkName,
    #[error("{option} cannot be used: {reason}")]
    NotDone { option: &'static str, reason: &'static str },
    /// A name of an image that is none.
    #[error(transparent)]
    Reference(ReferenceError),
    /// A platform that is none.
    #[error("error parsing specified platform: {0}")]
    Platform(PlatformError),
    #[error("Error response from daemon: invalid restart policy '{0}'")]
    RestartPolicy(String),
    #[error("Error response from daemon: invalid {version} address: {text}")]
    EndpointAddress { version: &'static str, text: String },
    #[error("Error response from daemon: No command specified")]
    NoCommand,
    /// What docker's daemon would refuse.
    #[error("Error response from daemon: {0}")]
    Check(#[from] CheckError),
    /// A mode that docker's daemon would refuse.
    #[error("Error response from daemon: {0}")]
    UnknownMode(#[from] UnknownMode),
}

impl OptionError {
    /// Whether docker's client says this itself, before it asks its daemon.
    pub fn is_said_by_client(&self) -> bool {
        !matches!(
            self,
            Self::Reference(_)
                | Self::Platform(_)
                | Self::RestartPolicy(_)
                | Self::EndpointAddress { .. }
                | Self::NoCommand
                | Self::Check(_)
                | Self::UnknownMode(_)
        )
    }

    /// What is printed, for a command such as `create`.
    pub fn text(&self, command: &str) -> String {
        let advice = format!("Run 'cove {command} --help' for more information");
        match (self.is_said_by_client(), command) {
            (true, _) => format!("cove: {self}\n\n{advice}"),
            // `run` says that whatever stops it is its own, not the program's.
            (false, "run") => format!("cove: {self}\n\n{advice}"),
            (false, _) => self.to_string(),
        }
    }

    /// The exit status: 125 always of `run`, whose other statuses are the program's.
    pub fn status(&self, command: &str) -> u8 {
        if command == "run" || self.is_said_by_client() { 125 } else { 1 }
    }
}

/// An error of the system in its own words, without the number that Rust adds.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}
