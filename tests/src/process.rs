//! Programs that run beside a test.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A program that runs, writing to a log. Dropping it ends the program, and shows the log's end if the test is
/// failing.
#[derive(Debug)]
pub struct Process {
    child: Child,
    ended: Option<ExitStatus>,
    line: String,
    log: PathBuf,
}

impl Process {
    pub(crate) fn spawn(command: Command, line: String, log: &Path) -> Self {
        let child = spawn_for_life(command).unwrap_or_else(|error| panic!("cannot start `{line}`: {error}"));
        Self { child, ended: None, line, log: log.to_owned() }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything that the program has printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// How the program ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("wait for a child");
        }
        self.ended
    }

    /// Sends a signal, unless the program has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
            let _ = kill_process(id, signal);
        }
    }

    /// SIGKILL, and waits.
    pub fn kill9(&mut self) {
        self.signal(Signal::KILL);
        self.ended = Some(self.child.wait().expect("wait for a child"));
    }

    /// SIGTERM, and waits; panics if the program is still there after `limit`.
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(limit).unwrap_or_else(|| panic!("`{}` did not end within {limit:?} after SIGTERM", self.line))
    }

    /// Waits for the end; none if the program is still there after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        while self.ended().is_none() && start.elapsed() < limit {
            thread::sleep(Duration::from_millis(5));
        }
        self.ended
    }

    /// Waits until `ready` says yes, and panics with the log if that takes longer than `limit` or the program
    /// ends before.
    pub fn wait_ready(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) {
        let start = Instant::now();
        while !ready() {
            if let Some(status) = self.ended() {
                panic!("`{}` ended ({status}) before it was ready:\n{}", self.line, self.log());
            }
            if start.elapsed() > limit {
                panic!("`{}` was not ready after {limit:?}:\n{}", self.line, self.log());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let skip = log.lines().count().saturating_sub(100);
            eprintln!("---- the log of `{}`{}", self.line, if skip > 0 { ", its end" } else { "" });
            // What failed earlier in a long log is told as well.
            log.lines().take(skip).filter(|line| line.contains("ERROR")).for_each(|line| eprintln!("{line}"));
            log.lines().skip(skip).for_each(|line| eprintln!("{line}"));
            eprintln!("----");
        }
        self.signal(Signal::TERM);
        if self.wait(Duration::from_secs(20)).is_none() {
            eprintln!("`{}` ignores SIGTERM", self.line);
            self.kill9();
        }
    }
}

/// Waits until `condition` holds, and panics with `what` if that takes longer than `limit`.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "still not so after {limit:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

type Order = (Command, Sender<io::Result<Child>>);

/// Starts a child from a thread that lives as long as this program. The kernel sends the "parent died" signal,
/// which `setpriv --pdeathsig` asks for, when the *thread* ends that made the child, and test threads end early.
fn spawn_for_life(command: Command) -> io::Result<Child> {
    static KEEPER: LazyLock<Mutex<Sender<Order>>> = LazyLock::new(|| {
        let (orders, inbox) = channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (answer, child) = channel();
    KEEPER.lock().expect("nobody panics with it").send((command, answer)).expect("the keeper lives on");
    child.recv().expect("the keeper answers")
}
