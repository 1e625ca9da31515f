//! What can go wrong with cgroups. The first line of a message has runc's words where callers look for them, the next
//! one says what to do.

use std::io;
use std::path::PathBuf;

use super::systemd::BusError;

/// What can go wrong with the cgroups of a container.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A file that tells where the cgroups are could not be read.
    #[error("open {}: {}", path.display(), words(source))]
    Host {
        /// The file below `/proc`.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A folder below the mounts of cgroups is in no cgroup file system.
    #[error(
        "{} is not on a cgroup file system\nsomething else is mounted there: unmount it, or mount the cgroups again",
        path.display()
    )]
    NotCgroup {
        /// The folder.
        path: PathBuf,
    },
    /// There is no cgroup file system that the container could be put into.
    #[error("cgroup mountpoint does not exist\nmount cgroup2 at /sys/fs/cgroup")]
    NoCgroups,
    /// A hierarchy that a container cannot do without is not mounted.
    #[error("mountpoint for {controller} not found\nmount this cgroup hierarchy of version 1 below /sys/fs/cgroup")]
    NoMount {
        /// Its controller.
        controller: &'static str,
    },
    /// `linux.cgroupsPath` means the root of the hierarchies.
    #[error("cgroupsPath {} is the root of the cgroups\ngive the container a cgroup of its own", path.display())]
    Root {
        /// The path.
        path: PathBuf,
    },
    /// `linux.cgroupsPath` is not what `--systemd-cgroup` wants.
    #[error("expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead")]
    SystemdPath {
        /// The path.
        path: String,
    },
    /// The first part of a path for systemd is not the name of a slice.
    #[error("invalid slice name: {slice}\nslices are named like `machine.slice` or `a-b.slice`")]
    Slice {
        /// The name.
        slice: String,
    },
    /// The container's cgroup has processes already.
    #[error("container's cgroup is not empty: {count} process(es) found\nend them, or choose another cgroupsPath: {}", path.display())]
    NotEmpty {
        /// How many.
        count: usize,
        /// The cgroup.
        path: PathBuf,
    },
    /// The container's cgroup is frozen before anything is in it.
    #[error("container's cgroup unexpectedly frozen\nthaw {} first", path.display())]
    Frozen {
        /// The cgroup.
        path: PathBuf,
    },
    /// A cgroup could not be made.
    #[error("mkdir {}: {}{}", path.display(), words(source), advice_for_right(source))]
    Make {
        /// The cgroup.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A cgroup or one of its files could not be opened.
    #[error("open {}: {}{}", path.display(), words(source), advice_for_right(source))]
    Open {
        /// The folder or file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A file of a cgroup could not be read.
    #[error("read {}: {}", path.display(), words(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A file of a cgroup has something else in it than the kernel writes there.
    #[error("unable to parse {}: {text:?}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is in it.
        text: String,
    },
    /// The kernel did not take a value.
    #[error("failed to write {value:?}: write {}: {}{}", path.display(), words(source), advice_for_value(path, source))]
    Write {
        /// The value.
        value: String,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The limit of memory is lower than what is in use.
    #[error(
        "unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})\n\
         give the container more, or free some of it first"
    )]
    MemoryInUse {
        /// Bytes asked for.
        limit: String,
        /// Bytes in use.
        usage: u64,
        /// The most bytes that were in use.
        peak: u64,
    },
    /// A limit for a controller that is not there.
    #[error(
        "cannot set {controller} limit: container could not join or create cgroup\n\
         the controller `{controller}` is not available here: enable it, or take the limit away"
    )]
    NoController {
        /// The controller.
        controller: String,
    },
    /// A limit that an ordinary user cannot set, for no cgroup is given to them.
    #[error(
        "cannot set {controller} limit: container could not join or create cgroup\n\
         an ordinary user has no cgroup of version 1: take the limits away, run as root, or start the machine with \
         `systemd.unified_cgroup_hierarchy=1`"
    )]
    RootlessV1 {
        /// The controller.
        controller: String,
    },
    /// A path or limits that need a cgroup that was not given to the user.
    #[error(
        "rootless needs no limits + no cgrouppath when no permission is granted for cgroups: mkdir {}: permission \
         denied\nhave systemd delegate one (`--systemd-cgroup`, or `systemd-run --user --scope -p Delegate=yes`)",
        path.display()
    )]
    RootlessV2 {
        /// The cgroup.
        path: PathBuf,
    },
    /// Controllers cannot be enabled for the children of a cgroup.
    #[error(
        "cannot enable the controllers {controllers} below {}: {}{}",
        path.display(), words(source), advice_for_enabling(source)
    )]
    NotEnabled {
        /// The cgroup whose children need them.
        path: PathBuf,
        /// The controllers, separated by spaces.
        controllers: String,
        /// The reason.
        source: io::Error,
    },
    /// A threaded cgroup, whose controllers cannot limit a container.
    #[error(
        "cannot enter cgroupv2 {} with domain controllers -- it is in {mode} mode\n\
         choose a cgroupsPath that is not below a threaded cgroup", path.display()
    )]
    Threaded {
        /// The cgroup.
        path: PathBuf,
        /// Its `cgroup.type`.
        mode: String,
    },
    /// `resources.unified` on version 1.
    #[error("invalid configuration: cannot use unified on cgroup v1\ntake `linux.resources.unified` away")]
    UnifiedOnV1,
    /// A key of `resources.unified` that is no name of a file.
    #[error("unified resource {key:?} must be a file name (no slashes)")]
    UnifiedName {
        /// The key.
        key: String,
    },
    /// A key of `resources.unified` without a controller.
    #[error("unified resource {key:?} must be in the form CONTROLLER.PARAMETER")]
    UnifiedForm {
        /// The key.
        key: String,
    },
    /// A key of `resources.unified` whose controller is not there.
    #[error("unified resource {key:?} can't be set: controller {controller:?} not available")]
    UnifiedController {
        /// The key.
        key: String,
        /// The controller.
        controller: String,
    },
    /// Fewer shares than the kernel gives.
    #[error("the minimum allowed cpu-shares is {0}")]
    SharesTooFew(u64),
    /// More shares than the kernel gives.
    #[error("the maximum allowed cpu-shares is {0}")]
    SharesTooMany(u64),
    /// A swap limit, which includes memory, without one for memory.
    #[error("unable to set swap limit without memory limit\ngive `memory.limit` too")]
    SwapAlone,
    /// A swap limit, which includes memory, that is lower than the one for memory.
    #[error("memory+swap limit should be >= memory limit")]
    SwapBelowMemory,
    /// A negative limit of memory other than -1, which is none.
    #[error("invalid memory value: {0}")]
    Memory(i64),
    /// Swappiness that is not a percentage.
    #[error("invalid memory swappiness value: {0} (valid range is 0-100)")]
    Swappiness(u64),
    /// A rule for devices that is none of the specification.
    #[error("invalid device cgroup rule {rule}: {reason}")]
    DeviceRule {
        /// The rule.
        rule: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A rule for devices that version 1 cannot express.
    #[error(
        "device cgroup rule {rule} makes an exception to {other}, which cgroup v1 cannot express\n\
         put the wider rule after the narrower one, or leave one of them out"
    )]
    DeviceException {
        /// The rule.
        rule: String,
        /// The wider rule.
        other: String,
    },
    /// The kernel did not take the program that decides about devices.
    #[error(
        "bpf_prog_{step} (BPF_CGROUP_DEVICE) failed: {}{}", words(source),
        if is_right(source) { "\nit wants CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, in the first user namespace" } else { "" }
    )]
    DeviceProgram {
        /// Which step: `load`, `attach`, `query` or `detach`.
        step: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// The container cannot be frozen, for it has no freezer.
    #[error("cannot freeze: the container has no freezer cgroup\nmount the hierarchy `freezer`, or use cgroup v2")]
    NoFreezer,
    /// Processes that do not freeze.
    #[error("unable to freeze\na process in {} has not stopped for {seconds} seconds; it is thawed again", path.display())]
    FreezeTimeout {
        /// The cgroup.
        path: PathBuf,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A process could not be signalled.
    #[error("kill {process}: {}", words(source))]
    Signal {
        /// Its id.
        process: i32,
        /// The reason.
        source: io::Error,
    },
    /// A cgroup could not be removed.
    #[error(
        "unable to remove cgroup {}: {}\nend the processes that are in it (`cgroup.procs`), then delete again",
        path.display(), words(source)
    )]
    Remove {
        /// The cgroup.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A cgroup could not be given to the container's root.
    #[error("chown {}: {}", path.display(), words(source))]
    Owner {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The process that keeps a scope of systemd alive until the container is in it could not be started.
    #[error("fork: {}", words(.0))]
    Placeholder(io::Error),
    /// systemd did not do what it was asked for.
    #[error(transparent)]
    Systemd(#[from] BusError),
}

/// The words of an error of the system as C and Go programs print them, which callers look for.
pub(super) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

fn is_right(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EROFS))
}

fn advice_for_right(error: &io::Error) -> &'static str {
    if is_right(error) { "\nrun as root, or in a cgroup that was delegated to this user" } else { "" }
}

fn advice_for_value(path: &std::path::Path, error: &io::Error) -> &'static str {
    let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match (file, error.raw_os_error()) {
        ("memory.limit_in_bytes", Some(libc::EINVAL)) => {
            "\nthe limit of memory may not exceed that of memory and swap: change both"
        }
        ("memory.memsw.limit_in_bytes", Some(libc::ENOENT)) => {
            "\nthis kernel does not account swap: leave `memory.swap` out, or start it with `swapaccount=1`"
        }
        ("cpu.rt_runtime_us", Some(libc::EINVAL)) => "\nthe cgroup above must have this much realtime itself",
        ("cpuset.cpus" | "cpuset.mems", Some(libc::EACCES | libc::EINVAL | libc::ENOSPC)) => {
            "\nthe cgroup above must have these itself"
        }
        ("devices.allow", Some(libc::EPERM)) => "\nthe cgroup above does not allow this device",
        (_, Some(libc::ENOENT)) => "\nthis kernel does not have this limit",
        _ => advice_for_right(error),
    }
}

fn advice_for_enabling(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EBUSY) => "\na cgroup with processes cannot share out controllers: move its processes to a child",
        Some(libc::ENOENT) => "\nthe cgroup above does not offer them",
        _ => advice_for_right(error),
    }
}
