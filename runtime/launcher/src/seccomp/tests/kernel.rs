//! The kernel's word: it takes the programs and does what they say. In a child each, for filters cannot be taken off.

use std::os::fd::AsRawFd;

use oci_spec::runtime::LinuxSeccomp;
use serde_json::json;

use super::profiles::DOCKER;
use crate::seccomp::{Filter, compile, features};

fn filter(profile: serde_json::Value) -> Filter {
    compile(&serde_json::from_value::<LinuxSeccomp>(profile).unwrap()).unwrap()
}

/// What the child that loads the filter and then does `check` ends with, as waitpid(2) tells. `check` must make system
/// calls only: the child of a process with threads.
fn ends(filter: &Filter, check: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child makes system calls and ends; nothing it does takes a lock or memory.
    unsafe {
        let child = libc::fork();
        assert!(child >= 0);
        if child == 0 {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            let loaded = filter.load();
            let code = if loaded.is_ok() { check() } else { 99 };
            libc::syscall(libc::SYS_exit_group, code);
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        status
    }
}

fn errno_of(number: libc::c_long, argument: u64) -> i32 {
    // SAFETY: only calls with harmless arguments are made here.
    match unsafe { libc::syscall(number, argument, 0, 0, 0, 0, 0) } {
        -1 => std::io::Error::last_os_error().raw_os_error().unwrap_or(-1),
        _ => 0,
    }
}

#[test]
fn docker_s_profile_is_enforced() {
    let filter = compile(&serde_json::from_str(DOCKER).unwrap()).unwrap();
    let status = ends(&filter, || {
        let expected = [
            (libc::SYS_getppid, 0, 0),
            (libc::SYS_keyctl, 0, libc::EPERM),
            (libc::SYS_clone3, 0, libc::ENOSYS),
            (libc::SYS_personality, 0xffff_ffff, 0),
            (libc::SYS_personality, 0x40000, libc::EPERM),
            (libc::SYS_unshare, 0x2000_0000, libc::EPERM),
            // CLONE_NEWUSER: stopped by the mask.
            (libc::SYS_clone, 0x1000_0000, libc::EPERM),
            // Newer than anything that the profile names.
            (449 + 150, 0, libc::ENOSYS),
        ];
        expected
            .iter()
            .position(|(call, argument, errno)| errno_of(*call, *argument) != *errno)
            .map_or(0, |at| at as i32 + 1)
    });
    assert!(libc::WIFEXITED(status), "{status:#x}");
    assert_eq!(libc::WEXITSTATUS(status), 0, "the case of this number, counted from 1");
}

#[test]
fn kill_and_trap_are_signals() {
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        let rule = json!({"names": ["getppid"], "action": action});
        let filter = filter(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}));
        let status = ends(&filter, || errno_of(libc::SYS_getppid, 0));
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSYS, "{action}: {status:#x}");
    }
}

#[test]
fn x32_calls_are_killed_unless_named() {
    let filter = filter(json!({"defaultAction": "SCMP_ACT_ALLOW"}));
    if cfg!(target_arch = "x86_64") {
        let status = ends(&filter, || errno_of(0x4000_0000 + libc::SYS_getppid, 0));
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSYS, "{status:#x}");
    }
}

#[test]
fn flags_are_known_to_the_kernel() {
    let features = features();
    assert!(features.enabled);
    for flag in &features.supported_flags {
        let filter = filter(json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": [flag]}));
        let status = ends(&filter, || 7);
        assert_eq!(libc::WEXITSTATUS(status), 7, "{flag}");
    }
    assert!(features.supported_flags.contains(&"SECCOMP_FILTER_FLAG_TSYNC"));
    assert!(features.supported_flags.contains(&"SECCOMP_FILTER_FLAG_LOG"));
}

#[test]
fn a_profile_with_notify_gives_a_descriptor() {
    let rule = json!({"names": ["getppid"], "action": "SCMP_ACT_NOTIFY"});
    let flags = ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"];
    let filter = filter(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule], "flags": flags}));
    assert!(filter.notifies());
    // SAFETY: as in `ends`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: system calls only.
        unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            let code = match filter.load() {
                Ok(Some(listener)) if libc::fcntl(listener.as_raw_fd(), libc::F_GETFD) == libc::FD_CLOEXEC => {
                    // Nobody listens any more: the call does not exist.
                    drop(listener);
                    errno_of(libc::SYS_getppid, 0)
                }
                _ => 98,
            };
            libc::syscall(libc::SYS_exit_group, code);
        }
    }
    let mut status = 0;
    // SAFETY: our own child.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(libc::WEXITSTATUS(status), libc::ENOSYS, "{status:#x}");
}
