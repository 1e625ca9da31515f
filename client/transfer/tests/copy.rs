//! `copy` between two places in memory: what is read, in which order things are written, and what is refused.
#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use bytes::Bytes;
use cove_oci::{Algorithm, Descriptor, Digest, Manifest, ManifestReference, Platform, Verifier, media_type};
use cove_transfer::{
    ByteStream, Copied, CopyOptions, Error, Kind, Placed, Platforms, Progress, Side, Silent, Source, Target, copy,
};
use futures_util::{StreamExt, stream};

/// A place in memory, source and target in one. Writes down what is asked of it.
#[derive(Default)]
struct Memory {
    contents: Mutex<HashMap<Digest, Vec<u8>>>,
    tags: Mutex<HashMap<String, Descriptor>>,
    log: Mutex<Vec<String>>,
    /// Manifests that are somewhere else than their index.
    elsewhere: Mutex<HashSet<Digest>>,
    /// Refuses indexes that list what is not here, as most registries do.
    is_strict: bool,
}

impl Memory {
    fn blob(&self, media_type: &str, bytes: &[u8]) -> Descriptor {
        let digest = Digest::of(Algorithm::Sha256, bytes);
        self.contents.lock().unwrap().insert(digest.clone(), bytes.to_vec());
        Descriptor::new(media_type, digest, bytes.len() as u64)
    }

    fn tag(&self, tag: &str, descriptor: &Descriptor) {
        self.tags.lock().unwrap().insert(tag.to_owned(), descriptor.clone());
    }

    fn image(&self, layers: &[Descriptor]) -> Descriptor {
        let config = self.blob(media_type::OCI_CONFIG, b"{}");
        let json = |descriptor: &Descriptor| serde_json::to_string(descriptor).unwrap();
        let layers: Vec<String> = layers.iter().map(json).collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
            media_type::OCI_MANIFEST,
            json(&config),
            layers.join(",")
        );
        self.blob(media_type::OCI_MANIFEST, manifest.as_bytes())
    }

    fn index(&self, children: &[Descriptor]) -> Descriptor {
        let children: Vec<String> = children.iter().map(|child| serde_json::to_string(child).unwrap()).collect();
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
            media_type::OCI_INDEX,
            children.join(",")
        );
        self.blob(media_type::OCI_INDEX, index.as_bytes())
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    fn get(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let found = self.contents.lock().unwrap().get(digest).cloned();
        found.ok_or_else(|| Error::new(Side::Source, Kind::NotFound, "not there").about(digest))
    }
}

impl Source for Memory {
    async fn resolve(&self, reference: &ManifestReference) -> Result<Descriptor, Error> {
        let found = self.tags.lock().unwrap().get(&reference.to_string()).cloned();
        found.ok_or_else(|| Error::new(Side::Source, Kind::NotFound, "no such tag"))
    }

    async fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest, Error> {
        self.log.lock().unwrap().push("manifest".to_owned());
        let bytes = self.get(&descriptor.digest)?;
        Manifest::parse(bytes, Some(&descriptor.media_type))
            .map_err(|error| Error::new(Side::Source, Kind::Corrupt, error))
    }

    fn offers(&self, child: &Descriptor) -> bool {
        !self.elsewhere.lock().unwrap().contains(&child.digest)
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, Error> {
        let bytes = Bytes::from(self.get(&blob.digest)?).slice(usize::try_from(offset).unwrap()..);
        Ok(stream::iter([Ok(bytes)]).boxed())
    }
}

impl Target for Memory {
    async fn holds(&self, root: &Descriptor, reference: &ManifestReference) -> Result<bool, Error> {
        Ok(self.tags.lock().unwrap().get(&reference.to_string()).is_some_and(|held| held.digest == root.digest))
    }

    async fn has_manifest(&self, manifest: &Descriptor) -> Result<bool, Error> {
        Ok(!self.is_strict || self.contents.lock().unwrap().contains_key(&manifest.digest))
    }

    async fn put_blob<S: Source>(&self, blob: &Descriptor, source: &S, _: &dyn Progress) -> Result<Placed, Error> {
        self.log.lock().unwrap().push(format!("blob {}", blob.size));
        if self.contents.lock().unwrap().contains_key(&blob.digest) {
            return Ok(Placed::Existed);
        }
        let mut stream = source.blob(blob, 0).await?;
        let mut verifier = Verifier::new(&blob.digest, blob.size);
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            verifier.update(&chunk).map_err(|error| Error::new(Side::Source, Kind::Corrupt, error))?;
            bytes.extend_from_slice(&chunk);
        }
        verifier.finish().map_err(|error| Error::new(Side::Source, Kind::Corrupt, error))?;
        self.contents.lock().unwrap().insert(blob.digest.clone(), bytes);
        Ok(Placed::Stored(blob.size))
    }

    async fn put_manifest(&self, manifest: &Manifest, reference: Option<&ManifestReference>) -> Result<(), Error> {
        for needed in manifest.blobs().chain(manifest.children()) {
            let there = self.contents.lock().unwrap().contains_key(&needed.digest);
            self.log.lock().unwrap().push(if there { "complete" } else { "incomplete" }.to_owned());
        }
        let descriptor = self.blob(manifest.media_type(), manifest.bytes());
        if let Some(reference) = reference {
            self.tag(&reference.to_string(), &descriptor);
        }
        Ok(())
    }
}

fn run(source: &Memory, target: &Memory, platforms: Platforms) -> Result<Copied, Error> {
    let latest: ManifestReference = "latest".parse().unwrap();
    let options = CopyOptions { platforms, blobs_at_once: 3 };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(copy(source, &latest, target, &latest, &options, &Silent))
}

fn amd64() -> Platforms {
    Platforms::One("linux/amd64".parse().unwrap())
}

fn layer(source: &Memory, bytes: &[u8]) -> Descriptor {
    source.blob(media_type::OCI_LAYER, bytes)
}

fn on(platform: &str, mut image: Descriptor) -> Descriptor {
    image.platform = Some(platform.parse().unwrap());
    image
}

#[test]
fn an_image_is_complete_before_its_tag_moves_and_costs_nothing_the_second_time() {
    let (source, target) = (Memory::default(), Memory::default());
    let image = source.image(&[layer(&source, b"small"), layer(&source, b"a larger layer")]);
    source.tag("latest", &image);
    let copied = run(&source, &target, amd64()).unwrap();
    assert_eq!(copied.root.digest, image.digest);
    assert!(copied.blobs.values().all(|placed| matches!(placed, Placed::Stored(_))));
    // The configuration first, then the largest layer.
    assert_eq!(target.log(), ["blob 2", "blob 14", "blob 5", "complete", "complete", "complete"]);
    source.log();
    assert!(run(&source, &target, amd64()).unwrap().was_up_to_date());
    assert!(source.log().is_empty() && target.log().is_empty(), "nothing is read or written again");
}

#[test]
fn of_an_index_only_the_fitting_image_is_copied_and_the_index_stays_the_same() {
    let (source, target) = (Memory::default(), Memory::default());
    let amd = on("linux/amd64", source.image(&[layer(&source, b"amd64")]));
    let arm = on("linux/arm64", source.image(&[layer(&source, b"arm64!")]));
    let mut attestation = source.image(&[layer(&source, b"attestation")]);
    attestation.annotations =
        Some([("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned())].into());
    let index = source.index(&[attestation.clone(), arm.clone(), amd.clone()]);
    source.tag("latest", &index);

    let copied = run(&source, &target, amd64()).unwrap();
    assert_eq!(copied.images.len(), 1);
    let held: HashSet<Digest> = target.contents.lock().unwrap().keys().cloned().collect();
    assert!(held.contains(&index.digest) && held.contains(&amd.digest));
    assert!(!held.contains(&arm.digest) && !held.contains(&attestation.digest));

    let everything = Memory::default();
    assert_eq!(run(&source, &everything, Platforms::All).unwrap().images.len(), 3);
    let none = Platforms::One("linux/s390x".parse().unwrap());
    let error = run(&source, &Memory::default(), none).unwrap_err().to_string();
    assert!(error.contains("no matching manifest for linux/s390x") && error.contains("linux/arm64"), "{error}");
}

#[test]
fn what_fails_leaves_no_tag() {
    let (source, target) = (Memory::default(), Memory::default());
    let good = layer(&source, b"good");
    let bad = layer(&source, b"bad");
    source.contents.lock().unwrap().insert(bad.digest.clone(), b"BAD".to_vec());
    source.tag("latest", &source.image(&[good, bad.clone()]));
    let error = run(&source, &target, amd64()).unwrap_err();
    assert_eq!((error.kind(), error.side(), error.digest()), (Kind::Corrupt, Side::Source, Some(&bad.digest)));
    assert!(target.tags.lock().unwrap().is_empty());
}

#[test]
fn layers_at_other_addresses_are_not_followed() {
    let source = Memory::default();
    let mut foreign = layer(&source, b"foreign");
    foreign.urls = Some(vec!["http://169.254.169.254/".to_owned()]);
    source.tag("latest", &source.image(&[foreign]));
    assert_eq!(run(&source, &Memory::default(), amd64()).unwrap_err().kind(), Kind::Unsupported);
}

#[test]
fn graphs_cannot_be_made_to_grow() {
    let source = Memory::default();
    let image = source.image(&[]);
    let mut deep = source.index(std::slice::from_ref(&image));
    for _ in 0..20 {
        deep = source.index(&[deep]);
    }
    source.tag("latest", &deep);
    assert_eq!(run(&source, &Memory::default(), Platforms::All).unwrap_err().kind(), Kind::Corrupt);
    assert!(source.log().len() < 20, "the nesting was not followed to its end");

    let many: Vec<Descriptor> = (0..10_000u32)
        .map(|number| {
            Descriptor::new(media_type::OCI_MANIFEST, Digest::of(Algorithm::Sha256, &number.to_le_bytes()), 1)
        })
        .collect();
    source.tag("latest", &source.index(&many));
    assert_eq!(run(&source, &Memory::default(), Platforms::All).unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(source.log().len(), 1, "none of the children was asked for");

    // Few, but large ones: they would all be in memory at once.
    let large: Vec<Descriptor> =
        many.iter().take(17).map(|child| Descriptor { size: 4 << 20, ..child.clone() }).collect();
    source.tag("latest", &source.index(&large));
    assert_eq!(run(&source, &Memory::default(), Platforms::All).unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(source.log().len(), 1, "none of the children was asked for");

    // A child that stands in an index a thousand times, and below it again, is read once.
    let twice = source.index(&[image.clone(), image.clone()]);
    let wide = source.index(&vec![twice; 1000]);
    source.tag("latest", &wide);
    assert_eq!(run(&source, &Memory::default(), Platforms::All).unwrap().images.len(), 1);
    assert_eq!(source.log().len(), 3);
}

/// An index of which the source has one image only.
#[test]
fn what_an_index_lists_and_the_source_lacks_must_be_at_the_target() {
    let source = Memory::default();
    let layer = source.blob(media_type::OCI_LAYER_GZIP, b"layer");
    let other = source.blob(media_type::OCI_LAYER_GZIP, b"another layer");
    let child = |layer: &Descriptor, platform: &str| {
        let mut child = source.image(std::slice::from_ref(layer));
        child.platform = Some(platform.parse().unwrap());
        child
    };
    let (here, there) = (child(&layer, "linux/amd64"), child(&other, "linux/arm64"));
    source.tag("latest", &source.index(&[here.clone(), there.clone()]));
    source.elsewhere.lock().unwrap().insert(there.digest.clone());

    let strict = Memory { is_strict: true, ..Memory::default() };
    let error = run(&source, &strict, Platforms::All).unwrap_err();
    assert_eq!((error.side(), error.kind()), (Side::Source, Kind::NotFound));
    let text = error.to_string();
    for part in ["missing content", "linux/arm64", there.digest.as_str(), "--all-platforms", "--platform"] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    assert!(!text.contains("linux/amd64"), "{text}");
    assert!(strict.log().is_empty(), "nothing is sent before that is known");

    strict.blob(media_type::OCI_MANIFEST, &source.get(&there.digest).unwrap());
    let copied = run(&source, &strict, Platforms::All).unwrap();
    assert_eq!(copied.images.len(), 1);
    assert!(strict.get(&other.digest).is_err(), "what the source lacks is not copied");
    // One that keeps what there is asks for no more.
    run(&source, &Memory::default(), Platforms::All).unwrap();
    // The one that is elsewhere cannot be chosen.
    let error = run(&source, &Memory::default(), Platforms::One("linux/arm64".parse().unwrap())).unwrap_err();
    assert!(error.to_string().contains("there are linux/amd64"), "{error}");
}

#[test]
fn the_list_of_platforms_is_short_and_commands_no_terminal() {
    let source = Memory::default();
    let children: Vec<Descriptor> = (0..100u8)
        .map(|number| {
            let mut child = source.image(&[layer(&source, &[number])]);
            child.platform = Some(Platform {
                os: "plan9".to_owned(),
                architecture: format!("a\u{1b}[2J{number}{}", "x".repeat(1000)),
                ..Platform::host()
            });
            child
        })
        .collect();
    source.tag("latest", &source.index(&children));
    let message = run(&source, &Memory::default(), amd64()).unwrap_err().to_string();
    assert!(message.contains("plan9/a?[2J0x") && message.contains("80 more"), "{message}");
    assert!(message.len() < 2000 && !message.contains('\u{1b}'), "{message}");
}
