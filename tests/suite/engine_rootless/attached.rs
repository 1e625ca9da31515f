//! Streams, terminals and signals: between the user and the container is one process more than for root.

use std::time::Duration;

use cove_tests::{OrdinaryEngine, Terminal};
use rustix::process::Signal;

#[test]
fn streams_and_status_are_the_programs_own() {
    let engine = OrdinaryEngine::new();
    let cove = |words: &[&str]| engine.user().cove(words);
    let finished = cove(&["run", "--rm", "box", "sh", "-c", "echo out; echo error >&2; exit 42"]).run();
    assert_eq!((finished.code, finished.stdout.as_str(), finished.stderr.as_str()), (Some(42), "out\n", "error\n"));
    let input: String = (0..200_000).map(|number| format!("{number}\n")).collect();
    let sum = cove(&["run", "--rm", "-i", "box", "md5sum"]).input(&input).ok();
    assert_eq!(sum, cove_tests::Cmd::new("md5sum").input(&input).ok());
    assert_eq!(cove(&["run", "--rm", "box", "nothing"]).run().code, Some(127));
    engine.wait_until_nothing_is_left();
}

#[test]
fn a_terminal_is_left_and_taken_again() {
    let engine = OrdinaryEngine::new();
    let cove = |words: &[&str]| engine.user().cove(words);
    let mut terminal = Terminal::run(&cove(&["run", "-it", "--name", "shell", "box", "sh"]), 97);
    terminal.wait_for("# ");
    terminal.press("stty size; echo made-$((1+1))\r");
    let shown = terminal.wait_for("made-2");
    assert!(shown.contains(" 97"), "{shown:?}");
    terminal.press("\x10\x11");
    assert!(terminal.wait().success(), "{}", terminal.shown());
    assert!(engine.status("shell").starts_with("Up"));
    let mut again = Terminal::run(&cove(&["attach", "shell"]), 60);
    again.press("\r");
    again.wait_for("# ");
    again.press("sleep 100\r");
    again.wait_for("sleep 100");
    std::thread::sleep(Duration::from_millis(300));
    again.press("\x03");
    again.press("exit 7\r");
    assert_eq!(again.wait().code(), Some(7), "{}", again.shown());
    engine.wait_for_status("shell", "Exited (7)");
    cove(&["rm", "shell"]).ok();
    engine.wait_until_nothing_is_left();
}

#[test]
fn signals_reach_the_container() {
    let engine = OrdinaryEngine::new();
    let script = "trap 'echo one' USR1; trap 'echo int; exit 8' INT; echo ready; while :; do sleep 0.1; done";
    let log = engine.user().folder().join("signals.log");
    let command = engine.user().cove(["run", "--rm", "--network", "none", "box", "sh", "-c", script]);
    let mut process = command.start(&log);
    let says = |text: &str| std::fs::read_to_string(&log).unwrap_or_default().contains(text);
    process.wait_ready(Duration::from_secs(20), || says("ready"));
    process.signal(Signal::USR1);
    process.wait_ready(Duration::from_secs(20), || says("one"));
    process.signal(Signal::INT);
    let status = process.wait(Duration::from_secs(20)).expect("it ends");
    assert_eq!(status.code(), Some(8));
    engine.wait_until_nothing_is_left();
}
