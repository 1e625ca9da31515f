//! Blobs in a bucket of S3, GCS or Azure, through object_store.
//!
//! A request body becomes one object, by a multipart upload where it is long. The id of the multipart upload
//! and its durable parts are recorded in the database as they come, so that what arrived before a crash can
//! still be completed, and nothing is left behind that nobody knows of.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cove_oci::Hasher;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::task::JoinHandle;

use super::{BlobBody, BlobStoreError, Extent, Pieces, Result, hash};

/// What object_store's concrete types can do and its trait object cannot say.
trait CloudStore: ObjectStore + MultipartStore {}

impl<T: ObjectStore + MultipartStore> CloudStore for T {}

/// A blob store in a bucket.
#[derive(Clone)]
pub struct Cloud {
    store: Arc<dyn CloudStore>,
    prefix: Path,
}

impl std::fmt::Debug for Cloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cloud({}/{})", self.store, self.prefix)
    }
}

/// How to reach a bucket; what is not set comes from the environment, as the cloud's own tools read it.
#[derive(Debug, Clone, Default)]
pub struct CloudSettings {
    /// Another end point than Amazon's: MinIO, Garage and their like. Means path style and allows plain http.
    pub endpoint: Option<String>,
    /// Region of the bucket.
    pub region: Option<String>,
    /// Access key.
    pub access_key: Option<String>,
    /// Secret key.
    pub secret_key: Option<String>,
    /// The bucket stands in the host name even though an end point is given.
    pub virtual_host_style: bool,
}

impl Cloud {
    /// Opens the bucket that `url` names: `s3://BUCKET/PREFIX`, `gs://…`, `az://…`.
    pub fn open(url: &str, settings: &CloudSettings) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| BlobStoreError::Url(url.to_owned()))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        // The whole-request time-out would cut long bodies: time without progress is limited instead.
        let client = ClientOptions::new()
            .with_timeout_disabled()
            .with_connect_timeout(Duration::from_secs(10))
            .with_read_timeout(Duration::from_secs(60));
        let store: Arc<dyn CloudStore> = match scheme {
            "s3" => {
                let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
                let mut client = client;
                if let Some(endpoint) = &settings.endpoint {
                    client = client.with_allow_http(endpoint.starts_with("http://"));
                    builder =
                        builder.with_endpoint(endpoint).with_virtual_hosted_style_request(settings.virtual_host_style);
                }
                if let Some(region) = &settings.region {
                    builder = builder.with_region(region);
                }
                if let Some(key) = &settings.access_key {
                    builder = builder.with_access_key_id(key);
                }
                if let Some(key) = &settings.secret_key {
                    builder = builder.with_secret_access_key(key);
                }
                Arc::new(builder.with_client_options(client).build()?)
            }
            "gs" => {
                let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
                Arc::new(builder.with_client_options(client).build()?)
            }
            "az" => {
                let builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket);
                Arc::new(builder.with_client_options(client).build()?)
            }
            _ => return Err(BlobStoreError::Url(url.to_owned())),
        };
        Ok(Cloud { store, prefix: Path::from(prefix.trim_end_matches('/')) })
    }

    fn path(&self, key: &str) -> Path {
        key.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// A writer of a new object.
    pub fn writer(&self, key: String, hasher: Hasher) -> CloudWriter {
        let path = self.path(&key);
        CloudWriter {
            cloud: self.clone(),
            key,
            path,
            length: 0,
            multipart: None,
            parts: Vec::new(),
            last: None,
            job: Job::Idle(Box::new(hasher)),
        }
    }

    /// Completes a multipart upload with the parts that were recorded, after its writer has died.
    pub async fn complete(&self, key: &str, length: u64, multipart: &str, parts: &str) -> Result<()> {
        let parts: Vec<String> = serde_json::from_str(parts).map_err(io::Error::from)?;
        let parts = parts.into_iter().map(|content_id| PartId { content_id }).collect();
        match self.store.complete_multipart(&self.path(key), &multipart.to_owned(), parts).await {
            Ok(_) => Ok(()),
            // It may have been completed already, just not recorded, and with parts that were not recorded either.
            Err(error) if self.length(key).await?.is_none_or(|found| found < length) => Err(error.into()),
            Err(_) => Ok(()),
        }
    }

    pub(super) fn read(&self, extents: Vec<Extent>, range: Range<u64>) -> BlobBody {
        let length = range.end - range.start;
        let mut wanted = Vec::new();
        let mut start = 0;
        for (key, length) in extents {
            let (from, to) = (range.start.max(start), range.end.min(start + length));
            if from < to {
                wanted.push((self.path(&key), from - start..to - start));
            }
            start += length;
        }
        let store = self.store.clone();
        let objects = stream::iter(wanted).then(move |(path, range)| {
            let store = store.clone();
            async move {
                let options = object_store::GetOptions { range: Some(range.into()), ..Default::default() };
                let found = store.get_opts(&path, options).await.map_err(io::Error::other)?;
                Ok::<_, io::Error>(found.into_stream().map_err(io::Error::other))
            }
        });
        BlobBody::stream(objects.try_flatten().boxed(), length)
    }

    pub(super) async fn length(&self, key: &str) -> Result<Option<u64>> {
        match self.store.head(&self.path(key)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn delete(&self, key: &str, multipart: Option<&str>) -> Result<()> {
        let path = self.path(key);
        if let Some(multipart) = multipart {
            match self.store.abort_multipart(&path, &multipart.to_owned()).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                // It was completed, or its expiry was quicker; the object is deleted next in either case.
                Err(error) => tracing::debug!(%error, key, "a multipart upload could not be aborted"),
            }
        }
        match self.store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn list(&self) -> Result<Vec<Extent>> {
        let prefix = self.prefix.clone();
        let listed = self.store.list(Some(&prefix)).map_ok(move |object| {
            let key = object.location.as_ref();
            let key = key.strip_prefix(prefix.as_ref()).unwrap_or(key).trim_start_matches('/');
            (key.to_owned(), object.size)
        });
        Ok(listed.try_collect().await?)
    }

    pub(super) async fn ping(&self) -> Result<()> {
        // A list, for HEAD answers 404 both for an absent object and for an absent bucket. Nothing begins so.
        self.store.list(Some(&self.path("reachable"))).try_next().await?;
        Ok(())
    }
}

/// Writes one object, hashing on the way.
pub struct CloudWriter {
    cloud: Cloud,
    key: String,
    path: Path,
    /// Bytes that are durable in parts, or in the whole object once it is finished.
    length: u64,
    multipart: Option<String>,
    parts: Vec<String>,
    /// The pieces that may be the last ones.
    last: Option<Pieces>,
    job: Job,
}

enum Job {
    Idle(Box<Hasher>),
    Sending(JoinHandle<Result<(Hasher, String, u64)>>),
    Failed,
}

impl CloudWriter {
    /// Bytes that make a part. Some stores want all parts but the last to be equal; 5 MiB is the least that all
    /// accept, and 10,000 parts the most: 80 GB.
    pub const CHUNK: usize = 8 * 1024 * 1024;

    /// The object's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Durable bytes of the object.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The open multipart upload and its durable parts as JSON.
    pub fn open_multipart(&self) -> Option<(&str, String)> {
        let parts = serde_json::to_string(&self.parts).unwrap_or_default();
        self.multipart.as_deref().map(|multipart| (multipart, parts))
    }

    /// Begins a multipart upload if there is none. Returns its id if it is new: it must be recorded before
    /// anything is written.
    pub async fn begin_multipart(&mut self) -> Result<Option<&str>> {
        if self.multipart.is_some() {
            return Ok(None);
        }
        let multipart = self.cloud.store.create_multipart(&self.path).await?;
        Ok(Some(self.multipart.insert(multipart)))
    }

    /// Waits for the part before, then starts to send this one, which must be a whole chunk.
    pub async fn write(&mut self, pieces: Pieces) -> Result<()> {
        let hasher = self.settle().await?;
        let Some(multipart) = self.multipart.clone() else {
            return Err(io::Error::other("a part was written before its multipart upload was begun").into());
        };
        let (store, path, index) = (self.cloud.store.clone(), self.path.clone(), self.parts.len());
        self.job = Job::Sending(tokio::spawn(async move {
            let length = pieces.iter().map(Bytes::len).sum::<usize>() as u64;
            let payload = PutPayload::from_iter(pieces.clone());
            let (hashed, sent) = tokio::join!(hash(hasher, pieces), store.put_part(&path, &multipart, index, payload));
            Ok((hashed?.0, sent?.content_id, length))
        }));
        Ok(())
    }

    /// Keeps the pieces that come after the last whole chunk.
    pub fn write_last(&mut self, pieces: Pieces) {
        self.last = Some(pieces);
    }

    /// Waits until every part sent is durable. Returns the hasher over all durable bytes of the upload.
    pub async fn sync(&mut self) -> Result<Hasher> {
        let hasher = self.settle().await?;
        self.job = Job::Idle(Box::new(hasher.clone()));
        Ok(hasher)
    }

    /// Makes the object whole: sends what is left, completes the multipart upload.
    pub async fn finish(&mut self) -> Result<Hasher> {
        let last = self.last.take().unwrap_or_default();
        if self.multipart.is_some() && !last.is_empty() {
            self.write(last).await?;
            return Box::pin(self.finish()).await;
        }
        let hasher = self.settle().await?;
        let hasher = match self.multipart.take() {
            Some(multipart) => {
                let parts = self.parts.iter().map(|id| PartId { content_id: id.clone() }).collect();
                self.cloud.store.complete_multipart(&self.path, &multipart, parts).await?;
                hasher
            }
            None if last.is_empty() => hasher,
            None => {
                self.length = last.iter().map(Bytes::len).sum::<usize>() as u64;
                let payload = PutPayload::from_iter(last.clone());
                let (hashed, put) = tokio::join!(hash(hasher, last), self.cloud.store.put(&self.path, payload));
                put?;
                hashed?.0
            }
        };
        self.job = Job::Idle(Box::new(hasher.clone()));
        Ok(hasher)
    }

    async fn settle(&mut self) -> Result<Hasher> {
        match std::mem::replace(&mut self.job, Job::Failed) {
            Job::Idle(hasher) => Ok(*hasher),
            Job::Sending(sending) => {
                let (hasher, part, length) = sending.await.map_err(io::Error::other)??;
                self.parts.push(part);
                self.length += length;
                Ok(hasher)
            }
            Job::Failed => Err(io::Error::other("an earlier write failed").into()),
        }
    }
}
