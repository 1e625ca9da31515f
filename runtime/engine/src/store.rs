//! The image store: opening it, finding and naming images.
//!
//! No daemon: every command opens the store, does its work and leaves. What is in it is what the records say
//! (`catalogue.rs`); how content gets in is told in `receive.rs`, how it goes in `remove.rs`.

use std::path::PathBuf;
use std::sync::Arc;

use cove_oci::{Descriptor, Digest, Reference, ReferenceDefaults};
use cove_transfer::Origin;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::catalogue::{Catalogue, ImageRecord, IndexRecord, ReferenceRecord};
use crate::image::{self, Image};
use crate::journal::{self, Changes};
use crate::lock::Lock;
use crate::places::Places;
use crate::receive::main_reference;
use crate::unpack::{OverlayXattr, UnpackLimits, UnpackOptions};
use crate::{Error, abilities, origins, record};

/// Keeps images from being removed.
#[derive(Debug)]
pub struct Hold(#[allow(dead_code)] Lock);

/// The image store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) places: Arc<Places>,
    /// The attributes that mark whiteouts and opaque folders in its layers, and that its mounts must look for.
    pub(crate) overlay: OverlayXattr,
    limits: UnpackLimits,
}

/// An image and how it was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The image.
    pub image: Image,
    /// The reference that it was found by; `None` if by its id.
    pub reference: Option<Reference>,
}

impl Store {
    /// Opens the store and makes its folders where there are none yet.
    pub fn open(places: Places) -> Result<Store, Error> {
        let folders = [
            places.blobs().join("sha256"),
            places.blobs().join("sha512"),
            places.partial(),
            places.layers(),
            places.images(),
            places.references(),
            places.staging(),
            places.leases(),
            places.trash(),
            places.uploads(),
            places.origins(),
            places.compressed(),
        ];
        // The last one is made last: if it is there, so are the others.
        if !places.lock().exists() {
            for folder in &folders {
                fs_err::create_dir_all(folder)?;
            }
            // Layers hold set-user-id programs with known holes: nobody but the owner walks in from outside.
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            fs_err::set_permissions(&places.root, private)?;
            drop(Lock::wait(&places.lock())?);
        }
        // Younger than the others.
        if !places.compressed().exists() {
            fs_err::create_dir_all(places.compressed())?;
        }
        // Mounts and sockets of others must not be waiting there.
        places.check_run()?;
        let overlay = abilities::overlay(&places)?;
        let store = Store { places: Arc::new(places), overlay, limits: UnpackLimits::default() };
        // Somebody changes records, or was killed while changing them: locking waits for the one and ends the other.
        if store.places.journal().exists() {
            drop(store.lock()?);
        }
        Ok(store)
    }

    /// The same store, with other limits for layers that come in.
    #[must_use]
    pub fn with_limits(self, limits: UnpackLimits) -> Self {
        Store { limits, ..self }
    }

    /// Whether overlayfs keeps its attributes as `user.overlay.*` in this store.
    pub fn has_user_attributes(&self) -> bool {
        self.overlay == OverlayXattr::User
    }

    /// Keeps images from being removed until this is dropped. For short moments: everybody else waits.
    ///
    /// # Errors
    /// The store cannot be locked.
    pub fn hold(&self) -> Result<Hold, Error> {
        self.lock().map(Hold)
    }

    /// How layers are unpacked here.
    pub fn unpack_options(&self) -> UnpackOptions {
        UnpackOptions { limits: self.limits, overlay: self.overlay, ..crate::unpack_options() }
    }

    /// Where the store lies.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Waits for the lock of the records. It is held for short moments only. A change that somebody was killed in is
    /// brought to its end first.
    pub(crate) fn lock(&self) -> Result<Lock, Error> {
        let lock = Lock::wait(&self.places.lock())?;
        journal::recover(&self.places)?;
        Ok(lock)
    }

    /// All images that stand for themselves, dangling ones too, the newest first: of an index its main image. Those whose records are broken are left out: see
    /// [`Store::broken`].
    pub fn images(&self) -> Result<Vec<Image>, Error> {
        let catalogue = Catalogue::read(&self.places)?;
        let mut images = Vec::with_capacity(catalogue.images.len());
        for record in catalogue.images.iter().filter(|image| catalogue.is_shown(&image.id)) {
            match Image::open(&self.places, record.clone(), &catalogue) {
                Ok(image) => images.push(image),
                Err(error) => tracing::warn!("{error}"),
            }
        }
        images.sort_by_key(|image| std::cmp::Reverse(image.created()));
        Ok(images)
    }

    /// What is wrong with records and what they name, if anything.
    pub fn broken(&self) -> Result<Vec<Error>, Error> {
        let mut catalogue = Catalogue::read(&self.places)?;
        let mut broken = std::mem::take(&mut catalogue.broken);
        let open = |record| Image::open(&self.places, record, &catalogue);
        broken.extend(catalogue.images.iter().filter_map(|record| open(record.clone()).err()));
        Ok(broken)
    }

    /// Finds an image by `name[:tag][@digest]`, its id, or the beginning of its id, in docker's order: a whole id
    /// first, then names, then beginnings.
    pub fn find(&self, name: &str, defaults: &ReferenceDefaults) -> Result<Found, Error> {
        let catalogue = Catalogue::read(&self.places)?;
        let (id, reference) = self.identify(&catalogue, name, defaults)?;
        let record = catalogue.image(&id).cloned().ok_or_else(|| Error::NoSuchImage(name.to_owned()))?;
        let image = Image::open(&self.places, record, &catalogue)?;
        Ok(Found { image, reference })
    }

    /// The image with this id.
    pub fn image(&self, id: &Digest) -> Result<Option<Image>, Error> {
        let catalogue = Catalogue::read(&self.places)?;
        let Some(record) = image::read_record(&self.places, id)? else { return Ok(None) };
        Ok(Some(Image::open(&self.places, record, &catalogue)?))
    }

    pub(crate) fn identify(
        &self,
        catalogue: &Catalogue,
        name: &str,
        defaults: &ReferenceDefaults,
    ) -> Result<(Digest, Option<Reference>), Error> {
        let absent = || Error::NoSuchImage(name.to_owned());
        let bare = name.strip_prefix("sha256:").unwrap_or(name);
        let hexadecimal = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hexadecimal && bare.len() == 64 {
            let id = format!("sha256:{bare}").parse::<Digest>().map_err(|_| absent())?;
            // A record that is broken is told of, not passed over.
            return image::read_record(&self.places, &id)?.map(|record| (record.id, None)).ok_or_else(absent);
        }
        let reference = Reference::parse(name, defaults);
        if let Ok(reference) = &reference
            && let Some(found) = self.lookup(catalogue, reference)?
        {
            return Ok((found, Some(reference.clone().or_latest())));
        }
        if hexadecimal {
            let mut fitting = catalogue.images.iter().filter(|image| image.id.hex().starts_with(bare));
            return match (fitting.next(), fitting.next()) {
                (Some(image), None) => Ok((image.id.clone(), None)),
                (Some(_), Some(_)) => Err(Error::Ambiguous(bare.to_owned())),
                (None, _) => Err(absent()),
            };
        }
        let reference = reference?;
        Err(Error::NoSuchImage(reference.or_latest().familiar()))
    }

    /// What a reference stands for.
    fn lookup(&self, catalogue: &Catalogue, reference: &Reference) -> Result<Option<Digest>, Error> {
        let Some(digest) = reference.digest() else {
            let record: Option<ReferenceRecord> = record::read(&self.reference_path(&reference.clone().or_latest()))?;
            return Ok(record.map(|record| record.image));
        };
        let exact = reference.with_digest(digest.clone());
        if let Some(record) = record::read::<ReferenceRecord>(&self.reference_path(&exact))? {
            return Ok(Some(record.image));
        }
        // An image's own id does as a digest, as in docker.
        let named = |id: &Digest| {
            catalogue.references_of(id).any(|found| found.reference.full_repository() == reference.full_repository())
        };
        Ok(catalogue.image(digest).filter(|image| named(&image.id)).map(|image| image.id.clone()))
    }

    pub(crate) fn reference_path(&self, reference: &Reference) -> PathBuf {
        let name = Digest::of(cove_oci::Algorithm::Sha256, reference.to_string().as_bytes());
        self.places.references().join(format!("{}.json", name.hex()))
    }

    /// Makes a tag stand for an image; it stands for no other one then.
    pub fn tag(&self, image: &Image, to: &Reference) -> Result<(), Error> {
        if to.digest().is_some() {
            return Err(Error::TagWithDigest);
        }
        let lock = self.lock()?;
        let record =
            image::read_record(&self.places, image.id())?.ok_or_else(|| Error::NoSuchImage(image.id().to_string()))?;
        // An index without a name gets it: from then on the tag holds on to it.
        let index = record.index.unwrap_or_else(|| IndexRecord {
            target: record.manifests.first().map_or_else(|| record.config.clone(), |form| form.manifest.clone()),
            images: Vec::new(),
            content: Vec::new(),
        });
        self.write_tag(lock, &to.clone().or_latest(), image.id(), index)
    }

    /// Makes a tag stand for what another name stands for: an image, or an index with all of it that is here.
    pub fn tag_as(&self, from: &Reference, to: &Reference) -> Result<(), Error> {
        if to.digest().is_some() {
            return Err(Error::TagWithDigest);
        }
        let lock = self.lock()?;
        let found: Option<ReferenceRecord> = record::read(&self.reference_path(&main_reference(from)))?;
        let found = found.ok_or_else(|| Error::NoSuchImage(from.familiar()))?;
        let index = IndexRecord { target: found.target, images: found.images, content: found.content };
        self.write_tag(lock, &to.clone().or_latest(), &found.image, index)
    }

    /// Writes a tag, and sees to it that the index that it stood for does not lose its images.
    fn write_tag(&self, lock: Lock, reference: &Reference, image: &Digest, index: IndexRecord) -> Result<(), Error> {
        let record = ReferenceRecord {
            reference: reference.clone(),
            image: image.clone(),
            target: index.target,
            images: index.images,
            content: index.content,
            updated: now(),
        };
        let catalogue = Catalogue::read(&self.places)?;
        let mut changes = Changes::new(&self.places);
        let named = catalogue.image(image).filter(|image| image.index.is_some()).cloned();
        let named = named.map(|image| ImageRecord { index: None, ..image });
        for image in catalogue.displaced(std::slice::from_ref(&record)).iter().chain(&named) {
            changes.write(&self.places.image(&image.id), image)?;
        }
        changes.write(&self.reference_path(reference), &record)?;
        changes.commit()?;
        drop(lock);
        // The index that the tag stood for may be nobody's now.
        let moved = catalogue.references.iter().find(|old| old.reference == *reference);
        if moved.is_some_and(|old| !old.content.is_empty()) { self.sweep_now() } else { Ok(()) }
    }

    /// Remembers which digest an image has in a repository that it was pushed to: its `RepoDigests`. Where that is the
    /// index that the tag stands for, the digest stands for all of it too.
    pub fn record_digest(&self, image: &Image, reference: &Reference, target: &Descriptor) -> Result<(), Error> {
        let _lock = self.lock()?;
        if image::read_record(&self.places, image.id())?.is_none() {
            return Ok(());
        }
        let tag: Option<ReferenceRecord> = record::read(&self.reference_path(&main_reference(reference)))?;
        let tag = tag.filter(|tag| tag.target.digest == target.digest && tag.image == *image.id());
        let (images, content) = tag.map(|tag| (tag.images, tag.content)).unwrap_or_default();
        let reference = reference.with_digest(target.digest.clone());
        let path = self.reference_path(&reference);
        let (image, target) = (image.id().clone(), target.clone());
        record::write(&path, &ReferenceRecord { reference, image, target, images, content, updated: now() })
    }

    /// Repositories that are known to hold a blob.
    pub fn origins(&self, blob: &Digest) -> Vec<Origin> {
        origins::of(&self.places, blob)
    }
}

/// Now, as records say it.
pub(crate) fn now() -> String {
    OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
}
