//! Records: small JSON files that are there whole or not at all.
//!
//! A record is written as a new file, synced, renamed into place, and its folder synced: whoever reads it, after a
//! power cut too, finds the old one or the new one. Reading is strict: a field that is missing or unknown is an error
//! that names the file, never a guess.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// What a record's name begins with while it is being written.
const UNFINISHED: &str = ".new-";

/// Writes a record so that it lasts.
pub(crate) fn write<T: Serialize>(path: &Path, record: &T) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let unfinished = place(path, record, true)?;
    fs_err::rename(&unfinished, path)?;
    sync_folder(folder)
}

/// Writes a record that may be lost with a power cut: what is only remembered to save work.
pub(crate) fn remember<T: Serialize>(path: &Path, record: &T) -> Result<(), Error> {
    let unfinished = place(path, record, false)?;
    Ok(fs_err::rename(&unfinished, path)?)
}

/// Writes a record beside its place; what renames it there makes it the truth.
pub(crate) fn place<T: Serialize>(path: &Path, record: &T, lasting: bool) -> Result<std::path::PathBuf, Error> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let unfinished = folder.join(format!("{UNFINISHED}{}", random_name()));
    let mut text = serde_json::to_vec_pretty(record).map_err(io::Error::from)?;
    text.push(b'\n');
    let mut file = fs_err::File::create_new(&unfinished)?;
    let written = file.write_all(&text).and_then(|()| if lasting { file.sync_all() } else { Ok(()) });
    if let Err(error) = written {
        let _ = fs_err::remove_file(&unfinished);
        return Err(error.into());
    }
    Ok(unfinished)
}

/// Reads a record; `None` if there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match fs_err::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let record = serde_json::from_slice(&bytes);
    record.map(Some).map_err(|error| Error::BrokenRecord { path: path.to_owned(), reason: error.to_string() })
}

/// Removes a record so that it stays removed. Whether there was one.
pub(crate) fn remove(path: &Path) -> Result<bool, Error> {
    match fs_err::remove_file(path) {
        Ok(()) => {
            sync_folder(path.parent().unwrap_or(Path::new("/")))?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The records of a folder, by path. Those that were never finished are left out.
pub(crate) fn list(folder: &Path) -> Result<Vec<std::path::PathBuf>, Error> {
    let mut paths = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().ends_with(b".json") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// Removes records that were never finished. Only while the store is locked: nobody else writes then.
pub(crate) fn sweep(folder: &Path) -> Result<(), Error> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            fs_err::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Removes records that are only remembered and were never finished. They are written without a lock, in a moment: who
/// has not finished after an hour is dead.
pub(crate) fn sweep_old(folder: &Path) -> Result<(), Error> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            continue;
        }
        let age = entry.metadata().and_then(|found| found.modified()).map(|written| written.elapsed());
        if age.is_ok_and(|age| age.is_ok_and(|age| age.as_secs() > 3600)) {
            let _ = fs_err::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Makes the names in a folder last.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), Error> {
    Ok(fs_err::File::open(folder)?.sync_all()?)
}

/// A short name that nothing else has.
pub(crate) fn random_name() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bytes: [u8; 10] = rand::random();
    bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte & 31)])).collect()
}
