//! The five capability sets (capabilities(7)).

use std::io;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::de::IntoDeserializer;
use serde::de::value::StrDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `process.capabilities` of `config.json`. Names that this runtime does not know are no error, as with runc: they may be a
/// newer kernel's, and nobody gets by them what they should not have.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The five sets.
    pub sets: LinuxCapabilities,
    /// Names that mean nothing here.
    pub unknown: Vec<String>,
}

/// The five sets by name.
#[derive(Deserialize)]
struct Names {
    bounding: Option<Vec<String>>,
    effective: Option<Vec<String>>,
    inheritable: Option<Vec<String>>,
    permitted: Option<Vec<String>>,
    ambient: Option<Vec<String>>,
}

/// By its name, `CAP_KILL`.
pub fn capability_named(name: &str) -> Option<Capability> {
    let name: StrDeserializer<'_, serde::de::value::Error> = name.into_deserializer();
    Capability::deserialize(name).ok()
}

impl<'de> Deserialize<'de> for Asked {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let names = Names::deserialize(source)?;
        let (mut sets, mut unknown) = (LinuxCapabilities::default(), Vec::new());
        let mut known = |names: Option<Vec<String>>| {
            names.map(|names| {
                let mut set = Capabilities::new();
                for name in names {
                    match capability_named(&name) {
                        Some(capability) => drop(set.insert(capability)),
                        None if unknown.contains(&name) => {}
                        None => unknown.push(name),
                    }
                }
                set
            })
        };
        sets.set_bounding(known(names.bounding))
            .set_effective(known(names.effective))
            .set_inheritable(known(names.inheritable))
            .set_permitted(known(names.permitted))
            .set_ambient(known(names.ambient));
        Ok(Self { sets, unknown })
    }
}

impl Serialize for Asked {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.sets.serialize(to)
    }
}

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
    /// What `config.json` asks for, without what cannot be given; and why, in a sentence for each. In a new user namespace
    /// everything can be given.
    pub(crate) fn plan(asked: Option<&Asked>, new_user_namespace: bool) -> (Self, Vec<String>) {
        let of =
            |get: fn(&LinuxCapabilities) -> &Option<Capabilities>| set(asked.map_or(&None, |asked| get(&asked.sets)));
        let mut sets = Self {
            bounding: of(LinuxCapabilities::bounding),
            effective: of(LinuxCapabilities::effective),
            inheritable: of(LinuxCapabilities::inheritable),
            permitted: of(LinuxCapabilities::permitted),
            ambient: of(LinuxCapabilities::ambient),
        };
        let unknown = asked.map(|asked| &asked.unknown).filter(|names| !names.is_empty());
        let mut warnings: Vec<String> = unknown
            .map(|names| format!("ignoring unknown or unavailable capabilities: [{}]", names.join(" ")))
            .into_iter()
            .collect();
        if new_user_namespace {
            return (sets, warnings);
        }
        let can = bounding();
        let mut cannot = CapabilitySet::empty();
        let Sets { bounding, effective, inheritable, permitted, ambient } = &mut sets;
        for one in [bounding, effective, inheritable, permitted, ambient] {
            cannot |= *one - can;
            *one &= can;
        }
        let name = |bit: CapabilitySet| ALL.get(bit.bits().trailing_zeros() as usize).map(ToString::to_string);
        let dropped = each(cannot).filter_map(name);
        warnings.extend(dropped.map(|name| {
            format!("capability {name} is not in the bounding set of the runtime: the process does not get it")
        }));
        (sets, warnings)
    }

    /// Gives up what is not in the bounding set. Needs CAP_SETPCAP, if there is anything to give up.
    pub(crate) fn bound(&self) -> io::Result<()> {
        for one in each(bounding() - self.bounding) {
            rustix::thread::remove_capability_from_bounding_set(one)?;
        }
        Ok(())
    }

    /// Takes the other sets, after the user has changed. `keeps_admin`: may take CAP_SYS_ADMIN once more.
    pub(crate) fn take(&self, keeps_admin: bool) -> io::Result<()> {
        let Self { effective, mut permitted, inheritable, .. } = *self;
        if keeps_admin {
            permitted |= rustix::thread::capabilities(None)?.permitted & CapabilitySet::SYS_ADMIN;
        }
        rustix::thread::set_capabilities(None, CapabilitySets { effective, permitted, inheritable })?;
        rustix::thread::clear_ambient_capability_set()?;
        for one in each(self.ambient) {
            // What is not permitted and inheritable cannot be ambient; runc leaves it out, too.
            let _ = rustix::thread::configure_capability_in_ambient_set(one, true);
        }
        Ok(())
    }

    /// Takes CAP_SYS_ADMIN, if there is any.
    pub(crate) fn take_admin(&self) -> io::Result<()> {
        let mut sets = rustix::thread::capabilities(None)?;
        sets.effective |= sets.permitted & CapabilitySet::SYS_ADMIN;
        Ok(rustix::thread::set_capabilities(None, sets)?)
    }

    /// Has what it shall have and no more.
    pub(crate) fn give_up_admin(&self) -> io::Result<()> {
        let Self { effective, permitted, inheritable, .. } = *self;
        Ok(rustix::thread::set_capabilities(None, CapabilitySets { effective, permitted, inheritable })?)
    }
}
