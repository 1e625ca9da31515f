//! Receiving images: the store as the target of a pull or a load.
//!
//! Nothing of an image can be seen before all of it is there and verified: blobs arrive in `partial/`, layers are
//! unpacked in a staging folder, and `publish.rs` moves everything into place at the end. Whatever goes wrong before,
//! what has arrived stays and the next try goes on from it.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cove_oci::{
    Descriptor, Digest, ImageConfig, ImageConfigError, Manifest, ManifestKind, ManifestReference, Platform, Reference,
    VerifyError, chain_ids, media_type,
};
use cove_transfer::{Error as TransferError, Placed, Progress, Source, Target};
use tokio::sync::{Notify, Semaphore};

use crate::catalogue::{Catalogue, LayerRecord, ReferenceRecord};
use crate::early_writing::EarlyWriting;
use crate::index::is_index;
use crate::lease::{Lease, Staging};
use crate::lock::PassingLock;
use crate::partial::partial_path;
use crate::store::Store;
use crate::unpack::{Budget, UnpackOptions, Unpacked};
use crate::{Error, publish, record};

/// How to receive.
#[derive(Debug, Clone)]
pub struct ReceiveOptions {
    /// The images come from the registry that the reference names: the digests that they have there and where their
    /// blobs can be mounted from are remembered.
    pub from_registry: bool,
    /// Every image of an index is wanted, with what it lists besides images.
    pub all_platforms: bool,
    /// The platform that is wanted; an image for another one at the same reference is not the one.
    pub platform: Option<Platform>,
    /// Limits and abilities of unpacking.
    pub unpack: UnpackOptions,
}

impl Default for ReceiveOptions {
    fn default() -> Self {
        let unpack = crate::unpack_options();
        ReceiveOptions { from_registry: true, all_platforms: false, platform: None, unpack }
    }
}

/// The store as a target: made for one copy.
#[derive(Debug, Clone)]
pub struct Receiver {
    pub(crate) work: Arc<Work>,
}

/// What a copy into the store shares among its threads.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) store: Store,
    pub(crate) reference: Option<Reference>,
    pub(crate) options: ReceiveOptions,
    pub(crate) unpackers: Semaphore,
    /// Memory for all its layers.
    pub(crate) budget: Budget,
    /// Somebody may find what it waits for: a configuration has arrived.
    pub(crate) news: Notify,
    state: Mutex<State>,
}

/// What is known so far.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) session: Option<Arc<Session>>,
    pub(crate) root: Option<Digest>,
    /// The image that the reference stands for, once that is settled.
    pub(crate) main: Option<Digest>,
    /// The images of this copy, in the order that they were announced.
    pub(crate) images: Vec<Expected>,
    /// Manifests that are no images.
    pub(crate) artifacts: Vec<Manifest>,
    pub(crate) indexes: Vec<Manifest>,
    /// The blobs of all images.
    announced: HashMap<Digest, Announced>,
    /// Blobs that the store had.
    pub(crate) held: HashMap<Digest, Option<Digest>>,
    /// Layers, by DiffID, that somebody unpacks or has unpacked.
    pub(crate) taken: HashSet<Digest>,
    pub(crate) ready: HashMap<Digest, Ready>,
    /// DiffIDs of blobs that were computed.
    pub(crate) verified: HashMap<Digest, Digest>,
    /// Layers that have their folder: those that were found and those that got it in this copy.
    pub(crate) placed: Vec<LayerRecord>,
}

impl State {
    /// A layer of this copy that has its folder.
    pub(crate) fn placed(&self, diff_id: &Digest, chain_id: &Digest) -> Option<LayerRecord> {
        let fits =
            |layer: &&LayerRecord| layer.diff_id == *diff_id && layer.chain_id.as_ref().is_none_or(|id| id == chain_id);
        self.placed.iter().find(fits).cloned()
    }
}

/// What the manifests say of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Announced {
    role: Role,
    size: u64,
}

/// What a blob is to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Config,
    Layer,
}

/// An image of this copy.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    pub(crate) manifest: Manifest,
    pub(crate) config: Option<ImageConfig>,
}

/// A layer in the staging folder.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) folder: PathBuf,
    pub(crate) unpacked: Unpacked,
}

/// What a running copy holds on to.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) lease: Lease,
    pub(crate) staging: Staging,
    /// Opened before the first write, so that `syncfs` tells of every error since.
    pub(crate) disk: std::fs::File,
    _early_writing: EarlyWriting,
    _root: Option<PassingLock>,
}

/// What is to be done with a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LayerTask {
    /// Unpack it; its DiffID must be this.
    Unpack(Digest),
    /// Its files are there: only see whether its DiffID is this.
    Verify(Digest),
    /// Nothing: blob and files are there.
    Nothing,
}

impl Store {
    /// The store as the target of a copy. With a reference, that will stand for what is copied.
    pub fn receive(&self, reference: Option<&Reference>, mut options: ReceiveOptions) -> Receiver {
        options.unpack.overlay = self.overlay;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let work = Work {
            store: self.clone(),
            reference: reference.cloned(),
            budget: Budget::new(options.unpack.limits.tree_bytes),
            options,
            unpackers: Semaphore::new(cores),
            news: Notify::new(),
            state: Mutex::default(),
        };
        Receiver { work: Arc::new(work) }
    }
}

impl Work {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is one insertion: a panic elsewhere cannot have left it half made.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the reference stands for this root already, for the platform that is wanted.
    fn holds(&self, root: &Descriptor) -> Result<bool, Error> {
        let Some(reference) = &self.reference else { return Ok(false) };
        let store = &self.store;
        let stands = |reference: &Reference| -> Result<Option<ReferenceRecord>, Error> {
            let found: Option<ReferenceRecord> = record::read(&store.reference_path(reference))?;
            Ok(found.filter(|found| found.target.digest == root.digest))
        };
        let main = main_reference(reference);
        let Some(found) = stands(&main)? else { return Ok(false) };
        if self.options.from_registry && stands(&reference.with_digest(root.digest.clone()))?.is_none() {
            return Ok(false);
        }
        if self.options.all_platforms && is_index(&found.target) {
            let catalogue = Catalogue::read(&store.places)?;
            let Some(index) = found.index() else { return Ok(false) };
            if !index.is_whole(&store.places, &catalogue, &found.image)? {
                return Ok(false);
            }
        }
        let Some(image) = store.image(&found.image)? else { return Ok(false) };
        // Subordinate ids have come or gone since: its files have the wrong owners.
        if image.record.layers.iter().any(|layer| layer.one_id != self.one_id()) {
            return Ok(false);
        }
        let fits = self.options.platform.as_ref().is_none_or(|wanted| wanted.is(&image.config().platform()));
        Ok(fits)
    }

    /// Whether layers are unpacked with one id only.
    pub(crate) fn one_id(&self) -> bool {
        self.options.unpack.rootless.is_some()
    }

    /// Holds on to what a copy needs from its first write on.
    pub(crate) fn session(&self) -> Result<Arc<Session>, Error> {
        if let Some(session) = &self.state().session {
            return Ok(Arc::clone(session));
        }
        self.open_session(None)
    }

    fn open_session(&self, root: Option<PassingLock>) -> Result<Arc<Session>, Error> {
        let places = &self.store.places;
        let disk = fs_err::File::open(&places.root)?.into_parts().0;
        let lock = self.store.lock()?;
        let lease = Lease::take(places)?;
        let staging = Staging::make(places)?;
        drop(lock);
        let early_writing = EarlyWriting::begin(&places.root)?;
        let session = Arc::new(Session { lease, staging, disk, _early_writing: early_writing, _root: root });
        Ok(Arc::clone(self.state().session.insert(session)))
    }

    /// Notes what an image will need and sees what of it is there. From then on nobody removes it.
    fn expect(&self, manifest: &Manifest) -> Result<(), Error> {
        let digest = manifest.descriptor().digest;
        let Some(config) = manifest.config() else { return Ok(()) };
        let is_config = [media_type::OCI_CONFIG, media_type::DOCKER_CONFIG, media_type::OCTET_STREAM, ""]
            .contains(&config.media_type.as_str());
        let strange = manifest.layers().iter().find(|layer| layer.layer_codec().is_none());
        let is_root = self.state().root.as_ref() == Some(&digest);
        if !is_config || (strange.is_some() && self.options.all_platforms && !is_root) {
            if !self.options.all_platforms || is_root {
                return Err(Error::NotAnImage(config.media_type.clone()));
            }
            self.state().artifacts.push(manifest.clone());
        } else if let Some(layer) = strange {
            return Err(Error::LayerType(layer.media_type.clone()));
        } else {
            self.announce(manifest, config)?;
            self.state().images.push(Expected { manifest: manifest.clone(), config: None });
        }
        let session = self.session()?;
        let _lock = self.store.lock()?;
        let catalogue = Catalogue::read(&self.store.places)?;
        let known = catalogue.blobs();
        for blob in manifest.blobs() {
            if let Some(known) = known.get(&blob.digest)
                && self.store.places.blob(&blob.digest).exists()
            {
                same_size(&blob.digest, known.size, blob.size)?;
                self.state().held.insert(blob.digest.clone(), catalogue.diff_id(&blob.digest).cloned());
            }
        }
        let digests = manifest.blobs().map(|blob| blob.digest.as_str());
        session.lease.add(digests.chain([digest.as_str()]))
    }

    /// Notes what the blobs of an image are. Layers wait for configurations, so a blob that is both would wait for itself,
    /// and a configuration that is too large to be read would be waited for in vain.
    fn announce(&self, manifest: &Manifest, config: &Descriptor) -> Result<(), Error> {
        if config.size > ImageConfig::SIZE_LIMIT as u64 {
            return Err(ImageConfigError::TooLarge.into());
        }
        let mut state = self.state();
        let layers = manifest.layers().iter().map(|layer| (layer, Role::Layer));
        for (blob, role) in layers.chain([(config, Role::Config)]) {
            let announced = Announced { role, size: blob.size };
            let known = *state.announced.entry(blob.digest.clone()).or_insert(announced);
            if known.role != role {
                return Err(Error::TwoRoles(blob.digest.clone()));
            }
            same_size(&blob.digest, known.size, blob.size)?;
        }
        Ok(())
    }

    fn role(&self, blob: &Descriptor) -> Option<Role> {
        self.state().announced.get(&blob.digest).map(|announced| announced.role)
    }

    /// Whether images of this copy wait for a blob as their configuration.
    pub(crate) fn is_config(&self, blob: &Descriptor) -> bool {
        self.role(blob) == Some(Role::Config)
    }

    /// Notes a configuration that has arrived, and what layers of the image are there.
    pub(crate) fn config_arrived(&self, blob: &Descriptor, bytes: Vec<u8>) -> Result<(), Error> {
        let is_wanted =
            |expected: &Expected| expected.manifest.config().is_some_and(|config| config.digest == blob.digest);
        if !self.state().images.iter().any(is_wanted) {
            return Ok(());
        }
        let config = ImageConfig::parse(bytes)?;
        for expected in self.state().images.iter_mut().filter(|expected| is_wanted(expected)) {
            let (listed, carried) = (config.diff_ids().len(), expected.manifest.layers().len());
            if listed != carried {
                return Err(Error::LayerCount { config: listed, manifest: carried });
            }
            expected.config = Some(config.clone());
        }
        let session = self.session()?;
        let lock = self.store.lock()?;
        let catalogue = Catalogue::read(&self.store.places)?;
        let chain = chain_ids(config.diff_ids());
        let one_id = self.one_id();
        let layers = config.diff_ids().iter().zip(&chain);
        let there: Vec<LayerRecord> =
            layers.filter_map(|(diff_id, chain_id)| catalogue.layer(diff_id, chain_id, one_id)).cloned().collect();
        session.lease.add(there.iter().map(|layer| layer.folder.as_str()))?;
        drop(lock);
        // From now on they are ours too, whoever removes the image that they were found in.
        self.state().placed.extend(there);
        self.news.notify_waiters();
        Ok(())
    }

    /// What to do with a layer; waits until the configurations say what it is.
    pub(crate) async fn layer_task(&self, blob: &Descriptor) -> Result<LayerTask, Error> {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if let Some(task) = self.decide(blob)? {
                return Ok(task);
            }
            news.await;
        }
    }

    fn decide(&self, blob: &Descriptor) -> Result<Option<LayerTask>, Error> {
        let mut places = Vec::new();
        let held = {
            let state = self.state();
            for expected in &state.images {
                let at = expected.manifest.layers().iter().enumerate();
                let at: Vec<usize> = at.filter(|(_, layer)| layer.digest == blob.digest).map(|(at, _)| at).collect();
                if at.is_empty() {
                    continue;
                }
                let Some(config) = &expected.config else { return Ok(None) };
                let chain = chain_ids(config.diff_ids());
                places.extend(at.into_iter().map(|at| (config.diff_ids()[at].clone(), chain[at].clone())));
            }
            state.held.get(&blob.digest).cloned()
        };
        let Some((diff_id, _)) = places.first().cloned() else {
            // Nobody announced it: it is kept as it is.
            return Ok(Some(LayerTask::Nothing));
        };
        if let Some((other, _)) = places.iter().find(|(other, _)| *other != diff_id) {
            let found = diff_id.clone();
            return Err(Error::DiffId { blob: blob.digest.clone(), expected: other.clone(), found });
        }
        if let Some(Some(found)) = held.as_ref().filter(|known| known.as_ref().is_some_and(|known| *known != diff_id)) {
            let found = found.clone();
            return Err(Error::DiffId { blob: blob.digest.clone(), expected: diff_id, found });
        }
        let mut state = self.state();
        let unpacked = places.iter().all(|(diff_id, chain_id)| state.placed(diff_id, chain_id).is_some());
        let known = held.is_some_and(|known| known.is_some());
        Ok(Some(match (unpacked, known) {
            (true, true) => LayerTask::Nothing,
            (true, false) => LayerTask::Verify(diff_id),
            (false, known) if !state.taken.insert(diff_id.clone()) => match known {
                true => LayerTask::Nothing,
                false => LayerTask::Verify(diff_id),
            },
            (false, _) => LayerTask::Unpack(diff_id),
        }))
    }
}

/// The reference that a record is kept for: with a digest, the tag does not matter.
pub(crate) fn main_reference(reference: &Reference) -> Reference {
    match reference.digest() {
        Some(digest) => reference.with_digest(digest.clone()),
        None => reference.clone().or_latest(),
    }
}

/// Two sizes of one blob, of which at least one is wrong.
pub(crate) fn same_size(blob: &Digest, found: u64, expected: u64) -> Result<(), Error> {
    if found == expected { Ok(()) } else { Err(VerifyError::Size { digest: blob.clone(), expected, found }.into()) }
}

/// How often somebody who waits for another process looks again.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Receiver {
    /// The id of the image that was stored: of an index, the main one. `None` if nothing was stored.
    pub(crate) fn main(&self) -> Option<Digest> {
        self.work.state().main.clone()
    }
}

impl Target for Receiver {
    async fn holds(&self, root: &Descriptor, _reference: &ManifestReference) -> Result<bool, TransferError> {
        self.work.state().root = Some(root.digest.clone());
        if self.work.holds(root)? {
            return Ok(true);
        }
        // Two copies of one image share the work: the second waits for the first.
        let path = partial_path(&self.work.store.places, &root.digest).with_extension("root");
        let lock = loop {
            match PassingLock::take(&path).map_err(Error::from)? {
                Some(lock) => break lock,
                None => tokio::time::sleep(LOOK_AGAIN).await,
            }
        };
        if self.work.holds(root)? {
            return Ok(true);
        }
        self.work.open_session(Some(lock))?;
        Ok(false)
    }

    async fn expect(&self, image: &Manifest) -> Result<(), TransferError> {
        Ok(self.work.expect(image)?)
    }

    async fn put_blob<S: Source>(
        &self,
        blob: &Descriptor,
        source: &S,
        progress: &dyn Progress,
    ) -> Result<Placed, TransferError> {
        let held = self.work.state().held.contains_key(&blob.digest);
        match (self.work.role(blob), held) {
            (Some(Role::Layer), true) => self.held_layer(blob, progress).await,
            (Some(Role::Layer), false) => self.arriving_layer(blob, source, progress).await,
            (_, true) => self.held_content(blob, progress),
            (_, false) => self.arriving_content(blob, source, progress).await,
        }
    }

    async fn put_manifest(
        &self,
        manifest: &Manifest,
        reference: Option<&ManifestReference>,
    ) -> Result<(), TransferError> {
        if manifest.kind() == ManifestKind::Index {
            self.work.state().indexes.push(manifest.clone());
        }
        if reference.is_none() {
            return Ok(());
        }
        let work = Arc::clone(&self.work);
        let root = manifest.descriptor();
        let published = tokio::task::spawn_blocking(move || publish::publish(&work, &root)).await;
        self.work.state().session = None;
        let store = self.work.store.clone();
        let swept = tokio::task::spawn_blocking(move || store.sweep_now()).await;
        if let Ok(Err(error)) = swept {
            tracing::debug!("what is unused is not removed: {error}");
        }
        published.map_err(std::io::Error::other).map_err(Error::from)??;
        Ok(())
    }
}
