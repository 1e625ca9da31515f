//! Which cgroup hierarchies this host has, where they are mounted, and where we are in them.

use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::CgroupError;
use super::folder::{Check, Version, read_all};

/// Where hierarchies are mounted by convention.
const BASE: &str = "/sys/fs/cgroup";

/// The hierarchies of a host.
#[derive(Debug)]
pub(super) struct Tree {
    /// Those of version 1 and, where there is one beside them, the unified one; or the unified one alone.
    pub(super) hierarchies: Vec<Mounted>,
    /// Whether folders must be in a cgroup file system.
    pub(super) check: Check,
}

/// A mounted hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mounted {
    pub(super) version: Version,
    /// Its controllers, or `name=systemd` and the like. Empty for the unified one.
    pub(super) controllers: Vec<String>,
    pub(super) mount: PathBuf,
    /// The cgroup that we are in, relative to `mount`.
    pub(super) own: PathBuf,
}

impl Tree {
    /// Reads it from `/proc`.
    pub(super) fn read() -> Result<Tree, CgroupError> {
        let read = |path: &str| {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let open = rustix::fs::openat(rustix::fs::CWD, path, flags, Mode::empty());
            let text = open.map_err(std::io::Error::from).and_then(|open| read_all(&open));
            text.map_err(|source| CgroupError::Host { path: PathBuf::from(path), source })
        };
        Tree::parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?, Path::new(BASE), Check::Kernel)
    }

    /// Reads it from the text of `mountinfo` and `cgroup` (proc(5), cgroups(7)).
    pub(super) fn parse(mountinfo: &str, own: &str, base: &Path, check: Check) -> Result<Tree, CgroupError> {
        let mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
        // What lies under a later mount at the same place cannot be reached.
        let at_base = mounts.iter().rev().find(|mount| mount.point == base);
        let hierarchies = match at_base {
            Some(mount) if mount.kind == "cgroup2" => {
                own.lines().filter_map(|line| line.strip_prefix("0::")).map(|own| mount.unified(own)).collect()
            }
            _ => own.lines().filter_map(|line| hierarchy(line, &mounts, base)).collect::<Vec<_>>(),
        };
        if hierarchies.is_empty() {
            return Err(CgroupError::NoCgroups);
        }
        Ok(Tree { hierarchies, check })
    }

    /// Whether there is the unified hierarchy and no other.
    pub(super) fn is_unified(&self) -> bool {
        self.hierarchies.iter().all(|mounted| mounted.version == Version::V2)
    }
}

/// The mounted hierarchy of a line of `/proc/self/cgroup`, such as `4:memory:/a` or `0::/`.
fn hierarchy(line: &str, mounts: &[Mount], base: &Path) -> Option<Mounted> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (names, own) = (fields.next()?, fields.next()?);
    let found = |mount: &&Mount| match names {
        "" => mount.kind == "cgroup2",
        _ => mount.kind == "cgroup" && names.split(',').all(|name| mount.options.iter().any(|have| have == name)),
    };
    // A hierarchy may be mounted often, in the root file systems of containers for instance.
    let conventional = mounts.iter().filter(|mount| mount.point.starts_with(base)).find(found);
    let mount = conventional.or_else(|| mounts.iter().find(found))?;
    if names.is_empty() {
        return Some(mount.unified(own));
    }
    let controllers = names.split(',').map(str::to_owned).collect();
    Some(Mounted { version: Version::V1, controllers, mount: mount.point.clone(), own: mount.relative(own) })
}

/// A line of `mountinfo` that is a mount of cgroups or lies where they are mounted.
struct Mount {
    /// The folder of its file system that is mounted.
    root: String,
    point: PathBuf,
    kind: String,
    options: Vec<String>,
}

impl Mount {
    fn parse(line: &str) -> Option<Mount> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let mut fields = file_system.split(' ');
        let kind = fields.next()?;
        if !kind.starts_with("cgroup") && !point.ends_with("/cgroup") {
            return None;
        }
        let options = fields.nth(1)?.split(',').map(str::to_owned).collect();
        Some(Mount { root: unescape(root), point: PathBuf::from(unescape(point)), kind: kind.to_owned(), options })
    }

    fn unified(&self, own: &str) -> Mounted {
        Mounted { version: Version::V2, controllers: Vec::new(), mount: self.point.clone(), own: self.relative(own) }
    }

    /// A cgroup relative to the mount point. In a container without a cgroup namespace only a part is mounted.
    fn relative(&self, own: &str) -> PathBuf {
        let within = Path::new(own).strip_prefix(&self.root).unwrap_or(Path::new(own));
        super::place::clean(within)
    }
}

/// Undoes the escapes of `mountinfo`: three octal digits after a backslash.
fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                text.push(code);
                text.extend_from_slice(&part.as_bytes()[3..]);
            }
            None => {
                text.push(b'\\');
                text.extend_from_slice(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}
