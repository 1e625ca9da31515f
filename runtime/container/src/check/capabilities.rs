//! `--cap-add` and `--cap-drop`.

use super::CheckError;
use crate::config::HostConfig;

/// What a container may do where nothing was asked for.
pub const DEFAULT: [&str; 14] = [
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

/// All that there are, by number.
pub const ALL: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The kernel's name: `net_admin` is `CAP_NET_ADMIN`.
fn full_name(text: &str) -> String {
    let upper = text.trim().to_ascii_uppercase();
    if upper == "ALL" || upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") }
}

/// Writes names in full, as docker keeps them, and refuses those that are none.
pub(super) fn complete(list: &'static str, names: &mut [String]) -> Result<(), CheckError> {
    for name in names {
        *name = full_name(name);
        if name != "ALL" && !ALL.contains(&name.as_str()) {
            return Err(CheckError::Capability { list, name: name.clone() });
        }
    }
    Ok(())
}

/// What a container may do: the default, without what is dropped, with what is added. `bounding` is what this process may
/// give away, by number.
pub fn granted(host: &HostConfig, bounding: &[bool]) -> Vec<String> {
    let possible = |name: &&str| {
        let number = ALL.iter().position(|known| known == name);
        number.is_some_and(|number| bounding.get(number).copied().unwrap_or(false))
    };
    let all = || ALL.iter().copied().filter(possible).collect::<Vec<&str>>();
    if host.privileged {
        return all().into_iter().map(str::to_owned).collect();
    }
    let adds: Vec<String> = host.cap_add.iter().map(|name| full_name(name)).collect();
    let drops: Vec<String> = host.cap_drop.iter().map(|name| full_name(name)).collect();
    let has = |list: &[String], name: &str| list.iter().any(|listed| listed == name);
    let base: Vec<&str> = match (has(&adds, "ALL"), has(&drops, "ALL")) {
        // Adding all and dropping all leaves what is named.
        (true, true) => Vec::new(),
        (true, false) => all(),
        (false, true) => Vec::new(),
        (false, false) => DEFAULT.iter().copied().filter(possible).collect(),
    };
    let mut granted: Vec<String> = base.into_iter().filter(|name| !has(&drops, name)).map(str::to_owned).collect();
    for name in adds {
        if name != "ALL" && !granted.contains(&name) {
            granted.push(name);
        }
    }
    granted
}

/// Which capabilities this process may give away, by their numbers.
pub fn bounding_set() -> Vec<bool> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let bits = bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    (0..64).map(|number| bits >> number & 1 == 1).collect()
}
