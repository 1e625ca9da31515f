//! What the engine must endure: kills at any moment, commands at the same instant. The suite runs the short forms,
//! `soak-engine` the long ones.

mod kills;
mod log;
mod pairs;
mod remains;

use std::fmt::Debug;
use std::time::Duration;

use crate::Finished;

pub use kills::kills;
pub use log::log_of;
pub use pairs::{Kind, pairs};
pub use remains::Remains;

/// Whoever needs longer hangs.
const LIMIT: Duration = Duration::from_secs(90);

/// What a command must never do, whatever happens around it: it ends with a status of docker's, and if that is a failure it
/// says why, in words.
///
/// # Panics
/// If it has done so.
pub fn assert_sane(finished: &Finished, beside: &dyn Debug) {
    let said = &finished.stderr;
    for never in ["panicked", "RUST_BACKTRACE", "internal error", "is damaged", "Directory not empty"] {
        assert!(!said.contains(never), "beside {beside:?} a command says `{never}`: {finished}");
    }
    // Ended by a signal: of those who kill at random. 137 and 143: what it was attached to was ended.
    let Some(code) = finished.code else { return };
    assert!(
        [0, 1, 125, 126, 127, 137, 143, 255].contains(&code),
        "beside {beside:?} a status that docker does not have: {finished}"
    );
    if [1, 125, 126, 127].contains(&code) {
        assert!(!said.trim().is_empty(), "beside {beside:?} a failure without a word: {finished}");
    }
}
