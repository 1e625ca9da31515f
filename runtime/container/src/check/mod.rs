//! What docker's daemon refuses, completes and warns of before it makes a container, in its words. Nothing here looks at an
//! image or at other containers.

mod capabilities;
mod kernel;
mod limits;
mod network;
mod security;

pub use capabilities::{DEFAULT as DEFAULT_CAPABILITIES, bounding_set, granted as granted_capabilities};
pub use kernel::{CgroupVersion, Kernel};
pub use limits::{check as check_limits, cpu_list};
pub use security::{Security, security};

use thiserror::Error;

use crate::config::{CgroupnsMode, Config, HostConfig, IpcMode, NetworkMode, PidMode, RestartCondition};
use crate::mounts::MountError;

/// Paths in a container that say too much about the host.
pub const MASKED_PATHS: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
/// Paths in a container through which the host could be changed.
pub const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Refuses what is no name of a container.
pub fn check_name(name: &str) -> Result<(), CheckError> {
    let letters = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-');
    let bare = name.strip_prefix('/').unwrap_or(name);
    let starts_well = bare.starts_with(|letter: char| letter.is_ascii_alphanumeric());
    match bare.len() > 1 && starts_well && bare.chars().all(letters) {
        true => Ok(()),
        false => Err(CheckError::Name(name.to_owned())),
    }
}

/// Why a container cannot be made, in the words of docker's daemon.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs)] // each is its text
pub enum CheckError {
    #[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    Name(String),
    #[error("the working directory '{0}' is invalid, it needs to be an absolute path")]
    WorkingDir(String),
    #[error("Invalid signal: {0}")]
    Signal(String),
    #[error("{0} in Healthcheck cannot be less than 1ms")]
    HealthSpan(&'static str),
    #[error("Retries in Healthcheck cannot be negative")]
    HealthRetries,
    #[error("maximum retry count cannot be used with restart policy '{0}'")]
    RetryCount(&'static str),
    #[error("maximum retry count cannot be negative")]
    NegativeRetryCount,
    #[error("can't create 'AutoRemove' container with restart policy")]
    RestartAndRemove,
    #[error("Invalid isolation: {0:?} - linux only supports 'default'")]
    Isolation(String),
    #[error("invalid {list}: unknown capability: {name:?}")]
    Capability { list: &'static str, name: String },
    #[error("invalid --security-opt 2: {0:?}")]
    Security(String),
    #[error("Decoding seccomp profile failed: {0}")]
    SeccompProfile(String),
    #[error("Invalid network mode: invalid container format container:<name|id>")]
    NetworkContainer,
    #[error("conflicting options: {0}")]
    Conflict(&'static str),
    #[error("Minimum memory limit allowed is 6MB")]
    Memory,
    #[error("Minimum memoryswap limit should be larger than memory limit, see usage")]
    MemorySwap,
    #[error("You should always set the Memory limit when using Memoryswap limit, see usage")]
    SwapWithoutMemory,
    #[error("Invalid value: {0}, valid memory swappiness range is 0-100")]
    Swappiness(i64),
    #[error("Minimum memory reservation allowed is 6MB")]
    Reservation,
    #[error("Minimum memory limit can not be less than memory reservation limit, see usage")]
    ReservationAboveMemory,
    #[error("Conflicting options: Nano CPUs and CPU {0} cannot both be set")]
    CpusAnd(&'static str),
    #[error("Range of CPUs is from 0.01 to {0}.00, as there are only {0} CPUs available")]
    Cpus(usize),
    #[error("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")]
    CpuPeriod,
    #[error("CPU cfs quota can not be less than 1ms (i.e. 1000)")]
    CpuQuota,
    #[error("Invalid value {0} for cpuset {1}: invalid format: {0}")]
    CpuSet(String, &'static str),
    #[error("Requested {what} are not available - requested {asked}, available: {available}")]
    CpuSetAbsent { what: &'static str, asked: String, available: String },
    #[error("Range of blkio weight is from 10 to 1000")]
    BlkioWeight,
    #[error("Invalid value {0}, range for oom score adj is [-1000, 1000]")]
    OomScore(i64),
    #[error("SHM size can not be less than 0")]
    ShmSize,
    #[error("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")]
    Storage,
    #[error("error looking up logging plugin {0}: plugin {0:?} not found: use json-file or none")]
    LogDriver(String),
    #[error("unknown log opt '{option}' for {driver} log driver")]
    LogOption { option: String, driver: String },
    #[error("invalid value for {option}: {value:?}: write {expected}")]
    LogValue { option: String, value: String, expected: &'static str },
    #[error(transparent)]
    Mount(#[from] MountError),
}

/// Refuses what cannot be, completes what depends on the machine, and tells what is ignored.
pub fn check(config: &mut Config, host: &mut HostConfig, kernel: &Kernel) -> Result<Vec<String>, CheckError> {
    let mut warnings = Vec::new();
    network::check(config, host, &mut warnings)?;
    check_config(config)?;
    check_restart(host)?;
    if !matches!(host.isolation.to_ascii_lowercase().as_str(), "" | "default") {
        return Err(CheckError::Isolation(host.isolation.clone()));
    }
    capabilities::complete("CapAdd", &mut host.cap_add)?;
    capabilities::complete("CapDrop", &mut host.cap_drop)?;
    limits::check(host, kernel, &mut warnings)?;
    check_log(host)?;
    if !host.storage_opt.is_empty() {
        return Err(CheckError::Storage);
    }
    security(&host.security_opt)?;
    crate::mounts::requested(config, host)?;
    for text in &host.volumes_from {
        crate::mounts::volumes_from(text)?;
    }
    complete(config, host, kernel);
    Ok(warnings)
}

fn check_config(config: &mut Config) -> Result<(), CheckError> {
    if !config.working_dir.is_empty() {
        if !config.working_dir.starts_with('/') {
            return Err(CheckError::WorkingDir(config.working_dir.clone()));
        }
        config.working_dir = crate::mounts::clean(&config.working_dir);
    }
    if !config.stop_signal.is_empty() && signal(&config.stop_signal).is_none() {
        return Err(CheckError::Signal(config.stop_signal.clone()));
    }
    let Some(health) = &config.healthcheck else { return Ok(()) };
    let spans = [
        (health.interval, "Interval"),
        (health.timeout, "Timeout"),
        (health.start_period, "StartPeriod"),
        (health.start_interval, "StartInterval"),
    ];
    if let Some((_, name)) = spans.iter().find(|(span, _)| *span != 0 && *span < 1_000_000) {
        return Err(CheckError::HealthSpan(name));
    }
    if health.retries < 0 { Err(CheckError::HealthRetries) } else { Ok(()) }
}

/// The number of a signal by name, with or without `SIG`, or by number, as docker reads it.
pub fn signal(text: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    if let Ok(number) = text.parse::<i32>() {
        return (number != 0).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let alias = match name {
        "IOT" => "ABRT",
        "CLD" => "CHLD",
        "POLL" => "IO",
        other => other,
    };
    if let Some(at) = NAMES.iter().position(|known| *known == alias) {
        return i32::try_from(at + 1).ok();
    }
    let (first, last) = (34, 64);
    match name.strip_prefix("RTMIN").or_else(|| name.strip_prefix("RTMAX")) {
        Some("") => Some(if name.starts_with("RTMIN") { first } else { last }),
        Some(offset) => {
            let number: i32 = offset.parse().ok()?;
            let number = if name.starts_with("RTMIN") { first + number } else { last + number };
            (first..=last).contains(&number).then_some(number)
        }
        None => None,
    }
}

fn check_restart(host: &HostConfig) -> Result<(), CheckError> {
    let policy = host.restart_policy;
    let name = match policy.name {
        RestartCondition::No => "no",
        RestartCondition::Always => "always",
        RestartCondition::UnlessStopped => "unless-stopped",
        RestartCondition::OnFailure => "",
    };
    if host.auto_remove && policy.name != RestartCondition::No {
        return Err(CheckError::RestartAndRemove);
    }
    if policy.maximum_retry_count != 0 && policy.name != RestartCondition::OnFailure {
        return Err(CheckError::RetryCount(name));
    }
    if policy.maximum_retry_count < 0 { Err(CheckError::NegativeRetryCount) } else { Ok(()) }
}

fn check_log(host: &HostConfig) -> Result<(), CheckError> {
    let log = &host.log_config;
    match log.kind.as_str() {
        "none" => return Ok(()),
        "json-file" => {}
        other => return Err(CheckError::LogDriver(other.to_owned())),
    }
    const KNOWN: [&str; 8] = ["max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"];
    match log.config.keys().find(|option| !KNOWN.contains(&option.as_str()) && !is_mode_option(option)) {
        Some(option) => Err(CheckError::LogOption { option: option.clone(), driver: log.kind.clone() }),
        None => Ok(()),
    }
}

/// Whether output may wait for its reader: every driver of docker knows these two.
fn is_mode_option(option: &str) -> bool {
    matches!(option, "mode" | "max-buffer-size")
}

/// What docker's daemon writes into the record where nothing was asked for.
fn complete(config: &mut Config, host: &mut HostConfig, kernel: &Kernel) {
    if host.network_mode == NetworkMode::Host && config.hostname.is_empty() {
        config.hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    }
    host.pids_limit = host.pids_limit.filter(|limit| *limit > 0);
    // What sees the host's processes cannot be kept apart from them by labels.
    if host.privileged || host.ipc_mode == IpcMode::Host || host.pid_mode == PidMode::Host {
        let disable = "label=disable".to_owned();
        if !host.security_opt.contains(&disable) {
            host.security_opt.push(disable);
        }
    }
    if host.cgroupns_mode == CgroupnsMode::Default {
        host.cgroupns_mode = match kernel.cgroup_version() {
            CgroupVersion::One => CgroupnsMode::Host,
            CgroupVersion::Two => CgroupnsMode::Private,
        };
    }
    if !host.privileged {
        let owned = |paths: &[&str]| Some(paths.iter().map(|path| (*path).to_owned()).collect());
        host.masked_paths = host.masked_paths.take().or_else(|| owned(&MASKED_PATHS));
        host.readonly_paths = host.readonly_paths.take().or_else(|| owned(&READONLY_PATHS));
    }
}

#[cfg(test)]
mod tests;
