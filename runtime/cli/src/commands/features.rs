//! `features`: what this runtime can do (runtime-spec, features.md).

use cove_launcher::{FAIL_POINTS, OCI_VERSION, seccomp};
use lexopt::Parser;
use serde_json::{Map, json};

use crate::{Failed, output};

/// Words that may stand in a mount's options and are not the file system's.
const MOUNT_OPTIONS: &[&str] = &[
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "rexec",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "tmpcopyup",
    "unbindable",
];

pub(super) fn features(mut parser: Parser) -> Result<u8, Failed> {
    if let Some(argument) = parser.next()? {
        return Err(argument.unexpected().into());
    }
    let capabilities = cove_launcher::capability_names();
    let hooks = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let mut annotations = Map::new();
    annotations.insert("cove.version".to_owned(), env!("CARGO_PKG_VERSION").into());
    if cfg!(feature = "fail-points") {
        annotations.insert("cove.fail-points".to_owned(), FAIL_POINTS.join(",").into());
    }
    let features = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": hooks,
        "mountOptions": MOUNT_OPTIONS,
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true},
            "seccomp": seccomp::features(),
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": false},
            "mountExtensions": {"idmap": {"enabled": true}},
        },
        "annotations": annotations,
    });
    output::print(&serde_json::to_string_pretty(&features)?);
    Ok(0)
}
