//! Sending images: the store as the source of a push or a save.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use cove_oci::{Descriptor, Digest, Manifest, ManifestReference};
use cove_transfer::{ByteStream, Error as TransferError, Kind, Origin, Side, Source};
use futures_util::stream;

use crate::catalogue::{Catalogue, ImageRecord};
use crate::image::{Image, read_manifest};
use crate::lease::Lease;
use crate::store::Store;
use crate::{Error, origins};

/// How much of a blob is read at once.
const PIECE: usize = 256 * 1024;

/// An image of the store as a source: its manifest and blobs, byte for byte. As long as it lives nobody removes them.
#[derive(Debug, Clone)]
pub struct Sender {
    store: Store,
    /// What [`Source::resolve`] answers.
    root: Descriptor,
    /// The manifests that the image has.
    manifests: Vec<Descriptor>,
    _lease: Arc<Lease>,
}

impl Store {
    /// An image as the source of a copy: its manifest, whatever reference is asked for.
    pub fn send(&self, image: &Image) -> Result<Sender, Error> {
        self.send_root(image, image.manifest().descriptor())
    }

    /// The index that a reference stands for, with everything of it that is here, as the source of a copy. `None` if
    /// the reference stands for a single image, or for none.
    pub fn send_index(&self, reference: &cove_oci::Reference) -> Result<Option<Sender>, Error> {
        let _lock = self.lock()?;
        let catalogue = Catalogue::read(&self.places)?;
        let found = catalogue.references.iter().find(|found| found.reference == *reference);
        let Some(found) = found.filter(|found| !found.content.is_empty()) else { return Ok(None) };
        let images = std::iter::once(&found.image).chain(&found.images).filter_map(|id| catalogue.image(id));
        let blobs = images.flat_map(ImageRecord::blobs).chain(&found.content);
        let blobs: Vec<&str> = blobs.map(|blob| blob.digest.as_str()).collect();
        let lease = Lease::take(&self.places)?;
        lease.add(blobs)?;
        Ok(Some(Sender {
            store: self.clone(),
            root: found.target.clone(),
            manifests: Vec::new(),
            _lease: Arc::new(lease),
        }))
    }

    fn send_root(&self, image: &Image, root: Descriptor) -> Result<Sender, Error> {
        let _lock = self.lock()?;
        // It may have been removed since it was found.
        let record = crate::image::read_record(&self.places, image.id())?
            .ok_or_else(|| Error::NoSuchImage(image.id().to_string()))?;
        let lease = Lease::take(&self.places)?;
        let blobs = record.blobs().chain(image.record.blobs());
        lease.add(blobs.map(|blob| blob.digest.as_str()))?;
        lease.add(record.layers.iter().map(|layer| layer.folder.as_str()))?;
        let manifests: Vec<Descriptor> = record.manifests.iter().map(|form| form.manifest.clone()).collect();
        // Sealed since it was found: what it was sealed into is what it is now.
        let root = match manifests.first() {
            Some(first) if !manifests.contains(&root) => first.clone(),
            _ => root,
        };
        Ok(Sender { store: self.clone(), root, manifests, _lease: Arc::new(lease) })
    }
}

impl Sender {
    /// Blobs of the store that a lease protects.
    pub(crate) fn of_parts(store: Store, root: Descriptor, lease: Arc<Lease>) -> Self {
        Sender { store, root, manifests: Vec::new(), _lease: lease }
    }
}

impl Source for Sender {
    async fn resolve(&self, reference: &ManifestReference) -> Result<Descriptor, TransferError> {
        let asked = |manifest: &&Descriptor| match reference {
            ManifestReference::Digest(digest) => manifest.digest == *digest,
            ManifestReference::Tag(_) => false,
        };
        Ok(self.manifests.iter().find(asked).unwrap_or(&self.root).clone())
    }

    async fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest, TransferError> {
        let read = read_manifest(&self.store.places, descriptor);
        read.map_err(|error| error.on(Side::Source).about(&descriptor.digest))
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, TransferError> {
        stream_file(self.store.places.blob(&blob.digest), offset, &blob.digest)
    }

    fn file(&self, blob: &Digest) -> Option<PathBuf> {
        Some(self.store.places.blob(blob)).filter(|path| path.exists())
    }

    fn origins(&self, blob: &Digest) -> Vec<Origin> {
        origins::of(&self.store.places, blob)
    }
}

/// The bytes of a file from an offset on.
pub(crate) fn stream_file(path: PathBuf, offset: u64, digest: &Digest) -> Result<ByteStream, TransferError> {
    let failed = {
        let digest = digest.clone();
        move |error: std::io::Error| {
            let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Other };
            TransferError::new(Side::Source, kind, error).about(&digest)
        }
    };
    let file = fs_err::File::open(path).map_err(&failed)?;
    let file = Arc::new(file);
    let pieces = stream::try_unfold(offset, move |at| {
        let file = Arc::clone(&file);
        let failed = failed.clone();
        async move {
            let read = tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; PIECE];
                let count = fs_err::os::unix::fs::FileExt::read_at(&*file, &mut piece, at)?;
                piece.truncate(count);
                std::io::Result::Ok(piece)
            });
            let piece = read.await.map_err(std::io::Error::other).flatten().map_err(failed)?;
            let next = at + piece.len() as u64;
            Ok((!piece.is_empty()).then(|| (Bytes::from(piece), next)))
        }
    });
    Ok(Box::pin(pieces))
}
