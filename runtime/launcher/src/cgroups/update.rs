//! Changes the limits of a container that is there, and gives its cgroup to its own root.

use oci_spec::runtime::LinuxResources;
use rustix::fs::{AtFlags, OFlags, Uid};

use super::devices::{self, program};
use super::folder::{Folder, is_missing};
use super::limits::{self, v2};
use super::{CgroupError, Cgroups, systemd};

/// Where the kernel lists the files that go with a cgroup that is given away.
const DELEGATE: &str = "/sys/kernel/cgroup/delegate";

impl Cgroups {
    /// Changes limits. What `resources` does not speak of stays as it is, devices too.
    ///
    /// # Errors
    /// Values that the kernel does not take, limits of controllers that are not there.
    pub fn update(&self, resources: &LinuxResources) -> Result<Vec<String>, CgroupError> {
        if let Some(unit) = &self.unit {
            systemd::update(unit, resources, self.is_unified(), self.bus.as_deref())?;
        }
        match self.is_unified() {
            true => self.update_unified(resources)?,
            false => self.update_v1(resources)?,
        }
        Ok(limits::warnings(resources, self.is_unified()))
    }

    fn update_v1(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        let memory_limit = || {
            let hierarchy = self.hierarchies.iter().find(|hierarchy| hierarchy.has("memory"))?;
            self.open(hierarchy).ok()?.try_read("memory.limit_in_bytes").ok()?.trim().parse().ok()
        };
        let settings = self.settings(resources, &memory_limit)?;
        let wanted = |controller: &str| settings.iter().any(|setting| setting.controller == controller);
        let mut folders: Vec<Option<Folder>> = Vec::new();
        for hierarchy in &self.hierarchies {
            let is_wanted = hierarchy.controllers.iter().any(|controller| wanted(controller));
            folders.push(if is_wanted { Some(self.open(hierarchy)?) } else { None });
        }
        limits::apply(&settings, &|controller| {
            let mut both = self.hierarchies.iter().zip(&folders);
            both.find(|(hierarchy, _)| hierarchy.has(controller)).and_then(|(_, folder)| folder.as_ref())
        })?;
        let devices = self.hierarchies.iter().find(|hierarchy| hierarchy.has("devices"));
        match (resources.devices(), devices) {
            (Some(given), Some(hierarchy)) if !self.rootless => {
                devices::set_v1(&self.open(hierarchy)?, &devices::rules(given)?, false)
            }
            _ => Ok(()),
        }
    }

    fn update_unified(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        let settings = self.settings(resources, &|| None)?;
        let unified = v2::unified(resources)?;
        let Some(hierarchy) = self.unified() else { return Err(CgroupError::NoCgroups) };
        let folder = self.open(hierarchy)?;
        let available = folder.read("cgroup.controllers")?;
        limits::apply(&settings, &|controller| {
            available.split_whitespace().any(|name| name == controller).then_some(&folder)
        })?;
        v2::apply_unified(&unified, &folder, &available)?;
        match resources.devices() {
            Some(given) if !self.rootless => program::set_v2(&folder, &devices::rules(given)?),
            _ => Ok(()),
        }
    }

    /// Gives the cgroup of version 2 to a user of the host, so that the container's root can make cgroups in it
    /// (config-linux.md, "Cgroup ownership"): for containers with a user namespace and a cgroup namespace of their own.
    ///
    /// # Errors
    /// Files whose owner cannot be changed.
    pub fn give_to(&self, user: Uid) -> Result<(), CgroupError> {
        let Some(hierarchy) = self.unified().filter(|_| self.is_unified()) else { return Ok(()) };
        let folder = self.open(hierarchy)?;
        let listed = std::fs::read_to_string(DELEGATE);
        let files = listed.as_deref().unwrap_or("cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n");
        let failed = |path, source| CgroupError::Owner { path, source };
        for file in files.lines() {
            let path = folder.path().join(file);
            match folder.open_below(std::path::Path::new(file), OFlags::PATH) {
                Ok(open) => rustix::fs::chownat(&open, "", Some(user), None, AtFlags::EMPTY_PATH)
                    .map_err(|error| failed(path, error.into()))?,
                Err(error) if is_missing(&error) => {}
                Err(source) => return Err(failed(path, source)),
            }
        }
        rustix::fs::chownat(&folder, "", Some(user), None, AtFlags::EMPTY_PATH)
            .map_err(|error| failed(folder.path().to_owned(), error.into()))
    }
}
