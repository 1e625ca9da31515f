//! An image of the store, as everybody else sees it.

use std::path::PathBuf;

use cove_oci::{Descriptor, Digest, ImageConfig, Manifest, Reference};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::catalogue::{Catalogue, ImageRecord};
use crate::places::Places;
use crate::{Error, record};

/// An image of the store.
#[derive(Debug, Clone)]
pub struct Image {
    pub(crate) record: ImageRecord,
    config: ImageConfig,
    manifest: Manifest,
    layers: Vec<Layer>,
    tags: Vec<Reference>,
    digests: Vec<Reference>,
    last_tag: Option<String>,
    /// Whether it belongs to what another image stands for.
    is_listed: bool,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// The blob as a push sends it, or uncompressed as long as the image was never sealed.
    pub blob: Descriptor,
    /// The folder that it is unpacked into.
    pub folder: PathBuf,
    /// Size of its files in bytes.
    pub size: u64,
    /// Whether the layer says what the root folder is like.
    pub(crate) carries_root: bool,
    /// Whether nothing of the layers below shows.
    pub(crate) hides_all: bool,
}

impl Image {
    /// Reads what the record names.
    pub(crate) fn open(places: &Places, record: ImageRecord, catalogue: &Catalogue) -> Result<Image, Error> {
        let config = ImageConfig::parse(read_blob(places, &record.config)?)?;
        let broken = |reason: &str| Error::BrokenRecord { path: places.image(&record.id), reason: reason.to_owned() };
        let form = record.manifests.first().ok_or_else(|| broken("it has no manifest"))?;
        if form.layers.len() != record.layers.len() || config.diff_ids().len() != record.layers.len() {
            return Err(broken("it names too few or too many layers"));
        }
        let manifest = read_manifest(places, &form.manifest)?;
        let layers = record.layers.iter().zip(&form.layers).map(|(layer, blob)| Layer {
            diff_id: layer.diff_id.clone(),
            blob: blob.clone(),
            folder: places.layer(&layer.folder),
            size: layer.bytes,
            carries_root: layer.carries_root,
            hides_all: layer.hides_all,
        });
        let layers = layers.collect();
        let mut references: Vec<_> = catalogue.references_of(&record.id).collect();
        references.sort_by(|one, other| one.reference.cmp(&other.reference));
        let named = |with_tag: bool| {
            let fitting = references.iter().filter(move |found| found.reference.tag().is_some() == with_tag);
            fitting.map(|found| found.reference.clone()).collect::<Vec<_>>()
        };
        let (tags, digests) = (named(true), named(false));
        let tagged = references.iter().filter(|found| found.reference.tag().is_some());
        let last_tag = tagged.map(|found| found.updated.clone()).max();
        let is_listed = catalogue.only_listed(&record.id);
        Ok(Image { record, config, manifest, layers, tags, digests, last_tag, is_listed })
    }

    /// The image's id: digest of its configuration.
    pub fn id(&self) -> &Digest {
        &self.record.id
    }

    /// The configuration.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// The manifest. As long as the image was never sealed it names the uncompressed layers.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether it has the manifest and the layers that a push sends.
    pub fn is_sealed(&self) -> bool {
        self.record.manifests.first().is_some_and(|form| !form.raw)
    }

    /// The tags that stand for it, sorted.
    pub fn tags(&self) -> &[Reference] {
        &self.tags
    }

    /// The repositories that it came from or went to, with the digest that it has there: docker's `RepoDigests`.
    pub fn digests(&self) -> &[Reference] {
        &self.digests
    }

    /// Whether no tag stands for it, and for no index that it belongs to.
    pub fn is_dangling(&self) -> bool {
        self.tags.is_empty() && !self.is_listed
    }

    /// The same image with the names of the index that it was found by.
    pub(crate) fn named_as(mut self, main: &Image) -> Self {
        (self.tags, self.digests) = (main.tags.clone(), main.digests.clone());
        self
    }

    /// The layers, lowest first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The folders to mount, lowest first. A layer that stands twice counts where it stands highest: overlayfs refuses
    /// a folder that is named twice, and the upper one hides the lower one anyway. A layer that hides everything below it
    /// is the lowest one: overlayfs does not look whether the root of a layer is opaque.
    pub fn layer_folders(&self) -> Vec<PathBuf> {
        let lowest = self.layers.iter().rposition(|layer| layer.hides_all).unwrap_or(0);
        let mut seen = std::collections::HashSet::new();
        let topmost_first = self.layers[lowest..].iter().rev().filter(|layer| seen.insert(&layer.folder));
        let mut folders: Vec<PathBuf> = topmost_first.map(|layer| layer.folder.clone()).collect();
        folders.reverse();
        folders
    }

    /// The topmost layer that says what the root folder is like.
    pub fn root_layer(&self) -> Option<&std::path::Path> {
        self.layers.iter().rev().find(|layer| layer.carries_root).map(|layer| layer.folder.as_path())
    }

    /// Size of its files in bytes, docker's `SIZE`.
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }

    /// When it was made, as its configuration says.
    pub fn created(&self) -> Option<OffsetDateTime> {
        self.config.document().created.as_deref().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok())
    }

    /// When a tag was set last, RFC 3339.
    pub fn last_tag(&self) -> Option<&str> {
        self.last_tag.as_deref()
    }
}

/// More than any manifest or configuration has.
const SMALL: u64 = 8 * 1024 * 1024;

/// A small blob, verified.
pub(crate) fn read_blob(places: &Places, blob: &Descriptor) -> Result<Vec<u8>, Error> {
    let path = places.blob(&blob.digest);
    let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
    let size = fs_err::metadata(&path).map_err(|error| damaged(error.to_string()))?.len();
    if size > SMALL {
        return Err(damaged(format!("it has {size} bytes, too many for what it should be")));
    }
    let bytes = fs_err::read(&path).map_err(|error| damaged(error.to_string()))?;
    let found = Digest::of(blob.digest.algorithm(), &bytes);
    if found != blob.digest {
        return Err(damaged(format!("its content has the digest {found}")));
    }
    Ok(bytes)
}

/// A manifest, verified.
pub(crate) fn read_manifest(places: &Places, manifest: &Descriptor) -> Result<Manifest, Error> {
    Ok(Manifest::parse(read_blob(places, manifest)?, Some(&manifest.media_type))?)
}

/// The record of an image.
pub(crate) fn read_record(places: &Places, id: &Digest) -> Result<Option<ImageRecord>, Error> {
    record::read(&places.image(id))
}
