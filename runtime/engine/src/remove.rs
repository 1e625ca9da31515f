//! Removing names and images, in docker's words and order, and what only waits to be removed.
//!
//! Records go first, under the lock; what no record and no living lease names any more is renamed into `trash/` under
//! the same lock and deleted after it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use cove_oci::{Digest, Platform, Reference, ReferenceDefaults, chain_ids};
use time::OffsetDateTime;

use crate::catalogue::{Catalogue, ImageRecord, IndexRecord, ReferenceRecord};
use crate::image::Image;
use crate::index::by_platform;
use crate::journal::Changes;
use crate::lease::{Lease, Staging};
use crate::lock::PassingLock;
use crate::places::Places;
use crate::receive::main_reference;
use crate::store::Store;
use crate::users::{User, Users};
use crate::{Error, origins, record};
use cove_container::delete;

/// How to remove.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Also an image that several names stand for.
    pub force: bool,
}

/// What a removal has come to.
#[derive(Default)]
struct Leaving {
    removed: Vec<Removed>,
    /// Images that go unless a name or an index is left for them: the one that was asked for, and those of other
    /// platforms that its names stood for too.
    images: Vec<Digest>,
    /// Those of them that were asked for.
    asked: HashSet<Digest>,
    /// Whether those go although a container that does not run has been made of them.
    force: bool,
}

impl Leaving {
    fn ask_for(&mut self, id: Digest) {
        self.images.push(id.clone());
        self.asked.insert(id);
    }
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
        let reference = reference.map(|reference| main_reference(&reference));
        let reference = reference.filter(|name| name.digest().is_none() || self.reference_path(name).exists());
        let mut left: Vec<Reference> = catalogue.references_of(&id).map(|found| found.reference.clone()).collect();
        // As text, like docker: `app:v1` comes before `app@sha256:…`.
        left.sort_by_key(ToString::to_string);
        let users = Users::read(&self.places)?;
        let mut leaving = Leaving { force: options.force, ..Leaving::default() };
        match reference {
            Some(reference) => {
                if left.iter().all(|other| goes_with(other, &reference, &left)) {
                    self.refuse_mounted(&id)?;
                }
                if let Some(container) =
                    self.user_of(&reference, &users)?.filter(|_| !options.force && is_single(&left))
                {
                    let (container, id) = (container.short(), id.hex()[..12].to_owned());
                    return Err(Error::ReferenceInUse { name: name.to_owned(), container, id });
                }
                self.untag(&reference, &mut left, &mut leaving)?;
                let going = left.iter().filter(|other| goes_with(other, &reference, &left));
                for other in going.cloned().collect::<Vec<_>>() {
                    self.untag(&other, &mut left, &mut leaving)?;
                }
            }
            None => {
                let short = || id.hex()[..12].to_owned();
                if let (true, Some(name)) =
                    (left.is_empty() && catalogue.only_listed(&id), catalogue.listing(&id).next())
                {
                    return Err(Error::OfIndex { id: short(), name: name.reference.familiar() });
                }
                if !is_single(&left) && !options.force {
                    return Err(Error::ManyReferences(short()));
                }
                self.refuse_mounted(&id)?;
                users.refuse(&id, options.force)?;
                for other in left.clone() {
                    self.untag(&other, &mut left, &mut leaving)?;
                }
            }
        }
        if left.is_empty() {
            leaving.ask_for(id);
        }
        let trash = self.delete(&mut leaving, &users)?;
        drop(lock);
        empty(trash);
        Ok(leaving.removed)
    }

    /// A container of what a reference stands for: its image, or another one of its index.
    fn user_of<'a>(&self, reference: &Reference, users: &'a Users) -> Result<Option<&'a User>, Error> {
        let record: Option<ReferenceRecord> = record::read(&self.reference_path(reference))?;
        let mut images = record.iter().flat_map(|record| std::iter::once(&record.image).chain(&record.images));
        Ok(images.find_map(|id| users.of(id).next()))
    }

    fn refuse_mounted(&self, id: &Digest) -> Result<(), Error> {
        match self.mounted_at(id) {
            Some(path) => Err(Error::Mounted { id: id.hex()[..12].to_owned(), path }),
            None => Ok(()),
        }
    }

    fn untag(&self, reference: &Reference, left: &mut Vec<Reference>, leaving: &mut Leaving) -> Result<(), Error> {
        let path = self.reference_path(reference);
        let record: Option<ReferenceRecord> = record::read(&path)?;
        record::remove(&path)?;
        left.retain(|other| other != reference);
        leaving.images.extend(record.into_iter().flat_map(|record| record.images));
        leaving.removed.push(Removed::Untagged(reference.clone()));
        Ok(())
    }

    /// Removes those of the leaving images that no name and no index stands for any more, and with them the images of
    /// their indexes; what they alone needed goes to the trash. The records are read once, however many images there are.
    ///
    /// What a container uses stays too. If force takes the image of one that does not run, its layers stay.
    fn delete(&self, leaving: &mut Leaving, users: &Users) -> Result<Trash, Error> {
        let mut catalogue = Catalogue::read(&self.places)?;
        let mut next = 0;
        let mut gone: Vec<ImageRecord> = Vec::new();
        while let Some(id) = leaving.images.get(next).cloned() {
            next += 1;
            let is_named = catalogue.references_of(&id).next().is_some() || catalogue.lists(&id);
            let Some(at) = catalogue.images.iter().position(|image| image.id == id) else { continue };
            let asked = leaving.asked.contains(&id);
            let is_forced = asked && leaving.force;
            if self.mounted_at(&id).is_some()
                || (catalogue.images[at].nameless && !asked)
                || users.of(&id).any(|user| user.is_running || !is_forced)
            {
                continue;
            }
            if is_named {
                // It goes on belonging to an index, and no longer stands for itself.
                if catalogue.images[at].nameless {
                    catalogue.images[at].nameless = false;
                    record::write(&self.places.image(&id), &catalogue.images[at])?;
                }
                continue;
            }
            let image = catalogue.images.swap_remove(at);
            record::remove(&self.places.image(&id))?;
            leaving.images.extend(image.index.iter().flat_map(|index| index.images.clone()));
            gone.push(image);
        }
        let mut kept_layers: HashSet<Digest> = catalogue.images.iter().flat_map(chain_of).collect();
        for image in &gone {
            let kept =
                image.layers.iter().zip(chain_of(image)).filter(|(layer, _)| users.folders.contains(&layer.folder));
            kept_layers.extend(kept.map(|(_, id)| id));
        }
        for image in &gone {
            leaving.removed.push(Removed::Deleted(image.id.clone()));
            // Topmost first. What several of the images had goes with the first one.
            let layers = chain_of(image).into_iter().rev().filter(|id| kept_layers.insert(id.clone()));
            leaving.removed.extend(layers.map(Removed::Deleted));
        }
        self.sweep(&catalogue)
    }

    /// Removes the image of one platform from what a name stands for. The last one takes the name along.
    pub fn remove_platform(
        &self,
        name: &str,
        platform: &Platform,
        defaults: &ReferenceDefaults,
        options: RemoveOptions,
    ) -> Result<Vec<Removed>, Error> {
        let found = self.find(name, defaults)?;
        let chosen = self.for_platform(&found, name, platform)?.id().clone();
        let lock = self.lock()?;
        let catalogue = Catalogue::read(&self.places)?;
        let shown = found.reference.as_ref().map_or_else(|| name.to_owned(), Reference::familiar);
        let standing = |record: &&ReferenceRecord| record.image == chosen || record.images.contains(&chosen);
        let (own, other): (Vec<&ReferenceRecord>, Vec<&ReferenceRecord>) =
            catalogue.references.iter().filter(standing).partition(|record| {
                let named = found.reference.as_ref().map(main_reference);
                // The digest that the repository knows the index by is no name of its own.
                let same = |named: &Reference| named.full_repository() == record.reference.full_repository();
                named.is_none_or(|named| {
                    named == record.reference || (record.reference.digest().is_some() && same(&named))
                })
            });
        if let Some(other) = other.first().filter(|_| !options.force) {
            let (platform, other) = (Box::new(platform.clone()), other.reference.familiar());
            return Err(Error::PlatformInUse { name: shown, platform, other });
        }
        let users = Users::read(&self.places)?;
        users.refuse(&chosen, options.force)?;
        let mut leaving = Leaving { force: options.force, ..Leaving::default() };
        leaving.ask_for(chosen.clone());
        let mut changes = Changes::new(&self.places);
        let mut ending = Vec::new();
        for record in own.into_iter().chain(other) {
            match without(&self.places, &catalogue, record, &chosen)? {
                Some(less) => changes.write(&self.reference_path(&less.reference), &less)?,
                None => ending.push(record.reference.clone()),
            }
        }
        // An index without a name.
        for image in catalogue.images.iter().filter(|image| image.id != chosen) {
            if let Some(index) = image.index.clone().filter(|index| index.images.contains(&chosen)) {
                let images = index.images.into_iter().filter(|id| *id != chosen).collect();
                let less = ImageRecord { index: Some(IndexRecord { images, ..index }), ..image.clone() };
                changes.write(&self.places.image(&less.id), &less)?;
            }
        }
        changes.commit()?;
        for reference in ending {
            self.untag(&reference, &mut Vec::new(), &mut leaving)?;
        }
        let freed = self.delete(&mut leaving, &users)?;
        drop(lock);
        empty(freed);
        Ok(leaving.removed)
    }

    /// Removes images by a filter, then everything that only waits to be removed. Images that are mounted stay, and those of
    /// containers.
    pub fn prune(&self, filter: &PruneFilter) -> Result<Pruned, Error> {
        let chosen: Vec<Image> = self.images()?.into_iter().filter(|image| filter.fits(image)).collect();
        let lock = self.lock()?;
        let catalogue = Catalogue::read(&self.places)?;
        let mut names: HashMap<&Digest, Vec<Reference>> = HashMap::new();
        for found in &catalogue.references {
            names.entry(&found.image).or_default().push(found.reference.clone());
        }
        let users = Users::read(&self.places)?;
        let mut leaving = Leaving::default();
        for image in &chosen {
            let mut left = names.remove(image.id()).unwrap_or_default();
            // Somebody may have named it meanwhile, or an index that it belongs to.
            let is_wanted =
                || catalogue.only_listed(image.id()) || left.iter().any(|reference| reference.tag().is_some());
            if (!filter.all && is_wanted()) || self.mounted_at(image.id()).is_some() {
                continue;
            }
            let standing = catalogue.references_of(image.id()).flat_map(|record| &record.images);
            if std::iter::once(image.id()).chain(standing).any(|id| users.of(id).next().is_some()) {
                continue;
            }
            for reference in left.clone() {
                self.untag(&reference, &mut left, &mut leaving)?;
            }
            leaving.ask_for(image.id().clone());
        }
        let trash = self.delete(&mut leaving, &users)?;
        drop(lock);
        Ok(Pruned { removed: leaving.removed, bytes: empty(trash) })
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
    pub fn sweep_now(&self) -> Result<(), Error> {
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
        record::sweep(&places.compressed())?;
        for found in catalogue.compressed.iter().filter(|found| !catalogue.needs(found)) {
            record::remove(&places.compressed_layer(&found.diff_id, found.codec))?;
        }
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
        let (folders, users) = (catalogue.folders(), Users::read(places)?);
        for entry in fs_err::read_dir(places.layers())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if users.folders.contains(&name) || users.is_unknown {
                continue;
            }
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
        let users = Users::read(&self.places)?;
        for entry in fs_err::read_dir(self.places.layers())? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !folders.contains(name.as_str()) && !living.contains(&name) && !users.folders.contains(&name) {
                wrong.push(format!("nothing names the layer folder {name}"));
            }
        }
        Ok(wrong)
    }
}

/// The same name without one of its images; `None` if that was the only one. Where it was the main one, the one for
/// this machine takes its place, or the first.
fn without(
    places: &Places,
    catalogue: &Catalogue,
    record: &ReferenceRecord,
    gone: &Digest,
) -> Result<Option<ReferenceRecord>, Error> {
    let mut less = record.clone();
    less.images.retain(|id| id != gone);
    if less.image == *gone {
        let left = by_platform(places, catalogue, &record.image, record.index().as_ref())?;
        let mut left = left.iter().filter(|(_, id)| id != gone && catalogue.image(id).is_some());
        let host = Platform::host();
        let first = left.clone().next();
        let Some((_, next)) = left.find(|(platform, _)| host.is(platform)).or(first) else { return Ok(None) };
        less.image = next.clone();
        less.images.retain(|id| id != next);
    }
    Ok(Some(less))
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
