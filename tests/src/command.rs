//! Running a program to its end.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Process;

/// A command line, and the environment that it runs in.
///
/// Of this process's environment the program sees `PATH` and `TMPDIR` only: whatever proxy, credentials or
/// `DOCKER_HOST` the developer has must not change what a test does.
#[derive(Clone)]
pub struct Cmd {
    program: OsString,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    input: Vec<u8>,
    limit: Duration,
}

/// What a program has done.
#[derive(Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub line: String,
    /// The exit code; none if a signal ended the program.
    pub code: Option<i32>,
    /// Standard output, as text.
    pub stdout: String,
    /// Standard error, as text.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Cmd {
    /// A command line of one word; the program is searched in `PATH` if it is a bare name.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let variables = ["PATH", "TMPDIR"].into_iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            variables: variables.chain([("LANG".into(), "C.UTF-8".into())]).collect(),
            input: Vec::new(),
            limit: Duration::from_secs(300),
        }
    }

    /// Adds a word.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds words.
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// What the program reads from its standard input; nothing unless said.
    pub fn input(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.input = bytes.as_ref().to_vec();
        self
    }

    /// How long the program may take; five minutes unless said.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs the program to its end, whichever that is.
    ///
    /// # Panics
    /// If the program cannot be started or takes too long.
    pub fn run(&self) -> Finished {
        let start = Instant::now();
        let mut command = self.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start `{self}`: {error}"));
        let mut stdin = child.stdin.take().expect("piped");
        let input = self.input.clone();
        // A program may well end without reading its input.
        let writer = thread::spawn(move || drop(stdin.write_all(&input)));
        let stdout = read_in_background(child.stdout.take().expect("piped"));
        let stderr = read_in_background(child.stderr.take().expect("piped"));
        let status = loop {
            if let Some(status) = child.try_wait().expect("wait for a child") {
                break status;
            }
            if start.elapsed() > self.limit {
                let _ = child.kill();
                let _ = child.wait();
                panic!(
                    "`{self}` did not end within {:?}\nstdout: {}\nstderr: {}",
                    self.limit,
                    stdout.join().unwrap_or_default(),
                    stderr.join().unwrap_or_default()
                );
            }
            thread::sleep(Duration::from_millis(5));
        };
        let _ = writer.join();
        Finished {
            line: self.to_string(),
            code: status.code(),
            stdout: stdout.join().unwrap_or_default(),
            stderr: stderr.join().unwrap_or_default(),
            took: start.elapsed(),
        }
    }

    /// Runs the program, which must succeed, and returns its standard output without the white space around it.
    pub fn ok(&self) -> String {
        self.run().ok()
    }

    /// Runs the program, which must fail, and returns everything that it printed.
    pub fn fails(&self) -> String {
        self.run().fails()
    }

    /// Runs the program, which must succeed, for a benchmark: its output goes nowhere, and the time is exact.
    /// `started` learns its process id.
    pub fn time(&self, started: impl FnOnce(u32)) -> Duration {
        let start = Instant::now();
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start `{self}`: {error}"));
        started(child.id());
        let status = child.wait().expect("wait for a child");
        let took = start.elapsed();
        assert!(status.success(), "`{self}` ended with {status}");
        took
    }

    /// Starts the program and leaves it running; its output goes to the file `log`. The program ends when the
    /// [`Process`] is dropped, and also if this test program dies.
    pub fn start(&self, log: &Path) -> Process {
        let log_file = File::options().create(true).append(true).open(log);
        let log_file = log_file.unwrap_or_else(|error| panic!("open {}: {error}", log.display()));
        // The kernel is asked to end the child with us by setpriv, which then becomes the program itself.
        let mut command = match self.program == *"setpriv" {
            true => self.clone().before(&["--pdeathsig", "KILL"]).command(),
            false => self.clone().wrapped("setpriv", &["--pdeathsig", "KILL", "--"]).command(),
        };
        command.stdin(Stdio::null());
        command.stdout(log_file.try_clone().expect("a second handle of the log")).stderr(log_file);
        Process::spawn(command, self.to_string(), log)
    }

    /// The same, started by another program, which gets these words first.
    pub fn wrapped(self, program: &str, words: &[&str]) -> Self {
        let mut arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
        arguments.push(self.program);
        arguments.extend(self.arguments);
        Self { program: program.into(), arguments, ..self }
    }

    fn before(mut self, words: &[&str]) -> Self {
        self.arguments.splice(0..0, words.iter().map(OsString::from));
        self
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// The command line as one would type it.
impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Path::new(&self.program).display())?;
        for argument in &self.arguments {
            let word = argument.to_string_lossy();
            let plain = !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "-_./:=@,+%".contains(c));
            if plain { write!(f, " {word}")? } else { write!(f, " '{}'", word.replace('\'', r"'\''"))? }
        }
        Ok(())
    }
}

impl Finished {
    /// Whether the exit code was 0.
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// The standard output of a program that must have succeeded, without the white space around it.
    pub fn ok(self) -> String {
        assert!(self.succeeded(), "a command failed that must succeed: {self}");
        self.stdout.trim().to_owned()
    }

    /// The standard output of a program that must have succeeded, to the byte.
    pub fn ok_exactly(self) -> String {
        assert!(self.succeeded(), "a command failed that must succeed: {self}");
        self.stdout
    }

    /// Everything printed by a program that must have failed of its own will.
    pub fn fails(self) -> String {
        assert!(!self.succeeded(), "a command succeeded that must fail: {self}");
        assert!(self.code.is_some(), "a command was ended by a signal: {self}");
        self.printed()
    }

    /// Everything printed, standard error first.
    pub fn printed(&self) -> String {
        format!("{}{}", self.stderr, self.stdout)
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.map_or("by a signal".to_owned(), |code| format!("exit code {code}"));
        write!(f, "`{}` ended with {code}\nstdout: {}\nstderr: {}", self.line, self.stdout, self.stderr)
    }
}

fn read_in_background(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The words of a command line, with single quotes as the shell has them.
pub fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for letter in line.chars() {
        match letter {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}
