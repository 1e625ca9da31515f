//! The log as `logs` reads it: from where it was asked to, and on and on with `--follow`.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::io::Errno;
use time::OffsetDateTime;

use super::files::{Part, Place};
use super::{LogError, Record, Stream};

const BLOCK: usize = 64 * 1024;

/// No record is longer, unless its attributes are enormous: a line beyond this is damage, and passed over.
const LONGEST: usize = 1024 * 1024;

/// How often an end without a descriptor is asked for.
const ASK: Duration = Duration::from_millis(250);

/// How much of the end of a log is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tail {
    /// Everything that is kept.
    #[default]
    All,
    /// So many records.
    Records(u64),
}

impl Tail {
    /// The value of `--tail`. As in docker, what is no number means everything.
    pub fn parse(text: &str) -> Self {
        text.parse().map_or(Self::All, Self::Records)
    }
}

/// What of a log is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Query {
    /// `--tail`
    pub tail: Tail,
    /// `--since`: nothing before.
    pub since: Option<OffsetDateTime>,
    /// `--until`: nothing after.
    pub until: Option<OffsetDateTime>,
}

/// How a reader that follows learns that nothing more will come.
pub enum End {
    /// A descriptor that becomes readable or hangs up: a pidfd of the monitor, a connection to it.
    Descriptor(OwnedFd),
    /// A question, asked when the log is closed and a few times a second; it must say yes only when everything is written.
    Asked(Box<dyn FnMut() -> bool + Send>),
    /// Never: the caller stops.
    Never,
}

/// Reads a log's records, the oldest first.
pub struct LogReader {
    place: Place,
    query: Query,
    /// Files that are still to be read, the oldest first. The first is the one that is being read.
    parts: VecDeque<Part>,
    /// Where in the first file the next line begins.
    offset: u64,
    /// What was read from there and not given out yet.
    buffer: Vec<u8>,
    used: usize,
    /// In a line that is too long to be a record.
    overlong: bool,
    /// Where to stop in the last file; `None` when following.
    stop: Option<u64>,
    follow: Option<Follow>,
    newest_generation: Option<u64>,
    gap: Option<NonZeroU64>,
}

struct Follow {
    inotify: OwnedFd,
    end: End,
    ended: bool,
}

impl LogReader {
    /// Reads what is in the log now.
    pub fn open(path: &Path, query: Query) -> Result<Self, LogError> {
        Self::new(path, query, None)
    }

    /// Reads what is in the log, then waits for more until the end.
    pub fn follow(path: &Path, query: Query, end: End) -> Result<Self, LogError> {
        Self::new(path, query, Some(end))
    }

    fn new(path: &Path, query: Query, end: Option<End>) -> Result<Self, LogError> {
        let failed = |source: io::Error| LogError::Io { path: path.to_owned(), source };
        let place = Place::of(path).map_err(failed)?;
        // Watched before it is looked at: nothing falls between.
        let follow = match end {
            None => None,
            Some(end) => Some(Follow { inotify: watch(&place).map_err(failed)?, end, ended: false }),
        };
        let parts: VecDeque<Part> = place.parts().map_err(failed)?.into();
        let newest_generation = parts.back().and_then(|part| part.generation);
        let stop = match (&follow, parts.back()) {
            (None, Some(last)) => Some(last.file.metadata().map_err(failed)?.len()),
            _ => None,
        };
        let mut reader = Self {
            place,
            query,
            parts,
            offset: 0,
            buffer: Vec::new(),
            used: 0,
            overlong: false,
            stop,
            follow,
            newest_generation,
            gap: None,
        };
        reader.skip_to_tail().map_err(failed)?;
        reader.skip_old_files().map_err(failed)?;
        Ok(reader)
    }

    /// Drops all but the last records, reading from the end.
    fn skip_to_tail(&mut self) -> io::Result<()> {
        let Tail::Records(mut wanted) = self.query.tail else { return Ok(()) };
        let mut block = vec![0_u8; BLOCK];
        for place in (0..self.parts.len()).rev() {
            let file = &self.parts[place].file;
            let mut end = match self.stop.filter(|_| place + 1 == self.parts.len()) {
                Some(stop) => stop,
                None => file.metadata()?.len(),
            };
            while end > 0 {
                let begin = end.saturating_sub(BLOCK as u64);
                let part = &mut block[..(end - begin) as usize];
                match file.read_exact_at(part, begin) {
                    Ok(()) => {}
                    // Cut meanwhile: a torn record was taken back.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        end = end.min(file.metadata()?.len());
                        continue;
                    }
                    Err(error) => return Err(error),
                }
                for newline in memchr::memrchr_iter(b'\n', part) {
                    if wanted == 0 {
                        self.parts.drain(..place);
                        self.offset = begin + newline as u64 + 1;
                        return Ok(());
                    }
                    wanted -= 1;
                }
                end = begin;
            }
            // The file's first record has no line's end before it.
            if wanted == 0 && place > 0 {
                self.parts.drain(..place);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Drops files that were written for the last time before `--since`.
    fn skip_old_files(&mut self) -> io::Result<()> {
        let Some(since) = self.query.since else { return Ok(()) };
        while self.parts.len() > 1 {
            let written = OffsetDateTime::from(self.parts[0].file.metadata()?.modified()?);
            // File times are a little coarser and older than the clock.
            if written + Duration::from_secs(1) >= since {
                break;
            }
            self.parts.pop_front();
            self.offset = 0;
        }
        Ok(())
    }

    /// The next record that was asked for; `None` at the end. With a reader that follows, this waits.
    pub fn next_record(&mut self) -> Result<Option<Record>, LogError> {
        loop {
            let record = match self.next_line() {
                Ok(Some(record)) => record,
                Ok(None) => return Ok(None),
                Err(source) => return Err(LogError::Io { path: self.place.path().to_owned(), source }),
            };
            if self.query.until.is_some_and(|until| record.time > until) {
                if self.follow.is_some() {
                    return Ok(None);
                }
                continue;
            }
            if self.query.since.is_none_or(|since| record.time >= since) {
                return Ok(Some(record));
            }
        }
    }

    fn next_line(&mut self) -> io::Result<Option<Record>> {
        loop {
            if let Some(files) = self.gap.take() {
                return Ok(Some(gap_record(files.get())));
            }
            while let Some(length) = memchr::memchr(b'\n', &self.buffer[self.used..]) {
                let line = &self.buffer[self.used..self.used + length];
                let record = if self.overlong { None } else { Record::parse(line) };
                self.overlong = false;
                self.used += length + 1;
                self.offset += length as u64 + 1;
                if let Some(record) = record {
                    return Ok(Some(record));
                }
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Reads further. `false` when nothing more will come.
    fn fill(&mut self) -> io::Result<bool> {
        loop {
            self.find_newer()?;
            if self.read_block()? {
                return Ok(true);
            }
            // The end of this file. Where there is a newer one, this one was finished before that began: what was read
            // last, after the newer one was seen, was all. What is left in the buffer has no line's end: a torn record.
            if self.parts.len() > 1 {
                self.parts.pop_front();
                self.gap = self.parts.front().and_then(|part| NonZeroU64::new(part.missing_before));
                (self.offset, self.used, self.overlong) = (0, 0, false);
                self.buffer.clear();
                return Ok(true);
            }
            match &mut self.follow {
                None => return Ok(false),
                Some(follow) if follow.ended => return Ok(false),
                Some(_) => {}
            }
            if !self.wait()? {
                return Ok(false);
            }
        }
    }

    /// Reads on from where the next line begins. `false` at the end of the file.
    ///
    /// What has no line's end yet is read again and not kept: the writer takes a torn record back when the disk is full,
    /// and writes another in its place.
    fn read_block(&mut self) -> io::Result<bool> {
        let Some(part) = self.parts.front() else { return Ok(false) };
        let mut known = self.buffer.len() - self.used;
        if known > LONGEST {
            self.offset += known as u64;
            self.overlong = true;
            known = 0;
        }
        let last = self.parts.len() == 1;
        let room = match self.stop.filter(|_| last) {
            Some(stop) => stop.saturating_sub(self.offset).min((known + BLOCK) as u64) as usize,
            None => known + BLOCK,
        };
        self.used = 0;
        self.buffer.resize(room, 0);
        let result = part.file.read_at(&mut self.buffer, self.offset);
        self.buffer.truncate(result.as_ref().map_or(0, |count| *count));
        match result {
            Ok(count) if count > known => Ok(true),
            Ok(_) => {
                self.buffer.clear();
                // Somebody emptied the file: what is written now begins at its beginning.
                if part.file.metadata()?.len() < self.offset {
                    self.offset = 0;
                }
                Ok(false)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Opens what is newer than the newest that is known. Looked for at each block, so that a slow reader holds the files
    /// that it will need.
    fn find_newer(&mut self) -> io::Result<()> {
        if self.follow.is_none() {
            return Ok(());
        }
        let Some(newest) = self.parts.back() else {
            self.parts = self.place.parts()?.into();
            self.newest_generation = self.parts.back().and_then(|part| part.generation);
            return Ok(());
        };
        if self.place.is_newest(newest.identity)? {
            return Ok(());
        }
        let identity = newest.identity;
        let found = self.place.parts()?;
        let behind = found.iter().position(|part| part.identity == identity).map_or(0, |place| place + 1);
        for mut part in found.into_iter().skip(behind) {
            match (self.newest_generation, part.generation) {
                // Known already: it is only no longer found beside its like.
                (Some(known), Some(generation)) if generation <= known => continue,
                (Some(known), Some(generation)) if generation > known + 1 => {
                    part.missing_before = generation - known - 1;
                }
                _ => {}
            }
            self.newest_generation = part.generation.or(self.newest_generation);
            self.parts.push_back(part);
        }
        Ok(())
    }

    /// Waits for something to happen in the folder, or for the end. `false` once `--until` has passed.
    fn wait(&mut self) -> io::Result<bool> {
        let until = self.query.until;
        let Some(follow) = &mut self.follow else { return Ok(false) };
        let left = until.map(|until| until - OffsetDateTime::now_utc());
        if left.is_some_and(|left| !left.is_positive()) {
            return Ok(false);
        }
        let mut timeout = left.map(|left| Duration::try_from(left).unwrap_or(Duration::ZERO));
        if let End::Asked(_) = follow.end {
            timeout = Some(timeout.map_or(ASK, |timeout| timeout.min(ASK)));
        }
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut descriptors = vec![PollFd::new(&follow.inotify, PollFlags::IN)];
        if let End::Descriptor(descriptor) = &follow.end {
            descriptors.push(PollFd::new(descriptor, PollFlags::IN));
        }
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // Asked before the file is read for the last time: what was written before the end is read after it.
        let descriptor_ended = descriptors.get(1).is_some_and(|end| !end.revents().is_empty());
        drop(descriptors);
        follow.ended = match &mut follow.end {
            End::Descriptor(_) => descriptor_ended,
            End::Asked(ask) => ask(),
            End::Never => false,
        };
        // Which event it was does not matter: everything is looked at again.
        let mut events = [0_u8; 4096];
        while rustix::io::read(&follow.inotify, &mut events).is_ok_and(|count| count == events.len()) {}
        Ok(true)
    }
}

impl Iterator for LogReader {
    type Item = Result<Record, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_record().transpose()
    }
}

fn watch(place: &Place) -> io::Result<OwnedFd> {
    use inotify::{CreateFlags, WatchFlags};
    let watcher = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let what = WatchFlags::MODIFY | WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::CLOSE_WRITE;
    inotify::add_watch(watcher.as_fd(), place.watched_path(), what)?;
    Ok(watcher)
}

fn gap_record(files: u64) -> Record {
    let text = format!(
        "cove: {files} {} of this log went before they were read; give the log a larger `max-file`\n",
        if files == 1 { "file" } else { "files" }
    );
    Record {
        time: OffsetDateTime::now_utc(),
        stream: Stream::Stderr,
        bytes: text.into_bytes(),
        attributes: BTreeMap::new(),
    }
}
