//! `spec`: a config.json to begin with.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use cove_launcher::{FILE, OCI_VERSION};
use lexopt::{Arg, Parser};
use serde_json::{Value, json};

use crate::Failed;

pub(super) fn spec(mut parser: Parser) -> Result<u8, Failed> {
    let (mut bundle, mut rootless) = (PathBuf::from("."), false);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("bundle") | Arg::Short('b') => bundle = parser.value()?.into(),
            Arg::Long("rootless") => rootless = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let path = bundle.join(FILE);
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    let mut file = file.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            format!("file {} exists. Remove it first", path.display())
        }
        _ => format!("cannot write {}: {error}", path.display()),
    })?;
    let text = serde_json::to_string_pretty(&config(rootless))?;
    writeln!(file, "{text}")?;
    Ok(0)
}

fn mount(to: &str, kind: &str, from: &str, options: &[&str]) -> Value {
    json!({"destination": to, "type": kind, "source": from, "options": options})
}

fn config(rootless: bool) -> Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let quiet = ["nosuid", "noexec", "nodev"];
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    let mut namespaces = vec!["pid", "ipc", "uts", "mount", "cgroup"];
    if rootless {
        namespaces.push("user");
    } else {
        // An ordinary user has no group of terminals, and cannot reach a network of its own.
        pts.push("gid=5");
        namespaces.push("network");
    }
    let sys = if rootless {
        mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"])
    } else {
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"])
    };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", &pts),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &quiet),
        sys,
    ];
    if !rootless {
        mounts.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]));
    }
    let namespaces: Vec<Value> = namespaces.into_iter().map(|kind| json!({"type": kind})).collect();
    let mut linux = json!({
        "resources": {"devices": [{"allow": false, "access": "rwm"}]},
        "namespaces": namespaces,
        "maskedPaths": [
            "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
            "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
            "/sys/devices/virtual/powercap", "/sys/firmware"
        ],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    });
    if rootless {
        let id = |host: u32| json!([{"containerID": 0, "hostID": host, "size": 1}]);
        linux["uidMappings"] = id(rustix::process::geteuid().as_raw());
        linux["gidMappings"] = id(rustix::process::getegid().as_raw());
        if let Some(linux) = linux.as_object_mut() {
            linux.remove("resources");
        }
    }
    json!({
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "cove",
        "mounts": mounts,
        "linux": linux,
    })
}
