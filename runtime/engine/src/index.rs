//! The index that a name stands for: which of what it lists is here, and for which platform.

use std::collections::{HashMap, HashSet};

use cove_oci::{Descriptor, Digest, Manifest, Platform, Reference, media_type};
use serde_json::Value;

use crate::Error;
use crate::catalogue::{Catalogue, ImageRecord, IndexRecord, ReferenceRecord};
use crate::image::{Image, read_blob, read_manifest};
use crate::places::Places;
use crate::publish::write_blob;
use crate::receive::main_reference;
use crate::record;
use crate::store::{Found, Store};

/// Whether this is an index.
pub(crate) fn is_index(descriptor: &Descriptor) -> bool {
    [media_type::OCI_INDEX, media_type::DOCKER_LIST].contains(&descriptor.media_type.as_str())
}

/// Whether this is the manifest of an image or an artifact.
fn is_manifest(descriptor: &Descriptor) -> bool {
    [media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST].contains(&descriptor.media_type.as_str())
}

/// Deepest nesting of indexes that is looked into.
const DEPTH_LIMIT: u8 = 8;

impl IndexRecord {
    /// What the index lists, and the indexes in it: images and attestations.
    pub(crate) fn entries(&self, places: &Places) -> Result<Vec<Descriptor>, Error> {
        let mut entries = Vec::new();
        for index in self.content.iter().filter(|content| is_index(content)) {
            entries.extend(read_manifest(places, index)?.children().cloned());
        }
        Ok(entries)
    }

    /// Whether everything that it lists is here.
    pub(crate) fn is_whole(&self, places: &Places, catalogue: &Catalogue, main: &Digest) -> Result<bool, Error> {
        let images = || std::iter::once(main).chain(&self.images).filter_map(|id| catalogue.image(id));
        let is_here = |entry: &Descriptor| {
            let mut manifests = images().flat_map(|image| &image.manifests).map(|form| &form.manifest);
            manifests.any(|manifest| manifest.digest == entry.digest)
                || self.content.iter().any(|content| content.digest == entry.digest)
        };
        Ok(self.entries(places)?.iter().all(is_here))
    }
}

/// Which manifest an attestation speaks of, as buildkit writes it.
const SUBJECT: &str = "vnd.docker.reference.digest";

impl IndexRecord {
    /// The same index with other manifests in place of some that it lists; everything else that it says stays. `None`
    /// if it lists none of them. Attestations that speak of a manifest that is replaced go, into `dropped`. Writes the
    /// new index among the blobs.
    pub(crate) fn replace(
        &self,
        places: &Places,
        replaced: &HashMap<Digest, Descriptor>,
        dropped: &mut HashSet<Digest>,
    ) -> Result<Option<IndexRecord>, Error> {
        let mut change = Replacing { index: self, places, replaced, indexes: HashMap::new(), gone: HashSet::new() };
        let Some(target) = change.index(&self.target, 0)? else { return Ok(None) };
        let Replacing { indexes, gone, .. } = change;
        let old = self.content.iter().filter(|content| is_index(content));
        let mut content: Vec<Descriptor> =
            old.map(|old| indexes.get(&old.digest).cloned().flatten().unwrap_or_else(|| old.clone())).collect();
        for manifest in self.content.iter().filter(|content| is_manifest(content) && !gone.contains(&content.digest)) {
            content.push(manifest.clone());
            content.extend(read_manifest(places, manifest)?.blobs().cloned());
        }
        dropped.extend(gone);
        Ok(Some(IndexRecord { target, images: self.images.clone(), content }))
    }
}

/// An index in which manifests are being replaced.
struct Replacing<'a> {
    index: &'a IndexRecord,
    places: &'a Places,
    replaced: &'a HashMap<Digest, Descriptor>,
    /// What became of each index: one may be listed any number of times.
    indexes: HashMap<Digest, Option<Descriptor>>,
    /// Attestations that are left out.
    gone: HashSet<Digest>,
}

impl Replacing<'_> {
    /// What becomes of one index; `None` if it stays as it is.
    fn index(&mut self, index: &Descriptor, depth: u8) -> Result<Option<Descriptor>, Error> {
        if let Some(known) = self.indexes.get(&index.digest) {
            return Ok(known.clone());
        }
        let is_here = self.index.content.iter().any(|content| content.digest == index.digest);
        let new = if is_here && depth < DEPTH_LIMIT { self.anew(index, depth)? } else { None };
        self.indexes.insert(index.digest.clone(), new.clone());
        Ok(new)
    }

    fn anew(&mut self, index: &Descriptor, depth: u8) -> Result<Option<Descriptor>, Error> {
        let manifest = read_manifest(self.places, index)?;
        let mut document: Value = serde_json::from_slice(manifest.bytes()).map_err(std::io::Error::from)?;
        let mut entries = Vec::new();
        let mut is_changed = false;
        let listed = document["manifests"].as_array().cloned().unwrap_or_default();
        for (child, mut entry) in manifest.children().zip(listed) {
            let new = match self.replaced.get(&child.digest) {
                Some(new) => Some(new.clone()),
                None if is_index(child) => self.index(child, depth + 1)?,
                None => {
                    let subject = child.annotations.as_ref().and_then(|annotations| annotations.get(SUBJECT));
                    if subject.is_some_and(|subject| self.replaced.keys().any(|old| old.as_str() == subject)) {
                        self.gone.insert(child.digest.clone());
                        is_changed = true;
                        continue;
                    }
                    None
                }
            };
            if let (Some(new), Some(entry)) = (new, entry.as_object_mut()) {
                entry.insert("mediaType".to_owned(), new.media_type.into());
                entry.insert("digest".to_owned(), new.digest.as_str().into());
                entry.insert("size".to_owned(), new.size.into());
                // The old manifest itself, and where that one was.
                entry.remove("data");
                entry.remove("urls");
                is_changed = true;
            }
            entries.push(entry);
        }
        if !is_changed {
            return Ok(None);
        }
        document["mediaType"] = media_type::OCI_INDEX.into();
        document["manifests"] = entries.into();
        let bytes = serde_json::to_vec(&document).map_err(std::io::Error::from)?;
        let new = Manifest::parse(bytes, Some(media_type::OCI_INDEX))?;
        let digest = new.descriptor().digest;
        write_blob(self.places, &digest, new.bytes())?;
        // The records that will name it may be written in the next moment.
        let path = self.places.blob(&digest);
        fs_err::File::open(&path)?.sync_all()?;
        record::sync_folder(path.parent().unwrap_or(&self.places.root))?;
        Ok(Some(new.descriptor()))
    }
}

/// The images that a name stands for, each with its platform, in the index's order.
pub(crate) fn by_platform(
    places: &Places,
    catalogue: &Catalogue,
    main: &Digest,
    index: Option<&IndexRecord>,
) -> Result<Vec<(Platform, Digest)>, Error> {
    let entries = index.map(|index| index.entries(places)).transpose()?.unwrap_or_default();
    let has = |image: &ImageRecord, entry: &Descriptor| {
        image.manifests.iter().any(|form| form.manifest.digest == entry.digest)
    };
    let others = index.iter().flat_map(|index| &index.images);
    let mut found: Vec<(usize, Platform, Digest)> = Vec::new();
    for image in std::iter::once(main).chain(others).filter_map(|id| catalogue.image(id)) {
        // An image's own configuration often leaves the variant out.
        let of_entry = |(at, entry): (usize, &Descriptor)| {
            let platform = entry.platform.clone().filter(|_| has(image, entry))?;
            Some((at, platform, image.id.clone()))
        };
        let before = found.len();
        found.extend(entries.iter().enumerate().filter_map(of_entry));
        if found.len() == before {
            let config = cove_oci::ImageConfig::parse(read_blob(places, &image.config)?)?;
            found.push((entries.len(), config.platform(), image.id.clone()));
        }
    }
    found.sort_by_key(|(at, ..)| *at);
    Ok(found.into_iter().map(|(_, platform, id)| (platform, id)).collect())
}

/// Platforms, as messages list them.
pub(crate) fn listed<'a>(platforms: impl IntoIterator<Item = &'a Platform>) -> String {
    let mut platforms: Vec<String> = platforms.into_iter().map(ToString::to_string).collect();
    platforms.dedup();
    platforms.join(", ")
}

impl Store {
    /// All images of the index that a name stands for, the main one first, or the one image that it stands for.
    pub fn images_of(&self, reference: &Reference) -> Result<Vec<Image>, Error> {
        let catalogue = Catalogue::read(&self.places)?;
        let wanted = main_reference(reference);
        let Some(found) = catalogue.references.iter().find(|found| found.reference == wanted) else {
            return Ok(Vec::new());
        };
        let records = std::iter::once(&found.image).chain(&found.images).filter_map(|id| catalogue.image(id));
        records.map(|record| Image::open(&self.places, record.clone(), &catalogue)).collect()
    }

    /// The image for a platform among those that a name stands for: an index has several. `name` is what it was found
    /// by.
    pub fn for_platform(&self, found: &Found, name: &str, wanted: &Platform) -> Result<Image, Error> {
        let catalogue = Catalogue::read(&self.places)?;
        let main = found.image.id();
        let index = self.index_of(&catalogue, found)?;
        let images = by_platform(&self.places, &catalogue, main, index.as_ref())?;
        let chosen = images.iter().find(|(platform, _)| wanted.is(platform)).and_then(|(_, id)| catalogue.image(id));
        let chosen = chosen.cloned().ok_or_else(|| Error::NoPlatform {
            name: name.to_owned(),
            wanted: Box::new(wanted.clone()),
            offered: listed(images.iter().map(|(platform, _)| platform)),
        })?;
        let image = Image::open(&self.places, chosen, &catalogue)?;
        Ok(if image.id() == main { image } else { image.named_as(&found.image) })
    }

    /// The index that an image was found by; by its id, any that it is the main image of.
    fn index_of(&self, catalogue: &Catalogue, found: &Found) -> Result<Option<IndexRecord>, Error> {
        let id = found.image.id();
        if let Some(reference) = &found.reference {
            let record: Option<ReferenceRecord> = record::read(&self.reference_path(&main_reference(reference)))?;
            if let Some(record) = record.filter(|record| record.image == *id) {
                return Ok(record.index());
            }
        }
        let named = catalogue.references_of(id).find_map(ReferenceRecord::index);
        Ok(named.or_else(|| catalogue.image(id).and_then(|image| image.index.clone())))
    }
}
