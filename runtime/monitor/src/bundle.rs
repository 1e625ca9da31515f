//! `config.json`, written for the runtime.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use cove_container::check::{Kernel, bounding_set};
use cove_container::config::{IpcMode, PidMode};
use cove_container::spec::{Bind, Facts, Rootless, build, identity};
use cove_container::{ContainerId, Record};
use rustix::fs::{Mode, OFlags};
use serde_json::value::RawValue;

use crate::Error;
use crate::names::NameFiles;
use crate::network::{NamespaceOf, Places};
use crate::process;

/// Where the memory that another container shares is mounted, in the folder of the bundle.
pub(crate) const SHARED_MEMORY: &str = "shm";

/// Where `--init` is in the container.
const INIT: &str = "/sbin/docker-init";

/// What was found out or made for this start.
pub(crate) struct Known<'a> {
    pub(crate) network: &'a NamespaceOf,
    pub(crate) files: &'a NameFiles,
    pub(crate) binds: Vec<Bind>,
    pub(crate) link_environment: Vec<String>,
}

/// Writes the file into a folder.
pub(crate) fn write(
    folder: &Path,
    root: &Path,
    record: &Record,
    known: Known<'_>,
    places: &Places<'_>,
) -> Result<(), Error> {
    let (config, host) = (&record.config, &record.host_config);
    let root_folder = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let root_folder = root_folder.map_err(Error::system("open the container's root"))?;
    let kernel = Kernel::read();
    let rootless = cove_launcher::is_rootless();
    let Known { network, files, mut binds, link_environment } = known;
    if host.init == Some(true) {
        binds.push(init(places)?);
    }
    let facts = Facts {
        root: root.to_owned(),
        identity: identity(root_folder.as_fd(), &config.user, &host.group_add)?,
        binds,
        hosts: Some(files.hosts.clone()),
        hostname_file: Some(files.hostname.clone()),
        resolv_conf: Some(files.resolv_conf.clone()),
        // An ordinary user has none: of version 1 never, of version 2 only where somebody has given him one.
        cgroup: (!rootless).then(|| cgroup(&host.cgroup_parent, &record.id)),
        network: match network {
            NamespaceOf::Path(path) => Some(path.into()),
            NamespaceOf::Host => None,
        },
        pid: match &host.pid_mode {
            PidMode::Container(other) => Some(places.namespace_of(other, "pid")?),
            PidMode::Private | PidMode::Host => None,
        },
        ipc: match &host.ipc_mode {
            IpcMode::Container(other) => {
                places.check_ipc(other)?;
                Some(places.namespace_of(other, "ipc")?)
            }
            _ => None,
        },
        shm: match &host.ipc_mode {
            // What that container sees there.
            IpcMode::Container(other) => {
                let at = folder.join(SHARED_MEMORY);
                process::mount_of(places.process_of(other)?, "/dev/shm", &at)?;
                Some(at)
            }
            _ => None,
        },
        init: PathBuf::from(INIT),
        cgroup_version: kernel.cgroup_version(),
        rootless: rootless.then(|| Rootless {
            has_cgroup: false,
            has_many_ids: has_many_ids(),
            oom_score_adj: read_number("/proc/self/oom_score_adj"),
        }),
        bounding: bounding_set(),
        default_profile: &default_profile,
        link_environment,
    };
    let spec = build(config, host, &facts)?;
    let text = serde_json::to_vec(&spec).map_err(Error::system("write config.json"))?;
    std::fs::write(folder.join("config.json"), text).map_err(Error::system("write config.json"))
}

/// Our own program as the container's first process: a copy, for what runs there may be able to write to it.
fn init(places: &Places<'_>) -> Result<Bind, Error> {
    let copy = places.run.join("init");
    if !copy.exists() {
        let unfinished = places.run.join(format!("init.{}", rustix::process::getpid().as_raw_nonzero()));
        std::fs::copy("/proc/self/exe", &unfinished)
            .and_then(|_| std::fs::rename(&unfinished, &copy))
            .map_err(Error::system("copy the init program"))?;
    }
    Ok(Bind { source: copy, destination: INIT.into(), is_writable: false, propagation: None, is_recursive: false })
}

fn cgroup(parent: &str, id: &ContainerId) -> PathBuf {
    let parent = if parent.is_empty() { cove_container::cgroups::PARENT } else { parent };
    // Not relative to the cgroups of whoever has started us: those may be others in each hierarchy, and nobody would find it.
    Path::new("/").join(parent).join(id.as_str())
}

/// Docker's default profile for a process with these capabilities.
fn default_profile(granted: &[String]) -> Option<Box<RawValue>> {
    let has = |capability: oci_spec::runtime::Capability| {
        granted.iter().any(|name| name.strip_prefix("CAP_").is_some_and(|name| capability.to_string() == name))
    };
    serde_json::value::to_raw_value(&cove_launcher::seccomp::default_profile(has)).ok()
}

/// Whether other ids than our own are mapped here.
fn has_many_ids() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.lines().filter_map(|line| line.split_ascii_whitespace().nth(2)?.parse::<u64>().ok()).sum::<u64>() > 1
}

fn read_number(path: &str) -> i64 {
    std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
