//! What happens on a terminal: questions, progress, and what is left of both when somebody presses Ctrl-C.

use std::time::Duration;

use cove_tests::clients::{Client, Cove};
use cove_tests::{Image, Login, Proxy, Screen, Server, Terminal};
use serde_json::Value;

struct World {
    server: Server,
    alice: Login,
    cove: Cove,
}

impl World {
    fn start() -> Self {
        let server = Server::start();
        let alice = server.add_user("alice");
        Self { server, alice, cove: Cove::new() }
    }

    /// A repository with an image of three layers, of which the store has nothing, behind a way that is slow.
    fn slow_image(&self) -> (Proxy, String) {
        let publisher = Cove::new();
        publisher.login(&self.server.address(), &self.alice);
        publisher.push(&Image::new(3, 1_000_000), &format!("{}/alice/image:1", self.server.address()));
        let proxy = Proxy::start(&self.server.address(), 0);
        self.cove.login(&proxy.address(), &self.alice);
        proxy.set_rate(400_000);
        let name = format!("{}/alice/image:1", proxy.address());
        (proxy, name)
    }
}

#[test]
fn login_asks_for_name_and_password() {
    let world = World::start();
    let address = world.server.address();
    let mut terminal = Terminal::run(&world.cove.words(["login", &address]), 80);
    assert!(terminal.wait_for("Username: ").contains(&format!("Log in to {address}")));
    terminal.press("alice\r");
    terminal.wait_for("Password: ");
    terminal.wait_until("the password will not be shown", |_| !terminal.echoes());
    terminal.press(&world.alice.password);
    terminal.press("\r");
    assert!(terminal.wait().success(), "{}", terminal.shown());
    let shown = terminal.shown();
    assert!(shown.contains("Login Succeeded") && shown.contains("alice\r\n"), "{shown:?}");
    assert!(!shown.contains(&world.alice.password), "{shown:?}");
    assert!(terminal.echoes());

    // The second time what is kept is good enough, until it is not.
    let again = Terminal::run(&world.cove.words(["login", &address]), 80);
    let shown = again.wait_for("Login Succeeded");
    assert!(shown.contains("Authenticating with existing credentials... [Username: alice]"), "{shown:?}");
    world.server.command(["user", "passwd", "alice", "--password-stdin"]).input("another password").ok();
    let mut asked = Terminal::run(&world.cove.words(["login", &address]), 80);
    let shown = asked.wait_for("Username (alice): ");
    assert!(shown.contains("Login did not succeed, error: "), "{shown:?}");
    asked.press("\r");
    asked.wait_for("Password: ");
    asked.wait_until("the password will not be shown", |_| !asked.echoes());
    asked.press("another password\r");
    asked.wait_for("Login Succeeded");
}

#[test]
fn ctrl_c_at_a_question_leaves_the_terminal_as_it_was() {
    let world = World::start();
    let address = world.server.address();
    let mut terminal = Terminal::run(&world.cove.words(["login", "-u", "alice", &address]), 80);
    terminal.wait_for("Password: ");
    terminal.wait_until("the password will not be shown", |_| !terminal.echoes());
    terminal.press("half a pass\x03");
    assert_eq!(terminal.wait().code(), Some(130), "{}", terminal.shown());
    assert!(terminal.echoes(), "what is typed is not shown any more");
    assert_eq!(Screen::of(&terminal.shown(), 80).column, 0, "the prompt is on a line of its own");

    // Also at the first question, and after the network was needed.
    world.cove.login(&address, &world.alice);
    world.server.command(["user", "passwd", "alice", "--password-stdin"]).input("another password").ok();
    for interrupt in ["\x03", "\x1c"] {
        let mut terminal = Terminal::run(&world.cove.words(["login", &address]), 80);
        terminal.wait_for("Username (alice): ");
        terminal.press(interrupt);
        assert!(matches!(terminal.wait().code(), Some(130 | 131)), "{}", terminal.shown());
        assert!(terminal.echoes());
    }
}

#[test]
fn login_without_a_terminal() {
    let world = World::start();
    let address = world.server.address();
    for words in [&["login", &address][..], &["login", "-u", "alice", &address]] {
        let finished = world.cove.words(words).run();
        assert_eq!(finished.code, Some(1), "{finished}");
        assert_eq!(finished.stderr, "Error: Cannot perform an interactive login from a non TTY device\n");
    }
    let finished = world.cove.words(["login", "-u", "alice", "-p", &world.alice.password, &address]).run();
    assert!(finished.succeeded(), "{finished}");
    assert!(finished.stderr.starts_with("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n"));
}

#[test]
fn progress_moves_and_ends_with_every_layer() {
    let world = World::start();
    let (_proxy, name) = world.slow_image();
    let mut terminal = Terminal::run(&world.cove.words(["pull", &name]), 100);
    terminal.wait_until("the total has bytes, rate and time left", |shown| {
        shown.lines().any(|line| {
            line.contains("Total: ") && line.contains("B/3MB, ") && line.contains("B/s, ") && line.contains("s left")
        })
    });
    assert!(terminal.wait_for("Downloading [").contains("1: Pulling from alice/image"));
    assert!(terminal.wait().success(), "{}", terminal.shown());
    let screen = Screen::of(&terminal.shown(), 100);
    let layers = screen.lines.iter().filter(|line| line.ends_with(": Pull complete")).count();
    assert_eq!(layers, 3, "{screen:?}");
    assert!(!screen.lines.iter().any(|line| line.contains("Total: ")), "{screen:?}");
    assert!(screen.lines.iter().any(|line| line.starts_with("Digest: sha256:")), "{screen:?}");
    assert!(screen.unknown.is_empty() && screen.cursor && screen.is_plain && screen.column == 0, "{screen:?}");
}

#[test]
fn ctrl_c_during_a_pull_leaves_a_clean_narrow_terminal() {
    let world = World::start();
    let (proxy, name) = world.slow_image();
    let mut terminal = Terminal::run(&world.cove.words(["pull", &name]), 40);
    terminal.wait_until("some frames are shown", |shown| shown.matches("Total: ").count() > 5);
    terminal.press("\x03");
    assert_eq!(terminal.wait().code(), Some(130), "{}", terminal.shown());
    let screen = Screen::of(&terminal.shown(), 40);
    assert_eq!(screen.wrapped, 0, "lines that are too long: {screen:?}");
    assert!(screen.unknown.is_empty() && screen.cursor && screen.is_plain && screen.column == 0, "{screen:?}");
    assert!(screen.lines.iter().any(|line| line.contains(": Downloading")), "{screen:?}");
    assert!(terminal.echoes());
    // What has come is not fetched again.
    proxy.set_rate(0);
    proxy.take();
    world.cove.words(["pull", "-q", &name]).ok();
    let starts: Vec<u64> = proxy.asked().iter().filter_map(cove_tests::Asked::range_start).collect();
    assert!(starts.iter().any(|start| *start > 0), "{starts:?}");
}

#[test]
fn progress_for_programs_and_for_nobody() {
    let world = World::start();
    let (_proxy, name) = world.slow_image();
    // Slow enough for a total in between.
    let finished = world.cove.words(["pull", "--progress", "json", &name]).limit(Duration::from_secs(60)).run();
    assert!(finished.succeeded(), "{finished}");
    let lines: Vec<Value> = finished
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("`{line}` is no JSON: {error}")))
        .collect();
    let total = lines.iter().rfind(|line| line["status"] == "Total").expect("a total");
    assert!(total["progressDetail"]["total"].as_u64() > Some(3_000_000), "{total}");
    assert!(total["bytesPerSecond"].as_u64() > Some(0) && total["layers"] == 3, "{total}");
    let complete = lines.iter().filter(|line| line["status"] == "Pull complete" && line["id"].is_string()).count();
    assert_eq!(complete, 3, "{finished}");
    assert!(!finished.stdout.contains("Pull complete") && finished.stdout.contains("Digest: "), "{finished}");

    // Also on a terminal, and remembered in a variable.
    world.cove.words(["rmi", "-f", &name]).ok();
    world.cove.words(["system", "prune", "-f"]).ok();
    _proxy.set_rate(0);
    let plain = world.cove.words(["pull", &name]).env("COVE_PROGRESS", "plain");
    let mut terminal = Terminal::run(&plain, 80);
    assert!(terminal.wait().success());
    let shown = terminal.shown();
    assert!(!shown.contains('\x1b') && shown.matches(": Pull complete\r\n").count() == 3, "{shown:?}");
}
