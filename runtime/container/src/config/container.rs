//! `Config`: what a container is, wherever it runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::null;

/// Docker's `ContainerConfig`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// Name in the UTS namespace; the first twelve digits of the id where none was asked for.
    pub hostname: String,
    /// NIS domain in the UTS namespace.
    pub domainname: String,
    /// Who it runs as: `name|uid[:group|gid]`; empty for root.
    pub user: String,
    /// Whether `start` connects our standard input.
    pub attach_stdin: bool,
    /// Whether `start` connects our standard output.
    pub attach_stdout: bool,
    /// Whether `start` connects our standard error.
    pub attach_stderr: bool,
    /// Ports that something listens on: `80/tcp`.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its standard input is a pipe or terminal that somebody may write to.
    pub open_stdin: bool,
    /// Whether its standard input ends when the first who wrote to it leaves.
    pub stdin_once: bool,
    /// `NAME=value` each.
    #[serde(deserialize_with = "null::read", serialize_with = "null::write")]
    pub env: Vec<String>,
    /// Program and arguments, or arguments behind `entrypoint`.
    #[serde(deserialize_with = "null::read", serialize_with = "null::write")]
    pub cmd: Vec<String>,
    /// How to tell whether it is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Whether `cmd` is already escaped for Windows.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub args_escaped: bool,
    /// The image, as it was named.
    pub image: String,
    /// Folders that get an anonymous volume.
    #[serde(deserialize_with = "null::read", serialize_with = "null::write")]
    pub volumes: BTreeMap<String, Empty>,
    /// Folder that it starts in; empty for `/`.
    pub working_dir: String,
    /// Program and first arguments.
    #[serde(deserialize_with = "null::read", serialize_with = "null::write")]
    pub entrypoint: Vec<String>,
    /// Whether it gets no network at all.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub network_disabled: bool,
    /// Ethernet address that was asked for.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub mac_address: String,
    /// Instructions for builds on top of a commit of it.
    #[serde(deserialize_with = "null::read", serialize_with = "null::write")]
    pub on_build: Vec<String>,
    /// What its owner wants to remember.
    #[serde(deserialize_with = "null::read")]
    pub labels: BTreeMap<String, String>,
    /// What `stop` sends first; empty for SIGTERM.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub stop_signal: String,
    /// How long `stop` waits before it kills, in seconds; -1 for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// What a `RUN` in shell form is given to.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub shell: Vec<String>,
}

/// The value of a set that is written as an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Empty {}

/// How to tell whether a container is well. Zero means docker's default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthConfig {
    /// `["NONE"]`, `["CMD", program, …]` or `["CMD-SHELL", line]`; empty: the image's.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub test: Vec<String>,
    /// From one check to the next, in nanoseconds.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub interval: i64,
    /// After how long a check has failed, in nanoseconds.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub timeout: i64,
    /// How long failures do not count after a start, in nanoseconds.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub start_period: i64,
    /// From one check to the next while failures do not count, in nanoseconds.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub start_interval: i64,
    /// How many failures in a row make it unhealthy.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub retries: i64,
}
