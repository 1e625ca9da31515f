//! From what was asked for (`-v`, `--mount`, `--volumes-from`, volumes of the image) to what a container gets: docker's
//! `Mounts`. Done once, when the container is made.

use std::collections::{BTreeMap, BTreeSet};

use super::specification::{self, Asked, clean};
use super::{Error, Hold, LOCAL, Problem, Volumes, Wanted};
use crate::Containers;
use crate::config::{Config, HostConfig, MountDetails, MountKind, MountPoint, VolumeOptions};

/// What a container gets.
#[derive(Debug)]
pub struct Resolved {
    /// For its record, in the order of their places.
    pub mounts: Vec<MountPoint>,
    /// To be dropped when the record is written: until then nobody removes its volumes.
    pub holds: Vec<Hold>,
}

/// What is mounted where, so far.
struct Points<'a> {
    volumes: &'a Volumes,
    points: BTreeMap<String, MountPoint>,
    holds: Vec<Hold>,
}

impl Volumes {
    /// Finds out what a container gets, and makes the volumes that there are not. `config` holds the volumes of the
    /// image too.
    ///
    /// What other containers have comes first (`--volumes-from`); `-v` and `--mount` take its places, and exclude each
    /// other; a volume of the image or `-v /place` is only made where nothing else is. No folder of the host is made yet.
    ///
    /// # Errors
    /// Docker's, in its words. Volumes that were made before stay, as with docker, but for those without a name.
    pub fn resolve(
        &self,
        config: &Config,
        host_config: &HostConfig,
        containers: &Containers,
    ) -> Result<Resolved, Error> {
        let mut points = Points { volumes: self, points: BTreeMap::new(), holds: Vec::new() };
        match points.fill(config, host_config, containers) {
            Ok(()) => Ok(Resolved { mounts: points.points.into_values().collect(), holds: points.holds }),
            Err(error) => {
                let made = points.points.into_values().filter(|point| point.details.anonymous);
                let made: Vec<String> = made.map(|point| point.name).collect();
                points.holds.clear();
                for name in made {
                    // Somebody else may have it through `--volumes-from`: then it stays.
                    if let Ok(Some(volume)) = self.get(&name) {
                        let _ = self.remove(&volume, containers);
                    }
                }
                Err(error)
            }
        }
    }
}

impl Points<'_> {
    fn fill(&mut self, config: &Config, host_config: &HostConfig, containers: &Containers) -> Result<(), Error> {
        for path in host_config.tmpfs.keys() {
            specification::target(path)?;
        }
        // All is read before anything is made.
        let mut binds = Vec::new();
        for text in &host_config.binds {
            binds.push(specification::bind(text, &host_config.volume_driver)?);
        }
        let mut mounts = Vec::new();
        for mount in &host_config.mounts {
            mounts.push((Asked::of(mount, true)?, mount.target.as_str()));
        }
        // A relative path is below the root, as with docker.
        if config.volumes.keys().any(|path| clean(&format!("/{path}")) == "/") {
            return Err(Error::InvalidTarget(Problem::Root));
        }
        let mut taken: BTreeSet<String> = BTreeSet::new();
        let memory: BTreeSet<String> = host_config.tmpfs.keys().map(|path| clean(path)).collect();
        for asked in &binds {
            let place = &asked.point.destination;
            if memory.contains(place) || !taken.insert(place.clone()) {
                return Err(Error::Duplicate(place.clone()));
            }
        }
        for (asked, target) in &mounts {
            if !taken.insert(asked.point.destination.clone()) {
                return Err(Error::Duplicate((*target).to_owned()));
            }
        }
        for text in &host_config.volumes_from {
            self.of_other(text, containers)?;
        }
        for asked in binds.into_iter().chain(mounts.into_iter().map(|(asked, _)| asked)) {
            self.add(asked)?;
        }
        for path in config.volumes.keys() {
            let place = clean(path);
            if !self.points.contains_key(&place) && !memory.contains(&place) {
                let options = VolumeOptions::default();
                let details = MountDetails { seeded: true, ..MountDetails::default() };
                let driver = match host_config.volume_driver.as_str() {
                    "" => LOCAL,
                    driver => driver,
                };
                let point = MountPoint {
                    kind: MountKind::Volume,
                    destination: place,
                    driver: driver.to_owned(),
                    writable: true,
                    details,
                    ..MountPoint::default()
                };
                self.add_volume(point, options)?;
            }
        }
        Ok(())
    }

    /// What another container has.
    fn of_other(&mut self, text: &str, containers: &Containers) -> Result<(), Error> {
        let (name, read_only) = specification::volumes_from(text)?;
        for mount in containers.find(name)?.record()?.mounts {
            let point = MountPoint {
                mode: String::new(),
                writable: mount.writable && !read_only,
                // What it was filled with, it was filled with there.
                details: MountDetails { seeded: false, ..mount.details.clone() },
                ..mount
            };
            if point.kind == MountKind::Volume {
                let volume = self.volumes.find(&point.name)?;
                let hold = self.volumes.hold(&volume)?.ok_or_else(|| Error::NoSuchVolume(point.name.clone()))?;
                self.holds.push(hold);
            }
            self.points.insert(point.destination.clone(), point);
        }
        Ok(())
    }

    fn add(&mut self, asked: Asked) -> Result<(), Error> {
        if asked.point.kind != MountKind::Volume {
            self.points.insert(asked.point.destination.clone(), asked.point);
            return Ok(());
        }
        let mut point = asked.point;
        if point.mode.is_empty() && point.driver == LOCAL {
            point.mode = "z".to_owned();
        }
        self.add_volume(point, asked.options)
    }

    fn add_volume(&mut self, mut point: MountPoint, options: VolumeOptions) -> Result<(), Error> {
        let wanted = Wanted {
            name: Some(point.name.clone()).filter(|name| !name.is_empty()),
            driver: point.driver.clone(),
            labels: options.labels,
            options: options.driver_config.unwrap_or_default().options,
        };
        point.details.anonymous = wanted.name.is_none();
        let (volume, hold) = self.volumes.create_held(wanted)?;
        self.holds.push(hold);
        point.name = volume.name().to_owned();
        point.driver.clone_from(&volume.record().driver);
        point.source = volume.data().display().to_string();
        self.points.insert(point.destination.clone(), point);
        Ok(())
    }
}
