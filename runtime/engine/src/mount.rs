//! Mounts the layers of an image on top of each other, read-only, by overlayfs.
//!
//! Such a mount is for looking at. Images hold set-user-id programs with known holes and may hold device nodes: neither
//! works there, and the folder that the mounts lie in is closed to other users.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cove_container::Overlay;
use cove_oci::Digest;

use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MoveMountFlags, UnmountFlags, move_mount, unmount};

use crate::image::{self, Image};
use crate::store::Store;
use crate::unpack::{self, OverlayXattr, Unpacked};
use crate::{Error, user_namespace};

impl Store {
    /// Mounts an image read-only and gives the folder; that of the mount that is there, if there is one.
    pub fn mount(&self, image: &Image) -> Result<PathBuf, Error> {
        if user_namespace::is_own() {
            return Err(Error::Mount {
                reason: "this command works in a namespace of its own, which ends with it, and the mount too"
                    .to_owned(),
                advice: "start `unshare --user --map-root-user --mount` and run it in that shell, or run it as root",
            });
        }
        self.places.make_run()?;
        let folder = self.mount_folder(image.id());
        // Whoever removes images looks for mounts under the same lock.
        let _lock = self.lock()?;
        if image::read_record(&self.places, image.id())?.is_none() {
            return Err(Error::NoSuchImage(image.id().to_string()));
        }
        if is_mounted(&folder) {
            return Ok(folder);
        }
        fs_err::create_dir_all(&folder)?;
        let mut layers = image.layer_folders();
        layers.extend(self.root_folder(image)?);
        mount(&layers, &self.places.run.join("empty"), &folder, self.overlay)?;
        Ok(folder)
    }

    /// An empty folder with the attributes that the image's root shall have, to be mounted on top; `None` if the topmost
    /// layer has them. Most layers do not carry their root, and are kept independently of those that do.
    fn root_folder(&self, image: &Image) -> Result<Option<PathBuf>, Error> {
        let mut topmost_first = image.layers().iter().rev();
        if topmost_first.next().is_none_or(|layer| layer.carries_root) {
            return Ok(None);
        }
        let Some(carrying) = topmost_first.find(|layer| layer.carries_root) else { return Ok(None) };
        let folder = self.places.run.join("roots").join(image.id().hex());
        if folder.exists() {
            fs_err::remove_dir(&folder)?;
        }
        fs_err::create_dir_all(&folder)?;
        let nothing = Unpacked::default();
        let options = unpack::UnpackOptions { overlay: self.overlay, ..crate::unpack_options() };
        unpack::settle(&folder, &nothing, std::slice::from_ref(&carrying.folder), &options)?;
        Ok(Some(folder))
    }

    /// Takes the mount of an image away.
    pub fn unmount(&self, image: &Image) -> Result<(), Error> {
        let _lock = self.lock()?;
        let folder = self.mount_folder(image.id());
        // Earlier versions mounted as often as they were asked to.
        while take_away(&folder)? && is_mounted(&folder) {}
        let root = self.places.run.join("roots").join(image.id().hex());
        for folder in [folder, root] {
            match fs_err::remove_dir(folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Where an image is mounted, if it is.
    pub(crate) fn mounted_at(&self, id: &Digest) -> Option<PathBuf> {
        Some(self.mount_folder(id)).filter(|folder| is_mounted(folder))
    }

    /// Removes what mounts that are gone, with a start of the machine for instance, have left in the run folder.
    pub(crate) fn sweep_mounts(&self) -> Result<(), Error> {
        let mut mounted = HashSet::new();
        for folder in ["images", "roots"].map(|name| self.places.run.join(name)) {
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            for entry in entries {
                let entry = entry?;
                if is_mounted(&entry.path()) {
                    mounted.insert(entry.file_name());
                } else if !mounted.contains(&entry.file_name()) {
                    fs_err::remove_dir(entry.path())?;
                }
            }
        }
        Ok(())
    }

    fn mount_folder(&self, id: &Digest) -> PathBuf {
        self.places.run.join("images").join(id.hex())
    }
}

/// Whether something is mounted on a folder: it lies in another file system than its parent.
fn is_mounted(folder: &Path) -> bool {
    let device = |path: &Path| std::fs::symlink_metadata(path).ok().map(|found| found.dev());
    let (own, parent) = (device(folder), folder.parent().and_then(device));
    own.is_some() && own != parent
}

/// Mounts folders of layers, lowest first, at `target`. `empty` is a folder without anything in it: overlayfs wants
/// two folders at least.
fn mount(layers: &[PathBuf], empty: &Path, target: &Path, attributes: OverlayXattr) -> Result<(), Error> {
    let missing = 2usize.saturating_sub(layers.len());
    // Overlayfs refuses the same folder twice, so an image without layers needs two empty ones.
    let padding = [empty.join("a"), empty.join("b")];
    for folder in &padding[..missing] {
        fs_err::create_dir_all(folder)?;
    }
    let lower = [&padding[..missing], layers].concat();
    let overlay = Overlay { lower: &lower, upper: None, user_attributes: attributes == OverlayXattr::User };
    let for_looking_at =
        MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mounted = overlay.mount(for_looking_at).and_then(|mount| {
        move_mount(mount.as_fd(), "", rustix::fs::CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
    });
    mounted.map_err(refused)
}

/// Takes the mount at `target` away; whether there was one. What still uses it keeps it until it has finished.
fn take_away(target: &Path) -> Result<bool, Error> {
    match unmount(target, UnmountFlags::DETACH) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOENT) => Ok(false),
        Err(error) => Err(refused(error)),
    }
}

fn refused(error: Errno) -> Error {
    let advice = match error {
        Errno::PERM | Errno::ACCESS => "run it as root, or inside `unshare --user --map-root-user --mount`",
        Errno::NODEV => "this kernel has no overlayfs: load the module `overlay`",
        _ => "see the kernel's log (`dmesg`) for what overlayfs did not like",
    };
    Error::Mount { reason: error.to_string(), advice }
}
