//! Medians, spread and ratios, as tables and as a section of BENCHMARKS.md.

use cove_tests::benchmarks::{circumstances, least, load, median, most, shown};

use crate::bundle::Bundles;
use crate::cells::{Cell, Row};
use crate::peers::Resident;

/// What ours is called.
pub const OURS: &str = "cove-runtime";
/// Whom all are compared with.
const CRUN: &str = "crun";

/// All figures.
pub struct Report {
    cells: Vec<Cell>,
    peers: Vec<String>,
    /// Milliseconds by cell, by peer, by round.
    times: Vec<Vec<Vec<Vec<f64>>>>,
    /// Who starts containers without the filter that the bundle asks for: their figures are not to be compared.
    unfiltered: Vec<bool>,
    /// Rounds in which a peer failed, by cell, by peer.
    failures: Vec<Vec<usize>>,
    /// Milliseconds of the processors for a run, by profile, by peer.
    processor: [Vec<Vec<f64>>; 2],
    /// System calls of a run, by profile, by peer.
    calls: [Vec<Option<u64>>; 2],
    /// Between create and start, and after it, by peer.
    resident: Vec<Option<(Resident, Resident)>>,
    /// The load average before each round.
    loads: Vec<f64>,
}

/// What ours shall reach, in milliseconds: now, and on the way.
const GOALS: [(Cell, f64, f64); 3] = [
    (Cell { row: Row::Run, profile: true, idle: false }, 4.0, 3.0),
    (Cell { row: Row::Run, profile: true, idle: true }, 5.0, 4.0),
    (Cell { row: Row::Exec, profile: true, idle: false }, 2.5, 1.5),
];

impl Report {
    pub fn new(cells: &[Cell], peers: Vec<String>) -> Self {
        let count = peers.len();
        Self {
            cells: cells.to_vec(),
            times: vec![vec![Vec::new(); count]; cells.len()],
            unfiltered: vec![false; count],
            failures: vec![vec![0; count]; cells.len()],
            processor: [vec![Vec::new(); count], vec![Vec::new(); count]],
            calls: [vec![None; count], vec![None; count]],
            resident: vec![None; count],
            loads: Vec::new(),
            peers,
        }
    }

    pub fn begin_round(&mut self) {
        self.loads.extend(load().parse::<f64>());
    }

    /// A round's figures of a peer: milliseconds, and those of the processors.
    pub fn add(&mut self, cell: usize, peer: usize, figures: &[(f64, f64)]) {
        if figures.is_empty() {
            return;
        }
        self.times[cell][peer].push(figures.iter().map(|(time, _)| *time).collect());
        let Cell { row, profile, idle } = self.cells[cell];
        if row == Row::Run && !idle {
            self.processor[usize::from(profile)][peer].extend(figures.iter().map(|(_, processor)| *processor));
        }
    }

    pub fn add_failure(&mut self, cell: usize, peer: usize) {
        self.failures[cell][peer] += 1;
        // Ratios are of the same round.
        self.times[cell][peer].push(Vec::new());
    }

    pub fn add_calls(&mut self, profile: bool, peer: usize, calls: Option<u64>) {
        self.calls[usize::from(profile)][peer] = calls;
    }

    pub fn add_unfiltered(&mut self, peer: usize) {
        self.unfiltered[peer] = true;
    }

    pub fn add_resident(&mut self, peer: usize, created: Resident, started: Resident) {
        self.resident[peer] = Some((created, started));
    }

    /// All tables, in Markdown.
    pub fn tables(&self) -> String {
        let mut lines = self.head("milliseconds");
        for (number, cell) in self.cells.iter().enumerate() {
            let cells = (0..self.peers.len()).map(|peer| self.time(number, peer));
            lines.push(row(&cell.to_string(), cells));
        }
        lines.push(String::new());
        lines.extend(self.head("what it costs"));
        for profile in [false, true] {
            let with = if profile { "docker's profile" } else { "no seccomp" };
            let all = 0..self.peers.len();
            let figures = &self.processor[usize::from(profile)];
            let processor = all.clone().map(|peer| middle(&figures[peer], 2));
            lines.push(row(&format!("run, {with}: processor time, ms"), processor));
            let calls = &self.calls[usize::from(profile)];
            let calls = all.map(|peer| calls[peer].map_or_else(String::new, |calls| shown(calls as f64)));
            lines.push(row(&format!("run, {with}: system calls"), calls));
        }
        type Pick = fn(&(Resident, Resident)) -> Resident;
        let moments: [(&str, Pick); 2] = [
            ("between create and start", |both| both.0),
            ("after start, besides the container's process", |both| both.1),
        ];
        for (when, pick) in moments {
            let cells = self.resident.iter().map(|both| both.as_ref().map(pick).map_or_else(String::new, in_words));
            lines.push(row(&format!("resident {when}"), cells));
        }
        lines.push(String::new());
        lines.extend(self.goals());
        lines.join("\n") + "\n"
    }

    fn head(&self, title: &str) -> Vec<String> {
        let names = self.peers.iter().zip(&self.unfiltered);
        let names = names.map(|(name, unfiltered)| match unfiltered {
            true => format!("{name} (loads no filter where the profile asks for one)"),
            false => name.clone(),
        });
        vec![row(title, names), format!("|---|{}", "---:|".repeat(self.peers.len()))]
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.peers.iter().position(|peer| peer == name)
    }

    /// A peer's figures of a line, and how many times crun's that is.
    fn time(&self, cell: usize, peer: usize) -> String {
        let all = self.times[cell][peer].concat();
        let failed = match self.failures[cell][peer] {
            0 => String::new(),
            count => format!("failed in {count} of {} rounds", self.times[cell][peer].len()),
        };
        let Some(median) = median(&all) else { return failed };
        let ratio = self.index(CRUN).filter(|crun| *crun != peer).and_then(|crun| self.ratio(cell, peer, crun));
        let ratio = ratio.map_or_else(String::new, |ratio| format!(" × {ratio:.2}"));
        let p90 = if all.len() < 10 { String::new() } else { format!(", p90 {:.1}", percentile(&all, 90)) };
        format!("**{median:.2}** ({:.1}–{:.1}{p90}){ratio}", least(&all), most(&all))
            + if failed.is_empty() { "" } else { "; " }
            + &failed
    }

    /// The median of the rounds' ratios: what slows the machine for a while slows both.
    fn ratio(&self, cell: usize, peer: usize, other: usize) -> Option<f64> {
        let times = &self.times[cell];
        let rounds = times[peer].iter().zip(&times[other]);
        median(&rounds.filter_map(|(ours, theirs)| Some(median(ours)? / median(theirs)?)).collect::<Vec<_>>())
    }

    fn goals(&self) -> Vec<String> {
        let Some(ours) = self.index(OURS) else { return Vec::new() };
        let cruns: Vec<_> = (0..self.peers.len()).filter(|peer| self.peers[*peer].starts_with(CRUN)).collect();
        let names: String = cruns.iter().map(|crun| format!(" × {} |", self.peers[*crun])).collect();
        let mut lines = vec![
            format!("| goal | on the way to | found |{names} reached |"),
            format!("|---|---:|---:|{}---|", "---:|".repeat(cruns.len())),
        ];
        for (goal, now, then) in GOALS {
            let Some(cell) = self.cells.iter().position(|cell| *cell == goal) else { continue };
            let Some(found) = median(&self.times[cell][ours].concat()) else { continue };
            let ratios = cruns.iter().map(|crun| self.ratio(cell, ours, *crun));
            let ratios: String =
                ratios.map(|ratio| ratio.map_or(" |".into(), |ratio| format!(" {ratio:.2} |"))).collect();
            lines.push(format!("| {goal}: ≤ {now} ms | {then} ms | {found:.2} ms |{ratios} {} |", yes(found <= now)));
        }
        if let Some((_, started)) = self.resident[ours] {
            let nothing = Resident::default();
            let empty = " |".repeat(cruns.len());
            let reached = yes(started == nothing);
            lines.push(format!("| resident after start: nothing | | {} |{empty} {reached} |", in_words(started)));
        }
        lines
    }

    /// The section in BENCHMARKS.md.
    pub fn section(&self, tables: &str, bundles: &Bundles, rounds: usize, block: usize, versions: &str) -> String {
        format!(
            "Written by `tests/bench/launcher.sh` (which installs and builds what it needs; `--only ROW`, `--peer PEER` and
`--rounds` make it shorter). Medians, with the least, the most and the 90th percentile in parentheses, and how many times
crun's that is (the median of the rounds' ratios). {rounds} rounds of {block} starts each; in each round everyone has their turn with
each row, and an uncounted start before it.

{tables}
- The bundle is what this machine's dockerd gives to runc for a container without a network: {description}. It is taken once
  with its seccomp profile and once without; the hook that calls dockerd is left out, the network namespace is new and empty.
  The container's program is a static busybox.
- All times are from before `posix_spawn` to the return of `wait4` in a process that does nothing else, by CLOCK_MONOTONIC; standard
  streams are `/dev/null`. *back-to-back*: one right after the other. *after 100 ms*: the machine has slept so long before each.
- *create + start + delete*: three commands, and between the last two the end of the container's process, which the
  benchmark inherits as a container's monitor does.
- *100 runs at once*: started one after the other without waiting, to the end of the last; bundles and cgroups of their own,
  one root file system.
- Everyone runs in one mount namespace in which `/sys/fs/cgroup/unified` is unmounted (crun 1.8.1 refuses hybrid cgroups) and
  the runtimes' states lie on a tmpfs, as `/run` mostly is.
- **limit**: a static program of our own that makes the same namespaces and mounts, pivots, executes and waits; it has no cgroup,
  no capabilities, no filter, no masked paths, no state, and reads no `config.json`. **no container**: the container's
  program, started outside.
- Processor time is user + system by `wait4`, of all processes that were waited for; system calls are counted by
  `strace -f -c`. *Resident* is the number of processes and their PSS; between create and start the container's process is the runtime's.
- Load average before each round: {loads}.

{circumstances}",
            description = bundles.description(),
            loads = self.loads.iter().map(|load| format!("{load:.2}")).collect::<Vec<_>>().join(", "),
            circumstances = circumstances(versions),
        )
    }
}

const fn yes(reached: bool) -> &'static str {
    if reached { "yes" } else { "no" }
}

fn in_words(resident: Resident) -> String {
    match resident.processes {
        0 => "nothing".to_owned(),
        count => format!("{count}: {} kB", shown(resident.kilobytes as f64)),
    }
}

fn row(title: &str, cells: impl Iterator<Item = String>) -> String {
    format!("| {title} | {} |", cells.collect::<Vec<_>>().join(" | "))
}

fn middle(figures: &[f64], digits: usize) -> String {
    median(figures).map_or_else(String::new, |median| format!("{median:.digits$}"))
}

/// The figure that so many per cent do not exceed.
fn percentile(figures: &[f64], percent: usize) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() * percent).div_ceil(100) - 1]
}
