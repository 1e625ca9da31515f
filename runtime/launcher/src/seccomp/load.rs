//! Gives a filter to the kernel (seccomp(2)).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag as Flag};

use super::program::Instruction;

// linux/seccomp.h
const SET_MODE_FILTER: libc::c_ulong = 1;
const TSYNC: u32 = 1;
const LOG: u32 = 1 << 1;
const SPEC_ALLOW: u32 = 1 << 2;
const NEW_LISTENER: u32 = 1 << 3;
const TSYNC_ESRCH: u32 = 1 << 4;
const WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// A program for the kernel's filter machine, and how it is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub(super) program: Vec<Instruction>,
    pub(super) flags: u32,
}

/// The flags that a profile asks for. One that says nothing of flags gets SPEC_ALLOW, as with runc: the slow mitigation
/// that it leaves out is the kernel's own default no more since Linux 5.16.
pub(super) fn flags(profile: &LinuxSeccomp) -> u32 {
    let Some(flags) = profile.flags() else { return SPEC_ALLOW };
    flags.iter().fold(0, |flags, flag| {
        flags
            | match flag {
                Flag::SeccompFilterFlagTsync => TSYNC,
                Flag::SeccompFilterFlagLog => LOG,
                Flag::SeccompFilterFlagSpecAllow => SPEC_ALLOW,
                Flag::SeccompFilterFlagWaitKillableRecv => WAIT_KILLABLE_RECV,
            }
    })
}

impl Filter {
    pub(super) fn new(program: Vec<Instruction>, flags: u32, notifies: bool) -> Self {
        let flags = match (notifies, flags & TSYNC != 0) {
            // Both at once need errors to be told from descriptors.
            (true, true) => flags | NEW_LISTENER | TSYNC_ESRCH,
            (true, false) => flags | NEW_LISTENER,
            // Nobody is ever asked, and the kernel refuses the flag then.
            (false, _) => flags & !WAIT_KILLABLE_RECV,
        };
        Self { program, flags }
    }

    /// Whether somebody is asked about some system calls: then [`Filter::load`] returns the descriptor for that.
    pub fn notifies(&self) -> bool {
        self.flags & NEW_LISTENER != 0
    }

    /// How many instructions the program has; the kernel takes 4096.
    pub fn instructions(&self) -> usize {
        self.program.len()
    }

    /// Filters the system calls of this thread from now on (of all threads with SECCOMP_FILTER_FLAG_TSYNC), and of
    /// what it starts. Nothing is allocated. With no_new_privs set anyone may, else who has CAP_SYS_ADMIN.
    ///
    /// # Errors
    /// What seccomp(2) says; EBUSY if somebody is to be asked already or another thread cannot follow.
    #[allow(unsafe_code)]
    pub fn load(&self) -> io::Result<Option<OwnedFd>> {
        let length = libc::c_ushort::try_from(self.program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // The kernel only reads what the pointer leads to; the C type knows no constant pointers.
        let program =
            libc::sock_fprog { len: length, filter: self.program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
        // SAFETY: `Instruction` has the layout of `sock_filter`, the pointer leads to `len` of them, and they live
        // until the call has ended; the kernel checks what they say.
        let result = unsafe {
            libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, libc::c_ulong::from(self.flags), &raw const program)
        };
        match i32::try_from(result) {
            Ok(0) if !self.notifies() => Ok(None),
            // SAFETY: the kernel has just made this descriptor for us.
            Ok(file) if file >= 0 && self.notifies() => Ok(Some(unsafe { OwnedFd::from_raw_fd(file) })),
            // The number of a thread that could not follow.
            Ok(thread) if thread > 0 => Err(io::ErrorKind::ResourceBusy.into()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
