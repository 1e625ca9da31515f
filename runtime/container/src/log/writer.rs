//! The log as the monitor writes it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use time::OffsetDateTime;

use super::encode::{push_escaped, push_time};
use super::files::Place;
use super::{LINE_LIMIT, LogError, LogOptions, Stream};

/// So much is gathered before it is written, if a chunk gives that much.
const BATCH: usize = 64 * 1024;

/// A container's log.
///
/// Writing never fails and never waits: what the disk does not take is lost, counted, and told in the log itself as soon
/// as there is space again. A container does not stand still for its log.
#[derive(Debug)]
pub struct Log {
    place: Place,
    file: File,
    size: u64,
    generation: u64,
    max_size: u64,
    max_file: u32,
    /// `"attrs":{…},` or nothing.
    attributes: Vec<u8>,
    stdout: Line,
    stderr: Line,
    /// Records that are not in the file yet; empty between two chunks.
    batch: Vec<u8>,
    /// The end that all records of a chunk share.
    ending: Vec<u8>,
    lost: u64,
    reason: Option<io::Error>,
    /// How long the record at the beginning of the batch is that tells of `lost`; 0 if there is none.
    notice: usize,
}

/// The line of a stream that has no end yet.
#[derive(Debug, Default)]
struct Line {
    bytes: Vec<u8>,
    /// When the line began, if a part of it is in the log: all its parts have one time, as in docker.
    since: Option<OffsetDateTime>,
}

impl Log {
    /// Opens the log or begins it. What a killed writer left of a record is cut off.
    pub fn open(path: &Path, options: &LogOptions, attributes: &BTreeMap<String, String>) -> Result<Self, LogError> {
        let failed = |source| LogError::Io { path: path.to_owned(), source };
        let place = Place::of(path).map_err(failed)?;
        let (file, generation) = place.newest().map_err(failed)?;
        let size = cut_torn_record(&file).map_err(failed)?;
        let mut attributes_text = Vec::new();
        if !attributes.is_empty() {
            attributes_text.extend_from_slice(b"\"attrs\":{");
            for (place, (key, value)) in attributes.iter().enumerate() {
                attributes_text.extend_from_slice(if place > 0 { b",\"" } else { b"\"" });
                push_escaped(&mut attributes_text, key.as_bytes());
                attributes_text.extend_from_slice(b"\":\"");
                push_escaped(&mut attributes_text, value.as_bytes());
                attributes_text.push(b'"');
            }
            attributes_text.extend_from_slice(b"},");
        }
        Ok(Self {
            place,
            file,
            size,
            generation,
            max_size: options.max_size.unwrap_or(u64::MAX),
            max_file: options.max_file.max(1),
            attributes: attributes_text,
            stdout: Line::default(),
            stderr: Line::default(),
            batch: Vec::new(),
            ending: Vec::new(),
            lost: 0,
            reason: None,
            notice: 0,
        })
    }

    /// Where the log is.
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// How many records were lost and are not told of in the log yet.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Takes what came from the container. The whole chunk has one time.
    pub fn write(&mut self, stream: Stream, chunk: &[u8]) {
        let now = OffsetDateTime::now_utc();
        let mut line = std::mem::take(self.line(stream));
        self.set_ending(stream, line.since.unwrap_or(now));
        let mut rest = chunk;
        while !rest.is_empty() {
            let room = LINE_LIMIT - line.bytes.len();
            let window = &rest[..rest.len().min(room)];
            let end = memchr::memchr(b'\n', window);
            if end.is_none() && window.len() < room {
                line.bytes.extend_from_slice(window);
                break;
            }
            let taken = end.unwrap_or(window.len());
            if line.bytes.is_empty() {
                self.record(&window[..taken], end.is_some());
            } else {
                line.bytes.extend_from_slice(&window[..taken]);
                self.record(&line.bytes, end.is_some());
                line.bytes.clear();
            }
            rest = &rest[taken + usize::from(end.is_some())..];
            if end.is_none() {
                line.since.get_or_insert(now);
            } else if line.since.take().is_some() {
                self.set_ending(stream, now);
            }
        }
        *self.line(stream) = line;
        self.flush();
    }

    /// The stream has ended: a line without an end is written as it is.
    pub fn end(&mut self, stream: Stream) {
        let line = std::mem::take(self.line(stream));
        if !line.bytes.is_empty() {
            self.set_ending(stream, line.since.unwrap_or_else(OffsetDateTime::now_utc));
            self.record(&line.bytes, false);
        }
        self.flush();
    }

    /// Both streams have ended, and so has the log.
    pub fn close(mut self) {
        self.end(Stream::Stdout);
        self.end(Stream::Stderr);
    }

    fn line(&mut self, stream: Stream) -> &mut Line {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn set_ending(&mut self, stream: Stream, time: OffsetDateTime) {
        self.ending.clear();
        push_ending(&mut self.ending, stream, &self.attributes, time);
    }

    fn record(&mut self, line: &[u8], complete: bool) {
        if self.batch.is_empty() && self.lost > 0 {
            self.push_notice();
        }
        self.batch.extend_from_slice(b"{\"log\":\"");
        push_escaped(&mut self.batch, line);
        self.batch.extend_from_slice(if complete { b"\\n\"," } else { b"\"," });
        self.batch.extend_from_slice(&self.ending);
        if self.batch.len() >= BATCH || self.size.saturating_add(self.batch.len() as u64) >= self.max_size {
            self.flush();
        }
    }

    fn push_notice(&mut self) {
        let records = if self.lost == 1 { "record" } else { "records" };
        let reason = self.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let text = format!("cove: {} {records} of this log could not be written and are lost{reason}", self.lost);
        self.batch.extend_from_slice(b"{\"log\":\"");
        push_escaped(&mut self.batch, text.as_bytes());
        self.batch.extend_from_slice(b"\\n\",");
        push_ending(&mut self.batch, Stream::Stderr, &self.attributes, OffsetDateTime::now_utc());
        self.notice = self.batch.len();
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let mut written = 0;
        match self.write_batch(&mut written) {
            Ok(()) => {
                self.size += written as u64;
                if self.notice > 0 {
                    (self.lost, self.reason) = (0, None);
                }
            }
            Err(error) => {
                // Whole records stay, the torn one goes: a reader must not see half of it before the next.
                let whole = memchr::memrchr(b'\n', &self.batch[..written]).map_or(0, |end| end + 1);
                if whole < written {
                    let _ = self.file.set_len(self.size + whole as u64);
                }
                self.size += whole as u64;
                let mut missing = memchr::memchr_iter(b'\n', &self.batch[whole..]).count() as u64;
                if self.notice > 0 && whole >= self.notice {
                    self.lost = 0;
                } else if self.notice > 0 {
                    missing -= 1;
                }
                self.lost += missing;
                self.reason.get_or_insert(error);
            }
        }
        self.notice = 0;
        self.batch.clear();
        // One line of escapes can be six times as long as it was; that memory is not kept for it.
        self.batch.shrink_to(2 * BATCH);
    }

    fn write_batch(&mut self, written: &mut usize) -> io::Result<()> {
        if self.size >= self.max_size {
            self.file = self.place.rotate(self.max_file, self.generation + 1)?;
            self.generation += 1;
            self.size = 0;
        }
        while *written < self.batch.len() {
            match self.file.write(&self.batch[*written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => *written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn push_ending(out: &mut Vec<u8>, stream: Stream, attributes: &[u8], time: OffsetDateTime) {
    out.extend_from_slice(b"\"stream\":\"");
    out.extend_from_slice(stream.name().as_bytes());
    out.extend_from_slice(b"\",");
    out.extend_from_slice(attributes);
    out.extend_from_slice(b"\"time\":\"");
    push_time(out, time);
    out.extend_from_slice(b"\"}\n");
}

/// Cuts off what follows the last line's end, and tells the size.
fn cut_torn_record(file: &File) -> io::Result<u64> {
    let size = file.metadata()?.len();
    let mut block = [0_u8; 4096];
    let mut end = size;
    while end > 0 {
        let begin = end.saturating_sub(block.len() as u64);
        let part = &mut block[..(end - begin) as usize];
        file.read_exact_at(part, begin)?;
        if let Some(place) = memchr::memrchr(b'\n', part) {
            let whole = begin + place as u64 + 1;
            if whole < size {
                file.set_len(whole)?;
            }
            return Ok(whole);
        }
        end = begin;
    }
    if size > 0 {
        file.set_len(0)?;
    }
    Ok(0)
}
