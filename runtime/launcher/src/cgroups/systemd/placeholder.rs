//! A process that does nothing but be there.

use std::io;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// A process that is there until this is dropped, or until the one that started it ends.
#[derive(Debug)]
pub(in crate::cgroups) struct Placeholder {
    process: Pid,
}

impl Placeholder {
    /// Starts it.
    #[allow(unsafe_code)]
    pub(in crate::cgroups) fn start() -> io::Result<Placeholder> {
        let parent = rustix::process::getpid();
        // SAFETY: the child makes system calls only, allocates nothing, takes no locks and never returns from here.
        match unsafe { libc::fork() } {
            0 => {
                // SAFETY: as above.
                unsafe {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    // The parent may have ended before that.
                    while libc::getppid() == parent.as_raw_nonzero().get() {
                        libc::pause();
                    }
                    libc::_exit(0)
                }
            }
            process => match Pid::from_raw(process) {
                Some(process) if process.as_raw_nonzero().get() > 0 => Ok(Placeholder { process }),
                _ => Err(io::Error::last_os_error()),
            },
        }
    }

    pub(in crate::cgroups) fn id(&self) -> u32 {
        self.process.as_raw_nonzero().get().cast_unsigned()
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        let _ = kill_process(self.process, Signal::KILL);
        let _ = rustix::io::retry_on_intr(|| waitpid(Some(self.process), WaitOptions::empty()));
    }
}
