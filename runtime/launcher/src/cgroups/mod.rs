//! Cgroups: makes, joins, limits, freezes, measures and removes the cgroups of a container (runtime-spec,
//! config-linux.md, "Control groups").
//!
//! All of version 1 (a mount for each hierarchy), version 2 (one for all), the two beside each other, and units of systemd
//! in either. The order of a start: [`Cgroups::plan`] looks where the cgroups will be, [`Cgroups::create`] makes them and
//! sets the limits, [`Cgroups::entrance`] opens them, and the child walks in by [`Entrance::enter`] before it runs
//! anything of the container. The rest is for a container that runs.
//!
//! A process is moved fast where it is one thread that moves itself, by `tasks` (version 1), or that begins in the
//! cgroup, by `CLONE_INTO_CGROUP` (version 2). Every other way waits for all processors (`cgroup.procs`: 8 ms).

mod create;
mod delete;
mod devices;
mod entrance;
mod error;
mod folder;
mod freezer;
mod limits;
mod oom;
mod place;
mod stats;
mod systemd;
#[cfg(test)]
mod tests;
mod tree;
mod update;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

pub use entrance::{Below, Entrance, NotEntered};
pub use error::CgroupError;
pub use stats::Stats;
pub use systemd::BusError;

use folder::{Check, Folder, Version};
use limits::Setting;
use place::Unit;
use systemd::Placeholder;
use tree::Tree;

/// What a container asks for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The container's id.
    pub id: &'a str,
    /// `linux.cgroupsPath`. With `systemd` it has the form `slice:prefix:name`.
    pub path: Option<&'a Path>,
    /// Whether systemd makes the cgroup (`--systemd-cgroup`).
    pub systemd: bool,
    /// Whether we are not root on the host: what is not permitted and not asked for is left out.
    pub rootless: bool,
    /// `linux.resources`.
    pub resources: Option<&'a LinuxResources>,
}

/// The cgroups of a container. They are kept with its state.
#[derive(Debug, Serialize, Deserialize)]
pub struct Cgroups {
    /// In the order in which they are made and entered. None: an ordinary user on version 1.
    hierarchies: Vec<Hierarchy>,
    /// The unit, where systemd makes the cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<Unit>,
    #[serde(default)]
    rootless: bool,
    #[serde(skip)]
    check: Check,
    /// The cgroups in the order of `hierarchies`, from `create` to `entrance`, which would open them again.
    #[serde(skip)]
    opened: RefCell<Vec<Folder>>,
    /// Keeps the unit alive until the container is in it.
    #[serde(skip)]
    placeholder: RefCell<Option<Placeholder>>,
    /// The socket of the bus, where it is not the usual one.
    #[serde(skip)]
    bus: Option<PathBuf>,
}

/// The container's cgroup in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Hierarchy {
    version: Version,
    /// Its controllers, or its name (`name=systemd`). Empty on version 2.
    controllers: Vec<String>,
    mount: PathBuf,
    /// The cgroup, relative to `mount`.
    path: PathBuf,
}

impl Hierarchy {
    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|own| own == controller)
    }

    fn full_path(&self) -> PathBuf {
        self.mount.join(&self.path)
    }
}

impl Cgroups {
    /// Where the cgroups of a container will be. Makes nothing.
    ///
    /// # Errors
    /// Paths that mean no cgroup, limits that an ordinary user cannot have, hosts without cgroups.
    pub fn plan(request: &Request<'_>) -> Result<Cgroups, CgroupError> {
        Cgroups::plan_in(request, &Tree::read()?, None)
    }

    fn plan_in(request: &Request<'_>, tree: &Tree, bus: Option<&Path>) -> Result<Cgroups, CgroupError> {
        let unit = match request.systemd {
            true => Some(Unit::parse(request.path, request.id, request.rootless)?),
            false => None,
        };
        let hierarchies = match &unit {
            Some(unit) => {
                let path = Path::new("/").join(systemd::base(unit, bus)?).join(unit.folder()?);
                place::hierarchies(tree, Some(&path), request.id)?
            }
            None => place::hierarchies(tree, request.path, request.id)?,
        };
        let mut cgroups = Cgroups {
            hierarchies,
            unit,
            rootless: request.rootless,
            check: tree.check,
            opened: RefCell::default(),
            placeholder: RefCell::default(),
            bus: bus.map(Path::to_owned),
        };
        if request.rootless {
            cgroups.leave_out_forbidden(request)?;
        } else if !tree.is_unified() && !cgroups.hierarchies.iter().any(|hierarchy| hierarchy.has("devices")) {
            // Without it the container could use every device of the host.
            return Err(CgroupError::NoMount { controller: "devices" });
        }
        Ok(cgroups)
    }

    /// Leaves out the hierarchies in which an ordinary user may not make cgroups, if nothing asks for them.
    fn leave_out_forbidden(&mut self, request: &Request<'_>) -> Result<(), CgroupError> {
        if self.unit.is_some() {
            return Ok(());
        }
        let unified = self.is_unified();
        let settings = match request.resources {
            Some(resources) => self.settings(resources, &|| None)?,
            None => Vec::new(),
        };
        let has_unified_limits =
            request.resources.and_then(|resources| resources.unified().as_ref()).is_some_and(|map| !map.is_empty());
        let mut forbidden = Vec::new();
        self.hierarchies.retain(|hierarchy| {
            let permitted = create::may_make(&hierarchy.mount, &hierarchy.path);
            if !permitted {
                forbidden.push(hierarchy.clone());
            }
            permitted
        });
        for hierarchy in forbidden {
            if unified {
                let asks = limits::first_controller(&settings).is_some() || has_unified_limits;
                if asks || request.path.is_some_and(|path| !path.as_os_str().is_empty()) {
                    return Err(CgroupError::RootlessV2 { path: hierarchy.full_path() });
                }
            } else if let Some(setting) =
                settings.iter().find(|setting| !setting.is_optional && hierarchy.has(setting.controller))
            {
                return Err(CgroupError::RootlessV1 { controller: setting.controller.to_owned() });
            }
        }
        Ok(())
    }

    /// The container's cgroups by controller, `name=` or, for version 2, the empty string: what runc calls
    /// `cgroup_paths`.
    pub fn paths(&self) -> BTreeMap<String, PathBuf> {
        let mut paths = BTreeMap::new();
        for hierarchy in &self.hierarchies {
            match hierarchy.version {
                Version::V1 => paths
                    .extend(hierarchy.controllers.iter().map(|controller| (controller.clone(), hierarchy.full_path()))),
                Version::V2 => {
                    paths.insert(String::new(), hierarchy.full_path());
                }
            }
        }
        paths
    }

    /// The hierarchies of version 1 that the container is in: where each is mounted, the container's cgroup, and the
    /// controllers.
    pub(crate) fn places_v1(&self) -> impl Iterator<Item = (&Path, PathBuf, &[String])> {
        let version1 = self.hierarchies.iter().filter(|hierarchy| hierarchy.version == Version::V1);
        version1.map(|hierarchy| (&*hierarchy.mount, hierarchy.full_path(), &*hierarchy.controllers))
    }

    /// The container's cgroup, if it is in the unified hierarchy and in no other.
    pub(crate) fn unified_path(&self) -> Option<PathBuf> {
        self.unified().filter(|_| self.is_unified()).map(Hierarchy::full_path)
    }

    /// Whether a process can join them by its own force long after it was made: on version 2 that is slow, and a unit of
    /// systemd has to be kept alive until then.
    pub(crate) fn can_come_late(&self) -> bool {
        self.unit.is_none() && self.unified().is_none()
    }

    /// Whether the container has no cgroup of its own: an ordinary user on version 1.
    pub(crate) fn are_none(&self) -> bool {
        self.hierarchies.is_empty()
    }

    /// Whether the container is in the unified hierarchy and in no other.
    pub fn is_unified(&self) -> bool {
        !self.hierarchies.is_empty() && self.hierarchies.iter().all(|hierarchy| hierarchy.version == Version::V2)
    }

    /// The ids of all processes in the container's cgroup and in those below it, as this process sees them.
    ///
    /// # Errors
    /// A cgroup that is there and cannot be read. One that is not there has no processes.
    pub fn processes(&self) -> Result<Vec<Pid>, CgroupError> {
        let Some(hierarchy) = self.of_processes() else { return Ok(Vec::new()) };
        let Some(folder) = self.open_if_there(hierarchy)? else { return Ok(Vec::new()) };
        Ok(folder.all_processes()?.into_iter().filter_map(Pid::from_raw).collect())
    }

    /// The hierarchy that is asked for processes: the one that can freeze them, so that both see the same.
    fn of_processes(&self) -> Option<&Hierarchy> {
        let of = |controller| self.hierarchies.iter().find(move |hierarchy| hierarchy.has(controller));
        of("freezer").or_else(|| of("devices")).or_else(|| self.hierarchies.first())
    }

    fn unified(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.version == Version::V2)
    }

    /// The settings for limits, in this container's version. `memory_limit`: see `limits::v1`.
    fn settings(
        &self,
        resources: &LinuxResources,
        memory_limit: &dyn Fn() -> Option<u64>,
    ) -> Result<Vec<Setting>, CgroupError> {
        if self.is_unified() { limits::v2::settings(resources) } else { limits::v1::settings(resources, memory_limit) }
    }

    fn open(&self, hierarchy: &Hierarchy) -> Result<Folder, CgroupError> {
        Folder::open(&hierarchy.full_path(), hierarchy.version, self.check)
    }

    fn open_if_there(&self, hierarchy: &Hierarchy) -> Result<Option<Folder>, CgroupError> {
        match self.open(hierarchy) {
            Err(CgroupError::Open { source, .. }) if folder::is_missing(&source) => Ok(None),
            result => result.map(Some),
        }
    }
}
