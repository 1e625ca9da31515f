//! The benchmark of the engine: `cove`, docker and podman run containers of one image in turn, on one machine and in one
//! run.
//!
//! `tests/bench/engine.sh` installs and builds what it needs and runs it. Run completely it writes its section of
//! BENCHMARKS.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod peers;
mod report;
mod rows;

use std::path::Path;

use cove_tests::Cmd;
use cove_tests::benchmarks::{load, write_section};
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

use peers::{Cove, Docker, Peer, Podman};
use report::Report;
use rows::Row;

const USAGE: &str = "\
bench-engine [--rounds N] [--block N] [--only ROW]… [--peer PEER]…
    --rounds N   how often everyone has their turn [default: 5]
    --block N    starts in a turn [default: 20]
    --only ROW   only this row: run-none, run-port, exec, hundred; may be repeated
    --peer PEER  only this one: cove, docker, podman; may be repeated
With no --only and no --peer the result is written to BENCHMARKS.md. $COVE_RUNTIME is the runtime to measure with.";

struct Options {
    rounds: usize,
    block: usize,
    rows: Vec<Row>,
    peers: Vec<String>,
}

impl Options {
    fn read() -> Result<Self, String> {
        let mut options = Self { rounds: 5, block: 20, rows: Vec::new(), peers: Vec::new() };
        let mut arguments = std::env::args().skip(1);
        while let Some(flag) = arguments.next() {
            let value = arguments.next().ok_or(format!("{flag} needs a value"))?;
            let number = |text: &str| text.parse().ok().filter(|number| *number > 0).ok_or("a number is needed");
            match flag.as_str() {
                "--rounds" => options.rounds = number(&value)?,
                "--block" => options.block = number(&value)?,
                "--only" => {
                    let row = Row::ALL.into_iter().find(|row| row.name() == value);
                    options.rows.push(row.ok_or(format!("no row is called {value}"))?);
                }
                "--peer" => options.peers.push(value),
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
    alone();
    let wanted = |name: &str| options.peers.is_empty() || options.peers.iter().any(|peer| peer == name);
    let mut peers: Vec<Box<dyn Peer>> = Vec::new();
    if wanted("cove") {
        peers.push(Box::new(Cove::new()));
    }
    if wanted("docker") {
        peers.push(Box::new(Docker::new()));
    }
    if wanted("podman") {
        peers.push(Box::new(Podman::new()));
    }
    let is_wanted = |row: &Row| options.rows.is_empty() || options.rows.contains(row);
    let cells = rows::cells(Row::ALL.into_iter().filter(is_wanted));
    let mut report = Report::new(cells.clone(), peers.iter().map(|peer| peer.name().to_owned()).collect());
    for round in 0..options.rounds {
        eprintln!("round {} of {}, load average {}", round + 1, options.rounds, load());
        report.begin_round();
        for (number, cell) in cells.iter().enumerate() {
            // Nobody always comes first, nobody always after the same one: every other round goes backwards.
            let step = if round % 2 == 0 { 1 } else { peers.len().max(2) - 1 };
            for turn in 0..peers.len() {
                let which = (turn * step + round + number) % peers.len();
                let figures = cell.measure(peers[which].as_ref(), options.block);
                report.add(number, which, figures);
            }
        }
    }
    let tables = report.tables();
    println!("{tables}");
    if options.rows.is_empty() && options.peers.is_empty() {
        let versions: Vec<_> = peers.iter().map(|peer| peer.version()).collect();
        write_section("The engine", &report.section(&tables, options.rounds, options.block, &versions.join(", ")));
        println!("written to BENCHMARKS.md");
    }
}

/// Keeps bridges, rules of the packet filter and mounts of all peers to this process and those that it starts.
#[allow(unsafe_code)]
fn alone() {
    let flags = UnshareFlags::NEWNS | UnshareFlags::NEWNET;
    // SAFETY: the flags do not take file descriptors from under anyone's hands, as UnshareFlags::FILES would.
    unsafe { rustix::thread::unshare_unsafe(flags) }.expect("namespaces; this needs root");
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).expect("keep mounts to ourselves");
    // crun refuses cgroups of both versions.
    if Path::new("/sys/fs/cgroup/unified").exists() {
        rustix::mount::unmount("/sys/fs/cgroup/unified", UnmountFlags::DETACH).expect("unmount");
    }
    Cmd::new("ip").args(["link", "set", "lo", "up"]).ok();
}
