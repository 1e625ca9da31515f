//! An image moves to another machine as a file.

use cove_tests::clients::Cove;
use cove_tests::{CoveEngine, Terminal, runtime_program};

use super::{LIMIT, answers};

#[test]
fn an_image_is_saved_and_loaded_elsewhere() {
    elsewhere(&CoveEngine::new(), "box");
}

#[test]
fn a_debian_image_is_saved_and_loaded_elsewhere() {
    elsewhere(&CoveEngine::with_small_debian(), "debian:12");
}

fn elsewhere(engine: &CoveEngine, image: &str) {
    engine.run(["--name", "one", image, "sh", "-c", "echo carried > /note; mkdir -p /empty; rm -f /etc/group"]).ok();
    let id = engine.words(["commit", "-m", "a note", "one", "carried:1"]).limit(LIMIT).ok();
    let archive = engine.cove().scratch().join("carried.tar");
    engine.words(["save", "-o"]).arg(&archive).arg("carried:1").limit(LIMIT).ok();

    let other = Cove::new();
    let words = |words: &[&str]| other.words(words).env("COVE_RUNTIME", runtime_program()).limit(LIMIT);
    assert_eq!(words(&["load", "-i"]).arg(&archive).ok(), "Loaded image: carried:1");
    assert_eq!(other.id("carried:1"), id);
    let mut shell = Terminal::run(&words(&["run", "-it", "--rm", "--network", "none", "carried:1", "sh"]), 80);
    shell.wait_for("# ");
    answers(&mut shell, "cat /note; ls -d /empty; test -e /etc/group || echo gone-$((1 + 1))", "gone-2", 1);
    assert!(shell.shown().contains("carried\r\n/empty\r\n"), "{}", shell.shown());
    shell.press("exit\r");
    assert_eq!(shell.wait().code(), Some(0), "{}", shell.shown());
    assert_eq!(words(&["ps", "-aq"]).ok(), "");
    engine.words(["rm", "one"]).ok();
}
