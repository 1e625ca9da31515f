//! What a container does: written by its monitor at every change, and by nobody else while that lives.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::Health;

/// What `docker ps` tells in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It was never started.
    Created,
    /// Its process runs.
    Running,
    /// Its processes stand still.
    Paused,
    /// It has ended and begins again after a while.
    Restarting,
    /// It has ended.
    Exited,
    /// It is being removed.
    Removing,
    /// It could not be removed.
    Dead,
}

impl Status {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Restarting => "restarting",
            Status::Exited => "exited",
            Status::Removing => "removing",
            Status::Dead => "dead",
        }
    }

    /// Whether a process of the container is there.
    pub fn is_running(self) -> bool {
        matches!(self, Status::Running | Status::Paused)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a container does, or how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// In one word.
    pub status: Status,
    /// Number of its first process while that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Number of the monitor while that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<i32>,
    /// The machine's start in which this was written (`/proc/sys/kernel/random/boot_id`).
    #[serde(default)]
    pub boot: String,
    /// When its process last began.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub started_at: Option<OffsetDateTime>,
    /// When its process last ended.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<OffsetDateTime>,
    /// How its process last ended: its status, or 128 + the signal's number. 127, 126 and 128: it could not begin.
    #[serde(default)]
    pub exit_code: i32,
    /// Why it could not begin, or what became of its monitor.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Whether the kernel has killed one of its processes for want of memory.
    #[serde(default, rename = "oomKilled")]
    pub oom_killed: bool,
    /// How often it was started again by its restart policy.
    #[serde(default)]
    pub restart_count: u32,
    /// Whether a user has ended it: `always` starts it at the machine's next start, `unless-stopped` does not.
    #[serde(default)]
    pub stopped_by_user: bool,
    /// How well it is, if that is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

impl State {
    /// Of a container that was never started.
    pub fn created() -> Self {
        Self {
            status: Status::Created,
            pid: None,
            monitor: None,
            boot: String::new(),
            started_at: None,
            finished_at: None,
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            restart_count: 0,
            stopped_by_user: false,
            health: None,
        }
    }
}

/// The machine's start.
///
/// # Errors
/// No `/proc`.
pub fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
