//! Leases: what a running command counts on, and folders that it works in.
//!
//! A lease is a file, locked for as long as its owner lives, with the blobs and layer folders that nobody may remove.
//! Lines are added, and leases read by others, only while the store is locked.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::IFlags;

use crate::places::Places;
use crate::{Error, lock, record};
use cove_container::delete;

/// What one command counts on.
#[derive(Debug)]
pub(crate) struct Lease {
    path: PathBuf,
    file: File,
}

impl Lease {
    /// A lease on nothing yet. Only while the store is locked.
    pub(crate) fn take(places: &Places) -> Result<Lease, Error> {
        let path = places.leases().join(record::random_name());
        let file = fs_err::OpenOptions::new().append(true).create_new(true).open(&path)?.into_parts().0;
        lock::try_lock(&file)?;
        Ok(Lease { path, file })
    }

    /// Adds names: digests of blobs, names of layer folders. Only while the store is locked.
    pub(crate) fn add<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<(), Error> {
        let lines: String = names.into_iter().map(|name| format!("{name}\n")).collect();
        Ok((&self.file).write_all(lines.as_bytes())?)
    }

    /// What living commands count on; leases of dead ones are removed. Only while the store is locked.
    pub(crate) fn living(places: &Places) -> Result<HashSet<String>, Error> {
        let mut names = HashSet::new();
        for entry in fs_err::read_dir(places.leases())? {
            let path = entry?.path();
            let file = match fs_err::File::open(&path) {
                Ok(file) => file.into_parts().0,
                // Its owner has just finished.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            if lock::try_lock(&file)? {
                let _ = fs_err::remove_file(&path);
                continue;
            }
            names.extend(fs_err::read_to_string(&path)?.lines().map(str::to_owned));
        }
        Ok(names)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = fs_err::remove_file(&self.path);
    }
}

/// A folder to work in that nobody else can see. It goes with its owner.
#[derive(Debug)]
pub(crate) struct Staging {
    path: PathBuf,
    _locked: File,
}

/// Asks ext4 to begin each folder of this one in a part of the disk of its own. Layers that are unpacked side by side do
/// not wait for each other then, and a pull after a large image was removed does not pass over its inodes: for minutes
/// ext4 looks at each of them again for each new file nearby. Other file systems do without.
fn spread(folder: &File) {
    /// EXT4_TOPDIR_FL, linux/fs.h.
    const TOP_OF_HIERARCHY: IFlags = IFlags::from_bits_retain(0x0002_0000);
    if let Ok(flags) = rustix::fs::ioctl_getflags(folder) {
        let _ = rustix::fs::ioctl_setflags(folder, flags | TOP_OF_HIERARCHY);
    }
}

impl Staging {
    /// A new one. Only while the store is locked: else it could be swept before it is locked itself.
    pub(crate) fn make(places: &Places) -> Result<Staging, Error> {
        use std::os::unix::fs::PermissionsExt;
        let path = places.staging().join(record::random_name());
        fs_err::create_dir(&path)?;
        // The folder that it lies in is nobody else's either.
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o700))?;
        let locked = fs_err::File::open(&path)?.into_parts().0;
        lock::try_lock(&locked)?;
        spread(&locked);
        Ok(Staging { path, _locked: locked })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the folders of the dead. Only while the store is locked.
    pub(crate) fn sweep(places: &Places) -> Result<u64, Error> {
        let mut freed = 0;
        for entry in fs_err::read_dir(places.staging())? {
            let path = entry?.path();
            let Ok(folder) = fs_err::File::open(&path) else { continue };
            if lock::try_lock(folder.file())? {
                let to = places.trash().join(record::random_name());
                fs_err::rename(&path, &to)?;
                freed += 1;
            }
        }
        Ok(freed)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = delete(&self.path);
    }
}
