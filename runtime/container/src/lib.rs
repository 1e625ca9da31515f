//! What a container is: its record, its folder, its state and the words its monitor speaks.
//!
//! Read and written by `cove`, which asks, and by `cove-runtime`, which watches one container: so nothing here needs a
//! thread or an async runtime.

mod attach;
pub mod cgroups;
pub mod check;
pub mod config;
mod containers;
pub mod copying;
mod delete;
mod error;
pub mod events;
mod file;
mod id;
pub mod links;
mod lock;
pub mod log;
pub mod mounts;
mod names;
mod overlay;
pub mod protocol;
mod record;
pub mod shared;
pub mod spec;
mod state;
pub mod volumes;

pub use attach::attach;
pub use containers::{Container, Containers};
pub use delete::delete;
pub use error::Error;
pub use file::Durability;
pub use id::ContainerId;
pub use lock::{Alive, Operation};
pub use overlay::{Overlay, Upper};
pub use record::{Record, RootFolder};
pub use state::{State, Status, boot_id};
pub use volumes::{Volume, Volumes};
