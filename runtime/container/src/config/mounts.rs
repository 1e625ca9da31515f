//! Mounts: as they were asked for with `--mount` (`Mount`), and as they became (`MountPoint`).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::null;

/// A word that is no type of mount, or no propagation.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("invalid {kind}: {text}")]
pub struct UnknownMountWord {
    /// `mount type` or `propagation`.
    pub kind: &'static str,
    /// What was written.
    pub text: String,
}

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A folder or file of the host.
    Bind,
    /// A folder that the engine keeps.
    #[default]
    Volume,
    /// Memory.
    Tmpfs,
}

/// Whether mounts made later on one side appear on the other: mount_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Neither way, with everything below.
    Rprivate,
    /// Neither way.
    Private,
    /// Both ways, with everything below.
    Rshared,
    /// Both ways.
    Shared,
    /// Only into the container, with everything below.
    Rslave,
    /// Only into the container.
    Slave,
}

/// A mount as `--mount` asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mount {
    /// What is mounted.
    #[serde(rename = "Type")]
    pub kind: MountKind,
    /// Path on the host, or name of the volume; empty for an anonymous volume and for memory.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub source: String,
    /// Path in the container.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub target: String,
    /// Whether nothing can be written there.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub read_only: bool,
    /// Docker's word for other platforms.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub consistency: String,
    /// Of a bind mount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    /// Of a volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    /// Of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
}

/// Options of a bind mount.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BindOptions {
    /// How later mounts propagate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation: Option<Propagation>,
    /// Whether mounts below the source stay behind.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub non_recursive: bool,
    /// Whether a source that does not exist is made.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub create_mountpoint: bool,
    /// Whether mounts below a read-only source stay writable.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub read_only_non_recursive: bool,
    /// Whether it is an error that mounts below a read-only source cannot be made read-only.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub read_only_force_recursive: bool,
}

/// Options of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeOptions {
    /// Whether an empty volume does not get what the image has at its place.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub no_copy: bool,
    /// Labels of a volume that is made.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub labels: BTreeMap<String, String>,
    /// Folder of the volume that is mounted, relative to its root.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub subpath: String,
    /// Who keeps the volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_config: Option<Driver>,
}

/// Who keeps a volume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Driver {
    /// Its name.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub name: String,
    /// What it is told.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub options: BTreeMap<String, String>,
}

/// Options of memory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TmpfsOptions {
    /// Most that fits, in bytes; 0 for the kernel's default, half of the memory.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub size_bytes: i64,
    /// Permissions of its root.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub mode: u32,
}

/// A mount as it became: an entry of `Mounts`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountPoint {
    /// What is mounted.
    #[serde(rename = "Type")]
    pub kind: MountKind,
    /// Name of the volume.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub name: String,
    /// Path on the host.
    #[serde(deserialize_with = "null::read")]
    pub source: String,
    /// Path in the container.
    #[serde(deserialize_with = "null::read")]
    pub destination: String,
    /// Who keeps the volume.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub driver: String,
    /// The options as they were written in `-v`.
    #[serde(deserialize_with = "null::read")]
    pub mode: String,
    /// Whether it can be written to.
    #[serde(rename = "RW", deserialize_with = "null::read")]
    pub writable: bool,
    /// How later mounts propagate; nothing where that has no meaning.
    #[serde(with = "no_propagation")]
    pub propagation: Option<Propagation>,
    /// What `inspect` does not print, and the record of a container keeps.
    #[serde(skip)]
    pub details: MountDetails,
}

/// What was asked for a mount and is not shown as `Mounts`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MountDetails {
    /// Whether the volume was made for this container and goes with it (`rm -v`).
    #[serde(skip_serializing_if = "null::is_default")]
    pub anonymous: bool,
    /// Whether an empty volume gets what the image has at its place.
    #[serde(skip_serializing_if = "null::is_default")]
    pub seeded: bool,
    /// Whether a source that does not exist is made when the container starts.
    #[serde(skip_serializing_if = "null::is_default")]
    pub creates_source: bool,
    /// Whether mounts below the source stay behind.
    #[serde(skip_serializing_if = "null::is_default")]
    pub non_recursive: bool,
    /// Folder of the volume that is mounted, relative to its root.
    #[serde(skip_serializing_if = "null::is_default")]
    pub subpath: String,
}

impl MountKind {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Volume => "volume",
            Self::Tmpfs => "tmpfs",
        }
    }
}

impl FromStr for MountKind {
    type Err = UnknownMountWord;

    fn from_str(text: &str) -> Result<Self, UnknownMountWord> {
        [Self::Bind, Self::Volume, Self::Tmpfs]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownMountWord { kind: "mount type", text: text.to_owned() })
    }
}

impl fmt::Display for MountKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Propagation {
    /// Its word, which is mount(8)'s option too.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rprivate => "rprivate",
            Self::Private => "private",
            Self::Rshared => "rshared",
            Self::Shared => "shared",
            Self::Rslave => "rslave",
            Self::Slave => "slave",
        }
    }
}

impl FromStr for Propagation {
    type Err = UnknownMountWord;

    fn from_str(text: &str) -> Result<Self, UnknownMountWord> {
        [Self::Rprivate, Self::Private, Self::Rshared, Self::Shared, Self::Rslave, Self::Slave]
            .into_iter()
            .find(|propagation| propagation.as_str() == text)
            .ok_or_else(|| UnknownMountWord { kind: "propagation", text: text.to_owned() })
    }
}

impl fmt::Display for Propagation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// No propagation is an empty text.
mod no_propagation {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Propagation;

    pub fn serialize<S: Serializer>(value: &Option<Propagation>, target: S) -> Result<S::Ok, S::Error> {
        target.serialize_str(value.map_or("", Propagation::as_str))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Propagation>, D::Error> {
        let text = Option::<String>::deserialize(source)?.unwrap_or_default();
        if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(serde::de::Error::custom) }
    }
}

/// Mounts in the record of a container: with the details that docker's `Mounts` leave out.
pub(crate) mod kept {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{MountDetails, MountPoint};

    #[derive(Serialize)]
    struct Written<'a> {
        #[serde(flatten)]
        shown: &'a MountPoint,
        #[serde(skip_serializing_if = "is_nothing")]
        details: &'a MountDetails,
    }

    #[derive(Deserialize)]
    struct Read {
        #[serde(flatten)]
        shown: MountPoint,
        #[serde(default)]
        details: MountDetails,
    }

    fn is_nothing(details: &&MountDetails) -> bool {
        **details == MountDetails::default()
    }

    pub fn serialize<S: Serializer>(mounts: &[MountPoint], target: S) -> Result<S::Ok, S::Error> {
        target.collect_seq(mounts.iter().map(|mount| Written { shown: mount, details: &mount.details }))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<MountPoint>, D::Error> {
        let mounts: Vec<Read> = Vec::deserialize(source)?;
        Ok(mounts.into_iter().map(|read| MountPoint { details: read.details, ..read.shown }).collect())
    }
}
