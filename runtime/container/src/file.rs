//! Small files that are there whole or not at all: written beside their place, synced where they must outlive a power
//! cut, renamed.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;
use crate::error::is_absent;

/// What must be true of a file when writing it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It is there after a power cut.
    Lasting,
    /// After a power cut it may be the one before.
    Passing,
}

/// Writes JSON in place of what a file held.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T, durability: Durability) -> Result<(), Error> {
    let mut text = serde_json::to_vec(value).map_err(Error::system("write", path))?;
    text.push(b'\n');
    write(path, &text, durability)
}

/// Puts bytes in place of what a file held. Two writers at once must be kept apart by a lock.
pub(crate) fn write(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), Error> {
    let unfinished = path.with_extension("new");
    let failed = Error::system("write", path);
    let written = File::create(&unfinished).and_then(|mut file| {
        file.write_all(bytes)?;
        if durability == Durability::Lasting { file.sync_data() } else { Ok(()) }
    });
    if let Err(error) = written.and_then(|()| std::fs::rename(&unfinished, path)) {
        let _ = std::fs::remove_file(&unfinished);
        return Err(failed(error));
    }
    if durability == Durability::Lasting {
        sync_folder(path.parent().unwrap_or(Path::new("/")))?;
    }
    Ok(())
}

/// Makes the names in a folder last.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::system("sync", folder))
}

/// Reads JSON; `None` if there is no file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(Error::system("read", path)(error)),
    };
    let value = serde_json::from_slice(&bytes);
    value.map(Some).map_err(|error| Error::BrokenRecord { path: path.to_owned(), reason: error.to_string() })
}
