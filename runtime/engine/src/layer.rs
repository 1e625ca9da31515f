//! One blob on its way in: bytes into the partial file, and behind them the unpacking that follows it.

use std::future::Future;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cove_oci::{Algorithm, Codec, Descriptor, Digest, Hasher, VerifyError};
use cove_transfer::{Error as TransferError, Kind, Placed, Progress, Side, Source, Step};
use futures_util::StreamExt;
use futures_util::future::{Either, select};

use crate::catalogue::Catalogue;
use crate::decompress::{decompress, read_ahead};
use crate::partial::{Growth, Partial};
use crate::receive::{LOOK_AGAIN, LayerTask, Ready, Receiver, Work, same_size};
use crate::{Error, image, record, unpack};

/// How many pieces from the network wait for the disk.
const WAITING_PIECES: usize = 16;
/// How often the progress of unpacking is told.
const TELL: Duration = Duration::from_millis(100);

/// A download that is dropped tells those who follow it.
struct Breaks(Arc<Growth>);

impl Drop for Breaks {
    fn drop(&mut self) {
        self.0.break_off();
    }
}

impl Receiver {
    /// A configuration, or something else that is kept as it is.
    pub(crate) async fn arriving_content<S: Source>(
        &self,
        blob: &Descriptor,
        source: &S,
        progress: &dyn Progress,
    ) -> Result<Placed, TransferError> {
        let Some(partial) = self.partial(blob, source, progress).await? else {
            return self.held_content(blob, progress);
        };
        let stored = self.download(blob, source, &partial, progress).await?;
        if self.work.is_config(blob) {
            let bytes = fs_err::read(partial.path()).map_err(Error::from)?;
            self.work.config_arrived(blob, bytes)?;
        }
        progress.step(blob, Step::Done);
        Ok(Placed::Stored(stored))
    }

    /// The same if it is in the store.
    pub(crate) fn held_content(&self, blob: &Descriptor, progress: &dyn Progress) -> Result<Placed, TransferError> {
        if self.work.is_config(blob) {
            let bytes = image::read_blob(&self.work.store.places, blob)?;
            self.work.config_arrived(blob, bytes)?;
        }
        progress.step(blob, Step::Existed);
        Ok(Placed::Existed)
    }

    /// A layer whose blob is in the store.
    pub(crate) async fn held_layer(&self, blob: &Descriptor, progress: &dyn Progress) -> Result<Placed, TransferError> {
        let task = self.work.layer_task(blob).await?;
        if task != LayerTask::Nothing {
            let open = || -> Result<std::fs::File, Error> {
                Ok(fs_err::File::open(self.work.store.places.blob(&blob.digest))?.into_parts().0)
            };
            self.unpack(blob, task, open()?, progress).await?;
        }
        progress.step(blob, Step::Existed);
        Ok(Placed::Existed)
    }

    /// A layer that comes from the source. Both sides work at once; one that fails stops the other.
    pub(crate) async fn arriving_layer<S: Source>(
        &self,
        blob: &Descriptor,
        source: &S,
        progress: &dyn Progress,
    ) -> Result<Placed, TransferError> {
        let Some(partial) = self.partial(blob, source, progress).await? else {
            return self.held_layer(blob, progress).await;
        };
        let resumed = partial.length() > 0;
        let growth = Arc::new(Growth::default());
        let follower = partial.follow(&growth).map_err(Error::from)?;
        let unpacking = std::pin::pin!(async {
            let task = self.work.layer_task(blob).await?;
            self.unpack(blob, task, follower, progress).await
        });
        let downloading = std::pin::pin!(self.attempt(blob, source, &partial, growth, progress));
        match select(downloading, unpacking).await {
            Either::Left((Ok(Some(stored)), unpacking)) => {
                unpacking.await?;
                progress.step(blob, Step::Done);
                return Ok(Placed::Stored(stored));
            }
            Either::Left((Ok(None), _)) => {}
            Either::Left((Err(error), _)) => return Err(error),
            // Wrong bytes from an earlier attempt may be at fault: the digest will tell.
            Either::Right((Err(error), downloading)) if resumed => {
                if downloading.await?.is_some() {
                    return Err(error);
                }
            }
            Either::Right((Err(error), _)) => return Err(error),
            Either::Right((Ok(()), downloading)) => {
                if let Some(stored) = downloading.await? {
                    progress.step(blob, Step::Done);
                    return Ok(Placed::Stored(stored));
                }
            }
        }
        // What had arrived earlier was wrong: once more, from the start. The layer's place in the list of those that
        // are being unpacked was ours.
        partial.discard().map_err(Error::from)?;
        self.work.forget_layer(blob);
        let growth = Arc::new(Growth::default());
        let follower = partial.follow(&growth).map_err(Error::from)?;
        let unpacking = async {
            let task = self.work.layer_task(blob).await?;
            self.unpack(blob, task, follower, progress).await
        };
        let downloading = self.attempt(blob, source, &partial, growth, progress);
        let (stored, ()) = futures_util::future::try_join(downloading, unpacking).await?;
        progress.step(blob, Step::Done);
        Ok(Placed::Stored(stored.unwrap_or(blob.size)))
    }

    /// The partial file of a blob; waits while another process works on it. `None` if that one has brought the blob
    /// into the store meanwhile. A file that the source has on this machine takes the place of what must be fetched,
    /// by a link.
    async fn partial<S: Source>(
        &self,
        blob: &Descriptor,
        source: &S,
        progress: &dyn Progress,
    ) -> Result<Option<Arc<Partial>>, TransferError> {
        self.work.session()?;
        let mut told = false;
        loop {
            if let Some(partial) = Partial::take(&self.work.store.places, blob).map_err(Error::from)? {
                if self.work.has_come(blob)? {
                    return Ok(None);
                }
                if let Some(file) = source.file(&blob.digest) {
                    partial.adopt(&file).map_err(Error::from)?;
                }
                return Ok(Some(Arc::new(partial)));
            }
            if !std::mem::replace(&mut told, true) {
                progress.step(blob, Step::Waiting);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Brings all bytes of a blob; how many had to travel.
    async fn download<S: Source>(
        &self,
        blob: &Descriptor,
        source: &S,
        partial: &Arc<Partial>,
        progress: &dyn Progress,
    ) -> Result<u64, TransferError> {
        loop {
            match self.attempt(blob, source, partial, Arc::default(), progress).await? {
                Some(stored) => return Ok(stored),
                None => partial.discard().map_err(Error::from)?,
            }
        }
    }

    /// Brings what is missing of a blob. `None` if the whole is wrong and the fault may lie in what was there before.
    async fn attempt<S: Source>(
        &self,
        blob: &Descriptor,
        source: &S,
        partial: &Arc<Partial>,
        growth: Arc<Growth>,
        progress: &dyn Progress,
    ) -> Result<Option<u64>, TransferError> {
        let breaks = Breaks(Arc::clone(&growth));
        // Hashing what has arrived takes a while: not in a thread that others wait for.
        let opening = {
            let (partial, growth) = (Arc::clone(partial), Arc::clone(&growth));
            tokio::task::spawn_blocking(move || partial.open(growth))
        };
        let mut writer = opening.await.map_err(io::Error::other).flatten().map_err(Error::from)?;
        let before = writer.length();
        let mut done = before;
        if before > 0 {
            progress.step(blob, Step::Resumed(before));
        }
        if before < blob.size {
            let mut stream = source.blob(blob, before).await?;
            let (pieces, mut arriving) = tokio::sync::mpsc::channel::<Bytes>(WAITING_PIECES);
            // Who is cut off here may still be writing: the file is others' only after that.
            let holding = Arc::clone(partial);
            let writing = tokio::task::spawn_blocking(move || {
                let _holding = holding;
                while let Some(piece) = arriving.blocking_recv() {
                    writer.append(&piece)?;
                }
                io::Result::Ok(writer)
            });
            let mut failed = None;
            while let Some(piece) = stream.next().await {
                match piece {
                    Ok(piece) => {
                        done += piece.len() as u64;
                        if pieces.send(piece).await.is_err() {
                            break;
                        }
                        progress.step(blob, Step::Transferring { done, total: blob.size });
                    }
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            drop(pieces);
            writer = writing.await.map_err(io::Error::other).map_err(Error::from)?.map_err(from_disk)?;
            if let Some(error) = failed {
                return Err(error);
            }
        }
        let found = writer.length();
        if found != blob.size {
            let wrong = VerifyError::Size { digest: blob.digest.clone(), expected: blob.size, found };
            return Err(TransferError::new(Side::Source, Kind::Corrupt, wrong).about(&blob.digest));
        }
        let found = writer.finish();
        if found != blob.digest {
            if before > 0 {
                return Ok(None);
            }
            partial.discard().map_err(Error::from)?;
            let wrong = VerifyError::Digest { expected: blob.digest.clone(), found };
            return Err(TransferError::new(Side::Source, Kind::Corrupt, wrong).about(&blob.digest));
        }
        growth.whole();
        drop(breaks);
        progress.step(blob, Step::Transferred);
        Ok(Some(done - before))
    }

    /// Unpacks a layer, or only computes its DiffID, and tells how far it is.
    async fn unpack(
        &self,
        blob: &Descriptor,
        task: LayerTask,
        compressed: impl Read + Send + 'static,
        progress: &dyn Progress,
    ) -> Result<(), TransferError> {
        if task == LayerTask::Nothing {
            return Ok(());
        }
        let permit = self.work.unpackers.acquire().await.map_err(io::Error::other).map_err(Error::from)?;
        let read = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner: compressed, count: Arc::clone(&read) };
        let (work, layer) = (Arc::clone(&self.work), blob.clone());
        let working = tokio::task::spawn_blocking(move || work.unpack(&layer, &task, counted));
        let tell = || progress.step(blob, Step::Unpacking { done: read.load(Ordering::Relaxed), total: blob.size });
        let unpacked = telling(working, tell).await;
        drop(permit);
        unpacked.map_err(io::Error::other).map_err(Error::from)??;
        Ok(())
    }
}

/// Waits for something and tells about it meanwhile.
async fn telling<F: Future + Unpin>(work: F, tell: impl Fn()) -> F::Output {
    let mut work = work;
    loop {
        match tokio::time::timeout(TELL, &mut work).await {
            Ok(done) => return done,
            Err(_) => tell(),
        }
    }
}

/// More bytes than announced are the source's fault, everything else ours.
fn from_disk(error: io::Error) -> TransferError {
    match error.kind() {
        io::ErrorKind::InvalidData => TransferError::new(Side::Source, Kind::Corrupt, error),
        _ => Error::from(error).into(),
    }
}

impl Work {
    /// Whether another process has published a blob since this copy began. The lease names it already.
    fn has_come(&self, blob: &Descriptor) -> Result<bool, Error> {
        if !self.store.places.blob(&blob.digest).exists() {
            return Ok(false);
        }
        let _lock = self.store.lock()?;
        let catalogue = Catalogue::read(&self.store.places)?;
        let blobs = catalogue.blobs();
        let has_come = blobs.get(&blob.digest);
        if let Some(found) = has_come {
            same_size(&blob.digest, found.size, blob.size)?;
            self.state().held.insert(blob.digest.clone(), catalogue.diff_id(&blob.digest).cloned());
        }
        Ok(has_come.is_some())
    }

    fn forget_layer(&self, blob: &Descriptor) {
        let mut state = self.state();
        let diff_ids: Vec<Digest> = state
            .images
            .iter()
            .filter_map(|expected| {
                let at = expected.manifest.layers().iter().position(|layer| layer.digest == blob.digest)?;
                expected.config.as_ref()?.diff_ids().get(at).cloned()
            })
            .collect();
        for diff_id in diff_ids {
            if !state.ready.contains_key(&diff_id) {
                state.taken.remove(&diff_id);
            }
        }
    }

    /// Unpacks a layer into the staging folder and compares its DiffID.
    fn unpack(&self, blob: &Descriptor, task: &LayerTask, compressed: impl Read + Send) -> Result<(), Error> {
        let codec = blob.layer_codec().ok_or_else(|| Error::LayerType(blob.media_type.clone()))?;
        let options = &self.options.unpack;
        let (diff_id, found, ready) = match task {
            LayerTask::Nothing => return Ok(()),
            LayerTask::Verify(diff_id) => {
                let (_, found) =
                    through(codec, compressed, &options.limits, |tar| Ok(io::copy(tar, &mut io::sink())?))?;
                (diff_id, found, None)
            }
            LayerTask::Unpack(diff_id) => {
                let session = self.session()?;
                let folder = session.staging.path().join(record::random_name());
                fs_err::create_dir(&folder)?;
                fs_err::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
                let unpack = |tar: &mut dyn Read| Ok(unpack::unpack_within(tar, &folder, options, &self.budget)?);
                let (unpacked, found) = through(codec, compressed, &options.limits, unpack)?;
                (diff_id, found, Some(Ready { folder, unpacked }))
            }
        };
        if found != *diff_id {
            return Err(Error::DiffId { blob: blob.digest.clone(), expected: diff_id.clone(), found });
        }
        let mut state = self.state();
        state.verified.insert(blob.digest.clone(), found);
        if let Some(ready) = ready {
            state.ready.insert(diff_id.clone(), ready);
        }
        Ok(())
    }
}

/// Hands the tar of a layer to `work`, which reads it in this thread while another one decompresses, and gives the
/// digest of what was read.
pub(crate) fn through<T>(
    codec: Codec,
    compressed: impl Read + Send,
    limits: &unpack::UnpackLimits,
    work: impl FnOnce(&mut dyn Read) -> Result<T, Error>,
) -> Result<(T, Digest), Error> {
    let hashed = |tar: &mut dyn Read| {
        let mut tar = Hashed { inner: tar, hasher: Hasher::new(Algorithm::Sha256) };
        let made = work(&mut tar)?;
        Ok((made, tar.hasher.finish()))
    };
    match codec {
        Codec::Identity => hashed(&mut { compressed }),
        Codec::Gzip | Codec::Zstd => read_ahead(|| decompress(codec, compressed, limits), hashed),
    }
}

/// Hashes what is read.
struct Hashed<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
