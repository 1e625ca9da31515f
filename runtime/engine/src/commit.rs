//! A container becomes an image: `commit`.
//!
//! What the container has written becomes a layer tar in the staging folder, and the image comes into the store the way of
//! an archive's: its other layers are there already and are held by a lease from the beginning.

use std::io::{self, BufWriter, Write};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use cove_oci::{
    Algorithm, Codec, Descriptor, Digest, Hasher, History, ImageConfig, Manifest, Reference, RunConfig, media_type,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::archive::NewManifest;
use crate::image::{self, Image};
use crate::lease::{Lease, Staging};
use crate::load::Made;
use crate::snapshot::{RootBefore, SnapshotOptions, write_layer, write_tree};
use crate::store::Store;
use crate::unpack::{self, Unpacked};
use crate::{Error, store};

/// How much is written at once.
const PIECE: usize = 256 * 1024;

/// A container that shall become an image.
#[derive(Debug, Clone)]
pub struct CommitRequest<'a> {
    /// The image that it was made of.
    pub parent: &'a Image,
    /// Its writable layer.
    pub upper: &'a Path,
    /// The runtime's own layers between the two, topmost first. They do not become part of the image.
    pub between: &'a [PathBuf],
    /// What the runtime has made in the writable layer: see [`SnapshotOptions::made`].
    pub made: Vec<PathBuf>,
    /// How to run the new image. See [`apply_changes`](crate::apply_changes) for what the user wants changed.
    pub config: RunConfig,
    /// The container's own command, for the image's history.
    pub command: &'a [String],
    /// Who made it, or nothing.
    pub author: String,
    /// What the history says, or nothing.
    pub message: String,
    /// When it was made, if not now.
    pub created: Option<OffsetDateTime>,
    /// Its name.
    pub reference: Option<&'a Reference>,
}

impl Store {
    /// Makes an image of a container. One that has changed nothing gets no layer, as docker has it. The container should
    /// not run meanwhile. Blocks; may be called from anywhere but async code.
    pub fn commit(&self, request: CommitRequest<'_>) -> Result<Image, Error> {
        let (staging, lease) = {
            let _lock = self.lock()?;
            (Staging::make(&self.places)?, Lease::take(&self.places)?)
        };
        let parent = self.leased(&lease, request.parent)?;
        let mut blobs = parent.record.manifests.first().map(|form| form.layers.clone()).unwrap_or_default();
        for blob in &mut blobs {
            // An OCI manifest calls docker's layers by OCI's names. They are the same bytes.
            blob.media_type = oci_type(blob)?.to_owned();
        }
        let path = staging.path().join("layer.tar");
        let layer = self.write_upper(&request, &parent, &path)?;

        let created = match request.created {
            Some(time) => time.format(&Rfc3339).map_err(io::Error::other)?,
            None => store::now(),
        };
        let mut document = parent.config().document().clone();
        document.created = Some(created.clone());
        document.author = Some(request.author.clone()).filter(|author| !author.is_empty());
        document.config = request.config;
        document.comment = String::new();
        document.docker_version = String::new();
        document.history.push(History {
            created: Some(created),
            author: request.author,
            created_by: request.command.join(" "),
            comment: request.message,
            empty_layer: layer.is_none(),
        });
        document.rootfs.diff_ids.extend(layer.as_ref().map(|layer| layer.digest.clone()));
        blobs.extend(layer.clone());

        let config = ImageConfig::write(&document)?.bytes().to_vec();
        let digest = Digest::of(Algorithm::Sha256, &config);
        let config_blob = Descriptor::new(media_type::OCI_CONFIG, digest, config.len() as u64);
        let manifest = Manifest::parse(NewManifest::bytes(&config_blob, &blobs)?, None)?;
        let layer = layer.map(|layer| (layer.digest, path));
        let made = Made { manifest, config, layer, store: self.clone() };
        let id = self.take_made(&made, request.reference)?;
        self.image(&id)?.ok_or_else(|| Error::NoSuchImage(id.to_string()))
    }

    /// The image as it is now, with all of its parts held.
    fn leased(&self, lease: &Lease, image: &Image) -> Result<Image, Error> {
        let missing = || Error::NoSuchImage(image.id().to_string());
        let lock = self.lock()?;
        let record = image::read_record(&self.places, image.id())?.ok_or_else(missing)?;
        lease.add(record.blobs().map(|blob| blob.digest.as_str()))?;
        lease.add(record.layers.iter().map(|layer| layer.folder.as_str()))?;
        drop(lock);
        self.image(image.id())?.ok_or_else(missing)
    }

    /// Writes the layer of a container; `None` if it has changed nothing.
    fn write_upper(
        &self,
        request: &CommitRequest<'_>,
        parent: &Image,
        path: &Path,
    ) -> Result<Option<Descriptor>, Error> {
        let mut lowers = request.between.to_vec();
        lowers.extend(parent.layer_folders().into_iter().rev());
        let carrying = parent.layers().iter().rev().find(|layer| layer.carries_root);
        let root = carrying.map_or(RootBefore::Plain, |layer| RootBefore::Like(layer.folder.clone()));
        let options = SnapshotOptions { overlay: self.overlay, made: request.made.clone(), root };
        let file = fs_err::File::create_new(path)?;
        let mut out = Hashed { inner: file, hasher: Hasher::new(Algorithm::Sha256), size: 0 };
        let mut buffered = BufWriter::with_capacity(PIECE, &mut out);
        let written = write_layer(request.upper, &lowers, &options, &mut buffered)?;
        buffered.flush()?;
        drop(buffered);
        let layer = Descriptor::new(media_type::OCI_LAYER, out.hasher.finish(), out.size);
        Ok((written.entries > 0).then_some(layer))
    }

    /// Writes the tree of a container as an archive, as docker exports it: see [`write_tree`].
    pub fn export(&self, root: BorrowedFd<'_>, out: impl Write) -> Result<(), Error> {
        Ok(write_tree(root, BufWriter::with_capacity(PIECE, out))?)
    }

    /// Makes the folder of a container's writable layer, which must not be there yet, with the attributes that the root of
    /// the image has: they are what the container sees of its root.
    pub fn make_upper(&self, image: &Image, folder: &Path) -> Result<(), Error> {
        fs_err::create_dir(folder)?;
        fs_err::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let Some(carrying) = image.layers().iter().rev().find(|layer| layer.carries_root) else { return Ok(()) };
        let options = self.unpack_options();
        Ok(unpack::settle(folder, &Unpacked::default(), std::slice::from_ref(&carrying.folder), &options)?)
    }
}

fn oci_type(blob: &Descriptor) -> Result<&'static str, Error> {
    match blob.layer_codec() {
        Some(Codec::Identity) => Ok(media_type::OCI_LAYER),
        Some(Codec::Gzip) => Ok(media_type::OCI_LAYER_GZIP),
        Some(Codec::Zstd) => Ok(media_type::OCI_LAYER_ZSTD),
        None => Err(Error::LayerType(blob.media_type.clone())),
    }
}

/// Hashes and counts what is written.
struct Hashed<W> {
    inner: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
