//! Making what was received visible: all of it or nothing.
//!
//! Blobs and layer folders get their names first, protected by the lease of the copy; one `syncfs` makes them last;
//! then the records are written, which alone say what is in the store.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use cove_oci::{Descriptor, Digest, Manifest, ManifestKind, Platform, chain_ids};
use cove_transfer::Origin;
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use crate::archive::is_raw;
use crate::catalogue::{Catalogue, ImageRecord, IndexRecord, LayerRecord, ManifestRecord, ReferenceRecord};
use crate::index::by_platform;
use crate::journal::Changes;
use crate::layer::through;
use crate::partial::partial_path;
use crate::receive::{Expected, Ready, Session, Work, main_reference};
use crate::store::now;
use crate::{Error, origins, record, unpack};

/// Publishes all images of a copy, then the reference that stands for `root`.
pub(crate) fn publish(work: &Work, root: &Descriptor) -> Result<(), Error> {
    let session = work.session()?;
    let (images, indexes, artifacts) = {
        let state = work.state();
        (state.images.clone(), state.indexes.clone(), state.artifacts.clone())
    };
    let main = choose_main(work, &images, &indexes, root)?;
    let mut records = Vec::with_capacity(images.len());
    for expected in &images {
        records.push(place_image(work, &session, expected)?);
    }
    let mut content = Vec::new();
    for manifest in indexes.iter().chain(&artifacts) {
        content.push(place_bytes(work, &session, manifest)?);
        if manifest.kind() == ManifestKind::Image {
            for blob in manifest.blobs() {
                place_blob(work, blob)?;
                content.push(blob.clone());
            }
        }
    }
    rustix::fs::syncfs(&session.disk).map_err(std::io::Error::from)?;

    let lock = work.store.lock()?;
    let catalogue = Catalogue::read(&work.store.places)?;
    let platform = images[main].config.as_ref().map(cove_oci::ImageConfig::platform);
    let main = records[main].id.clone();
    let others = records.iter().map(|record| record.id.clone()).filter(|id| *id != main).collect();
    let mut index = IndexRecord { target: root.clone(), images: others, content };
    let mut replaced = HashMap::new();
    for record in &mut records {
        let came = record.manifests[0].manifest.digest.clone();
        merge(work, &catalogue, record);
        if record.manifests.iter().all(|form| form.manifest.digest != came) {
            replaced.insert(came, record.manifests[0].manifest.clone());
        }
    }
    // What was sealed before stays so, and an index that lists it uncompressed is the one that was made then.
    if let Some(sealed) = replaced.get(&index.target.digest) {
        index.target = sealed.clone();
    } else if let Some(sealed) = index.replace(&work.store.places, &replaced, &mut HashSet::new())? {
        index = sealed;
    }
    let names = names(work, &catalogue, &main, platform.as_ref(), &index)?;
    for record in &mut records {
        // Without a name, the image itself holds on to the index.
        if record.id == main && names.is_empty() {
            record.nameless = true;
            record.index = Some(index.clone()).filter(|index| !index.content.is_empty());
        }
    }
    write(work, &catalogue, &records, names)?;
    drop(lock);
    work.state().main = Some(main);
    tidy(work, &records, &index.content);
    Ok(())
}

/// The names that will stand for `main`, and for the index that it came with.
fn names(
    work: &Work,
    catalogue: &Catalogue,
    main: &Digest,
    platform: Option<&Platform>,
    index: &IndexRecord,
) -> Result<Vec<ReferenceRecord>, Error> {
    let Some(reference) = &work.reference else { return Ok(Vec::new()) };
    let mut references = vec![main_reference(reference)];
    if work.options.from_registry {
        references.insert(0, reference.with_digest(index.target.digest.clone()));
        references.dedup();
    }
    let updated = now();
    let mut names = Vec::new();
    for reference in references {
        let known = catalogue.references.iter().find(|known| known.reference == reference);
        let known = known.filter(|known| known.target.digest == index.target.digest);
        let IndexRecord { target, mut images, mut content } = index.clone();
        let mut image = main.clone();
        // Of the same index there may be more than this copy has brought.
        if let Some((known, older)) = known.and_then(|known| Some((known, known.index()?))) {
            let wanted = work.options.platform.clone().unwrap_or_else(Platform::host);
            if !platform.is_some_and(|platform| wanted.is(platform)) {
                let held = by_platform(&work.store.places, catalogue, &known.image, Some(&older))?;
                let better = held.into_iter().find(|(held, _)| wanted.is(held));
                image = better.map_or(image, |(_, id)| id);
            }
            images.extend([main, &known.image].into_iter().chain(&older.images).cloned());
            content.extend(older.content);
        }
        let mut seen = HashSet::from([image.clone()]);
        images.retain(|id| {
            (id == main || catalogue.image(id).is_some() || index.images.contains(id)) && seen.insert(id.clone())
        });
        let mut seen = HashSet::new();
        content.retain(|blob| seen.insert(blob.digest.clone()));
        names.push(ReferenceRecord { reference, image, target, images, content, updated: updated.clone() });
    }
    Ok(names)
}

/// Writes all records at once: whoever looks sees the store as it was before or as it is after.
fn write(
    work: &Work,
    catalogue: &Catalogue,
    records: &[ImageRecord],
    names: Vec<ReferenceRecord>,
) -> Result<(), Error> {
    let places = &work.store.places;
    let displaced = catalogue.displaced(&names);
    let is_known = |name: &ReferenceRecord| catalogue.references.iter().any(|known| known.reference == name.reference);
    let (moving, new) = names.into_iter().partition::<Vec<_>, _>(is_known);
    let mut changes = Changes::new(places);
    // Who looks in the middle sees no image without its name: a new name stands for nothing until its image is there,
    // and one that moves does so at the end.
    for name in &new {
        changes.write(&work.store.reference_path(&name.reference), name)?;
    }
    for record in displaced.iter().filter(|old| records.iter().all(|new| new.id != old.id)).chain(records) {
        changes.write(&places.image(&record.id), record)?;
    }
    for name in &moving {
        changes.write(&work.store.reference_path(&name.reference), name)?;
    }
    changes.commit()
}

/// Which image the reference will stand for: the root itself, or the one for the wanted platform, or where that is not
/// among them, the first.
fn choose_main(work: &Work, images: &[Expected], indexes: &[Manifest], root: &Descriptor) -> Result<usize, Error> {
    let at = |digest: &Digest| images.iter().position(|expected| expected.manifest.descriptor().digest == *digest);
    if let Some(at) = at(&root.digest) {
        return Ok(at);
    }
    let wanted = work.options.platform.clone().unwrap_or_else(Platform::host);
    let entries = indexes.iter().flat_map(Manifest::children).filter(|entry| at(&entry.digest).is_some());
    if let Some(at) = wanted.choose(entries).and_then(|entry| at(&entry.digest)) {
        return Ok(at);
    }
    match images.is_empty() {
        true => Err(Error::NotAnImage(root.media_type.clone())),
        false => Ok(0),
    }
}

fn place_image(work: &Work, session: &Session, expected: &Expected) -> Result<ImageRecord, Error> {
    let manifest = &expected.manifest;
    let config_blob = manifest.config().ok_or_else(|| Error::NotAnImage(manifest.media_type().to_owned()))?;
    let config = expected.config.as_ref().ok_or_else(|| Error::MissingBlob(config_blob.digest.clone()))?;
    let layers = place_layers(work, session, expected, config.diff_ids())?;
    for blob in manifest.blobs() {
        place_blob(work, blob)?;
    }
    let descriptor = place_bytes(work, session, manifest)?;
    let raw = !work.options.from_registry && is_raw(manifest);
    let form = ManifestRecord { manifest: descriptor, layers: manifest.layers().to_vec(), raw };
    let config = config_blob.clone();
    Ok(ImageRecord {
        id: config.digest.clone(),
        config,
        layers,
        manifests: vec![form],
        index: None,
        nameless: false,
        added: now(),
    })
}

/// Gives each layer its folder, lowest first: one that needs those below is completed from them.
fn place_layers(
    work: &Work,
    session: &Session,
    expected: &Expected,
    diff_ids: &[Digest],
) -> Result<Vec<LayerRecord>, Error> {
    let places = &work.store.places;
    let mut records: Vec<LayerRecord> = Vec::with_capacity(diff_ids.len());
    let mut folders: Vec<PathBuf> = Vec::with_capacity(diff_ids.len());
    for ((diff_id, chain_id), blob) in diff_ids.iter().zip(chain_ids(diff_ids)).zip(expected.manifest.layers()) {
        // Looked up anew each time: the layer may have stood lower in this image, or in another one.
        let known = work.state().placed(diff_id, &chain_id);
        let layer = match known {
            Some(layer) => layer,
            None => {
                let ready = work.state().ready.remove(diff_id);
                let ready = match ready {
                    Some(ready) => ready,
                    // It was completed for another place: from its blob, once more.
                    None => unpack_again(work, session, blob, diff_id)?,
                };
                let kept = ready.unpacked.kept_bytes;
                let layer = place_layer(work, session, ready, diff_id, &chain_id, &folders)?;
                work.budget.give(kept);
                layer
            }
        };
        folders.push(places.layer(&layer.folder));
        records.push(layer);
    }
    Ok(records)
}

fn place_layer(
    work: &Work,
    session: &Session,
    ready: Ready,
    diff_id: &Digest,
    chain_id: &Digest,
    below: &[PathBuf],
) -> Result<LayerRecord, Error> {
    let independent = ready.unpacked.is_independent();
    if !independent {
        let nearest_first: Vec<PathBuf> = below.iter().rev().cloned().collect();
        unpack::settle(&ready.folder, &ready.unpacked, &nearest_first, &work.options.unpack)?;
    }
    let places = &work.store.places;
    let folder = record::random_name();
    let lock = work.store.lock()?;
    session.lease.add([folder.as_str()])?;
    fs_err::rename(&ready.folder, places.layer(&folder))?;
    drop(lock);
    let chain_id = (!independent).then(|| chain_id.clone());
    let carries_root = ready.unpacked.carries_root;
    let bytes = ready.unpacked.content_bytes;
    let (hides_all, one_id) = (ready.unpacked.hides_all, work.one_id());
    let layer = LayerRecord { diff_id: diff_id.clone(), chain_id, folder, bytes, carries_root, hides_all, one_id };
    work.state().placed.push(layer.clone());
    Ok(layer)
}

fn unpack_again(work: &Work, session: &Session, blob: &Descriptor, diff_id: &Digest) -> Result<Ready, Error> {
    let partial = partial_path(&work.store.places, &blob.digest);
    let path = if partial.exists() { partial } else { work.store.places.blob(&blob.digest) };
    let codec = blob.layer_codec().ok_or_else(|| Error::LayerType(blob.media_type.clone()))?;
    let folder = session.staging.path().join(record::random_name());
    fs_err::create_dir(&folder)?;
    fs_err::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let options = &work.options.unpack;
    let file = fs_err::File::open(path)?;
    let unpack = |tar: &mut dyn std::io::Read| Ok(unpack::unpack_within(tar, &folder, options, &work.budget)?);
    let (unpacked, found) = through(codec, file, &options.limits, unpack)?;
    if found != *diff_id {
        return Err(Error::DiffId { blob: blob.digest.clone(), expected: diff_id.clone(), found });
    }
    Ok(Ready { folder, unpacked })
}

/// Gives a blob its name. The partial file keeps its own until the record is written: a process that is killed in
/// between loses nothing.
fn place_blob(work: &Work, blob: &Descriptor) -> Result<(), Error> {
    if work.state().held.contains_key(&blob.digest) {
        return Ok(());
    }
    let partial = partial_path(&work.store.places, &blob.digest);
    let path = work.store.places.blob(&blob.digest);
    if partial.exists() {
        return link_over(&partial, &path);
    }
    // Another process has published it meanwhile. Even if its image has been removed since, our lease has kept the blob.
    match fs_err::metadata(&path) {
        Ok(found) if found.len() == blob.size => Ok(()),
        _ => Err(Error::MissingBlob(blob.digest.clone())),
    }
}

/// Replaces whatever is there, which no record names.
fn link_over(from: &Path, to: &Path) -> Result<(), Error> {
    let between = to.with_file_name(format!(".new-{}", record::random_name()));
    fs_err::hard_link(from, &between)?;
    fs_err::rename(&between, to)?;
    // Renaming one name of a file over another of the same file does nothing and leaves both.
    let _ = std::fs::remove_file(&between);
    Ok(())
}

/// Stores a manifest as a blob.
fn place_bytes(work: &Work, session: &Session, manifest: &Manifest) -> Result<Descriptor, Error> {
    let descriptor = manifest.descriptor();
    let lock = work.store.lock()?;
    session.lease.add([descriptor.digest.as_str()])?;
    drop(lock);
    write_blob(&work.store.places, &descriptor.digest, manifest.bytes())?;
    Ok(descriptor)
}

/// Writes a small blob. What makes it last comes later.
pub(crate) fn write_blob(places: &crate::Places, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
    let between = places.blob(digest).with_file_name(format!(".new-{}", record::random_name()));
    fs_err::write(&between, bytes)?;
    name_blob(places, &between, digest)
}

/// Gives a blob that was written under another name its own. A file that is there already may be one that a record
/// names and that has outlived power cuts: what takes its place must last from the beginning. One that is missing has
/// nothing to lose, and `syncfs` comes before the record.
pub(crate) fn name_blob(places: &crate::Places, from: &Path, digest: &Digest) -> Result<(), Error> {
    let path = places.blob(digest);
    match rustix::fs::renameat_with(CWD, from, CWD, &path, RenameFlags::NOREPLACE) {
        Ok(()) => return Ok(()),
        Err(Errno::EXIST | Errno::INVAL) => {}
        Err(error) => return Err(std::io::Error::from(error).into()),
    }
    let size = fs_err::metadata(from)?.len();
    let is_recorded = Catalogue::read(places)?.blobs().contains_key(digest);
    if is_recorded && fs_err::metadata(&path).is_ok_and(|found| found.len() == size) {
        return Ok(fs_err::remove_file(from)?);
    }
    fs_err::File::open(from)?.sync_data()?;
    Ok(fs_err::rename(from, &path)?)
}

/// What was known of the image stays: its folders, and the other manifests that it came with.
fn merge(work: &Work, catalogue: &Catalogue, new: &mut ImageRecord) {
    let Some(old) = catalogue.image(&new.id).cloned() else { return };
    new.added = old.added;
    new.nameless = old.nameless;
    // What is mounted stays as it is.
    let is_mounted = work.store.mounted_at(&new.id).is_some();
    if is_mounted || old.layers.iter().all(|layer| layer.one_id == work.one_id()) {
        new.layers = old.layers;
    }
    let latest = new.manifests[0].manifest.digest.clone();
    new.manifests.extend(old.manifests.into_iter().filter(|form| form.manifest.digest != latest));
    if new.manifests.iter().any(|form| !form.raw) {
        new.manifests.retain(|form| !form.raw);
    }
}

/// Removes what is no longer needed, and remembers where the blobs came from. Failing here harms nobody.
fn tidy(work: &Work, records: &[ImageRecord], content: &[Descriptor]) {
    let places = &work.store.places;
    for blob in records.iter().flat_map(ImageRecord::blobs).chain(content) {
        let partial = partial_path(places, &blob.digest);
        if let Ok(Some(_lock)) = crate::lock::PassingLock::take(&partial.with_extension("lock")) {
            let _ = std::fs::remove_file(partial.with_extension("sums"));
            let _ = std::fs::remove_file(partial);
        }
        if let (true, Some(reference)) = (work.options.from_registry, &work.reference) {
            let (registry, repository) = (reference.registry().clone(), reference.repository().clone());
            let _ = origins::add(places, &blob.digest, &Origin { registry, repository });
        }
    }
}
