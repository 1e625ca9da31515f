//! Containers that write, fork and eat without end.

use std::time::Duration;

use cove_tests::endurance::{Remains, assert_sane, log_of};
use cove_tests::{CoveEngine, wait_until};

#[test]
fn a_gigabyte_of_log_is_whole() {
    log_of(&CoveEngine::new(), 1 << 30);
}

#[test]
fn a_gigabyte_of_log_with_a_cap_takes_no_more_than_that() {
    let engine = CoveEngine::new();
    let remains = Remains::of(&engine);
    let words = ["-d", "--name", "capped", "--network", "none", "--cgroup-parent", remains.parent()];
    let log = ["--log-opt", "max-size=16m", "--log-opt", "max-file=3"];
    let script = "yes \"$(printf '%01000d' 0)\" | head -c 1073741824 | cat -n";
    let id = engine.run(words).args(log).args(["box", "sh", "-c", script]).ok();
    engine.words(["wait", "capped"]).limit(Duration::from_secs(170)).ok();
    let folder = engine.cove().root().join("containers").join(&id);
    let files = std::fs::read_dir(&folder)
        .unwrap()
        .flatten()
        .filter(|file| file.file_name().to_string_lossy().contains("-json.log"));
    let sizes: Vec<u64> = files.map(|file| file.metadata().unwrap().len()).collect();
    assert_eq!(sizes.len(), 3, "{sizes:?}");
    assert!(sizes.iter().sum::<u64>() <= 3 * (16 << 20) + (3 << 17), "{sizes:?}");
    // The end of it is there, without a gap.
    let text = engine.words(["logs", "capped"]).run().stdout;
    let numbers: Vec<u64> = text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
    assert_eq!(numbers.len(), text.lines().count());
    let gap = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1);
    assert_eq!(gap, None);
    assert_eq!(numbers.last(), Some(&1_073_741_824_u64.div_ceil(1001)));
    engine.words(["rm", "capped"]).ok();
    remains.assert_none();
}

#[test]
fn a_hundred_at_once_answer_and_leave_nothing() {
    let engine = CoveEngine::new();
    engine.run(["--rm", "box", "true"]).ok();
    let remains = Remains::of(&engine);
    let names: Vec<String> = (1..=100).map(|number| format!("many{number}")).collect();
    let script = "parent=$1; shift; for name; do \"$0\" run -d --cgroup-parent $parent --name $name box \
                  sh -c \"trap 'exit 0' TERM; echo \\$HOSTNAME; while :; do sleep 0.2; done\" & done; wait";
    let program = cove_tests::clients::Cove::program();
    let started = engine.cove().run_as("sh", ["-c", script]).arg(&program).arg(remains.parent()).args(&names);
    let started = started.env("COVE_RUNTIME", cove_tests::runtime_program()).limit(Duration::from_secs(120)).run();
    assert_sane(&started, &"a hundred");
    assert_eq!(started.stdout.lines().count(), 100, "{started}");
    assert_eq!(engine.words(["ps", "-q"]).ok().lines().count(), 100);
    std::thread::scope(|scope| {
        for part in names.chunks(50) {
            let engine = &engine;
            scope.spawn(move || {
                for name in part {
                    assert_eq!(engine.words(["exec", name, "echo", name]).ok(), *name);
                }
            });
        }
    });
    let addresses = engine.words(["inspect", "-f", "{{.NetworkSettings.IPAddress}}"]).args(&names).ok();
    let mut addresses: Vec<&str> = addresses.lines().collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 100, "each has an address of its own");
    let script = "for name; do \"$0\" stop $name & done; wait";
    let stopped = engine.cove().run_as("sh", ["-c", script]).arg(&program).args(&names);
    let stopped = stopped.limit(Duration::from_secs(120)).run();
    assert_eq!(stopped.stdout.lines().count(), 100, "{stopped}");
    assert_eq!(engine.words(["ps", "-q"]).ok(), "");
    engine.words(["rm"]).args(&names).limit(Duration::from_secs(120)).ok();
    remains.assert_none();
}

/// Forks for ever, also from its children. Who cannot fork dies, and makes room for a fork of another's.
const BOMB: &str = "bomb() { while :; do (bomb) & sleep 0.02; done; }; (bomb) & exec sleep 10000";

#[test]
fn a_fork_bomb_is_ended_at_once() {
    let engine = CoveEngine::new();
    let remains = Remains::of(&engine);
    for way in ["kill", "rm", "stop"] {
        let words = ["-d", "--name", "bomb", "--network", "none", "--cgroup-parent", remains.parent()];
        let limits = ["--pids-limit", "100", "--cpus", "0.5", "--memory", "256m"];
        engine.run(words).args(limits).args(["box", "sh", "-c", BOMB]).ok();
        wait_until("it has met its limit", Duration::from_secs(60), || remains.processes().len() >= 90);
        let limit = Duration::from_secs(60);
        match way {
            "kill" => {
                engine.words(["kill", "bomb"]).limit(limit).ok();
                engine.wait_for_status("bomb", "Exited (137)");
                engine.words(["rm", "bomb"]).limit(limit).ok();
            }
            "stop" => {
                engine.words(["stop", "-t", "1", "bomb"]).limit(limit).ok();
                assert!(engine.status("bomb").starts_with("Exited"));
                engine.words(["rm", "bomb"]).limit(limit).ok();
            }
            _ => drop(engine.words(["rm", "-f", "bomb"]).limit(limit).ok()),
        }
        remains.assert_none();
    }
}

#[test]
fn who_eats_all_memory_is_ended_and_said_to_be() {
    let engine = CoveEngine::new();
    let remains = Remains::of(&engine);
    let words = ["-d", "--name", "eats", "--network", "none", "--cgroup-parent", remains.parent()];
    let script = "x=x; while :; do x=$x$x; done";
    engine.run(words).args(["--memory", "20m", "--memory-swap", "20m", "box", "sh", "-c", script]).ok();
    assert_eq!(engine.words(["wait", "eats"]).limit(Duration::from_secs(60)).ok(), "137");
    assert_eq!(engine.words(["inspect", "-f", "{{.State.OOMKilled}}", "eats"]).ok(), "true");
    engine.words(["rm", "eats"]).ok();
    remains.assert_none();
}
