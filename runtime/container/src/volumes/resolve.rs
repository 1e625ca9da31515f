//! From what was asked for (`-v`, `--mount`, `--volumes-from`, volumes of the image) to what a container gets: docker's
//! `Mounts`. Done once, when the container is made.

use std::collections::BTreeMap;

use super::{Error, Hold, LOCAL, Volumes, Wanted};
use crate::Containers;
use crate::config::{Config, HostConfig, MountDetails, MountKind, MountPoint};
use crate::mounts::{Requested, requested, volumes_from};

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
    driver: &'a str,
    points: BTreeMap<String, MountPoint>,
    holds: Vec<Hold>,
}

impl Volumes {
    /// Finds out what a container gets, and makes the volumes that there are not. `config` holds the volumes of the
    /// image too.
    ///
    /// What other containers have comes first (`--volumes-from`, but for their memory, which nobody can share); `-v` and
    /// `--mount` take its places; a volume of the image or `-v /place` is only made where nothing else is. No folder of
    /// the host is made yet.
    ///
    /// # Errors
    /// Docker's, in its words. Volumes with a name that were made before stay, as with docker.
    pub fn resolve(
        &self,
        config: &Config,
        host_config: &HostConfig,
        containers: &Containers,
    ) -> Result<Resolved, Error> {
        let driver = host_config.volume_driver.as_str();
        let mut points = Points { volumes: self, driver, points: BTreeMap::new(), holds: Vec::new() };
        match points.fill(config, host_config, containers) {
            Ok(()) => Ok(Resolved { mounts: points.points.into_values().collect(), holds: points.holds }),
            Err(error) => {
                points.holds.clear();
                for point in points.points.into_values().filter(|point| point.details.anonymous) {
                    // Of another container: then it stays, for it is in use.
                    if let Ok(Some(volume)) = self.get(&point.name) {
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
        // All is read before anything is made.
        let requested = requested(config, host_config)?;
        for text in &host_config.volumes_from {
            self.of_other(text, containers)?;
        }
        for asked in requested {
            // Docker's mode for volumes that were named; those of the image have none, and no claim to a place.
            let yields = asked.source.is_empty() && asked.mount.is_none();
            if !(yields && self.points.contains_key(&asked.destination)) {
                self.add(asked)?;
            }
        }
        Ok(())
    }

    /// What another container has.
    fn of_other(&mut self, text: &str, containers: &Containers) -> Result<(), Error> {
        let (name, read_only) = volumes_from(text)?;
        for mount in containers.find(name)?.record()?.mounts {
            let point = MountPoint {
                mode: String::new(),
                writable: mount.writable && !read_only,
                // What it was filled with, it was filled with there.
                details: MountDetails { seeded: false, ..mount.details.clone() },
                ..mount
            };
            match point.kind {
                MountKind::Tmpfs => continue,
                MountKind::Bind => {}
                MountKind::Volume => {
                    let volume = self.volumes.find(&point.name)?;
                    let hold = self.volumes.hold(&volume)?.ok_or_else(|| Error::NoSuchVolume(point.name.clone()))?;
                    self.holds.push(hold);
                }
            }
            self.points.insert(point.destination.clone(), point);
        }
        Ok(())
    }

    fn add(&mut self, asked: Requested) -> Result<(), Error> {
        let mut point = MountPoint {
            kind: asked.kind,
            destination: asked.destination,
            mode: asked.mode,
            writable: asked.is_writable,
            propagation: asked.propagation,
            ..MountPoint::default()
        };
        let mount = asked.mount.unwrap_or_default();
        match asked.kind {
            MountKind::Bind => {
                point.source = asked.source;
                point.details.creates_source = asked.makes_source;
                point.details.non_recursive = mount.bind_options.unwrap_or_default().non_recursive;
            }
            MountKind::Tmpfs => {}
            MountKind::Volume => {
                let options = mount.volume_options.unwrap_or_default();
                let driver = options.driver_config.unwrap_or_default();
                let wanted = Wanted {
                    name: Some(asked.source).filter(|name| !name.is_empty()),
                    driver: if driver.name.is_empty() { self.driver.to_owned() } else { driver.name },
                    labels: options.labels,
                    options: driver.options,
                };
                point.details = MountDetails {
                    anonymous: wanted.name.is_none(),
                    seeded: asked.copies && options.subpath.is_empty(),
                    subpath: options.subpath,
                    ..MountDetails::default()
                };
                let (volume, hold) = self.volumes.create_held(wanted)?;
                self.holds.push(hold);
                point.name = volume.name().to_owned();
                point.driver = LOCAL.to_owned();
                point.source = volume.data().display().to_string();
            }
        }
        self.points.insert(point.destination.clone(), point);
        Ok(())
    }
}
