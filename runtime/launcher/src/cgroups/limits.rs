//! Limits as what they are to the kernel: values for files of cgroups, in the order in which they must be written.
//!
//! `v1` and `v2` beside this file translate `linux.resources`; this one writes.

pub(super) mod v1;
pub(super) mod v2;

use std::borrow::Cow;

use oci_spec::runtime::{LinuxCpu, LinuxRdma, LinuxResources};

use super::CgroupError;
use super::folder::{Folder, is_missing};

/// A value for a file of a controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) controller: &'static str,
    /// Files and values: the first file that is there takes its value.
    pub(super) tries: Vec<(Cow<'static, str>, String)>,
    /// Whether it does not matter that none of the files is there.
    pub(super) is_optional: bool,
    /// Whether a value that is refused may be right once the settings after it are made.
    pub(super) may_wait: bool,
}

impl Setting {
    fn new(controller: &'static str, file: impl Into<Cow<'static, str>>, value: impl ToString) -> Setting {
        let tries = vec![(file.into(), value.to_string())];
        Setting { controller, tries, is_optional: false, may_wait: false }
    }

    fn or(mut self, file: impl Into<Cow<'static, str>>, value: impl ToString) -> Setting {
        self.tries.push((file.into(), value.to_string()));
        self
    }

    fn optional(mut self) -> Setting {
        self.is_optional = true;
        self
    }

    fn waiting(mut self) -> Setting {
        self.may_wait = true;
        self
    }
}

/// Makes the settings. `folder` gives the cgroup in which a controller has its files.
pub(super) fn apply<'a>(settings: &[Setting], folder: &dyn Fn(&str) -> Option<&'a Folder>) -> Result<(), CgroupError> {
    let mut waiting = Vec::new();
    for setting in settings {
        let Some(folder) = folder(setting.controller) else {
            if setting.is_optional {
                continue;
            }
            return Err(CgroupError::NoController { controller: setting.controller.to_owned() });
        };
        match write(setting, folder) {
            Err(CgroupError::Write { source, .. })
                if setting.may_wait && source.raw_os_error() == Some(libc::EINVAL) =>
            {
                waiting.push((setting, folder));
            }
            result => result?,
        }
    }
    waiting.into_iter().try_for_each(|(setting, folder)| write(setting, folder))
}

fn write(setting: &Setting, folder: &Folder) -> Result<(), CgroupError> {
    let mut missing = None;
    for (file, value) in &setting.tries {
        match folder.try_write(file, value) {
            Ok(()) => return Ok(()),
            Err(error) if is_missing(&error) => {
                missing.get_or_insert_with(|| folder.not_written(file, value, error));
            }
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && is_memory_limit(file) => {
                return Err(memory_in_use(folder, value));
            }
            Err(error) => return Err(folder.not_written(file, value, error)),
        }
    }
    match missing {
        Some(error) if !setting.is_optional => Err(error),
        _ => Ok(()),
    }
}

fn is_memory_limit(file: &str) -> bool {
    file == "memory.limit_in_bytes"
}

/// The kernel says "busy" to a limit that is lower than what is in use and cannot be freed.
fn memory_in_use(folder: &Folder, limit: &str) -> CgroupError {
    let number = |file| folder.try_read(file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default();
    CgroupError::MemoryInUse {
        limit: limit.to_owned(),
        usage: number("memory.usage_in_bytes"),
        peak: number("memory.max_usage_in_bytes"),
    }
}

/// The controllers that resources have limits for, as the given version calls them. For those who can give none.
pub(super) fn first_controller(settings: &[Setting]) -> Option<&'static str> {
    settings.iter().find(|setting| !setting.is_optional).map(|setting| setting.controller)
}

/// Values below zero mean no limit.
fn max_or(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

/// The setting that makes a cgroup idle, or the one that ends that.
fn idle(cpu: &LinuxCpu) -> (Option<Setting>, Option<Setting>) {
    let setting = cpu.idle().map(|idle| Setting::new("cpu", "cpu.idle", idle));
    if cpu.idle() == Some(0) { (None, setting) } else { (setting, None) }
}

/// `rdma.max` has a line for each device.
fn rdma(resources: &LinuxResources) -> impl Iterator<Item = Setting> + '_ {
    let mut devices: Vec<(&String, &LinuxRdma)> = resources.rdma().iter().flatten().collect();
    devices.sort_by_key(|(name, _)| *name);
    devices.into_iter().filter_map(|(name, limits)| {
        let handles = limits.hca_handles().map(|limit| format!(" hca_handle={limit}"));
        let objects = limits.hca_objects().map(|limit| format!(" hca_object={limit}"));
        let limits = handles.unwrap_or_default() + &objects.unwrap_or_default();
        (!limits.is_empty()).then(|| Setting::new("rdma", "rdma.max", format!("{name}{limits}")))
    })
}

/// What was asked for and has no effect here, in a sentence each.
pub(super) fn warnings(resources: &LinuxResources, is_unified: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(memory) = resources.memory() {
        #[allow(deprecated)]
        let kernel = [memory.kernel(), memory.kernel_tcp()];
        if kernel.iter().flatten().any(|limit| *limit != 0) {
            warnings.push("Kernel memory settings are ignored: the kernel counts them as memory".to_owned());
        }
        if is_unified && memory.swappiness().is_some() {
            warnings.push("memory.swappiness is ignored: cgroup v2 has none".to_owned());
        }
        if is_unified && memory.disable_oom_killer() == Some(true) {
            warnings.push("memory.disableOOMKiller is ignored: cgroup v2 has none".to_owned());
        }
    }
    if is_unified {
        let realtime = resources.cpu().as_ref().map(|cpu| (cpu.realtime_period(), cpu.realtime_runtime()));
        if realtime.is_some_and(|(period, time)| period.unwrap_or(0) != 0 || time.unwrap_or(0) != 0) {
            warnings.push("cpu.realtimePeriod and cpu.realtimeRuntime are ignored: cgroup v2 has none".to_owned());
        }
        if resources.network().as_ref().is_some_and(|network| network.class_id().is_some()) {
            warnings.push("network.classID is ignored: cgroup v2 has none".to_owned());
        }
    }
    warnings
}
