//! An OCI runtime's command line, and the containers that it made.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::{Bundle, Cmd, Finished, Scratch, runtime_program, wait_until};

/// How long a runtime may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A runtime with a folder of its own for what it remembers. Its containers go when this is dropped.
pub struct OciRuntime {
    program: PathBuf,
    version: String,
    folder: Scratch,
}

impl OciRuntime {
    /// The runtime under test.
    pub fn under_test() -> Self {
        Self::of(&runtime_program())
    }

    /// Any runtime.
    pub fn of(program: &Path) -> Self {
        let version = Cmd::new(program).arg("--version").run().printed();
        Self { program: program.to_owned(), version, folder: Scratch::new("runtime") }
    }

    /// A name that no other container has.
    pub fn new_id() -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // In a pid namespace of its own every program has the same process id.
        static START: LazyLock<u128> =
            LazyLock::new(|| SystemTime::UNIX_EPOCH.elapsed().map_or(0, |age| age.as_micros() % 1_000_000_000));
        format!("cove-test-{}-{:x}-{}", std::process::id(), *START, COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Where it remembers its containers.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// A path for a file that is of use to a test.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What it calls itself: the first line of its version.
    pub fn name(&self) -> String {
        self.version.lines().next().unwrap_or("a runtime without a name").replace(" version", "")
    }

    /// Debian's runc: it knows runtime-spec 1.0.2 (no time namespaces, no domain name, no id-mapped mounts), and has
    /// the bugs that were found since.
    pub fn is_runc_1_1(&self) -> bool {
        self.version.contains("runc version 1.1.")
    }

    /// Any runc, for what differs by design.
    pub fn is_runc(&self) -> bool {
        self.version.contains("runc version")
    }

    /// A command line: `--root`, then these words.
    pub fn command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Cmd {
        Cmd::new(&self.program).arg("--root").arg(self.root()).args(words).limit(PATIENCE)
    }

    /// `run`, in the foreground, to its end.
    pub fn run(&self, bundle: &Bundle) -> Finished {
        self.run_with(bundle, &[])
    }

    /// `run` with further options.
    pub fn run_with(&self, bundle: &Bundle, options: &[&str]) -> Finished {
        bundle.write();
        let command = self.command(["run"]).args(options).arg("--bundle").arg(bundle.path());
        command.arg(Self::new_id()).run()
    }

    /// `create`, which must succeed.
    #[track_caller]
    pub fn create(&self, bundle: &Bundle) -> Container<'_> {
        let (container, finished) = self.try_create(bundle, &[]);
        assert!(finished.succeeded(), "{finished}");
        container
    }

    /// `create` with further options, whichever way it ends.
    pub fn try_create(&self, bundle: &Bundle, options: &[&str]) -> (Container<'_>, Finished) {
        self.make("create", bundle, options)
    }

    /// `run --detach`, which must succeed.
    #[track_caller]
    pub fn start(&self, bundle: &Bundle) -> Container<'_> {
        let (container, finished) = self.make("run", bundle, &["--detach"]);
        assert!(finished.succeeded(), "{finished}");
        container
    }

    /// `create` or `run` of a new container, with its output in a file.
    pub fn make(&self, verb: &str, bundle: &Bundle, options: &[&str]) -> (Container<'_>, Finished) {
        bundle.write();
        let id = Self::new_id();
        let command = self.command([verb]).args(options).arg("--bundle").arg(bundle.path()).arg(&id);
        let finished = self.finish(&command, &self.folder.join(format!("{id}.out")));
        (Container { runtime: self, id, _bundle: bundle.clone() }, finished)
    }

    /// A command whose output outlives it: a container that stays keeps the streams of the runtime open.
    pub fn finish(&self, command: &Cmd, output: &Path) -> Finished {
        let start = Instant::now();
        let file = File::create(output).expect("make a file for the output");
        let mut process = command.command();
        process.stdin(Stdio::null()).stdout(file.try_clone().expect("a second handle")).stderr(file);
        let mut child = process.spawn().unwrap_or_else(|error| panic!("cannot start `{command}`: {error}"));
        let status = loop {
            if let Some(status) = child.try_wait().expect("wait for a child") {
                break status;
            }
            if start.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                panic!("`{command}` does not end; it printed: {}", fs::read_to_string(output).unwrap_or_default());
            }
            thread::sleep(Duration::from_millis(2));
        };
        Finished {
            line: command.to_string(),
            code: status.code(),
            stdout: String::new(),
            stderr: fs::read_to_string(output).unwrap_or_default(),
            took: start.elapsed(),
        }
    }

    /// What it remembers of containers, by name.
    pub fn remembered(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.root()) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("read").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for OciRuntime {
    fn drop(&mut self) {
        for name in self.remembered() {
            if self.root().join(&name).is_dir() && !name.starts_with('.') {
                let _ = self.command(["delete", "--force", &name]).run();
            }
        }
    }
}

/// A container that was made, or should have been; it is deleted by force when this is dropped.
pub struct Container<'a> {
    runtime: &'a OciRuntime,
    id: String,
    /// Its root file system must stay as long as it does.
    _bundle: Bundle,
}

impl Container<'_> {
    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Everything printed so far, by the runtime and by the container.
    pub fn output(&self) -> String {
        fs::read_to_string(self.runtime.folder.join(format!("{}.out", self.id))).expect("the container's output")
    }

    /// A command about it: the verb with its options, the name, then these words.
    pub fn command(&self, verb: &[&str], rest: &[&str]) -> Cmd {
        self.runtime.command(verb).arg(&self.id).args(rest)
    }

    /// `start`.
    pub fn start(&self) -> Finished {
        self.command(&["start"], &[]).run()
    }

    /// `state`, which must succeed.
    pub fn state(&self) -> Value {
        let text = self.command(&["state"], &[]).ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("`state` printed {text:?}: {error}"))
    }

    /// The status that `state` tells.
    pub fn status(&self) -> String {
        self.state()["status"].as_str().expect("a status").to_owned()
    }

    /// The process id of its first process.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.state()["pid"].as_i64().expect("a process id")).expect("it is small")
    }

    /// `kill`.
    pub fn kill(&self, signal: &str) -> Finished {
        self.command(&["kill"], &[signal]).run()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait_stopped(&self) {
        wait_until("the container has stopped", PATIENCE, || self.status() == "stopped");
    }

    /// Waits until its output contains this.
    #[track_caller]
    pub fn wait_output(&self, text: &str) {
        wait_until(&format!("the container prints `{text}`"), PATIENCE, || self.output().contains(text));
    }

    /// `exec` of a command line.
    pub fn exec(&self, words: &[&str]) -> Finished {
        self.command(&["exec"], words).run()
    }

    /// `exec` of a script.
    pub fn script(&self, script: &str) -> Finished {
        self.exec(&["/bin/sh", "-c", script])
    }

    /// `exec --process` of a process, in the specification's words.
    pub fn exec_process(&self, process: &Value) -> Finished {
        let file = self.runtime.folder.write(&format!("{}.process", self.id), process.to_string());
        let options = ["exec", "--process", file.to_str().expect("a path that is text")];
        self.command(&options, &[]).run()
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if self.runtime.root().join(&self.id).exists() {
            let _ = self.command(&["delete", "--force"], &[]).run();
        }
    }
}
