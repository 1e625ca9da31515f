//! The least that a start can be: new namespaces, the mounts of the bundle, pivot_root, execve, and the end awaited.
//! No cgroup, no capability, no filter, no masked path, no state, no `config.json`.
//!
//!     bench-launcher-limit MOUNTS ROOTFS PROGRAM ARGUMENTS…
//!
//! MOUNTS is what `bundle.rs` writes.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used)]

use std::ffi::{CString, c_char};
use std::os::unix::ffi::OsStringExt;
use std::ptr;

/// A call of mount(2).
struct Mount {
    source: CString,
    target: CString,
    kind: CString,
    flags: u64,
    data: CString,
}

fn main() {
    let words: Vec<_> = std::env::args_os().skip(1).map(|word| CString::new(word.into_vec()).unwrap()).collect();
    let [list, rootfs, program @ ..] = &words[..] else { panic!("MOUNTS ROOTFS PROGRAM ARGUMENTS…") };
    let list = std::fs::read_to_string(list.to_str().expect("UTF-8")).expect("the list of mounts");
    let mounts: Vec<_> = list.lines().map(|line| mount_of(line, rootfs.to_str().expect("UTF-8"))).collect();
    let mut arguments: Vec<_> = program.iter().map(|word| word.as_ptr()).collect();
    arguments.push(ptr::null());

    let flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    // SAFETY: all zeroes is a value of this structure of numbers.
    let mut clone: libc::clone_args = unsafe { std::mem::zeroed() };
    clone.flags = flags as u64;
    clone.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM this is fork(2), and there is one thread: the child may go on with its copy.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw mut clone, size_of::<libc::clone_args>()) } {
        -1 => panic!("clone3: {}", std::io::Error::last_os_error()),
        0 => become_container(&mounts, rootfs, &arguments),
        child => std::process::exit(code_of(child as i32)),
    }
}

fn mount_of(line: &str, rootfs: &str) -> Mount {
    let fields: Vec<_> = line.split('\t').collect();
    let [source, target, kind, flags, data] = fields[..] else { panic!("not a mount: {line}") };
    let text = |text: &str| CString::new(text).expect("no zero byte");
    let target = text(&format!("{rootfs}{target}"));
    Mount { source: text(source), target, kind: text(kind), flags: flags.parse().expect("flags"), data: text(data) }
}

/// In the child; does not return.
fn become_container(mounts: &[Mount], rootfs: &CString, arguments: &[*const c_char]) -> ! {
    // SAFETY: all pointers are to strings that end in a zero byte and outlive the calls; the list of arguments ends in
    // a null pointer.
    unsafe {
        let none = ptr::null();
        check("private", libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, ptr::null()));
        let root = rootfs.as_ptr();
        check("bind", libc::mount(root, root, none, libc::MS_BIND | libc::MS_REC, ptr::null()));
        for Mount { source, target, kind, flags, data } in mounts {
            if flags & libc::MS_REMOUNT == 0 {
                // That it is there already is all right; that it is not shows in the next call.
                libc::mkdir(target.as_ptr(), 0o755);
            }
            let data = data.as_ptr().cast();
            check(
                &target.to_string_lossy(),
                libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), *flags, data),
            );
        }
        check("chdir", libc::chdir(root));
        check("pivot_root", libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) as i32);
        check("umount", libc::umount2(c".".as_ptr(), libc::MNT_DETACH));
        check("chdir", libc::chdir(c"/".as_ptr()));
        libc::execve(arguments[0], arguments.as_ptr(), [ptr::null()].as_ptr());
    }
    panic!("execve: {}", std::io::Error::last_os_error());
}

fn check(step: &str, result: i32) {
    assert!(result == 0, "{step}: {}", std::io::Error::last_os_error());
}

fn code_of(child: i32) -> i32 {
    let mut status = 0;
    // SAFETY: the pointer is to a variable that outlives the call.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) }
}
