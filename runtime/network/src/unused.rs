//! Bridges that nobody needs any more.
//!
//! The machine's store keeps its bridge, as docker does. The bridge of a store at another place has a name that nobody
//! would recognize later; it goes with the last container that is connected, and its table and rules of the packet filter
//! go with it. Whoever is about to be connected holds a shared lock until its lease is there: so a bridge is never taken
//! from under it.
//!
//! The kernel takes 20 to 50 ms to remove a bridge, and lets everybody wait who changes links meanwhile. So whoever lets
//! nobody wait for it may first wait itself ([`Networks::last_change`]) to see whether somebody comes.

use std::path::PathBuf;
use std::time::SystemTime;

use crate::firewall::{self, Filter};
use crate::netlink::{Batch, Socket};
use crate::nftables::Transaction;
use crate::record::{self, Lock};
use crate::{Error, Networks, foreign, link};

impl Networks {
    /// Whether bridges of this store go when nobody needs them: not those of the machine's, nor in a user's namespaces,
    /// which are his own.
    pub fn removes_unused(&self) -> bool {
        let map = || std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let is_everybody = |map: &str| map.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
        !self.is_system() && is_everybody(&map())
    }

    /// When an address of a network was last leased or given back.
    pub fn last_change(&self, network: &str) -> Option<SystemTime> {
        std::fs::metadata(self.leases(network)).and_then(|found| found.modified()).ok()
    }

    /// Removes what the kernel holds for a network, if none of its addresses is leased to a container that lives and nobody
    /// is about to get one. Whether it was removed.
    pub fn remove_unused(&self, network: &str, is_alive: &dyn Fn(&str) -> bool) -> Result<bool, Error> {
        if !self.removes_unused() {
            return Ok(false);
        }
        let bridge = self.find(network)?.into_bridge()?;
        self.reclaim(&bridge, None, is_alive)?;
        self.make_run_folder()?;
        let Some(_nobody_starts) = record::try_lock(&self.starting_lock())? else { return Ok(false) };
        let _lock = self.lock()?;
        if !self.leased(&bridge.network.name)?.is_empty() {
            return Ok(false);
        }
        Filter::with(|socket| {
            let mut transaction = Transaction::new();
            foreign::forget(socket, &mut transaction, &bridge.interface)?;
            if firewall::look(socket, &bridge)?.is_some() {
                transaction.delete_table(&bridge.interface);
            }
            match transaction.is_empty() {
                true => Ok(()),
                false => socket.commit(&mut transaction.finish()).map_err(firewall::failed),
            }
        })?;
        let failed = |error| Error::kernel("remove the bridge", error);
        let mut batch = Batch::default();
        link::delete(&mut batch, &bridge.interface);
        let mut socket = Socket::route().map_err(failed)?;
        let answer = socket.ask(&mut batch).map_err(failed)?.pop().unwrap_or_default();
        // One that is gone already is as good.
        answer.found().map(|_| true).map_err(failed)
    }

    /// Held while a container is being connected. Where bridges stay nobody needs to know.
    pub(crate) fn starting(&self) -> Result<Option<Lock>, Error> {
        if self.is_system() {
            return Ok(None);
        }
        self.make_run_folder()?;
        record::lock_shared(&self.starting_lock()).map(Some)
    }

    fn starting_lock(&self) -> PathBuf {
        self.run_folder().join(".starting")
    }
}
