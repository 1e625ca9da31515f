//! Temporary folders.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::Cmd;

/// A temporary folder that goes, with everything mounted in it, when this is dropped.
///
/// It lies under `TMPDIR`, or else under `/var/tmp`: on a disk, which `/tmp` often is not, and with a path short
/// enough for Unix sockets. With `COVE_TESTS_KEEP` set it stays, to be looked at.
#[derive(Debug)]
pub struct Scratch {
    folder: Option<TempDir>,
    path: PathBuf,
}

impl Scratch {
    /// A new empty folder, `label` being the beginning of its name. Every user may enter it.
    pub fn new(label: &str) -> Self {
        let parent = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let folder = tempfile::Builder::new()
            .prefix(&format!("{label}."))
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(&parent)
            .unwrap_or_else(|error| panic!("make a folder under {}: {error}", parent.display()));
        let path = folder.path().to_owned();
        Self { folder: Some(folder), path }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in the folder.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a folder in the folder.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("make {}: {error}", path.display()));
        path
    }

    /// Writes a file in the folder.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, content).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Some(folder) = self.folder.take() else { return };
        if std::env::var_os("COVE_TESTS_KEEP").is_some() {
            eprintln!("kept {}", folder.keep().display());
            return;
        }
        // Storage drivers leave a mount of their root behind.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let below =
            mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|at| Path::new(at).starts_with(&self.path));
        for mount in below.collect::<Vec<_>>().into_iter().rev() {
            let _ = Cmd::new("umount").args(["-l", mount]).run();
        }
        if let Err(error) = folder.close() {
            eprintln!("could not remove {}: {error}", self.path.display());
        }
    }
}
