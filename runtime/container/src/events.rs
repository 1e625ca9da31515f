//! What has happened: a line each in a file of the run folder, written by whoever does it, command or monitor.
//!
//! Only the newest are kept: when the file is full it becomes the old one, and the old one before it goes. Nothing that
//! happens fails because it cannot be written down here.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::config::{MountKind, MountPoint};
use crate::{Error, Record, Volumes};

/// Bytes of a file that is full. There are two: thousands of events are kept.
const FULL: u64 = 1 << 20;

/// Something that has happened, in the shape of docker's API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The action again: docker's first shape of events. Only of containers and images.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// Of the container or image, likewise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The image of a container, likewise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// `container`, `image`, `network` or `volume`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// What was done.
    #[serde(rename = "Action")]
    pub action: String,
    /// With what.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// `local`.
    pub scope: String,
    /// When, in seconds since 1970.
    pub time: i64,
    /// When, in nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    pub nanoseconds: i64,
}

/// What something was done with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name, its labels, and what belongs to the action.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// Something was done just now.
    pub fn new(kind: &str, action: &str, id: &str, attributes: BTreeMap<String, String>) -> Self {
        let now = OffsetDateTime::now_utc();
        let is_old = matches!(kind, "container" | "image");
        let shown = |text: &str| if is_old { text.to_owned() } else { String::new() };
        Self {
            status: shown(action),
            id: shown(id),
            from: attributes.get("image").cloned().filter(|_| kind == "container").unwrap_or_default(),
            kind: kind.to_owned(),
            action: action.to_owned(),
            actor: Actor { id: id.to_owned(), attributes },
            scope: "local".to_owned(),
            time: now.unix_timestamp(),
            nanoseconds: i64::try_from(now.unix_timestamp_nanos()).unwrap_or(i64::MAX),
        }
    }

    /// Something was done with a container.
    pub fn of_container(record: &Record, action: &str, more: &[(&str, &str)]) -> Self {
        let mut attributes = record.config.labels.clone();
        attributes.insert("image".to_owned(), record.config.image.clone());
        attributes.insert("name".to_owned(), record.name.clone());
        attributes.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Self::new("container", action, record.id.as_str(), attributes)
    }

    /// Something was done with a volume.
    pub fn of_volume(action: &str, name: &str, driver: &str) -> Self {
        Self::new("volume", action, name, BTreeMap::from([("driver".to_owned(), driver.to_owned())]))
    }

    /// Everything of a kind that nobody used was removed.
    pub fn of_prune(kind: &str, bytes: u64) -> Self {
        Self::new(kind, "prune", "", BTreeMap::from([("reclaimed".to_owned(), bytes.to_string())]))
    }

    /// Something was done with an image.
    pub fn of_image(action: &str, id: &str, name: &str) -> Self {
        Self::new("image", action, id, BTreeMap::from([("name".to_owned(), name.to_owned())]))
    }
}

/// All that has happened lately.
#[derive(Debug, Clone)]
pub struct Events {
    folder: PathBuf,
}

impl Events {
    /// Of those whose run folder this is.
    pub fn new(run: &Path) -> Self {
        Self { folder: run.join("events") }
    }

    fn current(&self) -> PathBuf {
        self.folder.join("events.json")
    }

    fn old(&self) -> PathBuf {
        self.folder.join("events.json.1")
    }

    /// Writes down what has happened. If that fails nobody hears of it, and that is all.
    pub fn tell(&self, event: &Event) {
        let _ = self.try_to_tell(event);
    }

    /// Tells of the volumes of a container that are gone with it.
    pub fn tell_gone_volumes(&self, record: &Record, volumes: &Volumes) {
        let anonymous = |mount: &&MountPoint| mount.kind == MountKind::Volume && mount.details.anonymous;
        for mount in record.mounts.iter().filter(anonymous) {
            if let Ok(None) = volumes.get(&mount.name) {
                self.tell(&Event::of_volume("destroy", &mount.name, &mount.driver));
            }
        }
    }

    fn try_to_tell(&self, event: &Event) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.make_folder()?;
        let _lock = self.lock()?;
        let open = || File::options().read(true).append(true).create(true).open(self.current());
        let mut file = open()?;
        let mut length = file.metadata()?.len();
        if length > FULL {
            std::fs::rename(self.current(), self.old())?;
            file = open()?;
            length = 0;
        }
        let mut last = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut last, length - 1)?;
        }
        // Who was killed in the middle of a line has spoiled only that one.
        if last != [b'\n'] {
            line.insert(0, b'\n');
        }
        file.write_all(&line)
    }

    /// While it is held no file becomes the old one.
    fn lock(&self) -> std::io::Result<File> {
        let lock = File::options().write(true).create(true).truncate(false).open(self.folder.join("lock"))?;
        rustix::io::retry_on_intr(|| flock(&lock, FlockOperation::LockExclusive))?;
        Ok(lock)
    }

    fn make_folder(&self) -> std::io::Result<()> {
        DirBuilder::new().mode(0o700).recursive(true).create(&self.folder)
    }

    /// Reads what has happened from the oldest on, and then what happens.
    ///
    /// # Errors
    /// The folder cannot be made or watched.
    pub fn read(&self) -> Result<EventReader, Error> {
        self.make_folder().map_err(Error::system("make", &self.folder))?;
        let failed = |error| Error::system("watch", &self.folder)(error);
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(failed)?;
        let wanted = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        inotify::add_watch(&watch, &self.folder, wanted).map_err(failed)?;
        let _lock = self.lock().map_err(Error::system("lock", &self.folder))?;
        let files = [self.old(), self.current()];
        let open = files.into_iter().filter_map(|path| File::open(path).ok()).map(BufReader::new);
        let mut open: std::collections::VecDeque<_> = open.collect();
        let file = open.pop_front();
        Ok(EventReader { events: self.clone(), watch: watch.into(), file, next: open.pop_front(), line: Vec::new() })
    }
}

/// Events one after the other.
#[derive(Debug)]
pub struct EventReader {
    events: Events,
    watch: File,
    file: Option<BufReader<File>>,
    /// Read when the other is at its end.
    next: Option<BufReader<File>>,
    /// A line that is not whole yet.
    line: Vec<u8>,
}

impl EventReader {
    /// The next event; `None`: there is none yet.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn next_event(&mut self) -> Result<Option<Event>, Error> {
        let path = self.events.current();
        loop {
            if self.file.is_none() {
                self.file = File::open(&path).ok().map(BufReader::new);
            }
            let Some(file) = &mut self.file else { return Ok(None) };
            file.read_until(b'\n', &mut self.line).map_err(Error::system("read", &path))?;
            if self.line.last() == Some(&b'\n') {
                let event = serde_json::from_slice(&self.line).ok();
                self.line.clear();
                // What nobody understands, a killed command has left.
                if event.is_some() {
                    return Ok(event);
                }
            } else if !self.go_on()? {
                return Ok(None);
            }
        }
    }

    /// At the end of a file: whether another one follows it.
    fn go_on(&mut self) -> Result<bool, Error> {
        let path = self.events.current();
        let Some(file) = &mut self.file else { return Ok(false) };
        let here = file.get_ref().metadata().map_err(Error::system("read", &path))?;
        let is_over = match &self.next {
            Some(_) => true,
            None => std::fs::metadata(&path).is_ok_and(|now| (now.dev(), now.ino()) != (here.dev(), here.ino())),
        };
        if !is_over {
            return Ok(false);
        }
        // Something may have been written between our reading and the file's becoming old.
        let at = file.stream_position().map_err(Error::system("read", &path))?;
        if here.len() > at {
            file.seek(SeekFrom::Start(at)).map_err(Error::system("read", &path))?;
            return Ok(true);
        }
        self.line.clear();
        self.file = self.next.take();
        Ok(true)
    }

    /// Waits until something has happened, at most so long.
    ///
    /// # Errors
    /// The system cannot wait.
    pub fn wait(&mut self, most: Option<std::time::Duration>) -> Result<(), Error> {
        let failed = |error| Error::system("watch", &self.events.folder)(error);
        let most = most.map(|most| Timespec {
            tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(most.subsec_nanos()),
        });
        match poll(&mut [PollFd::new(&self.watch, PollFlags::IN)], most.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(error)),
        }
        let mut told = [0; 4096];
        while self.watch.read(&mut told).is_ok_and(|count| count > 0) {}
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(reader: &mut EventReader) -> Vec<String> {
        std::iter::from_fn(|| reader.next_event().unwrap()).map(|event| event.actor.id).collect()
    }

    fn event(id: usize) -> Event {
        Event::of_image("tag", &id.to_string(), &"x".repeat(1000))
    }

    #[test]
    fn what_is_told_is_read_in_order_across_files_and_broken_lines() {
        let folder = tempfile::tempdir().unwrap();
        let events = Events::new(folder.path());
        let mut reader = events.read().unwrap();
        assert_eq!(reader.next_event().unwrap(), None);
        events.tell(&event(0));
        assert_eq!(read(&mut reader), ["0"]);
        // A command that was killed.
        File::options().append(true).open(events.current()).unwrap().write_all(b"{\"Type\":").unwrap();
        assert_eq!(reader.next_event().unwrap(), None);
        let many = usize::try_from(FULL).unwrap() / 1000 + 10;
        for id in 1..many {
            events.tell(&event(id));
        }
        assert!(events.old().exists());
        let expected: Vec<String> = (1..many).map(|id| id.to_string()).collect();
        assert_eq!(read(&mut reader), expected);
        let mut again = events.read().unwrap();
        assert_eq!(read(&mut again).len(), many);
        reader.wait(None).unwrap();
        events.tell(&event(7));
        reader.wait(None).unwrap();
        assert_eq!(read(&mut reader), ["7"]);
        assert_eq!(read(&mut again), ["7"]);
    }
}
