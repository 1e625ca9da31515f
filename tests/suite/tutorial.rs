//! The container chapters of docker's tutorials, done by somebody at a terminal with `cove` in docker's place: an image is
//! changed and committed, containers run in the background, a web server is published, an image moves to another machine.
//!
//! Each chapter is a function of an engine, so that it can be read for root and for an ordinary user.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "tutorial/background.rs"]
mod background;
#[path = "tutorial/change.rs"]
mod change;
#[path = "tutorial/elsewhere.rs"]
mod elsewhere;
#[path = "tutorial/web.rs"]
mod web;

use std::time::Duration;

use cove_tests::{CoveEngine, Terminal};

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// Everything that a container has is there once only: nothing is left of it.
fn is_clean(engine: &CoveEngine, ids: &[String]) {
    assert_eq!(engine.leftovers(ids), Vec::<String>::new());
}

/// The whole id of a container.
fn id(engine: &CoveEngine, name: &str) -> String {
    engine.words(["inspect", "-f", "{{.Id}}", name]).ok()
}

/// Types a line, and waits until its answer, which must not be in the line itself, is shown so many times.
fn answers(terminal: &mut Terminal, line: &str, answer: &str, times: usize) {
    assert!(!line.contains(answer), "{answer} is in what is typed");
    terminal.press(&format!("{line}\r"));
    let what = format!("{line}: {answer}");
    cove_tests::wait_until(&what, LIMIT, || terminal.shown().matches(answer).count() >= times);
}
