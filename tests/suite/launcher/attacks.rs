//! Attacks by links and races: a canary on the host must not change, whether or not the container is refused.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use cove_tests::OciRuntime;
use cove_tests::attacks::{Attack, Outcome, RACES, links, race};

/// How often each race is run here; tests/soak runs them longer.
const ROUNDS: u64 = 300;

/// Carries out attacks, two at once, and names those that succeeded.
fn broken(runtime: &OciRuntime, attacks: &[Attack]) -> Vec<String> {
    let (next, broken) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(attack) = attacks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Outcome::Broke(how) = attack.run(runtime) {
                        broken.lock().unwrap().push(format!("{}: {how}", attack.name));
                    }
                }
            });
        }
    });
    broken.into_inner().unwrap()
}

#[test]
fn links_in_an_image_lead_nowhere_on_the_host() {
    let runtime = OciRuntime::under_test();
    let broken = broken(&runtime, &links());
    // The old runc makes its links of /dev, and what it mounts there, by a path of the host.
    let known = |attack: &&String| runtime.is_runc_1_1() && attack.starts_with("/dev");
    let news: Vec<_> = broken.iter().filter(|attack| !known(attack)).collect();
    assert!(news.is_empty(), "{} of {}: {news:#?}", broken.len(), links().len());
    assert_eq!(runtime.remembered(), [""; 0]);
}

fn hold(name: &str) {
    let runtime = OciRuntime::under_test();
    let one = RACES.iter().find(|race| race.name == name).expect("there is such a race");
    let (outcome, swaps) = race(&runtime, one, ROUNDS);
    assert!(swaps > ROUNDS, "the attacker was not idle: {swaps}");
    // CVE-2025-31133 and CVE-2025-52565 and their like: found after Debian's runc.
    assert!(outcome == Outcome::Held || runtime.is_runc_1_1(), "{name}: {outcome}");
}

#[test]
fn racing_the_destination_of_a_tmpfs() {
    hold("destination of a tmpfs");
}

#[test]
fn racing_the_destination_of_a_file() {
    hold("destination of a file");
}

#[test]
fn racing_the_parent_of_a_destination() {
    hold("parent of a destination");
}

#[test]
fn racing_a_masked_path() {
    hold("masked path");
}

#[test]
fn racing_a_read_only_path() {
    hold("read-only path");
}

#[test]
fn racing_the_folder_of_a_device() {
    hold("folder of a device");
}

#[test]
fn racing_the_working_folder() {
    hold("working folder");
}
