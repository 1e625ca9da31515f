//! A PostgreSQL of one's own.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Signal, geteuid};

use crate::{Cmd, Process, Scratch, free_port};

/// A private PostgreSQL cluster on a free port of 127.0.0.1, gone when dropped.
///
/// PostgreSQL refuses to run as root, so there it runs as the user `postgres` that its package has made.
pub struct Postgres {
    process: Process,
    port: u16,
    folder: Scratch,
}

impl Postgres {
    /// Makes a cluster and starts it.
    pub fn start() -> Self {
        let folder = Scratch::new("postgres");
        if geteuid().is_root() {
            chown(folder.path(), Some(id_of_postgres("-u")), Some(id_of_postgres("-g"))).expect("give the folder away");
        }
        let data = folder.join("data");
        as_postgres("initdb")
            .arg("-D")
            .arg(&data)
            .args(["-U", "cove", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"])
            .ok();
        let port = free_port();
        let process = run(port, folder.path());
        psql(port, "create database cove").ok();
        Self { process, port, folder }
    }

    /// The URL of a database, for `--database`.
    pub fn url(&self) -> String {
        format!("postgres://cove:cove@127.0.0.1:{}/cove", self.port)
    }

    /// Runs a statement with `psql` and returns what it prints: a line a row, columns separated by `|`.
    pub fn query(&self, statement: &str) -> String {
        psql_in(self.port, "cove", statement).ok()
    }

    /// Stops the server as an administrator would; its clients are disconnected.
    pub fn stop(&mut self) {
        // "Fast": it does not wait for its clients to go.
        self.process.signal(Signal::INT);
        self.process.wait(Duration::from_secs(20)).expect("PostgreSQL ends");
    }

    /// Starts it again, on the same port and state.
    pub fn start_again(&mut self) {
        self.process = run(self.port, self.folder.path());
    }

    /// Stops the server for the time being, as an administrator would, or a failure.
    pub fn pause(&mut self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&mut self) {
        self.process.signal(Signal::CONT);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // "Fast": it does not wait for its clients to go.
        self.process.signal(Signal::INT);
        self.process.wait(Duration::from_secs(20));
    }
}

fn run(port: u16, folder: &Path) -> Process {
    // Only a crash of the machine needs its fsync.
    let settings = ["fsync=off", "max_connections=200", "listen_addresses=127.0.0.1", "log_min_messages=warning"];
    let command = as_postgres("postgres").arg("-D").arg(folder.join("data")).args(["-p", &port.to_string()]);
    let command = command.arg("-k").arg(folder);
    let command = settings.iter().fold(command, |command, setting| command.args(["-c", setting]));
    let mut process = command.start(&folder.join("log"));
    process.wait_ready(Duration::from_secs(30), || psql(port, "select 1").run().succeeded());
    process
}

fn psql(port: u16, statement: &str) -> Cmd {
    psql_in(port, "postgres", statement)
}

fn psql_in(port: u16, database: &str, statement: &str) -> Cmd {
    Cmd::new(program("psql")).args([
        "-X",
        "-A",
        "-t",
        "-q",
        "-h",
        "127.0.0.1",
        "-p",
        &port.to_string(),
        "-U",
        "cove",
        "-d",
        database,
        "-c",
        statement,
    ])
}

fn as_postgres(name: &str) -> Cmd {
    if geteuid().is_root() {
        Cmd::new("setpriv").args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program(name))
    } else {
        Cmd::new(program(name))
    }
}

fn id_of_postgres(which: &str) -> u32 {
    Cmd::new("id").args([which, "postgres"]).ok().parse().expect("id prints a number")
}

/// The newest version installed; Debian keeps the servers out of `PATH`.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed: run `tests/run`");
    let found = versions.flatten().map(|version| version.path().join("bin").join(name)).filter(|path| path.exists());
    let number = |path: &PathBuf| path.iter().nth(4).and_then(|version| version.to_str()?.parse::<u32>().ok());
    found.max_by_key(number).unwrap_or_else(|| panic!("no {name} under /usr/lib/postgresql"))
}
