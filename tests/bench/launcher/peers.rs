//! Who is compared, and how each is called: OCI runtimes, which all have runc's command line, the limit, and a process
//! without any container.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cove_tests::benchmarks::children;
use cove_tests::{Cmd, Finished};

use crate::bundle::{AT_ONCE, Bundles, Program};
use cove_tests::benchmarks::spawn::{Ended, bury, run, run_at_once, wait_for};

/// How a peer is called.
enum Kind {
    Runtime,
    /// With the list of mounts.
    Limit(PathBuf),
    Process,
}

/// An OCI runtime, or what stands for one.
pub struct Peer {
    /// Its column.
    pub name: String,
    program: PathBuf,
    kind: Kind,
    /// `--root`.
    state: PathBuf,
    log: PathBuf,
}

/// Processes that are there, and the memory that is theirs in proportion (PSS).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    pub processes: usize,
    pub kilobytes: u64,
}

/// What a peer could not do, in words.
#[derive(Debug)]
pub struct Failure(pub String);

impl Peer {
    /// An OCI runtime; its state lies in a folder under `folder`.
    pub fn runtime(name: &str, program: &Path, folder: &Path) -> Self {
        let state = folder.join(name);
        fs::create_dir_all(&state).expect("make a folder");
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            kind: Kind::Runtime,
            log: folder.join(format!("{name}.log")),
            state,
        }
    }

    /// The least that a start can be.
    pub fn limit(program: &Path, bundles: &Bundles, folder: &Path) -> Self {
        Self { kind: Kind::Limit(bundles.mounts()), ..Self::runtime("limit", program, folder) }
    }

    /// The container's program, started here.
    pub fn process(bundles: &Bundles, folder: &Path) -> Self {
        Self { kind: Kind::Process, ..Self::runtime("no container", &bundles.rootfs().join("bin/true"), folder) }
    }

    /// Whether it has `create`, `start`, `exec` and so on.
    pub const fn is_runtime(&self) -> bool {
        matches!(self.kind, Kind::Runtime)
    }

    /// What it says of itself.
    pub fn version(&self) -> Option<String> {
        if !self.is_runtime() {
            return None;
        }
        let text = Cmd::new(&self.program).arg("--version").ok();
        let first = text.lines().next().unwrap_or_default().trim().replace(" version", "");
        Some(if first.contains(' ') { first } else { format!("{} {first}", self.name) })
    }

    /// A command of the runtime; what it says is kept for messages.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        let log = File::options().create(true).append(true).open(&self.log).expect("open the log");
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        if self.is_runtime() {
            command.arg("--root").arg(&self.state);
        }
        command.args(words);
        command
    }

    fn checked(&self, words: &[&str]) -> Result<Ended, Failure> {
        let ended = run(&mut self.command(words));
        self.check(words, ended.code)?;
        Ok(ended)
    }

    fn check(&self, words: &[&str], code: Option<i32>) -> Result<(), Failure> {
        let log = || fs::read_to_string(&self.log).unwrap_or_default();
        match code {
            Some(0) => Ok(()),
            Some(code) => Err(Failure(format!("{} {words:?} ended with {code}:\n{}", self.name, log()))),
            None => Err(Failure(format!("{} {words:?} hung and was killed", self.name))),
        }
    }

    /// Removes what is left after a failure.
    pub fn forget(&self) {
        bury();
        let names = (0..AT_ONCE).map(|number| format!("bench-{number}")).chain([ID.to_owned()]);
        for name in names.filter(|name| self.is_runtime() && self.state.join(name).exists()) {
            let _ = self.command(&["delete", "--force", &name]).status();
        }
        bury();
    }

    fn words_of_run(&self, bundles: &Bundles, profile: bool, number: usize) -> Vec<String> {
        let bundle = bundles.path(Program::True, profile, number);
        let words: &[&str] = match &self.kind {
            Kind::Runtime => &["run", "--bundle", bundle.to_str().expect("ASCII"), &format!("bench-{number}")],
            Kind::Limit(mounts) => {
                let rootfs = bundles.rootfs();
                let text = |path: &Path| path.to_str().expect("ASCII").to_owned();
                return vec![text(mounts), text(&rootfs), "/bin/true".to_owned()];
            }
            Kind::Process => &[],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// Runs a container to its end.
    pub fn run(&self, bundles: &Bundles, profile: bool) -> Result<Ended, Failure> {
        let words = self.words_of_run(bundles, profile, 0);
        let ended = self.checked(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
        bury();
        Ok(ended)
    }

    /// Runs many containers, all started at once, to the end of the last.
    pub fn run_many(&self, bundles: &Bundles, profile: bool) -> Result<Duration, Failure> {
        let words: Vec<_> = (0..AT_ONCE).map(|number| self.words_of_run(bundles, profile, number)).collect();
        let words = words.iter().map(|words| words.iter().map(String::as_str).collect::<Vec<_>>());
        let mut commands: Vec<_> = words.clone().map(|words| self.command(&words)).collect();
        let (time, codes) = run_at_once(&mut commands);
        bury();
        words.zip(codes).try_for_each(|(words, code)| self.check(&words, code))?;
        Ok(time)
    }

    /// How many system calls a run takes, by strace, in all processes.
    pub fn system_calls(&self, bundles: &Bundles, profile: bool) -> Option<u64> {
        let list = bundles.folder().join("strace");
        let mut command = Cmd::new("strace").args(["-f", "-c", "-o"]).arg(&list).arg("--").arg(&self.program);
        if self.is_runtime() {
            command = command.arg("--root").arg(&self.state);
        }
        let finished: Finished = command.args(self.words_of_run(bundles, profile, 0)).run();
        bury();
        let table = fs::read_to_string(list).ok().filter(|_| finished.succeeded())?;
        // The last line is the total: per cent, seconds, microseconds a call, calls, errors, "total".
        table.lines().last()?.split_whitespace().nth(3)?.parse().ok()
    }

    /// Creates a container, starts it, waits for its end and deletes it.
    pub fn life(&self, bundles: &Bundles, profile: bool) -> Result<Duration, Failure> {
        let start = Instant::now();
        let created = self.create(&bundles.path(Program::True, profile, 0))?;
        self.checked(&["start", ID])?;
        wait_for(created);
        self.checked(&["delete", ID])?;
        let time = start.elapsed();
        bury();
        Ok(time)
    }

    /// The id of the new container's process.
    fn create(&self, bundle: &Path) -> Result<u32, Failure> {
        let file = self.state.with_extension("pid");
        let text = |path: &Path| path.to_str().expect("ASCII").to_owned();
        self.checked(&["create", "--bundle", &text(bundle), "--pid-file", &text(&file), ID])?;
        let process = fs::read_to_string(file).expect("it has written the process's id");
        Ok(process.trim().parse().expect("a number"))
    }

    /// A container that stays, and what is resident before and after its start.
    pub fn start(&self, bundles: &Bundles, profile: bool) -> Result<Running<'_>, Failure> {
        let process = self.create(&bundles.path(Program::Sleep, profile, 0))?;
        bury();
        let created = resident(None);
        self.checked(&["start", ID])?;
        // Whoever is about to go shall be gone.
        std::thread::sleep(Duration::from_millis(200));
        bury();
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let filtered = status.lines().any(|line| line == "Seccomp:\t2");
        Ok(Running { peer: self, process, created, filtered, started: resident(Some(process)) })
    }
}

const ID: &str = "bench";

/// A running container, which goes with this.
pub struct Running<'a> {
    peer: &'a Peer,
    process: u32,
    /// What is there between create and start, the container's process included: that one is still the runtime's.
    pub created: Resident,
    /// Whether a seccomp filter is on the container's process.
    pub filtered: bool,
    /// What is there after the start besides the container's process.
    pub started: Resident,
}

impl Running<'_> {
    /// Runs `true` in the container.
    pub fn exec(&self) -> Result<Ended, Failure> {
        let ended = self.peer.checked(&["exec", ID, "/bin/true"])?;
        bury();
        Ok(ended)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let quietly = |words: &[&str]| drop(self.peer.command(words).status());
        quietly(&["kill", ID, "KILL"]);
        wait_for(self.process);
        quietly(&["delete", ID]);
        bury();
    }
}

/// All that descend from this process, which inherits whoever lost their parents.
fn resident(except: Option<u32>) -> Resident {
    let mut found = Resident::default();
    let mut waiting = children(std::process::id());
    while let Some(process) = waiting.pop() {
        waiting.extend(children(process));
        if Some(process) != except {
            let lines = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
            let size = lines.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
            found.processes += 1;
            found.kilobytes += size.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
        }
    }
    found
}
