//! A blob that is arriving: a file that grows, and readers that follow it.
//!
//! `partial/<digest>` is appended to while its bytes are hashed; beside it lies a line for each finished MiB with its
//! CRC-32. After a crash the file is checked against those lines, cut at the first bad MiB, hashed again, and goes on
//! where it ends. What lies behind the last whole MiB counts only if the machine was not started anew since: a process
//! that is killed loses nothing that it wrote, a power cut does.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use cove_oci::{Descriptor, Digest, Hasher};

use crate::lock::PassingLock;
use crate::places::Places;

const BLOCK: u64 = 1024 * 1024;

/// The file of a blob that is arriving, which this process alone works on.
#[derive(Debug)]
pub(crate) struct Partial {
    blob: Descriptor,
    path: PathBuf,
    sums_path: PathBuf,
    /// Last, so that it is given back last.
    _lock: PassingLock,
}

impl Partial {
    /// The partial file of a blob, if no other process works on it.
    pub(crate) fn take(places: &Places, blob: &Descriptor) -> io::Result<Option<Partial>> {
        let path = partial_path(places, &blob.digest);
        let lock = PassingLock::take(&path.with_extension("lock"))?;
        Ok(lock.map(|lock| Partial { blob: blob.clone(), sums_path: path.with_extension("sums"), path, _lock: lock }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a file that is there already in the place of what has arrived, by a link. Whether that was possible.
    pub(crate) fn adopt(&self, file: &Path) -> io::Result<bool> {
        // Only what can be whole: nothing is ever cut off from or added to a file that belongs to others.
        if fs_err::metadata(file)?.len() != self.blob.size {
            return Ok(false);
        }
        self.discard()?;
        match fs_err::hard_link(file, &self.path) {
            Ok(()) => {
                fs_err::write(&self.sums_path, format!("{}\n", boot_id()))?;
                Ok(true)
            }
            Err(_) => Ok(false),
        }
    }

    /// Forgets everything that has arrived.
    pub(crate) fn discard(&self) -> io::Result<()> {
        for path in [&self.path, &self.sums_path] {
            match fs_err::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// How much seems to have arrived.
    pub(crate) fn length(&self) -> u64 {
        fs_err::metadata(&self.path).map_or(0, |found| found.len())
    }

    /// Checks what has arrived and opens it to go on. Followers hear of it already while it is checked.
    pub(crate) fn open(&self, growth: Arc<Growth>) -> io::Result<Writer> {
        let file = open_append(&self.path)?;
        let sums_text = match fs_err::read_to_string(&self.sums_path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => String::new(),
            Err(error) => return Err(error),
        };
        let boot = boot_id();
        let (before, lines) = sums_text.split_once('\n').unwrap_or(("", ""));
        let same_boot = before == boot;
        let known: Vec<u32> = lines.lines().map_while(|line| u32::from_str_radix(line, 16).ok()).collect();
        let mut writer = Writer {
            file,
            // Written anew: it is small, and now of this start of the machine.
            sums: fs_err::File::create(&self.sums_path)?.into_parts().0,
            hasher: Hasher::new(self.blob.digest.algorithm()),
            sum: crc32fast::Hasher::new(),
            length: 0,
            size: self.blob.size,
            growth,
        };
        writer.sums.write_all(format!("{boot}\n").as_bytes())?;
        writer.check(&known, same_boot)?;
        writer.file.set_len(writer.length)?;
        Ok(writer)
    }

    /// A reader that follows the file while it grows.
    pub(crate) fn follow(&self, growth: &Arc<Growth>) -> io::Result<Follower> {
        let file = open_append(&self.path)?;
        Ok(Follower { file, at: 0, growth: Arc::clone(growth) })
    }
}

/// Where the partial file of a blob lies.
pub(crate) fn partial_path(places: &Places, digest: &Digest) -> PathBuf {
    places.partial().join(digest.hex())
}

fn open_append(path: &Path) -> io::Result<File> {
    let file = fs_err::OpenOptions::new().read(true).append(true).create(true).open(path)?;
    Ok(file.into_parts().0)
}

/// Names this start of the machine.
fn boot_id() -> String {
    let text = fs_err::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// Appends to a partial file.
#[derive(Debug)]
pub(crate) struct Writer {
    file: File,
    sums: File,
    hasher: Hasher,
    /// Of the bytes since the last whole MiB.
    sum: crc32fast::Hasher,
    length: u64,
    size: u64,
    growth: Arc<Growth>,
}

impl Writer {
    /// How much has arrived.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Takes in what is in the file, as far as it is good.
    fn check(&mut self, known: &[u32], same_boot: bool) -> io::Result<()> {
        let mut buffer = vec![0; usize::try_from(BLOCK).unwrap_or(1 << 20)];
        loop {
            let left = self.size.saturating_sub(self.length).min(BLOCK);
            let count = read_full(&self.file, &mut buffer[..usize::try_from(left).unwrap_or(0)], self.length)?;
            if count == 0 {
                return Ok(());
            }
            let block = &buffer[..count];
            let index = usize::try_from(self.length / BLOCK).unwrap_or(usize::MAX);
            let good = match known.get(index) {
                Some(sum) if count as u64 == BLOCK => crc32fast::hash(block) == *sum,
                _ => same_boot,
            };
            if !good {
                return Ok(());
            }
            self.take_in(block)?;
            self.growth.grow(self.length);
        }
    }

    /// Appends. More bytes than the blob has are an error.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.length + bytes.len() as u64 > self.size {
            let message = format!("more than the {} bytes that were announced arrive", self.size);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        self.file.write_all(bytes)?;
        self.take_in(bytes)?;
        self.growth.grow(self.length);
        Ok(())
    }

    fn take_in(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        while !bytes.is_empty() {
            let room = usize::try_from(BLOCK - self.length % BLOCK).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.sum.update(now);
            self.length += now.len() as u64;
            if self.length.is_multiple_of(BLOCK) {
                let sum = std::mem::take(&mut self.sum).finalize();
                self.sums.write_all(format!("{sum:08x}\n").as_bytes())?;
            }
            bytes = later;
        }
        Ok(())
    }

    /// The digest of everything, once all has arrived.
    pub(crate) fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

fn read_full(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], at + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// How far a file has grown, and whether it will grow on.
#[derive(Debug, Default)]
pub(crate) struct Growth {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    length: u64,
    end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    BrokenOff,
}

impl Growth {
    fn state(&self) -> MutexGuard<'_, State> {
        // The state is two plain values: a thread that panicked cannot have left it half made.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grow(&self, length: u64) {
        self.state().length = length;
        self.changed.notify_all();
    }

    /// All bytes are there and verified.
    pub(crate) fn whole(&self) {
        self.state().end = Some(End::Whole);
        self.changed.notify_all();
    }

    /// No more bytes come: followers fail. Nothing happens if all were there.
    pub(crate) fn break_off(&self) {
        self.state().end.get_or_insert(End::BrokenOff);
        self.changed.notify_all();
    }
}

/// Reads a file that grows, waiting for more where it must.
#[derive(Debug)]
pub(crate) struct Follower {
    file: File,
    at: u64,
    growth: Arc<Growth>,
}

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.growth.state();
        let available = loop {
            if state.end == Some(End::BrokenOff) {
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the download broke off"));
            }
            if state.length > self.at {
                break state.length - self.at;
            }
            if state.end == Some(End::Whole) {
                return Ok(0);
            }
            state = self.growth.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        let wanted = buffer.len().min(usize::try_from(available).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..wanted], self.at)?;
        if count == 0 && wanted > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the partial file was cut by somebody else"));
        }
        self.at += count as u64;
        Ok(count)
    }
}
