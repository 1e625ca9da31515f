//! Stays with a container's process until it ends: what comes to us goes to it, and its end is ours.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, WaitOptions};

use crate::relay::Relay;
use crate::{Error, signals, syscalls};

/// `struct signalfd_siginfo` of linux/signalfd.h begins with the number.
const SIGNAL_SIZE: usize = 128;

/// Signals that come to this process, held back until they are read. Made before the container's process is, so that none
/// is lost.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Holds all back from now on.
    pub fn hold() -> Result<Self, Error> {
        syscalls::signals_as_file().map(Self).map_err(Error::system("hold back signals"))
    }

    /// The number of the next one; waits for it.
    ///
    /// # Errors
    /// None that this process could cause.
    pub fn next(&self) -> io::Result<i32> {
        let mut file = std::fs::File::from(self.0.try_clone()?);
        let mut event = [0; SIGNAL_SIZE];
        file.read_exact(&mut event)?;
        Ok(i32::from_ne_bytes([event[0], event[1], event[2], event[3]]))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until a child has ended; its exit status as a shell knows it (128 + number of the signal that has killed it).
pub fn attend(
    pid: Pid,
    process: BorrowedFd<'_>,
    signals: &Signals,
    mut relay: Option<&mut Relay>,
) -> Result<u8, Error> {
    loop {
        let [signal, end, output, input] = wait(process, signals, relay.as_deref())?;
        if signal {
            let number = signals.next().map_err(Error::system("read a signal"))?;
            match &relay {
                Some(relay) if number == libc::SIGWINCH => relay.resize(),
                _ => pass_on(number, process),
            }
        }
        if let Some(relay) = relay.as_deref_mut() {
            if output {
                relay.output();
            }
            if input {
                relay.input();
            }
        }
        if end {
            // What it has printed last.
            if let Some(relay) = relay {
                relay.rest();
            }
            return status(pid);
        }
    }
}

/// Waits for a signal, the end, output and input; which of them there are.
fn wait(process: BorrowedFd<'_>, signals: &Signals, relay: Option<&Relay>) -> Result<[bool; 4], Error> {
    let (output, input) = relay.map_or((None, None), Relay::files);
    let all = [Some(signals.0.as_fd()), Some(process), output, input];
    let mut files: Vec<PollFd<'_>> =
        all.into_iter().flatten().map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN)).collect();
    loop {
        match rustix::event::poll(&mut files, None) {
            Err(rustix::io::Errno::INTR) => {}
            polled => {
                polled.map_err(Error::system("wait for the container's process"))?;
                break;
            }
        }
    }
    let mut ready = files.iter().map(|file| !file.revents().is_empty());
    Ok(all.map(|file| file.is_some() && ready.next().unwrap_or(false)))
}

fn pass_on(number: i32, process: BorrowedFd<'_>) {
    let own = [libc::SIGCHLD, libc::SIGPIPE, libc::SIGURG];
    if let Some(signal) = signals::numbered(number).filter(|_| !own.contains(&number)) {
        // Who has ended already needs no signal.
        let _ = rustix::process::pidfd_send_signal(process, signal);
    }
}

fn status(pid: Pid) -> Result<u8, Error> {
    let waited = rustix::process::waitpid(Some(pid), WaitOptions::empty());
    let status = waited.map_err(Error::system("wait for the container's process"))?;
    let code = status.and_then(|(_, status)| {
        status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))
    });
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255))
}
