//! Blobs in a folder: `xx/ID`, where `xx` are the first two digits of the upload's id.
//!
//! Durability: the file's bytes are synced, and the folder that names a new file is, before anything is
//! recorded in the database. A file is never renamed, and truncated only while its upload is unfinished.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use cove_oci::Hasher;
use tokio::task::{JoinHandle, spawn_blocking};

use super::mapped::MappedFile;
use super::{BlobBody, BlobStoreError, Extent, Pieces, Result};

/// Blobs up to this size are read into memory in one go.
const SMALL: u64 = 64 * 1024;

/// Bytes of the disk that pushes leave free. The database is mostly on the same disk and needs room to delete:
/// without any, a full registry could never be emptied.
const RESERVED: u64 = 16 * 1024 * 1024;

/// A blob store in a folder.
#[derive(Debug, Clone)]
pub struct Folder {
    root: Arc<Path>,
    /// Held for life: the folder has one server.
    _lock: Arc<File>,
}

impl Folder {
    /// Opens the folder, or makes it. With `exclusive`, fails if a server has it open.
    pub fn open(root: &Path, exclusive: bool) -> Result<Self> {
        fs_err::create_dir_all(root)?;
        let lock = fs_err::OpenOptions::new().write(true).create(true).truncate(false).open(root.join("lock"))?;
        let lock = lock.into_parts().0;
        if exclusive && lock.try_lock().is_err() {
            return Err(BlobStoreError::InUse(root.to_owned()));
        }
        for first in 0..=u8::MAX {
            let folder = root.join(format!("{first:02x}"));
            if !folder.is_dir() {
                fs_err::create_dir(&folder)?;
            }
        }
        fs_err::File::open(root)?.sync_all()?;
        Ok(Folder { root: root.into(), _lock: Arc::new(lock) })
    }

    /// The object of an upload.
    pub(super) fn key(upload: &str) -> String {
        format!("{}/{upload}", upload.get(..2).unwrap_or("00"))
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// A writer that goes on at byte `offset`; what may lie behind it (from a request that was cut off before
    /// its bytes were recorded) is thrown away.
    pub fn writer(&self, key: &str, offset: u64, hasher: Hasher) -> FolderWriter {
        let job = Job::Idle(Box::new(hasher));
        FolderWriter {
            path: self.path(key),
            offset,
            start: offset,
            durable: offset,
            file: None,
            job,
            last: Vec::new(),
            flushed: offset,
            flush: None,
        }
    }

    pub(super) async fn read(&self, extents: Vec<Extent>, range: Range<u64>) -> Result<BlobBody> {
        let Some((key, length)) = extents.into_iter().next() else {
            return Err(io::Error::from(io::ErrorKind::NotFound).into());
        };
        let path = self.path(&key);
        let opened = spawn_blocking(move || -> Result<BlobBody> {
            let file: File = fs_err::File::open(path)?.into_parts().0;
            let found = file.metadata()?.len();
            if found < length || found < range.end {
                return Err(BlobStoreError::Damaged { key, found, expected: length });
            }
            if range.end - range.start <= SMALL {
                let mut bytes = vec![0; (range.end - range.start) as usize];
                file.read_exact_at(&mut bytes, range.start)?;
                return Ok(BlobBody::memory(Bytes::from(bytes)));
            }
            Ok(BlobBody::mapped(MappedFile::new(file, range)))
        });
        opened.await.map_err(io::Error::other)?
    }

    pub(super) async fn length(&self, key: &str) -> Result<Option<u64>> {
        match tokio::fs::metadata(self.path(key)).await {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn delete(&self, key: &str) -> Result<()> {
        match tokio::fs::remove_file(self.path(key)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    pub(super) async fn list(&self) -> Result<Vec<Extent>> {
        let root = self.root.clone();
        let listed = spawn_blocking(move || -> Result<Vec<Extent>> {
            let mut objects = Vec::new();
            for first in 0..=u8::MAX {
                let folder = format!("{first:02x}");
                for entry in fs_err::read_dir(root.join(&folder))? {
                    let entry = entry?;
                    let name = entry.file_name();
                    objects.push((format!("{folder}/{}", name.to_string_lossy()), entry.metadata()?.len()));
                }
            }
            Ok(objects)
        });
        listed.await.map_err(io::Error::other)?
    }

    /// Fails if a push has no room on the disk.
    pub(super) fn check_room(&self) -> Result<()> {
        Ok(check_room(rustix::fs::statvfs(&*self.root).map_err(io::Error::from)?, 0)?)
    }

    pub(super) async fn ping(&self) -> Result<()> {
        tokio::fs::metadata(self.root.join("lock")).await?;
        Ok(())
    }
}

/// Appends to one file, hashing on the way. The disk works on one chunk while the network brings the next.
#[derive(Debug)]
pub struct FolderWriter {
    path: PathBuf,
    /// Where the next chunk goes.
    offset: u64,
    /// Where the first one went.
    start: u64,
    /// What is durable ends here.
    durable: u64,
    file: Option<Arc<File>>,
    job: Job,
    /// Written when it is made durable.
    last: Pieces,
    /// Bytes up to here are durable, or will be when `flush` has ended.
    flushed: u64,
    /// Makes earlier chunks durable while later ones come in.
    flush: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Debug)]
enum Job {
    Idle(Box<Hasher>),
    Writing(JoinHandle<io::Result<(Hasher, Arc<File>)>>),
    /// A write failed; nothing more is accepted.
    Failed,
}

impl FolderWriter {
    /// Bytes that make a chunk.
    pub const CHUNK: usize = 1024 * 1024;
    /// Bytes that are made durable at a time while more are coming in, so that few are left at the end.
    const FLUSH: u64 = 32 * 1024 * 1024;

    /// Waits for the chunk before, then starts to write this one.
    pub async fn write(&mut self, pieces: Pieces) -> Result<()> {
        let hasher = self.settle().await?;
        self.start_flush().await?;
        let job = self.append(hasher, pieces);
        self.job = Job::Writing(spawn_blocking(job));
        Ok(())
    }

    /// Takes the last bytes, which are written by `sync`, and whatever their number in one go.
    pub fn write_last(&mut self, pieces: Pieces) {
        self.last = pieces;
    }

    /// Writes what is left and waits until everything is durable. Returns the file's durable length and the hasher
    /// over all of the upload's bytes.
    pub async fn sync(&mut self) -> Result<(u64, Hasher)> {
        let hasher = self.settle().await?;
        let last = std::mem::take(&mut self.last);
        let hasher = if self.file.is_none() && last.is_empty() {
            hasher // nothing was written since the last request, which has synced
        } else {
            let folder = (self.start == 0).then(|| self.path.parent().map(Path::to_owned)).flatten();
            let append = self.append(hasher, last);
            let synced = spawn_blocking(move || -> io::Result<(Hasher, Arc<File>)> {
                let (hasher, file) = append()?;
                file.sync_data()?;
                // A new file is durable only when its name is.
                folder.map_or(Ok(()), |folder| fs_err::File::open(folder)?.sync_all())?;
                Ok((hasher, file))
            });
            // An error of the flush is the file's: it is reported once, there or here.
            // Both are waited for, whatever comes of them: no write may go on when the next request begins.
            let (flushed, synced) = (self.end_flush().await, synced.await);
            flushed?;
            let (hasher, file) = synced.map_err(io::Error::other)??;
            self.file = Some(file);
            hasher
        };
        (self.durable, self.flushed) = (self.offset, self.offset);
        self.job = Job::Idle(Box::new(hasher.clone()));
        Ok((self.offset, hasher))
    }

    /// What appends `pieces`.
    fn append(
        &mut self,
        mut hasher: Hasher,
        pieces: Pieces,
    ) -> impl FnOnce() -> io::Result<(Hasher, Arc<File>)> + Send + use<> {
        let (file, path) = (self.file.clone(), self.path.clone());
        let (offset, start, durable) = (self.offset, self.start, self.durable);
        self.offset += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        move || {
            let file = match file {
                Some(file) => file,
                None => Arc::new(open_at(&path, start)?),
            };
            pieces.iter().for_each(|piece| hasher.update(piece));
            if let Err(error) = write_pieces(&file, &pieces, offset) {
                // The disk is full, mostly. Nobody will ever read what was not recorded: give the room back.
                file.set_len(durable).ok();
                return Err(error);
            }
            Ok((hasher, file))
        }
    }

    async fn settle(&mut self) -> Result<Hasher> {
        match std::mem::replace(&mut self.job, Job::Failed) {
            Job::Idle(hasher) => Ok(*hasher),
            Job::Writing(writing) => {
                let (hasher, file) = writing.await.map_err(io::Error::other)??;
                self.file = Some(file);
                Ok(hasher)
            }
            Job::Failed => Err(io::Error::other("an earlier write failed").into()),
        }
    }

    /// Begins to make durable what has been written, if that is much and nothing else is being flushed.
    async fn start_flush(&mut self) -> Result<()> {
        let Some(file) = self.file.clone().filter(|_| self.offset - self.flushed >= Self::FLUSH) else {
            return Ok(());
        };
        if self.flush.as_ref().is_some_and(|flush| !flush.is_finished()) {
            return Ok(());
        }
        self.end_flush().await?;
        self.flushed = self.offset;
        self.flush = Some(spawn_blocking(move || file.sync_data()));
        Ok(())
    }

    async fn end_flush(&mut self) -> Result<()> {
        match self.flush.take() {
            Some(flush) => Ok(flush.await.map_err(io::Error::other)??),
            None => Ok(()),
        }
    }
}

fn write_pieces(file: &File, pieces: &[Bytes], mut position: u64) -> io::Result<()> {
    let length = pieces.iter().map(|piece| piece.len() as u64).sum();
    check_room(rustix::fs::fstatvfs(file)?, length)?;
    for piece in pieces {
        file.write_all_at(piece, position)?;
        position += piece.len() as u64;
    }
    Ok(())
}

fn check_room(disk: rustix::fs::StatVfs, length: u64) -> io::Result<()> {
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < RESERVED.saturating_add(length) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

fn open_at(path: &Path, offset: u64) -> io::Result<File> {
    let file = fs_err::OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    let file: File = file.into_parts().0;
    let length = file.metadata()?.len();
    if length < offset {
        let problem = format!("`{}` has {length} bytes where {offset} were recorded", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    if length > offset {
        file.set_len(offset)?;
    }
    Ok(file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use cove_oci::{Algorithm, Digest};
    use http_body_util::BodyExt;

    use super::*;

    const ID: &str = "abcdef";

    async fn bytes(folder: &Folder, length: u64, range: Range<u64>) -> Bytes {
        let body = folder.read(vec![(Folder::key(ID), length)], range).await.unwrap();
        body.collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn an_upload_is_one_growing_file() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path(), true).unwrap();
        let big: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
        let (first, rest) = big.split_at(1_000_000);

        let mut writer = folder.writer(&Folder::key(ID), 0, Hasher::new(Algorithm::Sha256));
        writer.write(vec![Bytes::copy_from_slice(first)]).await.unwrap();
        let (length, hasher) = writer.sync().await.unwrap();
        assert_eq!(length, 1_000_000);
        // Bytes that were written but never recorded are thrown away by the next writer.
        writer.write(vec![Bytes::from_static(b"lost")]).await.unwrap();
        writer.sync().await.unwrap();

        let mut writer = folder.writer(&Folder::key(ID), length, hasher);
        writer.write(vec![Bytes::copy_from_slice(rest)]).await.unwrap();
        let (length, hasher) = writer.sync().await.unwrap();
        assert_eq!(hasher.finish(), Digest::of(Algorithm::Sha256, &big));
        assert_eq!(bytes(&folder, length, 0..length).await, big);
        assert_eq!(bytes(&folder, length, 5..2_999_999).await, big[5..2_999_999]);
        assert_eq!(bytes(&folder, length, 7..11).await, big[7..11]);
        assert!(folder.read(vec![(Folder::key(ID), length + 1)], 0..length).await.is_err(), "too short is damaged");
    }

    #[tokio::test]
    async fn much_is_flushed_while_more_comes_in() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path(), true).unwrap();
        let mut writer = folder.writer(&Folder::key(ID), 0, Hasher::new(Algorithm::Sha256));
        let mut all = Vec::new();
        for number in 0..36u8 {
            let chunk = Bytes::from(vec![number; FolderWriter::CHUNK]);
            all.extend_from_slice(&chunk);
            writer.write(vec![chunk]).await.unwrap();
        }
        assert!(writer.flush.is_some(), "36 MiB are more than is left for the end");
        writer.write_last(vec![Bytes::from_static(b"the "), Bytes::from_static(b"end")]);
        all.extend_from_slice(b"the end");
        let (length, hasher) = writer.sync().await.unwrap();
        assert_eq!((length, writer.flush.is_none()), (all.len() as u64, true));
        assert_eq!(hasher.finish(), Digest::of(Algorithm::Sha256, &all));
        assert_eq!(bytes(&folder, length, 0..length).await, all);
    }

    #[tokio::test]
    async fn a_folder_has_one_server() {
        let temporary = tempfile::tempdir().unwrap();
        let _first = Folder::open(temporary.path(), true).unwrap();
        assert!(matches!(Folder::open(temporary.path(), true), Err(BlobStoreError::InUse(_))));
        assert!(Folder::open(temporary.path(), false).is_ok(), "commands work beside a server");
    }
}
