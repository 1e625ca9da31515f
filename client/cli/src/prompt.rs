//! Questions on a terminal. Whatever ends one, the terminal is left as it was.

use std::io;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::context::Context;
use crate::error::Error;

/// Asks for a line.
pub fn line(context: &Context, question: &str) -> Result<String, Error> {
    context.printer.text(question)?;
    read(context)
}

/// Asks for a line that is not shown.
pub fn password(context: &Context, question: &str) -> Result<String, Error> {
    context.printer.text(question)?;
    let silence = Silence::begin()?;
    let answer = read(context);
    drop(silence);
    // The Enter that ended it was not shown either.
    context.printer.text("\n")?;
    answer
}

/// A line from stdin, without its end. Read on another thread, for signals must be able to end the wait: they would
/// otherwise end the process while the terminal shows nothing that is typed, or nobody would hear of them at all.
fn read(context: &Context) -> Result<String, Error> {
    let read = || {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|_| line)
    };
    let line = context.network(async { Ok(tokio::task::spawn_blocking(read).await.map_err(io::Error::from)??) })?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// While it lives, the terminal does not show what is typed.
struct Silence {
    before: Termios,
}

impl Silence {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Now, &silent)?;
        Ok(Silence { before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
