//! The resolver that containers find at 127.0.0.11: names on their networks, everything else from the host's servers.
//!
//! A state machine for the monitor's event loop: no thread, nothing waits. The monitor polls one descriptor
//! ([`Resolver::descriptor`]), wakes at [`Resolver::deadline`], and calls [`Resolver::ready`] for either. The sockets that
//! containers ask are made in their namespace ([`sockets_behind_53`]); those that ask the host's servers are made where the
//! monitor is, in the host's.
//!
//! A message is passed on as it came, with another id: what is in it beside the question (EDNS, DNSSEC) is between the
//! container and the server. So all that is read is a header and one question, in which no compression can be (there is
//! nothing before it to point at): smaller than any DNS library, and without a loop to be caught in.

mod client;
mod configuration;
mod lead;
mod message;
mod server;
mod sockets;
mod upstream;

#[cfg(test)]
mod tests;

pub use configuration::{DnsOptions, HostResolver, Nameserver, container_resolv_conf};
pub use server::{FindAddresses, FindName, Names, Resolver};
pub use sockets::{ADDRESS, Sockets, SocketsError, sockets_behind_53, sockets_in};
