//! What a container was made to be.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::config::{Config, EndpointSettings, HostConfig, MountPoint};
use crate::{ContainerId, Error};

/// What a container was made to be. Only its name and what `update` changes are ever written again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What it is called for good.
    pub id: ContainerId,
    /// What people call it, without docker's slash.
    pub name: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// Digest of its image.
    pub image: String,
    /// The platform of its image, `linux/amd64`.
    pub platform: String,
    /// The folders below its own changes, lowest first.
    pub layers: Vec<PathBuf>,
    /// Whether overlayfs keeps its attributes as `user.overlay.*`.
    pub user_attributes: bool,
    /// What its root folder is like.
    pub root: RootFolder,
    /// What is mounted into it besides what every container has.
    #[serde(with = "crate::config::kept")]
    pub mounts: Vec<MountPoint>,
    /// Docker's `Config`: what is to run.
    pub config: Config,
    /// Docker's `HostConfig`: how it is to run here.
    pub host_config: HostConfig,
    /// What was asked for its place in a network, by the network's name.
    #[serde(default)]
    pub endpoints: BTreeMap<String, EndpointSettings>,
}

impl Record {
    /// The program and its arguments: entry point, then command.
    pub fn arguments(&self) -> Vec<String> {
        self.config.entrypoint.iter().chain(&self.config.cmd).cloned().collect()
    }
}

/// Owner and mode of a folder that overlayfs shows as the root: its own, not that of the layers below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFolder {
    /// User.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// Permissions, `0o755`.
    pub mode: u32,
}

impl Default for RootFolder {
    fn default() -> Self {
        Self { user: 0, group: 0, mode: 0o755 }
    }
}

impl RootFolder {
    /// Of the topmost layer that says it.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn of(layer: &Path) -> std::io::Result<Self> {
        let found = std::fs::metadata(layer)?;
        Ok(Self { user: found.uid(), group: found.gid(), mode: found.mode() & 0o7777 })
    }

    pub(crate) fn apply(self, folder: &Path) -> Result<(), Error> {
        let permissions = std::fs::Permissions::from_mode(self.mode);
        std::os::unix::fs::chown(folder, Some(self.user), Some(self.group))
            .and_then(|()| std::fs::set_permissions(folder, permissions))
            .map_err(Error::system("make", folder))
    }
}
