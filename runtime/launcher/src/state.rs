//! What is remembered of a container: a folder of the runtime's root with `state.json` in it.
//!
//! The file says what was made; what the container does now is asked of the system each time.

use std::collections::HashMap;
use std::fmt;
use std::fs::{DirBuilder, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::cgroups::Cgroups;
use crate::config::{OCI_VERSION, Process};
use crate::process_id::ProcessId;
use crate::{Error, starter};

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being made.
    Creating,
    /// Everything is there; its process waits for `start`.
    Created,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its process has ended.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The container's name.
    pub id: String,
    /// Its first process; while it is being made, the process that makes it.
    pub init: ProcessId,
    /// Whether it is being made.
    #[serde(default)]
    pub creating: bool,
    /// Where `config.json` is.
    pub bundle: PathBuf,
    /// Where the root file system is.
    pub rootfs: PathBuf,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Who made it.
    pub owner: String,
    /// Of `config.json`.
    pub annotations: HashMap<String, String>,
    /// Its cgroups.
    pub cgroups: Rc<Cgroups>,
    /// Namespaces that it has for itself or joined, as flags of clone(2).
    pub namespaces: u64,
    /// Those of them that were made for it.
    #[serde(default)]
    pub own_namespaces: u64,
    /// Its process as `config.json` has it: what `exec` begins with.
    pub process: Option<Process>,
    /// The seccomp profile, as JSON.
    pub seccomp: Option<Box<RawValue>>,
    /// Hooks that are still to be called.
    pub hooks: Option<oci_spec::runtime::Hooks>,
    /// Of `config.json`.
    pub personality: Option<oci_spec::runtime::LinuxPersonality>,
    /// Whether another session keyring is wanted.
    pub new_keyring: bool,
}

/// What `state` prints and hooks read: runtime-spec, runtime.md, "State".
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State<'a> {
    /// Version of the specification.
    pub oci_version: &'a str,
    /// The container's name.
    pub id: &'a str,
    /// Number of its process; 0 when it has ended.
    pub pid: i32,
    /// What it does.
    pub status: Status,
    /// Where its bundle is.
    pub bundle: &'a Path,
    /// Where its root file system is. Not of the specification, but runc says it.
    pub rootfs: &'a Path,
    /// When it was made. As above.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub created: &'a str,
    /// Who made it. As above.
    pub owner: &'a str,
    /// Of `config.json`.
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub annotations: &'a HashMap<String, String>,
}

/// The folder of all containers.
#[derive(Debug, Clone)]
pub struct RootFolder {
    path: PathBuf,
    seccomp_cache: PathBuf,
}

/// A container's folder.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

const RECORD: &str = "state.json";
/// Programs of seccomp that were compiled before. No container can have this name.
const CACHE: &str = ",seccomp";

impl RootFolder {
    /// A folder of this user; made when the first container is.
    pub fn at(path: PathBuf) -> Self {
        Self { seccomp_cache: path.join(CACHE), path }
    }

    /// Keeps compiled seccomp programs in another folder of this user than in this one: several root folders share them so.
    pub fn with_seccomp_cache(self, folder: PathBuf) -> Self {
        Self { seccomp_cache: folder, ..self }
    }

    /// The folder that a container has or would have. The name is checked.
    pub fn folder(&self, id: &str) -> Result<Folder, Error> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte);
        if id.is_empty() || id.len() > 1024 || id == "." || id == ".." || !id.bytes().all(fits) {
            return Err(Error::BadId(id.to_owned()));
        }
        Ok(Folder(self.path.join(id)))
    }

    /// Makes a container's folder: who is first has the name.
    pub(crate) fn claim(&self, id: &str) -> Result<Folder, Error> {
        let folder = self.folder(id)?;
        let make = |path: &Path, parents| DirBuilder::new().mode(0o700).recursive(parents).create(path);
        let mut made = make(&folder.0, false);
        if made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            make(&self.path, true).map_err(Error::file("make", &self.path))?;
            made = make(&folder.0, false);
        }
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Error::Exists),
            made => {
                made.map_err(Error::file("make", &folder.0))?;
                Ok(folder)
            }
        }
    }

    /// Where compiled seccomp programs are kept.
    pub(crate) fn seccomp_cache(&self) -> &Path {
        &self.seccomp_cache
    }

    /// All containers, by name. What has no record, because it is just being made, is passed over.
    pub fn containers(&self) -> Result<Vec<(Folder, Record)>, Error> {
        let entries = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::file("read", &self.path))?,
        };
        let mut names: Vec<_> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        let folders = names.iter().filter_map(|name| self.folder(name).ok());
        Ok(folders.filter_map(|folder| folder.read().ok().map(|record| (folder, record))).collect())
    }
}

impl Folder {
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What is remembered of the container.
    pub fn read(&self) -> Result<Record, Error> {
        let path = self.0.join(RECORD);
        let text = match std::fs::read_to_string(&path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(Error::NoSuchContainer);
            }
            text => text.map_err(Error::file("read", &path))?,
        };
        serde_json::from_str(&text).map_err(|error| Error::file("read", path)(io::Error::other(error)))
    }

    /// Remembers, whole or not at all.
    pub(crate) fn write(&self, record: &Record) -> Result<(), Error> {
        let text =
            serde_json::to_vec(record).map_err(|error| Error::file("write", &self.0)(io::Error::other(error)))?;
        replace(&self.0.join(RECORD), &text)
    }

    /// Forgets the container. For one that has no record, because who made it was killed; others are deleted.
    pub fn remove(&self) -> Result<(), Error> {
        match std::fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", &self.0)(error)),
            _ => Ok(()),
        }
    }

    /// What the container does now.
    pub fn status(&self, record: &Record) -> Result<Status, Error> {
        if !record.init.runs() {
            return Ok(Status::Stopped);
        }
        if record.creating {
            return Ok(Status::Creating);
        }
        if record.cgroups.is_frozen()? {
            return Ok(Status::Paused);
        }
        Ok(if starter::waits(self) { Status::Created } else { Status::Running })
    }
}

impl Record {
    /// What the specification calls its state.
    pub fn state(&self, status: Status) -> State<'_> {
        let pid = self.init.pid().filter(|_| status != Status::Stopped).map_or(0, |pid| pid.as_raw_nonzero().get());
        State {
            oci_version: OCI_VERSION,
            id: &self.id,
            pid,
            status,
            bundle: &self.bundle,
            rootfs: &self.rootfs,
            created: &self.created,
            owner: &self.owner,
            annotations: &self.annotations,
        }
    }
}

/// Writes a new file and puts it in the place of the old one. 0600: environments hold secrets.
pub(crate) fn replace(path: &Path, text: &[u8]) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let new = path.with_file_name(name);
    let write = || -> io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(text)?;
        std::fs::rename(&new, path)
    };
    write().map_err(|error| {
        let _ = std::fs::remove_file(&new);
        Error::file("write", path)(error)
    })
}
