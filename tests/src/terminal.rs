//! A terminal with somebody in front of it: a program runs on it, keys are pressed, and what it shows is read.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::Cmd;

/// A pseudo terminal, and the program that has it as its controlling terminal.
pub struct Terminal {
    keys: File,
    /// The program's side: while somebody has it open, its settings stay.
    theirs: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
    child: Child,
    line: String,
}

/// How long anything may take to appear.
const PATIENCE: Duration = Duration::from_secs(30);

impl Terminal {
    /// Runs a command line on a terminal of so many columns and 24 rows.
    pub fn run(command: &Cmd, columns: u16) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("unlock the terminal");
        let name = ptsname(&ours, Vec::new()).expect("the terminal's name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let theirs = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).expect("open the terminal");
        tcsetwinsize(&theirs, Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).expect("its size");
        let stream = |terminal: &OwnedFd| Stdio::from(terminal.try_clone().expect("another handle"));
        // A session of its own, with the terminal as its controlling one: that is what Ctrl-C goes by.
        let mut started = command.clone().env("TERM", "xterm").wrapped("setsid", &["--ctty"]).command();
        started.stdin(stream(&theirs)).stdout(stream(&theirs)).stderr(stream(&theirs));
        let child = started.spawn().unwrap_or_else(|error| panic!("cannot start `{command}`: {error}"));
        drop(started);

        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut screen, showing) = (File::from(ours.try_clone().expect("another handle")), Arc::clone(&shown));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Reading fails once nobody has the other side any more.
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                lock(&showing).extend_from_slice(&buffer[..count]);
            }
        });
        Self { keys: File::from(ours), theirs, shown, child, line: command.to_string() }
    }

    /// Presses keys: `\r` is Enter, `\x03` Ctrl-C, `\t` the tabulator.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("press keys");
    }

    /// The window has another size now.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.keys, size).expect("its size");
    }

    /// Everything that was shown so far, escape sequences included.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&lock(&self.shown)).into_owned()
    }

    /// Waits until something was shown, and gives everything up to now.
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_until(&format!("`{text}` is shown"), |shown| shown.contains(text))
    }

    /// Waits until what was shown is as wished.
    pub fn wait_until(&self, what: &str, mut is_so: impl FnMut(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let shown = self.shown();
            if is_so(&shown) {
                return shown;
            }
            assert!(start.elapsed() < PATIENCE, "`{}`: waited in vain until {what}; shown: {shown:?}", self.line);
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until nothing new was shown for a moment.
    pub fn wait_until_quiet(&self) {
        let (start, mut length, mut since) = (Instant::now(), usize::MAX, Instant::now());
        while start.elapsed() < PATIENCE && since.elapsed() < Duration::from_millis(400) {
            let now = lock(&self.shown).len();
            if now != length {
                (length, since) = (now, Instant::now());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether the terminal shows what is typed.
    pub fn echoes(&self) -> bool {
        tcgetattr(self.theirs.as_fd()).expect("the terminal's settings").local_modes.contains(LocalModes::ECHO)
    }

    /// Waits for the program's end.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("wait for a child") {
                // What it wrote last may still be on its way.
                self.wait_until_quiet();
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "`{}` does not end; shown: {:?}", self.line, self.shown());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The program's process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a terminal of so many columns shows after this text.
#[derive(Debug, Default)]
pub struct Screen {
    /// The lines, those that have scrolled away included.
    pub lines: Vec<String>,
    /// How often a line was longer than the terminal is wide.
    pub wrapped: usize,
    /// Sequences that are not understood here.
    pub unknown: Vec<String>,
    /// Whether the cursor can be seen.
    pub cursor: bool,
    /// Whether text is in a colour or otherwise not plain.
    pub is_plain: bool,
    /// The cursor's column.
    pub column: usize,
}

impl Screen {
    /// Reads it.
    pub fn of(text: &str, columns: usize) -> Self {
        let mut screen = Screen { lines: vec![String::new()], cursor: true, is_plain: true, ..Screen::default() };
        let (mut row, mut column) = (0, 0);
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if let Some(sequence) = rest.strip_prefix("\x1b[") {
                let end = sequence.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(sequence.len() - 1);
                let (argument, command) = (&sequence[..end], &sequence[end..=end]);
                match (argument, command) {
                    (count, "A") => row -= count.parse::<usize>().unwrap_or(1).min(row),
                    ("", "K") => screen.lines[row] = screen.lines[row].chars().take(column).collect(),
                    ("", "J") => {
                        screen.lines.truncate(row + 1);
                        screen.lines[row] = screen.lines[row].chars().take(column).collect();
                    }
                    ("?25", "l") => screen.cursor = false,
                    ("?25", "h") => screen.cursor = true,
                    (attributes, "m") => screen.is_plain = matches!(attributes, "" | "0"),
                    _ => screen.unknown.push(format!("{argument}{command}")),
                }
                rest = &sequence[end + 1..];
                continue;
            }
            rest = &rest[c.len_utf8()..];
            match c {
                '\r' => column = 0,
                '\n' => row += 1,
                c => {
                    if column == columns {
                        (row, column, screen.wrapped) = (row + 1, 0, screen.wrapped + 1);
                    }
                    screen.lines.resize(screen.lines.len().max(row + 1), String::new());
                    let mut line: Vec<char> = screen.lines[row].chars().collect();
                    line.resize(line.len().max(column + 1), ' ');
                    line[column] = c;
                    screen.lines[row] = line.into_iter().collect();
                    column += 1;
                }
            }
            screen.lines.resize(screen.lines.len().max(row + 1), String::new());
        }
        screen.column = column;
        screen
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
