//! `process`: what runs, as whom, with which environment, and what it may do.

use oci_spec::runtime::User;

use super::Facts;
use super::document::{Capabilities, Process, Rlimit};
use crate::check::Security;
use crate::config::{Config, HostConfig, PidMode};

/// Where programs are looked for if neither image nor options say.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn process(
    config: &Config,
    host: &HostConfig,
    facts: &Facts<'_>,
    security: &Security,
    granted: &[String],
) -> Process {
    let identity = &facts.identity;
    let mut user = User::default();
    user.set_uid(identity.uid);
    user.set_gid(identity.gid);
    user.set_additional_gids(Some(identity.additional_gids.clone()));
    let mut args: Vec<String> = Vec::new();
    // Whoever is not the first process has nothing to reap.
    if host.init == Some(true) && matches!(host.pid_mode, PidMode::Private) {
        args.extend([facts.init.display().to_string(), "--".to_owned()]);
    }
    args.extend(config.entrypoint.iter().chain(&config.cmd).cloned());
    let apparmor = security.apparmor.clone().filter(|profile| profile != "unconfined" && !host.privileged);
    Process {
        terminal: config.tty,
        user,
        args,
        env: environment(config, &facts.link_environment),
        cwd: if config.working_dir.is_empty() { "/".to_owned() } else { config.working_dir.clone() },
        capabilities: capabilities(identity.uid, granted),
        rlimits: host.ulimits.iter().map(rlimit).collect(),
        no_new_privileges: security.no_new_privileges,
        apparmor_profile: apparmor,
        oom_score_adj: match facts.rootless {
            // Only root makes a process less likely to be killed.
            Some(rootless) => host.oom_score_adj.max(rootless.oom_score_adj),
            None => host.oom_score_adj,
        },
    }
}

/// What the container's processes find in their environment: docker's own, then those of links, then what was asked for. A name
/// without `=` takes away what stood before. `HOME` is the runtime's to add.
pub fn environment(config: &Config, links: &[String]) -> Vec<String> {
    let mut all = vec![DEFAULT_PATH.to_owned()];
    if !config.hostname.is_empty() {
        all.push(format!("HOSTNAME={}", config.hostname));
    }
    if config.tty {
        all.push("TERM=xterm".to_owned());
    }
    all.extend(links.iter().cloned());
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    for variable in &config.env {
        let before = all.iter().position(|known| name(known) == name(variable));
        match (before, variable.contains('=')) {
            (Some(at), true) => all[at].clone_from(variable),
            (None, true) => all.push(variable.clone()),
            (Some(at), false) => drop(all.remove(at)),
            (None, false) => {}
        }
    }
    all
}

/// An ordinary user gets nothing but what he may take by programs that give it.
fn capabilities(uid: u32, granted: &[String]) -> Capabilities {
    let active = if uid == 0 { granted.to_vec() } else { Vec::new() };
    Capabilities { bounding: granted.to_vec(), effective: active.clone(), permitted: active }
}

pub(super) fn rlimit(ulimit: &crate::config::Ulimit) -> Rlimit {
    // -1, no limit, is the largest number to the kernel.
    Rlimit {
        kind: format!("RLIMIT_{}", ulimit.name.to_ascii_uppercase()),
        hard: ulimit.hard.cast_unsigned(),
        soft: ulimit.soft.cast_unsigned(),
    }
}
