//! Overlay mounts as containers have them.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use cove_engine::unpack::{OverlayXattr, UnpackOptions, settle, unpack};
use cove_engine::{Change, RootBefore, SnapshotOptions, diff, write_layer};
use rustix::fs::{XattrFlags, lsetxattr};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::listing::{Listing, list};

/// The folders of a container: layers, topmost first, and a writable one.
pub struct Container {
    place: tempfile::TempDir,
    pub lowers: Vec<PathBuf>,
    pub upper: PathBuf,
    work: PathBuf,
    merged: PathBuf,
    is_mounted: bool,
    overlay: OverlayXattr,
}

impl Container {
    /// One of an image whose lowest layer `make` fills.
    pub fn new(make: impl FnOnce(&Path)) -> Self {
        Container::with(OverlayXattr::Trusted, make)
    }

    /// One as root has it, or as an ordinary user has it.
    pub fn with(overlay: OverlayXattr, make: impl FnOnce(&Path)) -> Self {
        let place = tempfile::tempdir().unwrap();
        // Thousands of small trees would wait for the disk.
        mount("tmpfs", place.path(), "tmpfs", MountFlags::empty(), None).unwrap();
        let name = [overlay.prefix(), b"try"].concat();
        // Older kernels do not let a tmpfs have the attributes that users may set.
        let overlay = match lsetxattr(place.path(), name.as_slice(), b"", XattrFlags::empty()) {
            Ok(()) => overlay,
            Err(_) => OverlayXattr::Trusted,
        };
        let bottom = place.path().join("0");
        std::fs::create_dir(&bottom).unwrap();
        make(&bottom);
        let path = |name: &str| place.path().join(name);
        let (upper, work, merged) = (path("upper"), path("work"), path("merged"));
        std::fs::create_dir(&merged).unwrap();
        let mut container = Container { lowers: vec![bottom], upper, work, merged, is_mounted: false, overlay, place };
        container.mount();
        container
    }

    /// What processes in the container see.
    pub fn root(&self) -> &Path {
        &self.merged
    }

    fn mount(&mut self) {
        std::fs::create_dir(&self.upper).unwrap();
        std::fs::create_dir(&self.work).unwrap();
        let data = format!("{},upperdir={},workdir={}", self.lower_option(), self.upper.display(), self.work.display());
        self.overlay(&self.merged, &data);
        self.is_mounted = true;
    }

    fn lower_option(&self) -> String {
        let lowers: Vec<_> = self.lowers.iter().map(|folder| folder.to_str().unwrap()).collect();
        format!("lowerdir={}", lowers.join(":"))
    }

    fn overlay(&self, at: &Path, data: &str) {
        let volatile = if data.contains("upperdir") { ",volatile" } else { "" };
        // With the attributes of users the kernel refuses to be told that it shall not redirect: it does not.
        let whose = if self.overlay == OverlayXattr::User { "userxattr" } else { "redirect_dir=off,metacopy=off" };
        let data = format!("{data},index=off{volatile},{whose}");
        mount("overlay", at, "overlay", MountFlags::empty(), Some(&*CString::new(data).unwrap())).unwrap();
    }

    pub fn unmount(&mut self) {
        if std::mem::take(&mut self.is_mounted) {
            unmount(&self.merged, UnmountFlags::DETACH).unwrap();
        }
    }

    /// Makes what was written a layer, as it is, under a new writable one.
    pub fn next_layer(&mut self) {
        self.unmount();
        let folder = self.place.path().join(self.lowers.len().to_string());
        std::fs::rename(&self.upper, &folder).unwrap();
        std::fs::remove_dir_all(&self.work).unwrap();
        self.lowers.insert(0, folder);
        self.mount();
    }

    /// What the image shows.
    pub fn below(&self) -> Listing {
        let at = self.place.path().join("below");
        let empty = self.place.path().join("empty");
        for folder in [&at, &empty] {
            std::fs::create_dir_all(folder).unwrap();
        }
        self.overlay(&at, &format!("{}:{}", self.lower_option(), empty.display()));
        let listing = list(&at);
        unmount(&at, UnmountFlags::DETACH).unwrap();
        listing
    }

    /// What the container shows, after it has ended: as long as it runs, the kernel remembers for two names of one file
    /// that it was two files before.
    pub fn seen(&self) -> Listing {
        let at = self.place.path().join("seen");
        std::fs::create_dir_all(&at).unwrap();
        self.overlay(
            &at,
            &self.lower_option().replacen("lowerdir=", &format!("lowerdir={}:", self.upper.display()), 1),
        );
        let listing = list(&at);
        unmount(&at, UnmountFlags::DETACH).unwrap();
        listing
    }

    pub fn options(&self) -> SnapshotOptions {
        SnapshotOptions {
            root: RootBefore::Like(self.lowers.last().unwrap().clone()),
            overlay: self.overlay,
            ..SnapshotOptions::default()
        }
    }

    pub fn diff(&self) -> Vec<Change> {
        diff(&self.upper, &self.lowers, &self.options()).unwrap()
    }

    pub fn layer(&self) -> Vec<u8> {
        let mut tar = Vec::new();
        write_layer(&self.upper, &self.lowers, &self.options(), &mut tar).unwrap();
        tar
    }

    /// What the image shows with a layer on top.
    pub fn with_layer(&self, tar: &[u8]) -> Listing {
        let (folder, at) = (self.place.path().join("applied"), self.place.path().join("seen"));
        for folder in [&folder, &at] {
            let _ = std::fs::remove_dir_all(folder);
            std::fs::create_dir(folder).unwrap();
        }
        let options = UnpackOptions { overlay: self.overlay, ..UnpackOptions::default() };
        let unpacked = unpack(tar, &folder, &options).unwrap();
        if !unpacked.carries_root {
            settle(&folder, &Default::default(), &self.lowers[self.lowers.len() - 1..], &options).unwrap();
        }
        if !unpacked.is_independent() {
            settle(&folder, &unpacked, &self.lowers, &options).unwrap();
        }
        self.overlay(&at, &self.lower_option().replacen("lowerdir=", &format!("lowerdir={}:", folder.display()), 1));
        let listing = list(&at);
        unmount(&at, UnmountFlags::DETACH).unwrap();
        listing
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.unmount();
        let _ = unmount(self.place.path(), UnmountFlags::DETACH);
    }
}
