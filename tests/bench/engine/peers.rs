//! Who is compared: engines with docker's command line, each with a store of its own and the same image in it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use cove_tests::benchmarks::spawn::{self, Ended};
use cove_tests::{Cmd, Dockerd, Scratch, busybox_image};

/// What the image is called everywhere.
pub const IMAGE: &str = "bench:latest";

/// An engine.
pub trait Peer {
    /// Its column.
    fn name(&self) -> &'static str;
    /// The program, and the words that come before all others.
    fn command(&self) -> Command;
    /// What the process beside each container is called, as the kernel has it: at most 15 bytes.
    fn companion(&self) -> &'static str;

    /// How containers that run are removed at once.
    fn remove(&self) -> &'static [&'static str] {
        &["rm", "-f"]
    }

    /// What it says of itself.
    fn version(&self) -> String {
        let mut command = self.command();
        let said = command.arg("--version").output().expect("ask for the version");
        String::from_utf8_lossy(&said.stdout).trim().to_owned()
    }

    /// Runs a command line to its end, which must be a good one.
    fn call(&self, words: &[&str]) -> Ended {
        let mut command = self.command();
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null());
        let ended = spawn::run(&mut command);
        assert_eq!(ended.code, Some(0), "{} {words:?}", self.name());
        ended
    }
}

/// A folder in memory, as `/run` mostly is.
fn in_memory(folder: &Scratch, name: &str) {
    Cmd::new("mount").args(["-t", "tmpfs", "-o", "mode=700", "tmpfs"]).arg(folder.folder(name)).ok();
}

fn clean(program: impl Into<PathBuf>) -> Command {
    let mut command = Command::new(program.into());
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// Ours.
pub struct Cove {
    folder: Scratch,
    program: PathBuf,
}

impl Cove {
    pub fn new() -> Self {
        let own = std::env::current_exe().expect("the path of this program");
        let cove = Self { folder: Scratch::new("cove"), program: own.with_file_name("cove") };
        in_memory(&cove.folder, "run");
        let image = busybox_image();
        let (archive, _) = image.docker_archive(IMAGE);
        cove.call(&["load", "-q", "-i", &archive.display().to_string()]);
        cove
    }
}

impl Peer for Cove {
    fn name(&self) -> &'static str {
        "cove"
    }

    fn command(&self) -> Command {
        let mut command = clean(&self.program);
        command.env("COVE_ROOT", self.folder.join("root")).env("COVE_RUN", self.folder.join("run"));
        command.env("HOME", self.folder.path());
        command.env("COVE_RUNTIME", std::env::var_os("COVE_RUNTIME").expect("COVE_RUNTIME is set"));
        command
    }

    fn companion(&self) -> &'static str {
        "cove-monitor"
    }
}

impl Drop for Cove {
    fn drop(&mut self) {
        remove_all(self);
        unmount(&self.folder);
    }
}

/// docker, with a daemon of our own that has docker's bridge.
pub struct Docker {
    daemon: Dockerd,
    folder: Scratch,
}

impl Docker {
    pub fn new() -> Self {
        let docker = Self { daemon: Dockerd::with_bridge(), folder: Scratch::new("docker") };
        let image = busybox_image();
        let (archive, _) = image.docker_archive(IMAGE);
        docker.call(&["load", "-q", "-i", &archive.display().to_string()]);
        docker
    }
}

impl Peer for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn command(&self) -> Command {
        let mut command = clean("docker");
        command.env("DOCKER_CONFIG", self.folder.path()).arg("--host").arg(self.daemon.host());
        command
    }

    fn companion(&self) -> &'static str {
        "containerd-shim"
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        remove_all(self);
    }
}

/// podman, with root and run folders of its own.
pub struct Podman {
    folder: Scratch,
}

impl Podman {
    pub fn new() -> Self {
        let podman = Self { folder: Scratch::new("podman") };
        in_memory(&podman.folder, "run");
        // Its own limits are higher than what root may set everywhere.
        let limits = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";
        podman.folder.write("containers.conf", limits);
        let image = busybox_image();
        let (archive, _) = image.docker_archive(IMAGE);
        podman.call(&["load", "-q", "-i", &archive.display().to_string()]);
        podman
    }
}

impl Peer for Podman {
    fn name(&self) -> &'static str {
        "podman"
    }

    fn command(&self) -> Command {
        let mut command = clean("podman");
        command.env("HOME", self.folder.path()).env("CONTAINERS_CONF", self.folder.join("containers.conf"));
        command.arg("--root").arg(self.folder.join("root")).arg("--runroot").arg(self.folder.join("run"));
        command.args(["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]);
        command.arg("--tmpdir").arg(self.folder.join("tmp"));
        command
    }

    fn companion(&self) -> &'static str {
        "conmon"
    }

    // It waits ten seconds for each otherwise.
    fn remove(&self) -> &'static [&'static str] {
        &["rm", "-f", "-t", "0"]
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        remove_all(self);
        unmount(&self.folder);
    }
}

/// Monitors are at their last acts for a moment.
fn unmount(folder: &Scratch) {
    let _ = Cmd::new("umount").arg("-l").arg(folder.join("run")).run();
}

/// Whatever a row that was broken off has left.
fn remove_all(peer: &dyn Peer) {
    let listed = peer.command().args(["ps", "-aq"]).output().map(|output| output.stdout).unwrap_or_default();
    let listed = String::from_utf8_lossy(&listed);
    let ids: Vec<&str> = listed.split_whitespace().collect();
    if !ids.is_empty() {
        let _ = peer.command().args(peer.remove()).args(ids).stdout(Stdio::null()).status();
    }
}

/// The memory of all processes of this name that is theirs in proportion (PSS), and how many there are.
pub fn resident(name: &str) -> (usize, u64) {
    let listed = Cmd::new("pgrep").args(["-x", name]).run().stdout;
    let kilobytes = |id: &str| {
        let text = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup")).ok()?;
        text.lines().find(|line| line.starts_with("Pss:"))?.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let all: Vec<u64> = listed.split_whitespace().filter_map(kilobytes).collect();
    (all.len(), all.iter().sum())
}
