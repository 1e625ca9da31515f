//! Removing names and images, in docker's words and order, and what only waits to be removed.
//!
//! Records go first, under the lock; what no record and no living lease names any more is renamed into `trash/` under
//! the same lock and deleted after it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use cove_oci::{Digest, Reference, ReferenceDefaults, chain_ids};
use time::OffsetDateTime;

use crate::catalogue::{Catalogue, ImageRecord};
use crate::delete::delete;
use crate::image::Image;
use crate::lease::{Lease, Staging};
use crate::lock::PassingLock;
use crate::store::Store;
use crate::{Error, origins, record};

/// How to remove.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Also an image that several names stand for.
    pub force: bool,
}

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name.
    Untagged(Reference),
    /// An image, or a layer by its ChainID.
    Deleted(Digest),
}

/// Which images to remove.
#[derive(Debug, Clone, Default)]
pub struct PruneFilter {
    /// Those with names too. Without it only images that no tag stands for.
    pub all: bool,
    /// Only those that were made before.
    pub until: Option<OffsetDateTime>,
    /// Only those with all of these labels.
    pub labels: Vec<LabelFilter>,
    /// Only those with none of these labels.
    pub without_labels: Vec<LabelFilter>,
}

/// A label that an image has, with this value if one is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFilter {
    /// The label's name.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
}

/// What a prune removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names and images.
    pub removed: Vec<Removed>,
    /// Bytes that were given back to the disk.
    pub bytes: u64,
}

impl LabelFilter {
    fn fits(&self, image: &Image) -> bool {
        let labels = &image.config().document().config.labels;
        labels.get(&self.name).is_some_and(|found| self.value.as_ref().is_none_or(|wanted| wanted == found))
    }
}

impl PruneFilter {
    fn fits(&self, image: &Image) -> bool {
        (self.all || image.is_dangling())
            && self.until.is_none_or(|until| image.created().is_some_and(|created| created < until))
            && self.labels.iter().all(|label| label.fits(image))
            && !self.without_labels.iter().any(|label| label.fits(image))
    }
}

impl Store {
    /// Removes a name, and the image if that was its last one; or an image by its id.
    pub fn remove(
        &self,
        name: &str,
        defaults: &ReferenceDefaults,
        options: RemoveOptions,
    ) -> Result<Vec<Removed>, Error> {
        let lock = self.lock()?;
        let catalogue = Catalogue::read(&self.places)?;
        let (id, reference) = self.identify(&catalogue, name, defaults)?;
        // `app@<the image's id>` stands for the image, but is no name that could be removed.
        let is_name = |reference: &Reference| match reference.digest() {
            Some(digest) => self.reference_path(&reference.with_digest(digest.clone())).exists(),
            None => true,
        };
        let reference = reference.filter(is_name);
        let mut left: Vec<Reference> = catalogue.references_of(&id).map(|found| found.reference.clone()).collect();
        // As text, like docker: `app:v1` comes before `app@sha256:…`.
        left.sort_by_key(ToString::to_string);
        let mut removed = Vec::new();
        match reference {
            Some(reference) => {
                let reference = match reference.digest() {
                    Some(digest) => reference.with_digest(digest.clone()),
                    None => reference,
                };
                if left.iter().all(|other| goes_with(other, &reference, &left)) {
                    self.refuse_mounted(&id)?;
                }
                self.untag(&reference, &mut left, &mut removed)?;
                let going = left.iter().filter(|other| goes_with(other, &reference, &left));
                for other in going.cloned().collect::<Vec<_>>() {
                    self.untag(&other, &mut left, &mut removed)?;
                }
                if !left.is_empty() {
                    return Ok(removed);
                }
            }
            None => {
                if !is_single(&left) && !options.force {
                    return Err(Error::ManyReferences(id.hex()[..12].to_owned()));
                }
                self.refuse_mounted(&id)?;
                for other in left.clone() {
                    self.untag(&other, &mut left, &mut removed)?;
                }
            }
        }
        // Images of other platforms that came with it go with it.
        let mut leaving = vec![id.clone()];
        leaving.extend(catalogue.references_of(&id).flat_map(|found| found.images.clone()));
        let trash = self.delete(&leaving, &mut removed)?;
        drop(lock);
        empty(trash);
        Ok(removed)
    }

    fn refuse_mounted(&self, id: &Digest) -> Result<(), Error> {
        match self.mounted_at(id) {
            Some(path) => Err(Error::Mounted { id: id.hex()[..12].to_owned(), path }),
            None => Ok(()),
        }
    }

    fn untag(&self, reference: &Reference, left: &mut Vec<Reference>, removed: &mut Vec<Removed>) -> Result<(), Error> {
        record::remove(&self.reference_path(reference))?;
        left.retain(|other| other != reference);
        removed.push(Removed::Untagged(reference.clone()));
        Ok(())
    }

    /// Removes those of some images that no reference stands for any more; what they alone needed goes to the trash.
    /// The records are read twice, however many images there are.
    fn delete(&self, leaving: &[Digest], removed: &mut Vec<Removed>) -> Result<Trash, Error> {
        let mut catalogue = Catalogue::read(&self.places)?;
        let named: HashSet<&Digest> = catalogue
            .references
            .iter()
            // An index that another name stands for may list it.
            .flat_map(|reference| std::iter::once(&reference.image).chain(&reference.images))
            .collect();
        let leaving: HashSet<&Digest> = leaving.iter().collect();
        let goes = |image: &ImageRecord| {
            leaving.contains(&image.id) && !named.contains(&image.id) && self.mounted_at(&image.id).is_none()
        };
        let (gone, kept): (Vec<_>, Vec<_>) = catalogue.images.iter().cloned().partition(goes);
        let mut kept_layers: HashSet<Digest> = kept.iter().flat_map(chain_of).collect();
        for image in &gone {
            record::remove(&self.places.image(&image.id))?;
            removed.push(Removed::Deleted(image.id.clone()));
            // Topmost first. What several of the images had goes with the first one.
            let layers = chain_of(image).into_iter().rev().filter(|id| kept_layers.insert(id.clone()));
            removed.extend(layers.map(Removed::Deleted));
        }
        catalogue.images = kept;
        self.sweep(&catalogue)
    }

    /// Removes images by a filter, then everything that only waits to be removed. Images that are mounted stay.
    pub fn prune(&self, filter: &PruneFilter) -> Result<Pruned, Error> {
        let chosen: Vec<Image> = self.images()?.into_iter().filter(|image| filter.fits(image)).collect();
        let mut pruned = Pruned::default();
        let lock = self.lock()?;
        let catalogue = Catalogue::read(&self.places)?;
        let mut names: HashMap<&Digest, Vec<Reference>> = HashMap::new();
        for found in &catalogue.references {
            names.entry(&found.image).or_default().push(found.reference.clone());
        }
        let mut leaving = Vec::new();
        for image in &chosen {
            let mut left = names.remove(image.id()).unwrap_or_default();
            // Somebody may have named it meanwhile.
            if !filter.all && left.iter().any(|reference| reference.tag().is_some()) {
                continue;
            }
            if self.mounted_at(image.id()).is_some() {
                continue;
            }
            for reference in left.clone() {
                self.untag(&reference, &mut left, &mut pruned.removed)?;
            }
            leaving.push(image.id().clone());
        }
        let trash = self.delete(&leaving, &mut pruned.removed)?;
        drop(lock);
        pruned.bytes = empty(trash);
        Ok(pruned)
    }

    /// Removes what unfinished pulls left behind, if nobody works on it: `system prune`. How many bytes that gave.
    pub fn prune_partial(&self) -> Result<u64, Error> {
        let lock = self.lock()?;
        let living = Lease::living(&self.places)?;
        let mut trash = Trash::default();
        for entry in fs_err::read_dir(self.places.partial())? {
            let path = entry?.path();
            let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if living.iter().any(|digest| digest.ends_with(&name)) {
                continue;
            }
            if is_lock(&path) {
                // The lock of somebody who was killed goes when it is given back.
                drop(PassingLock::take(&path)?);
                continue;
            }
            if PassingLock::take(&path.with_extension("lock"))?.is_some() {
                trash.take(self, &path)?;
            }
        }
        trash.extend(self.sweep(&Catalogue::read(&self.places)?)?);
        self.sweep_mounts()?;
        // Uploads that a push left unfinished. One that runs now only loses the chance to go on after a break.
        for path in record::list(&self.places.uploads())? {
            trash.take(self, &path)?;
        }
        for folder in [self.places.uploads(), self.places.origins()] {
            record::sweep_old(&folder)?;
        }
        drop(lock);
        Ok(empty(trash))
    }

    /// Removes everything that no record and no living lease names.
    pub(crate) fn sweep_now(&self) -> Result<(), Error> {
        let lock = self.lock()?;
        let trash = self.sweep(&Catalogue::read(&self.places)?)?;
        drop(lock);
        empty(trash);
        Ok(())
    }

    /// Moves everything into the trash that no record and no living lease names. Only while the store is locked.
    pub(crate) fn sweep(&self, catalogue: &Catalogue) -> Result<Trash, Error> {
        let places = &self.places;
        let mut trash = Trash::default();
        Staging::sweep(places)?;
        for entry in fs_err::read_dir(places.trash())? {
            trash.paths.push(entry?.path());
        }
        // What a broken record names, nobody knows.
        if let Some(error) = catalogue.broken.first() {
            tracing::warn!("nothing that was unused is removed: {error}");
            return Ok(trash);
        }
        record::sweep(&places.images())?;
        record::sweep(&places.references())?;
        // Names whose image was never recorded, for whoever published it was killed in between.
        for found in catalogue.references.iter().filter(|found| catalogue.image(&found.image).is_none()) {
            record::remove(&self.reference_path(&found.reference))?;
        }
        let living = Lease::living(places)?;
        let blobs: HashSet<String> = catalogue.blobs().keys().map(ToString::to_string).collect();
        for algorithm in ["sha256", "sha512"] {
            for entry in fs_err::read_dir(places.blobs().join(algorithm))? {
                let entry = entry?;
                let digest = format!("{algorithm}:{}", entry.file_name().to_string_lossy());
                if !blobs.contains(&digest) && !living.contains(&digest) {
                    if entry.file_name().as_encoded_bytes().starts_with(b".new-") && !living.is_empty() {
                        continue;
                    }
                    trash.take(self, &entry.path())?;
                    if let Ok(digest) = digest.parse() {
                        origins::forget(places, &digest);
                    }
                }
            }
        }
        let folders = catalogue.folders();
        for entry in fs_err::read_dir(places.layers())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !folders.contains(name.as_str()) && !living.contains(&name) {
                trash.take(self, &entry.path())?;
            }
        }
        Ok(trash)
    }

    /// What is wrong with the store: broken records, and blobs and folders that records name and that are not there,
    /// or that are there and that nothing names. For tests and for whoever doubts.
    pub fn check(&self) -> Result<Vec<String>, Error> {
        let _lock = self.lock()?;
        let catalogue = Catalogue::read(&self.places)?;
        let mut wrong: Vec<String> = catalogue.broken.iter().map(ToString::to_string).collect();
        let blobs = catalogue.blobs();
        let missing = blobs.keys().filter(|digest| !self.places.blob(digest).exists());
        wrong.extend(missing.map(|digest| format!("the blob {digest} is missing")));
        let folders = catalogue.folders();
        let missing = folders.iter().filter(|folder| !self.places.layer(folder).is_dir());
        wrong.extend(missing.map(|folder| format!("the layer folder {folder} is missing")));
        for reference in &catalogue.references {
            if catalogue.image(&reference.image).is_none() {
                wrong.push(format!("{} stands for an image that is not there", reference.reference));
            }
        }
        let living = Lease::living(&self.places)?;
        for algorithm in ["sha256", "sha512"] {
            for entry in fs_err::read_dir(self.places.blobs().join(algorithm))? {
                let digest = format!("{algorithm}:{}", entry?.file_name().to_string_lossy());
                let named = digest.parse::<Digest>().is_ok_and(|digest| blobs.contains_key(&digest));
                if !named && !living.contains(&digest) {
                    wrong.push(format!("nothing names the blob {digest}"));
                }
            }
        }
        for entry in fs_err::read_dir(self.places.layers())? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !folders.contains(name.as_str()) && !living.contains(&name) {
                wrong.push(format!("nothing names the layer folder {name}"));
            }
        }
        Ok(wrong)
    }
}

fn is_lock(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "lock" || extension == "root")
}

/// Whether removing an image by its id removes one name only: one tag, and digests of the same repository.
fn is_single(references: &[Reference]) -> bool {
    let tags = references.iter().filter(|reference| reference.tag().is_some()).count();
    let repositories: HashSet<String> = references.iter().map(Reference::full_repository).collect();
    references.len() <= 1 || (tags <= 1 && repositories.len() == 1)
}

/// Whether a name of an image goes when this one is removed: the digests that a repository knows it by go with its last
/// tag.
fn goes_with(name: &Reference, removed: &Reference, all: &[Reference]) -> bool {
    let same = |other: &Reference| other.full_repository() == removed.full_repository();
    let stays = |other: &Reference| other != removed && same(other) && other.tag().is_some();
    name == removed || (removed.digest().is_none() && same(name) && !all.iter().any(stays))
}

/// The ChainIDs of an image's layers, lowest first.
fn chain_of(image: &ImageRecord) -> Vec<Digest> {
    let diff_ids: Vec<Digest> = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
    chain_ids(&diff_ids)
}

/// What waits to be deleted, and how many bytes of it were taken from the store.
#[derive(Debug, Default)]
pub(crate) struct Trash {
    paths: Vec<PathBuf>,
    taken: HashSet<PathBuf>,
}

impl Trash {
    fn take(&mut self, store: &Store, path: &Path) -> Result<(), Error> {
        let to = store.places.trash().join(record::random_name());
        fs_err::rename(path, &to)?;
        self.taken.insert(to.clone());
        self.paths.push(to);
        Ok(())
    }

    fn extend(&mut self, other: Trash) {
        self.paths.extend(other.paths);
        self.taken.extend(other.taken);
    }
}

/// Deletes; how many bytes that gave. No record names any of it: what cannot be deleted now is tried again with the next
/// command that removes something.
pub(crate) fn empty(trash: Trash) -> u64 {
    let mut bytes = 0;
    let mut failed = None;
    let mut seen = HashSet::new();
    for path in trash.paths.into_iter().filter(|path| seen.insert(path.clone())) {
        let (freed, result) = delete(&path);
        if trash.taken.contains(&path) {
            bytes += freed;
        }
        failed = failed.or(result.err());
    }
    if let Some(error) = failed {
        tracing::warn!("{error}: what is left will be tried again by `cove system prune`");
    }
    bytes
}
