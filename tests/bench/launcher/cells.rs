//! What is measured.

use std::fmt;
use std::thread;
use std::time::Duration;

use crate::bundle::Bundles;
use crate::peers::{Failure, Peer};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// `run` of a static `true`.
    Run,
    /// `create`, `start`, the end of `true`, `delete`.
    Life,
    /// `exec` of `true` in a container that runs.
    Exec,
    /// Many of the first, started at once, to the end of the last.
    AtOnce,
}

impl Row {
    pub const ALL: [Self; 4] = [Self::Run, Self::Life, Self::Exec, Self::AtOnce];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Life => "life",
            Self::Exec => "exec",
            Self::AtOnce => "at-once",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Life => "create + start + delete",
            Self::Exec => "exec",
            Self::AtOnce => "100 runs at once",
        }
    }
}

/// A line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub row: Row,
    /// With docker's seccomp profile.
    pub profile: bool,
    /// Each after a pause, not one right after the other.
    pub idle: bool,
}

/// How long the machine idles before each start of an idle cell.
const PAUSE: Duration = Duration::from_millis(100);

impl fmt::Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let profile = if self.profile { "docker's profile" } else { "no seccomp" };
        let pace = match (self.row, self.idle) {
            (Row::AtOnce, _) => "",
            (_, false) => ", back-to-back",
            (_, true) => ", after 100 ms",
        };
        write!(formatter, "{}, {profile}{pace}", self.row.title())
    }
}

impl Cell {
    /// All of these rows.
    pub fn all(rows: &[Row]) -> Vec<Self> {
        let mut cells = Vec::new();
        for row in rows {
            for idle in [false, true] {
                if idle && *row == Row::AtOnce {
                    continue;
                }
                cells.extend([false, true].map(|profile| Self { row: *row, profile, idle }));
            }
        }
        cells
    }

    /// Milliseconds of as many starts as belong to a round, and the milliseconds of the processors; nothing from whom
    /// this does not concern.
    pub fn measure(self, peer: &Peer, bundles: &Bundles, block: usize) -> Result<Vec<(f64, f64)>, Failure> {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let only_time = |time: Duration| (milliseconds(time), 0.0);
        match self.row {
            Row::Exec | Row::Life if !peer.is_runtime() => Ok(Vec::new()),
            Row::Run => self.repeat(block, || {
                let ended = peer.run(bundles, self.profile)?;
                Ok((milliseconds(ended.time), milliseconds(ended.processor)))
            }),
            Row::Life => self.repeat(block, || peer.life(bundles, self.profile).map(only_time)),
            Row::Exec => {
                let running = peer.start(bundles, self.profile)?;
                self.repeat(block, || Ok(only_time(running.exec()?.time)))
            }
            Row::AtOnce => Ok(vec![only_time(peer.run_many(bundles, self.profile)?)]),
        }
    }

    /// The first is not counted: someone else has had the caches before it.
    fn repeat(
        self,
        block: usize,
        mut once: impl FnMut() -> Result<(f64, f64), Failure>,
    ) -> Result<Vec<(f64, f64)>, Failure> {
        once()?;
        let counted = (0..block).map(|_| {
            if self.idle {
                thread::sleep(PAUSE);
            }
            once()
        });
        counted.collect()
    }
}
