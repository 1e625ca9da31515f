//! A command that is attached to a container: what is typed goes in, what the container says comes out.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use cove_container::protocol::{Attach, Connection, MAX_CONTENT, Message};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use super::detach_keys::{DetachKeys, Typed};
use super::terminal::{Raw, size};
use crate::error::Error;

/// Signals that `--sig-proxy` does not pass on: those that mean this process, and those that the kernel sends to it.
const OWN_SIGNALS: [i32; 6] =
    [libc::SIGCHLD, libc::SIGPIPE, libc::SIGURG, libc::SIGWINCH, libc::SIGKILL, libc::SIGSTOP];

/// Signals that can be passed on. Faults are left out: they would be this program's own.
const PASSED_ON: [i32; 16] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGIO,
    libc::SIGPROF,
    libc::SIGVTALRM,
    libc::SIGXCPU,
    libc::SIGXFSZ,
];

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The container has ended with this status.
    Ended(i32),
    /// The user has left it running.
    Detached,
    /// It could not be started.
    Refused {
        /// Why.
        text: String,
        /// The exit status of a `run` that fails so.
        code: u8,
    },
    /// The monitor has gone without a word.
    Lost,
}

/// An attached command.
#[derive(Debug)]
pub struct Session {
    /// What it is attached to.
    pub attach: Attach,
    /// Whether the container has a terminal: then keys are passed on as they are.
    pub terminal: bool,
    /// Signals that come to this process go to the container's.
    pub sig_proxy: bool,
    /// What leaves the container running.
    pub detach_keys: DetachKeys,
    /// Leaves as soon as the container runs.
    pub detached: bool,
}

impl Session {
    /// What to ask the monitor for: with the size of the window if there is one.
    pub fn wanted(attach: Attach, terminal: bool) -> Attach {
        Attach { size: if terminal { size(rustix::stdio::stdout()) } else { None }, ..attach }
    }

    /// Stays attached until the container ends or the user leaves. `on_start` is called when the container runs.
    pub fn run(mut self, connection: &Connection, mut on_start: impl FnMut()) -> Result<Outcome, Error> {
        let raw = if self.terminal && self.attach.stdin { Raw::enter().map_err(Error::Io)? } else { None };
        let mut signals = self.signals().map_err(Error::Io)?;
        let mut stdin_is_open = self.attach.stdin;
        let mut outgoing = Outgoing { connection, waiting: VecDeque::new() };
        let mut buffer = vec![0; MAX_CONTENT + 1];
        let outcome = loop {
            // What waits to be sent goes first; until then nothing more is read.
            let reads_stdin = stdin_is_open && outgoing.waiting.is_empty();
            let [heard, signalled, typed] = wait(&outgoing, signals.get_read(), reads_stdin).map_err(Error::Io)?;
            if signalled {
                signals.pending().filter_map(|number| self.signal(number)).for_each(|said| outgoing.say(said));
            }
            if typed {
                match rustix::io::read(rustix::stdio::stdin(), &mut buffer[..MAX_CONTENT]) {
                    Ok(length) if length > 0 => {
                        let typed = self.typed(&buffer[..length]);
                        if !typed.input.is_empty() {
                            outgoing.say(Said::Input(typed.input));
                        }
                        if typed.detached {
                            break Outcome::Detached;
                        }
                    }
                    Err(Errno::INTR | Errno::AGAIN) => {}
                    Ok(_) | Err(_) => {
                        stdin_is_open = false;
                        outgoing.say(Said::InputEnd);
                    }
                }
            }
            outgoing.flush();
            match if heard { hear(connection, &mut buffer)? } else { Heard::Nothing } {
                Heard::Nothing => {}
                Heard::Started => {
                    on_start();
                    if self.detached {
                        break Outcome::Detached;
                    }
                }
                Heard::Over(outcome) => break outcome,
            }
        };
        drop(raw);
        Ok(outcome)
    }

    /// Keys that leave the container are looked for where there is a terminal.
    fn typed(&mut self, bytes: &[u8]) -> Typed {
        if self.terminal { self.detach_keys.type_in(bytes) } else { Typed { input: bytes.to_vec(), detached: false } }
    }

    fn signals(&self) -> io::Result<SignalDelivery<UnixStream, SignalOnly>> {
        let (read, write) = UnixStream::pair()?;
        let mut wanted = vec![libc::SIGWINCH];
        if self.sig_proxy {
            wanted.extend(PASSED_ON.iter().filter(|number| !OWN_SIGNALS.contains(number)));
        }
        SignalDelivery::with_pipe(read, write, SignalOnly, wanted)
    }

    fn signal(&self, number: i32) -> Option<Said> {
        if number == libc::SIGWINCH {
            let size = size(rustix::stdio::stdout()).filter(|_| self.terminal);
            size.map(|(rows, columns)| Said::Resize(rows, columns))
        } else {
            Some(Said::Signal(number))
        }
    }
}

/// What this side has to say.
enum Said {
    Input(Vec<u8>),
    InputEnd,
    Resize(u16, u16),
    Signal(i32),
}

/// What waits until the monitor takes it. This side never waits for that without reading: both would wait for each other.
struct Outgoing<'a> {
    connection: &'a Connection,
    waiting: VecDeque<Said>,
}

impl Outgoing<'_> {
    fn say(&mut self, said: Said) {
        self.waiting.push_back(said);
    }

    fn flush(&mut self) {
        while let Some(said) = self.waiting.front() {
            let message = match said {
                Said::Input(bytes) => Message::Input(bytes),
                Said::InputEnd => Message::InputEnd,
                Said::Resize(rows, columns) => Message::Resize(*rows, *columns),
                Said::Signal(number) => Message::Signal(*number),
            };
            // That the monitor is gone is seen when it is read from.
            if let Ok(false) = self.connection.try_send(&message) {
                return;
            }
            self.waiting.pop_front();
        }
    }
}

/// What a message means for the session.
enum Heard {
    Nothing,
    Started,
    Over(Outcome),
}

fn hear(connection: &Connection, buffer: &mut [u8]) -> Result<Heard, Error> {
    let message = match connection.try_receive(buffer) {
        Ok(Some(message)) => message,
        Ok(None) => return Ok(Heard::Over(Outcome::Lost)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Heard::Nothing),
        Err(error) => return Err(cove_container::Error::Monitor(error).into()),
    };
    let written = match message {
        Message::Output(bytes) => write_all(&mut io::stdout().lock(), bytes),
        Message::ErrorOutput(bytes) => write_all(&mut io::stderr().lock(), bytes),
        Message::Warning(text) => write_all(&mut io::stderr().lock(), format!("WARNING: {text}\n").as_bytes()),
        Message::Ended(ended) => return Ok(Heard::Over(Outcome::Ended(ended.code))),
        Message::Started => return Ok(Heard::Started),
        // The container has gone before our signal.
        Message::Refused(refusal) if refusal.code == 1 => Ok(()),
        Message::Refused(refusal) => {
            return Ok(Heard::Over(Outcome::Refused { text: refusal.text, code: refusal.code }));
        }
        _ => Ok(()),
    };
    // As docker: who does not want to read any more does not end the container.
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Io(error)),
        _ => Ok(Heard::Nothing),
    }
}

fn write_all(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

/// Waits for a message, a signal or input; which of them there are.
fn wait(outgoing: &Outgoing<'_>, signals: &UnixStream, input: bool) -> io::Result<[bool; 3]> {
    let mut wanted = PollFlags::IN;
    wanted.set(PollFlags::OUT, !outgoing.waiting.is_empty());
    let mut files = vec![
        PollFd::from_borrowed_fd(outgoing.connection.as_fd(), wanted),
        PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
    ];
    if input {
        files.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
    }
    match poll(&mut files, None) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let ready = |index: usize| files.get(index).is_some_and(|file| !file.revents().is_empty());
    Ok([ready(0), ready(1), ready(2)])
}
