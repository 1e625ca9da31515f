//! Sealing: giving images that have no compressed layers what a push needs.
//!
//! Layers that came uncompressed, from an archive or an import, are compressed once, the largest first, each on all
//! cores; each is sent as soon as it is ready, and remembered, so that a push that was broken off need not compress it
//! again. Then the images' records point to manifests made of them, always the same for the same layers, and the
//! uncompressed blobs go: the compressed ones hold the same bytes. An index that lists such an image becomes one that
//! lists the new manifest.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cove_oci::{Codec, Descriptor, Digest, Hasher, Manifest, media_type};
use cove_transfer::{Error as TransferError, Progress, Side, Step, Target, place};
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use crate::archive::NewManifest;
use crate::catalogue::{Catalogue, CompressedRecord, ImageRecord, IndexRecord, ManifestRecord};
use crate::compress::compress;
use crate::early_writing::EarlyWriting;
use crate::image::{self, Image};
use crate::journal::Changes;
use crate::lease::{Lease, Staging};
use crate::publish::{name_blob, write_blob};
use crate::send::Sender;
use crate::store::Store;
use crate::{Error, record};

/// How many compressed layers travel while others are compressed.
const BLOBS_AT_ONCE: usize = 4;
/// How much is read at once of what was compressed before.
const PIECE: usize = 256 * 1024;
/// How often the progress of compressing is told.
const TELL: Duration = Duration::from_millis(100);

/// What a sealing holds on to.
struct Work {
    store: Store,
    lease: Arc<Lease>,
    staging: Staging,
    disk: std::fs::File,
    _early_writing: EarlyWriting,
}

/// The layer that is being compressed, and how far it is.
#[derive(Default)]
struct Now {
    layer: Mutex<Option<Descriptor>>,
    done: AtomicU64,
}

/// An image that is to be sealed.
struct Unsealed {
    id: Digest,
    config: Descriptor,
    /// DiffIDs and blobs, lowest first.
    layers: Vec<(Digest, Descriptor)>,
}

/// What sealing has come to.
#[derive(Debug, Clone, Default)]
pub struct Sealed {
    /// The manifests that a push shall send, in the order of the images.
    pub manifests: Vec<Manifest>,
    /// How many attestations indexes have lost: those that speak of the manifests that were replaced.
    pub dropped: usize,
}

impl Store {
    /// Compresses what is uncompressed of images, sends each blob to `target` as soon as it is ready, and gives the
    /// manifests that a push shall send. An image that has its own already is not touched. A layer that is known in
    /// compressed form, from another image, is taken as it is, unless a codec is asked for and it has another one; what
    /// is compressed without being asked how becomes gzip, which everybody reads. Indexes that list the images are made
    /// anew, with everything else that they say.
    pub async fn seal<T: Target>(
        &self,
        images: &[Image],
        codec: Option<Codec>,
        target: &T,
        progress: &dyn Progress,
    ) -> Result<Sealed, TransferError> {
        let failed = |error: Error| error.on(Side::Source);
        let mut dropped = 0;
        if !self.unsealed(images).map_err(failed)?.is_empty() {
            let work = Arc::new(self.begin(images).map_err(failed)?);
            // Another push may have been quicker.
            let unsealed = self.unsealed(images).map_err(failed)?;
            let made = compress_and_place(&work, &unsealed, codec, target, progress).await?;
            dropped = work.publish(unsealed, &made).map_err(failed)?;
            drop(work);
            self.sweep_now().map_err(failed)?;
        }
        let manifests = images.iter().map(|image| {
            let record = image::read_record(&self.places, image.id())?;
            let form = record.and_then(|record| record.manifests.into_iter().next());
            image::read_manifest(
                &self.places,
                &form.ok_or_else(|| Error::NoSuchImage(image.id().to_string()))?.manifest,
            )
        });
        let manifests = manifests.collect::<Result<_, Error>>().map_err(failed)?;
        Ok(Sealed { manifests, dropped })
    }

    /// Those that have no manifest of compressed layers yet, as they are now.
    fn unsealed(&self, images: &[Image]) -> Result<Vec<Unsealed>, Error> {
        let mut unsealed = Vec::new();
        for image in images {
            let record = image::read_record(&self.places, image.id())?;
            let record = record.ok_or_else(|| Error::NoSuchImage(image.id().to_string()))?;
            let form = record.manifests.first().ok_or_else(|| Error::MissingBlob(image.id().clone()))?;
            if form.raw {
                let diff_ids = record.layers.iter().map(|layer| layer.diff_id.clone());
                let layers = diff_ids.zip(form.layers.clone()).collect();
                let config = Descriptor { media_type: media_type::OCI_CONFIG.to_owned(), ..record.config.clone() };
                unsealed.push(Unsealed { id: record.id, config, layers });
            }
        }
        Ok(unsealed)
    }

    /// Reads the records anew, for others may have changed them since the images were found, and holds on to what they
    /// name.
    fn begin(&self, images: &[Image]) -> Result<Work, Error> {
        let disk = fs_err::File::open(&self.places.root)?.into_parts().0;
        let _lock = self.lock()?;
        let lease = Lease::take(&self.places)?;
        let images = images.iter().filter_map(|image| image::read_record(&self.places, image.id()).transpose());
        let images = images.collect::<Result<Vec<ImageRecord>, Error>>()?;
        lease.add(images.iter().flat_map(ImageRecord::blobs).map(|blob| blob.digest.as_str()))?;
        let staging = Staging::make(&self.places)?;
        let early_writing = EarlyWriting::begin(&self.places.root)?;
        Ok(Work { store: self.clone(), lease: Arc::new(lease), staging, disk, _early_writing: early_writing })
    }
}

/// Compresses on threads of its own while the network takes what is ready; what became of each blob, by what it was.
async fn compress_and_place<T: Target>(
    work: &Arc<Work>,
    unsealed: &[Unsealed],
    codec: Option<Codec>,
    target: &T,
    progress: &dyn Progress,
) -> Result<HashMap<Digest, Descriptor>, TransferError> {
    let failed = |error: Error| error.on(Side::Source);
    let source = Sender::of_parts(work.store.clone(), unsealed[0].config.clone(), Arc::clone(&work.lease));
    let (ready, arriving) = mpsc::unbounded_channel::<Descriptor>();
    let now = Arc::new(Now::default());
    let renamed = Renamed { progress, known_as: Mutex::default() };
    let names = Arc::new(Mutex::new(Vec::new()));
    let mut thread = {
        let (work, now, names) = (Arc::clone(work), Arc::clone(&now), Arc::clone(&names));
        let layers: Vec<_> = unsealed.iter().flat_map(|image| image.layers.clone()).collect();
        tokio::task::spawn_blocking(move || work.compress_all(&layers, codec, &now, &ready, &names))
    };
    let known_as = &renamed.known_as;
    let layers_ready = stream::unfold(arriving, move |mut arriving| {
        let names = Arc::clone(&names);
        async move {
            let next = arriving.recv().await?;
            let mut known = known_as.lock().unwrap_or_else(PoisonError::into_inner);
            known.extend(names.lock().unwrap_or_else(PoisonError::into_inner).drain(..));
            Some((Ok(next), arriving))
        }
    });
    let configs: Vec<_> = unsealed.iter().map(|image| Ok(image.config.clone())).collect();
    let placing = place(&source, target, stream::iter(configs).chain(layers_ready), BLOBS_AT_ONCE, &renamed);
    let compressing = async {
        loop {
            match tokio::time::timeout(TELL, &mut thread).await {
                Ok(done) => {
                    return done.map_err(|error| failed(std::io::Error::other(error).into()))?.map_err(failed);
                }
                Err(_) => now.tell(progress),
            }
        }
    };
    let (_, made) = futures_util::future::try_join(placing, compressing).await?;
    Ok(made)
}

impl Work {
    /// Compresses every layer that is not compressed yet; what became of each blob.
    fn compress_all(
        &self,
        layers: &[(Digest, Descriptor)],
        codec: Option<Codec>,
        now: &Now,
        ready: &mpsc::UnboundedSender<Descriptor>,
        names: &Mutex<Vec<(Digest, Descriptor)>>,
    ) -> Result<HashMap<Digest, Descriptor>, Error> {
        let mut order: Vec<&(Digest, Descriptor)> = layers.iter().collect();
        order.sort_by_key(|(_, blob)| std::cmp::Reverse(blob.size));
        let mut made: HashMap<Digest, Descriptor> = HashMap::new();
        for (diff_id, blob) in order {
            if made.contains_key(&blob.digest) {
                continue;
            }
            let descriptor = match self.known(diff_id, blob, codec)? {
                Some(known) => known,
                None => self.compress(diff_id, blob, codec.unwrap_or(Codec::Gzip), now)?,
            };
            names.lock().unwrap_or_else(PoisonError::into_inner).push((descriptor.digest.clone(), blob.clone()));
            made.insert(blob.digest.clone(), descriptor.clone());
            // Who listened has gone: the push has failed.
            if ready.send(descriptor).is_err() {
                break;
            }
        }
        Ok(made)
    }

    /// The layer as it was compressed before: here, or for another image.
    fn known(&self, diff_id: &Digest, blob: &Descriptor, codec: Option<Codec>) -> Result<Option<Descriptor>, Error> {
        let compressed = |blob: &Descriptor| blob.layer_codec().is_some_and(|codec| codec != Codec::Identity);
        if compressed(blob) {
            return Ok(Some(blob.clone()));
        }
        if let Some(remembered) = self.remembered(diff_id, codec.unwrap_or(Codec::Gzip))? {
            return Ok(Some(remembered));
        }
        let _lock = self.store.lock()?;
        let catalogue = Catalogue::read(&self.store.places)?;
        let forms = catalogue.images.iter().flat_map(|image| {
            let diff_ids: Vec<&Digest> = image.layers.iter().map(|layer| &layer.diff_id).collect();
            image.manifests.iter().flat_map(move |form| diff_ids.clone().into_iter().zip(&form.layers))
        });
        let fits = |blob: &Descriptor| codec.is_none_or(|codec| blob.layer_codec() == Some(codec));
        let mut known = forms.filter(|(other, blob)| *other == diff_id && compressed(blob) && fits(blob));
        let Some((_, known)) = known.next() else { return Ok(None) };
        self.lease.add([known.digest.as_str()])?;
        // What another image calls docker's media type is the same bytes.
        let codec = known.layer_codec().unwrap_or(Codec::Gzip);
        Ok(Some(Descriptor::new(oci_type(codec), known.digest.clone(), known.size)))
    }

    /// The layer as it was compressed for a push that was broken off. Nobody has waited for the disk then, so its bytes
    /// are looked at again.
    fn remembered(&self, diff_id: &Digest, codec: Codec) -> Result<Option<Descriptor>, Error> {
        let places = &self.store.places;
        let path = places.compressed_layer(diff_id, codec);
        let lock = self.store.lock()?;
        let Some(CompressedRecord { blob, .. }) = record::read(&path).ok().flatten() else { return Ok(None) };
        self.lease.add([blob.digest.as_str()])?;
        drop(lock);
        let is_right = || -> std::io::Result<bool> {
            let mut file = fs_err::File::open(places.blob(&blob.digest))?;
            let mut hasher = Hasher::new(blob.digest.algorithm());
            let mut buffer = vec![0; PIECE];
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok(hasher.finish() == blob.digest),
                    count => hasher.update(&buffer[..count]),
                }
            }
        };
        if is_right().unwrap_or(false) {
            return Ok(Some(blob));
        }
        record::remove(&path)?;
        Ok(None)
    }

    fn compress(&self, diff_id: &Digest, blob: &Descriptor, codec: Codec, now: &Now) -> Result<Descriptor, Error> {
        *now.layer.lock().unwrap_or_else(PoisonError::into_inner) = Some(blob.clone());
        now.done.store(0, Ordering::Relaxed);
        let places = &self.store.places;
        let raw = places.blob(&blob.digest);
        let tar = fs_err::File::open(&raw)?;
        let path = self.staging.path().join(record::random_name());
        let mut out = fs_err::File::create_new(&path)?;
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let told = |done: u64| now.done.store(done, Ordering::Relaxed);
        let made = compress(codec, tar, &mut out, threads, &told)?;
        if made.diff_id != *diff_id {
            return Err(Error::Damaged { path: raw, reason: format!("its content has the digest {}", made.diff_id) });
        }
        let made = Descriptor::new(oci_type(codec), made.digest, made.size);
        let _lock = self.store.lock()?;
        self.lease.add([made.digest.as_str()])?;
        name_blob(places, &path, &made.digest)?;
        let compressed = CompressedRecord { diff_id: diff_id.clone(), codec, blob: made.clone() };
        record::remember(&places.compressed_layer(diff_id, codec), &compressed)?;
        Ok(made)
    }

    /// Makes the records point to the new manifests, and indexes list them; the blobs that they replace are nobody's
    /// then. How many attestations that has cost.
    fn publish(&self, unsealed: Vec<Unsealed>, made: &HashMap<Digest, Descriptor>) -> Result<usize, Error> {
        let places = &self.store.places;
        let mut forms: HashMap<Digest, ManifestRecord> = HashMap::new();
        for image in unsealed {
            let layers = image.layers.iter().map(|(_, blob)| made.get(&blob.digest).cloned());
            let layers: Option<Vec<Descriptor>> = layers.collect();
            let layers = layers.ok_or_else(|| Error::MissingBlob(image.id.clone()))?;
            let manifest = Manifest::parse(NewManifest::bytes(&image.config, &layers)?, None)?;
            let descriptor = manifest.descriptor();
            let lock = self.store.lock()?;
            self.lease.add([descriptor.digest.as_str()])?;
            drop(lock);
            write_blob(places, &descriptor.digest, manifest.bytes())?;
            forms.insert(image.id, ManifestRecord { manifest: descriptor, layers, raw: false });
        }
        rustix::fs::syncfs(&self.disk).map_err(std::io::Error::from)?;

        let _lock = self.store.lock()?;
        let catalogue = Catalogue::read(places)?;
        let mut images: HashMap<Digest, ImageRecord> = HashMap::new();
        let mut replaced: HashMap<Digest, Descriptor> = HashMap::new();
        for (id, form) in &forms {
            let mut record = catalogue.image(id).cloned().ok_or_else(|| Error::NoSuchImage(id.to_string()))?;
            let raw = record.manifests.iter().filter(|old| old.raw);
            replaced.extend(raw.map(|old| (old.manifest.digest.clone(), form.manifest.clone())));
            record.manifests.retain(|old| !old.raw && old.manifest.digest != form.manifest.digest);
            record.manifests.insert(0, form.clone());
            images.insert(id.clone(), record);
        }
        let mut changes = Changes::new(places);
        let mut dropped = HashSet::new();
        let mut anew = |index: &IndexRecord| index.replace(places, &replaced, &mut dropped);
        for record in &catalogue.references {
            let mut new = record.clone();
            match (record.index(), forms.get(&record.image)) {
                (Some(index), _) => {
                    if let Some(index) = anew(&index)? {
                        (new.target, new.content) = (index.target, index.content);
                    }
                }
                // An index that is not here may have listed the manifest that is gone now.
                (None, Some(form)) => new.target = form.manifest.clone(),
                (None, None) => {}
            }
            // A digest says what a repository has, which has not changed.
            if new != *record && record.reference.digest().is_none() {
                changes.write(&self.store.reference_path(&record.reference), &new)?;
            }
        }
        for record in catalogue.images.iter().filter(|record| record.index.is_some()) {
            let index = record.index.as_ref().map(&mut anew).transpose()?.flatten();
            let record = images.get(&record.id).unwrap_or(record).clone();
            if let Some(index) = index {
                images.insert(record.id.clone(), ImageRecord { index: Some(index), ..record });
            }
        }
        for (id, record) in &images {
            changes.write(&places.image(id), record)?;
        }
        changes.commit()?;
        Ok(dropped.len())
    }
}

/// What OCI calls a layer that is compressed here.
fn oci_type(codec: Codec) -> &'static str {
    match codec {
        Codec::Zstd => media_type::OCI_LAYER_ZSTD,
        Codec::Gzip | Codec::Identity => media_type::OCI_LAYER_GZIP,
    }
}

impl Now {
    fn tell(&self, progress: &dyn Progress) {
        let layer = self.layer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(layer) = layer {
            let done = self.done.load(Ordering::Relaxed);
            progress.step(&layer, Step::Compressing { done, total: layer.size });
        }
    }
}

/// Tells about compressed layers under the names that they had before.
struct Renamed<'a> {
    progress: &'a dyn Progress,
    known_as: Mutex<HashMap<Digest, Descriptor>>,
}

impl Progress for Renamed<'_> {
    fn image(&self, manifest: &Manifest) {
        self.progress.image(manifest);
    }

    fn step(&self, blob: &Descriptor, step: Step) {
        let known = self.known_as.lock().unwrap_or_else(PoisonError::into_inner).get(&blob.digest).cloned();
        self.progress.step(known.as_ref().unwrap_or(blob), step);
    }
}
