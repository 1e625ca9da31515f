//! The two traits: where content comes from and where it goes.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use bytes::Bytes;
use cove_oci::{Descriptor, Digest, Manifest, ManifestReference, RegistryName, RepositoryName};
use futures_util::Stream;

use crate::{Error, Progress};

/// The bytes of a blob from some offset to its end. Whoever stores them verifies them: from an offset, only they can.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;

/// A repository that is known to hold a blob, from which a registry may mount it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The registry.
    pub registry: RegistryName,
    /// The repository in it.
    pub repository: RepositoryName,
}

/// A place to read images from. One value stands for one repository, archive or stored image.
pub trait Source: Send + Sync {
    /// What a tag or digest stands for now. A descriptor's digest can be relied on once its manifest was read.
    fn resolve(&self, reference: &ManifestReference) -> impl Future<Output = Result<Descriptor, Error>> + Send;

    /// A manifest, verified against its descriptor.
    fn manifest(&self, descriptor: &Descriptor) -> impl Future<Output = Result<Manifest, Error>> + Send;

    /// Whether a manifest that an index lists is here with all of its blobs. A place that cannot tell says yes: reading
    /// it will show.
    fn offers(&self, _child: &Descriptor) -> bool {
        true
    }

    /// A blob's bytes from `offset` on, not verified. A source that can be interrupted goes on by itself where it
    /// was; an error is final.
    fn blob(&self, blob: &Descriptor, offset: u64) -> impl Future<Output = Result<ByteStream, Error>> + Send;

    /// A file on this machine that holds exactly the blob's bytes and that nobody will change: a target may link to
    /// it instead of copying. It verifies the bytes all the same.
    fn file(&self, _blob: &Digest) -> Option<PathBuf> {
        None
    }

    /// Repositories that are known to hold a blob.
    fn origins(&self, _blob: &Digest) -> Vec<Origin> {
        Vec::new()
    }
}

/// How a blob got to where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placed {
    /// It was there already.
    Existed,
    /// The registry took it from another of its repositories.
    Mounted(RepositoryName),
    /// It was sent and stored: so many bytes; fewer than its size if an earlier attempt was continued.
    Stored(u64),
}

/// A place to write images to. One value stands for one repository or archive, or for one image that is to be stored.
pub trait Target: Send + Sync {
    /// Whether `root` stands at `reference` already with everything below it, so that there is nothing to do.
    fn holds(
        &self,
        root: &Descriptor,
        reference: &ManifestReference,
    ) -> impl Future<Output = Result<bool, Error>> + Send;

    /// The copy has settled on an image (or on one of several) whose blobs come next: a target that cannot take it
    /// says so before anything is sent, and one that works on blobs can see what they belong to.
    fn expect(&self, _image: &Manifest) -> impl Future<Output = Result<(), Error>> + Send {
        std::future::ready(Ok(()))
    }

    /// Whether a manifest is here that the source lacks, so that an index may come which lists it. A place that keeps
    /// indexes whatever is missing of them says yes.
    fn has_manifest(&self, _manifest: &Descriptor) -> impl Future<Output = Result<bool, Error>> + Send {
        std::future::ready(Ok(true))
    }

    /// Sees to it that a blob is there: finds it, takes it from elsewhere, or asks the source for the bytes that are
    /// missing, and verifies them.
    fn put_blob<S: Source>(
        &self,
        blob: &Descriptor,
        source: &S,
        progress: &dyn Progress,
    ) -> impl Future<Output = Result<Placed, Error>> + Send;

    /// Stores a manifest whose blobs and children are there. The last one of a copy comes with the reference that
    /// shall stand for it: with that call, and not before, everything becomes visible.
    fn put_manifest(
        &self,
        manifest: &Manifest,
        reference: Option<&ManifestReference>,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}
