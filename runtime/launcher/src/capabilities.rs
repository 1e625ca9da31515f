//! The five capability sets (capabilities(7)).

use std::io;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// What a process shall have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sets {
    bounding: CapabilitySet,
    effective: CapabilitySet,
    inheritable: CapabilitySet,
    permitted: CapabilitySet,
    ambient: CapabilitySet,
}

/// By their numbers, linux/capability.h.
pub(crate) const ALL: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// All that this runtime knows, by name.
pub fn capability_names() -> Vec<String> {
    let name = |one| serde_json::to_string(one).ok().map(|name: String| name.trim_matches('"').to_owned());
    ALL.iter().filter_map(name).collect()
}

fn set(of: &Option<Capabilities>) -> CapabilitySet {
    let wanted = of.iter().flatten();
    let bits = wanted.filter_map(|wanted| ALL.iter().position(|one| one == wanted)).map(|number| 1 << number);
    CapabilitySet::from_bits_retain(bits.fold(0, |all, bit: u64| all | bit))
}

/// Each of a set.
fn each(set: CapabilitySet) -> impl Iterator<Item = CapabilitySet> {
    (0..64).map(|number| CapabilitySet::from_bits_retain(1 << number)).filter(move |one| set.contains(*one))
}

/// Those that exist on this kernel and are in the bounding set.
fn bounding() -> CapabilitySet {
    let has = |one: &CapabilitySet| rustix::thread::capability_is_in_bounding_set(*one).unwrap_or(false);
    each(CapabilitySet::from_bits_retain((1 << ALL.len()) - 1)).filter(has).collect()
}

impl Sets {
    /// What `config.json` asks for, without what this process could not give; and what that is. In a new user namespace
    /// everything can be given.
    pub(crate) fn plan(asked: Option<&LinuxCapabilities>, new_user_namespace: bool) -> (Self, Vec<String>) {
        let of = |get: fn(&LinuxCapabilities) -> &Option<Capabilities>| set(asked.map_or(&None, get));
        let mut sets = Self {
            bounding: of(LinuxCapabilities::bounding),
            effective: of(LinuxCapabilities::effective),
            inheritable: of(LinuxCapabilities::inheritable),
            permitted: of(LinuxCapabilities::permitted),
            ambient: of(LinuxCapabilities::ambient),
        };
        if new_user_namespace {
            return (sets, Vec::new());
        }
        let can = bounding();
        let mut cannot = CapabilitySet::empty();
        let Sets { bounding, effective, inheritable, permitted, ambient } = &mut sets;
        for one in [bounding, effective, inheritable, permitted, ambient] {
            cannot |= *one - can;
            *one &= can;
        }
        let name = |bit: CapabilitySet| ALL.get(bit.bits().trailing_zeros() as usize).map(ToString::to_string);
        let names: Vec<String> = each(cannot).filter_map(name).collect();
        (sets, names)
    }

    /// Gives up what is not in the bounding set. Needs CAP_SETPCAP, if there is anything to give up.
    pub(crate) fn bound(&self) -> io::Result<()> {
        for one in each(bounding() - self.bounding) {
            rustix::thread::remove_capability_from_bounding_set(one)?;
        }
        Ok(())
    }

    /// Takes the other sets, after the user has changed.
    pub(crate) fn take(&self) -> io::Result<()> {
        let Self { effective, permitted, inheritable, .. } = *self;
        rustix::thread::set_capabilities(None, CapabilitySets { effective, permitted, inheritable })?;
        rustix::thread::clear_ambient_capability_set()?;
        for one in each(self.ambient) {
            // What is not permitted and inheritable cannot be ambient; runc leaves it out, too.
            let _ = rustix::thread::configure_capability_in_ambient_set(one, true);
        }
        Ok(())
    }
}
