//! Owner, extended attributes, mode and times, in this order: giving a file away clears its set-id bits and
//! capabilities.

use std::os::fd::BorrowedFd;

pub(crate) use cove_container::copying::{DEFAULT_ACL, On};
use rustix::fs::{Mode, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::limits::{OverlayXattr, UnpackOptions};
use super::tree::path_buf;
use super::{UnpackError, Unpacked};
use crate::tar::{Entry, Time};

/// What new files are like, and what is to be done about it.
#[derive(Debug)]
pub(super) struct Attributes {
    overlay: OverlayXattr,
    one_id: bool,
    uid: u32,
    gid: u32,
    umask: u32,
}

impl Attributes {
    pub(super) fn new(options: &UnpackOptions) -> Self {
        Attributes {
            overlay: options.overlay,
            one_id: options.rootless.is_some(),
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            umask: umask(),
        }
    }

    /// The group of what is made in a folder of this group. Set-group-id folders and some mounts hand on theirs: only
    /// where that makes no difference is it known.
    fn inherited_group(&self, folder: u32) -> Option<u32> {
        (folder == self.gid).then_some(folder)
    }

    /// The owner to set on what was just made, unless it has it already. Counts those that cannot be set.
    pub(super) fn owner(&self, entry: &Entry, folder_gid: u32, result: &mut Unpacked) -> Option<(u32, u32)> {
        if self.one_id {
            result.skipped_owners += u64::from((entry.uid, entry.gid) != (0, 0));
            return None;
        }
        let right = entry.uid == self.uid && self.inherited_group(folder_gid) == Some(entry.gid);
        (!right).then_some((entry.uid, entry.gid))
    }

    /// The mode to make a file with, and whether it is final.
    pub(super) fn creation_mode(&self, wanted: u32, changes_owner: bool) -> (Mode, bool) {
        let plain = wanted & 0o7000 == 0 && wanted & self.umask == 0;
        if plain && !changes_owner { (Mode::from_raw_mode(wanted), true) } else { (Mode::from_raw_mode(0o600), false) }
    }

    /// The group that folders have for certain after this owner was set.
    pub(super) fn group_after(&self, owner: Option<(u32, u32)>, entry: &Entry) -> u32 {
        match owner {
            Some((_, gid)) => gid,
            None if self.one_id => self.gid,
            None => entry.gid,
        }
    }

    /// Sets the extended attributes but for default ACLs, which are for later.
    pub(super) fn xattrs(
        &self,
        on: &On<'_>,
        entry: &Entry,
        path: &[u8],
        result: &mut Unpacked,
    ) -> Result<(), UnpackError> {
        for xattr in &entry.xattrs {
            if xattr.name == DEFAULT_ACL {
                continue;
            }
            let escaped;
            let name = match xattr.name.strip_prefix(self.overlay.prefix()) {
                // Set as it is it would tell overlayfs what to hide or to show. Escaped like this, overlayfs shows it
                // under its own name, without acting upon it.
                Some(rest) => {
                    escaped = [self.overlay.prefix(), b"overlay.", rest].concat();
                    &escaped
                }
                None => &xattr.name,
            };
            match on.set_xattr(name, &xattr.value) {
                Ok(()) => {}
                // As docker does: not every file system and namespace has them all.
                Err(Errno::NOTSUP | Errno::PERM) => result.skipped_xattrs += 1,
                Err(error) => return Err(failed("set an extended attribute of", path, error)),
            }
        }
        Ok(())
    }

    /// Whether owners can be set.
    pub(super) fn sets_owners(&self) -> bool {
        !self.one_id
    }

    /// Whether an attribute is overlayfs's own; escaped ones belong to the image.
    pub(super) fn is_private(&self, name: &[u8]) -> bool {
        name.strip_prefix(self.overlay.prefix()).is_some_and(|rest| !rest.starts_with(b"overlay."))
    }

    /// Makes overlayfs expect whiteouts in a folder: "copied up, from nobody knows where" in its words.
    pub(super) fn expect_whiteouts(&self, folder: BorrowedFd<'_>, path: &[u8]) -> Result<(), UnpackError> {
        rustix::fs::fsetxattr(folder, self.overlay.origin(), b"", XattrFlags::empty())
            .map_err(|error| failed("mark the folder of a whiteout", path, error))
    }

    /// Hides what is below a folder.
    pub(super) fn make_opaque(&self, folder: BorrowedFd<'_>, path: &[u8]) -> Result<(), UnpackError> {
        rustix::fs::fsetxattr(folder, self.overlay.opaque(), b"y", XattrFlags::empty())
            .map_err(|error| failed("make opaque the folder", path, error))
    }
}

/// When something was read and changed; where the archive tells only the latter, it counts for both.
pub(crate) fn times(accessed: Option<Time>, modified: Time) -> Timestamps {
    let time = |time: Time| Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    Timestamps { last_access: time(accessed.unwrap_or(modified)), last_modification: time(modified) }
}

/// An error of the file system at a path inside the layer.
pub(super) fn failed(action: &'static str, path: &[u8], error: Errno) -> UnpackError {
    UnpackError::Io { action, path: path_buf(path), source: error.into() }
}

/// An owner that could not be set.
pub(super) fn owner_failed(path: &[u8], (uid, gid): (u32, u32), error: Errno) -> UnpackError {
    match error {
        // The kernel's answer for ids that the user namespace does not have.
        Errno::INVAL => UnpackError::Owner { path: path_buf(path), uid, gid },
        error => failed("set the owner of", path, error),
    }
}

/// The process's mask, without changing it for other threads even for a moment. All ones if it is unknown.
fn umask() -> u32 {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o777)
}
