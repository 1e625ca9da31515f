//! Volumes: folders that outlive containers, and everything else that is mounted into one.
//!
//! A volume is a folder `<root>/volumes/<name>`: `volume.json` says what it is, `_data` is what containers see, `lock` is
//! held (shared) by whoever is about to write a container's record that names it and (exclusively) by whoever removes it.
//! Which containers use it stands in their records only, so that nothing has to be counted.
//!
//! Order of locks: that of a volume, then that of all volumes. Nobody waits for a volume while holding the latter.

mod copy;
mod error;
mod local;
mod resolve;
mod seed;
mod start;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::config::MountKind;
use crate::error::is_absent;
use crate::file::{self, Durability};
use crate::mounts::check_volume_name;
use crate::{ContainerId, Containers, Record, delete};

pub use error::Error;
pub use resolve::Resolved;

/// The only driver: a folder, or what `mount` makes of the options.
pub const LOCAL: &str = "local";

/// What the folder of a volume is called while it is being made or removed.
const UNFINISHED: &str = ".unfinished-";

/// All volumes of one user.
#[derive(Debug, Clone)]
pub struct Volumes {
    folder: PathBuf,
}

/// One volume.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    folder: PathBuf,
    record: VolumeRecord,
}

/// What a volume was made to be: `volume.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRecord {
    /// What it is called.
    pub name: String,
    /// Who keeps it: `local`.
    pub driver: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// What its owner wants to remember.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What the driver was told.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Whether nobody has named it.
    #[serde(default)]
    pub anonymous: bool,
    /// Where it can be used: `local`.
    pub scope: String,
}

/// What a volume shall be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// What it shall be called; nothing for 64 digits.
    pub name: Option<String>,
    /// Who shall keep it; empty for `local`.
    pub driver: String,
    /// What its owner wants to remember.
    pub labels: BTreeMap<String, String>,
    /// What the driver is told.
    pub options: BTreeMap<String, String>,
}

/// Keeps a volume from being removed, until a container's record names it.
#[derive(Debug)]
pub struct Hold {
    _lock: File,
}

impl Volumes {
    /// Those below a root folder (`/var/lib/cove`).
    pub fn new(root: &Path) -> Self {
        Self { folder: root.join("volumes") }
    }

    /// Makes a volume. With a name that one has already it is that one, whatever its options are, as with docker.
    ///
    /// # Errors
    /// A name, a driver or options that cannot be; the disk is full. Then nothing of it is left.
    pub fn create(&self, wanted: Wanted) -> Result<Volume, Error> {
        let name = match &wanted.name {
            Some(name) => name.clone(),
            None => ContainerId::random().map_err(Error::system("read", Path::new("/dev/urandom")))?.to_string(),
        };
        if !matches!(wanted.driver.as_str(), "" | LOCAL) {
            return Err(Error::NoSuchDriver { name, driver: wanted.driver });
        }
        check_name(&name)?;
        let _lock = self.lock()?;
        if let Some(volume) = self.get(&name)? {
            return Ok(volume);
        }
        local::check(&name, &wanted.options)?;
        self.sweep()?;
        let record = VolumeRecord {
            driver: LOCAL.to_owned(),
            created: OffsetDateTime::now_utc(),
            labels: wanted.labels,
            options: wanted.options,
            anonymous: wanted.name.is_none(),
            scope: LOCAL.to_owned(),
            name,
        };
        self.make(record)
    }

    fn make(&self, record: VolumeRecord) -> Result<Volume, Error> {
        let folder = self.folder.join(&record.name);
        let unfinished = self.unfinished()?;
        let made = || {
            make_folder(&unfinished)?;
            let data = unfinished.join("_data");
            // Of any mode that the process masks: containers' users must get in.
            DirBuilder::new()
                .create(&data)
                .and_then(|()| std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)))
                .map_err(Error::system("make", &data))?;
            let durability = if record.anonymous { Durability::Passing } else { Durability::Lasting };
            file::write_json(&unfinished.join("volume.json"), &record, durability)?;
            std::fs::rename(&unfinished, &folder).map_err(Error::system("make", &folder))?;
            if durability == Durability::Lasting {
                file::sync_folder(&self.folder)?;
            }
            Ok(())
        };
        if let Err(error) = made() {
            let _ = delete(&unfinished);
            return Err(error);
        }
        Ok(Volume { folder, record })
    }

    /// Makes a volume, or finds it, and keeps it from being removed.
    ///
    /// # Errors
    /// As [`Volumes::create`].
    pub fn create_held(&self, wanted: Wanted) -> Result<(Volume, Hold), Error> {
        loop {
            let volume = self.create(wanted.clone())?;
            if let Some(hold) = self.hold(&volume)? {
                return Ok((volume, hold));
            }
            // Somebody has removed it in between.
        }
    }

    /// Keeps a volume from being removed; `None` if it is gone.
    ///
    /// # Errors
    /// A lock that cannot be made.
    pub fn hold(&self, volume: &Volume) -> Result<Option<Hold>, Error> {
        let lock = volume.locked(FlockOperation::LockShared)?;
        Ok(lock.map(|lock| Hold { _lock: lock }))
    }

    /// The volume of this name, if there is one.
    ///
    /// # Errors
    /// A record that is damaged.
    pub fn get(&self, name: &str) -> Result<Option<Volume>, Error> {
        if check_name(name).is_err() {
            return Ok(None);
        }
        let folder = self.folder.join(name);
        let record: Option<VolumeRecord> = file::read_json(&folder.join("volume.json"))?;
        Ok(record.map(|record| Volume { folder, record }))
    }

    /// The volume of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, name: &str) -> Result<Volume, Error> {
        self.get(name)?.ok_or_else(|| Error::NoSuchVolume(name.to_owned()))
    }

    /// All volumes in the order of their names, and the errors of those whose records cannot be read.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn all(&self) -> Result<(Vec<Volume>, Vec<Error>), Error> {
        let (mut volumes, mut broken) = (Vec::new(), Vec::new());
        for name in self.names()? {
            match self.get(&name) {
                Ok(volume) => volumes.extend(volume),
                Err(error) => broken.push(error),
            }
        }
        volumes.sort_by(|one, other| one.name().cmp(other.name()));
        Ok((volumes, broken))
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(Error::system("read", &self.folder)(error)),
        };
        Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    /// Removes a volume that no container has, with everything in it. How many bytes that gave back.
    ///
    /// # Errors
    /// Containers have it; a file that cannot be deleted.
    pub fn remove(&self, volume: &Volume, containers: &Containers) -> Result<u64, Error> {
        // Whoever is about to write a record that names it comes first.
        let Some(_removing) = volume.locked(FlockOperation::LockExclusive)? else {
            return Err(Error::NoSuchVolume(volume.name().to_owned()));
        };
        let users = users_of(volume.name(), containers)?;
        if !users.is_empty() {
            return Err(Error::InUse { name: volume.name().to_owned(), containers: users });
        }
        volume.unmount()?;
        let hidden = self.hide(volume)?;
        let (bytes, deleted) = delete(&hidden);
        deleted.map_err(Error::system("remove", &volume.folder))?;
        // The record is nobody's data.
        Ok(bytes.saturating_sub(volume.record_size()))
    }

    /// Takes a volume out of everybody's sight in one step. Under its exclusive lock.
    fn hide(&self, volume: &Volume) -> Result<PathBuf, Error> {
        let _lock = self.lock()?;
        let hidden = self.unfinished()?;
        std::fs::rename(&volume.folder, &hidden).map_err(Error::system("remove", &volume.folder))?;
        if !volume.record.anonymous {
            file::sync_folder(&self.folder)?;
        }
        Ok(hidden)
    }

    /// A name that no other command uses: one that is being removed is deleted after all locks are given back, and must
    /// not be taken for the next of its name, which is being made.
    fn unfinished(&self) -> Result<PathBuf, Error> {
        let number = ContainerId::random().map_err(Error::system("read", Path::new("/dev/urandom")))?;
        Ok(self.folder.join(format!("{UNFINISHED}{}", number.short())))
    }

    /// Removes the volumes that were made for a container, which is gone: those that no other container has got from it.
    ///
    /// # Errors
    /// A file that cannot be deleted; all others are tried nevertheless.
    pub fn remove_anonymous(&self, record: &Record, containers: &Containers) -> Result<(), Error> {
        let mut failed = None;
        for mount in record.mounts.iter().filter(|mount| mount.kind == MountKind::Volume && mount.details.anonymous) {
            let removed = match self.get(&mount.name) {
                Ok(Some(volume)) => self.remove(&volume, containers).map(drop),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            match removed {
                Ok(()) | Err(Error::InUse { .. } | Error::NoSuchVolume(_)) => {}
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn lock(&self) -> Result<File, Error> {
        make_folder(&self.folder)?;
        let path = self.folder.join(".lock");
        let lock = open_lock(&path)?;
        wait(&lock, FlockOperation::LockExclusive).map_err(Error::system("lock", &path))?;
        Ok(lock)
    }

    /// Removes what killed commands have left. Under the lock of all volumes.
    fn sweep(&self) -> Result<(), Error> {
        for name in self.names()?.iter().filter(|name| name.starts_with(UNFINISHED)) {
            // Whoever removes it may be at the same work: then one of both finds nothing.
            let _ = delete(&self.folder.join(name));
        }
        Ok(())
    }
}

/// The containers that have a volume, by their ids.
///
/// # Errors
/// As [`usage`].
pub fn users_of(name: &str, containers: &Containers) -> Result<Vec<String>, Error> {
    Ok(usage(containers)?.remove(name).unwrap_or_default())
}

/// Which containers have which volumes: ids by names.
///
/// # Errors
/// A record that is damaged: nobody knows which volumes that container has, so none may be thought unused.
pub fn usage(containers: &Containers) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let mut usage: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for container in containers.all()? {
        let record = match container.record() {
            Ok(record) => record,
            // Removed in between.
            Err(crate::Error::NoSuchContainer(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        for mount in record.mounts.iter().filter(|mount| mount.kind == MountKind::Volume) {
            let users = usage.entry(mount.name.clone()).or_default();
            if users.last().is_none_or(|last| last != record.id.as_str()) {
                users.push(record.id.to_string());
            }
        }
    }
    Ok(usage)
}

impl Volume {
    /// What it is called.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// What it was made to be.
    pub fn record(&self) -> &VolumeRecord {
        &self.record
    }

    /// What containers see: docker's `Mountpoint`.
    pub fn data(&self) -> PathBuf {
        self.folder.join("_data")
    }

    fn record_size(&self) -> u64 {
        serde_json::to_vec(&self.record).map_or(0, |text| text.len() as u64 + 1)
    }

    /// The lock of this volume; `None` if it is gone, or another volume has its name now.
    fn locked(&self, operation: FlockOperation) -> Result<Option<File>, Error> {
        let path = self.folder.join("lock");
        let lock = match open_lock(&path) {
            Ok(lock) => lock,
            Err(Error::Container(crate::Error::System { source, .. })) if is_absent(&source) => return Ok(None),
            Err(error) => return Err(error),
        };
        wait(&lock, operation).map_err(Error::system("lock", &path))?;
        let inode = |found: std::fs::Metadata| (found.dev(), found.ino());
        let (held, named) = (lock.metadata().ok().map(inode), std::fs::metadata(&path).ok().map(inode));
        Ok((held == named && held.is_some()).then_some(lock))
    }
}

/// Docker's rule for names, and that of file systems.
fn check_name(name: &str) -> Result<(), Error> {
    check_volume_name(name)?;
    if name.len() <= 255 { Ok(()) } else { Err(Error::LongName(name.to_owned())) }
}

/// Makes a folder that is closed to others.
fn make_folder(path: &Path) -> Result<(), Error> {
    DirBuilder::new().mode(0o700).recursive(true).create(path).map_err(Error::system("make", path))
}

fn open_lock(path: &Path) -> Result<File, Error> {
    File::options().write(true).create(true).truncate(false).open(path).map_err(Error::system("open", path))
}

fn wait(lock: impl AsFd, operation: FlockOperation) -> Result<(), Errno> {
    loop {
        match flock(&lock, operation) {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

/// Moves what is called `name`, unless the name is taken there; whether it was moved.
fn move_new(from: impl AsFd, to: impl AsFd, name: &std::ffi::CStr) -> Result<bool, Errno> {
    match renameat_with(from, name, to, name, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(error) => Err(error),
    }
}
