//! Netlink: how the kernel is told about links, addresses, routes, packet filters and connections.
//!
//! The few messages needed are encoded here, in some three hundred lines. The libraries were looked at first.
//! `netlink-packet-route` knows links and routes only and builds a tree of enums for every message; `netlink-bindings`
//! knows nf_tables too, but is nine megabytes of generated source, most of a megabyte for nf_tables alone; `neli` is
//! under another licence than this project takes. Starting containers is what Cove exists for: many messages go out in
//! one system call here, into one buffer, and the monitor that links this stays small.

mod batch;
mod parse;
mod socket;

pub(crate) use batch::{Attributes, Batch};
pub(crate) use parse::{attribute, attributes, number, number_from_network, text};
#[cfg(test)]
pub(crate) use socket::Answer;
pub(crate) use socket::Socket;

/// This message asks for something. Every message of ours has it.
pub(crate) const REQUEST: u16 = 0x1;
/// Answer also when it went well.
pub(crate) const ACKNOWLEDGE: u16 = 0x4;
/// All there are.
pub(crate) const DUMP: u16 = 0x300;
/// What is there already is changed.
pub(crate) const REPLACE: u16 = 0x100;
/// It must not be there yet.
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// It is made if it is not there.
pub(crate) const CREATE: u16 = 0x400;
/// Behind the others, not before them.
pub(crate) const APPEND: u16 = 0x800;

#[cfg(test)]
mod tests;
