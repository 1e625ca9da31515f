//! The files of one log: their names, their numbers, and how they grow older.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, XattrFlags};
use rustix::io::Errno;

const GENERATION: &str = "user.cove.log-generation";

/// So many numbers in a row without a file mean that there are no more. A rotation that was killed leaves one hole.
const HOLES: u32 = 8;

/// How often files without numbers are looked for while they move.
const TRIES: u32 = 32;

/// The folder of a log and the names in it.
#[derive(Debug)]
pub(super) struct Place {
    folder: OwnedFd,
    path: PathBuf,
    name: OsString,
}

/// A file of a log, open for reading.
#[derive(Debug)]
pub(super) struct Part {
    pub file: File,
    pub identity: Identity,
    /// Its number in the row of all files of this log; `None` where the file system has no extended attributes.
    pub generation: Option<u64>,
    /// How many files before it went before the reader that found it could open them.
    pub missing_before: u64,
}

/// What a file is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(status: &rustix::fs::Stat) -> Self {
        Self { device: status.st_dev, inode: status.st_ino }
    }
}

impl Place {
    pub fn of(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let folder = rustix::fs::open(folder, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { folder, path: path.to_owned(), name })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the file that was the newest so many files ago.
    fn name(&self, age: u32) -> OsString {
        let mut name = self.name.clone();
        if age > 0 {
            name.push(format!(".{age}"));
        }
        name
    }

    /// The newest file, for the writer; made where there is none.
    pub fn newest(&self) -> io::Result<(File, u64)> {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.folder, &self.name, flags, Mode::empty()) {
            Ok(file) => {
                let generation = generation(&file).unwrap_or(0);
                Ok((File::from(file), generation))
            }
            Err(Errno::NOENT) => {
                // Nothing yet, or killed in the middle of a rotation.
                let before = self.open(1)?.and_then(|part| part.generation);
                let generation = before.map_or(1, |before| before + 1);
                Ok((self.fresh(generation)?, generation))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A new file in the place of the newest. It gets its name when it has its number: no reader sees it without.
    fn fresh(&self, generation: u64) -> io::Result<File> {
        let mut unnamed = self.name.clone();
        unnamed.push(".new");
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, &unnamed, flags, Mode::from_raw_mode(0o640))?;
        match rustix::fs::fsetxattr(&file, GENERATION, generation.to_string().as_bytes(), XattrFlags::empty()) {
            // Without numbers a reader goes by the files themselves, and only cannot tell what it missed.
            Ok(()) | Err(Errno::NOTSUP | Errno::NOSPC | Errno::DQUOT | Errno::PERM | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        rustix::fs::renameat(&self.folder, &unnamed, &self.folder, &self.name)?;
        Ok(File::from(file))
    }

    /// Makes every file one older, drops the oldest and begins a new one. A file's age only ever grows, which is what
    /// readers count on.
    pub fn rotate(&self, max_file: u32, generation: u64) -> io::Result<File> {
        // Up to the first name that is free, or the last there may be: a rename replaces what is there.
        let mut oldest = 0;
        while oldest + 1 < max_file && self.exists(oldest)? {
            oldest += 1;
        }
        for age in (0..oldest).rev() {
            rustix::fs::renameat(&self.folder, self.name(age), &self.folder, self.name(age + 1))?;
        }
        self.fresh(generation)
    }

    fn exists(&self, age: u32) -> io::Result<bool> {
        match rustix::fs::statat(&self.folder, self.name(age), rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn open(&self, age: u32) -> io::Result<Option<Part>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.folder, self.name(age), flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let identity = Identity::of(&rustix::fs::fstat(&file)?);
        let generation = generation(&file);
        Ok(Some(Part { file: File::from(file), identity, generation, missing_before: 0 }))
    }

    /// All files, the oldest first.
    ///
    /// They are looked for from the newest name to the oldest, in which direction files move too: one that becomes older
    /// meanwhile may be met twice, which is seen, and none that is older than one that was met can be missed. But one
    /// that was begun meanwhile can be met late, so their numbers give the order, and where there are none it is tried
    /// again until nothing was begun.
    pub fn parts(&self) -> io::Result<Vec<Part>> {
        let mut tries = 0;
        loop {
            tries += 1;
            let mut parts = self.look_for_parts()?;
            if parts.iter().all(|part| part.generation.is_some()) {
                parts.sort_by_key(|part| part.generation);
                return Ok(parts);
            }
            let unchanged = parts.last().is_some_and(|newest| self.is_newest(newest.identity).unwrap_or(false));
            // A log whose newest file is gone for good is read as it is.
            if unchanged || tries == TRIES {
                return Ok(parts);
            }
        }
    }

    fn look_for_parts(&self) -> io::Result<Vec<Part>> {
        let mut parts: Vec<Part> = Vec::new();
        let mut holes = 0;
        for age in 0.. {
            match self.open(age)? {
                None => holes += 1,
                Some(part) => {
                    holes = 0;
                    if !parts.iter().any(|known| known.identity == part.identity) {
                        parts.push(part);
                    }
                }
            }
            if holes > HOLES {
                break;
            }
        }
        parts.reverse();
        Ok(parts)
    }

    /// Whether this is still the newest file.
    pub fn is_newest(&self, identity: Identity) -> io::Result<bool> {
        match rustix::fs::statat(&self.folder, &self.name, rustix::fs::AtFlags::empty()) {
            Ok(status) => Ok(Identity::of(&status) == identity),
            // In the middle of a rotation.
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The folder under a name that inotify can take, whatever it is called now.
    pub fn watched_path(&self) -> PathBuf {
        use std::os::fd::AsRawFd as _;
        PathBuf::from(format!("/proc/self/fd/{}", self.folder.as_raw_fd()))
    }
}

fn generation(file: impl AsFd) -> Option<u64> {
    let mut digits = [0_u8; 20];
    let length = rustix::fs::fgetxattr(file, GENERATION, &mut digits[..]).ok()?;
    str::from_utf8(digits.get(..length)?).ok()?.parse().ok()
}
