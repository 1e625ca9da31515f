//! Attacks on an OCI runtime that take long, or that are meant to succeed on others. Run by hand, as root:
//!
//! ```text
//! cargo run -p cove-tests --bin soak-launcher -- races [ROUNDS] [RUNTIME]   each race so often, 10,000 unless said
//! cargo run -p cove-tests --bin soak-launcher -- table [ROUNDS] RUNTIME...  all attacks on each runtime, as a table
//! ```
//!
//! Without a runtime it is the one that the tests are about (`COVE_TEST_RUNTIME`, or what `runtime/build` built).
//! The program enters a mount and a pid namespace of its own first, in which the unified hierarchy is not mounted
//! (crun would not start a container otherwise): what an attack breaks there is a canary, and no more than that.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod table;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use cove_tests::attacks::{Outcome, RACES, race};
use cove_tests::{OciRuntime, runtime_program};

const USAGE: &str = "soak-launcher races [ROUNDS] [RUNTIME] | table [ROUNDS] RUNTIME...";

/// Says that this process is in its namespaces already.
const ENTERED: &str = "COVE_SOAK_ENTERED";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(verb) = words.first().filter(|verb| ["races", "table"].contains(&verb.as_str())) else {
        eprintln!("{USAGE}");
        return ExitCode::from(125);
    };
    if std::env::var_os(ENTERED).is_none() {
        return enter(&words);
    }
    let (numbers, names): (Vec<_>, Vec<_>) = words[1..].iter().partition(|word| word.parse::<u64>().is_ok());
    let rounds = numbers.first().map(|number| number.parse().expect("it is a number"));
    let mut programs: Vec<PathBuf> = names.into_iter().map(PathBuf::from).collect();
    if programs.is_empty() {
        programs.push(runtime_program());
    }
    let held = match verb.as_str() {
        "races" => programs.iter().all(|program| races(&OciRuntime::of(program), rounds.unwrap_or(10_000))),
        _ => table::print(&programs, rounds.unwrap_or(100)),
    };
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs each race, and prints a line about it.
fn races(runtime: &OciRuntime, rounds: u64) -> bool {
    println!("{}, {rounds} rounds of each race", runtime.name());
    let mut held = true;
    for one in &RACES {
        let start = Instant::now();
        let (outcome, swaps) = race(runtime, one, rounds);
        println!("{:<28} {:>9} swaps {:>6} s  {outcome}", one.name, swaps, start.elapsed().as_secs());
        held &= outcome == Outcome::Held || !one.is_the_runtime_s_to_hold();
    }
    held
}

/// Starts this program again, in namespaces of its own; it does not return if that succeeds.
fn enter(words: &[String]) -> ExitCode {
    let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script, "sh"]);
    command.arg(std::env::current_exe().expect("the path of this program")).args(words).env(ENTERED, "yes");
    eprintln!("cannot enter namespaces of its own: {}", command.exec());
    ExitCode::from(125)
}
