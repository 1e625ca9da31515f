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

#[test]
fn killed_anywhere_nothing_is_left() {
    let engine = CoveEngine::new();
    let mut dice = cove_tests::Dice::new(7);
    let mut ids = Vec::new();
    for round in 0..60 {
        let name = format!("victim{round}");
        let log = engine.cove().scratch().join("victim.log");
        let remove = if round % 2 == 0 { "--rm" } else { "--init=false" };
        let mut command =
            engine.run(["-d", remove, "--network", "none", "--name", &name, "box", "sleep", "1000"]).start(&log);
        std::thread::sleep(Duration::from_micros(dice.within(0..30_000)));
        // Whatever of it is there at that moment: the command, the monitor, the runtime.
        let scratch = engine.cove().scratch().path().display().to_string();
        let _ = Cmd::new("pkill").args(["-9", "-f", &format!("(cove run|cove-runtime).*({scratch}|{name})")]).run();
        command.wait(Duration::from_secs(20));
        ids.extend(engine.words(["ps", "-aq", "--no-trunc"]).ok().lines().map(str::to_owned));
        for id in engine.words(["ps", "-aq", "--no-trunc"]).ok().lines() {
            let _ = engine.words(["rm", "-f", id]).run();
        }
    }
    // The next one made sweeps what was never finished.
    engine.run(["--rm", "box", "true"]).ok();
    assert_eq!(engine.leftovers(&ids), Vec::<String>::new());
}
