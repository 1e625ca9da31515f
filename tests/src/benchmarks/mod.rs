//! What the benchmarks share: medians, the machine, and the sections of BENCHMARKS.md.

pub mod spawn;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Cmd;

/// Puts a section into BENCHMARKS.md, in place of the one with the same title if there is one.
pub fn write_section(title: &str, text: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../BENCHMARKS.md");
    let page = std::fs::read_to_string(path).unwrap_or_else(|_| "# Benchmarks\n".to_owned());
    let heading = format!("\n## {title}\n");
    let (before, after) = match page.split_once(&heading) {
        Some((before, rest)) => (before, rest.find("\n## ").map_or("", |next| &rest[next..])),
        None => (page.trim_end_matches('\n'), ""),
    };
    let before = before.trim_end_matches('\n');
    let page = format!("{before}\n{heading}\n{}\n{after}", text.trim_end_matches('\n'));
    std::fs::write(path, page).expect("write BENCHMARKS.md");
}

/// Where and when the figures were taken, as a table.
pub fn circumstances(versions: &str) -> String {
    let revision = Cmd::new("git").args(["-C", env!("CARGO_MANIFEST_DIR")]);
    let revision = revision.args(["describe", "--always", "--dirty"]).run().stdout.trim().to_owned();
    let date = Cmd::new("date").args(["-u", "+%F"]).ok();
    let machine = machine();
    format!(
        "| | |\n|---|---|\n| machine | {machine} |\n| date | {date} |\n| versions | {versions}; revision {revision} |\n"
    )
}

/// How busy the machine was in the last minute.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let memory = memory.split(' ').next().and_then(|kilobytes| kilobytes.parse::<f64>().ok()).unwrap_or(0.0);
    let memory = (memory * 1024.0 / 1e9).round();
    let folder = std::env::var("TMPDIR").unwrap_or_else(|_| "/var/tmp".to_owned());
    let disk = Cmd::new("findmnt").args(["-n", "-o", "FSTYPE", "-T", &folder]).ok();
    let model = field(&read("/proc/cpuinfo"), "model name");
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores ({model}), {memory} GB, Linux {}, {disk}", kernel.trim())
}

/// The median; none of nothing.
pub fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// The least.
pub fn least(figures: &[f64]) -> f64 {
    figures.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The most.
pub fn most(figures: &[f64]) -> f64 {
    figures.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// A whole number with its thousands apart.
pub fn shown(figure: f64) -> String {
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

/// Looks at the memory of a process, and of those that it has started, 20 times a second.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Watch {
    /// Watches from now on.
    pub fn of(id: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut peak = 0;
            while !stopped.load(Ordering::Relaxed) {
                peak = peak.max(private_kilobytes(id));
                thread::sleep(Duration::from_millis(50));
            }
            peak
        });
        Self { stop, thread }
    }

    /// The most that was seen, in MB.
    pub fn peak(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watcher ends well") as f64 * 1024.0 / 1e6
    }
}

/// What nobody else shares of the memory of a process and of those that it has started.
fn private_kilobytes(id: u32) -> u64 {
    let kilobytes = |line: &str| line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    let lines = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
    let own = lines.lines().filter(|line| line.starts_with("Private_Clean") || line.starts_with("Private_Dirty"));
    own.filter_map(kilobytes).sum::<u64>() + children(id).into_iter().map(private_kilobytes).sum::<u64>()
}

/// The processes that a process has started.
pub fn children(id: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}
