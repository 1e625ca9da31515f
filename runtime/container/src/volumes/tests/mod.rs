//! Volumes and mounts against what docker 20.10 did with the same.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod keep;
mod resolve;
mod seed;
mod start;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use super::{Error, Volume, Volumes, Wanted};
use crate::config::{Config, HostConfig, MountPoint};
use crate::{Container, ContainerId, Containers, Record, RootFolder};

/// A root folder of a test.
struct Place {
    folder: tempfile::TempDir,
    volumes: Volumes,
    containers: Containers,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (root, run) = (folder.path().join("lib"), folder.path().join("run"));
        Self { volumes: Volumes::new(&root), containers: Containers::new(&root, &run), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn volume(&self, name: &str) -> Volume {
        self.volumes.create(named(name)).unwrap()
    }

    fn container(&self, name: &str, mounts: Vec<MountPoint>) -> Container {
        self.containers.create(record(name, mounts)).unwrap()
    }

    /// What `create` does: resolves, writes the record.
    fn create(&self, name: &str, config: &Config, host_config: &HostConfig) -> Result<Record, Error> {
        let resolved = self.volumes.resolve(config, host_config, &self.containers)?;
        let record = record(name, resolved.mounts);
        Ok(self.containers.create(record)?.record()?)
    }
}

fn record(name: &str, mounts: Vec<MountPoint>) -> Record {
    Record {
        id: ContainerId::random().unwrap(),
        name: name.to_owned(),
        created: OffsetDateTime::now_utc(),
        image: String::new(),
        platform: "linux/amd64".to_owned(),
        layers: Vec::new(),
        user_attributes: false,
        root: RootFolder::default(),
        mounts,
        config: Config::default(),
        host_config: HostConfig::default(),
        endpoints: BTreeMap::new(),
    }
}

fn named(name: &str) -> Wanted {
    Wanted { name: Some(name.to_owned()), ..Wanted::default() }
}

fn map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
