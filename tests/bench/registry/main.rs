//! The benchmark of the registry: `cove-server` as it comes (token service, durable writes), distribution's
//! registry without authentication, and nginx with the same answers as files, in turn, on one machine and in one run.
//!
//! `tests/bench/registry.sh` installs and builds what it needs and runs it. Run completely it writes its section of
//! BENCHMARKS.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod content;
mod load;
mod peers;
mod report;
mod rows;

use std::path::PathBuf;
use std::time::Duration;

use cove_tests::Cmd;

use content::Content;
use peers::{Entrant, Kind, Peer};
use report::Report;
use rows::{Does, ROWS, Row};

const USAGE: &str = "\
bench-registry [--rounds N] [--seconds N] [--only ROW]… [--peer PEER]… [--against PROGRAM]…
    --rounds N         how often everything is measured [default: 5]
    --seconds N        how long each figure is measured [default: 3]
    --only ROW         only this row; may be repeated
    --peer PEER        only this server: cove, distribution, nginx; may be repeated
    --against PROGRAM  one more cove-server, such as the one before a change
With none of the last three the result is written to BENCHMARKS.md.";

struct Options {
    rounds: usize,
    time: Duration,
    rows: Vec<&'static Row>,
    peers: Vec<Entrant>,
    complete: bool,
}

impl Options {
    fn read() -> Result<Self, String> {
        let (mut rounds, mut seconds, mut only, mut names, mut against) = (5, 3.0, Vec::new(), Vec::new(), Vec::new());
        let mut arguments = std::env::args().skip(1);
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{flag} needs a value"));
            match flag.as_str() {
                "--rounds" => rounds = value()?.parse().map_err(|_| "--rounds needs a number")?,
                "--seconds" => seconds = value()?.parse().map_err(|_| "--seconds needs a number")?,
                "--only" => only.push(value()?),
                "--peer" => names.push(value()?),
                "--against" => against.push(PathBuf::from(value()?)),
                _ => return Err(format!("{flag} is not known")),
            }
        }
        if let Some(unknown) = only.iter().find(|name| ROWS.iter().all(|row| row.name != name.as_str())) {
            let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
            return Err(format!("no row is called {unknown}; there are: {}", names.join(" ")));
        }
        let program = std::env::current_exe().expect("the path of this program").with_file_name("cove-server");
        let mut peers = vec![
            Entrant { name: "cove".to_owned(), kind: Kind::Cove(program) },
            Entrant { name: "distribution".to_owned(), kind: Kind::Distribution },
            Entrant { name: "nginx".to_owned(), kind: Kind::Nginx },
        ];
        if let Some(unknown) = names.iter().find(|name| peers.iter().all(|peer| peer.name != **name)) {
            return Err(format!("no peer is called {unknown}"));
        }
        peers.retain(|peer| names.is_empty() || names.contains(&peer.name));
        let complete = only.is_empty() && names.is_empty() && against.is_empty();
        for (number, program) in against.into_iter().enumerate() {
            peers.push(Entrant { name: format!("cove ({})", number + 2), kind: Kind::Cove(program) });
        }
        let rows = ROWS.iter().filter(|row| only.is_empty() || only.iter().any(|name| name == row.name)).collect();
        Ok(Options { rounds, time: Duration::from_secs_f64(seconds), rows, peers, complete })
    }
}

fn main() {
    let options = Options::read().unwrap_or_else(|problem| {
        eprintln!("{problem}\n{USAGE}");
        std::process::exit(2);
    });
    let content = Content::new();
    let mut report = Report::new(&options.peers, &options.rows);
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        let mut peers: Vec<Peer> = options.peers.iter().map(|entrant| entrant.start(&content)).collect();
        let mut memory = vec![0.0_f64; peers.len()];
        // Nobody always comes first, nobody always after the same one.
        let shift = round % peers.len();
        for (number, row) in options.rows.iter().enumerate() {
            for turn in 0..peers.len() {
                let which = (turn + shift) % peers.len();
                // What the one before has written is written out, so that nobody pays for another.
                Cmd::new("sync").ok();
                let (peer, watch, before) = (&peers[which], peers[which].watch(), peers[which].processor_time());
                let done = row.measure(peer, &content, options.time);
                let peak = watch.peak();
                memory[which] = memory[which].max(peak);
                if let Some(done) = done {
                    let (figure, spent) = (row.figure(&done), peer.processor_time() - before);
                    let each = spent.as_secs_f64() * 1e3 / done.times.max(1) as f64;
                    let (unit, name) = (row.unit, &peer.name);
                    eprintln!(
                        "  {:14} {name:14} {figure:9.0} {unit:4} with {each:8.3} ms of processor each, {peak:5.1} MB",
                        row.name
                    );
                    report.add(number, which, figure);
                }
            }
        }
        for (which, memory) in memory.into_iter().enumerate() {
            eprintln!("  {:14} {:14} {memory:9.1} MB", "memory", peers[which].name);
            report.add(options.rows.len(), which, memory);
        }
        let nginx = peers.iter().find(|peer| !peer.pushes);
        if let Some(nginx) = nginx.filter(|_| round + 1 == options.rounds) {
            report.ceiling = ceiling(nginx, &content, options.time);
        }
        while let Some(peer) = peers.pop() {
            drop(peer);
        }
    }
    let table = report.table();
    println!("\n{table}");
    if options.complete {
        let section = report.section(&options.peers, &table, options.rounds, options.time);
        cove_tests::benchmarks::write_section("The registry", &section);
        println!("written to BENCHMARKS.md");
    }
}

/// Requests per second of this load generator, and of wrk with one thread, on the same file of nginx.
fn ceiling(nginx: &Peer, content: &Content, time: Duration) -> Option<(f64, f64)> {
    let row = ROWS.iter().find(|row| matches!(row.does, Does::GetConfig(32)))?;
    let ours = row.measure(nginx, content, time)?.per_second();
    let url = format!("http://{}{}", nginx.address, content.config_path());
    let printed = Cmd::new("wrk").args(["-t1", "-c32", &format!("-d{}s", time.as_secs().max(1)), &url]).ok();
    let theirs = printed.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"))?;
    Some((ours, theirs.trim().parse().ok()?))
}
