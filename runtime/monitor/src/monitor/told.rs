//! What is told of a container's network and volumes when it begins and when it has ended, as docker tells it.

use std::collections::BTreeMap;

use cove_container::config::{MountKind, NetworkMode};
use cove_container::events::Event;
use cove_network::Networks;

use super::Monitor;

impl Monitor {
    /// `connect` and `disconnect`. One that is in another container's network has none of its own.
    pub(super) fn tell_network(&self, action: &str) {
        let name = match &self.record.host_config.network_mode {
            NetworkMode::Container(_) => return,
            NetworkMode::Default => "bridge",
            NetworkMode::None => "none",
            NetworkMode::Host => "host",
            NetworkMode::Named(name) => name,
        };
        let (root, run) = self.setup.folders();
        let Ok(network) = Networks::of(root, run).find(name) else { return };
        let attributes = [
            ("container", self.container.id().as_str()),
            ("name", network.name.as_str()),
            ("type", network.driver.as_str()),
        ];
        self.events.tell(&Event::new("network", action, &network.id, pairs(&attributes)));
    }

    /// `mount` and `unmount`.
    pub(super) fn tell_volumes(&self, action: &str) {
        for mount in self.record.mounts.iter().filter(|mount| mount.kind == MountKind::Volume) {
            let mut attributes = vec![("container", self.container.id().as_str()), ("driver", mount.driver.as_str())];
            if action == "mount" {
                attributes.push(("destination", &mount.destination));
                attributes.push(("propagation", mount.propagation.map_or("", |propagation| propagation.as_str())));
                attributes.push(("read/write", if mount.writable { "true" } else { "false" }));
            }
            self.events.tell(&Event::new("volume", action, &mount.name, pairs(&attributes)));
        }
    }
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
