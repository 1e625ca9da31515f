//! What the records say: the only truth about what is in the store.

use std::collections::{HashMap, HashSet};

use cove_oci::{Codec, Descriptor, Digest, Reference};
use serde::{Deserialize, Serialize};

use crate::places::Places;
use crate::{Error, record};

/// An image: `images/<id>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageRecord {
    pub(crate) id: Digest,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<LayerRecord>,
    /// The manifests that this image came with or was sealed into, the latest first. Never empty.
    pub(crate) manifests: Vec<ManifestRecord>,
    /// The index that it came with, if no name stands for that: loaded without one, or the name has moved on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<IndexRecord>,
    /// It came without a name: it stands for itself, whether or not an index lists it too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) nameless: bool,
    /// When it was stored first, RFC 3339.
    pub(crate) added: String,
}

/// An index, as far as it is in the store: what a name stands for together with its main image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IndexRecord {
    pub(crate) target: Descriptor,
    /// Other images of the index.
    pub(crate) images: Vec<Digest>,
    /// The index itself, indexes in it, and what it lists that is no image.
    pub(crate) content: Vec<Descriptor>,
}

/// A layer that was compressed for a push: `compressed/<DiffID>.<codec>.json`. Kept until an image's manifest names the
/// blob, so that a push that goes on need not compress it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompressedRecord {
    pub(crate) diff_id: Digest,
    pub(crate) codec: Codec,
    pub(crate) blob: Descriptor,
}

/// A layer that is unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LayerRecord {
    pub(crate) diff_id: Digest,
    /// For a layer that was completed from those below it: it is right on top of them only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) chain_id: Option<Digest>,
    pub(crate) folder: String,
    /// Size of its files in bytes.
    pub(crate) bytes: u64,
    /// Whether its folder has the attributes that the root shall have, unless a layer above it says otherwise.
    #[serde(default)]
    pub(crate) carries_root: bool,
    /// Whether nothing of the layers below shows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) hides_all: bool,
    /// Whether it was unpacked where only one id was: everything in it belongs to the user, whatever the image says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) one_id: bool,
}

/// A manifest and its layers as blobs, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ManifestRecord {
    pub(crate) manifest: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    /// It stands in for the manifest that sealing will make: it came from an archive and its layers are not
    /// compressed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) raw: bool,
}

/// A name of an image: `references/<hash>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReferenceRecord {
    pub(crate) reference: Reference,
    pub(crate) image: Digest,
    /// What the reference stands for: a manifest, or an index that lists it.
    pub(crate) target: Descriptor,
    /// Other images of the index that were stored with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) images: Vec<Digest>,
    /// The index itself, and what it lists that is no image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) content: Vec<Descriptor>,
    /// When the reference was set, RFC 3339.
    pub(crate) updated: String,
}

impl ReferenceRecord {
    /// The index that the name stands for, if it is in the store.
    pub(crate) fn index(&self) -> Option<IndexRecord> {
        let (images, content) = (self.images.clone(), self.content.clone());
        (!content.is_empty()).then(|| IndexRecord { target: self.target.clone(), images, content })
    }
}

impl ImageRecord {
    /// Everything in `blobs/` that this image needs.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let manifests = self.manifests.iter().flat_map(|form| std::iter::once(&form.manifest).chain(&form.layers));
        std::iter::once(&self.config).chain(manifests)
    }
}

/// All records, read at one moment.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    pub(crate) images: Vec<ImageRecord>,
    pub(crate) references: Vec<ReferenceRecord>,
    pub(crate) compressed: Vec<CompressedRecord>,
    /// Records that cannot be read. As long as there are any nobody knows what they name, so nothing is swept.
    pub(crate) broken: Vec<Error>,
}

impl Catalogue {
    pub(crate) fn read(places: &Places) -> Result<Self, Error> {
        let mut catalogue = Catalogue::default();
        for path in record::list(&places.images())? {
            match record::read(&path) {
                Ok(image) => catalogue.images.extend::<Option<ImageRecord>>(image),
                Err(error @ Error::BrokenRecord { .. }) => catalogue.broken.push(error),
                Err(error) => return Err(error),
            }
        }
        for path in record::list(&places.references())? {
            match record::read(&path) {
                Ok(reference) => catalogue.references.extend::<Option<ReferenceRecord>>(reference),
                Err(error @ Error::BrokenRecord { .. }) => catalogue.broken.push(error),
                Err(error) => return Err(error),
            }
        }
        // They only save work: one that cannot be read is as good as none.
        for path in record::list(&places.compressed())? {
            catalogue.compressed.extend(record::read::<CompressedRecord>(&path).ok().flatten());
        }
        Ok(catalogue)
    }

    pub(crate) fn image(&self, id: &Digest) -> Option<&ImageRecord> {
        self.images.iter().find(|image| image.id == *id)
    }

    /// Every blob that a record names.
    pub(crate) fn blobs(&self) -> HashMap<&Digest, &Descriptor> {
        let of_images = self.images.iter().flat_map(ImageRecord::blobs);
        let of_references = self.references.iter().flat_map(|reference| &reference.content);
        let of_indexes = self.images.iter().filter_map(|image| image.index.as_ref()).flat_map(|index| &index.content);
        let compressed = self.compressed.iter().filter(|record| self.needs(record)).map(|record| &record.blob);
        let all = of_images.chain(of_references).chain(of_indexes).chain(compressed);
        all.map(|blob| (&blob.digest, blob)).collect()
    }

    /// Whether an image waits to be sealed that has this layer.
    pub(crate) fn needs(&self, compressed: &CompressedRecord) -> bool {
        let mut waiting = self.images.iter().filter(|image| image.manifests.iter().any(|form| form.raw));
        waiting.any(|image| image.layers.iter().any(|layer| layer.diff_id == compressed.diff_id))
    }

    /// Whether an image belongs to what another one stands for: an index of a name, or one that has lost its name.
    pub(crate) fn lists(&self, id: &Digest) -> bool {
        let mut indexes = self.images.iter().filter_map(|image| image.index.as_ref());
        self.listing(id).next().is_some() || indexes.any(|index| index.images.contains(id))
    }

    /// Whether an image belongs to what others stand for, and does not stand for itself besides.
    pub(crate) fn only_listed(&self, id: &Digest) -> bool {
        self.lists(id) && !self.image(id).is_some_and(|image| image.nameless)
    }

    /// The references of indexes that list an image beside their main one.
    pub(crate) fn listing<'a>(&'a self, id: &'a Digest) -> impl Iterator<Item = &'a ReferenceRecord> {
        self.references.iter().filter(move |reference| reference.images.contains(id))
    }

    /// Whether an image stands for itself in lists: one that only belongs to what another stands for does not.
    pub(crate) fn is_shown(&self, id: &Digest) -> bool {
        self.references_of(id).any(|reference| reference.reference.tag().is_some()) || !self.only_listed(id)
    }

    /// Every layer folder that a record names.
    pub(crate) fn folders(&self) -> HashSet<&str> {
        self.images.iter().flat_map(|image| &image.layers).map(|layer| layer.folder.as_str()).collect()
    }

    /// The layer with this DiffID, on top of the layers that this ChainID names, unpacked with one id or with many.
    pub(crate) fn layer(&self, diff_id: &Digest, chain_id: &Digest, one_id: bool) -> Option<&LayerRecord> {
        let fits = |layer: &&LayerRecord| {
            layer.diff_id == *diff_id
                && layer.chain_id.as_ref().is_none_or(|id| id == chain_id)
                && layer.one_id == one_id
        };
        self.images.iter().flat_map(|image| &image.layers).find(fits)
    }

    /// The DiffID of a layer's blob.
    pub(crate) fn diff_id(&self, blob: &Digest) -> Option<&Digest> {
        self.images.iter().find_map(|image| {
            let mut forms = image.manifests.iter();
            let at = forms.find_map(|form| form.layers.iter().position(|layer| layer.digest == *blob))?;
            image.layers.get(at).map(|layer| &layer.diff_id)
        })
    }

    /// The references of an image.
    pub(crate) fn references_of<'a>(&'a self, id: &'a Digest) -> impl Iterator<Item = &'a ReferenceRecord> {
        self.references.iter().filter(move |reference| reference.image == *id)
    }

    /// Images that lose the last name of an index when these names are written: their records then hold on to it, so
    /// that what belongs together is shown and removed together. Those that keep a name do not need to.
    pub(crate) fn displaced(&self, names: &[ReferenceRecord]) -> Vec<ImageRecord> {
        let is_written = |old: &ReferenceRecord| names.iter().any(|name| name.reference == old.reference);
        let after = || self.references.iter().filter(|old| !is_written(old)).chain(names);
        let mut displaced: Vec<ImageRecord> = Vec::new();
        for old in self.references.iter().filter(|old| is_written(old)) {
            let Some(index) = old.index() else { continue };
            if after().any(|name| name.image == old.image) || displaced.iter().any(|image| image.id == old.image) {
                continue;
            }
            displaced.extend(self.image(&old.image).cloned().map(|image| ImageRecord { index: Some(index), ..image }));
        }
        displaced
    }
}
