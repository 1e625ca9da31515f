//! What all requests share.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use cove_oci::{Digest, RepositoryName};
use ipnet::IpNet;
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Weighter};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::auth::{Authenticator, Principal, SigningKeys};
use crate::blobs::BlobStore;
use crate::error::Error;
use crate::kept::Kept;
use crate::metadata::{Facts, MetadataError, MetadataStore, ReviewKind, StoredBlob, StoredManifest};
use crate::pulls::Pulls;
use crate::upload::ActiveUploads;

/// Bytes of manifests kept in memory.
const KEPT_MANIFESTS: u64 = 8 * 1024 * 1024;
/// Bytes of small blobs (configs, mostly) kept in memory.
const KEPT_BLOBS: u64 = 8 * 1024 * 1024;
/// Largest blob that is kept in memory.
pub const SMALL_BLOB: u64 = 64 * 1024;

/// How requests are answered; chosen by the operator.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// No accounts: everybody may do everything.
    pub no_auth: bool,
    /// Accept images whose blobs are not here.
    pub sparse_images: bool,
    /// The URL that clients use, where the server cannot know it.
    pub public_url: Option<url::Url>,
    /// Whose `X-Forwarded-…` headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How long a connection may stand still.
    pub idle_timeout: Duration,
}

/// The server.
pub struct Server {
    pub(crate) behaviour: Behaviour,
    pub(crate) store: MetadataStore,
    pub(crate) blobs: BlobStore,
    pub(crate) keys: Arc<SigningKeys>,
    pub(crate) authenticator: Authenticator,
    pub(crate) active_uploads: ActiveUploads,
    /// Pulls that are not written to the database yet.
    pub(crate) pulls: Pulls,
    /// Wakes the collector: there is garbage.
    pub(crate) garbage: Notify,
    /// Work that goes on when its client has gone: shutdown waits for it.
    tasks: std::sync::Mutex<JoinSet<()>>,
    manifests: Kept<(RepositoryName, String), Arc<KeptManifest>>,
    links: Kept<(RepositoryName, Digest), StoredBlob>,
    facts: Kept<(Option<i64>, RepositoryName), Facts>,
    /// By content, which never changes.
    small_blobs: Cache<String, Bytes, BySize>,
    /// A proxy's headers were not believed, and the log has said so.
    pub(crate) proxy_hint_given: AtomicBool,
}

/// A manifest as it is served.
pub(crate) struct KeptManifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Bytes,
}

#[derive(Clone)]
struct BySize;

impl Weighter<String, Bytes> for BySize {
    fn weight(&self, _: &String, bytes: &Bytes) -> u64 {
        bytes.len() as u64 + 200
    }
}

impl Server {
    /// A server over a database and a blob store.
    pub async fn new(store: MetadataStore, blobs: BlobStore, behaviour: Behaviour) -> std::io::Result<Arc<Self>> {
        let keys = Arc::new(SigningKeys::open(store.clone()).await.map_err(std::io::Error::other)?);
        let authenticator = Authenticator::new(store.clone(), keys.clone())?;
        let small_blobs = Cache::with(4096, KEPT_BLOBS, BySize, DefaultHashBuilder::default(), Default::default());
        Ok(Arc::new(Server {
            behaviour,
            store,
            blobs,
            keys,
            authenticator,
            active_uploads: ActiveUploads::default(),
            pulls: Pulls::default(),
            garbage: Notify::new(),
            tasks: Default::default(),
            manifests: Kept::new(4096, KEPT_MANIFESTS, |_, manifest| manifest.bytes.len() as u64 + 500),
            links: Kept::new(16384, 16384, |_, _| 1),
            facts: Kept::new(16384, 16384, |_, _| 1),
            small_blobs,
            proxy_hint_given: AtomicBool::new(false),
        }))
    }

    /// Runs `work` so that it ends by itself even if the client that asked for it goes away, and waits for it.
    pub(crate) async fn carry_out<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let span = tracing::Span::current();
        {
            let mut tasks = self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            while tasks.try_join_next().is_some() {}
            let task = async move {
                sender.send(work.await).ok(); // the client has gone: nobody to tell
            };
            tasks.spawn(tracing::Instrument::instrument(task, span));
        }
        receiver.await.unwrap_or(Err(Error::Broken))
    }

    /// Waits until all such work is done, or `deadline` has come. Returns how many pieces were cut off.
    pub async fn drain(&self, deadline: Instant) -> usize {
        let mut tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        let all = async { while tasks.join_next().await.is_some() {} };
        tokio::time::timeout_at(deadline, all).await.ok();
        tasks.len()
    }

    /// What the database knows about a principal and a repository.
    pub(crate) async fn facts(&self, principal: &Principal, repository: &RepositoryName) -> Result<Facts, Error> {
        let generation = self.store.generation();
        let key = (principal.account_id(), repository.clone());
        if let Some(facts) = self.facts.get(&key, generation) {
            return Ok(facts);
        }
        let facts = self.store.facts(key.0, repository).await?;
        self.facts.put(key, generation, Duration::MAX, facts);
        Ok(facts)
    }

    /// The manifest that `reference` names.
    pub(crate) async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &cove_oci::ManifestReference,
    ) -> Result<Option<Arc<KeptManifest>>, Error> {
        let generation = self.store.generation();
        let key = (repository.clone(), reference.to_string());
        if let Some(manifest) = self.manifests.get(&key, generation) {
            return Ok(Some(manifest));
        }
        let mut found = self.store.manifest(repository, reference).await?;
        if let Some(stored) = &found
            && self.store.should_postpone(stored.due_ms)
            && !self.postpone(ReviewKind::Manifest, repository, &stored.digest).await?
        {
            found = self.store.manifest(repository, reference).await?; // the collector was quicker
        }
        let Some(stored) = found else { return Ok(None) };
        let keep_for = self.store.keep_for(stored.due_ms);
        let StoredManifest { digest, media_type, bytes, .. } = stored;
        let manifest = Arc::new(KeptManifest { digest, media_type, bytes: bytes.into() });
        self.manifests.put(key, generation, keep_for, manifest.clone());
        Ok(Some(manifest))
    }

    /// The blob, if `repository` links it.
    pub(crate) async fn blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<StoredBlob>, Error> {
        let generation = self.store.generation();
        let key = (repository.clone(), digest.clone());
        if let Some(blob) = self.links.get(&key, generation) {
            return Ok(Some(blob));
        }
        let mut found = self.store.blob(repository, digest).await?;
        if found.as_ref().is_some_and(|blob| self.store.should_postpone(blob.due_ms))
            && !self.postpone(ReviewKind::Link, repository, digest).await?
        {
            found = self.store.blob(repository, digest).await?; // the collector was quicker
        }
        let Some(blob) = found else { return Ok(None) };
        self.links.put(key, generation, self.store.keep_for(blob.due_ms), blob.clone());
        Ok(Some(blob))
    }

    /// Postpones a review. `false`: it is over, so what was read must be read again.
    async fn postpone(
        &self,
        kind: ReviewKind,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, MetadataError> {
        match self.store.postpone(kind, repository, digest).await {
            // On a full disk nothing is collected either, and whoever only wants to read must not be turned away.
            Err(error) if error.is_full() => Ok(true),
            postponed => postponed,
        }
    }

    /// A small blob that is in memory.
    pub(crate) fn small_blob(&self, content: &str) -> Option<Bytes> {
        self.small_blobs.get(content)
    }

    /// Keeps a small blob in memory.
    pub(crate) fn keep_small_blob(&self, content: &str, bytes: Bytes) {
        self.small_blobs.insert(content.to_owned(), bytes);
    }

    /// The objects of a blob. In a folder the content's name is enough.
    pub(crate) async fn extents(&self, blob: &StoredBlob) -> Result<Vec<(String, u64)>, Error> {
        match self.blobs.key_for_upload(&blob.content) {
            Some(key) => Ok(vec![(key, blob.size)]),
            None => Ok(self.store.extents(&blob.content).await?),
        }
    }

    /// Whether `address` is a proxy whose headers are believed.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.behaviour.trusted_proxies.iter().any(|network| network.contains(&address))
    }
}
