//! The container chapters of a docker tutorial, done with `cove` on a Debian image.

use std::time::Duration;

use cove_tests::{CoveEngine, Terminal, wait_until};

#[test]
fn a_loop_in_the_background() {
    let engine = CoveEngine::with_debian();
    let id = engine
        .run(["-d", "--name", "loop", "debian", "/bin/sh", "-c", "while true; do echo hello world; sleep 0.2; done"])
        .ok();
    assert!(engine.words(["ps"]).ok().contains("loop"));
    wait_until("it talks", Duration::from_secs(20), || engine.words(["logs", "loop"]).ok().contains("hello world"));
    engine.words(["stop", "-t", "1", &id[..12]]).ok();
    engine.words(["start", "loop"]).ok();
    engine.words(["restart", "-t", "1", "loop"]).ok();
    assert_eq!(engine.words(["exec", "loop", "git", "--version"]).ok().split(' ').next(), Some("git"));
    engine.words(["rm", "-f", "loop"]).ok();
    assert_eq!(engine.leftovers(&[id]), Vec::<String>::new());
}

#[test]
fn a_shell_and_a_change() {
    let engine = CoveEngine::with_debian();
    let mut shell = Terminal::run(&engine.run(["-it", "--name", "work", "debian", "/bin/bash"]), 80);
    shell.wait_for("# ");
    shell.press("echo changed > /srv/note && rm -r /usr/share/doc && echo done-$((40+2))\r");
    shell.wait_for("done-42");
    shell.press("exit\r");
    assert!(shell.wait().success(), "{}", shell.shown());
    assert!(engine.status("work").starts_with("Exited (0)"));
    engine.words(["start", "work"]).ok();
    assert_eq!(engine.words(["exec", "work", "cat", "/srv/note"]).ok(), "changed");
    engine.words(["rm", "-f", "work"]).ok();
}
