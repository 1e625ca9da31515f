//! Networks: their records, and finding one.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::netlink::Socket;
use crate::record::{self, Lock};
use crate::{Error, ranges};

/// The interface of the default bridge. Other networks will have names made from their ids.
const DEFAULT_INTERFACE: &str = "cove0";
/// The machine's store.
const SYSTEM: &str = "/var/lib/cove";
/// The networks that always are there.
const PREDEFINED: [(&str, Driver); 3] = [("bridge", Driver::Bridge), ("host", Driver::Host), ("none", Driver::Null)];

/// What a network is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A bridge of its own.
    Bridge,
    /// This machine's network.
    Host,
    /// Nothing but the loopback device.
    Null,
}

impl Driver {
    /// Docker's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Driver::Bridge => "bridge",
            Driver::Host => "host",
            Driver::Null => "null",
        }
    }
}

/// The addresses of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// All of them.
    pub subnet: Ipv4Net,
    /// The bridge's own, through which containers reach everything else.
    pub gateway: Ipv4Addr,
}

impl Pool {
    /// The gateway of a range is its first address.
    pub(crate) fn of(subnet: Ipv4Net) -> Self {
        let first = u32::from(subnet.network()).saturating_add(1);
        Pool { subnet, gateway: Ipv4Addr::from(first) }
    }
}

/// A network as it is recorded in `<root>/networks/<name>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// 64 hexadecimal digits.
    pub id: String,
    /// `bridge`, for instance.
    pub name: String,
    /// What it is made of.
    pub driver: Driver,
    /// When it was made, RFC 3339, UTC.
    pub created: String,
    /// The IPv4 addresses of a bridge.
    pub ipv4: Option<Pool>,
    /// The bridge's interface.
    pub interface: Option<String>,
    /// Docker's options, for whoever inspects it.
    pub options: BTreeMap<String, String>,
    /// Labels, for whoever inspects it.
    pub labels: BTreeMap<String, String>,
}

/// A network with a bridge, its parts at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bridge {
    pub(crate) network: Network,
    pub(crate) interface: String,
    pub(crate) pool: Pool,
}

impl Network {
    /// Two stores must not give addresses of one bridge, so each but the machine's has its own, named by its id.
    fn new(name: &str, driver: Driver, is_system: bool) -> Result<Self, Error> {
        let id = record::new_id()?;
        let interface = match is_system {
            true => DEFAULT_INTERFACE.to_owned(),
            // Names of interfaces have 15 bytes.
            false => format!("cove-{}", id.get(..8).unwrap_or(&id)),
        };
        let mut options = BTreeMap::new();
        if driver == Driver::Bridge {
            let values = [
                ("default_bridge", "true"),
                ("enable_icc", "true"),
                ("enable_ip_masquerade", "true"),
                ("host_binding_ipv4", "0.0.0.0"),
                ("name", interface.as_str()),
            ];
            let key = |name| format!("com.docker.network.bridge.{name}");
            options.extend(values.map(|(name, value)| (key(name), value.to_owned())));
            options.insert("com.docker.network.driver.mtu".to_owned(), crate::bridge::MTU.to_string());
        }
        Ok(Network {
            id,
            name: name.to_owned(),
            driver,
            created: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
            ipv4: None,
            interface: (driver == Driver::Bridge).then_some(interface),
            options,
            labels: BTreeMap::new(),
        })
    }

    /// The network as a bridge.
    pub(crate) fn into_bridge(self) -> Result<Bridge, Error> {
        match (self.interface.clone(), self.ipv4) {
            (Some(interface), Some(pool)) => Ok(Bridge { network: self, interface, pool }),
            _ => Err(Error::NoBridge { name: self.name, driver: self.driver.as_str() }),
        }
    }
}

/// All networks of one store, in the network namespace of the thread that uses it.
#[derive(Debug, Clone)]
pub struct Networks {
    root: PathBuf,
    run: PathBuf,
    /// Whether it is the machine's store: its bridge has the plain name.
    is_system: bool,
}

impl Networks {
    /// Those of the store with these folders: `/var/lib/cove` and `/run/cove`, for instance.
    pub fn of(root: &Path, run: &Path) -> Self {
        let is_system = root == Path::new(SYSTEM);
        Networks { root: root.join("networks"), run: run.join("networks"), is_system }
    }

    /// The same with the bridge's plain name.
    #[cfg(test)]
    pub(crate) fn of_system(root: &Path, run: &Path) -> Self {
        Networks { is_system: true, ..Self::of(root, run) }
    }

    /// All networks, by name. `bridge`, `host` and `none` are always there.
    pub fn list(&self) -> Result<Vec<Network>, Error> {
        for (name, driver) in PREDEFINED {
            self.predefined(name, driver)?;
        }
        self.recorded()
    }

    /// The networks that have a record already.
    pub(crate) fn recorded(&self) -> Result<Vec<Network>, Error> {
        let entries = match fs_err::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut networks = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                networks.extend(record::read::<Network>(&path)?);
            }
        }
        networks.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(networks)
    }

    /// The network with this name, or with an id that begins so.
    pub fn find(&self, wanted: &str) -> Result<Network, Error> {
        // The common case needs one file.
        if let Some((name, driver)) = PREDEFINED.into_iter().find(|(name, _)| *name == wanted) {
            return self.predefined(name, driver);
        }
        // A disk that takes no record hides none that is there.
        let mut found: Vec<Network> = self.list().or_else(|_| self.recorded())?;
        if let Some(at) = found.iter().position(|network| network.name == wanted || network.id == wanted) {
            return Ok(found.swap_remove(at));
        }
        found.retain(|network| !wanted.is_empty() && network.id.starts_with(wanted));
        match found.len() {
            0 => Err(Error::NoSuchNetwork { name: wanted.to_owned() }),
            1 => Ok(found.swap_remove(0)),
            matches => Err(Error::AmbiguousNetwork { name: wanted.to_owned(), matches }),
        }
    }

    fn predefined(&self, name: &str, driver: Driver) -> Result<Network, Error> {
        let path = self.record(name);
        if let Some(network) = record::read(&path)? {
            return Ok(network);
        }
        fs_err::create_dir_all(&self.root)?;
        let mut network = Network::new(name, driver, self.is_system)?;
        if driver == Driver::Bridge {
            network.ipv4 = Some(self.free_pool(&network)?);
        }
        if record::create(&path, &network, true)? {
            return Ok(network);
        }
        // Another was quicker.
        record::read(&path)?.ok_or_else(|| Error::NoSuchNetwork { name: name.to_owned() })
    }

    /// A range that nothing uses: no address or route of this machine, no nameserver, no other network.
    pub(crate) fn free_pool(&self, network: &Network) -> Result<Pool, Error> {
        let mut socket = Socket::route().map_err(|error| Error::kernel("list the addresses in use", error))?;
        let mut used = ranges::in_use(&mut socket, network.interface.as_deref())?;
        let others = self.recorded()?.into_iter().filter(|other| other.name != network.name);
        used.extend(others.filter_map(|other| other.ipv4).map(|pool| pool.subnet));
        ranges::free(&used).map(Pool::of).ok_or(Error::NoFreeRange)
    }

    /// Gives a bridge another range. Only with the lock held.
    pub(crate) fn change_pool(&self, bridge: &mut Bridge, pool: Pool) -> Result<(), Error> {
        bridge.pool = pool;
        bridge.network.ipv4 = Some(pool);
        record::replace(&self.record(&bridge.network.name), &bridge.network, true)
    }

    fn record(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.json"))
    }

    /// The folder of a network's leases.
    pub(crate) fn leases(&self, network: &str) -> PathBuf {
        self.run.join(network)
    }

    /// Where the port that was last given is remembered.
    pub(crate) fn last_port(&self) -> PathBuf {
        self.run.join(".last-port")
    }

    /// Makes the folder of a network's leases.
    pub(crate) fn make_leases(&self, network: &str) -> Result<PathBuf, Error> {
        let folder = self.leases(network);
        if !folder.exists() {
            fs_err::create_dir_all(&folder)?;
        }
        Ok(folder)
    }

    /// Whether it is the machine's store.
    pub(crate) fn is_system(&self) -> bool {
        self.is_system
    }

    /// Where what goes with the machine's start lies.
    pub(crate) fn run_folder(&self) -> &Path {
        &self.run
    }

    /// Makes that folder.
    pub(crate) fn make_run_folder(&self) -> Result<(), Error> {
        if !self.run.exists() {
            fs_err::create_dir_all(&self.run)?;
        }
        Ok(())
    }

    /// Waits until nobody else changes networks of this store.
    pub(crate) fn lock(&self) -> Result<Lock, Error> {
        self.make_run_folder()?;
        record::lock(&self.run.join(".lock"))
    }
}
