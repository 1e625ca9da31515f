//! Several records at once: all of them or none, whenever the process is killed or the power fails.
//!
//! The records are written beside their places first. The journal, one file, then says which is to be renamed to what;
//! from the moment that it is there the change has happened, and whoever locks the store next renames what its writer
//! could not. Renaming needs no room, so a disk that is full cannot leave a change half made. A rename that was done
//! finds nothing to do: a journal that comes back after a power cut harms nobody, for its names are never used again.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::places::Places;
use crate::{Error, record};

/// What is to be renamed, in this order; paths relative to the store.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Journal {
    renames: Vec<Rename>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rename {
    from: PathBuf,
    to: PathBuf,
}

/// Records that are written together. Dropped before it is committed, it leaves nothing.
#[derive(Debug)]
pub(crate) struct Changes<'a> {
    places: &'a Places,
    journal: Journal,
}

impl<'a> Changes<'a> {
    /// None yet. Only while the store is locked, to the end.
    pub(crate) fn new(places: &'a Places) -> Self {
        Changes { places, journal: Journal::default() }
    }

    /// Adds a record.
    pub(crate) fn write<T: Serialize>(&mut self, path: &Path, record: &T) -> Result<(), Error> {
        let unfinished = record::place(path, record, false)?;
        let relative = |path: &Path| path.strip_prefix(&self.places.root).unwrap_or(path).to_owned();
        self.journal.renames.push(Rename { from: relative(&unfinished), to: relative(path) });
        Ok(())
    }

    /// Makes all of them the truth.
    pub(crate) fn commit(mut self) -> Result<(), Error> {
        let journal = std::mem::take(&mut self.journal);
        if let Err(error) = self.make_last(&journal) {
            self.journal = journal;
            return Err(error);
        }
        finish(self.places, &journal)
    }

    fn make_last(&self, journal: &Journal) -> Result<(), Error> {
        match journal.renames.as_slice() {
            [] => Ok(()),
            // One rename is all or nothing by itself.
            [Rename { from, .. }] => Ok(fs_err::File::open(self.places.root.join(from))?.sync_all()?),
            _ => {
                rustix::fs::syncfs(fs_err::File::open(&self.places.root)?.file()).map_err(io::Error::from)?;
                record::write(&self.places.journal(), journal)
            }
        }
    }
}

impl Drop for Changes<'_> {
    fn drop(&mut self) {
        for rename in &self.journal.renames {
            let _ = std::fs::remove_file(self.places.root.join(&rename.from));
        }
    }
}

/// Does what a killed process has left to do. Only while the store is locked.
pub(crate) fn recover(places: &Places) -> Result<(), Error> {
    match record::read::<Journal>(&places.journal())? {
        Some(journal) => finish(places, &journal),
        None => Ok(()),
    }
}

fn finish(places: &Places, journal: &Journal) -> Result<(), Error> {
    let mut folders = BTreeSet::new();
    for Rename { from, to } in &journal.renames {
        let to = places.root.join(to);
        match fs_err::rename(places.root.join(from), &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => folders.extend(to.parent().map(Path::to_owned)),
        }
    }
    // Before the journal goes: without it nobody would do again what the disk has lost.
    folders.iter().try_for_each(|folder| record::sync_folder(folder))?;
    match fs_err::remove_file(places.journal()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Store;

    fn records(store: &Store) -> [Option<u32>; 3] {
        let places = store.places();
        let paths =
            [places.images().join("a.json"), places.references().join("b.json"), places.references().join("c.json")];
        paths.map(|path| record::read(&path).unwrap())
    }

    /// A process that is killed after any number of renames.
    #[test]
    fn all_or_none() {
        for done in 0..=3 {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(Places::under(folder.path())).unwrap();
            let places = store.places();
            let change = |number: u32| {
                let mut changes = Changes::new(places);
                changes.write(&places.images().join("a.json"), &number).unwrap();
                changes.write(&places.references().join("b.json"), &number).unwrap();
                changes.write(&places.references().join("c.json"), &number).unwrap();
                changes
            };
            change(1).commit().unwrap();
            drop(change(2));
            assert_eq!(records(&store), [Some(1); 3]);
            assert_eq!(fs_err::read_dir(places.references()).unwrap().count(), 2, "what was not committed is gone");

            let mut killed = change(3);
            record::write(&places.journal(), &killed.journal).unwrap();
            for Rename { from, to } in &killed.journal.renames[..done] {
                fs_err::rename(places.root.join(from), places.root.join(to)).unwrap();
            }
            std::mem::take(&mut killed.journal);
            drop(killed);
            // Whoever opens the store next sees the new state, and so does whoever has it open.
            if done % 2 == 0 {
                Store::open(places.clone()).unwrap();
            } else {
                drop(store.lock().unwrap());
            }
            assert_eq!(records(&store), [Some(3); 3], "killed after {done} renames");
            assert!(!places.journal().exists());
        }
    }

    /// A journal that a power cut has brought back does not undo what came after it.
    #[test]
    fn an_old_journal_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Places::under(folder.path())).unwrap();
        let places = store.places();
        let path = places.images().join("a.json");
        let mut changes = Changes::new(places);
        changes.write(&path, &1).unwrap();
        let journal = serde_json::to_vec(&changes.journal).unwrap();
        changes.commit().unwrap();
        record::write(&path, &2).unwrap();
        fs_err::write(places.journal(), journal).unwrap();
        drop(store.lock().unwrap());
        assert_eq!(records(&store)[0], Some(2));
    }
}
