//! Links to other containers: what they are called here and where they are now.
//!
//! Whoever starts with a link leaves a note with the other container, in its run folder: when that one starts again, with
//! another address perhaps, it finds there whose hosts file to put right.

use std::fs::File;
use std::io::Read;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use cove_container::config::NetworkMode;
use cove_container::links::{links, with_address};
use cove_container::{Container, ContainerId, Containers, Record, Status};

use crate::Error;
use crate::network::Places;

/// A longer hosts file is left alone: the container can write to it.
const LONGEST_HOSTS: u64 = 1024 * 1024;

/// What links say to a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Links {
    /// Lines of its hosts file: addresses and names.
    pub(crate) hosts: Vec<(Ipv4Addr, String)>,
    /// Its environment, before its own variables.
    pub(crate) environment: Vec<String>,
}

/// Whether a container is in the default network, the only one where links are of this kind.
fn is_in_default(record: &Record) -> bool {
    match &record.host_config.network_mode {
        NetworkMode::Default => true,
        NetworkMode::Named(name) => name == "bridge",
        _ => false,
    }
}

impl Links {
    /// Finds the other containers, which must run.
    pub(crate) fn of(places: &Places<'_>, container: &Container, record: &Record) -> Result<Self, Error> {
        let mut found = Self::default();
        if !is_in_default(record) {
            return Ok(found);
        }
        let containers = Containers::new(places.root, places.run);
        for link in links(record) {
            // One that was removed took the link along.
            let Some((other, known)) = containers.get(&link.id).and_then(|other| Some((other.record().ok()?, other)))
            else {
                continue;
            };
            if !is_in_default(&other) {
                return Err(Error::NotLinkable(other.name));
            }
            let runs =
                known.written_state().is_ok_and(|state| matches!(state.status, Status::Running | Status::Paused));
            let endpoint = places.networks().endpoint("bridge", link.id.as_str())?;
            let endpoint = endpoint.filter(|_| runs && places.is_alive(link.id.as_str()));
            let Some(endpoint) = endpoint else {
                let alias = format!("/{}/{}", record.name, link.alias);
                return Err(Error::LinksStopped { name: other.name, alias });
            };
            found.hosts.push((endpoint.address, link.hosts_names(&other)));
            found.environment.extend(link.environment(record, &other, &endpoint.address.to_string()));
            leave_note(&notes(&known), container.id(), &link.alias);
        }
        if !found.environment.is_empty() {
            let text = serde_json::to_vec(&found.environment).map_err(Error::system("write the links"))?;
            std::fs::write(container.links(), text).map_err(Error::system("write the links"))?;
        }
        Ok(found)
    }
}

/// Notes of whoever has a link to a container.
fn notes(container: &Container) -> PathBuf {
    container.run_folder().join("linked")
}

/// Without the note the other one's next address is not written down; the resolver knows it all the same.
fn leave_note(folder: &Path, own: &ContainerId, alias: &str) {
    let _ = std::fs::create_dir(folder);
    let _ = std::fs::write(folder.join(format!("{own}:{alias}")), "");
}

/// A container has an address: whoever has a link to it and runs is told.
pub(crate) fn tell(places: &Places<'_>, container: &Container, address: Ipv4Addr) {
    // Mostly there is no such folder.
    let Ok(entries) = std::fs::read_dir(notes(container)) else { return };
    let containers = Containers::new(places.root, places.run);
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some((id, alias)) = name.to_str().and_then(|name| name.split_once(':')) else { continue };
        let parent = ContainerId::try_from(id.to_owned()).ok().and_then(|id| containers.get(&id));
        let is_linked = |record: Record| links(&record).any(|link| link.id == *container.id() && link.alias == alias);
        let Some(parent) = parent.filter(|parent| parent.record().is_ok_and(is_linked)) else {
            let _ = std::fs::remove_file(entry.path());
            continue;
        };
        let hosts = parent.folder().join("hosts");
        // In place: the file is mounted. What is in it is the other container's business, and may be anything.
        if let Ok(before) = read_hosts(&hosts) {
            let after = with_address(&before, alias, &address.to_string());
            if after != before {
                let _ = std::fs::write(&hosts, after);
            }
        }
    }
}

/// A hosts file that a person could have written.
fn read_hosts(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LONGEST_HOSTS + 1).read_to_string(&mut text)?;
    match text.len() as u64 > LONGEST_HOSTS {
        true => Err(std::io::ErrorKind::FileTooLarge.into()),
        false => Ok(text),
    }
}
