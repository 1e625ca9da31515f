//! What attackers try against an OCI runtime: a bundle or a volume is theirs, and a canary on the host must not change.
//!
//! Each attack is a function that is given a runtime and says what it has found. The tests of the suite want it to be
//! nothing; `soak-launcher` (tests/soak) runs the same attacks for long, and on other runtimes to show what they do.

mod links;
mod races;

use std::fmt;

use crate::OciRuntime;

pub use links::{LINKED_PLACES, links};
pub use races::{RACES, Race, race};

/// An attack: its name, the class that it belongs to, and what carries it out.
pub struct Attack {
    /// What it does, in a few words.
    pub name: String,
    /// The class of `T-R`, by which the design names it, and known cases of it.
    pub class: &'static str,
    run: Box<dyn Fn(&OciRuntime) -> Outcome + Send + Sync>,
}

/// What came of an attack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing on the host changed; whether the container was refused or not is up to the runtime.
    Held,
    /// The attack succeeded, and how.
    Broke(String),
}

impl Attack {
    /// An attack.
    pub fn new(
        name: impl Into<String>,
        class: &'static str,
        run: impl Fn(&OciRuntime) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), class, run: Box::new(run) }
    }

    /// Carries it out.
    pub fn run(&self, runtime: &OciRuntime) -> Outcome {
        (self.run)(runtime)
    }
}

impl Outcome {
    /// Nothing was damaged, or this was.
    pub fn of(damage: String) -> Self {
        if damage.is_empty() { Self::Held } else { Self::Broke(damage) }
    }

    /// The first of two that broke.
    pub fn and(self, other: Self) -> Self {
        if self == Self::Held { other } else { self }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held => write!(f, "held"),
            Self::Broke(how) => write!(f, "BROKE: {how}"),
        }
    }
}
