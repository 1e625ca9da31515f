//! What the tests of this crate share: the workspace's server in this process, a server that does whatever a test
//! wants, images in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use cove_oci::{
    Algorithm, Descriptor, Digest, Manifest, ManifestReference, Reference, RegistryName, Verifier, media_type,
};
use cove_remote::{Access, Client, ConfigPaths, Credential, CredentialError, CredentialSource, Patience, Registries};
use cove_server::auth::hash_password;
use cove_server::blobs::{BlobStore, Folder};
use cove_server::metadata::{MetadataStore, Policy, Visibility};
use cove_server::routes::router;
use cove_server::state::{Behaviour, Server};
use cove_transfer::{ByteStream, Error, Kind, Origin, Placed, Progress, Side, Source, Step, Target, UploadJournal};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Method, Uri};
use tokio::net::TcpListener;

pub const PASSWORD: &str = "password-of-the-administrator";

/// The workspace's server, on a port of this machine.
pub struct Cove {
    pub name: RegistryName,
    pub folder: tempfile::TempDir,
    _stop: tokio::sync::watch::Sender<bool>,
}

impl Cove {
    pub async fn start() -> Self {
        Cove::start_with(None).await
    }

    pub async fn start_with(tls: Option<Arc<cove_server::listen::Tls>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let policy = Policy { grace: Duration::from_secs(24 * 3600), visibility: Visibility::Private };
        let url = format!("sqlite://{}", folder.path().join("cove.db").display());
        let store = MetadataStore::open(&url, policy).await.unwrap();
        store.add_first_account("admin", &hash_password(PASSWORD).unwrap()).await.unwrap();
        let blobs = BlobStore::Folder(Folder::open(&folder.path().join("blobs"), true).unwrap());
        let behaviour = Behaviour {
            no_auth: false,
            sparse_images: false,
            public_url: None,
            trusted_proxies: Vec::new(),
            idle_timeout: Duration::from_secs(60),
        };
        let router = router(Server::new(store, blobs, behaviour).await.unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let name = listener.local_addr().unwrap().to_string().parse().unwrap();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let idle = Duration::from_secs(60);
        tokio::spawn(
            async move { cove_server::listen::serve(listener, router, tls, idle, stopped, Duration::ZERO).await },
        );
        Cove { name, folder, _stop: stop }
    }

    pub fn admin(&self) -> Arc<dyn CredentialSource> {
        password(&self.name, "admin", PASSWORD)
    }
}

/// One credential for one registry.
pub struct One(pub RegistryName, pub Credential);

impl CredentialSource for One {
    fn find(&self, registry: &RegistryName) -> Result<Option<Credential>, CredentialError> {
        Ok((*registry == self.0).then(|| self.1.clone()))
    }
}

pub fn password(registry: &RegistryName, username: &str, password: &str) -> Arc<dyn CredentialSource> {
    let credential = Credential::Password { username: username.to_owned(), password: password.to_owned() };
    Arc::new(One(registry.clone(), credential))
}

/// Time-outs and pauses for tests.
pub fn quick() -> Patience {
    Patience {
        attempts: 4,
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_secs(2),
        connect: Duration::from_secs(5),
        headers: Duration::from_secs(2),
        idle: Duration::from_millis(500),
        whole: Duration::from_secs(3),
        commit: Duration::from_secs(5),
        requests_at_once: 8,
    }
}

pub fn client(credentials: Arc<dyn CredentialSource>) -> Client {
    client_with(credentials, ConfigPaths::default())
}

pub fn client_with(credentials: Arc<dyn CredentialSource>, paths: ConfigPaths) -> Client {
    let registries = Registries::load(&paths).unwrap();
    Client::with_patience(registries, credentials, "cove/test", quick()).unwrap()
}

pub fn reference(registry: &RegistryName, rest: &str) -> Reference {
    format!("{registry}/{rest}").parse().unwrap()
}

pub fn tag(text: &str) -> ManifestReference {
    ManifestReference::Tag(text.parse().unwrap())
}

pub fn repository(client: &Client, registry: &RegistryName, name: &str, access: Access) -> cove_remote::Repository {
    client.repository(&reference(registry, name), access)
}

pub fn digest(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, bytes)
}

/// Bytes that do not repeat.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(next).collect()
}

/// Reads a blob to its end.
pub async fn read(source: &impl Source, blob: &Descriptor, offset: u64) -> Result<Vec<u8>, Error> {
    let mut stream = source.blob(blob, offset).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

/// Images in memory: a source and a target.
#[derive(Default)]
pub struct Memory {
    pub blobs: Mutex<HashMap<Digest, Bytes>>,
    pub manifests: Mutex<HashMap<Digest, Manifest>>,
    pub tags: Mutex<HashMap<ManifestReference, Digest>>,
    pub origins: Vec<Origin>,
    pub opened: Mutex<Vec<u64>>,
}

impl Memory {
    pub fn add_blob(&self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let descriptor = Descriptor::new(media_type, digest(&bytes), bytes.len() as u64);
        self.blobs.lock().unwrap().insert(descriptor.digest.clone(), bytes.into());
        descriptor
    }

    pub fn add_manifest(&self, json: &str, media_type: &str) -> Descriptor {
        let manifest = Manifest::parse(json.as_bytes().to_vec(), Some(media_type)).unwrap();
        let descriptor = manifest.descriptor();
        self.manifests.lock().unwrap().insert(descriptor.digest.clone(), manifest);
        descriptor
    }

    /// An index of two images with layers of these sizes.
    pub fn with_index(seed: u64, layers: &[usize]) -> (Self, Descriptor) {
        let memory = Memory::default();
        let mut images = Vec::new();
        for (at, architecture) in ["amd64", "arm64"].iter().enumerate() {
            let config = memory.add_blob(
                media_type::OCI_CONFIG,
                format!(r#"{{"architecture":"{architecture}","os":"linux","seed":{seed}}}"#).into_bytes(),
            );
            let layers: Vec<String> = layers
                .iter()
                .enumerate()
                .map(|(layer, size)| {
                    let seed = seed * 1000 + (at * 100 + layer) as u64;
                    memory.add_blob(media_type::OCI_LAYER_GZIP, noise(seed, *size))
                })
                .map(|layer| serde_json::to_string(&layer).unwrap())
                .collect();
            let json = format!(
                r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
                media_type::OCI_MANIFEST,
                serde_json::to_string(&config).unwrap(),
                layers.join(",")
            );
            let image = memory.add_manifest(&json, media_type::OCI_MANIFEST);
            let platform = format!(r#","platform":{{"os":"linux","architecture":"{architecture}"}}}}"#);
            let json = serde_json::to_string(&image).unwrap();
            images.push(format!("{}{platform}", json.trim_end_matches('}')));
        }
        let json = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
            media_type::OCI_INDEX,
            images.join(",")
        );
        let root = memory.add_manifest(&json, media_type::OCI_INDEX);
        (memory, root)
    }
}

fn missing(digest: &Digest) -> Error {
    Error::new(Side::Source, Kind::NotFound, "not in memory").about(digest)
}

impl Source for Memory {
    async fn resolve(&self, reference: &ManifestReference) -> Result<Descriptor, Error> {
        let digest = match reference {
            ManifestReference::Digest(digest) => digest.clone(),
            ManifestReference::Tag(_) => self.tags.lock().unwrap().get(reference).cloned().unwrap(),
        };
        Ok(self.manifests.lock().unwrap().get(&digest).ok_or_else(|| missing(&digest))?.descriptor())
    }

    async fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest, Error> {
        let manifests = self.manifests.lock().unwrap();
        manifests.get(&descriptor.digest).cloned().ok_or_else(|| missing(&descriptor.digest))
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, Error> {
        self.opened.lock().unwrap().push(offset);
        let bytes = self.blobs.lock().unwrap().get(&blob.digest).cloned().ok_or_else(|| missing(&blob.digest))?;
        let chunks: Vec<_> =
            bytes.slice(offset as usize..).chunks(50_000).map(Bytes::copy_from_slice).map(Ok).collect();
        Ok(stream::iter(chunks).boxed())
    }

    fn origins(&self, _: &Digest) -> Vec<Origin> {
        self.origins.clone()
    }
}

impl Target for Memory {
    async fn holds(&self, root: &Descriptor, reference: &ManifestReference) -> Result<bool, Error> {
        Ok(self.tags.lock().unwrap().get(reference) == Some(&root.digest))
    }

    async fn put_blob<S: Source>(&self, blob: &Descriptor, source: &S, _: &dyn Progress) -> Result<Placed, Error> {
        let bytes = read(source, blob, 0).await?;
        let mut verifier = Verifier::new(&blob.digest, blob.size);
        let verified = verifier.update(&bytes).and_then(|()| verifier.finish());
        verified.map_err(|error| Error::new(Side::Source, Kind::Corrupt, error))?;
        self.blobs.lock().unwrap().insert(blob.digest.clone(), bytes.into());
        Ok(Placed::Stored(blob.size))
    }

    async fn put_manifest(&self, manifest: &Manifest, reference: Option<&ManifestReference>) -> Result<(), Error> {
        let digest = manifest.descriptor().digest;
        self.manifests.lock().unwrap().insert(digest.clone(), manifest.clone());
        if let Some(reference) = reference {
            self.tags.lock().unwrap().insert(reference.clone(), digest);
        }
        Ok(())
    }
}

/// What a fake saw of a request.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    pub fn query(&self) -> &str {
        self.uri.query().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.uri.to_string().contains(part)
    }
}

/// A server that answers what a test says, and remembers what it was asked. Bodies are read before answering; one
/// that breaks off is what came of it.
pub struct Fake {
    pub name: RegistryName,
    pub seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Fake {
    pub async fn start(answer: impl Fn(&Seen, usize) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Fake::on(listener, answer).await
    }

    /// The number is that of the request, from 0.
    pub async fn on(listener: TcpListener, answer: impl Fn(&Seen, usize) -> Response + Send + Sync + 'static) -> Self {
        let name = listener.local_addr().unwrap().to_string().parse().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (answer, log) = (Arc::new(answer), seen.clone());
        let handler = move |request: Request| {
            let (answer, log) = (answer.clone(), log.clone());
            async move {
                let (parts, body) = request.into_parts();
                let mut received = Vec::new();
                let mut body = body.into_data_stream();
                while let Some(Ok(chunk)) = body.next().await {
                    received.extend_from_slice(&chunk);
                }
                let (method, uri, headers) = (parts.method, parts.uri, parts.headers);
                let seen = Seen { method, uri, headers, body: received.into() };
                let number = {
                    let mut log = log.lock().unwrap();
                    log.push(seen.clone());
                    log.len() - 1
                };
                answer(&seen, number)
            }
        };
        let app = axum::Router::new().fallback(handler);
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Fake { name, seen, task }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn count(&self, method: &str, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.is(method, part)).count()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer.
pub fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

/// A body that says it has `length` bytes and breaks off after those given.
pub fn broken(bytes: &[u8]) -> Body {
    let chunk = Ok(Bytes::copy_from_slice(bytes));
    // A pause, so that the bytes leave before the connection is torn down.
    let end = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        Err(std::io::Error::other("broken off"))
    };
    Body::from_stream(stream::iter([chunk]).chain(stream::once(end)))
}

/// Tells of steps.
#[derive(Default)]
pub struct Steps(pub Mutex<Vec<Step>>);

impl Progress for Steps {
    fn step(&self, _: &Descriptor, step: Step) {
        self.0.lock().unwrap().push(step);
    }
}

/// Runs a test with a limit: what hangs fails.
pub async fn within<F: Future>(seconds: u64, act: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(seconds), act).await.expect("it hangs")
}

pub fn layer(seed: u64, length: usize) -> (Descriptor, Vec<u8>) {
    let bytes = noise(seed, length);
    (Descriptor::new(media_type::OCI_LAYER, digest(&bytes), length as u64), bytes)
}

pub fn manifest() -> (Descriptor, String) {
    let (config, _) = layer(1, 10);
    let json = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[]}}"#,
        media_type::OCI_MANIFEST,
        serde_json::to_string(&config).unwrap()
    );
    (Descriptor::new(media_type::OCI_MANIFEST, digest(json.as_bytes()), json.len() as u64), json)
}

/// Remembers uploads as a store does, in memory.
#[derive(Default)]
pub struct Journal(pub Mutex<HashMap<Digest, String>>);

impl UploadJournal for Journal {
    fn find(&self, _: &Origin, blob: &Digest) -> Option<String> {
        self.0.lock().unwrap().get(blob).cloned()
    }
    fn remember(&self, _: &Origin, blob: &Digest, url: &str) {
        self.0.lock().unwrap().insert(blob.clone(), url.to_owned());
    }
    fn forget(&self, _: &Origin, blob: &Digest) {
        self.0.lock().unwrap().remove(blob);
    }
}
