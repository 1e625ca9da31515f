//! A compiled profile, and its way into the kernel (seccomp(2)).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use oci_spec::runtime::LinuxSeccompFilterFlag;
use serde::Serialize;

use super::program::Instruction;

const SET_MODE_FILTER: libc::c_ulong = 1;

/// SECCOMP_FILTER_FLAG_…, linux/seccomp.h.
const TSYNC: u32 = 1;
const LOG: u32 = 1 << 1;
const SPEC_ALLOW: u32 = 1 << 2;
const NEW_LISTENER: u32 = 1 << 3;
const TSYNC_ESRCH: u32 = 1 << 4;
const WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// A program for the kernel and how it is to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub(super) program: Vec<Instruction>,
    pub(super) flags: u32,
}

impl Filter {
    pub(super) fn new(program: Vec<Instruction>, wanted: &[LinuxSeccompFilterFlag], notifies: bool) -> Self {
        let mut flags = wanted.iter().fold(0, |all, flag| all | bit(*flag));
        if notifies {
            flags |= NEW_LISTENER;
            if flags & TSYNC != 0 {
                // Both want the return value: which thread could not follow is not told then, only that one could not.
                flags |= TSYNC_ESRCH;
            }
        } else {
            // It says how whoever answers is waited for, and the kernel refuses it where nobody answers.
            flags &= !WAIT_KILLABLE_RECV;
        }
        Self { program, flags }
    }

    /// Whether any rule has the action NOTIFY: `load` then gives a descriptor, and somebody must answer at it.
    pub fn notifies(&self) -> bool {
        self.flags & NEW_LISTENER != 0
    }

    /// How many instructions the kernel gets, 4096 at most.
    pub fn instructions(&self) -> usize {
        self.program.len()
    }

    /// Confines the calling thread, and with it what it becomes and starts. It needs CAP_SYS_ADMIN or no_new_privs.
    /// The descriptor is where notifications come from (seccomp_unotify(2)), if the profile has any; it closes on exec.
    ///
    /// # Errors
    /// The kernel's: EACCES without those rights, EINVAL for a flag that it does not know, EBUSY if there is a listener
    /// already.
    pub fn load(&self) -> io::Result<Option<OwnedFd>> {
        // Not more than 4096: `assemble` and the cache see to it.
        let length = self.program.len() as libc::c_ushort;
        let program =
            libc::sock_fprog { len: length, filter: self.program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
        let flags = libc::c_ulong::from(self.flags);
        // SAFETY: the program is as many `struct sock_filter` as `len` says, which `Instruction` has the layout of; the
        // kernel only reads them, and checks them before it takes them.
        let result = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const program) };
        match result {
            -1 => Err(io::Error::last_os_error()),
            descriptor if self.notifies() => {
                let descriptor = i32::try_from(descriptor).map_err(|_| io::ErrorKind::InvalidData)?;
                // SAFETY: with NEW_LISTENER the kernel returns a descriptor that it has just made for us.
                Ok(Some(unsafe { OwnedFd::from_raw_fd(descriptor) }))
            }
            0 => Ok(None),
            thread => Err(io::Error::other(format!("thread {thread} has a filter of its own"))),
        }
    }
}

fn bit(flag: LinuxSeccompFilterFlag) -> u32 {
    match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => TSYNC,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => SPEC_ALLOW,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => WAIT_KILLABLE_RECV,
    }
}

/// `linux.seccomp` of the `features` command (runtime-spec, features-linux.md).
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    /// Filters can be loaded at all.
    pub enabled: bool,
    /// Actions of rules.
    pub actions: &'static [&'static str],
    /// Compares of arguments.
    pub operators: &'static [&'static str],
    /// Architectures of which the system calls are known.
    pub archs: &'static [&'static str],
    /// Flags that profiles may have.
    pub known_flags: &'static [&'static str],
    /// Those of them that this kernel takes.
    pub supported_flags: Vec<&'static str>,
}

/// What this compiler knows, and which flags the kernel does.
pub fn features() -> Features {
    let known = FLAGS.iter().filter(|(_, bit)| kernel_knows(*bit)).map(|(name, _)| *name);
    Features {
        enabled: super::architecture::native().is_some(),
        actions: &ACTIONS,
        operators: &OPERATORS,
        archs: &ARCHITECTURES,
        known_flags: &FLAG_NAMES,
        supported_flags: known.collect(),
    }
}

/// The kernel looks at the flags first: a known one fails because there is no program, an unknown one because of itself.
fn kernel_knows(flag: u32) -> bool {
    let listener = if flag == WAIT_KILLABLE_RECV { NEW_LISTENER } else { 0 };
    let flags = libc::c_ulong::from(flag | listener);
    let nothing = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: the kernel reads no memory but through the pointer, which is null: it answers EFAULT.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, nothing) };
    result == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

const FLAG_NAMES: [&str; 4] = [FLAGS[0].0, FLAGS[1].0, FLAGS[2].0, FLAGS[3].0];
const FLAGS: [(&str, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_LOG", LOG),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_TSYNC", TSYNC),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", WAIT_KILLABLE_RECV),
];
const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];
const OPERATORS: [&str; 7] =
    ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"];
const ARCHITECTURES: [&str; 20] = [
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];
