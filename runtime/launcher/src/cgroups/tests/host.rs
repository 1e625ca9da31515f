//! On this host's own cgroups, as root: what the kernel says of what we did.
//!
//! Every test has a cgroup of its own below `/cove-test-…`, and looks that nothing is left of it.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;
use serde_json::json;

use super::super::{CgroupError, Cgroups};
use super::{request, resources};

/// Whether we can make cgroups of version 1 here: these tests are about them.
pub(super) fn is_root_on_v1() -> bool {
    rustix::process::geteuid().is_root() && Path::new("/sys/fs/cgroup/memory/cgroup.procs").exists()
}

/// A container's cgroups, without a container.
pub(super) struct Boxed {
    pub(super) cgroups: Cgroups,
    parent: PathBuf,
    children: Vec<Child>,
}

impl Boxed {
    pub(super) fn plan(name: &str) -> Boxed {
        let parent = PathBuf::from(format!("/cove-test-{}-{name}", std::process::id()));
        let path = parent.join("box");
        Boxed { cgroups: Cgroups::plan(&request(Some(&path), None)).unwrap(), parent, children: Vec::new() }
    }

    pub(super) fn create(name: &str, limits: &LinuxResources) -> Boxed {
        let boxed = Boxed::plan(name);
        boxed.cgroups.create(Some(limits)).unwrap();
        boxed
    }

    /// Starts a program in the cgroups.
    #[allow(unsafe_code)]
    pub(super) fn start(&mut self, program: &[&str]) -> u32 {
        let entrance = self.cgroups.entrance().unwrap();
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).stdin(Stdio::null()).stdout(Stdio::null());
        // SAFETY: it writes to open files only.
        unsafe { command.pre_exec(move || entrance.enter(false).map_err(std::io::Error::from)) };
        self.children.push(command.spawn().unwrap());
        self.children.last().unwrap().id()
    }

    pub(super) fn reap(&mut self) {
        for mut child in self.children.drain(..) {
            child.wait().unwrap();
        }
    }

    fn read(&self, controller: &str, file: &str) -> String {
        fs::read_to_string(self.cgroups.paths()[controller].join(file)).unwrap().trim().to_owned()
    }

    /// The folders that are there, the container's own and that above it, in all hierarchies.
    pub(super) fn left(&self) -> Vec<PathBuf> {
        let own = self.cgroups.paths().into_values();
        own.flat_map(|path| [path.parent().unwrap().to_owned(), path]).filter(|path| path.exists()).collect()
    }
}

impl Drop for Boxed {
    fn drop(&mut self) {
        let _ = self.cgroups.kill(libc::SIGKILL);
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let deleted = self.cgroups.delete();
        for path in self.cgroups.paths().into_values() {
            assert!(path.parent().unwrap().ends_with(self.parent.strip_prefix("/").unwrap()));
            let _ = fs::remove_dir(path.parent().unwrap());
        }
        if !std::thread::panicking() {
            deleted.unwrap();
            assert_eq!(self.left(), Vec::<PathBuf>::new());
        }
    }
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(5), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What runc 1.1.5 leaves in these files for the same resources, but for `c 10:200 rwm` in the list of devices.
#[test]
fn the_limits_are_those_that_runc_sets() {
    if !is_root_on_v1() {
        return;
    }
    let boxed = Boxed::create(
        "limits",
        &resources(json!({
            "devices": [{"allow": false, "access": "rwm"},
                        {"allow": true, "type": "b", "major": 8, "minor": 0, "access": "r"}],
            "memory": {"limit": 67108864, "swap": 134217728, "reservation": 33554432, "swappiness": 10,
                       "kernel": 1000000, "disableOOMKiller": true},
            "cpu": {"shares": 512, "quota": 50000, "period": 200000, "cpus": "0", "mems": "0", "idle": 0},
            "pids": {"limit": 100},
        })),
    );
    for (controller, file, value) in [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("memory", "memory.memsw.limit_in_bytes", "134217728"),
        ("memory", "memory.soft_limit_in_bytes", "33554432"),
        ("memory", "memory.swappiness", "10"),
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("cpu", "cpu.cfs_period_us", "200000"),
        ("cpu", "cpu.idle", "0"),
        ("pids", "pids.max", "100"),
        ("cpuset", "cpuset.cpus", "0"),
        ("cpuset", "cpuset.mems", "0"),
    ] {
        assert_eq!(boxed.read(controller, file), value, "{file}");
    }
    assert!(boxed.read("memory", "memory.oom_control").starts_with("oom_kill_disable 1"));
    let list = boxed.read("devices", "devices.list");
    let mut devices: Vec<&str> = list.lines().collect();
    devices.sort_unstable();
    let expected = [
        "b *:* m",
        "b 8:0 r",
        "c *:* m",
        "c 136:* rwm",
        "c 1:3 rwm",
        "c 1:5 rwm",
        "c 1:7 rwm",
        "c 1:8 rwm",
        "c 1:9 rwm",
        "c 5:0 rwm",
        "c 5:2 rwm",
    ];
    assert_eq!(devices, expected);
}

#[test]
fn a_child_walks_into_every_hierarchy() {
    if !is_root_on_v1() {
        return;
    }
    let mut boxed = Boxed::create("enter", &resources(json!({})));
    let process = boxed.start(&["sleep", "100"]);
    let text = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap();
    let expected = format!("{}/box", boxed.parent.display());
    for line in text.lines() {
        assert!(line.ends_with(&expected), "{line}");
    }
    let names: Vec<&str> = text.lines().filter_map(|line| line.split(':').nth(1)).collect();
    assert_eq!(boxed.cgroups.paths().len(), names.iter().flat_map(|names| names.split(',')).count());
    let processes: Vec<i32> =
        boxed.cgroups.processes().unwrap().iter().map(|process| process.as_raw_nonzero().get()).collect();
    assert_eq!(processes, [process.cast_signed()]);
}

#[test]
fn devices_that_are_not_allowed_cannot_be_opened() {
    if !is_root_on_v1() {
        return;
    }
    let mut boxed = Boxed::create("devices", &resources(json!({})));
    boxed.start(&["sh", "-c", "exec < /dev/zero && exec 3< /dev/null && ! (exec 3< /dev/fuse || exec 3< /dev/kmsg)"]);
    assert!(boxed.children.pop().unwrap().wait().unwrap().success());
}

#[test]
fn a_failed_create_leaves_nothing() {
    if !is_root_on_v1() {
        return;
    }
    let boxed = Boxed::plan("failed");
    // The kernel has no such processor, which shows when the cgroups are made already.
    let error = boxed.cgroups.create(Some(&resources(json!({"cpu": {"cpus": "4000"}})))).unwrap_err();
    assert!(error.to_string().contains("cpuset.cpus: "), "{error}");
    assert_eq!(boxed.left(), Vec::<PathBuf>::new());
}

#[test]
fn a_cgroup_in_use_is_refused_and_stays() {
    if !is_root_on_v1() {
        return;
    }
    let mut boxed = Boxed::create("used", &resources(json!({})));
    let before = boxed.left();
    // Empty cgroups that are there already are taken.
    boxed.cgroups.create(None).unwrap();
    boxed.cgroups.freeze().unwrap();
    assert!(matches!(boxed.cgroups.create(None), Err(CgroupError::Frozen { .. })));
    boxed.cgroups.thaw().unwrap();
    boxed.start(&["sleep", "100"]);
    let error = boxed.cgroups.create(None).unwrap_err().to_string();
    assert!(error.starts_with("container's cgroup is not empty: 1 process(es) found\n"), "{error}");
    assert_eq!(boxed.left(), before);
}

#[test]
fn frozen_processes_stand_still() {
    if !is_root_on_v1() {
        return;
    }
    let mut boxed = Boxed::create("freeze", &resources(json!({})));
    boxed.start(&["sh", "-c", "while :; do :; done"]);
    assert!(!boxed.cgroups.is_frozen().unwrap());
    boxed.cgroups.freeze().unwrap();
    assert!(boxed.cgroups.is_frozen().unwrap());
    let used = || boxed.cgroups.stats().unwrap().cpu.usage.total;
    let before = used();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(used(), before);
    boxed.cgroups.thaw().unwrap();
    assert!(!boxed.cgroups.is_frozen().unwrap());
    wait_for("nothing runs after the thaw", || used() > before);
}

/// Processes that fork all the time, in cgroups below the container's own, some of them frozen.
#[test]
fn kill_leaves_none_and_delete_removes_what_is_below() {
    if !is_root_on_v1() {
        return;
    }
    for is_frozen in [false, true] {
        let mut boxed = Boxed::create(&format!("kill-{is_frozen}"), &resources(json!({"pids": {"limit": 200}})));
        for _ in 0..5 {
            boxed.start(&["sh", "-c", "while :; do (sleep 100 &); sleep 0.01; done"]);
        }
        let below = boxed.cgroups.paths()["freezer"].join("a/b");
        fs::create_dir_all(&below).unwrap();
        let moved = boxed.start(&["sleep", "100"]);
        fs::write(below.join("cgroup.procs"), moved.to_string()).unwrap();
        wait_for("processes fork", || boxed.cgroups.processes().unwrap().len() > 60);
        if is_frozen {
            boxed.cgroups.freeze().unwrap();
        }
        assert!(boxed.cgroups.kill(libc::SIGKILL).unwrap() > 20);
        boxed.reap();
        wait_for("processes are left", || boxed.cgroups.processes().unwrap().is_empty());
        boxed.cgroups.delete().unwrap();
        boxed.cgroups.delete().unwrap();
        assert!(boxed.left().iter().all(|path| !path.ends_with("box")));
    }
}

#[test]
fn a_signal_to_a_paused_container_arrives_when_it_goes_on() {
    if !is_root_on_v1() {
        return;
    }
    let mut boxed = Boxed::create("signal", &resources(json!({})));
    boxed.start(&["sleep", "100"]);
    boxed.cgroups.freeze().unwrap();
    assert_eq!(boxed.cgroups.kill(libc::SIGTERM).unwrap(), 1);
    assert!(boxed.cgroups.is_frozen().unwrap());
    assert_eq!(boxed.cgroups.processes().unwrap().len(), 1);
    boxed.cgroups.thaw().unwrap();
    boxed.reap();
    assert!(boxed.cgroups.processes().unwrap().is_empty());
}

#[test]
fn delete_ends_nothing_and_says_what_is_in_the_way() {
    if !is_root_on_v1() {
        return;
    }
    let mut boxed = Boxed::create("busy", &resources(json!({})));
    boxed.start(&["sleep", "100"]);
    let begun = Instant::now();
    let error = boxed.cgroups.delete().unwrap_err().to_string();
    assert!(error.starts_with("unable to remove cgroup /"), "{error}");
    assert!(error.contains(": device or resource busy\n"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(boxed.cgroups.processes().unwrap().len(), 1);
}

#[test]
fn an_update_may_raise_and_lower_everything() {
    if !is_root_on_v1() {
        return;
    }
    let limits = |memory: u64, swap: u64| resources(json!({"memory": {"limit": memory << 20, "swap": swap << 20}}));
    let boxed = Boxed::create("update", &limits(64, 128));
    let both = || {
        let number = |file| boxed.read("memory", file).parse::<u64>().unwrap() >> 20;
        (number("memory.limit_in_bytes"), number("memory.memsw.limit_in_bytes"))
    };
    // The first needs swap to go first, the second memory.
    boxed.cgroups.update(&limits(256, 512)).unwrap();
    assert_eq!(both(), (256, 512));
    boxed.cgroups.update(&limits(32, 48)).unwrap();
    assert_eq!(both(), (32, 48));
    let error = boxed.cgroups.update(&resources(json!({"memory": {"limit": 1 << 30}}))).unwrap_err().to_string();
    assert!(error.contains("memory.limit_in_bytes: invalid argument\nthe limit of memory may not exceed"), "{error}");
    boxed.cgroups.update(&resources(json!({"memory": {"limit": -1}}))).unwrap();
    assert!(both().0 > 1 << 30);
}

/// The kernel takes no shares of a cgroup that is idle.
#[test]
fn a_cgroup_with_shares_may_become_idle_and_stop_being_so() {
    if !is_root_on_v1() {
        return;
    }
    let cpu = |shares: u64, idle: i64| resources(json!({"cpu": {"shares": shares, "idle": idle}}));
    let boxed = Boxed::create("idle", &cpu(512, 1));
    assert_eq!(boxed.read("cpu", "cpu.idle"), "1");
    boxed.cgroups.update(&cpu(600, 0)).unwrap();
    assert_eq!((boxed.read("cpu", "cpu.idle"), boxed.read("cpu", "cpu.shares")), ("0".into(), "600".into()));
}

/// With its new period and its old quota the cgroup would have more than the one above; with its new quota it does not.
#[test]
fn a_period_waits_for_its_quota() {
    if !is_root_on_v1() {
        return;
    }
    let cpu = |quota: i64, period: u64| resources(json!({"cpu": {"quota": quota, "period": period}}));
    let boxed = Boxed::create("period", &cpu(50_000, 100_000));
    let above = boxed.cgroups.paths()["cpu"].parent().unwrap().to_owned();
    fs::write(above.join("cpu.cfs_quota_us"), "50000").unwrap();
    boxed.cgroups.update(&cpu(20_000, 50_000)).unwrap();
    assert_eq!(boxed.read("cpu", "cpu.cfs_quota_us"), "20000");
    assert_eq!(boxed.read("cpu", "cpu.cfs_period_us"), "50000");
}

/// Both are fields of `runc events --stats` that podman and containerd read.
#[test]
fn stats_tell_what_is_used() {
    if !is_root_on_v1() {
        return;
    }
    let mut boxed = Boxed::create("stats", &resources(json!({"memory": {"limit": 67108864}, "pids": {"limit": 7}})));
    boxed.start(&["sh", "-c", "sleep 100; :"]);
    wait_for("the shell has no child", || boxed.cgroups.processes().unwrap().len() == 2);
    let stats = serde_json::to_value(boxed.cgroups.stats().unwrap()).unwrap();
    assert_eq!(stats["pids"], json!({"current": 2, "limit": 7}));
    assert_eq!(stats["memory"]["usage"]["limit"], 67108864);
    assert!(stats["memory"]["usage"]["usage"].as_u64().unwrap() > 10_000, "{stats}");
    assert!(stats["cpu"]["usage"]["total"].as_u64().unwrap() > 10_000, "{stats}");
    assert!(stats["cpuset"]["cpus"].as_array().unwrap().contains(&json!(0)));
    assert_eq!(stats["network_interfaces"], json!(null));
}

/// Something that is mounted where a cgroup should be is not written to.
#[test]
fn a_folder_that_is_no_cgroup_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = super::super::folder::Folder::open(
        folder.path(),
        super::super::folder::Version::V1,
        super::super::folder::Check::Kernel,
    );
    assert!(matches!(error, Err(CgroupError::NotCgroup { .. })));
}
