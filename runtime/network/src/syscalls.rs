//! System calls that have no safe form in a library, each in a small function.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Leaves this thread's network namespace for a new one.
pub(crate) fn unshare_network() -> rustix::io::Result<()> {
    // SAFETY: only a network namespace is asked for: no descriptor table or memory is split.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
}

/// Reads a socket option of IPv4 (`SOL_IP`) into these bytes, which also say what is asked for. How many were written.
pub(crate) fn ip_option(socket: BorrowedFd<'_>, option: i32, bytes: &mut [u8]) -> io::Result<usize> {
    let mut length = libc::socklen_t::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the kernel writes at most `length` bytes, which is how many there are, and writes back how many it wrote.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_IP, option, bytes.as_mut_ptr().cast(), &raw mut length)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(usize::try_from(length).unwrap_or(0)) }
}
