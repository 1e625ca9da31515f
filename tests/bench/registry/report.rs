//! Medians, spread and ratios, as a table and as the page BENCHMARKS.md.

use std::time::Duration;

use cove_tests::Cmd;

use crate::peers::{Entrant, Kind};
use crate::rows::Row;

/// Most private memory that `cove-server` may take, in MB.
const MEMORY_TARGET: f64 = 60.0;

/// All figures: by row (memory is the last), by peer, by round.
pub struct Report {
    peers: Vec<String>,
    rows: Vec<&'static Row>,
    figures: Vec<Vec<Vec<f64>>>,
    /// Requests per second of the load generator and of wrk.
    pub ceiling: Option<(f64, f64)>,
}

impl Report {
    pub fn new(peers: &[Entrant], rows: &[&'static Row]) -> Self {
        let names = peers.iter().map(|peer| match peer.kind {
            Kind::Distribution => peer.version(),
            _ => peer.name.clone(),
        });
        let figures = vec![vec![Vec::new(); peers.len()]; rows.len() + 1];
        Report { peers: names.collect(), rows: rows.to_vec(), figures, ceiling: None }
    }

    pub fn add(&mut self, row: usize, peer: usize, figure: f64) {
        self.figures[row][peer].push(figure);
    }

    /// The table, in Markdown. The last column compares the first peer with the second.
    pub fn table(&self) -> String {
        let compared = self.peers.len() > 1;
        let mut lines = vec![format!("| figure | {} |", self.peers.join(" | "))];
        lines.push(format!("|---|{}", "---:|".repeat(self.peers.len())));
        if compared {
            lines[0] += &format!(" {} / {} | target |", self.peers[0], self.peers[1]);
            lines[1] += "---:|---:|";
        }
        for (number, row) in self.rows.iter().enumerate() {
            let title = format!("{}, {}", row.title, row.unit);
            lines.push(self.line(&title, number, &format!("≥ {} ×", row.target)));
        }
        let memory = format!("≤ {MEMORY_TARGET} MB");
        lines.push(self.line("peak private memory under all that, MB", self.rows.len(), &memory));
        lines.join("\n") + "\n"
    }

    fn line(&self, title: &str, row: usize, target: &str) -> String {
        let peers = &self.figures[row];
        let mut line = format!("| {title} |");
        for figures in peers {
            line += &match median(figures) {
                Some(median) => format!(" {} ({}–{}) |", shown(median), shown(least(figures)), shown(most(figures))),
                None => " |".to_owned(),
            };
        }
        if let [ours, theirs, ..] = &peers[..] {
            // Of each round its own: what slows the machine for a while slows both.
            let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
            line += &match median(&ratios) {
                Some(ratio) => format!(" **{ratio:.2}** ({:.2}–{:.2}) | {target} |", least(&ratios), most(&ratios)),
                None => format!(" | {target} |"),
            };
        }
        line
    }

    /// BENCHMARKS.md.
    pub fn page(&self, peers: &[Entrant], table: &str, rounds: usize, time: Duration) -> String {
        let versions: Vec<String> = peers.iter().map(Entrant::version).collect();
        let revision = Cmd::new("git").args(["-C", env!("CARGO_MANIFEST_DIR")]);
        let revision = revision.args(["describe", "--always", "--dirty"]).run().stdout.trim().to_owned();
        let ceiling = self.ceiling.map_or_else(String::new, |(ours, wrk)| {
            let (ours, wrk) = (shown(ours), shown(wrk));
            format!(
                "The load generator is not the limit: from nginx it gets the 10 kB file {ours} times a second, \
                 `wrk -t1` {wrk} times.\n"
            )
        });
        format!(
            "# Benchmarks

Written by `tests/bench/registry.sh` (which installs and builds what it needs; `--only ROW`, `--rounds` and
`--seconds` make it shorter). Medians of {rounds} rounds of {seconds} s a figure, with the least and the most in
parentheses; in each round every server has its turn with each row. Ratios are medians of the rounds' ratios.

{table}
- **cove** as it comes: token service on (every request carries a bearer token and is written to the log), SQLite
  and a folder, every acknowledged write durable.
- **distribution** with the configuration of its container image: no authentication, files in a folder.
- **nginx** with Debian's settings serves the same bytes as static files, as a yardstick.
- Client and servers share the machine's cores. Every server starts each round with an empty folder, is filled with
  the same image, and is alone under load. Blobs that are pushed are new ones, of bytes that do not compress.
- Private memory is Private_Clean + Private_Dirty of `/proc/PID/smaps_rollup`, looked at 20 times a second.

{ceiling}
| | |
|---|---|
| machine | {machine} |
| date | {date} |
| versions | {versions}; revision {revision} |
",
            seconds = time.as_secs_f64(),
            machine = machine(),
            date = Cmd::new("date").args(["-u", "+%F"]).ok(),
            versions = versions.join(", "),
        )
    }
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let memory = memory.split(' ').next().and_then(|kilobytes| kilobytes.parse::<f64>().ok()).unwrap_or(0.0);
    let memory = (memory * 1024.0 / 1e9).round();
    let folder = std::env::var("TMPDIR").unwrap_or_else(|_| "/var/tmp".to_owned());
    let disk = Cmd::new("findmnt").args(["-n", "-o", "FSTYPE", "-T", &folder]).ok();
    let model = field(&read("/proc/cpuinfo"), "model name");
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores ({model}), {memory} GB, Linux {}, {disk}", kernel.trim())
}

fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

fn least(figures: &[f64]) -> f64 {
    figures.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(figures: &[f64]) -> f64 {
    figures.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// Whole numbers with thousands apart.
fn shown(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
