//! Medians, spread and ratios, as a table and as a section of BENCHMARKS.md.

use std::time::Duration;

use cove_tests::benchmarks::{circumstances, least, median, most, shown};

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

    /// The section in BENCHMARKS.md.
    pub fn section(&self, peers: &[Entrant], table: &str, rounds: usize, time: Duration) -> String {
        let versions: Vec<String> = peers.iter().map(Entrant::version).collect();
        let ceiling = self.ceiling.map_or_else(String::new, |(ours, wrk)| {
            let (ours, wrk) = (shown(ours), shown(wrk));
            format!(
                "The load generator is not the limit: from nginx it gets the 10 kB file {ours} times a second, \
                 `wrk -t1` {wrk} times.\n"
            )
        });
        format!(
            "Written by `tests/bench/registry.sh` (which installs and builds what it needs; `--only ROW`, `--rounds` and
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
{circumstances}",
            seconds = time.as_secs_f64(),
            circumstances = circumstances(&versions.join(", ")),
        )
    }
}
