//! Containers as users of images.
//!
//! Their records are read while the store is locked. Whoever makes a container holds that lock until its record is there,
//! so none is overlooked.

use std::collections::HashSet;

use cove_container::{ContainerId, Containers, Status};
use cove_oci::Digest;

use crate::Error;
use crate::places::Places;

/// A container.
#[derive(Debug)]
pub(crate) struct User {
    id: ContainerId,
    image: String,
    pub(crate) is_running: bool,
}

/// All containers.
#[derive(Debug, Default)]
pub(crate) struct Users {
    all: Vec<User>,
    /// Names of the layer folders that they need.
    pub(crate) folders: HashSet<String>,
    /// A record cannot be read: nobody knows which layers that container needs.
    pub(crate) is_unknown: bool,
}

impl User {
    /// Beginning of its id.
    pub(crate) fn short(&self) -> String {
        self.id.short().to_owned()
    }
}

impl Users {
    pub(crate) fn read(places: &Places) -> Result<Self, Error> {
        let mut users = Users::default();
        let layers = places.layers();
        for container in Containers::new(&places.root, &places.run).all()? {
            let record = match container.record() {
                Ok(record) => record,
                // Removed in between.
                Err(cove_container::Error::NoSuchContainer(_)) => continue,
                Err(error) => {
                    tracing::warn!("layers that were unused are not removed: {error}");
                    users.is_unknown = true;
                    continue;
                }
            };
            let own = record.layers.iter().filter_map(|folder| folder.strip_prefix(&layers).ok());
            users.folders.extend(own.map(|name| name.to_string_lossy().into_owned()));
            // One whose state is unknown may run.
            let is_running = container.state().map_or(true, |(state, _)| {
                matches!(state.status, Status::Running | Status::Paused | Status::Restarting)
            });
            users.all.push(User { id: record.id, image: record.image, is_running });
        }
        Ok(users)
    }

    /// The containers that were made of an image.
    pub(crate) fn of(&self, image: &Digest) -> impl Iterator<Item = &User> {
        let image = image.to_string();
        self.all.iter().filter(move |user| user.image == image)
    }

    /// Refuses to remove an image that one of them was made of; force helps if none of those runs.
    pub(crate) fn refuse(&self, image: &Digest, force: bool) -> Result<(), Error> {
        let id = || image.hex()[..12].to_owned();
        if let Some(user) = self.of(image).find(|user| user.is_running) {
            return Err(Error::UsedByRunning { id: id(), container: user.short() });
        }
        match self.of(image).next().filter(|_| !force) {
            Some(user) => Err(Error::UsedByStopped { id: id(), container: user.short() }),
            None => Ok(()),
        }
    }
}
