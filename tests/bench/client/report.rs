//! Medians, spread and ratios, as a table and as a section of BENCHMARKS.md.

use cove_tests::benchmarks::{circumstances, least, load, median, most};

use crate::content::Content;
use crate::peers::{Peer, Row};

/// All figures: by row, by peer, by round.
pub struct Report {
    rows: Vec<Row>,
    peers: Vec<&'static str>,
    seconds: Vec<Vec<Vec<f64>>>,
    memory: Vec<Vec<f64>>,
    ratios: Vec<Vec<f64>>,
}

/// What ours is compared with in a row, and how many times that it may take.
const GOALS: [(Row, &str, f64); 4] = [
    (Row::Cold, "limit-with-copies", 1.2),
    (Row::Cold, "docker", 1.0 / 3.0),
    (Row::Push, "docker", 1.0 / 4.0),
    (Row::Push, "codec", 1.2),
];

/// Rows in which ours has so many seconds at most.
const AT_MOST: [(Row, f64); 2] = [(Row::Warm, 0.050), (Row::Again, 0.050)];

/// Most private memory that ours may take, in MB.
const MEMORY_TARGET: f64 = 100.0;

impl Report {
    pub fn new(rows: &[Row], peers: &[Box<dyn Peer>]) -> Self {
        let peers: Vec<_> = peers.iter().map(|peer| peer.name()).collect();
        let empty = vec![Vec::new(); peers.len()];
        Self {
            rows: rows.to_vec(),
            seconds: vec![empty.clone(); Row::ALL.len()],
            memory: empty.clone(),
            ratios: empty,
            peers,
        }
    }

    pub fn add(&mut self, row: Row, peer: usize, seconds: f64, memory: Option<f64>) {
        self.seconds[row as usize][peer].push(seconds);
        self.memory[peer].extend(memory);
    }

    /// Remembers how many times smaller a peer has made the layers.
    pub fn pushed(&mut self, peer: usize, ratio: f64) {
        self.ratios[peer].push(ratio);
    }

    /// Both tables, in Markdown.
    pub fn table(&self) -> String {
        let mut lines = vec![
            format!("| seconds | {} |", self.peers.join(" | ")),
            format!("|---|{}", "---:|".repeat(self.peers.len())),
        ];
        for row in &self.rows {
            let cells = self.seconds[*row as usize].iter().map(|figures| cell(figures, 2));
            lines.push(format!("| {} | {} |", row.title(), cells.collect::<Vec<_>>().join(" | ")));
        }
        let cells: Vec<_> = self.ratios.iter().map(|figures| cell(figures, 2)).collect();
        lines.push(format!("| the layers become so many times smaller | {} |", cells.join(" | ")));
        lines.extend(["".to_owned(), "| goal | found |".to_owned(), "|---|---:|".to_owned()]);
        lines.extend(self.goals());
        lines.join("\n") + "\n"
    }

    fn goals(&self) -> Vec<String> {
        let index = |name: &str| self.peers.iter().position(|peer| *peer == name);
        let Some(ours) = index("cove") else { return Vec::new() };
        let mut lines = Vec::new();
        for (row, name, goal) in GOALS {
            let figures = &self.seconds[row as usize];
            let Some(theirs) = index(name).map(|index| &figures[index]) else { continue };
            // Of each round its own: what slows the machine for a while slows both.
            let ratios: Vec<_> = figures[ours].iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
            lines.push(format!("| {}: ≤ {goal:.2} × {name} | {} × |", row.title(), cell(&ratios, 2)));
        }
        for (row, goal) in AT_MOST {
            lines.push(format!(
                "| {}: ≤ {goal:.3} s | {} s |",
                row.title(),
                cell(&self.seconds[row as usize][ours], 3)
            ));
        }
        lines.push(format!("| peak private memory: ≤ {MEMORY_TARGET} MB | {:.0} MB |", most(&self.memory[ours])));
        lines
    }

    /// The section in BENCHMARKS.md.
    pub fn section(&self, table: &str, content: &Content, rounds: usize, versions: &str) -> String {
        format!(
            "Written by `tests/bench/client.sh` (which installs and builds what it needs; `--only ROW`, `--peer PEER` and
`--rounds` make it shorter). Medians of {rounds} rounds, with the least and the most in parentheses; in each round
everyone has their turn with each row. Ratios are medians of the rounds' ratios.

{table}
- The content: {description}; pushed by docker to distribution's registry 3.1.2 on the loopback device.
- **cove** is a release build. Stores are empty before the cold pull and before the image is loaded for the first push,
  which goes to an empty registry. `sync -f` of the store belongs to the time of the rows that say so. Before each cold pull the
  page cache is emptied (else ext4 spends many times a pull's time on passing over the inodes of the stores that were just removed),
  then the registry's files are read once.
- **skopeo** unpacks nothing: it copies to a layout folder, and for pushes from the archive.
- **limit**: `curl | igzip -dc | tar -x` of all layers at once, then `sync -f`. **limit-with-copies**: the same, with the
  compressed layer kept in a file and sha256 of both sides, as cove must.
- **codec**: libdeflate with the level and the blocks that cove uses, on all cores, nothing written. **pigz**: with its defaults, one layer
  after another.
- Memory is Private_Clean + Private_Dirty of `/proc/PID/smaps_rollup`, looked at 20 times a second, in all rows.
- Load average at the end: {load}.

{circumstances}",
            description = content.description(),
            load = load(),
            circumstances = circumstances(versions),
        )
    }
}

fn cell(figures: &[f64], digits: usize) -> String {
    median(figures).map_or_else(String::new, |median| {
        format!("{median:.digits$} ({:.digits$}–{:.digits$})", least(figures), most(figures))
    })
}
