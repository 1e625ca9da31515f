//! Where the bytes of blobs are: a folder, or a bucket in a cloud.
//!
//! Objects have opaque keys, unique for each upload; which digest they hold stands in the database. An object
//! that has its final length is never changed, so it can be mapped, cached and sent without locks.

mod cloud;
mod folder;
mod mapped;
mod read;

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use cove_oci::Hasher;

pub use cloud::{Cloud, CloudSettings, CloudWriter};
pub use folder::{Folder, FolderWriter};
pub use read::BlobBody;

/// Why the blob store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BlobStoreError {
    /// A file could not be read or written.
    #[error("the blob store failed: {0}")]
    File(#[from] io::Error),
    /// The cloud answered with an error.
    #[error("the blob store failed: {0}")]
    Cloud(#[from] object_store::Error),
    /// The URL names no store that Cove has.
    #[error("`{0}` is not a blob store that Cove knows: use file:///PATH, s3://BUCKET, gs://BUCKET or az://CONTAINER")]
    Url(String),
    /// Another server uses the folder.
    #[error("another cove-server is using `{}`: stop it first, or give this one another --data", .0.display())]
    InUse(PathBuf),
    /// An object is shorter than the database says.
    #[error("object `{key}` has {found} bytes where {expected} were stored: run `cove-server check`")]
    Damaged {
        /// The object.
        key: String,
        /// Its length.
        found: u64,
        /// The length that was acknowledged.
        expected: u64,
    },
}

impl BlobStoreError {
    /// Whether there is no room left.
    pub fn is_full(&self) -> bool {
        matches!(self, BlobStoreError::File(error)
            if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

/// Result of a question to the blob store.
pub type Result<T> = std::result::Result<T, BlobStoreError>;

/// The blob store.
#[derive(Debug, Clone)]
pub enum BlobStore {
    /// A folder on this machine, which one server uses.
    Folder(Folder),
    /// A bucket, which any number of servers use.
    Cloud(Cloud),
}

/// An object with the number of its bytes that count.
pub type Extent = (String, u64);

impl BlobStore {
    /// The object that an upload will be written to, where that is known from the start: in a folder an upload
    /// is one growing file. In the cloud each request makes an object of its own.
    pub fn key_for_upload(&self, upload: &str) -> Option<String> {
        match self {
            BlobStore::Folder(_) => Some(Folder::key(upload)),
            BlobStore::Cloud(_) => None,
        }
    }

    /// The bytes `range` of the content made of `extents`, whose lengths were checked when they were written.
    pub async fn read(&self, extents: Vec<Extent>, range: std::ops::Range<u64>) -> Result<BlobBody> {
        if range.is_empty() {
            return Ok(BlobBody::empty());
        }
        match self {
            BlobStore::Folder(folder) => folder.read(extents, range).await,
            BlobStore::Cloud(cloud) => Ok(cloud.read(extents, range)),
        }
    }

    /// The first of `extents` that is not there with all its bytes. It may have more: bytes that were written
    /// before a `kill -9` and never recorded. Nobody reads those.
    pub async fn damaged(&self, extents: &[Extent]) -> Result<Option<String>> {
        for (key, length) in extents {
            if self.length(key).await?.is_none_or(|found| found < *length) {
                return Ok(Some(key.clone()));
            }
        }
        Ok(None)
    }

    /// The length of an object; `None` if there is none.
    pub async fn length(&self, key: &str) -> Result<Option<u64>> {
        match self {
            BlobStore::Folder(folder) => folder.length(key).await,
            BlobStore::Cloud(cloud) => cloud.length(key).await,
        }
    }

    /// Deletes an object and its unfinished multipart upload. What is gone already is fine.
    pub async fn delete(&self, key: &str, multipart: Option<&str>) -> Result<()> {
        match self {
            BlobStore::Folder(folder) => folder.delete(key).await,
            BlobStore::Cloud(cloud) => cloud.delete(key, multipart).await,
        }
    }

    /// Every object with its length.
    pub async fn list(&self) -> Result<Vec<Extent>> {
        match self {
            BlobStore::Folder(folder) => folder.list().await,
            BlobStore::Cloud(cloud) => cloud.list().await,
        }
    }

    /// Fails if nothing more should be pushed: the disk is full, but for what deleting needs. Buckets are never.
    pub fn check_room(&self) -> Result<()> {
        match self {
            BlobStore::Folder(folder) => folder.check_room(),
            BlobStore::Cloud(_) => Ok(()),
        }
    }

    /// Whether the store can be reached.
    pub async fn ping(&self) -> Result<()> {
        match self {
            BlobStore::Folder(folder) => folder.ping().await,
            BlobStore::Cloud(cloud) => cloud.ping().await,
        }
    }
}

/// Bytes in pieces, as they came from the network.
pub type Pieces = Vec<Bytes>;

/// Takes in `pieces` on a thread where that may take its time.
async fn hash(mut hasher: Hasher, pieces: Pieces) -> io::Result<(Hasher, Pieces)> {
    let hashing = move || {
        pieces.iter().for_each(|piece| hasher.update(piece));
        (hasher, pieces)
    };
    tokio::task::spawn_blocking(hashing).await.map_err(io::Error::other)
}
