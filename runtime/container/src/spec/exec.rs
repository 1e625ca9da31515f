//! A further process in a container that runs: what `exec` asks for, and what a health check needs.

use std::os::fd::BorrowedFd;

use super::document::{Capabilities, Process};
use super::process::{environment, rlimit};
use super::{SpecError, identity};
use crate::Record;
use crate::check::{bounding_set, granted_capabilities, security};
use crate::config::HostConfig;

/// What is asked for beyond the container's own settings.
#[derive(Debug, Clone, Default)]
pub struct Further {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables of the environment, `NAME=value` each, besides the container's.
    pub environment: Vec<String>,
    /// Variables that tell of the containers it has links to: [`Container::link_environment`](crate::Container::link_environment).
    pub link_environment: Vec<String>,
    /// Who it runs as, if not as the container's first process.
    pub user: Option<String>,
    /// Folder that it starts in, if not the container's.
    pub folder: Option<String>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Whether it gets every capability.
    pub privileged: bool,
}

/// Describes the process for the runtime. `root` is the container's root, where names of users are looked up.
///
/// # Errors
/// A user or a security option that nobody knows.
pub fn further_process(record: &Record, root: BorrowedFd<'_>, further: &Further) -> Result<Process, SpecError> {
    let (config, host) = (&record.config, &record.host_config);
    let identity = identity(root, further.user.as_deref().unwrap_or(&config.user), &host.group_add)?;
    let mut own = config.clone();
    own.tty = further.terminal;
    own.env.extend_from_slice(&further.environment);
    let all = bounding_set();
    let granted = match further.privileged {
        true => granted_capabilities(&HostConfig { privileged: true, ..host.clone() }, &all),
        false => granted_capabilities(host, &all),
    };
    let active = if identity.uid == 0 { granted.clone() } else { Vec::new() };
    let security = security(&host.security_opt)?;
    let mut user = oci_spec::runtime::User::default();
    user.set_uid(identity.uid);
    user.set_gid(identity.gid);
    user.set_additional_gids(Some(identity.additional_gids));
    let folder = further.folder.as_deref().unwrap_or(&config.working_dir);
    Ok(Process {
        terminal: further.terminal,
        user,
        args: further.command.clone(),
        env: environment(&own, &further.link_environment),
        cwd: if folder.is_empty() { "/".to_owned() } else { folder.to_owned() },
        capabilities: Capabilities { bounding: granted, effective: active.clone(), permitted: active },
        rlimits: host.ulimits.iter().map(rlimit).collect(),
        no_new_privileges: security.no_new_privileges,
        apparmor_profile: security.apparmor.filter(|profile| profile != "unconfined" && !host.privileged),
        oom_score_adj: host.oom_score_adj,
    })
}
