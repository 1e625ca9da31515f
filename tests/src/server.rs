//! `cove-server` itself.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use crate::{Cmd, Login, Process, Registry, S3, Scratch, build_folder, free_port, wait_until};

const ADMIN_PASSWORD: &str = "a-password-for-tests";

/// A `cove-server` on a free port of 127.0.0.1, with a temporary data folder, gone when dropped.
pub struct Server {
    process: Option<Process>,
    settings: ServerBuilder,
    port: u16,
    folder: Scratch,
}

/// How a server shall be started.
#[derive(Clone, Default)]
pub struct ServerBuilder {
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
}

impl ServerBuilder {
    /// Adds words to the command line.
    pub fn args<S: Into<String>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Where the database is, instead of SQLite in the data folder.
    pub fn database(self, url: &str) -> Self {
        self.env("COVE_DATABASE", url)
    }

    /// Where the blobs are, instead of a folder in the data folder.
    pub fn blobs(self, url: &str) -> Self {
        self.env("COVE_BLOBS", url)
    }

    /// Keeps the blobs in the bucket of this S3 server, under a prefix.
    pub fn s3(self, s3: &S3, prefix: &str) -> Self {
        s3.settings().into_iter().fold(self.blobs(&s3.url(prefix)), |builder, (name, value)| builder.env(name, &value))
    }

    /// Starts the server and waits until it is ready.
    pub fn start(self) -> Server {
        let mut server = self.prepare();
        server.start_again();
        server
    }

    /// A server that has its folder and its port and is not started yet.
    pub fn prepare(self) -> Server {
        Server { process: None, settings: self, port: free_port(), folder: Scratch::new("server") }
    }
}

impl Server {
    /// A server as it comes: SQLite and a folder.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A server with settings.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// The program, which `tests/run` has built.
    pub fn program() -> PathBuf {
        let path = build_folder().join("cove-server");
        assert!(path.exists(), "{} is not there: run `cargo build` or `tests/run`", path.display());
        path
    }

    /// `HOST:PORT`, as it stands before an image's name.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// A temporary folder beside the data folder, for what a test wants to keep as long as the server.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.join("log")).unwrap_or_default()).into_owned()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("the server runs").id()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the server runs")
    }

    /// The first administrator.
    pub fn admin_login(&self) -> Login {
        Login::new("admin", ADMIN_PASSWORD)
    }

    /// The registry, as the administrator sees it.
    pub fn as_admin(&self) -> Registry {
        self.as_user(&self.admin_login())
    }

    /// The registry, as a user sees it.
    pub fn as_user(&self, login: &Login) -> Registry {
        Registry::with_login(&self.address(), login)
    }

    /// The registry, as somebody without credentials sees it.
    pub fn as_anonymous(&self) -> Registry {
        Registry::anonymous(&self.address())
    }

    /// Makes a user.
    pub fn add_user(&self, name: &str) -> Login {
        let login = Login::new(name, &format!("the-password-of-{name}"));
        self.command(["user", "add", name, "--password-stdin"]).input(&login.password).ok();
        login
    }

    /// Runs a subcommand beside the server, which must succeed, and returns what it printed on standard output.
    pub fn admin<const N: usize>(&self, arguments: [&str; N]) -> String {
        self.command(arguments).ok()
    }

    /// A subcommand with the server's settings, to be run.
    pub fn command<const N: usize>(&self, arguments: [&str; N]) -> Cmd {
        let words = arguments.into_iter().map(str::to_owned);
        let variables = self.settings.variables.iter();
        let command = Cmd::new(Self::program()).args(words).env("COVE_DATA", self.data());
        variables.fold(command, |command, (name, value)| command.env(name, value))
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.process.take().expect("the server runs").terminate(Duration::from_secs(60))
    }

    /// SIGKILL, and waits for the end.
    pub fn kill9(&mut self) {
        self.process.take().expect("the server runs").kill9();
    }

    /// Starts the server, which must not be running, on the same port and state.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "the server runs already");
        let command = self.command([]).env("COVE_LISTEN", self.address()).env("COVE_ADMIN_PASSWORD", ADMIN_PASSWORD);
        let mut process = command.args(&self.settings.arguments).start(&self.folder.join("log"));
        let registry = Cmd::new("curl").args(["-fsS", "--max-time", "5", &format!("{}/readyz", self.url())]);
        process.wait_ready(Duration::from_secs(60), || registry.run().succeeded());
        self.process = Some(process);
    }

    /// SIGTERM, which must end the server with exit code 0, and starts it again.
    pub fn restart(&mut self) {
        let status = self.terminate();
        assert!(status.success(), "the server ended with {status} after SIGTERM:\n{}", self.log());
        self.start_again();
    }

    /// Compares database and blobs and re-hashes everything; panics if anything is wrong.
    pub fn check(&self) {
        let printed = self.admin(["check", "--deep"]);
        assert!(printed.contains("no problems"), "`check --deep` does not say that all is well: {printed}");
    }

    /// Waits until the log has a line with all of these words.
    pub fn wait_for_log(&self, words: &[&str]) {
        wait_until(&format!("a line of the server's log has {words:?}"), Duration::from_secs(10), || {
            self.log().lines().any(|line| words.iter().all(|word| line.contains(word)))
        });
    }
}
