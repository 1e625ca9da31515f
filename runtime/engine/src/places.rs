//! Where the store lies.

use std::path::{Path, PathBuf};

use cove_oci::{Codec, Digest};

use crate::user_namespace;

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
    pub fn of_this_user() -> Self {
        let user = user_namespace::outer_user();
        if user == 0 {
            return Places { root: "/var/lib/cove".into(), run: "/run/cove".into() };
        }
        let folder = |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = folder("HOME").unwrap_or_else(|| PathBuf::from("/"));
        let data = folder("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share"));
        let run = folder("XDG_RUNTIME_DIR").unwrap_or_else(|| std::env::temp_dir().join(format!("cove-{user}")));
        Places { root: data.join("cove"), run: run.join("cove") }
    }

    /// Both under one folder, for tests and for `--root`.
    pub fn under(folder: &Path) -> Self {
        Places { root: folder.join("lib"), run: folder.join("run") }
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
