//! A container in the foreground: its streams, its status, its terminal.

use std::time::Duration;

use cove_tests::{CoveEngine, Terminal, runc_program};
use rustix::process::Signal;

#[test]
fn streams_and_status_are_the_programs_own() {
    streams_and_status(&CoveEngine::new());
}

#[test]
fn streams_and_status_are_the_programs_own_on_runc() {
    streams_and_status(&CoveEngine::new().on(runc_program()));
}

fn streams_and_status(engine: &CoveEngine) {
    let finished = engine.run(["--rm", "box", "sh", "-c", "echo out; echo error >&2; exit 42"]).run();
    assert_eq!((finished.code, finished.stdout.as_str(), finished.stderr.as_str()), (Some(42), "out\n", "error\n"));
    // Input has an end, and reaches the program whole.
    let input: String = (0..200_000).map(|number| format!("{number}\n")).collect();
    let sum = engine.run(["--rm", "-i", "box", "md5sum"]).input(&input).ok();
    let own = cove_tests::Cmd::new("md5sum").input(&input).ok();
    assert_eq!(sum, own);
    // Without -i there is none.
    assert_eq!(engine.run(["--rm", "box", "wc", "-c"]).input("unseen").ok(), "0");
    for (command, status, words) in [
        ("/bin/nothing", 127, "no such file or directory"),
        ("nothing", 127, "executable file not found in $PATH"),
        ("/bin/plain", 126, "permission denied"),
    ] {
        let finished = engine.run(["--rm", "box", command]).run();
        assert_eq!(finished.code, Some(status), "{finished}");
        assert!(finished.stderr.contains(words), "{finished}");
    }
    let killed = engine.run(["--rm", "box", "sh", "-c", "kill -9 $$"]).run();
    assert_eq!(killed.code, Some(0), "the first process of a namespace cannot kill itself: {killed}");
    assert_eq!(engine.leftovers(&[]), Vec::<String>::new());
}

#[test]
fn a_slow_reader_loses_nothing() {
    let engine = CoveEngine::new();
    let shell = "\"$0\" run --rm box seq 1 3000000 | (sleep 1; md5sum)";
    let program = cove_tests::clients::Cove::program();
    let pipe =
        engine.cove().run_as("sh", ["-c", shell]).arg(program).env("COVE_RUNTIME", cove_tests::runtime_program());
    let expected = cove_tests::Cmd::new("sh").args(["-c", "seq 1 3000000 | md5sum"]).ok();
    assert_eq!(pipe.limit(Duration::from_secs(120)).ok(), expected);
}

#[test]
fn a_terminal_is_as_wide_as_the_window_and_keys_leave_it() {
    let engine = CoveEngine::new();
    let mut terminal = Terminal::run(&engine.run(["-it", "--name", "shell", "box", "sh"]), 97);
    terminal.wait_for("# ");
    terminal.press("stty size; echo made-$((1+1))\r");
    let shown = terminal.wait_for("made-2");
    assert!(shown.contains(" 97"), "{shown:?}");
    // Ctrl-P Ctrl-Q leaves it running.
    terminal.press("\x10\x11");
    assert!(terminal.wait().success(), "{}", terminal.shown());
    assert!(engine.status("shell").starts_with("Up"));
    let mut again = Terminal::run(&engine.words(["attach", "shell"]), 60);
    again.press("\r");
    again.wait_for("# ");
    again.press("exit 7\r");
    assert_eq!(again.wait().code(), Some(7), "{}", again.shown());
    engine.wait_for_status("shell", "Exited (7)");
    // Ctrl-C ends what runs in the foreground, not the shell.
    let mut started = Terminal::run(&engine.words(["start", "-ai", "shell"]), 80);
    started.wait_for("# ");
    started.press("sleep 100\r");
    started.wait_for("sleep 100");
    std::thread::sleep(Duration::from_millis(300));
    started.press("\x03");
    started.press("echo still-$((2+2))\r");
    started.wait_for("still-4");
    started.press("\x04");
    started.wait();
    engine.words(["rm", "shell"]).ok();
}

#[test]
fn signals_are_passed_on() {
    let engine = CoveEngine::new();
    let script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.1; done";
    let log = engine.cove().scratch().join("signal.log");
    let mut process = engine.run(["--rm", "--network", "none", "box", "sh", "-c", script]).start(&log);
    process.wait_ready(Duration::from_secs(20), || std::fs::read_to_string(&log).unwrap_or_default().contains("ready"));
    process.signal(Signal::TERM);
    let status = process.wait(Duration::from_secs(20)).expect("it ends");
    assert_eq!(status.code(), Some(9));
    assert!(std::fs::read_to_string(&log).unwrap().contains("caught"));
}
