//! On cgroup v2 as the kernel has it, in a mount namespace of our own: here most controllers are bound to version 1, but
//! joining, freezing, killing, devices and deleting need none.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;
use std::process::Command;
use std::{fs, io};

use rustix::fs::Uid;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::json;

use super::super::CgroupError;
use super::host::Boxed;
use super::resources;

const VARIABLE: &str = "COVE_TEST_IN_CGROUP2";

/// Runs the test of that name again where `/sys/fs/cgroup` is version 2; whether this is that run.
fn is_within(name: &str) -> bool {
    if std::env::var_os(VARIABLE).is_some() {
        return true;
    }
    if !rustix::process::geteuid().is_root() {
        return false;
    }
    let script = "mount -t cgroup2 none /sys/fs/cgroup && exec \"$0\" --exact --nocapture \"$1\"";
    let test = format!("cgroups::tests::host_v2::{name}");
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env(VARIABLE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    false
}

/// A child that begins in a cgroup, and then opens a device for reading if it is told to, or waits.
#[allow(unsafe_code)]
fn clone_into(folder: BorrowedFd<'_>, device: Option<&std::ffi::CStr>) -> Pid {
    let mut arguments = [0_u64; 11];
    // CLONE_INTO_CGROUP, which is too large for the type that the crate libc gives it.
    arguments[0] = 1 << 33;
    arguments[4] = libc::SIGCHLD as u64;
    arguments[10] = u64::try_from(folder.as_raw_fd()).unwrap();
    // SAFETY: without CLONE_VM it is a fork, and the child makes system calls only.
    let child = unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) };
    if child == 0 {
        // SAFETY: as above.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if let Some(device) = device {
                libc::_exit(i32::from(libc::open(device.as_ptr(), libc::O_RDONLY) < 0));
            }
            loop {
                libc::pause();
            }
        }
    }
    Pid::from_raw(i32::try_from(child).unwrap()).unwrap_or_else(|| panic!("clone3: {}", io::Error::last_os_error()))
}

fn end(process: Pid) {
    let _ = kill_process(process, Signal::KILL);
    waitpid(Some(process), WaitOptions::empty()).unwrap();
}

#[test]
fn a_child_begins_in_the_cgroup_or_walks_into_it() {
    if !is_within("a_child_begins_in_the_cgroup_or_walks_into_it") {
        return;
    }
    let mut boxed = Boxed::create("v2-enter", &resources(json!({})));
    assert!(boxed.cgroups.is_unified());
    let entrance = boxed.cgroups.entrance().unwrap();
    let cloned = clone_into(entrance.folder_v2().unwrap(), None);
    let walked = boxed.start(&["sleep", "100"]);
    let mut processes: Vec<i32> =
        boxed.cgroups.processes().unwrap().iter().map(|process| process.as_raw_nonzero().get()).collect();
    processes.sort_unstable();
    let mut expected = [cloned.as_raw_nonzero().get(), walked.cast_signed()];
    expected.sort_unstable();
    assert_eq!(processes, expected);
    assert!(matches!(boxed.cgroups.create(None), Err(CgroupError::NotEmpty { count: 2, .. })));
    assert_eq!(boxed.cgroups.kill(libc::SIGKILL).unwrap(), 2);
    end(cloned);
    boxed.reap();
}

/// A container that has shared out controllers lets nobody into its outermost cgroup.
#[test]
fn an_exec_goes_where_the_first_process_is() {
    if !is_within("an_exec_goes_where_the_first_process_is") {
        return;
    }
    let mut boxed = Boxed::create("v2-beside", &resources(json!({})));
    let folder = boxed.cgroups.paths()[""].clone();
    let process = boxed.start(&["sleep", "100"]);
    fs::create_dir(folder.join("init")).unwrap();
    fs::write(folder.join("init/cgroup.procs"), process.to_string()).unwrap();
    let offered = fs::read_to_string(folder.join("cgroup.controllers")).unwrap();
    let controller = offered.split_whitespace().next().unwrap();
    fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}")).unwrap();
    // Joining from here would move the whole test: so the refusal of the kernel is seen on a child.
    let pid = Pid::from_raw(process.cast_signed()).unwrap();
    let beside = boxed.cgroups.entrance_beside(pid).unwrap();
    let child = clone_into(beside.folder_v2().unwrap(), None);
    let text = fs::read_to_string(format!("/proc/{}/cgroup", child.as_raw_nonzero())).unwrap();
    assert!(text.lines().any(|line| line.starts_with("0::") && line.ends_with("/box/init")), "{text}");
    let below = boxed
        .cgroups
        .entrance_below(&[super::super::Below { controllers: Vec::new(), path: "/../init".into() }])
        .unwrap();
    end(clone_into(below.folder_v2().unwrap(), None));
    end(child);
    assert!(boxed.cgroups.entrance_beside(rustix::process::getpid()).is_err());
    boxed.cgroups.kill(libc::SIGKILL).unwrap();
    boxed.reap();
}

#[test]
fn frozen_processes_can_be_killed() {
    if !is_within("frozen_processes_can_be_killed") {
        return;
    }
    let mut boxed = Boxed::create("v2-freeze", &resources(json!({})));
    boxed.start(&["sh", "-c", "while :; do (sleep 100 &); sleep 0.01; done"]);
    fs::create_dir_all(boxed.cgroups.paths()[""].join("a/b")).unwrap();
    boxed.cgroups.freeze().unwrap();
    assert!(boxed.cgroups.is_frozen().unwrap());
    assert!(boxed.cgroups.kill(libc::SIGKILL).unwrap() > 0);
    boxed.reap();
    boxed.cgroups.thaw().unwrap();
    assert!(!boxed.cgroups.is_frozen().unwrap());
}

/// A container that may make cgroups can nest them deeper than there are descriptors.
#[test]
fn no_depth_of_cgroups_is_too_deep() {
    if !is_within("no_depth_of_cgroups_is_too_deep") {
        return;
    }
    let limit = rustix::process::Rlimit { current: Some(128), maximum: Some(128) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let mut boxed = Boxed::create("v2-deep", &resources(json!({})));
    let mut deepest = boxed.cgroups.paths()[""].clone();
    for level in 0..300 {
        deepest.push("d");
        fs::create_dir(&deepest).unwrap();
        if level % 50 == 0 {
            fs::create_dir(deepest.join("beside")).unwrap();
        }
    }
    let process = boxed.start(&["sleep", "100"]);
    fs::write(deepest.join("cgroup.procs"), process.to_string()).unwrap();
    assert_eq!(boxed.cgroups.processes().unwrap().len(), 1);
    assert!(boxed.cgroups.delete().unwrap_err().to_string().contains("device or resource busy"));
    assert_eq!(boxed.cgroups.kill(libc::SIGTERM).unwrap(), 1);
    boxed.reap();
    boxed.cgroups.delete().unwrap();
    assert!(boxed.left().iter().all(|path| !path.ends_with("box")));
}

/// The program for devices as the kernel runs it, and in the place of an earlier one.
#[test]
fn devices_that_are_not_allowed_cannot_be_opened() {
    if !is_within("devices_that_are_not_allowed_cannot_be_opened") {
        return;
    }
    let rule =
        |allow: bool| json!({"devices": [{"allow": allow, "type": "c", "major": 1, "minor": 11, "access": "r"}]});
    let boxed = Boxed::create("v2-devices", &resources(rule(false)));
    let opens = |device: &std::ffi::CStr| {
        let child = clone_into(boxed.cgroups.entrance().unwrap().folder_v2().unwrap(), Some(device));
        waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap().1.exit_status() == Some(0)
    };
    assert!(opens(c"/dev/null"));
    assert!(!opens(c"/dev/kmsg"));
    boxed.cgroups.update(&resources(rule(true))).unwrap();
    assert!(opens(c"/dev/null"));
    assert!(opens(c"/dev/kmsg"));
    boxed.cgroups.update(&resources(rule(false))).unwrap();
    assert!(!opens(c"/dev/kmsg"));
}

#[test]
fn a_failed_create_leaves_nothing() {
    if !is_within("a_failed_create_leaves_nothing") {
        return;
    }
    let boxed = Boxed::plan("v2-failed");
    let error = boxed.cgroups.create(Some(&resources(json!({"unified": {"cgroup.max.depth": "x"}})))).unwrap_err();
    assert!(error.to_string().contains("cgroup.max.depth: invalid argument"), "{error}");
    let error = boxed.cgroups.create(Some(&resources(json!({"memory": {"limit": 1 << 20}})))).unwrap_err();
    assert!(error.to_string().starts_with("cannot set memory limit: container could not join"), "{error}");
    assert_eq!(boxed.left(), Vec::<PathBuf>::new());
}

/// So that the container's root can make cgroups below it.
#[test]
fn a_cgroup_can_be_given_to_a_user() {
    use std::os::unix::fs::MetadataExt;
    if !is_within("a_cgroup_can_be_given_to_a_user") {
        return;
    }
    let boxed = Boxed::create("v2-owner", &resources(json!({})));
    boxed.cgroups.give_to(Uid::from_raw(4321)).unwrap();
    let folder = boxed.cgroups.paths()[""].clone();
    for (file, owner) in [(".", 4321), ("cgroup.procs", 4321), ("cgroup.subtree_control", 4321), ("cgroup.freeze", 0)] {
        assert_eq!(fs::metadata(folder.join(file)).unwrap().uid(), owner, "{file}");
    }
}
