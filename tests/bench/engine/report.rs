//! Medians, spread and ratios, as tables and as a section of BENCHMARKS.md.

use cove_tests::benchmarks::{circumstances, least, load, median, most, shown};

use crate::rows::{Cell, Figures, Row};

/// Whose figures the others' are compared with.
const OURS: &str = "cove";

/// All figures.
pub struct Report {
    cells: Vec<Cell>,
    peers: Vec<String>,
    /// Milliseconds by cell, by peer, by round.
    times: Vec<Vec<Vec<Vec<f64>>>>,
    /// Kilobytes beside each of many containers, by peer, by round.
    companions: Vec<Vec<f64>>,
    /// The load average before each round.
    loads: Vec<f64>,
}

/// What ours shall reach, in milliseconds: now, and on the way.
const GOALS: [(Cell, f64, Option<f64>); 5] = [
    (Cell { row: Row::RunNone, idle: false }, 8.0, Some(5.0)),
    (Cell { row: Row::RunNone, idle: true }, 8.0, Some(5.0)),
    (Cell { row: Row::RunPort, idle: false }, 11.0, Some(7.0)),
    (Cell { row: Row::RunPort, idle: true }, 11.0, Some(7.0)),
    (Cell { row: Row::Exec, idle: false }, 6.0, None),
];
/// The same in kilobytes beside a container.
const MEMORY_GOAL: f64 = 600.0;

impl Report {
    pub fn new(cells: Vec<Cell>, peers: Vec<String>) -> Self {
        Self {
            times: vec![vec![Vec::new(); peers.len()]; cells.len()],
            companions: vec![Vec::new(); peers.len()],
            loads: Vec::new(),
            cells,
            peers,
        }
    }

    pub fn begin_round(&mut self) {
        self.loads.extend(load().parse::<f64>());
    }

    pub fn add(&mut self, cell: usize, peer: usize, figures: Figures) {
        self.times[cell][peer].push(figures.times);
        self.companions[peer].extend(figures.companion);
    }

    /// All tables, in Markdown.
    pub fn tables(&self) -> String {
        let mut lines = vec![row("milliseconds", self.peers.iter().cloned())];
        lines.push(format!("|---|{}", "---:|".repeat(self.peers.len())));
        for (number, cell) in self.cells.iter().enumerate() {
            lines.push(row(&cell.to_string(), (0..self.peers.len()).map(|peer| self.time(number, peer))));
        }
        let memory = self
            .companions
            .iter()
            .map(|all| median(all).map_or_else(String::new, |kilobytes| format!("{} kB", shown(kilobytes))));
        lines.push(row("PSS beside each of 100 containers", memory));
        lines.push(String::new());
        lines.extend(self.goals());
        lines.join("\n") + "\n"
    }

    fn ours(&self) -> Option<usize> {
        self.peers.iter().position(|peer| peer == OURS)
    }

    /// A peer's figures of a line, and how many times ours that is.
    fn time(&self, cell: usize, peer: usize) -> String {
        let all = self.times[cell][peer].concat();
        let Some(median) = median(&all) else { return String::new() };
        let ratio = self.ours().filter(|ours| *ours != peer).and_then(|ours| self.ratio(cell, peer, ours));
        let ratio = ratio.map_or_else(String::new, |ratio| format!(" × {ratio:.1}"));
        format!("**{}** ({}–{}){ratio}", figure(median), figure(least(&all)), figure(most(&all)))
    }

    /// The median of the rounds' ratios: what slows the machine for a while slows both.
    fn ratio(&self, cell: usize, peer: usize, other: usize) -> Option<f64> {
        let times = &self.times[cell];
        let rounds = times[peer].iter().zip(&times[other]);
        median(&rounds.filter_map(|(ours, theirs)| Some(median(ours)? / median(theirs)?)).collect::<Vec<_>>())
    }

    fn goals(&self) -> Vec<String> {
        let Some(ours) = self.ours() else { return Vec::new() };
        let mut lines = vec![
            "| goal | on the way to | found | least | reached |".to_owned(),
            "|---|---:|---:|---:|---|".to_owned(),
        ];
        for (goal, now, then) in GOALS {
            let Some(cell) = self.cells.iter().position(|cell| *cell == goal) else { continue };
            let all = self.times[cell][ours].concat();
            let Some(found) = median(&all) else { continue };
            let then = then.map_or_else(String::new, |then| format!("{then} ms"));
            let reached = yes(found <= now);
            lines.push(format!("| {goal}: ≤ {now} ms | {then} | {found:.2} ms | {:.2} ms | {reached} |", least(&all)));
        }
        if let Some(found) = median(&self.companions[ours]) {
            let reached = yes(found <= MEMORY_GOAL);
            let least = least(&self.companions[ours]);
            lines.push(format!(
                "| PSS beside a container: ≤ {MEMORY_GOAL} kB | | {found:.0} kB | {least:.0} kB | {reached} |"
            ));
        }
        lines
    }

    /// The section in BENCHMARKS.md.
    pub fn section(&self, tables: &str, rounds: usize, block: usize, versions: &str) -> String {
        format!(
            "Written by `tests/bench/engine.sh` (which installs and builds what it needs; `--only ROW`, `--peer PEER` and
`--rounds` make it shorter). Medians, with the least and the most in parentheses, and how many times ours that is (the
median of the rounds' ratios). {rounds} rounds of {block} starts each; in each round everyone has their turn with each row, and an
uncounted start before it.

{tables}
- The program is a static busybox, called `true`; everybody has docker's default seccomp profile and limits, and the same
  image. Docker's daemon is a private one with its own containerd; podman calls crun; all are in one network namespace of their own.
  The run folders of `cove` and podman are in memory, as `/run` mostly is; docker's daemon keeps its own on the disk.
- All times are from before `posix_spawn` of the command to the return of `wait4` in a process that does nothing else, by
  CLOCK_MONOTONIC; standard streams are `/dev/null`. *back-to-back*: one right after the other. *after 100 ms*: the machine
  has slept so long before each.
- *100 × run -d*: one after the other, without a network; then one `rm -f` with all names. *PSS beside each*: of `cove-monitor`,
  `containerd-shim` and `conmon`, while the 100 run; what a daemon has besides is not in it.
- Load average before each round: {loads}.

{circumstances}",
            loads = self.loads.iter().map(|load| format!("{load:.2}")).collect::<Vec<_>>().join(", "),
            circumstances = circumstances(versions),
        )
    }
}

const fn yes(reached: bool) -> &'static str {
    if reached { "yes" } else { "no" }
}

fn figure(milliseconds: f64) -> String {
    if milliseconds < 100.0 { format!("{milliseconds:.1}") } else { shown(milliseconds) }
}

fn row(title: &str, cells: impl Iterator<Item = String>) -> String {
    format!("| {title} | {} |", cells.collect::<Vec<_>>().join(" | "))
}
