//! The benchmark of the client: cove, docker, podman and skopeo, and what the machine could do at best, in turn, on
//! one machine and in one run, against one registry on the loopback device.
//!
//! `tests/bench/client.sh` installs and builds what it needs and runs it. Run completely it writes its section of
//! BENCHMARKS.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod codec;
mod content;
mod peers;
mod report;

use cove_tests::benchmarks::{load, write_section};
use cove_tests::{Cmd, Distribution, tool};

use content::Content;
use peers::{Peer, Row, all};
use report::Report;

const USAGE: &str = "\
bench-client [--rounds N] [--only ROW]… [--peer PEER]…
    --rounds N    how often everything is measured [default: 3]
    --only ROW    only this row: cold, warm, update, push, again; may be repeated
    --peer PEER   only this one: cove, docker, podman, skopeo, limit, limit-with-copies, codec, pigz; may be repeated
With none of the last two the result is written to BENCHMARKS.md.";

struct Options {
    rounds: usize,
    rows: Vec<Row>,
    peers: Vec<String>,
}

impl Options {
    fn read() -> Result<Self, String> {
        let mut options = Self { rounds: 3, rows: Vec::new(), peers: Vec::new() };
        let mut arguments = std::env::args().skip(1);
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{flag} needs a value"));
            match flag.as_str() {
                "--rounds" => options.rounds = value()?.parse().map_err(|_| "--rounds needs a number")?,
                "--only" => {
                    let name = value()?;
                    let row = Row::ALL.into_iter().find(|row| row.name() == name);
                    options.rows.push(row.ok_or(format!("no row is called {name}"))?);
                }
                "--peer" => options.peers.push(value()?),
                _ => return Err(format!("{flag} is not known")),
            }
        }
        Ok(options)
    }
}

fn main() {
    let options = Options::read().unwrap_or_else(|problem| {
        eprintln!("{problem}\n{USAGE}");
        std::process::exit(2);
    });
    let rows: Vec<Row> =
        Row::ALL.into_iter().filter(|row| options.rows.is_empty() || options.rows.contains(row)).collect();
    let registry = Distribution::start_program(&tool("registry"));
    eprintln!("load average {}; making the images", load());
    let content = Content::publish(&registry);
    eprintln!("{}", content.description());
    let mut peers: Vec<Box<dyn Peer>> = all(&content);
    peers.retain(|peer| options.peers.is_empty() || options.peers.iter().any(|name| name == peer.name()));
    let mut report = Report::new(&rows, &peers);
    for round in 0..options.rounds {
        eprintln!("round {} of {}, load average {}", round + 1, options.rounds, load());
        let targets: Vec<_> = peers.iter().map(|_| Distribution::start_program(&tool("registry"))).collect();
        for (number, row) in Row::ALL.into_iter().enumerate() {
            if !rows.iter().any(|wanted| wanted.needs(row)) {
                continue;
            }
            // Nobody always comes first, nobody always after the same one.
            for turn in 0..peers.len() {
                let which = (turn + round + number) % peers.len();
                let peer = &mut peers[which];
                peer.prepare(row, &content, &targets[which]);
                settle(row, &registry, &content);
                peer.version();
                let Some(measured) = peer.measure(row, &content, &targets[which]) else { continue };
                let (seconds, memory) = (measured.time.as_secs_f64(), measured.memory);
                eprintln!("  {:8} {:18} {seconds:9.3} s {}", row.name(), peer.name(), shown(memory));
                report.add(row, which, seconds, memory);
                if let Some(bytes) = peer.pushed(row, &targets[which]) {
                    report.pushed(which, content.uncompressed as f64 / bytes as f64);
                }
            }
        }
    }
    let table = report.table();
    println!("\n{table}");
    if options.rows.is_empty() && options.peers.is_empty() {
        let versions: Vec<_> = peers.iter().filter_map(|peer| peer.version()).collect();
        write_section("The client", &report.section(&table, &content, options.rounds, &versions.join(", ")));
        println!("written to BENCHMARKS.md");
    }
}

/// What came before is written out, so that nobody pays for another. Before a cold pull the system also forgets which
/// files were removed just now: for minutes ext4 passes over the inodes of removed files, one by one, for each file that
/// is made, and whoever comes after the removal of a large store would pay for that (its `recently_deleted`; five times
/// the time of a pull). What everybody reads is then read once, here and by asking the program for its version.
fn settle(row: Row, registry: &Distribution, content: &Content) {
    Cmd::new("sync").ok();
    if row == Row::Cold {
        std::fs::write("/proc/sys/vm/drop_caches", "1").expect("forget what is cached; this needs root");
        let read = "find \"$@\" -type f -exec cat {} + | cat >/dev/null";
        Cmd::new("sh").args(["-c", read, "sh"]).arg(registry.data()).arg(&content.archive).ok();
    }
}

fn shown(memory: Option<f64>) -> String {
    memory.map_or_else(String::new, |memory| format!("{memory:6.1} MB"))
}
