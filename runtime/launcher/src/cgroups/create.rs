//! Makes a container's cgroups and sets its limits, before anything is in them; or leaves nothing behind.

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use super::devices::{self, program};
use super::folder::{Folder, Version, levels};
use super::limits::{self, Setting, v2};
use super::{CgroupError, Cgroups, Hierarchy, systemd};

/// What was made: removed on drop, last first.
#[derive(Default)]
struct Made {
    cgroups: Vec<PathBuf>,
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.cgroups.iter().rev() {
            // What was put into it in the meantime is not ours.
            let _ = std::fs::remove_dir(path);
        }
    }
}

impl Cgroups {
    /// Makes the cgroups and sets the limits, before anything joins. Gives warnings: what was asked for and has no effect.
    ///
    /// # Errors
    /// Whatever cannot be made or set; nothing is left behind then. A cgroup that has processes or is frozen.
    pub fn create(&self, resources: Option<&LinuxResources>) -> Result<Vec<String>, CgroupError> {
        let none = LinuxResources::default();
        let resources = resources.unwrap_or(&none);
        let settings = self.settings(resources, &|| None)?;
        let rules = devices::rules(resources.devices().as_deref().unwrap_or_default())?;
        if self.hierarchies.is_empty() {
            return match limits::first_controller(&settings) {
                Some(controller) => Err(CgroupError::RootlessV1 { controller: controller.to_owned() }),
                None => Ok(Vec::new()),
            };
        }
        if let Some(unit) = &self.unit {
            self.refuse_occupied_unit()?;
            let placeholder = systemd::start(unit, resources, self.is_unified(), self.bus.as_deref())?;
            self.placeholder.replace(placeholder);
        }
        let mut made = Made::default();
        let result = match self.is_unified() {
            true => self.fill_unified(resources, &settings, &rules, &mut made),
            false => self.fill(&settings, &rules, &mut made),
        };
        if let Err(error) = result {
            if let Some(unit) = &self.unit {
                self.placeholder.replace(None);
                // The first error is the one to tell.
                let _ = systemd::stop(unit, self.bus.as_deref());
            }
            return Err(error);
        }
        made.cgroups.clear();
        Ok(limits::warnings(resources, self.is_unified()))
    }

    /// A unit that is there already cannot be started, and what is in it is not ours.
    fn refuse_occupied_unit(&self) -> Result<(), CgroupError> {
        let count = self.processes()?.len();
        match self.of_processes() {
            Some(hierarchy) if count > 0 => Err(CgroupError::NotEmpty { count, path: hierarchy.full_path() }),
            _ => Ok(()),
        }
    }

    /// Version 1: a cgroup in each hierarchy.
    fn fill(&self, settings: &[Setting], rules: &[devices::Rule], made: &mut Made) -> Result<(), CgroupError> {
        let missing = |setting: &&Setting| {
            !setting.is_optional && !self.hierarchies.iter().any(|hierarchy| hierarchy.has(setting.controller))
        };
        if let Some(setting) = settings.iter().find(missing) {
            return Err(CgroupError::NoController { controller: setting.controller.to_owned() });
        }
        let mut folders = Vec::with_capacity(self.hierarchies.len());
        for hierarchy in &self.hierarchies {
            let (folder, is_new) = self.make(hierarchy, made)?;
            if hierarchy.has("cpuset") {
                self.inherit_cpuset(hierarchy, &folder, is_new, settings)?;
            }
            folders.push(folder);
        }
        let folder = |controller: &str| {
            let mut both = self.hierarchies.iter().zip(&folders);
            both.find(|(hierarchy, _)| hierarchy.has(controller)).map(|(_, folder)| folder)
        };
        limits::apply(settings, &folder)?;
        if let Some(folder) = folder("devices").filter(|_| !self.rootless) {
            devices::set_v1(folder, rules, true)?;
        }
        self.opened.replace(folders);
        Ok(())
    }

    /// Makes the cgroup of one hierarchy and refuses one that is in use; whether it is new.
    fn make(&self, hierarchy: &Hierarchy, made: &mut Made) -> Result<(Folder, bool), CgroupError> {
        let root = Folder::open(&hierarchy.mount, hierarchy.version, self.check)?;
        let before = made.cgroups.len();
        let folder = root.make(&hierarchy.path, &mut made.cgroups)?;
        let is_new = made.cgroups.len() > before;
        if !is_new && self.unit.is_none() {
            refuse_occupied(&folder)?;
        }
        // A new one is frozen too where the one above it is.
        let frozen = match hierarchy.version {
            Version::V1 if hierarchy.has("freezer") => !folder.read("freezer.state")?.starts_with("THAWED"),
            Version::V1 => false,
            Version::V2 => folder.read_if_there("cgroup.events")?.is_some_and(|events| events.contains("frozen 1")),
        };
        if frozen {
            return Err(CgroupError::Frozen { path: folder.path().to_owned() });
        }
        Ok((folder, is_new))
    }

    /// A cgroup of `cpuset` takes no process before it has processors and memory nodes: those that are not asked for come
    /// from the cgroup above.
    fn inherit_cpuset(
        &self,
        hierarchy: &Hierarchy,
        folder: &Folder,
        is_new: bool,
        settings: &[Setting],
    ) -> Result<(), CgroupError> {
        // Those above, nearest first, opened as far up as there is nothing: mostly the first has everything.
        let mut above: Vec<Folder> = Vec::new();
        let depth = levels(&hierarchy.path).len();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let is_asked_for = settings.iter().any(|setting| setting.tries.iter().any(|(name, _)| name == file));
            if !is_asked_for && !is_new && !folder.read(file)?.trim().is_empty() {
                continue;
            }
            let mut count = 0;
            let value = loop {
                if above.len() == count {
                    let below = above.last().unwrap_or(folder);
                    let failed = |source| CgroupError::Open { path: below.path().join(".."), source };
                    above.push(below.above().map_err(failed)?);
                }
                let value = above[count].read(file)?;
                count += 1;
                if count == depth || !value.trim().is_empty() {
                    break value;
                }
            };
            for empty in above[..count - 1].iter().rev() {
                empty.write(file, value.trim())?;
            }
            if !is_asked_for {
                folder.write(file, value.trim())?;
            }
        }
        Ok(())
    }

    /// Version 2: one cgroup, for which the controllers must be enabled in every one above it.
    fn fill_unified(
        &self,
        resources: &LinuxResources,
        settings: &[Setting],
        rules: &[devices::Rule],
        made: &mut Made,
    ) -> Result<(), CgroupError> {
        let unified = v2::unified(resources)?;
        let mut needed: Vec<&str> =
            settings.iter().filter(|setting| !setting.is_optional).map(|setting| setting.controller).collect();
        needed.extend(unified.iter().filter_map(|(key, _)| v2::controller_of(key)));
        let Some(hierarchy) = self.unified() else { return Err(CgroupError::NoCgroups) };
        let root = Folder::open(&hierarchy.mount, hierarchy.version, self.check)?;
        enable(&root, &needed)?;
        for ancestor in levels(&hierarchy.path).iter().rev().skip(1).rev() {
            enable(&root.make(ancestor, &mut made.cgroups)?, &needed)?;
        }
        let (folder, _) = self.make(hierarchy, made)?;
        refuse_threaded(&folder)?;
        let available = folder.read("cgroup.controllers")?;
        limits::apply(settings, &|controller| {
            available.split_whitespace().any(|name| name == controller).then_some(&folder)
        })?;
        v2::apply_unified(&unified, &folder, &available)?;
        self.set_devices_unified(&folder, rules)?;
        self.opened.replace(vec![folder]);
        Ok(())
    }

    /// Sets the rules for devices on version 2, where it takes a privilege that an ordinary user does not have and does not
    /// need: they cannot make device nodes.
    pub(super) fn set_devices_unified(&self, folder: &Folder, rules: &[devices::Rule]) -> Result<(), CgroupError> {
        if self.rootless || devices::allow_everything(rules) {
            return Ok(());
        }
        #[cfg(test)]
        if self.check == super::Check::Imitated {
            return Ok(());
        }
        program::set_v2(folder, rules)
    }
}

/// Whether this process may make a cgroup, or the first one that is missing on the way to it.
pub(super) fn may_make(mount: &Path, path: &Path) -> bool {
    let full = mount.join(path);
    let above = full.ancestors().skip(1).find(|above| above.symlink_metadata().is_ok()).unwrap_or(mount);
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::accessat(rustix::fs::CWD, above, access, rustix::fs::AtFlags::EACCESS).is_ok()
}

fn refuse_occupied(folder: &Folder) -> Result<(), CgroupError> {
    match folder.all_processes()?.len() {
        0 => Ok(()),
        count => Err(CgroupError::NotEmpty { count, path: folder.path().to_owned() }),
    }
}

fn refuse_threaded(folder: &Folder) -> Result<(), CgroupError> {
    let mode = folder.read_if_there("cgroup.type")?.unwrap_or_default();
    match mode.trim() {
        "" | "domain" => Ok(()),
        // Threads below it are its own; processes may join it.
        "domain threaded" => Ok(()),
        "domain invalid" => {
            Err(CgroupError::Threaded { path: folder.path().to_owned(), mode: "an invalid".to_owned() })
        }
        mode => Err(CgroupError::Threaded { path: folder.path().to_owned(), mode: mode.to_owned() }),
    }
}

/// Enables all controllers of a cgroup for its children. It is an error only for those that are needed.
fn enable(folder: &Folder, needed: &[&str]) -> Result<(), CgroupError> {
    let offered = folder.read("cgroup.controllers")?;
    let enabled = folder.read("cgroup.subtree_control")?;
    let missing: Vec<&str> =
        offered.split_whitespace().filter(|name| !enabled.split_whitespace().any(|other| other == *name)).collect();
    let line = |names: &[&str]| names.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
    if missing.is_empty() || folder.try_write("cgroup.subtree_control", &line(&missing)).is_ok() {
        return Ok(());
    }
    // One that cannot be enabled spoils the others.
    for name in missing {
        match folder.try_write("cgroup.subtree_control", &line(&[name])) {
            Err(source) if needed.contains(&name) => {
                let (path, controllers) = (folder.path().to_owned(), name.to_owned());
                return Err(CgroupError::NotEnabled { path, controllers, source });
            }
            _ => {}
        }
    }
    Ok(())
}
