//! A bundle: a root file system with busybox in it, and the `config.json` that a runtime is given.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::Scratch;

/// What docker gives a container that asks for nothing.
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// A folder with `rootfs` and `config.json`; it goes when this, its clones and its containers are dropped.
///
/// The configuration is an ordinary one (docker's mounts, capabilities, masked and read-only paths) without seccomp,
/// and is changed before it is used. Whatever `sh -c` runs finds busybox's programs: its shell looks for them first.
#[derive(Clone)]
pub struct Bundle {
    folder: Arc<Scratch>,
    config: Value,
}

impl Bundle {
    /// A container that runs this script.
    pub fn script(script: &str) -> Self {
        Self::new(["/bin/sh", "-c", script])
    }

    /// A container that does nothing until a signal ends it.
    pub fn sleeper() -> Self {
        // As process 1 it would not die of a signal that it does not handle.
        Self::script("trap 'exit 0' TERM INT; trap 'exit 7' USR1; trap : HUP; while :; do sleep 0.05; done")
    }

    /// A container that runs this command line.
    pub fn new<S: AsRef<str>>(arguments: impl IntoIterator<Item = S>) -> Self {
        let folder = Scratch::new("bundle");
        for name in ["bin", "dev", "proc", "sys", "etc", "tmp", "run", "root", "volume"] {
            folder.folder(&format!("rootfs/{name}"));
        }
        fs::copy("/usr/bin/busybox", folder.join("rootfs/bin/busybox")).expect("copy busybox");
        for name in ["sh", "sleep", "true", "cat", "id", "env", "ls", "grep"] {
            symlink("busybox", folder.join("rootfs/bin").join(name)).expect("link to busybox");
        }
        folder.write("rootfs/etc/passwd", "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n");
        folder.write("rootfs/etc/group", "root:x:0:\nuser:x:1000:\n");
        Self { folder: Arc::new(folder), config: ordinary_config() }.arguments(arguments)
    }

    /// The folder that the runtime is given.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the root file system.
    pub fn inside(&self, path: &str) -> PathBuf {
        self.folder.join("rootfs").join(path.trim_start_matches('/'))
    }

    /// Makes a folder beside the root file system.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.folder(name)
    }

    /// Writes a file into the root file system.
    pub fn file(self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let at = self.inside(path);
        fs::create_dir_all(at.parent().expect("a file lies in a folder")).expect("make its folder");
        fs::write(&at, content).unwrap_or_else(|error| panic!("write {}: {error}", at.display()));
        fs::set_permissions(&at, fs::Permissions::from_mode(mode)).expect("set a mode");
        self
    }

    /// Puts a link in place of what is there in the root file system.
    pub fn link(self, path: &str, target: impl AsRef<Path>) -> Self {
        let at = self.inside(path);
        if at.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            fs::remove_dir_all(&at).expect("remove a folder");
        } else {
            let _ = fs::remove_file(&at);
        }
        fs::create_dir_all(at.parent().expect("a link lies in a folder")).expect("make its folder");
        symlink(target, &at).unwrap_or_else(|error| panic!("link {}: {error}", at.display()));
        self
    }

    /// The command line.
    pub fn arguments<S: AsRef<str>>(self, arguments: impl IntoIterator<Item = S>) -> Self {
        let words: Vec<Value> = arguments.into_iter().map(|word| json!(word.as_ref())).collect();
        self.set("/process/args", Value::Array(words))
    }

    /// Sets one value, by its JSON pointer; the objects on the way are made.
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        let mut at = &mut self.config;
        for key in pointer.trim_start_matches('/').split('/') {
            if at.is_null() {
                *at = json!({});
            }
            at = match at {
                Value::Array(list) => &mut list[key.parse::<usize>().expect("a number in a list")],
                other => &mut other[key],
            };
        }
        *at = value;
        self
    }

    /// Adds a value to a list, which is made if it is not there.
    pub fn add(self, pointer: &str, value: Value) -> Self {
        let mut list = self.config.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
        list.push(value);
        self.set(pointer, Value::Array(list))
    }

    /// Adds a mount.
    pub fn mount(self, destination: &str, kind: &str, source: impl AsRef<Path>, options: &[&str]) -> Self {
        let source = source.as_ref().to_str().expect("a path that is text").to_owned();
        self.add("/mounts", json!({"destination": destination, "type": kind, "source": source, "options": options}))
    }

    /// Takes the mounts at this place away.
    pub fn without_mount(mut self, destination: &str) -> Self {
        self.config["mounts"].as_array_mut().expect("mounts").retain(|mount| mount["destination"] != destination);
        self
    }

    /// Adds a namespace, or gives the one of that kind a path.
    pub fn namespace(mut self, kind: &str, path: Option<&Path>) -> Self {
        self = self.without_namespace(kind);
        let namespace = match path {
            Some(path) => json!({"type": kind, "path": path}),
            None => json!({"type": kind}),
        };
        self.add("/linux/namespaces", namespace)
    }

    /// Takes a namespace away: the container stays in the runtime's.
    pub fn without_namespace(mut self, kind: &str) -> Self {
        self.config["linux"]["namespaces"].as_array_mut().expect("namespaces").retain(|found| found["type"] != kind);
        self
    }

    /// Gives all five sets the same capabilities, the ambient and the inheritable one none.
    pub fn capabilities(self, names: &[&str]) -> Self {
        let sets = json!({"bounding": names, "effective": names, "permitted": names});
        self.set("/process/capabilities", sets)
    }

    /// A user namespace in which root is this id of the host and the following ones.
    pub fn mapped(mut self, first: u32) -> Self {
        let mapping = json!([{"containerID": 0, "hostID": first, "size": 65536}]);
        self = self.namespace("user", None);
        self = self.set("/linux/uidMappings", mapping.clone()).set("/linux/gidMappings", mapping);
        self.give_away(first)
    }

    /// Makes this user the owner of everything in the root file system.
    pub fn give_away(self, owner: u32) -> Self {
        let owner = format!("{owner}:{owner}");
        crate::Cmd::new("chown").args(["-hR", &owner]).arg(self.inside("/")).ok();
        self
    }

    /// The configuration as it is now.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// Writes `config.json`.
    pub fn write(&self) {
        self.folder.write("config.json", self.config.to_string());
    }
}

fn ordinary_config() -> Value {
    let namespaces = ["pid", "network", "ipc", "uts", "mount"].map(|kind| json!({"type": kind}));
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": [],
            "env": [path],
            "cwd": "/",
            "capabilities": {
                "bounding": DEFAULT_CAPABILITIES,
                "effective": DEFAULT_CAPABILITIES,
                "permitted": DEFAULT_CAPABILITIES,
            },
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "inside",
        "mounts": ordinary_mounts(),
        "linux": {
            "namespaces": namespaces,
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "maskedPaths": [
                "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

fn ordinary_mounts() -> Value {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    json!([
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ])
}
