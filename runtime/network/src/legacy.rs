//! The old iptables, which is not nf_tables: whether it stands in a network's way is looked at, nothing is changed.

use std::os::fd::AsFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::{Warning, syscalls};

/// `IPT_SO_GET_INFO`, `IPT_SO_GET_ENTRIES`.
const GET_INFO: i32 = 64;
const GET_ENTRIES: i32 = 65;
/// Bytes of `struct ipt_getinfo`, and where the places of the policies and the size of all rules stand in it.
const INFO: usize = 84;
const POLICIES: usize = 56;
const SIZE: usize = 80;
/// The hook of forwarded packets.
const FORWARD: usize = 2;
/// Bytes before the rules in `struct ipt_get_entries`.
const ENTRIES: usize = 40;
/// Where a rule says at which byte its target begins.
const TARGET: usize = 88;
/// Where a target says what it decides.
const VERDICT: usize = 32;
/// The verdict to drop.
const DROP: i32 = -1;

/// What to tell the user if the old iptables drops what is to be forwarded and has no rule for this bridge.
pub(crate) fn look(interface: &str) -> Option<Warning> {
    // Absent on kernels without it; empty while nobody uses it. Reading the table would load it.
    let tables = std::fs::read("/proc/net/ip_tables_names").ok()?;
    if !tables.split(|byte| *byte == b'\n').any(|table| table == b"filter") {
        return None;
    }
    let rules = read()?;
    let name = [interface.as_bytes(), &[0]].concat();
    let mentions_it = rules.entries.windows(name.len()).any(|bytes| bytes == name);
    let drops = rules.policy == DROP && !mentions_it;
    drops.then(|| Warning::LegacyIptables { interface: interface.to_owned() })
}

struct Rules {
    entries: Vec<u8>,
    policy: i32,
}

/// The rules of the table `filter`, and the policy for forwarded packets.
fn read() -> Option<Rules> {
    let raw = rustix::net::ipproto::RAW;
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, Some(raw)).ok()?;
    let mut info = [0; INFO];
    info[..6].copy_from_slice(b"filter");
    syscalls::ip_option(socket.as_fd(), GET_INFO, &mut info).ok()?;
    let word = |bytes: &[u8], at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let size = word(&info, SIZE)?;
    let policy = usize::try_from(word(&info, POLICIES + 4 * FORWARD)?).ok()?;
    let mut entries = vec![0; ENTRIES + usize::try_from(size).ok()?];
    entries[..6].copy_from_slice(b"filter");
    entries[32..36].copy_from_slice(&size.to_ne_bytes());
    syscalls::ip_option(socket.as_fd(), GET_ENTRIES, &mut entries).ok()?;
    let entry = entries.get(ENTRIES + policy..)?;
    let target = u16::from_ne_bytes(entry.get(TARGET..TARGET + 2)?.try_into().ok()?);
    let policy = word(entry, usize::from(target) + VERDICT)?.cast_signed();
    Some(Rules { entries, policy })
}
