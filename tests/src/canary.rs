//! Files of the host that no container may touch, and the proof that none has.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::{Scratch, Tree};

/// A folder on the host with names that a runtime's set-up writes, and what it was like when it was made.
pub struct Canary {
    folder: Scratch,
    before: Tree,
}

impl Canary {
    /// A folder that looks like `/dev` and `/etc` at once: whatever is created, removed, truncated, masked or given
    /// another mode or owner through a link that leads here, changes something in it.
    pub fn new() -> Self {
        let folder = Scratch::new("canary");
        let tree = folder.folder("tree");
        for name in ["shm", "pts", "mqueue", "sys", "self", "folder", "net"] {
            folder.folder(&format!("tree/{name}"));
        }
        for name in ["ptmx", "console", "null", "hosts", "passwd", "group", "resolv.conf", "file", "self/status"] {
            let path = folder.write(&format!("tree/{name}"), format!("the host's {name}\n"));
            fs::set_permissions(path, fs::Permissions::from_mode(0o640)).expect("set a mode");
        }
        symlink("file", tree.join("link")).expect("make a link");
        let before = Tree::read(&tree);
        Self { folder, before }
    }

    /// The folder.
    pub fn path(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// The way to the folder from a folder so many levels below the root of the host.
    pub fn relative(&self, from: &Path) -> PathBuf {
        let up: PathBuf = from.components().map(|_| "..").collect();
        up.join(self.path().strip_prefix("/").expect("an absolute path"))
    }

    /// What is different now; empty if nothing is.
    pub fn damage(&self) -> String {
        let now = Tree::read(&self.path());
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("this process's mounts");
        let path = self.folder.path().to_str().expect("a path that is text").to_owned();
        let mounted: Vec<_> = mounts.lines().filter(|line| line.contains(&path)).collect();
        match (now == self.before, mounted.is_empty()) {
            (true, true) => String::new(),
            (true, false) => format!("mounted over the canary: {mounted:?}"),
            (false, _) => format!("the canary has changed: {}", now.differences(&self.before).join("; ")),
        }
    }

    /// Fails if anything is different.
    #[track_caller]
    pub fn assert_untouched(&self, after: &str) {
        let damage = self.damage();
        assert!(damage.is_empty(), "after {after}: {damage}");
    }
}

impl Default for Canary {
    fn default() -> Self {
        Self::new()
    }
}
