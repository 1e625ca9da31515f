//! An engine under test: a store with an image, and containers that are gone when the test is over.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::clients::Cove;
use crate::{Cmd, busybox_image, debian, runtime_program, small_debian, wait_until};

/// `cove` with a store of its own, and the image `box` in it.
pub struct CoveEngine {
    cove: Cove,
    /// What `--runtime` names, if not our own.
    runtime: Option<PathBuf>,
}

impl CoveEngine {
    /// With an image of busybox, called `box`.
    pub fn new() -> Self {
        let engine = Self { cove: Cove::new(), runtime: None };
        own_network();
        engine.cove.load(&busybox_image(), "box:latest");
        engine
    }

    /// The same, with the store in this folder.
    pub fn with_root(root: &std::path::Path) -> Self {
        let engine = Self { cove: Cove::with_root(root), runtime: None };
        own_network();
        engine.cove.load(&busybox_image(), "box:latest");
        engine
    }

    /// With a Debian image, called `debian`.
    pub fn with_debian() -> Self {
        let engine = Self { cove: Cove::new(), runtime: None };
        own_network();
        engine.words(["import"]).arg(debian()).arg("debian:latest").limit(Duration::from_secs(300)).ok();
        engine
    }

    /// With a smaller one, called `debian:12`: without compiler and git.
    pub fn with_small_debian() -> Self {
        let engine = Self { cove: Cove::new(), runtime: None };
        own_network();
        engine.words(["import"]).arg(small_debian()).arg("debian:12").limit(Duration::from_secs(300)).ok();
        engine
    }

    /// The same, with another runtime for `run` and `create`.
    pub fn on(mut self, runtime: PathBuf) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// The client.
    pub fn cove(&self) -> &Cove {
        &self.cove
    }

    /// A command line.
    pub fn words<const N: usize>(&self, words: [&str; N]) -> Cmd {
        self.cove.words(words).env("COVE_RUNTIME", runtime_program())
    }

    /// `cove run` with these words.
    pub fn run<const N: usize>(&self, words: [&str; N]) -> Cmd {
        self.made("run", words)
    }

    /// `cove create` with these words.
    pub fn create<const N: usize>(&self, words: [&str; N]) -> Cmd {
        self.made("create", words)
    }

    fn made<const N: usize>(&self, command: &str, words: [&str; N]) -> Cmd {
        let begun = self.words([command]);
        let begun = match &self.runtime {
            Some(runtime) => begun.arg("--runtime").arg(runtime),
            None => begun,
        };
        begun.args(words)
    }

    /// The status of a container in `ps -a`: `Up 3 seconds`.
    pub fn status(&self, name: &str) -> String {
        self.words(["ps", "-a", "--no-trunc", "--filter"])
            .arg(format!("name={name}"))
            .args(["--format", "{{.Status}}"])
            .ok()
    }

    /// Waits until a container's status begins so.
    pub fn wait_for_status(&self, name: &str, status: &str) {
        let what = format!("{name} is {status}");
        wait_until(&what, Duration::from_secs(30), || self.status(name).starts_with(status));
    }

    /// The folder of a container below the run folder.
    pub fn run_folder(&self, id: &str) -> PathBuf {
        self.cove.scratch().join("run/containers").join(id)
    }

    /// What is left on the machine of these containers, and of others of this engine: processes, cgroups, mounts, folders.
    /// A monitor that has told the end is given some seconds: nobody waits for its deleting.
    pub fn leftovers(&self, ids: &[String]) -> Vec<String> {
        let end = Instant::now() + Duration::from_secs(15);
        loop {
            let left = self.left_now(ids);
            if left.is_empty() || Instant::now() > end {
                return left;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn left_now(&self, ids: &[String]) -> Vec<String> {
        let mut left = Vec::new();
        let scratch = self.cove.scratch().path().display().to_string();
        let folders = ["run/containers", "root/containers"].map(|name| self.cove.scratch().join(name));
        for folder in folders {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                left.push(entry.path().display().to_string());
            }
        }
        for line in Cmd::new("ps").args(["-eo", "pid,args"]).ok().lines() {
            if line.contains("cove-runtime") && line.contains(&scratch) {
                left.push(format!("process {line}"));
            }
        }
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let cgroups = ids.iter().map(|id| hierarchy.path().join("cove").join(id));
            left.extend(cgroups.filter(|path| path.exists()).map(|path| path.display().to_string()));
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("the list of mounts");
        left.extend(mounts.lines().filter(|line| line.contains(&scratch)).map(|line| format!("mount {line}")));
        left
    }
}

/// Puts this thread, and what it starts, into a network of its own: bridges and rules of the packet filter go with the test.
#[allow(unsafe_code)]
pub fn own_network() {
    // SAFETY: the network namespace of this thread alone; no descriptor table is split.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("a network namespace");
    Cmd::new("ip").args(["link", "set", "lo", "up"]).ok();
}

impl Default for CoveEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for CoveEngine {
    fn drop(&mut self) {
        let all = self.words(["ps", "-aq", "--no-trunc"]).run().stdout;
        let names: Vec<&str> = all.lines().collect();
        if !names.is_empty() {
            let _ = self.words(["rm", "-f", "-v"]).args(names).run();
        }
    }
}
