//! Stand-in.
use crate::Error;
use cove_container::Record;
use std::path::Path;
pub(crate) fn write(
    bundle: &Path,
    root: &Path,
    record: &Record,
    ns: &crate::network::NamespaceOf,
    files: &crate::names::NameFiles,
) -> Result<(), Error> {
    let caps = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE",
    ];
    let mut spaces = vec![
        serde_json::json!({"type":"pid"}),
        serde_json::json!({"type":"mount"}),
        serde_json::json!({"type":"ipc"}),
        serde_json::json!({"type":"uts"}),
    ];
    if let crate::network::NamespaceOf::Path(path) = ns {
        spaces.push(serde_json::json!({"type":"network","path":path}));
    }
    let json = serde_json::json!({"ociVersion":"1.2.0","process":{"terminal":record.config.tty,"user":{"uid":0,"gid":0},"args":record.arguments(),"env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","TERM=xterm"],"cwd":"/","capabilities":{"bounding":caps,"effective":caps,"permitted":caps},"noNewPrivileges":false},
    "root":{"path":root,"readonly":false},"hostname":record.id.short(),
    "mounts":[{"destination":"/proc","type":"proc","source":"proc"},{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","strictatime","mode=755","size=65536k"]},{"destination":"/dev/pts","type":"devpts","source":"devpts","options":["nosuid","noexec","newinstance","ptmxmode=0666","mode=0620","gid=5"]},{"destination":"/sys","type":"sysfs","source":"sysfs","options":["nosuid","noexec","nodev","ro"]},{"destination":"/etc/hosts","type":"bind","source":files.hosts,"options":["rbind","rprivate"]},{"destination":"/etc/hostname","type":"bind","source":files.hostname,"options":["rbind","rprivate"]},{"destination":"/etc/resolv.conf","type":"bind","source":files.resolv_conf,"options":["rbind","rprivate"]}],
    "linux":{"namespaces":spaces,"cgroupsPath":format!("/cove/{}",record.id)}});
    std::fs::write(bundle.join("config.json"), json.to_string()).map_err(Error::system("write"))
}
