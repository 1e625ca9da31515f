//! The terminal of whoever calls `cove`.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Standard input as a terminal that passes every key on; put back as it was when this goes.
#[derive(Debug)]
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// Passes keys on from now on. `None` if standard input is no terminal.
    pub fn enter() -> io::Result<Option<Self>> {
        let stdin = rustix::stdio::stdin();
        if !rustix::termios::isatty(stdin) {
            return Ok(None);
        }
        let before = tcgetattr(stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Rows and columns of a terminal, if it is one that says so.
pub fn size(terminal: BorrowedFd<'_>) -> Option<(u16, u16)> {
    let size = tcgetwinsize(terminal).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}
