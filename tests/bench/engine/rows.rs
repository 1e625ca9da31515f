//! What is measured.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use crate::peers::{IMAGE, Peer, resident};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// `run --rm` of a static `true` without a network.
    RunNone,
    /// The same on the bridge, with one published port.
    RunPort,
    /// `exec` of `true` in a container that runs.
    Exec,
    /// 100 detached containers, started one after the other, then removed at once.
    Hundred,
}

impl Row {
    pub const ALL: [Self; 4] = [Self::RunNone, Self::RunPort, Self::Exec, Self::Hundred];

    pub const fn name(self) -> &'static str {
        match self {
            Self::RunNone => "run-none",
            Self::RunPort => "run-port",
            Self::Exec => "exec",
            Self::Hundred => "hundred",
        }
    }
}

/// A line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub row: Row,
    /// Each after a pause, not one right after the other.
    pub idle: bool,
}

impl fmt::Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.row {
            Row::RunNone => "run --rm --network none",
            Row::RunPort => "run --rm, bridge and one port",
            Row::Exec => "exec",
            Row::Hundred => return formatter.write_str("100 × run -d, then rm -f of all"),
        })?;
        formatter.write_str(if self.idle { ", after 100 ms" } else { ", back-to-back" })
    }
}

/// All lines of these rows.
pub fn cells(rows: impl Iterator<Item = Row>) -> Vec<Cell> {
    let mut cells = Vec::new();
    for row in rows {
        cells.push(Cell { row, idle: false });
        if row != Row::Hundred {
            cells.push(Cell { row, idle: true });
        }
    }
    cells
}

/// How long the machine idles before each start of an idle cell.
const PAUSE: Duration = Duration::from_millis(100);
/// Detached containers at once.
const MANY: usize = 100;

/// What a turn has found.
#[derive(Default)]
pub struct Figures {
    /// Milliseconds.
    pub times: Vec<f64>,
    /// Kilobytes beside each container, where that is looked at.
    pub companion: Option<f64>,
}

impl Cell {
    /// A turn of a peer. Its first start is not counted: someone else has had the caches before it.
    pub fn measure(self, peer: &dyn Peer, block: usize) -> Figures {
        match self.row {
            Row::RunNone => self.repeat(block, || peer.call(&["run", "--rm", "--network", "none", IMAGE, "true"]).time),
            Row::RunPort => self.repeat(block, || peer.call(&["run", "--rm", "-p", "18080:80", IMAGE, "true"]).time),
            Row::Exec => {
                peer.call(&["run", "-d", "--name", "stays", "--network", "none", IMAGE, "sleep", "10000"]);
                let figures = self.repeat(block, || peer.call(&["exec", "stays", "true"]).time);
                peer.call(&[peer.remove(), &["stays"]].concat());
                figures
            }
            Row::Hundred => hundred(peer),
        }
    }

    fn repeat(self, block: usize, mut once: impl FnMut() -> Duration) -> Figures {
        once();
        let counted = (0..block).map(|_| {
            if self.idle {
                thread::sleep(PAUSE);
            }
            once().as_secs_f64() * 1e3
        });
        Figures { times: counted.collect(), companion: None }
    }
}

fn hundred(peer: &dyn Peer) -> Figures {
    let names: Vec<String> = (0..MANY).map(|number| format!("many-{number}")).collect();
    let (others, others_memory) = resident(peer.companion());
    let start = Instant::now();
    for name in &names {
        peer.call(&["run", "-d", "--name", name, "--network", "none", IMAGE, "sleep", "10000"]);
    }
    let started = start.elapsed();
    let (count, memory) = resident(peer.companion());
    assert_eq!(count - others, MANY, "each container of {} has a process {}", peer.name(), peer.companion());
    let companion = (memory - others_memory) as f64 / MANY as f64;
    let start = Instant::now();
    let mut words = peer.remove().to_vec();
    words.extend(names.iter().map(String::as_str));
    peer.call(&words);
    let time = started + start.elapsed();
    Figures { times: vec![time.as_secs_f64() * 1e3], companion: Some(companion) }
}
