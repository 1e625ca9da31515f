//! Copies images between any two places.
//!
//! Pull, push, mirror, `save`, `load` and the export of a build are one algorithm, [`copy`], between a [`Source`] and
//! a [`Target`]: a repository in a registry, the local store, an OCI layout, an archive. What differs lies behind the
//! two traits; what happens is told to a [`Progress`].

mod copy;
mod error;
mod journal;
mod place;
mod progress;

pub use copy::{Copied, CopyOptions, Platforms, copy, place};
pub use error::{Error, Kind, Side};
pub use journal::{NoJournal, UploadJournal};
pub use place::{ByteStream, Origin, Placed, Source, Target};
pub use progress::{Progress, Silent, Step};
