//! `config.json`: reads it, and refuses what cannot be before anything is done.
//!
//! The parts are oci-spec's types. Its `Spec` as a whole is not used: it brings a regular expression engine, which
//! doubles the size of a program that is copied at every start, and it would parse the seccomp profile, which is most of
//! the file and almost always known already (`seccomp::cached`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Box as ConsoleSize, Hooks, Linux, LinuxIOPriority, LinuxNamespaceType, Mount, PosixRlimit, Root, Scheduler, User,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Error;
use crate::capabilities::Asked;

/// The version of the specification that is followed.
pub const OCI_VERSION: &str = "1.2.1";
/// The file's name in a bundle.
pub const FILE: &str = "config.json";

/// runtime-spec, config.md.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Version of the specification that the file follows.
    #[serde(default)]
    pub oci_version: String,
    /// The root file system.
    pub root: Option<Root>,
    /// What is mounted besides, in this order.
    #[serde(default, deserialize_with = "or_default")]
    pub mounts: Vec<Mount>,
    /// What runs.
    pub process: Option<Process>,
    /// Name in the UTS namespace.
    #[serde(default, deserialize_with = "or_default")]
    pub hostname: String,
    /// NIS domain in the UTS namespace.
    #[serde(default, deserialize_with = "or_default")]
    pub domainname: String,
    /// Programs that are called on the way.
    pub hooks: Option<Hooks>,
    /// What the caller wants to remember.
    #[serde(default, deserialize_with = "or_default")]
    pub annotations: HashMap<String, String>,
    /// Everything that Linux has and others have not. Without the seccomp profile.
    #[serde(default, deserialize_with = "or_default")]
    pub linux: Linux,
    /// `linux.seccomp` as it stands in the file.
    #[serde(skip)]
    pub seccomp: Option<Box<RawValue>>,
}

/// runtime-spec, config.md, "Process".
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Whether it has a terminal.
    #[serde(default)]
    pub terminal: bool,
    /// Columns and rows of the terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// Who it runs as.
    #[serde(default)]
    pub user: User,
    /// Program and arguments.
    #[serde(default, deserialize_with = "or_default")]
    pub args: Vec<String>,
    /// `NAME=value` each.
    #[serde(default, deserialize_with = "or_default")]
    pub env: Vec<String>,
    /// Folder that it starts in.
    pub cwd: PathBuf,
    /// The five sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Asked>,
    /// Limits of setrlimit(2).
    #[serde(default, deserialize_with = "or_default")]
    pub rlimits: Vec<PosixRlimit>,
    /// Whether programs with the set-uid bit get nothing by it.
    #[serde(default, deserialize_with = "or_default")]
    pub no_new_privileges: bool,
    /// Profile of AppArmor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apparmor_profile: Option<String>,
    /// How willingly the kernel kills it when memory is short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// Label of SELinux.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selinux_label: Option<String>,
    /// ioprio_set(2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<LinuxIOPriority>,
    /// sched_setattr(2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// Processors that `exec` runs on.
    #[serde(default, rename = "execCPUAffinity", skip_serializing_if = "Option::is_none")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

/// runtime-spec, config.md, "execCPUAffinity": lists such as `0-3,7`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CpuAffinity {
    /// Before the process joins the container's cgroup.
    #[serde(default)]
    pub initial: Option<String>,
    /// Once it has.
    #[serde(default, rename = "final")]
    pub last: Option<String>,
}

/// The file below `/proc/sys` that a sysctl means. As sysctl(8): the first separator says which of `.` and `/` separates; the
/// other one belongs to names.
pub(crate) fn sysctl_path(key: &str) -> Result<String, String> {
    let slashes = key.find(['.', '/']).is_some_and(|at| key.as_bytes()[at] == b'/');
    let path = if slashes { key.to_owned() } else { key.replace('.', "/") };
    // Whoever could go up would reach what is the host's.
    if path.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return Err(format!("sysctl {key:?} names no file below /proc/sys"));
    }
    Ok(path)
}

/// `null` means what an absent field means.
fn or_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(source: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(source)?.unwrap_or_default())
}

/// Where in the file the seccomp profile is.
#[derive(Deserialize)]
struct Outline<'a> {
    #[serde(borrow)]
    linux: Option<OutlineOfLinux<'a>>,
}

#[derive(Deserialize)]
struct OutlineOfLinux<'a> {
    #[serde(borrow)]
    seccomp: Option<&'a RawValue>,
}

impl Config {
    /// Reads a bundle's file.
    pub fn read(bundle: &Path) -> Result<Self, Error> {
        let path = bundle.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let advice = "`spec` writes one; --bundle names the folder that it is in.";
                return Err(Error::Config(format!("JSON specification file {} not found\n{advice}", path.display())));
            }
            Err(error) => return Err(Error::file("read", path)(error)),
        };
        let config = Self::parse(&text).map_err(|error| Error::Config(format!("{}: {error}", path.display())))?;
        config.check()?;
        Ok(config)
    }

    /// Reads the text of the file.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let outline: Outline<'_> = serde_json::from_str(text)?;
        let seccomp = outline.linux.and_then(|linux| linux.seccomp).filter(|profile| profile.get() != "null");
        let Some(seccomp) = seccomp else { return serde_json::from_str(text) };
        let profile = seccomp.get();
        // A slice of the text: what lies around it is the file without the profile.
        let start = profile.as_ptr() as usize - text.as_ptr() as usize;
        let rest = [&text[..start], "null", &text[start + profile.len()..]].concat();
        let config: Self = serde_json::from_str(&rest)?;
        Ok(Self { seccomp: Some(seccomp.to_owned()), ..config })
    }

    /// What the container's process is; a container without one can be created, not started.
    pub fn process(&self) -> Result<&Process, Error> {
        self.process.as_ref().ok_or_else(|| Error::Config("process property must not be empty".to_owned()))
    }

    /// The namespace of a kind, if the container has one of its own or joins one: the path of the latter.
    pub(crate) fn namespace(&self, kind: LinuxNamespaceType) -> Option<Option<&Path>> {
        let all = self.linux.namespaces().as_deref().unwrap_or_default();
        all.iter()
            .find(|namespace| namespace.typ() == kind)
            .map(|found| found.path().as_deref().filter(|path| !path.as_os_str().is_empty()))
    }

    /// Whether the container gets a new namespace of this kind.
    pub(crate) fn unshares(&self, kind: LinuxNamespaceType) -> bool {
        self.namespace(kind) == Some(None)
    }

    /// Whether anything is to be mounted or covered.
    pub(crate) fn changes_mounts(&self) -> bool {
        let paths = [self.linux.masked_paths(), self.linux.readonly_paths()];
        !self.mounts.is_empty() || paths.into_iter().flatten().any(|paths| !paths.is_empty())
    }

    /// Refuses what contradicts itself or the specification.
    fn check(&self) -> Result<(), Error> {
        let wrong = |text: &str| Err(Error::Config(text.to_owned()));
        if !self.oci_version.starts_with("1.") {
            return wrong(&format!("ociVersion must be 1.x, not {:?}", self.oci_version));
        }
        if self.root.as_ref().is_none_or(|root| root.path().as_os_str().is_empty()) {
            return wrong("Root must be specified");
        }
        let namespaces = self.linux.namespaces().as_deref().unwrap_or_default();
        for (at, namespace) in namespaces.iter().enumerate() {
            if namespaces[..at].iter().any(|before| before.typ() == namespace.typ()) {
                return wrong(&format!("malformed spec file: duplicated ns {}", namespace.typ()));
            }
        }
        self.check_names()?;
        let not_done = [
            ("intelRdt", self.linux.intel_rdt().is_some()),
            ("memoryPolicy", self.linux.memory_policy().is_some()),
            ("netDevices", self.linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty())),
        ];
        if let Some((name, _)) = not_done.iter().find(|(_, asked)| *asked) {
            return wrong(&format!("linux.{name} is not supported by this runtime: leave it out"));
        }
        if let Some(process) = &self.process {
            process.check()?;
        }
        let maps_ids = [self.linux.uid_mappings(), self.linux.gid_mappings()];
        let maps_ids = maps_ids.into_iter().flatten().any(|mappings| !mappings.is_empty());
        let user = self.namespace(LinuxNamespaceType::User);
        if maps_ids && user.is_none() {
            return wrong("User namespace mappings specified, but USER namespace isn't enabled in the config");
        }
        if user == Some(None) && !maps_ids {
            return wrong("a new user namespace needs linux.uidMappings and linux.gidMappings");
        }
        if self.linux.time_offsets().as_ref().is_some_and(|offsets| !offsets.is_empty())
            && !self.unshares(LinuxNamespaceType::Time)
        {
            return wrong("time namespace offsets specified, but time namespace isn't enabled in the config");
        }
        Ok(())
    }

    /// Names and sysctls only where they are the container's own.
    fn check_names(&self) -> Result<(), Error> {
        let names = !self.hostname.is_empty() || !self.domainname.is_empty();
        if names && self.namespace(LinuxNamespaceType::Uts).is_none() {
            return Err(Error::Config("unable to set hostname without a private UTS namespace".to_owned()));
        }
        let sysctls = self.linux.sysctl().iter().flat_map(|sysctls| sysctls.keys());
        for key in sysctls {
            let key = sysctl_path(key).map_err(Error::Config)?.replace('/', ".");
            let own = |kind| self.namespace(kind).is_some();
            let ipc = ["kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall"];
            let more = ["kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"];
            let allowed =
                if ipc.contains(&key.as_str()) || more.contains(&key.as_str()) || key.starts_with("fs.mqueue.") {
                    own(LinuxNamespaceType::Ipc)
                } else if key.starts_with("net.") {
                    own(LinuxNamespaceType::Network)
                } else if key == "kernel.domainname" {
                    own(LinuxNamespaceType::Uts)
                } else if key == "kernel.hostname" {
                    let text =
                        "sysctl \"kernel.hostname\" is not allowed as it conflicts with the OCI \"hostname\" field";
                    return Err(Error::Config(text.to_owned()));
                } else {
                    let text = format!("sysctl {key:?} is not in a separate kernel namespace");
                    return Err(Error::Config(text));
                };
            if !allowed {
                let text = format!("sysctl {key:?} is not allowed in the hosts namespace");
                return Err(Error::Config(text));
            }
        }
        Ok(())
    }
}

impl Process {
    /// Refuses what cannot be run.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |text: &str| Err(Error::Config(text.to_owned()));
        if !self.cwd.is_absolute() {
            return wrong("Cwd must be an absolute path");
        }
        if self.args.is_empty() {
            return wrong("args must not be empty");
        }
        // For setuid(2) it means "as before", which is root.
        let ids =
            [self.user.uid(), self.user.gid()].into_iter().chain(self.user.additional_gids().iter().flatten().copied());
        if ids.into_iter().any(|id| id == u32::MAX) {
            return wrong("4294967295 is no user or group id");
        }
        for (at, limit) in self.rlimits.iter().enumerate() {
            if self.rlimits[..at].iter().any(|before| before.typ() == limit.typ()) {
                return wrong(&format!("rlimit type {} is given twice", limit.typ()));
            }
        }
        let nul = |text: &String| text.contains('\0');
        if self.args.iter().any(nul) || self.env.iter().any(nul) {
            return wrong("arguments and environment cannot contain NUL");
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config() -> Value {
        json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": {"cwd": "/", "args": ["sh"], "user": {"uid": 1, "gid": 2}},
            "hostname": "box",
            "linux": {
                "namespaces": [{"type": "uts"}, {"type": "mount"}, {"type": "network", "path": "/n"}],
                "seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["a}\"b"], "action": "SCMP_ACT_ALLOW"}]}
            }
        })
    }

    /// What is said about a configuration that was changed.
    fn refused(change: impl FnOnce(&mut Value)) -> Option<String> {
        let mut value = config();
        change(&mut value);
        let config = Config::parse(&value.to_string()).unwrap();
        config.check().err().map(|error| error.to_string())
    }

    #[test]
    fn the_seccomp_profile_stays_as_it_is_written() {
        let text = serde_json::to_string_pretty(&config()).unwrap();
        let parsed = Config::parse(&text).unwrap();
        let profile: Value = serde_json::from_str(parsed.seccomp.as_ref().unwrap().get()).unwrap();
        assert_eq!(profile, config()["linux"]["seccomp"]);
        assert!(parsed.linux.seccomp().is_none(), "it is not parsed");
        assert_eq!(parsed.hostname, "box");
        assert_eq!(parsed.namespace(LinuxNamespaceType::Network), Some(Some(Path::new("/n"))));
        assert!(parsed.unshares(LinuxNamespaceType::Uts) && !parsed.unshares(LinuxNamespaceType::Network));
    }

    #[test]
    fn null_means_absent() {
        let mut value = config();
        value["linux"]["seccomp"] = Value::Null;
        value["mounts"] = Value::Null;
        value["process"]["rlimits"] = Value::Null;
        let parsed = Config::parse(&value.to_string()).unwrap();
        assert!(parsed.seccomp.is_none() && parsed.mounts.is_empty());
    }

    #[test]
    fn contradictions_are_refused() {
        assert_eq!(refused(|_| ()), None);
        let said = |change: fn(&mut Value)| refused(change).unwrap();
        assert!(said(|config| config["linux"]["namespaces"] = json!([{"type": "mount"}])).contains("UTS namespace"));
        assert!(said(|config| config["linux"]["namespaces"][2] = json!({"type": "uts"})).contains("duplicated ns"));
        assert!(
            said(|config| config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 1, "size": 1}]))
                .contains("USER namespace isn't enabled")
        );
        assert!(said(|config| config["process"]["cwd"] = json!("tmp")).contains("absolute"));
        assert!(said(|config| config["process"]["args"] = json!([])).contains("args"));
        assert!(said(|config| config["process"]["user"]["uid"] = json!(u32::MAX)).contains("no user"));
        assert!(said(|config| config["process"]["user"]["additionalGids"] = json!([u32::MAX])).contains("no user"));
        assert!(said(|config| config["linux"]["netDevices"] = json!({"eth0": {}})).contains("netDevices"));
        assert!(said(|config| config["ociVersion"] = json!("2.0.0")).contains("ociVersion"));
        assert!(said(|config| config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1}})).contains("time"));
    }

    #[test]
    fn sysctls_must_be_the_containers_own() {
        let with = |key: &str| {
            refused(|config| {
                config["linux"]["sysctl"] = json!({key: "1"});
            })
        };
        assert_eq!(with("net.ipv4.ip_forward"), None, "it joins a network namespace");
        assert!(with("kernel.shmmax").unwrap().contains("hosts namespace"), "no ipc namespace");
        assert!(with("kernel.core_pattern").unwrap().contains("not in a separate kernel namespace"));
        assert!(with("kernel/core_pattern").unwrap().contains("not in a separate kernel namespace"));
        for up in ["net/../kernel/core_pattern", "net/ipv4/../../vm/x", "/net/x", "net//x", "net..x", "net/./x"] {
            assert!(with(up).unwrap().contains("no file"), "{up}");
        }
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.100/forwarding").unwrap(), "net/ipv4/conf/eth0.100/forwarding");
        assert_eq!(sysctl_path("net.ipv4.ip_forward").unwrap(), "net/ipv4/ip_forward");
    }
}
