//! The only place that writes to stdout and stderr: results to the one, everything else to the other.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;

use rustix::termios::tcgetwinsize;

/// Writes what commands have to say. Writers can be replaced, so that tests read what would be printed.
pub struct Printer {
    out: Mutex<Box<dyn Write + Send>>,
    error: Mutex<Box<dyn Write + Send>>,
    terminals: Terminals,
}

/// Which of the streams are terminals, and how wide.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terminals {
    /// Whether stdin is one, so that questions can be asked.
    pub input: bool,
    /// Whether stdout is one.
    pub out: bool,
    /// Whether stderr is one.
    pub error: bool,
}

impl Printer {
    /// Writes to the process's own streams.
    pub fn standard() -> Self {
        let terminals = Terminals {
            input: io::stdin().is_terminal(),
            out: io::stdout().is_terminal(),
            error: io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
        };
        Printer { out: Mutex::new(Box::new(io::stdout())), error: Mutex::new(Box::new(io::stderr())), terminals }
    }

    /// Writes results to stderr as well: for a command that is part of another one.
    pub fn beside() -> Self {
        let standard = Self::standard();
        let terminals = Terminals { out: standard.terminals.error, ..standard.terminals };
        Printer { out: Mutex::new(Box::new(io::stderr())), terminals, ..standard }
    }

    /// Writes to these, which are no terminals.
    #[cfg(test)]
    pub fn to(out: Box<dyn Write + Send>, error: Box<dyn Write + Send>) -> Self {
        Printer { out: Mutex::new(out), error: Mutex::new(error), terminals: Terminals::default() }
    }

    /// Which streams are terminals.
    pub fn terminals(&self) -> Terminals {
        self.terminals
    }

    /// Width of stdout in characters, where it is a terminal.
    pub fn width(&self) -> Option<usize> {
        let size = tcgetwinsize(io::stdout()).ok().filter(|_| self.terminals.out)?;
        (size.ws_col > 0).then_some(size.ws_col.into())
    }

    /// Width and height of stderr, where it is a terminal.
    pub fn error_size(&self) -> Option<(usize, usize)> {
        let size = tcgetwinsize(io::stderr()).ok().filter(|_| self.terminals.error)?;
        (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col.into(), size.ws_row.into()))
    }

    /// Prints a line of results.
    pub fn line(&self, text: impl AsRef<str>) -> io::Result<()> {
        self.text(&format!("{}\n", text.as_ref()))
    }

    /// Prints results: as they are for programs, tamed for a terminal.
    pub fn text(&self, text: &str) -> io::Result<()> {
        match self.terminals.out {
            true => write(&self.out, tame(text).as_bytes()),
            false => write(&self.out, text.as_bytes()),
        }
    }

    /// Prints bytes as they are.
    pub fn bytes(&self, bytes: &[u8]) -> io::Result<()> {
        write(&self.out, bytes)
    }

    /// Says something beside the results. Nobody reads it if that fails.
    pub fn note(&self, text: impl AsRef<str>) {
        let _ = write(&self.error, format!("{}\n", tame(text.as_ref())).as_bytes());
    }

    /// Writes to stderr as it is: questions and moving lines.
    pub fn raw(&self, text: &str) {
        let _ = write(&self.error, text.as_bytes());
    }
}

/// Text of registries and images without what would command a terminal: of the control characters (C0, DEL, C1) only
/// line breaks and tabs stay.
pub fn tame(text: &str) -> Cow<'_, str> {
    let commands = |character: char| character.is_control() && !matches!(character, '\n' | '\t');
    match text.contains(commands) {
        true => Cow::Owned(text.replace(commands, "\u{fffd}")),
        false => Cow::Borrowed(text),
    }
}

fn write(stream: &Mutex<Box<dyn Write + Send>>, bytes: &[u8]) -> io::Result<()> {
    let mut stream = stream.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    stream.write_all(bytes)?;
    stream.flush()
}

/// A stream whose text tests can read.
#[cfg(test)]
#[derive(Clone, Default)]
pub struct Heard(std::sync::Arc<Mutex<Vec<u8>>>);

#[cfg(test)]
impl Heard {
    /// What was written so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)).into_owned()
    }
}

#[cfg(test)]
impl Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_elses_text_commands_the_terminal() {
        let (out, error) = (Heard::default(), Heard::default());
        let mut printer = Printer::to(Box::new(out.clone()), Box::new(error.clone()));
        let text = "a\x1b]0;title\x07\u{9b}31m\x7f\r\tb";
        printer.note(text);
        let _ = printer.line(text);
        assert_eq!(error.text(), "a\u{fffd}]0;title\u{fffd}\u{fffd}31m\u{fffd}\u{fffd}\tb\n");
        assert_eq!(out.text(), format!("{text}\n"), "programs get what there is");
        printer.terminals.out = true;
        let _ = printer.line(text);
        assert!(out.text().ends_with(&error.text()), "{:?}", out.text());
    }
}
