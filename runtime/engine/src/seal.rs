//! Sealing: giving an image that has no compressed layers what a push needs.
//!
//! Layers that came uncompressed, from an archive or an import, are compressed once, the largest first, each on all
//! cores; each is sent as soon as it is ready. Then the image's record points to a manifest made of them, always the
//! same for the same layers, and the uncompressed blobs go: the compressed ones hold the same bytes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cove_oci::{Codec, Descriptor, Digest, Manifest, media_type};
use cove_transfer::{Error as TransferError, Progress, Side, Step, Target, place};
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use crate::archive::NewManifest;
use crate::catalogue::{Catalogue, ImageRecord, ManifestRecord};
use crate::compress::compress;
use crate::image::{self, Image};
use crate::lease::{Lease, Staging};
use crate::publish::{name_blob, write_blob};
use crate::send::Sender;
use crate::store::Store;
use crate::{Error, record};

/// How many compressed layers travel while others are compressed.
const BLOBS_AT_ONCE: usize = 4;
/// How often the progress of compressing is told.
const TELL: Duration = Duration::from_millis(100);

/// What a sealing holds on to.
struct Work {
    store: Store,
    lease: Arc<Lease>,
    staging: Staging,
    disk: std::fs::File,
}

/// The layer that is being compressed, and how far it is.
#[derive(Default)]
struct Now {
    layer: Mutex<Option<Descriptor>>,
    done: AtomicU64,
}

impl Store {
    /// Compresses what is uncompressed of an image, sends each blob to `target` as soon as it is ready, and gives the
    /// manifest that a push shall send. An image that has it already is not touched. A layer that is known in compressed
    /// form, from another image, is taken as it is, unless a codec is asked for and it has another one; what is
    /// compressed without being asked how becomes gzip, which everybody reads.
    pub async fn seal<T: Target>(
        &self,
        image: &Image,
        codec: Option<Codec>,
        target: &T,
        progress: &dyn Progress,
    ) -> Result<Manifest, TransferError> {
        let failed = |error: Error| error.on(Side::Source);
        let seen = image::read_record(&self.places, image.id()).map_err(failed)?;
        if let Some(form) = seen.as_ref().and_then(|seen| seen.manifests.first()).filter(|form| !form.raw) {
            return image::read_manifest(&self.places, &form.manifest).map_err(failed);
        }
        let (work, current) = self.begin(image).map_err(failed)?;
        let work = Arc::new(work);
        let form = current.manifests.first().cloned().ok_or_else(|| failed(Error::MissingBlob(image.id().clone())))?;
        if !form.raw {
            return image::read_manifest(&self.places, &form.manifest).map_err(failed);
        }
        let source = Sender::of_parts(self.clone(), form.manifest.clone(), Arc::clone(&work.lease));
        let (ready, arriving) = mpsc::unbounded_channel::<Descriptor>();
        let now = Arc::new(Now::default());
        let renamed = Renamed { progress, known_as: Mutex::default() };

        let layers: Vec<(Digest, Descriptor)> =
            current.layers.iter().map(|layer| layer.diff_id.clone()).zip(form.layers.clone()).collect();
        let compressing = {
            let (work, now, layers) = (Arc::clone(&work), Arc::clone(&now), layers.clone());
            let names = Arc::new(Mutex::new(Vec::new()));
            let told = Arc::clone(&names);
            let thread = tokio::task::spawn_blocking(move || work.compress_all(&layers, codec, &now, &ready, &told));
            (thread, names)
        };
        let (thread, names) = compressing;
        let mut config = current.config.clone();
        config.media_type = media_type::OCI_CONFIG.to_owned();
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
        let blobs = stream::iter([Ok(config.clone())]).chain(layers_ready);
        let placing = place(&source, target, blobs, BLOBS_AT_ONCE, &renamed);
        let compressing = async {
            let mut thread = thread;
            loop {
                match tokio::time::timeout(TELL, &mut thread).await {
                    Ok(done) => {
                        return done.map_err(|error| failed(std::io::Error::other(error).into()))?.map_err(failed);
                    }
                    Err(_) => now.tell(progress),
                }
            }
        };
        let (_, layers) = futures_util::future::try_join(placing, compressing).await?;
        let manifest = work.publish(image, &config, layers).map_err(failed)?;
        drop((source, work));
        self.sweep_now().map_err(failed)?;
        Ok(manifest)
    }

    /// Reads the record anew, for others may have changed it since the image was found, and holds on to what it names.
    fn begin(&self, image: &Image) -> Result<(Work, ImageRecord), Error> {
        let disk = fs_err::File::open(&self.places.root)?.into_parts().0;
        let _lock = self.lock()?;
        let current =
            image::read_record(&self.places, image.id())?.ok_or_else(|| Error::NoSuchImage(image.id().to_string()))?;
        let lease = Lease::take(&self.places)?;
        lease.add(current.blobs().map(|blob| blob.digest.as_str()))?;
        let staging = Staging::make(&self.places)?;
        Ok((Work { store: self.clone(), lease: Arc::new(lease), staging, disk }, current))
    }
}

impl Work {
    /// Compresses every layer that is not compressed yet; the descriptors in the image's order.
    fn compress_all(
        &self,
        layers: &[(Digest, Descriptor)],
        codec: Option<Codec>,
        now: &Now,
        ready: &mpsc::UnboundedSender<Descriptor>,
        names: &Mutex<Vec<(Digest, Descriptor)>>,
    ) -> Result<Vec<Descriptor>, Error> {
        let mut order: Vec<usize> = (0..layers.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(layers[*at].1.size));
        let mut made: HashMap<Digest, Descriptor> = HashMap::new();
        for at in order {
            let (diff_id, blob) = &layers[at];
            if made.contains_key(diff_id) {
                continue;
            }
            let descriptor = match self.known(diff_id, blob, codec)? {
                Some(known) => known,
                None => self.compress(diff_id, blob, codec.unwrap_or(Codec::Gzip), now)?,
            };
            names.lock().unwrap_or_else(PoisonError::into_inner).push((descriptor.digest.clone(), blob.clone()));
            made.insert(diff_id.clone(), descriptor.clone());
            // Who listened has gone: the push has failed.
            if ready.send(descriptor).is_err() {
                break;
            }
        }
        let in_order = layers
            .iter()
            .map(|(diff_id, _)| made.get(diff_id).cloned().ok_or_else(|| Error::MissingBlob(diff_id.clone())));
        in_order.collect()
    }

    /// The layer as it was compressed before: here, or for another image.
    fn known(&self, diff_id: &Digest, blob: &Descriptor, codec: Option<Codec>) -> Result<Option<Descriptor>, Error> {
        let compressed = |blob: &Descriptor| blob.layer_codec().is_some_and(|codec| codec != Codec::Identity);
        if compressed(blob) {
            return Ok(Some(blob.clone()));
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
        let media_type = match known.layer_codec() {
            Some(Codec::Zstd) => media_type::OCI_LAYER_ZSTD,
            _ => media_type::OCI_LAYER_GZIP,
        };
        Ok(Some(Descriptor::new(media_type, known.digest.clone(), known.size)))
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
        let _lock = self.store.lock()?;
        self.lease.add([made.digest.as_str()])?;
        name_blob(places, &path, &made.digest)?;
        let media_type = match codec {
            Codec::Zstd => media_type::OCI_LAYER_ZSTD,
            Codec::Gzip | Codec::Identity => media_type::OCI_LAYER_GZIP,
        };
        Ok(Descriptor::new(media_type, made.digest, made.size))
    }

    /// Makes the record point to the new manifest, and removes the blobs that it replaces.
    fn publish(&self, image: &Image, config: &Descriptor, layers: Vec<Descriptor>) -> Result<Manifest, Error> {
        let places = &self.store.places;
        let manifest = Manifest::parse(NewManifest::bytes(config, &layers)?, None)?;
        let descriptor = manifest.descriptor();
        let lock = self.store.lock()?;
        self.lease.add([descriptor.digest.as_str()])?;
        drop(lock);
        write_blob(places, &descriptor.digest, manifest.bytes())?;
        rustix::fs::syncfs(&self.disk).map_err(std::io::Error::from)?;
        let lock = self.store.lock()?;
        let mut record =
            image::read_record(places, image.id())?.ok_or_else(|| Error::NoSuchImage(image.id().to_string()))?;
        let raw: Vec<Digest> =
            record.manifests.iter().filter(|form| form.raw).map(|form| form.manifest.digest.clone()).collect();
        record.manifests.retain(|form| !form.raw && form.manifest.digest != descriptor.digest);
        record.manifests.insert(0, ManifestRecord { manifest: descriptor.clone(), layers, raw: false });
        record::write(&places.image(&record.id), &record)?;
        let catalogue = Catalogue::read(places)?;
        for reference in catalogue.references_of(image.id()) {
            // An index of the archive listed the manifest that is gone now.
            if raw.contains(&reference.target.digest) || reference.images.is_empty() {
                let mut reference = reference.clone();
                reference.target = descriptor.clone();
                reference.content.clear();
                record::write(&self.store.reference_path(&reference.reference), &reference)?;
            }
        }
        drop(lock);
        Ok(manifest)
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
