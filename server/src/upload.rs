//! Receiving bytes: from a request's body into the blob store, hashed on the way, with progress in the database.
//!
//! The order is always the same: what is written is made durable, then recorded, then acknowledged. A body that
//! breaks off keeps what arrived; after a `kill -9` what was recorded counts, at most 64 MiB less than what
//! arrived.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use cove_oci::{Algorithm, Digest, Hasher, RepositoryName};
use http_body_util::BodyExt;
use tokio::sync::{OwnedMutexGuard, watch};

use crate::auth::random_hex;
use crate::blobs::{BlobStore, CloudWriter, FolderWriter};
use crate::body::RequestBody;
use crate::error::Error;
use crate::metadata::{FinishedUpload, MetadataError, Progress, UploadRow, now_ms};
use crate::state::Server;

/// Bytes after which progress is made durable and recorded.
const RECORDED: u64 = 64 * 1024 * 1024;
/// Pieces of a body that are smaller than this are copied together.
const COPIED: usize = 16 * 1024;

/// A request that writes to an upload: the only one, and the last of those that asked.
pub struct Receiver {
    server: Arc<Server>,
    upload: UploadRow,
    sink: Sink,
    /// Something of the object that this request writes is recorded.
    recorded: bool,
    claim: Claim,
}

enum Sink {
    Folder { key: String, writer: FolderWriter },
    Cloud { base: u64, writer: Option<Box<CloudWriter>>, hasher: Option<Hasher> },
}

/// How a body ended.
enum Ended {
    Complete,
    /// The connection broke, stood still, or another request took over.
    Early(Error),
}

impl Receiver {
    /// Begins an upload.
    pub async fn begin(
        server: &Arc<Server>,
        repository: RepositoryName,
        account_id: Option<i64>,
        algorithm: Algorithm,
    ) -> Result<UploadRow, Error> {
        server.blobs.check_room()?;
        let upload = UploadRow {
            id: random_hex(),
            repository,
            account_id,
            size: 0,
            hash_state: Hasher::new(algorithm).save(),
            writer: 0,
        };
        server.store.add_upload(&upload, server.blobs.key_for_upload(&upload.id).as_deref()).await?;
        Ok(upload)
    }

    /// Takes an upload over, from whatever request writes to it now. `algorithm` is that of the digest to come,
    /// if it is known: an upload without bytes changes to it.
    pub async fn take_over(
        server: &Arc<Server>,
        upload: UploadRow,
        algorithm: Option<Algorithm>,
    ) -> Result<Self, Error> {
        let claim = server.active_uploads.claim(&upload.id).await;
        let upload = match &server.blobs {
            // One server has the folder, so the claim is enough; read again what the one before has recorded.
            BlobStore::Folder(_) => server.store.upload(&upload.id).await?,
            BlobStore::Cloud(_) => server.store.take_upload(&upload.id).await?,
        };
        let mut upload = upload.ok_or(Error::UploadUnknown)?;
        let mut hasher = Hasher::resume(&upload.hash_state);
        if let Some(algorithm) = algorithm.filter(|_| upload.size == 0) {
            hasher = Some(Hasher::new(algorithm));
        }
        if let (BlobStore::Cloud(cloud), Some((key, length, multipart, parts))) =
            (&server.blobs, server.open_object(&upload).await?)
        {
            // The request before was killed in the middle of an object: what it recorded becomes one.
            match length {
                0 => server.blobs.delete(&key, Some(&multipart)).await?,
                _ => cloud.complete(&key, length, &multipart, &parts).await?,
            }
            let (size, hash_state) = (upload.size, upload.hash_state.as_str());
            let recorded = Progress {
                id: &upload.id,
                writer: upload.writer,
                size,
                hash_state,
                key: &key,
                length,
                multipart: None,
            };
            server.store.progress(&recorded).await?;
        }
        let hasher = match hasher {
            Some(hasher) => hasher,
            None => server.hash_stored(&upload, Algorithm::Sha256).await?,
        };
        upload.hash_state = hasher.save();
        let sink = match &server.blobs {
            BlobStore::Folder(folder) => {
                let key = server.blobs.key_for_upload(&upload.id).unwrap_or_default();
                let writer = folder.writer(&key, upload.size, hasher);
                Sink::Folder { key, writer }
            }
            BlobStore::Cloud(_) => Sink::Cloud { base: upload.size, writer: None, hasher: Some(hasher) },
        };
        Ok(Receiver { server: server.clone(), upload, sink, recorded: false, claim })
    }

    /// The upload.
    pub fn upload(&self) -> &UploadRow {
        &self.upload
    }

    /// Takes in a body to its end. What arrived is durable and recorded when this returns, with an error too.
    pub async fn receive(&mut self, body: &mut RequestBody) -> Result<(), Error> {
        let received = self.take_in(body).await?;
        self.settle().await?;
        self.record().await?;
        match received {
            Ended::Complete => Ok(()),
            Ended::Early(error) => Err(error),
        }
    }

    /// Takes in the last body and makes a blob of the upload. Bytes of the same digest that are here already
    /// stay, unless they are damaged.
    pub async fn finish(mut self, body: &mut RequestBody, digest: &Digest) -> Result<(), Error> {
        self.complete(body, digest).await?;
        let damaged = self.server.damaged_content(digest).await?;
        self.store(digest, damaged.as_deref(), now_ms()).await
    }

    /// Like [`Receiver::finish`], in place of `old`, which readers may go on with until `old_until_ms`.
    pub async fn replace(
        mut self,
        body: &mut RequestBody,
        digest: &Digest,
        old: &str,
        old_until_ms: i64,
    ) -> Result<(), Error> {
        self.complete(body, digest).await?;
        self.store(digest, Some(old), old_until_ms).await
    }

    async fn store(self, digest: &Digest, replaced: Option<&str>, replaced_until_ms: i64) -> Result<(), Error> {
        let repository = &self.upload.repository;
        let finished = FinishedUpload { last: self.progress(), repository, digest, replaced, replaced_until_ms };
        let stored = self.server.store.finish_upload(&finished).await;
        if self.or_clean_up(stored).await? {
            self.server.garbage.notify_one();
        }
        Ok(())
    }

    /// Takes in the last body, makes it durable and compares digests.
    async fn complete(&mut self, body: &mut RequestBody, digest: &Digest) -> Result<(), Error> {
        if let Ended::Early(error) = self.take_in(body).await? {
            self.settle().await?;
            self.record().await?;
            return Err(error);
        }
        let hasher = self.settle().await?;
        let computed = if hasher.algorithm() == digest.algorithm() {
            hasher.finish()
        } else {
            // The algorithm was not announced: what is stored is hashed again.
            self.record().await?;
            self.server.hash_stored(&self.upload, digest.algorithm()).await?.finish()
        };
        if computed != *digest {
            self.record().await?;
            return Err(Error::DigestMismatch { claimed: digest.clone(), computed });
        }
        Ok(())
    }

    async fn take_in(&mut self, body: &mut RequestBody) -> Result<Ended, Error> {
        let chunk = match &self.sink {
            Sink::Folder { .. } => FolderWriter::CHUNK,
            Sink::Cloud { .. } => CloudWriter::CHUNK,
        };
        let mut pieces = Pieces::default();
        let mut unrecorded = 0;
        let ended = loop {
            let next = tokio::select! {
                next = body.next() => next,
                () = self.claim.replaced() => break Ended::Early(Error::UploadTaken),
            };
            match next {
                Ok(Some(bytes)) => pieces.push(bytes),
                Ok(None) => break Ended::Complete,
                Err(error) => break Ended::Early(error),
            }
            while pieces.length >= chunk {
                self.write(pieces.take(chunk)).await?;
                unrecorded += chunk as u64;
                if unrecorded >= RECORDED {
                    self.sync().await?;
                    self.record().await?;
                    unrecorded = 0;
                }
            }
        };
        let rest = pieces.take(pieces.length);
        match &mut self.sink {
            _ if rest.is_empty() => {}
            Sink::Folder { writer, .. } => writer.write_last(rest),
            Sink::Cloud { .. } => {
                self.cloud_writer().await?.write_last(rest);
            }
        }
        Ok(ended)
    }

    async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), Error> {
        if let Sink::Folder { writer, .. } = &mut self.sink {
            return Ok(writer.write(pieces).await?);
        }
        let (server, id, number) = (self.server.clone(), self.upload.id.clone(), self.upload.writer);
        let writer = self.cloud_writer().await?;
        let key = writer.key().to_owned();
        if let Some(multipart) = writer.begin_multipart().await? {
            server.store.set_multipart(&id, number, &key, multipart).await?;
        }
        Ok(writer.write(pieces).await?)
    }

    /// The writer of this request's object, which is recorded before its first byte is written.
    async fn cloud_writer(&mut self) -> Result<&mut CloudWriter, Error> {
        let (Sink::Cloud { base, writer, hasher }, BlobStore::Cloud(cloud)) = (&mut self.sink, &self.server.blobs)
        else {
            return Err(Error::Broken);
        };
        if writer.is_none() {
            let key = format!("{}/{}-{}", self.upload.id, base, random_hex());
            self.server.store.add_object(&self.upload.id, self.upload.writer, &key, *base).await?;
            let hasher = hasher.take().ok_or(Error::Broken)?;
            *writer = Some(Box::new(cloud.writer(key, hasher)));
        }
        writer.as_deref_mut().ok_or(Error::Broken)
    }

    /// Waits until what was handed to the store is durable; the object stays open.
    async fn sync(&mut self) -> Result<(), Error> {
        match &mut self.sink {
            Sink::Folder { writer, .. } => {
                let (size, hasher) = writer.sync().await?;
                (self.upload.size, self.upload.hash_state) = (size, hasher.save());
            }
            Sink::Cloud { base, writer: Some(writer), .. } => {
                let hasher = writer.sync().await?;
                (self.upload.size, self.upload.hash_state) = (*base + writer.length(), hasher.save());
            }
            Sink::Cloud { writer: None, .. } => {}
        }
        Ok(())
    }

    /// Makes everything durable and the object whole. Returns the hasher over all bytes of the upload.
    async fn settle(&mut self) -> Result<Hasher, Error> {
        let (size, hasher) = match &mut self.sink {
            Sink::Folder { writer, .. } => writer.sync().await?,
            Sink::Cloud { base, writer: Some(writer), .. } => {
                let hasher = writer.finish().await?;
                (*base + writer.length(), hasher)
            }
            Sink::Cloud { hasher, .. } => (self.upload.size, hasher.clone().ok_or(Error::Broken)?),
        };
        (self.upload.size, self.upload.hash_state) = (size, hasher.save());
        Ok(hasher)
    }

    /// Records what is durable.
    async fn record(&mut self) -> Result<(), Error> {
        let multipart = match &self.sink {
            Sink::Cloud { writer: Some(writer), .. } => writer.open_multipart(),
            _ => None,
        };
        let multipart = multipart.as_ref().map(|(id, parts)| (*id, parts.as_str()));
        let progress = Progress { multipart, ..self.progress() };
        let recorded = self.server.store.progress(&progress).await;
        self.or_clean_up(recorded).await?;
        self.recorded = true;
        Ok(())
    }

    /// When the upload is no longer ours, what this request wrote and nobody knows of is deleted: the upload was
    /// cancelled and its objects perhaps deleted before our last byte, or another request has taken over.
    async fn or_clean_up<T>(&self, outcome: Result<T, MetadataError>) -> Result<T, Error> {
        if let Err(MetadataError::StaleWriter) = &outcome {
            let gone = self.server.store.upload(&self.upload.id).await?.is_none();
            let multipart = match &self.sink {
                Sink::Cloud { writer: Some(writer), .. } => writer.open_multipart().map(|(id, _)| id.to_owned()),
                _ => None,
            };
            let unknown = !self.recorded && matches!(self.sink, Sink::Cloud { .. });
            let key = self.progress().key;
            if (gone || unknown) && !key.is_empty() {
                self.server.blobs.delete(key, multipart.as_deref()).await?;
            }
        }
        Ok(outcome?)
    }

    /// What is durable, with the object complete.
    fn progress(&self) -> Progress<'_> {
        let (key, length) = match &self.sink {
            Sink::Folder { key, .. } => (key.as_str(), self.upload.size),
            Sink::Cloud { writer: Some(writer), .. } => (writer.key(), writer.length()),
            Sink::Cloud { writer: None, .. } => ("", 0),
        };
        Progress {
            id: &self.upload.id,
            writer: self.upload.writer,
            size: self.upload.size,
            hash_state: &self.upload.hash_state,
            key,
            length,
            multipart: None,
        }
    }
}

impl Server {
    async fn open_object(&self, upload: &UploadRow) -> Result<Option<(String, u64, String, String)>, Error> {
        match &self.blobs {
            BlobStore::Folder(_) => Ok(None),
            BlobStore::Cloud(_) => Ok(self.store.open_object(&upload.id).await?),
        }
    }

    /// Hashes the recorded bytes of an upload.
    async fn hash_stored(&self, upload: &UploadRow, algorithm: Algorithm) -> Result<Hasher, Error> {
        let extents = match self.blobs.key_for_upload(&upload.id) {
            Some(key) => vec![(key, upload.size)],
            None => self.store.extents(&upload.id).await?,
        };
        let mut body = self.blobs.read(extents, 0..upload.size).await?;
        let mut hasher = Hasher::new(algorithm);
        while let Some(frame) = body.frame().await {
            let Ok(bytes) = frame.map_err(crate::blobs::BlobStoreError::from)?.into_data() else { continue };
            hasher = tokio::task::spawn_blocking(move || {
                hasher.update(&bytes);
                hasher
            })
            .await
            .map_err(io::Error::other)
            .map_err(crate::blobs::BlobStoreError::from)?;
        }
        Ok(hasher)
    }

    /// The content behind a digest that is known already, if its objects are not as they should be.
    async fn damaged_content(&self, digest: &Digest) -> Result<Option<String>, Error> {
        let Some((content, size)) = self.store.content_of(digest).await? else { return Ok(None) };
        let extents = self.store.extents(&content).await?;
        let whole = extents.iter().map(|(_, length)| length).sum::<u64>() == size;
        let damaged = !whole || self.blobs.damaged(&extents).await?.is_some();
        Ok(damaged.then_some(content))
    }
}

/// Bytes that wait to become a chunk.
#[derive(Default)]
struct Pieces {
    pieces: Vec<Bytes>,
    /// Small pieces in a row, in one.
    tail: BytesMut,
    length: usize,
}

impl Pieces {
    /// A small piece is copied: as it came, it would keep a whole network buffer in memory.
    fn push(&mut self, bytes: Bytes) {
        self.length += bytes.len();
        if bytes.len() < COPIED {
            self.tail.extend_from_slice(&bytes);
        } else {
            self.seal();
            self.pieces.push(bytes);
        }
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(self.tail.split().freeze());
        }
    }

    /// The first `length` bytes.
    fn take(&mut self, length: usize) -> Vec<Bytes> {
        self.seal();
        let mut taken = Vec::new();
        let mut missing = length;
        let mut rest = std::mem::take(&mut self.pieces).into_iter();
        while missing > 0 {
            let Some(mut piece) = rest.next() else { break };
            if piece.len() > missing {
                let kept = piece.split_off(missing);
                self.pieces.push(kept);
            }
            missing -= piece.len();
            taken.push(piece);
        }
        self.pieces.extend(rest);
        self.length -= length - missing;
        taken
    }
}

/// Which requests of this process write to which uploads. A newer request replaces the older one, which stops
/// reading, records what it has, and lets the newer one begin.
#[derive(Default)]
pub struct ActiveUploads {
    slots: Arc<Slots>,
}

type Slots = Mutex<HashMap<String, Arc<Slot>>>;

#[derive(Default)]
struct Slot {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Counts the requests that have asked.
    newest: watch::Sender<u64>,
}

/// The right to write to an upload, until a newer request asks for it.
pub(crate) struct Claim {
    id: String,
    slots: Arc<Slots>,
    newest: watch::Receiver<u64>,
    number: u64,
    _turn: OwnedMutexGuard<()>,
}

impl ActiveUploads {
    /// The right to write to an upload, as soon as whoever has it now has stopped.
    pub(crate) async fn claim(&self, id: &str) -> Claim {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.entry(id.to_owned()).or_default().clone()
        };
        let mut number = 0;
        slot.newest.send_modify(|newest| {
            *newest += 1;
            number = *newest;
        });
        let newest = slot.newest.subscribe();
        let turn = slot.turn.clone().lock_owned().await;
        Claim { id: id.to_owned(), slots: self.slots.clone(), newest, number, _turn: turn }
    }
}

impl Claim {
    /// Resolves when a newer request wants the upload.
    async fn replaced(&mut self) {
        let number = self.number;
        if self.newest.wait_for(|newest| *newest != number).await.is_err() {
            std::future::pending().await // the slot lives as long as we do
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever waits has cloned the slot; without any, it can go.
        if slots.get(&self.id).is_some_and(|slot| Arc::strong_count(slot) == 1) {
            slots.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_at_the_byte() {
        let mut pieces = Pieces::default();
        for piece in ["abc", "defgh", "i"] {
            pieces.push(Bytes::from_static(piece.as_bytes()));
        }
        assert_eq!(pieces.take(5).concat(), b"abcde");
        assert_eq!(pieces.length, 4);
        assert_eq!(pieces.take(4).concat(), b"fghi");
        assert!(pieces.take(0).is_empty());
    }

    #[tokio::test]
    async fn a_newer_request_replaces_the_older_one() {
        let active = Arc::new(ActiveUploads::default());
        let mut first = active.claim("u").await;
        let second = tokio::spawn({
            let active = active.clone();
            async move { active.claim("u").await.number }
        });
        first.replaced().await;
        assert!(!second.is_finished(), "the newer one waits until the older one has recorded what it has");
        drop(first);
        assert_eq!(second.await.ok(), Some(2));
        assert!(active.slots.lock().is_ok_and(|slots| slots.is_empty()), "nothing is left behind");
    }
}
