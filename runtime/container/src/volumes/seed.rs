//! A volume that is empty gets what the image has at its place, once.
//!
//! It is copied into `seed.new` beside the volume's content first, which becomes `seed.ready` when it is whole; from there
//! it is moved into the content, name by name. While `seed.ready` is there the volume is not seeded yet, however it
//! looks: whoever uses it next moves the rest. The folder that containers see stays the same all the time, for one that
//! runs may have it.

use std::fs::DirBuilder;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, Mode, OFlags, ResolveFlags, fstat, openat, openat2, syncfs};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::copy::{Failed, copy_attributes, copy_folder};
use super::{Error, Volume, Volumes, make_folder, move_new};
use crate::config::{MountKind, MountPoint};
use crate::copying::Copying;
use crate::{Overlay, Record, delete};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What an image has: a mount that is not attached anywhere.
struct Image {
    root: OwnedFd,
}

impl Volumes {
    /// Fills the volumes of a container that are empty with what its image has at their places, as docker does when a
    /// container is made.
    ///
    /// # Errors
    /// The image has no folder there; the disk is full. Then the volume is as empty as it was.
    pub fn seed(&self, record: &Record) -> Result<(), Error> {
        let mut image = None;
        for mount in record.mounts.iter().filter(|mount| mount.kind == MountKind::Volume && mount.details.seeded) {
            let volume = self.find(&mount.name)?;
            volume.mount()?;
            let _lock = volume.lock_content()?;
            volume.finish_seed()?;
            if !is_empty(&volume.data()).map_err(Error::system("read", &volume.data()))? {
                continue;
            }
            let image = match &image {
                Some(image) => image,
                None => image.insert(self.image(&record.layers, record.user_attributes)?),
            };
            if let Some(folder) = image.folder(mount)? {
                volume.seed_from(folder, &mount.destination)?;
            }
        }
        Ok(())
    }

    fn image(&self, layers: &[PathBuf], user_attributes: bool) -> Result<Image, Error> {
        // Overlayfs wants two folders at least, and none twice.
        let padding = [".empty/a", ".empty/b"].map(|name| self.folder.join(name));
        let missing = &padding[..2usize.saturating_sub(layers.len())];
        for folder in missing {
            make_folder(folder)?;
        }
        let lower = [missing, layers].concat();
        let overlay = Overlay { lower: &lower, upper: None, user_attributes };
        let for_reading =
            MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let root = overlay.mount(for_reading).map_err(Error::system("mount", &self.folder))?;
        Ok(Image { root })
    }
}

impl Image {
    /// The folder that a container would see at the place of a mount; links lead to where they would lead it.
    fn folder(&self, mount: &MountPoint) -> Result<Option<OwnedFd>, Error> {
        let path = mount.destination.trim_start_matches('/');
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            return match openat2(&self.root, path, flags, Mode::empty(), resolve) {
                Ok(folder) => Ok(Some(folder)),
                // Not there, or behind something that is no folder.
                Err(Errno::NOENT) => Ok(None),
                Err(Errno::NOTDIR) => Err(Error::OverFile(mount.destination.clone())),
                Err(Errno::AGAIN | Errno::INTR) => continue,
                Err(error) => Err(Error::Seed { path: mount.destination.clone().into(), source: error.into() }),
            };
        }
    }
}

impl Volume {
    fn seed_new(&self) -> PathBuf {
        self.folder.join("seed.new")
    }

    fn seed_ready(&self) -> PathBuf {
        self.folder.join("seed.ready")
    }

    /// Puts right what a killed command has left: before the volume is used. Under the lock of its content.
    fn finish_seed(&self) -> Result<(), Error> {
        let unfinished = self.seed_new();
        if unfinished.exists() {
            delete(&unfinished).1.map_err(Error::system("delete", &unfinished))?;
        }
        if self.seed_ready().exists() { self.move_seed() } else { Ok(()) }
    }

    /// Mounts the volume, if it has to be, and finishes what a killed command has begun in it.
    ///
    /// # Errors
    /// It cannot be mounted; the disk is full.
    pub fn prepare(&self) -> Result<(), Error> {
        self.mount()?;
        if !self.seed_new().exists() && !self.seed_ready().exists() {
            return Ok(());
        }
        let _lock = self.lock_content()?;
        self.finish_seed()
    }

    /// Copies a folder of an image. Under the lock of the content, which is empty.
    fn seed_from(&self, image: OwnedFd, destination: &str) -> Result<(), Error> {
        let copying = Copying { owners: sets_owners(), leaves: &|_| false };
        let failed = |Failed { path, error }: Failed| Error::Seed {
            path: Path::new(destination).join(path),
            source: error.into(),
        };
        if self.needs_mount() {
            // Another file system: nothing can be moved there.
            let data = open(&self.data())?;
            return copy_folder(image.as_fd(), data.as_fd(), &copying).map_err(failed);
        }
        let unfinished = self.seed_new();
        DirBuilder::new().mode(0o700).create(&unfinished).map_err(Error::system("make", &unfinished))?;
        let copied = open(&unfinished).and_then(|folder| {
            copy_folder(image.as_fd(), folder.as_fd(), &copying).map_err(failed)?;
            // After a power cut nobody would copy it again.
            if !self.record.anonymous {
                syncfs(&folder).map_err(Error::system("sync", &unfinished))?;
            }
            std::fs::rename(&unfinished, self.seed_ready()).map_err(Error::system("rename", &unfinished))
        });
        if let Err(error) = copied {
            let _ = delete(&unfinished);
            return Err(error);
        }
        self.move_seed()
    }

    /// Moves what was copied into the content. What a container has made there meanwhile stays.
    fn move_seed(&self) -> Result<(), Error> {
        let (ready, data) = (self.seed_ready(), self.data());
        let (from, to) = (open(&ready)?, open(&data)?);
        let moved = || {
            for entry in Dir::read_from(&from)? {
                let entry = entry?;
                let name = entry.file_name();
                if !matches!(name.to_bytes(), b"." | b"..") {
                    move_new(&from, &to, name)?;
                }
            }
            copy_attributes(from.as_fd(), to.as_fd(), &Copying { owners: sets_owners(), leaves: &|_| false })
        };
        // Moving names out of a folder changes its times.
        let times = fstat(&from).map_err(Error::system("read", &ready))?;
        moved().map_err(Error::system("move", &ready))?;
        crate::copying::On::Open(to.as_fd())
            .set_times(&crate::copying::times_of(&times))
            .map_err(Error::system("move", &data))?;
        delete(&ready).1.map_err(Error::system("delete", &ready))
    }
}

/// Whether this process can give files away.
fn sets_owners() -> bool {
    // Inside a user namespace with one id there is nobody to give them to.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let ids: u64 = map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).sum();
    rustix::process::geteuid().is_root() && ids != 1
}

fn open(folder: &Path) -> Result<OwnedFd, Error> {
    openat(CWD, folder, FOLDER, Mode::empty()).map_err(Error::system("open", folder))
}

fn is_empty(folder: &Path) -> std::io::Result<bool> {
    Ok(std::fs::read_dir(folder)?.next().is_none())
}
