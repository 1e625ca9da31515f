//! Networks of containers: bridges, addresses, published ports, names; by netlink, without other programs.
//!
//! A container's network is made in four steps, all of them by whoever supervises the container, a process of one
//! thread that holds the container's alive lock:
//!
//! 1. [`new_namespace`] makes its network namespace;
//! 2. [`Networks::connect`] gives it an address on a network and the link to it;
//! 3. [`Networks::publish`] reserves ports of this machine and leads them to it;
//! 4. [`Networks::disconnect`] takes all of it back.
//!
//! Nothing here keeps a process. What must be known later lies in two folders: `<root>/networks/<name>.json` is a
//! network, and lasts; `<run>/networks/<name>/<address>` is an endpoint, and goes with the machine's start. The name of
//! that file is the lease of its address: it is linked into place whole, so two never get one address. The file names
//! the container; whether that container is alive, only the caller knows (its alive lock): [`Networks::sweep`], and
//! `connect` where it needs the address, ask for it and take back what dead ones left, whenever they were killed.
//!
//! What the kernel holds for a network of driver `bridge`: the bridge with the gateway's address, a veth pair for each
//! endpoint (the container's end has the lease's address, and a hardware address made from it), and one table of
//! nf_tables, named after the bridge. `firewall` says what is in that table, `foreign` what has to be said to the
//! firewall of the host beside it. Links are never deleted: the kernel takes 20 to 34 ms for that, and nothing when the
//! namespace dies that holds the other end.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod address;
mod bridge;
mod claim;
mod conntrack;
mod endpoint;
mod error;
mod firewall;
mod foreign;
mod legacy;
mod link;
mod namespace;
mod netlink;
mod network;
mod nftables;
mod plug;
mod port;
pub mod proxy;
mod publish;
mod ranges;
mod record;
pub mod resolver;
mod shared;
mod sweep;
mod syscalls;
#[cfg(test)]
mod tests;
mod unused;

pub use address::MacAddress;
pub use endpoint::{Binding, Connected, Endpoint, Request};
pub use error::Error;
pub use foreign::Warning;
pub use ipnet::Ipv4Net;
pub use namespace::{loopback_up, new_namespace};
pub use network::{Driver, Network, Networks, Pool};
pub use port::{Held, HostPorts, Protocol, PublishedPort};
pub use shared::drop_invalid;
