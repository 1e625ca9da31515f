//! What commands on containers share: starting a monitor, speaking with it, and putting right what a dead one has left.

mod create;
mod described;
mod detach_keys;
mod files;
mod links;
mod monitor;
mod runtime;
mod session;
mod terminal;

pub use create::create;
pub use described::{Described, described, disk_usage};
pub use detach_keys::DetachKeys;
pub use files::{Access, Files, made, snapshot_options};
pub use links::remove as remove_link;
pub use monitor::{Called, ask, ask_within, connect, end_silent, hear_from, put_right, start, sweep_networks};
pub use runtime::{ask_runtime, own_runtime};
pub use session::{Outcome, Session};
