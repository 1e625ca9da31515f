//! `cove update`: other limits, also for a container that runs.

use cove_container::check::{Kernel, check_limits};
use cove_container::config::{HostConfig, RestartCondition};
use cove_container::events::Event;
use cove_container::protocol::Message;
use cove_container::spec::refuse_limits;
use cove_container::{Container, Record};
use cove_engine::user_namespace;

use crate::arguments::Update;
use crate::containers::{ask, ask_runtime};
use crate::context::Context;
use crate::error::Error;
use crate::options::{OptionError, restart_policy};

/// Docker's period for `--cpus`, in microseconds.
const PERIOD: i64 = 100_000;

/// Changes containers' limits and restart policies.
pub fn run(context: &Context, arguments: &Update) -> Result<(), Error> {
    if !arguments.asks_for_something() {
        return Err(Error::Options("you must provide one or more flags when using this command"));
    }
    super::each(context, &arguments.containers, |_, container| {
        for warning in update(container, arguments)? {
            context.printer.note(format!("WARNING: {warning}"));
        }
        context.tell(&Event::of_container(&container.record()?, "update", &[]));
        Ok(())
    })
}

/// Changes one; gives back what is to be warned of.
fn update(container: &Container, arguments: &Update) -> Result<Vec<String>, Error> {
    let _lock = container.lock_exclusive()?;
    let record = container.record()?;
    let cannot = |text: String| Error::Refused(format!("Cannot update container {}: {text}", container.id()));
    let mut host = record.host_config.clone();
    let mut warnings = Vec::new();
    arguments.apply_policy(&mut host).map_err(|error| match error {
        Refusal::Option(error) => error.into(),
        Refusal::Conflict(text) => cannot(text.to_owned()),
    })?;
    arguments.check_alone()?;
    if let Some(text) = arguments.conflict(&record.host_config) {
        return Err(cannot(text.to_owned()));
    }
    arguments.apply_limits(&mut host);
    check_limits(&mut host, &Kernel::read(), &mut warnings).map_err(OptionError::from)?;
    if user_namespace::is_own() {
        refuse_limits(&host).map_err(|error| cannot(error.to_string()))?;
    }
    let is_running = container.state()?.0.status.is_running();
    let changed = Record { host_config: host, ..record.clone() };
    // First what the kernel may refuse: then nothing has changed.
    if is_running {
        limit(container, &record, &changed.host_config).map_err(|error| match error {
            Error::Refused(text) => cannot(text),
            other => other,
        })?;
    }
    container.write_record(&changed)?;
    ask(container, &Message::Reload)?;
    Ok(warnings)
}

/// Why a policy cannot be had.
enum Refusal {
    Option(OptionError),
    Conflict(&'static str),
}

impl Update {
    fn asks_for_something(&self) -> bool {
        let numbers = [
            self.cpu_period,
            self.cpu_quota,
            self.cpu_rt_period,
            self.cpu_rt_runtime,
            self.cpu_shares,
            self.cpus,
            self.memory,
            self.memory_reservation,
            self.memory_swap,
            self.pids_limit,
        ];
        let texts = [&self.cpuset_cpus, &self.cpuset_mems, &self.restart];
        self.blkio_weight.is_some() || numbers.iter().any(Option::is_some) || texts.iter().any(|text| text.is_some())
    }

    fn apply_policy(&self, host: &mut HostConfig) -> Result<(), Refusal> {
        let Some(text) = self.restart.as_deref().filter(|text| !text.is_empty()) else { return Ok(()) };
        let policy = restart_policy(text).map_err(Refusal::Option)?;
        if host.auto_remove && policy.name != RestartCondition::No {
            return Err(Refusal::Conflict(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            ));
        }
        host.restart_policy = policy;
        Ok(())
    }

    /// What is wrong whatever the container is.
    fn check_alone(&self) -> Result<(), Error> {
        let mut asked = HostConfig::default();
        self.apply_limits(&mut asked);
        // Whether it goes with what the container has is asked later.
        if asked.memory == 0 && asked.memory_swap > 0 {
            asked.memory_swap = 0;
        }
        check_limits(&mut asked, &Kernel::read(), &mut Vec::new()).map_err(OptionError::from)?;
        Ok(())
    }

    /// What does not go with what the container has.
    fn conflict(&self, host: &HostConfig) -> Option<&'static str> {
        let asked = |value: Option<i64>| value.is_some_and(|value| value > 0);
        if asked(self.cpus) && host.cpu_period > 0 {
            return Some("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set");
        }
        if asked(self.cpus) && host.cpu_quota > 0 {
            return Some("Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set");
        }
        if asked(self.cpu_period) && host.nano_cpus > 0 {
            return Some("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set");
        }
        if asked(self.cpu_quota) && host.nano_cpus > 0 {
            return Some("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set");
        }
        let has_swap = self.memory_swap.is_some_and(|swap| swap != 0);
        if !has_swap && self.memory.is_some_and(|memory| memory > host.memory_swap) {
            return Some(
                "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
            );
        }
        None
    }

    /// As docker: 0 leaves things as they are.
    fn apply_limits(&self, host: &mut HostConfig) {
        let set = |field: &mut i64, value: Option<i64>| {
            if let Some(value) = value.filter(|value| *value != 0) {
                *field = value;
            }
        };
        set(&mut host.cpu_period, self.cpu_period);
        set(&mut host.cpu_quota, self.cpu_quota);
        set(&mut host.cpu_realtime_period, self.cpu_rt_period);
        set(&mut host.cpu_realtime_runtime, self.cpu_rt_runtime);
        set(&mut host.cpu_shares, self.cpu_shares);
        set(&mut host.nano_cpus, self.cpus);
        set(&mut host.memory, self.memory);
        set(&mut host.memory_reservation, self.memory_reservation);
        set(&mut host.memory_swap, self.memory_swap);
        if let Some(weight) = self.blkio_weight.filter(|weight| *weight != 0) {
            host.blkio_weight = weight;
        }
        if let Some(limit) = self.pids_limit {
            host.pids_limit = Some(limit);
        }
        for (field, value) in [(&mut host.cpuset_cpus, &self.cpuset_cpus), (&mut host.cpuset_mems, &self.cpuset_mems)] {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                field.clone_from(value);
            }
        }
    }
}

/// Tells the runtime which limits are others than before.
fn limit(container: &Container, record: &Record, now: &HostConfig) -> Result<(), Error> {
    let before = flags(&record.host_config);
    let changed: Vec<(&str, String)> = flags(now).into_iter().filter(|flag| !before.contains(flag)).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let limits = changed.iter().map(|(name, value)| format!("--{name}={value}"));
    // One that has just ended has the limits from its next start on.
    ask_runtime(container, record, std::iter::once("update".to_owned()).chain(limits)).map(drop)
}

/// The limits, as runtimes name them.
fn flags(host: &HostConfig) -> Vec<(&'static str, String)> {
    let (period, quota) = match host.nano_cpus {
        0 => (host.cpu_period, host.cpu_quota),
        cpus => (PERIOD, cpus / (1_000_000_000 / PERIOD)),
    };
    let numbers = [
        ("memory", host.memory),
        ("memory-swap", host.memory_swap),
        ("memory-reservation", host.memory_reservation),
        ("cpu-period", period),
        ("cpu-quota", quota),
        ("cpu-rt-period", host.cpu_realtime_period),
        ("cpu-rt-runtime", host.cpu_realtime_runtime),
        ("cpu-share", host.cpu_shares),
        ("blkio-weight", host.blkio_weight.into()),
    ];
    let mut flags: Vec<(&str, String)> = numbers
        .into_iter()
        .filter(|(_, number)| *number != 0)
        .map(|(name, number)| (name, number.to_string()))
        .collect();
    if let Some(limit) = host.pids_limit {
        // Docker takes 0 for no limit, too.
        flags.push(("pids-limit", if limit > 0 { limit } else { -1 }.to_string()));
    }
    for (name, text) in [("cpuset-cpus", &host.cpuset_cpus), ("cpuset-mems", &host.cpuset_mems)] {
        if !text.is_empty() {
            flags.push((name, text.clone()));
        }
    }
    flags
}
