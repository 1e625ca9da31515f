//! The first start, and the start without accounts.

use std::time::Duration;

use cove_tests::{Cmd, Login, Process, Registry, Scratch, Server, free_port};

/// A server that is started as a newcomer would, in a folder of its own.
struct Newcomer {
    folder: Scratch,
    address: String,
}

impl Newcomer {
    fn new() -> Self {
        Self { folder: Scratch::new("first"), address: format!("127.0.0.1:{}", free_port()) }
    }

    fn command(&self) -> Cmd {
        Cmd::new(Server::program()).env("COVE_DATA", self.folder.join("data")).env("COVE_LISTEN", &self.address)
    }

    /// Starts it; what it prints goes to a file of this name.
    fn start(&self, command: Cmd, log: &str) -> Process {
        let log = self.folder.join(log);
        let mut process = command.start(&log);
        let listening = || std::fs::read_to_string(&log).unwrap_or_default().contains("listening on");
        process.wait_ready(Duration::from_secs(60), listening);
        process
    }

    fn status(&self, password: &str) -> u16 {
        Registry::with_login(&self.address, &Login::new("admin", password)).get("/v2/").status
    }
}

fn printed_password(log: &str) -> Option<String> {
    let line = log.lines().find_map(|line| line.strip_prefix("Password: "))?;
    Some(line.split_whitespace().next().expect("a password").to_owned())
}

#[test]
fn a_random_password_is_printed_once() {
    let newcomer = Newcomer::new();
    let mut server = newcomer.start(newcomer.command(), "first");
    let password = printed_password(&server.log()).expect("the first start prints a password");
    assert!(password.len() >= 16, "a password that can be guessed");
    assert_eq!(server.log().matches(&password).count(), 1, "printed once");
    assert_eq!(newcomer.status(&password), 200);
    assert_eq!(newcomer.status("admin"), 401);
    server.terminate(Duration::from_secs(30));

    let server = newcomer.start(newcomer.command(), "second");
    assert_eq!(printed_password(&server.log()), None, "only the first start prints it");
    assert!(!server.log().contains(&password));
    assert_eq!(newcomer.status(&password), 200);

    let other = Newcomer::new();
    let server = other.start(other.command(), "first");
    assert_ne!(printed_password(&server.log()), Some(password), "each registry has its own");
}

#[test]
fn a_password_that_was_given_is_not_printed() {
    let newcomer = Newcomer::new();
    let given = "the-password-that-was-given";
    let mut server = newcomer.start(newcomer.command().env("COVE_ADMIN_PASSWORD", given), "first");
    assert_eq!(printed_password(&server.log()), None);
    assert!(!server.log().contains(given));
    assert_eq!(newcomer.status(given), 200);
    server.terminate(Duration::from_secs(30));
    // It is for the first start only.
    let _server = newcomer.start(newcomer.command().env("COVE_ADMIN_PASSWORD", "another-one-later"), "second");
    assert_eq!(newcomer.status(given), 200);
    assert_eq!(newcomer.status("another-one-later"), 401);
}

#[test]
fn without_accounts_only_on_a_loopback_address() {
    let newcomer = Newcomer::new();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[2001:db8::1]:0"] {
        let printed =
            newcomer.command().env("COVE_LISTEN", address).arg("--no-auth").limit(Duration::from_secs(60)).fails();
        assert!(printed.contains("loopback"), "{address}: {printed}");
    }
    let mut server = newcomer.start(newcomer.command().arg("--no-auth"), "open");
    let anonymous = Registry::anonymous(&newcomer.address);
    assert_eq!(anonymous.get("/v2/").status, 200);
    let digest = anonymous.push_blob("any/thing", b"content");
    anonymous.check_blob("any/thing", &digest, 7);
    assert_eq!(printed_password(&server.log()), None, "there is nobody to log in");
    server.terminate(Duration::from_secs(30));
    // The first start with accounts makes the administrator.
    let server = newcomer.start(newcomer.command(), "closed");
    let password = printed_password(&server.log()).expect("a password");
    assert_eq!(anonymous.get("/v2/").status, 401);
    Registry::with_login(&newcomer.address, &Login::new("admin", &password)).check_blob("any/thing", &digest, 7);
}
