//! The pipe that tells when what a container is made of is there: a monitor calls `create` early, so that reading and
//! sealing this program takes its time beside the monitor.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Waits for the word to go on; `false`: there will be none. `number` is a descriptor that was opened for us.
pub(crate) fn opens(number: RawFd) -> io::Result<bool> {
    if number <= 2 {
        return Err(io::Error::other("a gate is none of the standard streams"));
    }
    // SAFETY: whoever calls this program has left it open for this; nothing in here knows it otherwise.
    let mut gate = File::from(unsafe { OwnedFd::from_raw_fd(number) });
    let mut word = [0];
    Ok(gate.read(&mut word)? > 0)
}
