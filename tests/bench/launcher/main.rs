//! The benchmark of the launcher: cove-runtime, runc, crun, youki, and what the machine could do at best, in turn, on
//! one machine and in one run, on one bundle that docker has made.
//!
//! `tests/bench/launcher.sh` installs and builds what it needs and runs it. Run completely it writes its section of
//! BENCHMARKS.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod bundle;
mod cells;
mod peers;
mod report;

use std::fs;
use std::path::{Path, PathBuf};

use cove_tests::benchmarks::{load, write_section};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

use bundle::{Bundles, PARENT, hierarchies};
use cells::{Cell, Row};
use peers::Peer;
use report::{OURS, Report};

const USAGE: &str = "\
bench-launcher [--rounds N] [--block N] [--only ROW]… [--peer PEER]… [--also NAME=PROGRAM]…
    --rounds N           how often everyone has their turn [default: 5]
    --block N            starts in a turn [default: 20]
    --only ROW           only this row: run, life, exec, at-once; may be repeated
    --peer PEER          only this one: cove-runtime, runc, crun, youki, limit, \"no container\"; may be repeated
    --also NAME=PROGRAM  another runtime with runc's command line; may be repeated. Its ratio to ours stands with the goals
                         if NAME begins with `crun`
With no --only and no --peer the result is written to BENCHMARKS.md. $COVE_RUNTIME is the program to measure.";

struct Options {
    rounds: usize,
    block: usize,
    rows: Vec<Row>,
    peers: Vec<String>,
    also: Vec<(String, PathBuf)>,
}

impl Options {
    fn read() -> Result<Self, String> {
        let mut options = Self { rounds: 5, block: 20, rows: Vec::new(), peers: Vec::new(), also: Vec::new() };
        let mut arguments = std::env::args().skip(1);
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{flag} needs a value"));
            let number = |text: String| text.parse().ok().filter(|number| *number > 0).ok_or("a number is needed");
            match flag.as_str() {
                "--rounds" => options.rounds = number(value()?)?,
                "--block" => options.block = number(value()?)?,
                "--only" => {
                    let name = value()?;
                    let row = Row::ALL.into_iter().find(|row| row.name() == name);
                    options.rows.push(row.ok_or(format!("no row is called {name}"))?);
                }
                "--peer" => options.peers.push(value()?),
                "--also" => {
                    let value = value()?;
                    let (name, program) = value.split_once('=').ok_or("--also needs NAME=PROGRAM")?;
                    options.also.push((name.to_owned(), program.into()));
                }
                _ => return Err(format!("{flag} is not known")),
            }
        }
        Ok(options)
    }

    fn is_complete(&self) -> bool {
        self.rows.is_empty() && self.peers.is_empty()
    }
}

fn main() {
    let options = Options::read().unwrap_or_else(|problem| {
        eprintln!("{problem}\n{USAGE}");
        std::process::exit(2);
    });
    eprintln!("load average {}; asking dockerd for a bundle", load());
    let bundles = Bundles::make();
    eprintln!("{}", bundles.description());
    let states = bundles.folder().folder("states");
    enter_namespace(&states);
    // Whoever loses their parents becomes a child of this process, as of a container's monitor.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("become a subreaper");
    let _cgroups = Cgroups;
    let peers = all(&options, &bundles, &states);
    let rows: Vec<Row> =
        Row::ALL.into_iter().filter(|row| options.rows.is_empty() || options.rows.contains(row)).collect();
    let report = measure(&options, &bundles, &peers, &Cell::all(&rows));
    let tables = report.tables();
    println!("\n{tables}");
    if options.is_complete() {
        let versions: Vec<_> = peers.iter().filter_map(Peer::version).collect();
        let section = report.section(&tables, &bundles, options.rounds, options.block, &versions.join(", "));
        write_section("The launcher", &section);
        println!("written to BENCHMARKS.md");
    }
}

/// Those who are wanted and there.
fn all(options: &Options, bundles: &Bundles, states: &Path) -> Vec<Peer> {
    let found = |name: &str| {
        let folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];
        folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists())
    };
    let beside = std::env::current_exe().expect("the path of this program");
    let target = beside.ancestors().nth(2).expect("it lies in target/release");
    let mut programs = vec![
        (OURS.to_owned(), std::env::var_os("COVE_RUNTIME").map(PathBuf::from)),
        ("runc".to_owned(), found("runc")),
        ("crun".to_owned(), found("crun")),
    ];
    programs.extend(options.also.iter().map(|(name, program)| (name.clone(), Some(program.clone()))));
    programs.push(("youki".to_owned(), Some(target.join("bench/youki/bin/youki"))));
    let mut peers = Vec::new();
    for (name, program) in programs {
        match program.filter(|program| program.exists()) {
            Some(program) => peers.push(Peer::runtime(&name, &program, states)),
            None => eprintln!("{name} is not there"),
        }
    }
    peers.push(Peer::limit(&beside.with_file_name("bench-launcher-limit"), bundles, states));
    peers.push(Peer::process(bundles, states));
    peers.retain(|peer| options.peers.is_empty() || options.peers.contains(&peer.name));
    peers
}

fn measure(options: &Options, bundles: &Bundles, peers: &[Peer], cells: &[Cell]) -> Report {
    let mut report = Report::new(cells, peers.iter().map(|peer| peer.name.clone()).collect());
    for (which, peer) in peers.iter().enumerate() {
        for profile in [false, true] {
            report.add_calls(profile, which, peer.system_calls(bundles, profile));
        }
        if peer.is_runtime() {
            let running = peer.start(bundles, true).unwrap_or_else(|failure| panic!("{}", failure.0));
            report.add_resident(which, running.created, running.started);
            if !running.filtered {
                report.add_unfiltered(which);
            }
        }
    }
    for round in 0..options.rounds {
        eprintln!("round {} of {}, load average {}", round + 1, options.rounds, load());
        report.begin_round();
        for (number, cell) in cells.iter().enumerate() {
            // Nobody always comes first, nobody always after the same one: every other round goes backwards.
            let step = if round % 2 == 0 { 1 } else { peers.len() - 1 };
            for turn in 0..peers.len() {
                let which = (turn * step + round + number) % peers.len();
                match cell.measure(&peers[which], bundles, options.block) {
                    Ok(figures) => report.add(number, which, &figures),
                    Err(failure) => {
                        eprintln!("{cell}: {}", failure.0);
                        peers[which].forget();
                        report.add_failure(number, which);
                    }
                }
            }
        }
    }
    report
}

/// Makes a mount namespace in which everyone can run: crun 1.8.1 refuses cgroups of both versions side by side.
fn enter_namespace(states: &Path) {
    unshare();
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).expect("keep mounts to ourselves");
    if Path::new("/sys/fs/cgroup/unified").exists() {
        rustix::mount::unmount("/sys/fs/cgroup/unified", UnmountFlags::DETACH).expect("unmount");
    }
    rustix::mount::mount("tmpfs", states, "tmpfs", MountFlags::empty(), None).expect("mount a tmpfs");
}

#[allow(unsafe_code)]
fn unshare() {
    // SAFETY: the flag does not take file descriptors from under anyone's hands, as UnshareFlags::FILES would.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.expect("a mount namespace; this needs root");
}

/// Removes what the runtimes leave of the cgroup under which they made theirs.
struct Cgroups;

impl Drop for Cgroups {
    fn drop(&mut self) {
        for hierarchy in hierarchies() {
            let parent = Path::new("/sys/fs/cgroup").join(hierarchy).join(PARENT);
            for child in fs::read_dir(&parent).into_iter().flatten().flatten() {
                // Files of the cgroup itself are no folders, and cannot be removed.
                let _ = fs::remove_dir(child.path());
            }
            let _ = fs::remove_dir(parent);
        }
    }
}
