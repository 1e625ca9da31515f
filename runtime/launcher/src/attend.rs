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
    let mut status = None;
    loop {
        let ready = wait(process, signals, relay.as_deref(), status.is_none())?;
        if ready.signal {
            let number = signals.next().map_err(Error::system("read a signal"))?;
            match (&relay, status) {
                (Some(relay), _) if number == libc::SIGWINCH => relay.resize(),
                // Nobody but us is left, and who reads what it has printed last does not come.
                (_, Some(status)) if [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT, libc::SIGHUP].contains(&number) => {
                    return Ok(status);
                }
                _ => pass_on(number, process),
            }
        }
        if let Some(relay) = relay.as_deref_mut() {
            relay.turn(ready.master, ready.input, ready.output);
        }
        if ready.end {
            status = Some(status_of(pid)?);
        }
        // What it has printed last comes first.
        if let Some(status) = status
            && !relay.as_deref_mut().is_some_and(Relay::has_rest)
        {
            return Ok(status);
        }
    }
}

/// What there is.
struct Ready {
    signal: bool,
    end: bool,
    master: PollFlags,
    input: bool,
    output: bool,
}

/// Waits for a signal, the end (if that is still to come), or something to pass on.
fn wait(process: BorrowedFd<'_>, signals: &Signals, relay: Option<&Relay>, may_end: bool) -> Result<Ready, Error> {
    let wants = relay.map(Relay::wants);
    let (master, input, output) = wants.map_or((None, None, None), |wants| (wants.master, wants.input, wants.output));
    // What the container prints is asked for without waiting once it has ended.
    let master = master.filter(|(_, flags)| may_end && !flags.is_empty());
    let input = input.filter(|_| may_end);
    let all = [
        Some((signals.0.as_fd(), PollFlags::IN)),
        Some((process, PollFlags::IN)).filter(|_| may_end),
        master,
        input.map(|file| (file, PollFlags::IN)),
        output.map(|file| (file, PollFlags::OUT)),
    ];
    let mut files: Vec<PollFd<'_>> =
        all.into_iter().flatten().map(|(file, flags)| PollFd::from_borrowed_fd(file, flags)).collect();
    loop {
        match rustix::event::poll(&mut files, None) {
            Err(rustix::io::Errno::INTR) => {}
            polled => {
                polled.map_err(Error::system("wait for the container's process"))?;
                break;
            }
        }
    }
    let mut found = files.iter().map(PollFd::revents);
    let [signal, end, master, input, output] =
        all.map(|file| file.map_or(PollFlags::empty(), |_| found.next().unwrap_or(PollFlags::empty())));
    Ok(Ready {
        signal: !signal.is_empty(),
        end: !end.is_empty(),
        master,
        input: !input.is_empty(),
        output: !output.is_empty(),
    })
}

fn pass_on(number: i32, process: BorrowedFd<'_>) {
    let own = [libc::SIGCHLD, libc::SIGPIPE, libc::SIGURG];
    if let Some(signal) = signals::numbered(number).filter(|_| !own.contains(&number)) {
        // Who has ended already needs no signal.
        let _ = rustix::process::pidfd_send_signal(process, signal);
    }
}

fn status_of(pid: Pid) -> Result<u8, Error> {
    let waited = rustix::process::waitpid(Some(pid), WaitOptions::empty());
    let status = waited.map_err(Error::system("wait for the container's process"))?;
    let code = status.and_then(|(_, status)| {
        status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))
    });
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255))
}
