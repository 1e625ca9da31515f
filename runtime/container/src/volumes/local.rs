//! The driver `local`: a folder, or what mount(8) makes of `type`, `o` and `device`.
//!
//! Such a volume is mounted on its folder before the first container that has it starts, for all containers and for the
//! host, and taken away when none of them runs: what is kept in memory goes then, as with docker.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FlockOperation, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};

use super::{Error, Volume, Volumes, open_lock, wait};
use crate::config::{MountKind, MountPoint};
use crate::{ContainerId, Containers};

/// Every option, and those that it cannot be without, in docker's order.
const OPTIONS: [(&str, &[&str]); 4] =
    [("type", &["device"]), ("device", &["type"]), ("o", &["device", "type"]), ("size", &[])];

/// Words of mount(8) that are flags of mount(2): set or taken away.
const FLAGS: [(&str, MountFlags, bool); 22] = [
    ("defaults", MountFlags::empty(), true),
    ("ro", MountFlags::RDONLY, true),
    ("rw", MountFlags::RDONLY, false),
    ("suid", MountFlags::NOSUID, false),
    ("nosuid", MountFlags::NOSUID, true),
    ("dev", MountFlags::NODEV, false),
    ("nodev", MountFlags::NODEV, true),
    ("exec", MountFlags::NOEXEC, false),
    ("noexec", MountFlags::NOEXEC, true),
    ("sync", MountFlags::SYNCHRONOUS, true),
    ("async", MountFlags::SYNCHRONOUS, false),
    ("dirsync", MountFlags::DIRSYNC, true),
    ("mand", MountFlags::PERMIT_MANDATORY_FILE_LOCKING, true),
    ("nomand", MountFlags::PERMIT_MANDATORY_FILE_LOCKING, false),
    ("atime", MountFlags::NOATIME, false),
    ("noatime", MountFlags::NOATIME, true),
    ("diratime", MountFlags::NODIRATIME, false),
    ("nodiratime", MountFlags::NODIRATIME, true),
    ("relatime", MountFlags::RELATIME, true),
    ("norelatime", MountFlags::RELATIME, false),
    ("strictatime", MountFlags::STRICTATIME, true),
    ("nostrictatime", MountFlags::STRICTATIME, false),
];

/// Words for a bind mount and for propagation.
const BIND: [&str; 2] = ["bind", "rbind"];

/// Refuses options that the driver does not have, and those that lack another.
pub(super) fn check(name: &str, options: &BTreeMap<String, String>) -> Result<(), Error> {
    let name = || name.to_owned();
    if let Some(unknown) = options.keys().find(|key| OPTIONS.iter().all(|(known, _)| known != key)) {
        return Err(Error::InvalidOption { name: name(), option: unknown.clone() });
    }
    for (_, needed) in OPTIONS.iter().filter(|(key, _)| options.contains_key(*key)) {
        if let Some(option) = needed.iter().find(|needed| !options.contains_key(**needed)) {
            return Err(Error::MissingOption { name: name(), option });
        }
    }
    if options.contains_key("size") { Err(Error::NoQuota(name())) } else { Ok(()) }
}

/// What is given to mount(2).
struct What {
    kind: String,
    device: String,
    flags: MountFlags,
    is_bind: bool,
    is_recursive: bool,
    propagation: Option<MountPropagationFlags>,
    rest: String,
}

impl What {
    fn of(options: &BTreeMap<String, String>) -> Option<Self> {
        let option = |name: &str| options.get(name).cloned().unwrap_or_default();
        let (kind, device) = (option("type"), option("device"));
        if kind.is_empty() && device.is_empty() {
            return None;
        }
        let mut flags = MountFlags::empty();
        let (mut is_bind, mut is_recursive, mut propagation, mut rest) = (false, false, None, Vec::new());
        let words = option("o");
        for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            if let Some((_, flag, set)) = FLAGS.iter().find(|(known, ..)| *known == word) {
                flags.set(*flag, *set);
            } else if BIND.contains(&word) {
                is_bind = true;
                is_recursive = word == "rbind";
            } else if let Some(found) = propagation_of(word) {
                propagation = Some(found);
            } else {
                rest.push(word);
            }
        }
        let rest = rest.join(",");
        let rest = if matches!(kind.as_str(), "nfs" | "cifs") { with_address(&rest) } else { rest };
        Some(Self { kind, device, flags, is_bind, is_recursive, propagation, rest })
    }

    fn mount(&self, at: &Path) -> Result<(), Errno> {
        if self.is_bind {
            match self.is_recursive {
                true => rustix::mount::mount_bind_recursive(self.device.as_str(), at)?,
                false => rustix::mount::mount_bind(self.device.as_str(), at)?,
            }
            // The kernel takes these only for a bind mount that is there.
            if !self.flags.is_empty() {
                rustix::mount::mount_remount(at, self.flags | MountFlags::BIND, c"").inspect_err(|_| undo(at))?;
            }
        } else {
            let data = CString::new(self.rest.as_str()).map_err(|_| Errno::INVAL)?;
            let data = (!self.rest.is_empty()).then_some(data.as_c_str());
            mount(self.device.as_str(), at, self.kind.as_str(), self.flags, data)?;
        }
        match self.propagation {
            Some(propagation) => mount_change(at, propagation).inspect_err(|_| undo(at)),
            None => Ok(()),
        }
    }

    fn described(&self, at: &Path) -> String {
        let mut flags = self.flags.bits();
        if self.is_bind {
            flags |= MountFlags::BIND.bits();
        }
        let data = if self.rest.is_empty() { String::new() } else { format!(", data: {}", self.rest) };
        format!("mount {}:{}, flags: {flags:#x}{data}", self.device, at.display())
    }
}

/// Takes a mount away that could not be finished.
fn undo(at: &Path) {
    let _ = unmount(at, UnmountFlags::DETACH);
}

fn propagation_of(word: &str) -> Option<MountPropagationFlags> {
    let recursive = MountPropagationFlags::REC;
    Some(match word {
        "private" => MountPropagationFlags::PRIVATE,
        "rprivate" => MountPropagationFlags::PRIVATE | recursive,
        "shared" => MountPropagationFlags::SHARED,
        "rshared" => MountPropagationFlags::SHARED | recursive,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "rslave" => MountPropagationFlags::DOWNSTREAM | recursive,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        "runbindable" => MountPropagationFlags::UNBINDABLE | recursive,
        _ => return None,
    })
}

/// The kernel does not look names up: `addr=host` becomes `addr=192.0.2.1`. One that nobody knows stays.
fn with_address(options: &str) -> String {
    let resolved = |word: &str| {
        let host = word.strip_prefix("addr=").filter(|host| host.parse::<IpAddr>().is_err())?;
        let address = (host, 0).to_socket_addrs().ok()?.next()?;
        Some(format!("addr={}", address.ip()))
    };
    let words: Vec<String> = options.split(',').map(|word| resolved(word).unwrap_or_else(|| word.to_owned())).collect();
    words.join(",")
}

/// Whether something is mounted on a folder.
pub(super) fn is_mounted(folder: &Path) -> bool {
    let found = statx(CWD, folder, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty());
    found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

impl Volume {
    /// Whether it is more than a folder: something has to be mounted on it.
    pub fn needs_mount(&self) -> bool {
        What::of(&self.record.options).is_some()
    }

    /// Mounts what the volume stands for, unless it is.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn mount(&self) -> Result<(), Error> {
        let Some(what) = What::of(&self.record.options) else { return Ok(()) };
        let _lock = self.lock_content()?;
        let at = self.data();
        if is_mounted(&at) {
            return Ok(());
        }
        what.mount(&at).map_err(|error| {
            let told = std::io::Error::from(error).to_string();
            let told = told.split(" (os error").next().unwrap_or_default().to_lowercase();
            Error::MountVolume(format!("{}: {told}", what.described(&at)))
        })
    }

    /// Takes what was mounted away.
    ///
    /// # Errors
    /// Somebody works in it.
    pub fn unmount(&self) -> Result<(), Error> {
        let _lock = self.lock_content()?;
        self.unmount_locked()
    }

    fn unmount_locked(&self) -> Result<(), Error> {
        let at = self.data();
        while self.needs_mount() && is_mounted(&at) {
            unmount(&at, UnmountFlags::empty()).map_err(Error::system("unmount", &at))?;
        }
        Ok(())
    }

    /// Held while its content is being made: by a mount, or by a copy of what the image has.
    pub(super) fn lock_content(&self) -> Result<std::fs::File, Error> {
        let path = self.folder.join("content.lock");
        let lock = open_lock(&path)?;
        wait(&lock, FlockOperation::LockExclusive).map_err(Error::system("lock", &path))?;
        Ok(lock)
    }
}

impl Volumes {
    /// Takes away what was mounted for volumes of a container that has ended, unless others that have them run. In the mount
    /// namespace in which they were mounted.
    ///
    /// # Errors
    /// A record that cannot be read. What somebody works in stays mounted.
    pub fn release(&self, id: &ContainerId, mounts: &[MountPoint], containers: &Containers) -> Result<(), Error> {
        for mount in mounts.iter().filter(|mount| mount.kind == MountKind::Volume) {
            let Some(volume) = self.get(&mount.name)?.filter(Volume::needs_mount) else { continue };
            // A monitor that mounts it has its alive lock first: either it is seen here, or it mounts it again behind us.
            let _lock = volume.lock_content()?;
            let is_used = super::users_of(volume.name(), containers)?
                .into_iter()
                .filter(|user| user != id.as_str())
                .filter_map(|user| containers.get(&ContainerId::try_from(user).ok()?))
                .any(|container| container.has_monitor());
            if !is_used {
                let _ = volume.unmount_locked();
            }
        }
        Ok(())
    }
}
