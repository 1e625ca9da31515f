//! Monitors that die: what they leave is put right by the next command.

use std::time::Duration;

use cove_tests::{Cmd, CoveEngine, wait_until};

fn monitor_of(id: &str) -> String {
    let found = Cmd::new("pgrep").args(["-f", &format!("monitor .* {id}$")]).run();
    found.stdout.trim().to_owned()
}

#[test]
fn a_dead_monitor_is_noticed_and_its_container_ended() {
    let engine = CoveEngine::new();
    let id = engine.run(["-d", "--name", "orphan", "-p", "127.0.0.1::80", "box", "sleep", "1000"]).ok();
    let monitor = monitor_of(&id);
    assert!(!monitor.is_empty(), "the monitor of {id} runs");
    Cmd::new("kill").args(["-9", &monitor]).ok();
    wait_until("the monitor is gone", Duration::from_secs(10), || monitor_of(&id).is_empty());
    assert!(engine.status("orphan").starts_with("Exited (137)"), "{}", engine.status("orphan"));
    // It can be started again, with the same name and address.
    engine.words(["start", "orphan"]).ok();
    engine.wait_for_status("orphan", "Up");
    engine.words(["rm", "-f", "orphan"]).ok();
    assert_eq!(engine.leftovers(&[id]), Vec::<String>::new());
}
