//! The devices of a container, and the links in its `/dev` (runtime-spec, config-linux.md, "Default Devices").

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Mount};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::Error;
use crate::error::{Failure, plain};
use crate::mounts::{Kind, Tree, Within};

/// Those that every container has.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// One that is to be there.
#[derive(Debug)]
struct Device {
    path: PathBuf,
    kind: FileType,
    major: u32,
    minor: u32,
    mode: u32,
    owner: (u32, u32),
    /// The host's own, where devices cannot be made.
    host: Option<Tree>,
}

/// What is to be in `/dev`.
#[derive(Debug)]
pub(crate) struct Devices(Vec<Device>);

impl Devices {
    /// Those of `config.json` and the ones that every container has; none where `/dev` is the host's. In a user namespace
    /// nothing can be made: there the host's are opened, to be mounted.
    pub(crate) fn prepare(
        config: &[LinuxDevice],
        mounts: &[Mount],
        in_user_namespace: bool,
    ) -> Result<Option<Self>, Error> {
        let is_bind = |mount: &&Mount| {
            mount.destination() == Path::new("/dev")
                && (mount.typ().as_deref() == Some("bind")
                    || mount.options().iter().flatten().any(|word| word == "bind" || word == "rbind"))
        };
        if mounts.iter().find(is_bind).is_some() {
            return Ok(None);
        }
        let mut devices = config.iter().map(Device::of_config).collect::<Result<Vec<_>, _>>()?;
        for (path, major, minor) in DEFAULT {
            if !devices.iter().any(|device| device.path == Path::new(path)) {
                let (kind, path) = (FileType::CharacterDevice, PathBuf::from(path));
                devices.push(Device { path, kind, major, minor, mode: 0o666, owner: (0, 0), host: None });
            }
        }
        if in_user_namespace {
            for device in &mut devices {
                device.host = Some(Tree::of_path(&device.path, false).map_err(|error| {
                    Error::Config(format!(
                        "device {}: in a user namespace it must be there on the host: {}",
                        device.path.display(),
                        plain(&error)
                    ))
                })?);
            }
        }
        Ok(Some(Self(devices)))
    }

    /// Makes them, and the links.
    pub(crate) fn make(&self, within: &Within) -> Result<(), Failure> {
        for device in &self.0 {
            let failed = |error: io::Error| {
                Failure::init(format_args!("error creating device node {:?}: {}", device.path.display(), plain(&error)))
            };
            device.make(within).map_err(failed)?;
        }
        let core = Path::new("/proc/kcore").exists().then_some(("/proc/kcore", "/dev/core"));
        for (text, path) in LINKS.into_iter().chain(core).chain([("pts/ptmx", "/dev/ptmx")]) {
            let path = Path::new(path);
            let failed = |error: io::Error| {
                Failure::init(format_args!("error creating symlink {:?}: {}", path.display(), plain(&error)))
            };
            let (folder, name) = within.parent(path).map_err(failed)?;
            link(text, folder.as_fd(), name).map_err(failed)?;
        }
        Ok(())
    }
}

/// Makes a link; `/dev/ptmx` of the image gives way, everything else of it stays.
fn link(text: &str, folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match rustix::fs::symlinkat(text, folder, name) {
        Err(Errno::EXIST) if name == "ptmx" => {
            rustix::fs::unlinkat(folder, name, AtFlags::empty())?;
            Ok(rustix::fs::symlinkat(text, folder, name)?)
        }
        Err(Errno::EXIST) => Ok(()),
        made => Ok(made?),
    }
}

impl Device {
    fn of_config(device: &LinuxDevice) -> Result<Self, Error> {
        let wrong = |text: &str| Error::Config(format!("device {}: {text}", device.path().display()));
        let kind = match device.typ() {
            LinuxDeviceType::B => FileType::BlockDevice,
            LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
            LinuxDeviceType::P => FileType::Fifo,
            LinuxDeviceType::A => return Err(wrong("the type must be b, c, u or p")),
        };
        let number = |number: i64| u32::try_from(number).map_err(|_| wrong("major and minor cannot be negative"));
        let (major, minor) = match kind {
            FileType::Fifo => (0, 0),
            _ => (number(device.major())?, number(device.minor())?),
        };
        Ok(Self {
            path: device.path().clone(),
            kind,
            major,
            minor,
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            owner: (device.uid().unwrap_or(0), device.gid().unwrap_or(0)),
            host: None,
        })
    }

    fn make(&self, within: &Within) -> io::Result<()> {
        if let Some(host) = &self.host {
            let target = within.open_or_make(&self.path, Kind::File)?;
            return host.attach(target.as_fd());
        }
        let (folder, name) = within.parent(&self.path)?;
        let number = rustix::fs::makedev(self.major, self.minor);
        match rustix::fs::mknodat(&folder, name, self.kind, Mode::from_raw_mode(self.mode), number) {
            Err(Errno::EXIST) => {
                // The image has one already: good if it is this one.
                let found = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
                let same = FileType::from_raw_mode(found.st_mode) == self.kind
                    && (self.kind == FileType::Fifo || found.st_rdev == number);
                if !same {
                    return Err(io::Error::other("something else is there"));
                }
            }
            made => made?,
        }
        let file = rustix::fs::openat(&folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let (uid, gid) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
        let follow_nothing = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
        // The mode is right already: this process has no umask.
        Ok(rustix::fs::chownat(&file, c"", Some(uid), Some(gid), follow_nothing)?)
    }
}
