//! A container in the background: its log, leaving it and coming back, ending it and starting it again.

use std::time::Duration;

use cove_tests::{CoveEngine, Terminal, wait_until};

use super::{LIMIT, answers, id, is_clean};

#[test]
fn a_loop_in_a_debian_image() {
    background(&CoveEngine::with_small_debian(), "debian:12", "/bin/bash");
}

#[test]
fn a_loop_in_a_busybox_image() {
    background(&CoveEngine::new(), "box", "/bin/sh");
}

fn background(engine: &CoveEngine, image: &str, shell: &str) {
    let script = "while true; do echo hello world; sleep 0.3; done";
    // In the foreground it says so until somebody ends it. The first process of a container hears only what it listens to.
    let listening = format!("trap 'exit 130' INT; {script}");
    let mut front = Terminal::run(&engine.run(["--rm", "--name", "front", image, shell, "-c", &listening]), 80);
    front.wait_for("hello world\r\nhello world");
    front.press("\x03");
    assert_eq!(front.wait().code(), Some(130), "{}", front.shown());
    // With a first process that passes signals on every program can be interrupted.
    let mut front =
        Terminal::run(&engine.run(["--rm", "--init", image, shell, "-c", "echo begun; exec sleep 1000"]), 80);
    front.wait_for("begun");
    front.press("\x03");
    assert_eq!(front.wait().code(), Some(130), "{}", front.shown());

    let long = engine.run(["-d", "--name", "loop", image, shell, "-c", script]).ok();
    assert!(long.len() == 64 && long.bytes().all(|byte| byte.is_ascii_hexdigit()), "{long}");
    let listed = engine.words(["ps"]).ok();
    assert!(listed.contains(&long[..12]) && listed.contains(&format!("\"{shell} -c 'while")), "{listed}");
    let mut log = Terminal::run(&engine.words(["logs", "-f", &long[..12]]), 80);
    log.wait_for("hello world\r\nhello world");
    log.press("\x03");
    assert!(!log.wait().success());
    let mut follower = Terminal::run(&engine.words(["logs", "-f", "--tail", "1", "loop"]), 80);
    follower.wait_for("hello world");
    assert!(engine.status("loop").starts_with("Up"));
    assert_eq!(engine.words(["stop", "-t", "1", "loop"]).ok(), "loop");
    assert_eq!(follower.wait().code(), Some(0), "who follows the log is at its end");
    assert!(engine.status("loop").starts_with("Exited (137)"));
    engine.words(["start", &long[..8]]).ok();
    engine.words(["restart", "-t", "0", "loop"]).ok();
    assert!(engine.status("loop").starts_with("Up"));
    // What is typed into a watcher without a terminal ends the watcher's own container only if that hears it.
    let mut watcher = Terminal::run(&engine.words(["attach", "--sig-proxy=false", "loop"]), 80);
    watcher.wait_for("hello world");
    watcher.press("\x03");
    assert!(!watcher.wait().success());
    assert!(engine.status("loop").starts_with("Up"));
    engine.words(["rm", "-f", "loop"]).ok();

    let with_terminal = terminal(engine, image, shell);
    is_clean(engine, &[long, with_terminal]);
}

/// A shell that somebody leaves and comes back to.
fn terminal(engine: &CoveEngine, image: &str, shell: &str) -> String {
    let mut first = Terminal::run(&engine.run(["-it", "--name", "work", image, shell]), 80);
    first.wait_for("# ");
    answers(&mut first, "here=$((40 + 2)); echo set to $here", "set to 42", 1);
    first.press("\x10\x11");
    assert_eq!(first.wait().code(), Some(0), "{}", first.shown());
    assert!(!first.shown().contains("escape sequence"), "{}", first.shown());
    assert!(engine.status("work").starts_with("Up"));
    let long = id(engine, "work");

    let mut second = Terminal::run(&engine.words(["attach", "work"]), 70);
    answers(&mut second, "echo still $here", "still 42", 1);
    // Ctrl-P alone is a key of the shell's: the line before.
    second.press("\x10\r");
    wait_until("the line before", LIMIT, || second.shown().matches("still 42").count() == 2);
    second.press("\x10\x11");
    assert_eq!(second.wait().code(), Some(1));
    assert!(second.shown().ends_with("read escape sequence\r\n"), "{:?}", second.shown());

    let mut third = Terminal::run(&engine.words(["attach", "--detach-keys", "ctrl-x,x", "work"]), 60);
    answers(&mut third, "stty size; echo wide-$here", "wide-42", 1);
    assert!(third.shown().contains("24 60"), "{}", third.shown());
    third.press("\x18x");
    assert_eq!(third.wait().code(), Some(1));

    let mut beside = Terminal::run(&engine.words(["exec", "-it", "work", shell]), 66);
    beside.wait_for("# ");
    answers(&mut beside, "stty size; hostname; echo size-$((1 + 1))", "size-2", 1);
    assert!(beside.shown().contains("24 66") && beside.shown().contains(&long[..12]), "{}", beside.shown());
    answers(&mut beside, "echo from-inside > /tmp/file; sync; echo kept-$((1 + 1))", "kept-2", 1);
    beside.press("exit 6\r");
    assert_eq!(beside.wait().code(), Some(6), "{}", beside.shown());
    let copy = engine.cove().scratch().join("copy");
    engine.words(["cp", "work:/tmp/file", &copy.display().to_string()]).ok();
    assert_eq!(std::fs::read_to_string(&copy).unwrap(), "from-inside\n");
    std::fs::write(&copy, "from outside\n").unwrap();
    engine.words(["cp", &copy.display().to_string(), "work:/tmp/file"]).ok();

    let mut fourth = Terminal::run(&engine.words(["attach", "work"]), 80);
    answers(&mut fourth, "cat /tmp/file", "from outside", 1);
    fourth.press("exit 4\r");
    assert_eq!(fourth.wait().code(), Some(4), "{}", fourth.shown());
    engine.wait_for_status("work", "Exited (4)");
    let mut fifth = Terminal::run(&engine.words(["start", "-ai", "work"]), 80);
    fifth.wait_for("# ");
    answers(&mut fifth, "cat /tmp/file", "from outside", 1);
    fifth.press("\x10\x11");
    assert_eq!(fifth.wait().code(), Some(0), "{}", fifth.shown());
    let mut sixth = Terminal::run(&engine.words(["start", "-ai", "--detach-keys", "ctrl-x,x", "work"]), 80);
    answers(&mut sixth, "echo once-$((1 + 1))", "once-2", 1);
    sixth.press("\x18x");
    assert_eq!(sixth.wait().code(), Some(0), "{}", sixth.shown());
    // Ctrl-D.
    let mut last = Terminal::run(&engine.words(["attach", "work"]), 80);
    answers(&mut last, "true; echo last-$((1 + 1))", "last-2", 1);
    last.press("\x04");
    assert_eq!(last.wait().code(), Some(0), "{}", last.shown());
    let refused = engine.words(["attach", "work"]).fails();
    assert!(refused.contains("You cannot attach to a stopped container, start it first"), "{refused}");
    assert_eq!(engine.words(["rm", &long[..6]]).ok(), &long[..6]);
    std::thread::sleep(Duration::from_millis(100));
    long
}
