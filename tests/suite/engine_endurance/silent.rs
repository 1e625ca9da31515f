//! Monitors that do not answer, and containers whose output nobody takes: commands say so and do not hang.

use std::time::Duration;

use cove_tests::endurance::Remains;
use cove_tests::{Cmd, CoveEngine, wait_until};
use rustix::process::Signal;

fn monitor_of(id: &str) -> String {
    Cmd::new("pgrep").args(["-f", &format!("monitor .* {id}$")]).ok()
}

#[test]
fn a_monitor_that_stands_still_is_named_and_rm_ends_it() {
    let engine = CoveEngine::new();
    let remains = Remains::of(&engine);
    for removed in ["--rm=false", "--rm"] {
        let words = ["-d", "--name", "frozen", removed, "--cgroup-parent", remains.parent(), "-p", "127.0.0.1::80"];
        let id = engine.run(words).args(["box", "sleep", "1000"]).ok();
        let monitor = monitor_of(&id);
        Cmd::new("kill").args(["-STOP", &monitor]).ok();
        let limit = Duration::from_secs(60);
        for words in [
            &["stop", "frozen"][..],
            &["kill", "frozen"],
            &["pause", "frozen"],
            &["restart", "frozen"],
            &["exec", "frozen", "true"],
        ] {
            let said = engine.words([]).args(words).limit(limit).fails();
            let expected = format!("the monitor of container {id} does not answer: process {monitor} stands still");
            assert!(said.contains(&expected) && said.contains(&format!("`kill -9 {monitor}` ends it")), "{said}");
        }
        // These ask no monitor.
        assert!(engine.status("frozen").starts_with("Up"));
        engine.words(["logs", "frozen"]).limit(limit).ok();
        engine.words(["top", "frozen"]).limit(limit).ok();
        assert_eq!(engine.words(["rm", "-f", "frozen"]).limit(limit).ok(), "frozen");
        remains.assert_none();
    }
    // One that goes on is as it was.
    let id = engine.run(["-d", "--name", "thawed", "--cgroup-parent", remains.parent(), "box", "sleep", "1000"]).ok();
    Cmd::new("kill").args(["-STOP", &monitor_of(&id)]).ok();
    engine.words(["stop", "-t", "0", "thawed"]).fails();
    Cmd::new("kill").args(["-CONT", &monitor_of(&id)]).ok();
    engine.wait_for_status("thawed", "Exited (137)");
    engine.words(["rm", "thawed"]).ok();
    remains.assert_none();
}

#[test]
fn whose_output_nobody_takes_can_be_stopped() {
    let engine = CoveEngine::new();
    let remains = Remains::of(&engine);
    let limit = Duration::from_secs(60);
    for way in [&["stop", "-t", "1", "floods"][..], &["rm", "-f", "floods"]] {
        let log = engine.cove().scratch().join("flood.log");
        let words = ["--name", "floods", "--network", "none", "--cgroup-parent", remains.parent(), "--log-driver=none"];
        let mut front = engine.run(words).args(["box", "yes"]).start(&log);
        wait_until("it runs", limit, || engine.words(["ps", "-q"]).ok() != "");
        // It stands still with everything that it was sent.
        front.signal(Signal::STOP);
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(engine.words(["exec", "floods", "echo", "alive"]).limit(limit).ok(), "alive");
        engine.words(["pause", "floods"]).limit(limit).ok();
        engine.words(["unpause", "floods"]).limit(limit).ok();
        engine.words([]).args(way).limit(limit).ok();
        let _ = engine.words(["rm", "floods"]).run();
        front.signal(Signal::CONT);
        front.wait(limit).expect("it ends with its container");
        remains.assert_none();
    }
}

#[test]
fn who_watches_and_does_not_read_is_let_go() {
    let engine = CoveEngine::new();
    let remains = Remains::of(&engine);
    let words = ["-d", "--name", "floods", "--network", "none", "--cgroup-parent", remains.parent()];
    let words = engine.run(words).args(["--log-opt", "max-size=10m", "box", "yes"]);
    words.ok();
    let mut watchers: Vec<_> = (0..3)
        .map(|number| {
            let log = engine.cove().scratch().join(format!("watcher{number}.log"));
            let mut watcher = engine.words(["attach", "--no-stdin", "floods"]).start(&log);
            watcher.wait_ready(Duration::from_secs(20), || std::fs::metadata(&log).is_ok_and(|file| file.len() > 0));
            watcher.signal(Signal::STOP);
            watcher
        })
        .collect();
    assert_eq!(engine.words(["stop", "-t", "1", "floods"]).limit(Duration::from_secs(60)).ok(), "floods");
    for watcher in &mut watchers {
        watcher.signal(Signal::CONT);
        watcher.wait(Duration::from_secs(20)).expect("it ends");
    }
    engine.words(["rm", "floods"]).ok();
    remains.assert_none();
}
