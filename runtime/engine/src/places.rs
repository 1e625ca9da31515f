//! Where the store lies.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cove_oci::{Codec, Digest};

use crate::{Error, user_namespace};

/// The system's store.
const SYSTEM: &str = "/var/lib/cove";

/// Where the store lies: what must last and what may go with the next start of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// What lasts: `/var/lib/cove`.
    pub root: PathBuf,
    /// What need not outlive the machine's next start: `/run/cove`.
    pub run: PathBuf,
}

impl Places {
    /// Those of whoever runs this: `/var/lib/cove` and `/run/cove` for root, folders of the XDG base directory
    /// specification for everybody else.
    ///
    /// Who is root of a namespace that a user made (`unshare --map-root-user`) is that user: root's folders are not
    /// theirs.
    pub fn of_this_user() -> Self {
        let user = user_namespace::outer_user();
        if user == 0 && is_ours(Path::new(SYSTEM)) {
            return Places { root: SYSTEM.into(), run: "/run/cove".into() };
        }
        let user = if user == 0 { user_namespace::mapped_user() } else { user };
        let folder = |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = folder("HOME").unwrap_or_else(|| PathBuf::from("/"));
        let root = folder("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share")).join("cove");
        let run = match folder("XDG_RUNTIME_DIR") {
            Some(run) => run.join("cove"),
            None => {
                let run = std::env::temp_dir().join(format!("cove-{user}"));
                // Anybody can make a folder of that name there, and keep it open to themselves.
                if is_closed(&run).unwrap_or(false) { run.join("cove") } else { root.join("run") }
            }
        };
        Places { root, run }
    }

    /// Both under one folder, for tests and for `--root`.
    pub fn under(folder: &Path) -> Self {
        Places { root: folder.join("lib"), run: folder.join("run") }
    }

    /// Makes the run folder, closed to others.
    pub(crate) fn make_run(&self) -> Result<(), Error> {
        if !self.run.exists() {
            fs_err::create_dir_all(self.run.parent().unwrap_or(Path::new("/")))?;
            match std::fs::DirBuilder::new().mode(0o700).create(&self.run) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error.into()),
                _ => {}
            }
        }
        self.check_run()
    }

    /// Refuses a run folder that others can enter, if there is one. One that has our own name is closed.
    pub(crate) fn check_run(&self) -> Result<(), Error> {
        let refused = |problem| Err(Error::RunFolder { path: self.run.clone(), problem });
        match is_closed(&self.run) {
            Ok(true) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
            Ok(false) => {
                let found = fs_err::symlink_metadata(&self.run)?;
                if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
                    return refused("is no folder of this user");
                }
                // What somebody names with `--run`, `/tmp` for instance, may have to be open.
                if !self.run.ends_with("cove") && !self.run.starts_with(&self.root) {
                    return refused("can be entered by others");
                }
                Ok(fs_err::set_permissions(&self.run, std::fs::Permissions::from_mode(0o700))?)
            }
        }
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.algorithm().as_str()).join(digest.hex())
    }

    pub(crate) fn partial(&self) -> PathBuf {
        self.root.join("partial")
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(crate) fn layer(&self, folder: &str) -> PathBuf {
        self.layers().join(folder)
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Whether there is an image with this id, without opening the store.
    pub fn has_image(&self, id: &str) -> bool {
        id.parse().is_ok_and(|id| self.image(&id).exists())
    }

    pub(crate) fn image(&self, id: &Digest) -> PathBuf {
        self.images().join(format!("{}.json", id.hex()))
    }

    pub(crate) fn references(&self) -> PathBuf {
        self.root.join("references")
    }

    pub(crate) fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    pub(crate) fn leases(&self) -> PathBuf {
        self.root.join("leases")
    }

    pub(crate) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    pub(crate) fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    pub(crate) fn origins(&self) -> PathBuf {
        self.root.join("origins")
    }

    pub(crate) fn compressed(&self) -> PathBuf {
        self.root.join("compressed")
    }

    pub(crate) fn compressed_layer(&self, diff_id: &Digest, codec: Codec) -> PathBuf {
        let codec = match codec {
            Codec::Identity => "tar",
            Codec::Gzip => "gzip",
            Codec::Zstd => "zstd",
        };
        self.compressed().join(format!("{}.{codec}.json", diff_id.hex()))
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.root.join("journal.json")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }
}

/// Whether a folder, or the nearest one above it that exists, belongs to whoever runs this.
fn is_ours(path: &Path) -> bool {
    let found = path.ancestors().find_map(|folder| std::fs::metadata(folder).ok());
    found.is_some_and(|found| found.uid() == rustix::process::geteuid().as_raw())
}

/// Whether this is a folder that only whoever runs this can enter.
fn is_closed(path: &Path) -> std::io::Result<bool> {
    let found = std::fs::symlink_metadata(path)?;
    let ours = found.uid() == rustix::process::geteuid().as_raw();
    Ok(found.is_dir() && ours && found.mode() & 0o077 == 0)
}
