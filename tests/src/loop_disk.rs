//! A disk of one's own, whose power can be cut.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use crate::{Cmd, Scratch};

/// An ext4 file system in a file, mounted from a loop device; unmounted when dropped.
///
/// `kill -9` leaves everything in the page cache, so it tells nothing about syncing. This tells: after
/// [`LoopDisk::cut_power`] only what had reached the "disk" is there.
pub struct LoopDisk {
    folder: Scratch,
    /// Counts the power cuts; each leaves an image of its own.
    cuts: Cell<u32>,
    mounted: PathBuf,
}

/// `EXT4_IOC_SHUTDOWN`, that is `_IOR('X', 125, __u32)`, and its flag `EXT4_GOING_FLAGS_NOLOGFLUSH`: stop at
/// once, and do not even write out the journal.
const SHUTDOWN: &str = "open my $root, '<', $ARGV[0] or die \"open: $!\";
my $flags = pack 'L', 2;
ioctl $root, 0x8004587d, $flags or die \"ioctl: $!\";";

impl LoopDisk {
    /// Makes a file system of so many bytes and mounts it at `at`, a folder that is made if need be.
    pub fn mount(bytes: u64, at: &Path) -> Self {
        let folder = Scratch::new("disk");
        let disk = Self { folder, cuts: Cell::new(0), mounted: at.to_owned() };
        std::fs::File::create(disk.image()).and_then(|file| file.set_len(bytes)).expect("a sparse file");
        // Everything is initialised now: a fresh file system that is still at it would write of its own accord.
        let features = "lazy_itable_init=0,lazy_journal_init=0";
        Cmd::new("mkfs.ext4").args(["-q", "-m", "0", "-E", features]).arg(disk.image()).ok();
        std::fs::create_dir_all(at).expect("make the folder to mount at");
        disk.attach();
        disk
    }

    /// Cuts the power: nothing reaches the disk any more, and every access fails.
    pub fn cut_power(&self) {
        Cmd::new("perl").args(["-e", SHUTDOWN]).arg(&self.mounted).ok();
    }

    /// Brings it back, as a machine does that starts again.
    ///
    /// What is mounted then is a copy of what the disk held: as long as anybody has a hand on the old one (another
    /// mount namespace, a process that is ending), the kernel would give us that again, with everything it
    /// remembers of it.
    pub fn repair(&self) {
        self.detach();
        let before = self.image();
        self.cuts.set(self.cuts.get() + 1);
        Cmd::new("cp").arg("--sparse=always").arg(&before).arg(self.image()).ok();
        std::fs::remove_file(&before).expect("remove the old image");
        self.attach();
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        let lines = Cmd::new("df").args(["--output=avail", "-B1"]).arg(&self.mounted).ok();
        lines.lines().last().and_then(|free| free.trim().parse().ok()).expect("df prints a number")
    }

    fn image(&self) -> PathBuf {
        self.folder.join(format!("image-{}", self.cuts.get()))
    }

    fn attach(&self) {
        Cmd::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(self.image()).arg(&self.mounted).ok();
    }

    fn detach(&self) {
        Cmd::new("umount").arg("-l").arg(&self.mounted).ok();
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = Cmd::new("umount").arg("-l").arg(&self.mounted).run();
    }
}
