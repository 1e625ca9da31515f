//! What is known of each layer while it travels, and the words for it: those of docker.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use cove_oci::{Descriptor, Digest};
use cove_transfer::Step;

use crate::table::cut;
use crate::units::human_size;

/// Which way layers travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From a registry, and unpacked.
    Pull,
    /// To a registry, compressed first where they are not.
    Push,
}

/// One layer.
#[derive(Debug, Clone)]
pub struct Line {
    /// Twelve hexadecimal digits: of the blob in a pull, of the DiffID in a push.
    pub id: String,
    size: u64,
    done: u64,
    /// Bytes that an earlier attempt had brought: they say nothing about the rate.
    resumed: u64,
    step: Option<Step>,
    /// Docker's words for what the last step has passed.
    passed: Vec<&'static str>,
    has_begun: bool,
    has_arrived: bool,
}

/// All layers of one copy.
#[derive(Debug)]
pub struct Board {
    direction: Direction,
    lines: Vec<Line>,
    places: HashMap<Digest, usize>,
    started: Instant,
}

/// Twelve hexadecimal digits of a digest.
pub fn short(digest: &Digest) -> String {
    digest.hex().chars().take(12).collect()
}

impl Board {
    /// A board without layers.
    pub fn new(direction: Direction) -> Self {
        Board { direction, lines: Vec::new(), places: HashMap::new(), started: Instant::now() }
    }

    /// Adds a layer, known by `key`, once; gives the new line. `shown` is the digest that people know it by.
    pub fn add(&mut self, key: &Digest, shown: &Digest, size: u64) -> Option<&Line> {
        if self.places.contains_key(key) {
            return None;
        }
        self.places.insert(key.clone(), self.lines.len());
        let (has_begun, has_arrived) = (false, false);
        self.lines.push(Line {
            id: short(shown),
            size,
            done: 0,
            resumed: 0,
            step: None,
            passed: Vec::new(),
            has_begun,
            has_arrived,
        });
        self.lines.last()
    }

    /// Makes a layer known by another digest too: that of its blob, once it is compressed.
    pub fn also_known_as(&mut self, key: &Digest, other: &Digest) {
        if let Some(place) = self.places.get(key) {
            self.places.insert(other.clone(), *place);
        }
    }

    /// Notes what happened to a blob. Gives the line of a layer that got into another state; nothing for blobs that
    /// are no layers.
    pub fn step(&mut self, blob: &Descriptor, step: Step) -> Option<&Line> {
        let line = self.lines.get_mut(*self.places.get(&blob.digest)?)?;
        // What has arrived at a registry is done; here it is still to be unpacked.
        let step = match (self.direction, step) {
            (Direction::Push, Step::Transferred) => Step::Done,
            (_, step) => step,
        };
        // What existed, was mounted or is done stays that, when the copy says more about it.
        if line.is_finished() {
            return None;
        }
        match &step {
            Step::Transferring { done, total } => {
                line.done = *done;
                line.size = *total;
            }
            Step::Resumed(done) => {
                line.done = *done;
                line.resumed = *done;
            }
            Step::Existed | Step::Mounted(_) => line.size = 0,
            Step::Transferred => line.done = line.size,
            Step::Waiting | Step::Compressing { .. } | Step::Retrying { .. } | Step::Unpacking { .. } | Step::Done => {}
        }
        // Unpacking follows the download while it runs: people are told of the one and then of the other.
        let arriving = matches!(line.step, Some(Step::Transferring { .. } | Step::Resumed(_))) && line.done < line.size;
        if arriving && matches!(step, Step::Unpacking { .. }) {
            return None;
        }
        let is_new = line.step.as_ref().map(std::mem::discriminant) != Some(std::mem::discriminant(&step));
        if self.direction == Direction::Pull {
            line.pass(&step);
        }
        line.step = Some(step);
        is_new.then_some(line)
    }

    /// All layers, in the order in which they lie upon each other.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The total: bytes, rate and time left.
    pub fn total(&self, now: Instant) -> Total {
        let sum = |part: fn(&Line) -> u64| self.lines.iter().map(part).sum::<u64>();
        Total {
            layers: self.lines.len(),
            finished: self.lines.iter().filter(|line| line.is_finished()).count(),
            done: sum(|line| line.done.min(line.size)),
            size: sum(|line| line.size),
            moved: sum(|line| line.done.min(line.size).saturating_sub(line.resumed)),
            is_complete: !self.lines.iter().any(|line| matches!(line.step, None | Some(Step::Compressing { .. }))),
            elapsed: now.saturating_duration_since(self.started),
        }
    }

    /// A line as it stands on a terminal of this width.
    pub fn render(&self, line: &Line, width: usize) -> String {
        let status = line.status(self.direction);
        let text = match &line.step {
            Some(Step::Transferring { done, total })
            | Some(Step::Unpacking { done, total })
            | Some(Step::Compressing { done, total }) => {
                let numbers = format!("{}/{}", human_size(*done), human_size(*total));
                let taken = line.id.len() + status.len() + numbers.len() + 10;
                let bar = bar(*done, *total, width.saturating_sub(taken).min(50));
                format!("{}: {status} {bar}{numbers}", line.id)
            }
            _ => format!("{}: {status}", line.id),
        };
        cut(&text, width)
    }

    /// Which way the layers travel.
    pub fn direction(&self) -> Direction {
        self.direction
    }
}

fn bar(done: u64, total: u64, width: usize) -> String {
    if width < 10 || total == 0 {
        return String::new();
    }
    let filled = ((done.min(total) as f64 / total as f64) * (width - 1) as f64) as usize;
    format!("[{}>{}]  ", "=".repeat(filled), " ".repeat(width - 1 - filled))
}

impl Line {
    /// Whether nothing more will happen to the layer.
    pub fn is_finished(&self) -> bool {
        matches!(self.step, Some(Step::Existed | Step::Mounted(_) | Step::Done))
    }

    /// What docker says of a layer between two ends of it, also where here the one follows upon the other.
    fn pass(&mut self, step: &Step) {
        self.passed.clear();
        if matches!(step, Step::Existed | Step::Mounted(_)) {
            return;
        }
        if !std::mem::replace(&mut self.has_begun, true) {
            self.passed.push("Pulling fs layer");
        }
        if matches!(step, Step::Waiting) {
            self.passed.push("Waiting");
        }
        if matches!(step, Step::Transferred | Step::Done) && !std::mem::replace(&mut self.has_arrived, true) {
            self.passed.extend(["Verifying Checksum", "Download complete"]);
        }
    }

    /// Docker's words for what the layer passed with its last step.
    pub fn passed(&self) -> &[&'static str] {
        &self.passed
    }

    /// The last thing that happened to it.
    pub fn last_step(&self) -> Option<&Step> {
        self.step.as_ref()
    }

    /// What happens to the layer, in docker's words.
    pub fn status(&self, direction: Direction) -> String {
        let pulls = direction == Direction::Pull;
        match &self.step {
            None => if pulls { "Pulling fs layer" } else { "Preparing" }.to_owned(),
            Some(Step::Waiting) => "Waiting".to_owned(),
            Some(Step::Compressing { .. }) => "Compressing".to_owned(),
            Some(Step::Existed) => if pulls { "Already exists" } else { "Layer already exists" }.to_owned(),
            Some(Step::Mounted(repository)) => format!("Mounted from {repository}"),
            Some(Step::Resumed(done)) => format!("Resuming at {}", human_size(*done)),
            Some(Step::Transferring { .. }) => if pulls { "Downloading" } else { "Pushing" }.to_owned(),
            Some(Step::Retrying { after, .. }) => format!("Retrying in {} seconds", after.as_secs().max(1)),
            Some(Step::Transferred) => "Download complete".to_owned(),
            Some(Step::Unpacking { .. }) => "Extracting".to_owned(),
            Some(Step::Done) => if pulls { "Pull complete" } else { "Pushed" }.to_owned(),
        }
    }
}

/// The sum of all layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Total {
    /// Layers in all.
    pub layers: usize,
    /// Layers that are done.
    pub finished: usize,
    /// Bytes that are there.
    pub done: u64,
    /// Bytes in all, of those layers whose size is known.
    pub size: u64,
    moved: u64,
    /// Whether the size of every layer is known.
    pub is_complete: bool,
    elapsed: Duration,
}

impl Total {
    /// As programs read it.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "status": "Total", "layers": self.layers, "finished": self.finished, "bytesPerSecond": self.rate(),
            "secondsLeft": self.left().map(|left| left.as_secs()),
            "progressDetail": { "current": self.done, "total": self.size },
        })
    }

    /// Bytes a second, once there is something to tell.
    pub fn rate(&self) -> Option<u64> {
        let seconds = self.elapsed.as_secs_f64();
        (seconds > 0.2 && self.moved > 0).then(|| (self.moved as f64 / seconds) as u64)
    }

    /// How long it will take at this rate.
    pub fn left(&self) -> Option<Duration> {
        let rate = self.rate().filter(|rate| *rate > 0 && self.is_complete)?;
        let left = self.size.saturating_sub(self.done);
        (left > 0).then(|| Duration::from_secs(left.div_ceil(rate)))
    }
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Total: {}/{} layers", self.finished, self.layers)?;
        if self.size > 0 {
            let more = if self.is_complete { "" } else { "+" };
            write!(f, ", {}/{}{more}", human_size(self.done), human_size(self.size))?;
        }
        if let Some(rate) = self.rate() {
            write!(f, ", {}/s", human_size(rate))?;
        }
        match self.left().map(|left| left.as_secs()) {
            Some(seconds @ 0..60) => write!(f, ", {seconds}s left"),
            Some(seconds @ 60..3600) => write!(f, ", {}m{:02}s left", seconds / 60, seconds % 60),
            Some(seconds) => write!(f, ", {}h{:02}m left", seconds / 3600, seconds / 60 % 60),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use cove_oci::{Algorithm, media_type};

    fn layer(name: &str, size: u64) -> Descriptor {
        Descriptor::new(media_type::OCI_LAYER_GZIP, Digest::of(Algorithm::Sha256, name.as_bytes()), size)
    }

    fn board(layers: &[Descriptor]) -> Board {
        let mut board = Board::new(Direction::Pull);
        for layer in layers {
            board.add(&layer.digest, &layer.digest, layer.size);
        }
        board
    }

    #[test]
    fn a_layer_goes_through_dockers_states() {
        let layer = layer("a", 1000);
        let mut board = board(std::slice::from_ref(&layer));
        let id = short(&layer.digest);
        assert_eq!(board.render(&board.lines()[0], 80), format!("{id}: Pulling fs layer"));
        let downloading = |done| Step::Transferring { done, total: 1000 };
        assert!(board.step(&layer, downloading(100)).is_some());
        assert!(board.step(&layer, downloading(500)).is_none(), "only another state is news");
        let text = board.render(&board.lines()[0], 80);
        assert!(text.starts_with(&format!("{id}: Downloading [=====")) && text.ends_with("500B/1kB"), "{text}");
        assert!(board.render(&board.lines()[0], 30).chars().count() <= 30);
        let finished = board.step(&layer, Step::Done).unwrap();
        assert_eq!((finished.status(Direction::Pull).as_str(), finished.is_finished()), ("Pull complete", true));
        assert_eq!(finished.status(Direction::Push), "Pushed");
    }

    #[test]
    fn unpacking_is_told_when_all_has_arrived() {
        let layer = layer("a", 1000);
        let mut board = board(std::slice::from_ref(&layer));
        let unpacking = |done| Step::Unpacking { done, total: 1000 };
        board.step(&layer, Step::Transferring { done: 500, total: 1000 });
        assert!(board.step(&layer, unpacking(400)).is_none());
        assert_eq!(board.lines()[0].status(Direction::Pull), "Downloading");
        board.step(&layer, Step::Transferring { done: 1000, total: 1000 });
        board.step(&layer, Step::Transferred);
        assert!(board.step(&layer, unpacking(600)).is_some());
        assert_eq!(board.lines()[0].status(Direction::Pull), "Extracting");
    }

    #[test]
    fn a_pushed_layer_is_done_when_it_has_arrived() {
        let layer = layer("blob", 1000);
        let diff_id = Digest::of(Algorithm::Sha256, b"tar");
        let mut board = Board::new(Direction::Push);
        board.add(&diff_id, &diff_id, 5000);
        board.also_known_as(&diff_id, &layer.digest);
        let line = board.step(&layer, Step::Transferred).unwrap();
        assert_eq!((line.id.as_str(), line.status(Direction::Push).as_str()), (&diff_id.hex()[..12], "Pushed"));
        assert!(board.step(&layer, Step::Existed).is_none(), "the copy that follows finds what was just sent");
    }

    #[test]
    fn what_existed_stays_so() {
        let layer = layer("a", 1000);
        let mut board = board(std::slice::from_ref(&layer));
        board.step(&layer, Step::Existed);
        assert!(board.step(&layer, Step::Done).is_none());
        assert_eq!(board.lines()[0].status(Direction::Pull), "Already exists");
        assert!(board.step(&self::layer("config", 5), Step::Done).is_none(), "configurations have no line");
    }

    #[test]
    fn the_total_tells_bytes_rate_and_time_left() {
        let (one, two) = (layer("a", 60_000_000), layer("b", 40_000_000));
        let mut board = board(&[one.clone(), two.clone()]);
        board.step(&one, Step::Resumed(20_000_000));
        board.step(&one, Step::Transferring { done: 40_000_000, total: 60_000_000 });
        board.step(&two, Step::Waiting);
        let total = board.total(board.started + Duration::from_secs(2));
        assert_eq!(total.to_string(), "Total: 0/2 layers, 40MB/100MB, 10MB/s, 6s left");
        board.step(&one, Step::Done);
        board.step(&two, Step::Existed);
        let total = board.total(board.started + Duration::from_secs(2));
        assert!(total.to_string().starts_with("Total: 2/2 layers, 40MB/60MB") || total.done == total.size);
    }
}
