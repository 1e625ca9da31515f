//! Lines that move: redraws the board in place on a terminal of any size.

use std::time::Instant;

use super::board::{Board, Line};
use crate::table::cut;

/// What stands on the terminal now.
#[derive(Debug, Default)]
pub struct Live {
    /// Lines that were drawn and will be drawn over.
    drawn: usize,
}

impl Live {
    /// What to write so that the terminal shows the board: width and height as given. The last frame shows every
    /// layer and leaves the cursor below.
    pub fn frame(&mut self, board: &Board, (width, height): (usize, usize), now: Instant, is_last: bool) -> String {
        let mut out = String::new();
        if self.drawn > 0 {
            // Up to the first line that was drawn, then everything below it goes.
            out.push_str(&format!("\x1b[{}A\r", self.drawn));
        }
        // A line of exactly the terminal's width would wrap on some.
        let width = width.saturating_sub(1).max(1);
        let lines: Vec<String> = if is_last {
            board.lines().iter().map(|line| board.render(line, width)).collect()
        } else {
            moving(board, width, height.saturating_sub(1).max(1), now)
        };
        for line in &lines {
            out.push_str(line);
            out.push_str("\x1b[K\n");
        }
        out.push_str("\x1b[J");
        self.drawn = if is_last { 0 } else { lines.len() };
        if lines.is_empty() && out == "\x1b[J" { String::new() } else { out }
    }
}

/// As many lines as there is room for, the total the last of them: finished layers make room first, then those that
/// wait.
fn moving(board: &Board, width: usize, room: usize, now: Instant) -> Vec<String> {
    if board.lines().is_empty() {
        return Vec::new();
    }
    let total = cut(&board.total(now).to_string(), width);
    let room = room.saturating_sub(1);
    let all: Vec<&Line> = board.lines().iter().collect();
    let shown: Vec<&Line> = match all.len() <= room {
        true => all,
        false => {
            let is_busy = |line: &&&Line| !line.is_finished() && line.last_step().is_some();
            all.iter().filter(is_busy).take(room).copied().collect()
        }
    };
    shown.into_iter().map(|line| board.render(line, width)).chain([total]).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::board::Direction;
    use super::*;
    use cove_oci::{Algorithm, Descriptor, Digest, media_type};
    use cove_transfer::Step;

    /// A terminal that knows the three sequences in use.
    fn screen(frames: &[String]) -> Vec<String> {
        let mut lines: Vec<String> = vec![String::new()];
        let mut row = 0;
        for frame in frames {
            let mut rest = frame.as_str();
            while let Some(c) = rest.chars().next() {
                if let Some(sequence) = rest.strip_prefix("\x1b[") {
                    let end = sequence.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                    match &sequence[end..=end] {
                        "A" => row -= sequence[..end].parse::<usize>().unwrap(),
                        "J" => lines.truncate(row + 1),
                        _ => {}
                    }
                    rest = &sequence[end + 1..];
                    continue;
                }
                match c {
                    '\n' => {
                        row += 1;
                        if row == lines.len() {
                            lines.push(String::new());
                        }
                        lines[row].clear();
                    }
                    '\r' => lines[row].clear(),
                    c => lines[row].push(c),
                }
                rest = &rest[c.len_utf8()..];
            }
        }
        lines.retain(|line| !line.is_empty());
        lines
    }

    fn board(count: usize) -> (Board, Vec<Descriptor>) {
        let layers: Vec<Descriptor> = (0..count)
            .map(|n| {
                let digest = Digest::of(Algorithm::Sha256, n.to_string().as_bytes());
                Descriptor::new(media_type::OCI_LAYER_GZIP, digest, 1000)
            })
            .collect();
        let mut board = Board::new(Direction::Pull);
        for layer in &layers {
            board.add(&layer.digest, &layer.digest, layer.size);
        }
        (board, layers)
    }

    #[test]
    fn lines_are_drawn_over_and_end_as_dockers_do() {
        let (mut board, layers) = board(2);
        let mut live = Live::default();
        let now = Instant::now();
        let first = live.frame(&board, (80, 24), now, false);
        board.step(&layers[0], Step::Transferring { done: 500, total: 1000 });
        let second = live.frame(&board, (80, 24), now, false);
        let shown = screen(&[first.clone(), second.clone()]);
        assert_eq!(shown.len(), 3, "{shown:?}");
        assert!(shown[0].contains("Downloading [") && shown[2].starts_with("Total: 0/2"), "{shown:?}");
        board.step(&layers[0], Step::Done);
        board.step(&layers[1], Step::Existed);
        let last = live.frame(&board, (80, 24), now, true);
        let shown = screen(&[first, second, last]);
        assert_eq!(shown.len(), 2, "{shown:?}");
        assert!(shown[0].ends_with(": Pull complete") && shown[1].ends_with(": Already exists"), "{shown:?}");
    }

    #[test]
    fn a_small_terminal_shows_what_moves() {
        let (mut board, layers) = board(40);
        for layer in &layers[..30] {
            board.step(layer, Step::Done);
        }
        board.step(&layers[35], Step::Transferring { done: 1, total: 1000 });
        let mut live = Live::default();
        let frame = live.frame(&board, (40, 10), Instant::now(), false);
        let shown = screen(&[frame]);
        assert!(shown.len() < 10 && shown.iter().all(|line| line.chars().count() < 40), "{shown:?}");
        assert!(shown[0].contains("Downloading"), "{shown:?}");
    }
}
