//! What a container's options say of mounts: `-v`, `--mount`, `--tmpfs` and the image's volumes in one list, checked in
//! docker's words. Making folders and volumes is for the engine.

use thiserror::Error;

use crate::config::{Config, HostConfig, Mount, MountKind, Propagation};

/// Why a mount cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs)] // each is its text
pub enum MountError {
    #[error("invalid volume specification: '{0}'")]
    Specification(String),
    #[error("invalid volume specification: '{spec}': {source}")]
    InSpecification { spec: String, source: Box<MountError> },
    #[error("invalid mode: {0}")]
    Mode(String),
    #[error("invalid mount config for type \"{kind}\": {source}")]
    Config { kind: MountKind, source: Box<MountError> },
    #[error("invalid mount path: '{0}' mount path must be absolute")]
    Relative(String),
    #[error("invalid specification: destination can't be '/'")]
    Root,
    #[error("field {0} must not be empty")]
    Empty(&'static str),
    #[error("field {0} must not be specified")]
    Specified(&'static str),
    #[error("bind source path does not exist: {0}")]
    NoSource(String),
    #[error("Duplicate mount point: {0}")]
    Duplicate(String),
    #[error(
        "create {0}: {0:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )]
    VolumeName(String),
    #[error("create {0}: volume name is too short, names should be at least two alphanumeric characters")]
    ShortVolumeName(String),
    #[error("must not set ReadOnly mode when using anonymous volumes")]
    ReadOnlyAnonymous,
    #[error("volumes-from specification cannot be an empty string")]
    EmptyVolumesFrom,
    #[error("invalid tmpfs option [{0:?}]")]
    MemoryOption(String),
    #[error("subpath must be a relative path within the volume")]
    Subpath,
}

/// A mount that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requested {
    /// What is mounted.
    pub kind: MountKind,
    /// Path on the host, or name of the volume; empty for an anonymous volume and for memory.
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// The options as they were written in `-v`; docker's default where there were none.
    pub mode: String,
    /// Whether it can be written to.
    pub is_writable: bool,
    /// How later mounts propagate; nothing where that has no meaning.
    pub propagation: Option<Propagation>,
    /// Whether an empty volume gets what the image has at its place.
    pub copies: bool,
    /// Whether a folder of the host that does not exist is made: `-v` does, `--mount` does not.
    pub makes_source: bool,
    /// What else `--mount` said.
    pub mount: Option<Mount>,
}

/// All mounts, in docker's order: `-v`, `--mount`, then anonymous volumes at places that nothing else is mounted at.
/// `--volumes-from` comes before them and is not here. `--tmpfs` is in `HostConfig.Tmpfs` and only checked.
pub fn requested(config: &Config, host: &HostConfig) -> Result<Vec<Requested>, MountError> {
    let mut all: Vec<Requested> = Vec::new();
    for (path, options) in &host.tmpfs {
        check_destination(path)?;
        check_memory_options(options)?;
    }
    let add = |all: &mut Vec<Requested>, mount: Requested| {
        let is_tmpfs = host.tmpfs.keys().any(|path| clean(path) == mount.destination);
        if is_tmpfs || all.iter().any(|before| before.destination == mount.destination) {
            return Err(MountError::Duplicate(mount.destination));
        }
        all.push(mount);
        Ok(())
    };
    for spec in &host.binds {
        add(&mut all, bind(spec)?)?;
    }
    for mount in &host.mounts {
        let checked = checked(mount);
        add(&mut all, checked.map_err(|source| MountError::Config { kind: mount.kind, source: source.into() })?)?;
    }
    for path in config.volumes.keys() {
        let requested = anonymous(path)?;
        let is_taken = host.tmpfs.keys().any(|path| clean(path) == requested.destination);
        if !is_taken && all.iter().all(|before| before.destination != requested.destination) {
            all.push(requested);
        }
    }
    Ok(all)
}

/// A value of `--volumes-from`: the container, and whether its mounts can only be read here.
pub fn volumes_from(text: &str) -> Result<(&str, bool), MountError> {
    let (name, mode) = text.split_once(':').unwrap_or((text, ""));
    if text.is_empty() {
        return Err(MountError::EmptyVolumesFrom);
    }
    let is_known = mode.is_empty() || mode.split(',').all(|word| matches!(word, "ro" | "rw" | "z" | "Z"));
    let modes = if mode.is_empty() { Some(Modes::default()) } else { Modes::read(mode).filter(|_| is_known) };
    let modes = modes.ok_or_else(|| MountError::Mode(mode.to_owned()))?;
    if name.is_empty() { Err(MountError::Specification(text.to_owned())) } else { Ok((name, modes.is_read_only)) }
}

/// Options of `--tmpfs` that have a value.
const MEMORY_VALUES: [&str; 7] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"];

/// Those that have none: what mount(8) knows of every file system.
const MEMORY_WORDS: [&str; 34] = [
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "private",
    "rbind",
    "relatime",
    "remount",
    "ro",
    "rprivate",
    "rshared",
    "rslave",
    "runbindable",
    "rw",
    "shared",
    "slave",
    "strictatime",
    "suid",
    "sync",
    "unbindable",
    "",
];

/// Refuses options of `--tmpfs` that there are not.
fn check_memory_options(options: &str) -> Result<(), MountError> {
    let is_known = |option: &&str| match option.split_once('=') {
        Some((name, _)) => MEMORY_VALUES.contains(&name),
        None => MEMORY_WORDS.contains(option),
    };
    match options.split(',').find(|option| !is_known(option)) {
        Some(unknown) => Err(MountError::MemoryOption(unknown.to_owned())),
        None => Ok(()),
    }
}

/// What stands behind the second colon of `-v`.
#[derive(Debug, Default)]
struct Modes {
    is_read_only: bool,
    propagation: Option<Propagation>,
    no_copy: bool,
}

impl Modes {
    /// Each kind of word once.
    fn read(text: &str) -> Option<Self> {
        let mut modes = Self::default();
        let (mut access, mut label, mut propagation, mut copy, mut consistency) = (0, 0, 0, 0, 0);
        for word in text.split(',') {
            match word {
                "ro" | "rw" => {
                    access += 1;
                    modes.is_read_only = word == "ro";
                }
                "z" | "Z" => label += 1,
                "nocopy" => {
                    copy += 1;
                    modes.no_copy = true;
                }
                "consistent" | "cached" | "delegated" | "default" => consistency += 1,
                word => {
                    propagation += 1;
                    modes.propagation = Some(word.parse().ok()?);
                }
            }
        }
        [access, label, propagation, copy, consistency].iter().all(|count| *count <= 1).then_some(modes)
    }
}

/// `source:destination[:mode]`.
fn bind(spec: &str) -> Result<Requested, MountError> {
    let parts: Vec<&str> = spec.split(':').collect();
    let wrong = || MountError::Specification(spec.to_owned());
    let (source, destination, mode) = match parts.as_slice() {
        [source, destination] if Modes::read(destination).is_none() => (*source, *destination, ""),
        [source, destination, mode] => (*source, *destination, *mode),
        _ => return Err(wrong()),
    };
    if source.is_empty() || destination.is_empty() {
        return Err(wrong());
    }
    let modes = match mode {
        "" => Modes::default(),
        mode => Modes::read(mode).ok_or_else(|| MountError::Mode(mode.to_owned()))?,
    };
    let kind = if source.starts_with('/') { MountKind::Bind } else { MountKind::Volume };
    let in_spec = |error| MountError::InSpecification {
        spec: spec.to_owned(),
        source: Box::new(MountError::Config { kind, source: Box::new(error) }),
    };
    check_destination(destination).map_err(in_spec)?;
    if kind == MountKind::Bind && modes.no_copy {
        return Err(in_spec(MountError::Specified("VolumeOptions")));
    }
    if kind == MountKind::Volume && modes.propagation.is_some() {
        return Err(in_spec(MountError::Specified("BindOptions")));
    }
    if kind == MountKind::Volume {
        check_volume_name(source)?;
    }
    Ok(Requested {
        kind,
        source: if kind == MountKind::Bind { clean(source) } else { source.to_owned() },
        destination: clean(destination),
        // What docker says of a named volume without options.
        mode: if mode.is_empty() && kind == MountKind::Volume { "z".to_owned() } else { mode.to_owned() },
        is_writable: !modes.is_read_only,
        propagation: (kind == MountKind::Bind).then_some(modes.propagation.unwrap_or(Propagation::Rprivate)),
        copies: kind == MountKind::Volume && !modes.no_copy,
        makes_source: kind == MountKind::Bind,
        mount: None,
    })
}

fn checked(mount: &Mount) -> Result<Requested, MountError> {
    if mount.target.is_empty() {
        return Err(MountError::Empty("Target"));
    }
    check_destination(&mount.target)?;
    let bind_options = mount.bind_options.clone().unwrap_or_default();
    match mount.kind {
        MountKind::Bind => {
            if mount.source.is_empty() {
                return Err(MountError::Empty("Source"));
            }
            if !mount.source.starts_with('/') {
                return Err(MountError::Relative(mount.source.clone()));
            }
            if !bind_options.create_mountpoint && !std::path::Path::new(&mount.source).exists() {
                return Err(MountError::NoSource(mount.source.clone()));
            }
        }
        MountKind::Volume if mount.source.is_empty() => {
            if mount.read_only {
                return Err(MountError::ReadOnlyAnonymous);
            }
        }
        MountKind::Volume => check_volume_name(&mount.source)?,
        MountKind::Tmpfs => {
            if !mount.source.is_empty() {
                return Err(MountError::Specified("Source"));
            }
        }
    }
    let subpath = mount.volume_options.as_ref().map_or("", |options| options.subpath.as_str());
    if subpath.starts_with('/') || subpath.split('/').any(|part| part == "..") {
        return Err(MountError::Subpath);
    }
    let is_bind = mount.kind == MountKind::Bind;
    let is_volume = mount.kind == MountKind::Volume;
    Ok(Requested {
        kind: mount.kind,
        source: if is_bind { clean(&mount.source) } else { mount.source.clone() },
        destination: clean(&mount.target),
        mode: if is_volume { "z".to_owned() } else { String::new() },
        is_writable: !mount.read_only,
        propagation: is_bind.then_some(bind_options.propagation.unwrap_or(Propagation::Rprivate)),
        copies: is_volume && !mount.volume_options.as_ref().is_some_and(|options| options.no_copy),
        makes_source: bind_options.create_mountpoint,
        mount: Some(mount.clone()),
    })
}

fn anonymous(path: &str) -> Result<Requested, MountError> {
    let in_spec = |error| MountError::InSpecification {
        spec: path.to_owned(),
        source: Box::new(MountError::Config { kind: MountKind::Volume, source: Box::new(error) }),
    };
    if path.contains(':') {
        return Err(MountError::Specification(path.to_owned()));
    }
    // Images say `VOLUME data` too: below the root then, as with docker.
    let destination = &format!("/{path}");
    check_destination(destination).map_err(in_spec)?;
    Ok(Requested {
        kind: MountKind::Volume,
        source: String::new(),
        destination: clean(destination),
        mode: String::new(),
        is_writable: true,
        propagation: None,
        copies: true,
        makes_source: false,
        mount: None,
    })
}

fn check_destination(path: &str) -> Result<(), MountError> {
    if !path.starts_with('/') {
        return Err(MountError::Relative(path.to_owned()));
    }
    if clean(path) == "/" { Err(MountError::Root) } else { Ok(()) }
}

/// Refuses what is no name of a volume.
pub fn check_volume_name(name: &str) -> Result<(), MountError> {
    if name.len() < 2 {
        return Err(MountError::ShortVolumeName(name.to_owned()));
    }
    let letters = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-');
    let starts_well = name.starts_with(|letter: char| letter.is_ascii_alphanumeric());
    if starts_well && name.chars().all(letters) { Ok(()) } else { Err(MountError::VolumeName(name.to_owned())) }
}

/// A path in a container, absolute and without `.`, `..` and double separators.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
