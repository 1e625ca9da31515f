//! Indexes: images of several platforms under one name, in archives and in the store.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Memory, gzip, noise, pull_with, reference, sha256, store, tar};
use cove_engine::{Error, Found, Image, PruneFilter, ReceiveOptions, RemoveOptions, Removed, Saved, Store};
use cove_oci::{Codec, Descriptor, Digest, Manifest, ManifestReference, Platform, ReferenceDefaults, media_type};
use cove_transfer::{CopyOptions, Kind, Placed, Platforms, Progress, Side, Silent, Source, Target, copy};
use serde_json::json;

const NAME: &str = "io.containerd.image.name";

fn defaults() -> ReferenceDefaults {
    ReferenceDefaults::default()
}

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

fn layer(text: &str) -> Vec<u8> {
    tar(&[("arch", text.as_bytes()), ("noise", &noise(text.len() as u64, 40_000))])
}

/// An index of images for these platforms, each with an attestation.
struct World {
    memory: Memory,
    index: Descriptor,
    children: Vec<Descriptor>,
    attestations: Vec<Descriptor>,
}

fn world(platforms: &[&str], is_raw: bool, salt: &str) -> World {
    let mut memory = Memory::default();
    let (mut children, mut attestations) = (Vec::new(), Vec::new());
    for name in platforms {
        let layers = [layer(&format!("{name}{salt}")), layer("of all")];
        let mut child = if is_raw {
            raw_image(&mut memory, &layers, name)
        } else {
            let layers = layers.map(|tar| (sha256(&tar), gzip(&tar)));
            memory.manifest_of(&layers, name, salt)
        };
        child.platform = Some(platform(name));
        child.annotations = Some(BTreeMap::from([("for".to_owned(), (*name).to_owned())]));
        let statement = memory.add("application/vnd.in-toto+json", format!("{{\"of\":\"{name}\"}}").into_bytes());
        let config = memory.add(media_type::OCI_CONFIG, br#"{"architecture":"unknown","os":"unknown"}"#.to_vec());
        let attestation = json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config,
            "layers": [statement]});
        let mut attestation = memory.add(media_type::OCI_MANIFEST, attestation.to_string().into_bytes());
        attestation.platform =
            Some(Platform { os: "unknown".into(), architecture: "unknown".into(), ..platform("a/b") });
        attestation.annotations = Some(BTreeMap::from([
            ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
            ("vnd.docker.reference.digest".to_owned(), child.digest.to_string()),
        ]));
        children.push(child);
        attestations.push(attestation);
    }
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "annotations": {"of": "all"},
        "manifests": children.iter().chain(&attestations).collect::<Vec<_>>()});
    let index = memory.add(media_type::OCI_INDEX, index.to_string().into_bytes());
    memory.root = Some(index.clone());
    World { memory, index, children, attestations }
}

/// An image of layers that are not compressed, as docker saves it.
fn raw_image(memory: &mut Memory, layers: &[Vec<u8>], name: &str) -> Descriptor {
    let diff_ids: Vec<Digest> = layers.iter().map(|tar| sha256(tar)).collect();
    let platform = platform(name);
    let config = json!({"architecture": platform.architecture, "os": platform.os, "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = memory.add(media_type::OCI_CONFIG, config.to_string().into_bytes());
    let layers: Vec<Descriptor> = layers.iter().map(|tar| memory.add(media_type::OCI_LAYER, tar.clone())).collect();
    let manifest =
        json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": layers});
    memory.add(media_type::OCI_MANIFEST, manifest.to_string().into_bytes())
}

impl World {
    /// What `docker save` writes of it, without the content that belongs to some of the platforms.
    fn archive(&self, name: Option<&str>, without: &[usize]) -> Vec<u8> {
        let missing: Vec<Digest> = without
            .iter()
            .flat_map(|at| {
                let manifest = self.manifest(&self.children[*at]);
                let own = manifest.layers()[0].digest.clone();
                [self.children[*at].digest.clone(), self.attestations[*at].digest.clone(), own]
            })
            .collect();
        let mut root = self.index.clone();
        root.annotations = name.map(|name| BTreeMap::from([(NAME.to_owned(), reference(name).to_string())]));
        let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [root]}).to_string();
        let mut files: Vec<(String, Vec<u8>)> = vec![
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), index.into_bytes()),
        ];
        let content = self.memory.content.iter().filter(|(digest, _)| !missing.contains(digest));
        files.extend(content.map(|(digest, bytes)| (format!("blobs/sha256/{}", digest.hex()), bytes.clone())));
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        tar(&files)
    }

    fn manifest(&self, descriptor: &Descriptor) -> Manifest {
        Manifest::parse(self.memory.content[&descriptor.digest].clone(), None).unwrap()
    }

    fn id(&self, at: usize) -> Digest {
        self.manifest(&self.children[at]).config().unwrap().digest.clone()
    }
}

fn found(store: &Store, name: &str) -> Found {
    store.find(name, &defaults()).unwrap()
}

fn architecture(image: &Image) -> String {
    image.config().platform().architecture
}

fn architectures(store: &Store, name: &str) -> Vec<String> {
    store.images_of(&reference(name)).unwrap().iter().map(architecture).collect()
}

fn is_empty(store: &Store) {
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    for folder in ["blobs/sha256", "images", "references", "layers", "compressed"] {
        let left: Vec<_> = std::fs::read_dir(store.places().root.join(folder)).unwrap().collect();
        assert!(left.is_empty(), "{folder}: {left:?}");
    }
}

/// Takes everything, and keeps it in memory. May fail at the n-th blob.
#[derive(Default)]
struct Registry {
    content: Mutex<BTreeMap<Digest, Vec<u8>>>,
    root: Mutex<Option<Descriptor>>,
    fails_after: Option<usize>,
    blobs: AtomicUsize,
}

impl Target for Registry {
    async fn holds(&self, _: &Descriptor, _: &ManifestReference) -> Result<bool, cove_transfer::Error> {
        Ok(false)
    }

    async fn has_manifest(&self, manifest: &Descriptor) -> Result<bool, cove_transfer::Error> {
        Ok(self.content.lock().unwrap().contains_key(&manifest.digest))
    }

    async fn put_blob<S: Source>(
        &self,
        blob: &Descriptor,
        source: &S,
        _: &dyn Progress,
    ) -> Result<Placed, cove_transfer::Error> {
        use futures_util::TryStreamExt;
        if self.fails_after.is_some_and(|limit| self.blobs.fetch_add(1, Ordering::SeqCst) >= limit) {
            return Err(cove_transfer::Error::new(Side::Target, Kind::Unreachable, "the line is cut"));
        }
        let pieces: Vec<bytes::Bytes> = source.blob(blob, 0).await?.try_collect().await?;
        assert_eq!(sha256(&pieces.concat()), blob.digest);
        self.content.lock().unwrap().insert(blob.digest.clone(), pieces.concat());
        Ok(Placed::Stored(blob.size))
    }

    async fn put_manifest(
        &self,
        manifest: &Manifest,
        reference: Option<&ManifestReference>,
    ) -> Result<(), cove_transfer::Error> {
        let mut content = self.content.lock().unwrap();
        for needed in manifest.blobs().chain(manifest.children()) {
            assert!(content.contains_key(&needed.digest), "{} is not there", needed.digest);
        }
        content.insert(manifest.descriptor().digest, manifest.bytes().to_vec());
        if reference.is_some() {
            *self.root.lock().unwrap() = Some(manifest.descriptor());
        }
        Ok(())
    }
}

async fn push_all(store: &Store, name: &str, to: &Registry) -> Result<Descriptor, cove_transfer::Error> {
    let images = store.images_of(&reference(name)).unwrap();
    store.seal(&images, None, to, &Silent).await?;
    let sender = store.send_index(&reference(name)).unwrap().unwrap();
    let to_reference = reference(name).manifest_reference();
    let options = CopyOptions { platforms: Platforms::All, blobs_at_once: 4 };
    copy(&sender, &to_reference, to, &to_reference, &options, &Silent).await?;
    Ok(to.root.lock().unwrap().clone().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_several_platforms_is_kept_whole() {
    let (_folder, store) = store();
    let world = world(&["linux/s390x", "linux/amd64", "linux/arm64"], false, "");
    load(&store, &world.archive(Some("app:v1"), &[]), None).await.unwrap();
    let image = found(&store, "app:v1").image;
    assert_eq!(architecture(&image), Platform::host().architecture);
    assert_eq!(store.images().unwrap().len(), 1, "the others belong to the name");
    assert_eq!(store.usage().unwrap().images, 1);
    assert_eq!(architectures(&store, "app:v1").len(), 3);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    for at in 0..3 {
        assert!(!store.image(&world.id(at)).unwrap().unwrap().is_dangling());
    }
    // Its files count, though it is not listed.
    let all: u64 = store.images_of(&reference("app:v1")).unwrap().iter().map(|image| image.layers()[0].size).sum();
    assert_eq!(store.usage().unwrap().images_size, all + image.layers()[1].size);
    assert!(store.prune(&PruneFilter::default()).unwrap().removed.is_empty());
    assert_eq!(architectures(&store, "app:v1").len(), 3);

    let registry = Registry::default();
    assert_eq!(push_all(&store, "app:v1", &registry).await.unwrap().digest, world.index.digest);
    let sent = registry.content.lock().unwrap().clone();
    for child in world.children.iter().chain(&world.attestations) {
        assert!(sent.contains_key(&child.digest), "{child:?}");
    }
    // Saved and loaded again it is the same.
    let (_other_folder, other) = common::store();
    load(&other, &save(&store, "app:v1", true).await, None).await.unwrap();
    assert_eq!(push_all(&other, "app:v1", &Registry::default()).await.unwrap().digest, world.index.digest);

    store.remove("app:v1", &defaults(), RemoveOptions::default()).unwrap();
    is_empty(&store);
}

async fn load(store: &Store, archive: &[u8], wanted: Option<&str>) -> Result<Vec<cove_engine::Loaded>, Error> {
    let (store, archive) = (store.clone(), archive.to_vec());
    let wanted = wanted.map(platform);
    tokio::task::spawn_blocking(move || store.load(&*archive, wanted.as_ref(), &Silent)).await.unwrap()
}

async fn save(store: &Store, name: &str, is_whole: bool) -> Vec<u8> {
    let (store, saved) =
        (store.clone(), Saved { image: found(store, name).image, names: vec![reference(name)], is_whole });
    let saving = move || {
        let mut out = Vec::new();
        store.save(&[saved], &mut out).unwrap();
        out
    };
    tokio::task::spawn_blocking(saving).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sparse_archive_gives_what_is_there() {
    let (_folder, store) = store();
    let world = world(&["linux/s390x", "linux/arm64", "linux/amd64"], false, "");
    load(&store, &world.archive(Some("app"), &[1]), None).await.unwrap();
    assert_eq!(architectures(&store, "app"), ["amd64", "s390x"]);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    // What is missing must be in the registry before the index.
    let error = push_all(&store, "app", &Registry::default()).await.unwrap_err().to_string();
    assert!(error.contains("missing content") && error.contains("linux/arm64"), "{error}");
    let registry = Registry::default();
    for descriptor in [&world.children[1], &world.attestations[1]] {
        let bytes = world.memory.content[&descriptor.digest].clone();
        registry.content.lock().unwrap().insert(descriptor.digest.clone(), bytes);
    }
    assert_eq!(push_all(&store, "app", &registry).await.unwrap().digest, world.index.digest);
    // The rest may come later: from another archive, or from a registry.
    load(&store, &world.archive(Some("app"), &[0, 2]), None).await.unwrap();
    assert_eq!(store.images_of(&reference("app")).unwrap().len(), 3);
    assert_eq!(architecture(&found(&store, "app").image), Platform::host().architecture);
    assert_eq!(push_all(&store, "app", &Registry::default()).await.unwrap().digest, world.index.digest);
    store.remove_platform("app", &platform("linux/s390x"), &defaults(), RemoveOptions::default()).unwrap();
    let all = ReceiveOptions { all_platforms: true, from_registry: false, ..ReceiveOptions::default() };
    let copied = pull_with(&store, &world.memory, "app", all.clone(), &Silent).await.unwrap();
    assert!(!copied.was_up_to_date());
    assert_eq!(store.images_of(&reference("app")).unwrap().len(), 3);
    assert!(pull_with(&store, &world.memory, "app", all, &Silent).await.unwrap().was_up_to_date());

    // One platform of several: saved as the image that it is.
    let one = ReceiveOptions { from_registry: false, ..ReceiveOptions::default() };
    pull_with(&store, &world.memory, "one", one, &Silent).await.unwrap();
    let (_other_folder, other) = common::store();
    load(&other, &save(&store, "one", true).await, None).await.unwrap();
    assert!(other.send_index(&reference("one")).unwrap().is_none());

    // None of this machine: the first.
    load(&store, &world.archive(Some("foreign"), &[2]), None).await.unwrap();
    assert_eq!(architectures(&store, "foreign"), ["s390x", "arm64"]);
    let error = load(&store, &world.archive(Some("none"), &[0, 1, 2]), None).await.unwrap_err().to_string();
    assert!(error.contains("none of the images"), "{error}");
    assert!(store.find("none", &defaults()).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_platform_is_loaded_chosen_and_saved() {
    let (_folder, store) = store();
    let world = world(&["linux/amd64", "linux/arm64", "linux/s390x"], false, "");
    let archive = world.archive(Some("app"), &[2]);
    load(&store, &archive, Some("linux/arm64")).await.unwrap();
    assert_eq!(architectures(&store, "app"), ["arm64"]);
    let error = push_all(&store, "app", &Registry::default()).await.unwrap_err().to_string();
    assert!(error.contains("linux/amd64") && !error.contains("linux/arm64"), "{error}");
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    let error = load(&store, &archive, Some("linux/s390x")).await.unwrap_err().to_string();
    let words = "image with reference app:latest was found but does not provide the specified platform (linux/s390x)";
    assert!(error.starts_with(words) && error.contains("linux/amd64, linux/arm64"), "{error}");
    store.remove("app", &defaults(), RemoveOptions::default()).unwrap();
    is_empty(&store);

    load(&store, &archive, None).await.unwrap();
    let main = found(&store, "app");
    let arm = store.for_platform(&main, "app", &platform("linux/arm64")).unwrap();
    assert_eq!((arm.id(), arm.tags()), (&world.id(1), main.image.tags()));
    let error = store.for_platform(&main, "app", &platform("linux/s390x")).unwrap_err().to_string();
    assert!(error.contains("(linux/s390x)") && error.contains("linux/amd64, linux/arm64"), "{error}");
    // By its id too, it has the others beside it.
    let by_id = found(&store, main.image.id().hex());
    assert_eq!(store.for_platform(&by_id, "x", &platform("linux/arm64")).unwrap().id(), arm.id());

    let (_other_folder, other) = common::store();
    let saved = Saved { image: arm, names: vec![reference("app")], is_whole: false };
    let mut out = Vec::new();
    let saving = store.clone();
    let out = tokio::task::spawn_blocking(move || {
        saving.save(&[saved], &mut out).unwrap();
        out
    });
    load(&other, &out.await.unwrap(), None).await.unwrap();
    assert_eq!(architectures(&other, "app"), ["arm64"]);
    assert_eq!(found(&other, "app").image.manifest().descriptor().digest, world.children[1].digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_is_removed_by_itself() {
    let (_folder, store) = store();
    let world = world(&["linux/amd64", "linux/arm64"], false, "");
    load(&store, &world.archive(Some("app"), &[]), None).await.unwrap();
    let (amd64, arm64) = (platform("linux/amd64"), platform("linux/arm64"));
    let error = store.remove(world.id(1).hex(), &defaults(), RemoveOptions { force: true }).unwrap_err();
    assert!(matches!(error, Error::OfIndex { .. }), "{error}");
    assert!(error.to_string().starts_with("conflict: unable to delete "), "{error}");

    store.tag_as(&reference("app"), &reference("other")).unwrap();
    let error = store.remove_platform("app", &amd64, &defaults(), RemoveOptions::default()).unwrap_err();
    assert!(matches!(error, Error::PlatformInUse { .. }), "{error}");
    let removed = store.remove_platform("app", &amd64, &defaults(), RemoveOptions { force: true }).unwrap();
    assert_eq!(removed[0], Removed::Deleted(world.id(0)));
    for name in ["app", "other"] {
        assert_eq!(architectures(&store, name), ["arm64"], "{name}");
    }
    assert!(store.image(&world.id(0)).unwrap().is_none());
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    assert!(store.remove_platform("app", &amd64, &defaults(), RemoveOptions::default()).is_err());

    // The last one takes the names along.
    let removed = store.remove_platform("app", &arm64, &defaults(), RemoveOptions { force: true }).unwrap();
    assert!(removed.contains(&Removed::Untagged(reference("app"))), "{removed:?}");
    is_empty(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_other_platforms_go_with_the_last_name_that_has_them() {
    let (_folder, store) = store();
    let all = ReceiveOptions { all_platforms: true, ..ReceiveOptions::default() };
    let first = world(&["linux/amd64", "linux/arm64"], false, "first");
    pull_with(&store, &first.memory, "app", all.clone(), &Silent).await.unwrap();
    store.tag_as(&reference("app"), &reference("app:copy")).unwrap();
    store.tag(&found(&store, "app").image, &reference("single")).unwrap();
    assert!(store.send_index(&reference("app:copy")).unwrap().is_some());
    store.remove("app", &defaults(), RemoveOptions::default()).unwrap();
    assert_eq!(architectures(&store, "app:copy").len(), 2);
    // A name of the main image alone is none of the others'.
    store.remove("app:copy", &defaults(), RemoveOptions::default()).unwrap();
    assert!(store.image(&first.id(1)).unwrap().is_none());
    assert!(store.image(&first.id(0)).unwrap().is_some());
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    store.remove("single", &defaults(), RemoveOptions::default()).unwrap();
    is_empty(&store);

    // A name that moves leaves what it stood for together, as one image without a name.
    let second = world(&["linux/amd64", "linux/arm64"], false, "second");
    load(&store, &first.archive(Some("app"), &[]), None).await.unwrap();
    load(&store, &second.archive(Some("app"), &[]), None).await.unwrap();
    let images = store.images().unwrap();
    let dangling: Vec<&Digest> = images.iter().filter(|image| image.is_dangling()).map(Image::id).collect();
    assert_eq!((images.len(), dangling), (2, vec![&first.id(0)]));
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    let pruned = store.prune(&PruneFilter::default()).unwrap();
    for at in 0..2 {
        assert!(pruned.removed.contains(&Removed::Deleted(first.id(at))), "{pruned:?}");
    }
    assert_eq!(architectures(&store, "app").len(), 2);
    store.prune(&PruneFilter { all: true, ..PruneFilter::default() }).unwrap();
    is_empty(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_came_without_a_name_stands_for_itself() {
    let (_folder, store) = store();
    let world = world(&["linux/amd64", "linux/arm64"], false, "");
    let ids = |store: &Store| store.images().unwrap().iter().map(|image| image.id().clone()).collect::<Vec<_>>();
    let named = world.archive(Some("app"), &[]);
    load(&store, &named, None).await.unwrap();
    assert_eq!(ids(&store), [world.id(0)]);
    let loaded = load(&store, &world.archive(None, &[0]), None).await.unwrap();
    assert_eq!(loaded, [cove_engine::Loaded::Id(world.id(1))]);
    assert_eq!(ids(&store).len(), 2, "it is listed, though the index of another name lists it too");
    assert!(found(&store, world.id(1).hex()).image.is_dangling());
    store.remove("app", &defaults(), RemoveOptions::default()).unwrap();
    assert_eq!(ids(&store), [world.id(1)], "and does not go with that name");
    assert_eq!(store.check().unwrap(), Vec::<String>::new());

    // What prune takes of it is that it stands for itself: the name's index still has it.
    load(&store, &named, None).await.unwrap();
    assert_eq!(ids(&store).len(), 2);
    store.prune(&PruneFilter::default()).unwrap();
    assert_eq!((ids(&store), architectures(&store, "app").len()), (vec![world.id(0)], 2));
    store.remove("app", &defaults(), RemoveOptions::default()).unwrap();
    is_empty(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_without_a_name_gets_one_by_its_id() {
    let (_folder, store) = store();
    let world = world(&["linux/amd64", "linux/arm64"], false, "");
    let loaded = load(&store, &world.archive(None, &[]), None).await.unwrap();
    assert_eq!(loaded, [cove_engine::Loaded::Id(world.id(0))]);
    assert_eq!(store.images().unwrap().len(), 1);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    store.tag(&found(&store, world.id(0).hex()).image, &reference("app")).unwrap();
    assert_eq!(push_all(&store, "app", &Registry::default()).await.unwrap().digest, world.index.digest);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    store.remove("app", &defaults(), RemoveOptions::default()).unwrap();
    is_empty(&store);
}

/// `docker save` from version 25 on: several platforms, layers that are not compressed.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_uncompressed_images_is_sealed_into_a_new_one() {
    let world = world(&["linux/amd64", "linux/arm64"], true, "");
    let archive = world.archive(Some("app"), &[]);
    let mut sealed = Vec::new();
    for main_first in [false, true] {
        let (_folder, store) = store();
        load(&store, &archive, None).await.unwrap();
        if main_first {
            // As a push without `--all-platforms` does it.
            let main = found(&store, "app").image;
            let result = store.seal(&[main], None, &Registry::default(), &Silent).await.unwrap();
            assert_eq!(result.dropped, 1);
            assert_eq!(store.check().unwrap(), Vec::<String>::new());
            assert_eq!(architectures(&store, "app"), ["amd64", "arm64"]);
        }
        let registry = Registry::default();
        let root = push_all(&store, "app", &registry).await.unwrap();
        assert_ne!(root.digest, world.index.digest);
        let index = Manifest::parse(registry.content.lock().unwrap()[&root.digest].clone(), None).unwrap();
        let children: Vec<&Descriptor> = index.children().collect();
        assert_eq!(children.len(), 2, "attestations of what is no longer there are left out");
        for (new, old) in children.iter().zip(&world.children) {
            assert_ne!(new.digest, old.digest);
            assert_eq!((&new.platform, &new.annotations), (&old.platform, &old.annotations));
            let manifest = Manifest::parse(registry.content.lock().unwrap()[&new.digest].clone(), None).unwrap();
            assert!(manifest.layers().iter().all(|layer| layer.layer_codec() == Some(Codec::Gzip)));
        }
        assert!(String::from_utf8_lossy(index.bytes()).contains(r#""annotations":{"of":"all"}"#));
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
        // The same archive once more stands for what was sealed.
        load(&store, &archive, None).await.unwrap();
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
        assert_eq!(push_all(&store, "app", &Registry::default()).await.unwrap(), root);
        store.remove("app", &defaults(), RemoveOptions::default()).unwrap();
        is_empty(&store);
        sealed.push(root);
    }
    assert_eq!(sealed[0], sealed[1], "the order makes no difference");
}

/// What a push has compressed before it failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_layer_is_compressed_once_though_the_push_fails() {
    use std::os::unix::fs::MetadataExt;
    let (_folder, store) = store();
    let world = world(&["linux/amd64"], true, "");
    let archive = world.archive(Some("app"), &[]);
    load(&store, &archive, None).await.unwrap();
    let image = found(&store, "app").image;
    let blobs = || {
        let mut blobs = BTreeMap::new();
        for entry in std::fs::read_dir(store.places().root.join("blobs/sha256")).unwrap() {
            let entry = entry.unwrap();
            blobs.insert(entry.file_name(), entry.metadata().unwrap().ino());
        }
        blobs
    };
    let remembered = || std::fs::read_dir(store.places().root.join("compressed")).unwrap().count();
    let before = blobs();
    let broken = Registry { fails_after: Some(2), ..Registry::default() };
    store.seal(std::slice::from_ref(&image), None, &broken, &Silent).await.unwrap_err();
    // The layer that was in work when the push failed is finished.
    for _ in 0..200 {
        if remembered() == 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(remembered(), 2);
    let compressed: BTreeMap<_, _> = blobs().into_iter().filter(|(name, _)| !before.contains_key(name)).collect();
    assert_eq!(compressed.len(), 2);
    // Nobody takes them away, for the image still waits.
    store.prune(&PruneFilter::default()).unwrap();
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    // One that the disk has lost is made again.
    let lost = compressed.keys().next().unwrap();
    let path = store.places().root.join("blobs/sha256").join(lost);
    let size = std::fs::metadata(&path).unwrap().len();
    std::fs::write(&path, vec![0; usize::try_from(size).unwrap()]).unwrap();
    let registry = Registry::default();
    store.seal(std::slice::from_ref(&image), None, &registry, &Silent).await.unwrap();
    for (name, inode) in &compressed {
        assert_eq!(blobs()[name] == *inode, name != lost, "compressed again: {name:?}");
    }
    assert_eq!(remembered(), 0, "the image says it now");
    assert_eq!(store.check().unwrap(), Vec::<String>::new());

    // Of an image that goes, nothing stays.
    store.remove("app", &defaults(), RemoveOptions::default()).unwrap();
    load(&store, &archive, None).await.unwrap();
    let broken = Registry { fails_after: Some(0), ..Registry::default() };
    let image = found(&store, "app").image;
    store.seal(&[image], None, &broken, &Silent).await.unwrap_err();
    for _ in 0..200 {
        if remembered() > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    store.remove("app", &defaults(), RemoveOptions::default()).unwrap();
    store.prune(&PruneFilter::default()).unwrap();
    is_empty(&store);
}

/// An index of an index: sealed inside and outside; and one that lists another any number of times, level over level.
#[tokio::test(flavor = "multi_thread")]
async fn indexes_of_indexes() {
    let mut world = world(&["linux/amd64", "linux/arm64"], true, "");
    let inner = world.index.clone();
    let outer = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [inner]}).to_string();
    world.index = world.memory.add(media_type::OCI_INDEX, outer.into_bytes());
    let (_folder, store) = store();
    load(&store, &world.archive(Some("app"), &[]), None).await.unwrap();
    assert_eq!(architectures(&store, "app").len(), 2);
    let registry = Registry::default();
    let root = push_all(&store, "app", &registry).await.unwrap();
    let read = |digest: &Digest| Manifest::parse(registry.content.lock().unwrap()[digest].clone(), None).unwrap();
    let children: Vec<Digest> = read(&root.digest).children().map(|child| child.digest.clone()).collect();
    assert_ne!(children, [inner.digest]);
    assert_eq!(read(&children[0]).children().count(), 2);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());

    for _ in 0..4 {
        let child = world.index.clone();
        let many = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": vec![child; 200]});
        world.index = world.memory.add(media_type::OCI_INDEX, many.to_string().into_bytes());
    }
    let archive = world.archive(Some("many"), &[]);
    let loading = load(&store, &archive, None);
    tokio::time::timeout(std::time::Duration::from_secs(20), loading).await.unwrap().unwrap();
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    let (_other_folder, other) = common::store();
    load(&other, &save(&store, "many", true).await, None).await.unwrap();
    assert_eq!(architectures(&other, "many").len(), 2);
}
