//! Docker's default profile, as its releases of 2025 have it: what a container may ask the kernel for.
//!
//! Whatever is not named is answered with `EPERM`. Some calls come with a capability, for without it they are of no use
//! or a danger; `clone` and `socket` are looked at more closely.

use oci_spec::runtime::{Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder};
use oci_spec::runtime::{LinuxSeccompOperator, LinuxSyscall};

use super::architecture::native;

/// The profile for this machine and a process with these capabilities (those of its bounding set).
pub fn default_profile(capabilities: impl Fn(Capability) -> bool) -> LinuxSeccomp {
    profile_for(native().unwrap_or(Arch::ScmpArchNative), traces_safely(), capabilities)
}

/// `traces`: the kernel is 4.8 or newer, before which a tracer could get its tracee past the filter.
pub(super) fn profile_for(native: Arch, traces: bool, capabilities: impl Fn(Capability) -> bool) -> LinuxSeccomp {
    let mut syscalls = vec![allow(ALWAYS)];
    if traces {
        syscalls.push(allow(TRACING));
    }
    syscalls.extend(families());
    syscalls.extend(PERSONALITIES.map(|value| allow_if("personality", 0, LinuxSeccompOperator::ScmpCmpEq, value)));
    syscalls.extend(of_architecture(native).map(allow));
    syscalls.extend(BY_CAPABILITY.iter().filter(|(one, _)| capabilities(*one)).map(|(_, names)| allow(names)));
    if !capabilities(Capability::SysAdmin) {
        // The flags are in memory for `clone3`, where no filter can look: libraries are made to use `clone`.
        let flags = if matches!(native, Arch::ScmpArchS390 | Arch::ScmpArchS390x) { 1 } else { 0 };
        syscalls.push(allow_if("clone", flags, LinuxSeccompOperator::ScmpCmpMaskedEq, NEW_NAMESPACES));
        let mut unknown = rule("clone3", LinuxSeccompAction::ScmpActErrno);
        unknown.set_errno_ret(Some(libc::ENOSYS as u32));
        syscalls.push(unknown);
    }
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(LinuxSeccompAction::ScmpActErrno);
    profile.set_default_errno_ret(Some(libc::EPERM as u32));
    profile.set_architectures(Some(family(native)));
    profile.set_syscalls(Some(syscalls));
    profile
}

/// Those whose programs run on such a machine as well.
fn family(native: Arch) -> Vec<Arch> {
    let others: &[Arch] = match native {
        Arch::ScmpArchX86_64 => &[Arch::ScmpArchX86, Arch::ScmpArchX32],
        Arch::ScmpArchAarch64 => &[Arch::ScmpArchArm],
        Arch::ScmpArchMips64 => &[Arch::ScmpArchMips, Arch::ScmpArchMips64n32],
        Arch::ScmpArchMips64n32 => &[Arch::ScmpArchMips, Arch::ScmpArchMips64],
        Arch::ScmpArchMipsel64 => &[Arch::ScmpArchMipsel, Arch::ScmpArchMipsel64n32],
        Arch::ScmpArchMipsel64n32 => &[Arch::ScmpArchMipsel, Arch::ScmpArchMipsel64],
        Arch::ScmpArchS390x => &[Arch::ScmpArchS390],
        _ => &[],
    };
    [&[native], others].concat()
}

fn of_architecture(native: Arch) -> Option<&'static str> {
    Some(match native {
        Arch::ScmpArchX86_64 | Arch::ScmpArchX32 => "arch_prctl modify_ldt",
        Arch::ScmpArchX86 => "modify_ldt",
        Arch::ScmpArchArm | Arch::ScmpArchAarch64 => {
            "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2"
        }
        Arch::ScmpArchPpc64le => "swapcontext sync_file_range2",
        Arch::ScmpArchS390 | Arch::ScmpArchS390x => "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
        Arch::ScmpArchRiscv64 => "riscv_flush_icache",
        _ => return None,
    })
}

/// `socket` by address family: all of the first twelve, of the others those that are in use inside of containers. Not
/// AF_VSOCK (40), which reaches the host past the container's network, and not AF_ALG (38) and old protocols.
fn families() -> impl Iterator<Item = LinuxSyscall> {
    let first = allow_if("socket", 0, LinuxSeccompOperator::ScmpCmpLt, 12);
    let others = FAMILIES.map(|family| allow_if("socket", 0, LinuxSeccompOperator::ScmpCmpEq, family));
    std::iter::once(first).chain(others)
}

fn rule(names: &str, action: LinuxSeccompAction) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.split(' ').map(str::to_owned).collect());
    rule.set_action(action);
    rule
}

fn allow(names: &str) -> LinuxSyscall {
    rule(names, LinuxSeccompAction::ScmpActAllow)
}

fn allow_if(name: &str, index: usize, operator: LinuxSeccompOperator, value: u64) -> LinuxSyscall {
    let argument = LinuxSeccompArgBuilder::default().index(index).op(operator).value(value).build();
    // All fields are given, so it cannot fail; if it ever does, nothing is allowed rather than everything.
    let Ok(argument) = argument else { return LinuxSyscall::default() };
    let mut rule = allow(name);
    rule.set_args(Some(vec![argument]));
    rule
}

fn traces_safely() -> bool {
    let kernel = rustix::system::uname();
    let release = kernel.release().to_string_lossy();
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0u32), numbers.next().unwrap_or(0u32)) >= (4, 8)
}

/// CLONE_NEW… of linux/sched.h: cgroup, IPC, mounts, network, PID, user, UTS.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// linux/personality.h: PER_LINUX, PER_LINUX32, each with UNAME26, and the question which one it is.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// linux/socket.h.
const FAMILIES: [u64; 25] =
    [13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44, 45];

const TRACING: &str = "process_vm_readv process_vm_writev ptrace";

const BY_CAPABILITY: [(Capability, &str); 14] = [
    (Capability::DacReadSearch, "open_by_handle_at"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (Capability::SysModule, "delete_module finit_module init_module"),
    (Capability::SysPacct, "acct"),
    (Capability::SysPtrace, "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    (Capability::SysRawio, "ioperm iopl"),
    (Capability::SysTime, "clock_settime clock_settime64 settimeofday stime"),
    (Capability::SysTtyConfig, "vhangup"),
    (Capability::SysNice, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (Capability::Syslog, "syslog"),
    (Capability::Bpf, "bpf"),
    (Capability::Perfmon, "perf_event_open"),
];

const ALWAYS: &str = "\
    _llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown \
    chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 \
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd \
    eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark \
    fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock \
    fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex \
    futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu \
    getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer \
    getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 \
    getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat \
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents \
    io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule \
    landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr \
    listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier \
    memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect \
    mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 \
    mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep \
    newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect \
    poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 \
    pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 \
    recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir \
    rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity \
    sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 \
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop \
    semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area \
    set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid \
    setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid \
    setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 \
    sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat \
    sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime \
    timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime \
    timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime \
    utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev";
