//! Networks of containers: bridges, addresses, published ports, names; by netlink, without other programs.

pub mod proxy;
pub mod resolver;
