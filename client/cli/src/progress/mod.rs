//! Progress of pulls and pushes: lines that move on a terminal, plain lines elsewhere, JSON for programs.
//!
//! Results go to stdout, so that scripts which read docker's lines find them there: what became of each layer
//! (`Pull complete`, `Already exists`, `Pushed`, …). What is only of the moment goes to stderr: the moving lines of a
//! terminal, the total every few seconds, retries.

mod board;
mod live;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cove_oci::{Descriptor, Digest, Manifest};
use cove_transfer::{Progress, Step};
use serde_json::json;

use crate::arguments::ProgressStyle;
use crate::printer::Printer;

use board::{Board, Line};
pub use board::{Direction, short};
use live::Live;

/// How often moving lines move.
const FRAME: Duration = Duration::from_millis(100);
/// How often plain lines tell the total.
const PLAIN_TOTAL: Duration = Duration::from_secs(5);

/// How often programs are told the total.
const JSON_TOTAL: Duration = Duration::from_secs(1);

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Nothing,
    /// What became of each layer, and now and then the total.
    Lines,
    /// JSON, a line each.
    Json,
    /// Moving lines on stderr; what became of each layer on stdout too, if that is not the same terminal.
    Moving {
        and_lines: bool,
    },
}

/// Shows the progress of one copy until it is finished or dropped.
pub struct Reporter {
    shared: Arc<Shared>,
    ticker: Option<JoinHandle<()>>,
}

struct Shared {
    printer: Arc<Printer>,
    shown: Shown,
    state: Mutex<State>,
    stopped: Condvar,
}

struct State {
    board: Board,
    live: Live,
    /// A line of results that stands above the layers, until it is printed.
    heading: Option<String>,
    is_stopped: bool,
}

impl Reporter {
    /// Starts to show.
    pub fn start(printer: Arc<Printer>, style: ProgressStyle, quiet: bool, direction: Direction) -> Self {
        let terminals = printer.terminals();
        let shown = match style {
            _ if quiet => Shown::Nothing,
            ProgressStyle::None => Shown::Nothing,
            ProgressStyle::Json => Shown::Json,
            ProgressStyle::Auto if printer.error_size().is_some() => Shown::Moving { and_lines: !terminals.out },
            ProgressStyle::Auto | ProgressStyle::Plain => Shown::Lines,
        };
        let state = State { board: Board::new(direction), live: Live::default(), heading: None, is_stopped: false };
        let shared = Arc::new(Shared { printer, shown, state: Mutex::new(state), stopped: Condvar::new() });
        let ticking = Arc::clone(&shared);
        let ticker = match shown {
            Shown::Nothing => None,
            // Without a thread there is no moving progress, which is no reason to fail.
            Shown::Lines | Shown::Json | Shown::Moving { .. } => {
                std::thread::Builder::new().name("progress".to_owned()).spawn(move || ticking.tick()).ok()
            }
        };
        Reporter { shared, ticker }
    }

    /// Prints this above the layers, once it is known that there is anything to copy.
    pub fn head(&self, text: String) {
        self.shared.lock().heading = Some(text);
    }

    /// Prints the heading now, if it was not printed yet.
    pub fn print_heading(&self) {
        self.shared.print_heading(&mut self.shared.lock());
    }

    /// Adds a layer known by `key` and shown as `shown`, if it is not known yet.
    pub fn add(&self, key: &Digest, shown: &Digest, size: u64) {
        let mut state = self.shared.lock();
        let direction = state.board.direction();
        if let Some(line) = state.board.add(key, shown, size)
            && direction == Direction::Push
        {
            self.shared.tell_status(line, &line.status(direction));
        }
    }

    /// Makes a layer known by another digest too.
    pub fn also_known_as(&self, key: &Digest, other: &Digest) {
        self.shared.lock().board.also_known_as(key, other);
    }

    /// The same progress for those who keep it: what they tell after the end is not shown.
    pub fn shared(&self) -> Arc<dyn Progress> {
        Arc::clone(&self.shared) as Arc<dyn Progress>
    }

    /// Ends the display: the terminal is left with what became of each layer.
    pub fn finish(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        self.shared.lock().is_stopped = true;
        self.shared.stopped.notify_all();
        if let Some(ticker) = self.ticker.take() {
            let _ = ticker.join();
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn print_heading(&self, state: &mut State) {
        if let Some(heading) = state.heading.take() {
            let _ = self.printer.line(heading);
        }
    }

    fn tick(&self) {
        let moves = matches!(self.shown, Shown::Moving { .. });
        let pause = match self.shown {
            Shown::Moving { .. } => FRAME,
            Shown::Json => JSON_TOTAL,
            Shown::Nothing | Shown::Lines => PLAIN_TOTAL,
        };
        let mut state = self.lock();
        loop {
            let (next, _) = self.stopped.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner);
            state = next;
            let State { board, live, is_stopped, .. } = &mut *state;
            match self.printer.error_size().filter(|_| moves) {
                Some(size) => self.printer.raw(&live.frame(board, size, Instant::now(), *is_stopped)),
                None if *is_stopped => {}
                None => {
                    let total = board.total(Instant::now());
                    if total.layers > 0 && total.finished < total.layers {
                        self.printer.note(match self.shown {
                            Shown::Json => total.json().to_string(),
                            Shown::Nothing | Shown::Lines | Shown::Moving { .. } => total.to_string(),
                        });
                    }
                }
            }
            if state.is_stopped {
                return;
            }
        }
    }

    /// Tells that a layer got into another state.
    fn tell(&self, line: &Line, direction: Direction) {
        for status in line.passed() {
            self.tell_status(line, status);
        }
        let text = || format!("{}: {}", line.id, line.status(direction));
        match self.shown {
            Shown::Lines | Shown::Moving { and_lines: true } if line.is_finished() => {
                // A reader that is gone is found out when the command prints its result.
                let _ = self.printer.line(text());
            }
            Shown::Lines => {
                if let Some(Step::Retrying { reason, .. }) = line.last_step() {
                    self.printer.note(format!("{}: {reason}", text()));
                }
            }
            Shown::Nothing | Shown::Json | Shown::Moving { .. } => {}
        }
    }

    /// What docker prints where stdout is no terminal: each status of a layer that is no progress.
    fn tell_status(&self, line: &Line, status: &str) {
        if matches!(self.shown, Shown::Lines | Shown::Moving { and_lines: true }) {
            let _ = self.printer.line(format!("{}: {status}", line.id));
        }
    }

    fn tell_json(&self, line: &Line, direction: Direction) {
        let mut message = json!({ "id": line.id, "status": line.status(direction) });
        match line.last_step() {
            Some(
                Step::Transferring { done, total }
                | Step::Unpacking { done, total }
                | Step::Compressing { done, total },
            ) => message["progressDetail"] = json!({ "current": done, "total": total }),
            Some(Step::Retrying { reason, .. }) => message["reason"] = json!(reason),
            _ => {}
        }
        self.printer.note(message.to_string());
    }
}

impl Progress for Shared {
    fn image(&self, manifest: &Manifest) {
        let mut state = self.lock();
        self.print_heading(&mut state);
        for layer in manifest.layers() {
            state.board.add(&layer.digest, &layer.digest, layer.size);
        }
    }

    fn step(&self, blob: &Descriptor, step: Step) {
        let mut state = self.lock();
        let direction = state.board.direction();
        let Some(line) = state.board.step(blob, step) else { return };
        match self.shown {
            Shown::Json => self.tell_json(line, direction),
            Shown::Nothing | Shown::Lines | Shown::Moving { .. } => self.tell(line, direction),
        }
    }
}

impl Progress for Reporter {
    fn image(&self, manifest: &Manifest) {
        self.shared.image(manifest);
    }

    fn step(&self, blob: &Descriptor, step: Step) {
        self.shared.step(blob, step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::Heard;
    use cove_oci::{Algorithm, media_type};

    fn told(style: ProgressStyle, quiet: bool, direction: Direction) -> (String, String) {
        let (out, error) = (Heard::default(), Heard::default());
        let printer = Arc::new(Printer::to(Box::new(out.clone()), Box::new(error.clone())));
        let reporter = Reporter::start(printer, style, quiet, direction);
        let layers = ["a", "b"].map(|name| {
            Descriptor::new(media_type::OCI_LAYER_GZIP, Digest::of(Algorithm::Sha256, name.as_bytes()), 1000)
        });
        for layer in &layers {
            reporter.add(&layer.digest, &layer.digest, layer.size);
        }
        let retrying = Step::Retrying { after: Duration::from_secs(2), reason: "connection reset".to_owned() };
        for step in
            [Step::Waiting, Step::Transferring { done: 1, total: 1000 }, retrying, Step::Transferred, Step::Done]
        {
            reporter.step(&layers[0], step);
        }
        reporter.step(&layers[1], Step::Existed);
        reporter.finish();
        (out.text(), error.text())
    }

    const A: &str = "ca978112ca1b";
    const B: &str = "3e23e8160039";

    #[test]
    fn scripts_find_dockers_lines_on_stdout() {
        let (out, error) = told(ProgressStyle::Auto, false, Direction::Pull);
        let lines = ["Pulling fs layer", "Waiting", "Verifying Checksum", "Download complete", "Pull complete"];
        let of_a: String = lines.map(|status| format!("{A}: {status}\n")).concat();
        assert_eq!(out, format!("{of_a}{B}: Already exists\n"));
        assert_eq!(error, format!("{A}: Retrying in 2 seconds: connection reset\n"));
        let (out, _) = told(ProgressStyle::Plain, false, Direction::Push);
        assert_eq!(out, format!("{A}: Preparing\n{B}: Preparing\n{A}: Pushed\n{B}: Layer already exists\n"));
    }

    #[test]
    fn nothing_is_told_where_nothing_is_wanted() {
        assert_eq!(told(ProgressStyle::None, false, Direction::Pull), (String::new(), String::new()));
        assert_eq!(told(ProgressStyle::Auto, true, Direction::Pull), (String::new(), String::new()));
    }

    #[test]
    fn programs_read_json() {
        let (out, error) = told(ProgressStyle::Json, false, Direction::Pull);
        assert_eq!(out, "");
        let lines: Vec<serde_json::Value> = error.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert_eq!(lines.len(), 6);
        assert_eq!(lines[1]["progressDetail"]["total"], 1000);
        assert_eq!(lines[5]["status"], "Already exists");
    }
}
