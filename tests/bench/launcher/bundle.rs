//! What is started: bundles as docker makes them, from the machine's own dockerd, on one root file system.
//!
//! There are as many bundles of a kind as are started at once: one root file system, but a cgroup each.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cove_tests::{Cmd, Dockerd, Scratch, wait_until};
use serde_json::{Value, json};

/// Bundles of one kind that can be started at once.
pub const AT_ONCE: usize = 100;

/// The cgroup under which all of them have theirs, in every hierarchy.
pub const PARENT: &str = "cove-bench";

/// What the process of a bundle does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Ends with 0 at once.
    True,
    /// Stays until it is killed.
    Sleep,
}

impl Program {
    const fn name(self) -> &'static str {
        match self {
            Self::True => "true",
            Self::Sleep => "sleep",
        }
    }
}

/// All bundles.
pub struct Bundles {
    folder: Scratch,
    config: Value,
}

impl Bundles {
    /// Asks a dockerd for its `config.json` and makes all bundles of it.
    pub fn make() -> Self {
        let folder = Scratch::new("bench-launcher");
        let busybox = Cmd::new("sh").args(["-c", "command -v busybox"]).ok();
        let bin = folder.folder("rootfs/bin");
        fs::copy(busybox.trim(), bin.join("busybox")).expect("copy busybox");
        for name in ["true", "sleep"] {
            symlink("busybox", bin.join(name)).expect("link busybox");
        }
        let config = from_docker(&folder);
        let bundles = Self { folder, config };
        for profile in [false, true] {
            for (program, count) in [(Program::True, AT_ONCE), (Program::Sleep, 1)] {
                for number in 0..count {
                    bundles.write(program, profile, number);
                }
            }
        }
        bundles
    }

    /// The folder of a bundle.
    pub fn path(&self, program: Program, profile: bool, number: usize) -> PathBuf {
        self.folder.join(format!("{}-{number}", kind(program, profile)))
    }

    /// The root file system that all of them have.
    pub fn rootfs(&self) -> PathBuf {
        self.folder.join("rootfs")
    }

    /// Where other things may lie.
    pub fn folder(&self) -> &Scratch {
        &self.folder
    }

    fn write(&self, program: Program, profile: bool, number: usize) {
        let mut config = self.config.clone();
        config["root"] = json!({ "path": self.rootfs(), "readonly": false });
        config["process"]["args"] = match program {
            Program::True => json!(["/bin/true"]),
            Program::Sleep => json!(["/bin/sleep", "1000000"]),
        };
        let linux = config["linux"].as_object_mut().expect("docker writes `linux`");
        linux.insert("cgroupsPath".to_owned(), format!("/{PARENT}/{}-{number}", kind(program, profile)).into());
        if !profile {
            linux.remove("seccomp");
        }
        let text = serde_json::to_vec(&config).expect("JSON");
        self.folder.folder(&format!("{}-{number}", kind(program, profile)));
        fs::write(self.path(program, profile, number).join("config.json"), text).expect("write config.json");
    }

    /// The calls of mount(2) that the mounts of a bundle come to, for `limit.rs`: a line each, its fields between
    /// tabs: source, target, type, flags, data.
    pub fn mounts(&self) -> PathBuf {
        let mounts = self.config["mounts"].as_array().expect("docker writes `mounts`");
        let lines: String = mounts.iter().flat_map(calls).map(|call| call + "\n").collect();
        self.folder.write("mounts", lines)
    }

    /// In a few words, for the section.
    pub fn description(&self) -> String {
        let count = |list: &Value| list.as_array().map_or(0, Vec::len);
        let linux = &self.config["linux"];
        let rules = linux["seccomp"]["syscalls"].as_array().into_iter().flatten();
        let names: usize = rules.map(|rule| count(&rule["names"])).sum();
        format!(
            "{} namespaces, {} mounts, {} masked and {} read-only paths, {} capabilities, and in the profile {} rules with {names} names",
            count(&linux["namespaces"]),
            count(&self.config["mounts"]),
            count(&linux["maskedPaths"]),
            count(&linux["readonlyPaths"]),
            count(&self.config["process"]["capabilities"]["bounding"]),
            count(&linux["seccomp"]["syscalls"]),
        )
    }
}

fn kind(program: Program, profile: bool) -> String {
    format!("{}-{}", program.name(), if profile { "profile" } else { "plain" })
}

/// Has a dockerd start a container, and takes what it gave to runc.
fn from_docker(folder: &Scratch) -> Value {
    let dockerd = Dockerd::start();
    let docker = |words: &[&str]| Cmd::new("docker").args(["--host", &dockerd.host()]).args(words).ok();
    let archive = folder.join("image.tar");
    Cmd::new("tar").arg("-cf").arg(&archive).arg("-C").arg(folder.join("rootfs")).arg(".").ok();
    docker(&["import", archive.to_str().expect("the path is ASCII"), "bench"]);
    docker(&["run", "-d", "--network", "none", "--name", "bench", "bench", "/bin/sleep", "1000000"]);
    let process = docker(&["inspect", "--format", "{{.State.Pid}}", "bench"]);
    // Its parent is containerd's shim, which stands in the bundle.
    let status = fs::read_to_string(format!("/proc/{}/status", process.trim())).expect("the container runs");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent").trim();
    let text = fs::read(format!("/proc/{parent}/cwd/config.json")).expect("the shim stands in the bundle");
    let config = adapted(serde_json::from_slice(&text).expect("JSON"), folder);
    docker(&["rm", "-f", "bench"]);
    let gone = Path::new("/proc").join(process.trim());
    wait_until("the container is gone", Duration::from_secs(10), || !gone.exists());
    config
}

/// Without what needs a dockerd: the hook that would tell it of the network namespace, and its own files as mounts.
fn adapted(mut config: Value, folder: &Scratch) -> Value {
    config.as_object_mut().expect("an object").remove("hooks");
    for mount in config["mounts"].as_array_mut().expect("docker writes `mounts`") {
        let source = mount["source"].as_str().unwrap_or_default();
        let name = Path::new(source).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if Path::new(source).is_file() {
            mount["source"] = folder.write(name, format!("{name}\n")).to_str().expect("ASCII").into();
        } else if mount["type"] == "bind" {
            mount["source"] = folder.folder(name).to_str().expect("ASCII").into();
        }
    }
    for namespace in config["linux"]["namespaces"].as_array_mut().expect("docker writes `namespaces`") {
        namespace.as_object_mut().expect("an object").remove("path");
    }
    config
}

const READ_ONLY: u64 = 1;
const REMOUNT: u64 = 32;
const BIND: u64 = 4096;
const RECURSIVE: u64 = 16384;

/// What one mount of the bundle comes to.
fn calls(mount: &Value) -> Vec<String> {
    let text = |name: &str| mount[name].as_str().unwrap_or_default();
    let (mut flags, mut data) = (0, Vec::new());
    for option in mount["options"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        match option {
            "ro" => flags |= READ_ONLY,
            "nosuid" => flags |= 2,
            "nodev" => flags |= 4,
            "noexec" => flags |= 8,
            "bind" => flags |= BIND,
            "rbind" => flags |= BIND | RECURSIVE,
            "relatime" => flags |= 1 << 21,
            "strictatime" => flags |= 1 << 24,
            // Everything is private in the limit's namespace.
            "rw" | "private" | "rprivate" => {}
            other => data.push(other),
        }
    }
    let target = text("destination");
    let line = |source: &str, target: &str, kind: &str, flags: u64, data: &str| {
        format!("{source}\t{target}\t{kind}\t{flags}\t{data}")
    };
    if text("type") != "cgroup" {
        return vec![line(text("source"), target, text("type"), flags, &data.join(","))];
    }
    // Version 1: a tmpfs, each hierarchy bound into it, and then nothing more can be made in it.
    let mut lines = vec![line("tmpfs", target, "tmpfs", flags & !READ_ONLY, "mode=755")];
    for name in hierarchies() {
        let (source, target) = (format!("/sys/fs/cgroup/{name}"), format!("{target}/{name}"));
        lines.push(line(&source, &target, "", BIND, ""));
        lines.push(line("", &target, "", flags | BIND | REMOUNT, ""));
    }
    lines.push(line("", target, "", flags | REMOUNT, "mode=755"));
    lines
}

/// The folders in which version 1's hierarchies are mounted.
pub fn hierarchies() -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("the mounts");
    let version1 = mounts.lines().filter(|line| line.split(' ').nth(2) == Some("cgroup"));
    let folders = version1.filter_map(|line| line.split(' ').nth(1)?.strip_prefix("/sys/fs/cgroup/"));
    folders.map(str::to_owned).collect()
}
