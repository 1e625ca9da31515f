//! What an archive's files say: OCI layouts, and docker's lists, old and new.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::path::Path;

use cove_oci::{Codec, Descriptor, Digest, ImageConfig, Manifest, ManifestKind, Reference, RepositoryName, media_type};
use serde::{Deserialize, Serialize};

use super::read::Files;
use super::{Archived, Content, Layout};
use crate::Error;

/// Annotation with an image's full name, containerd's and docker's.
pub(super) const FULL_NAME: &str = "io.containerd.image.name";
/// Annotation with an image's name or tag, OCI image specification, annotations.md.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An image in docker's `manifest.json`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    /// Name of the configuration's file.
    pub config: String,
    /// Names of the image.
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    /// Names of the layers' files, lowest first.
    #[serde(default)]
    pub layers: Option<Vec<String>>,
}

/// A manifest that is made here: fields in the specification's order, so that it is always the same.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewManifest<'a> {
    schema_version: u8,
    media_type: &'static str,
    config: &'a Descriptor,
    layers: &'a [Descriptor],
}

impl<'a> NewManifest<'a> {
    /// An OCI manifest of these blobs.
    pub(crate) fn bytes(config: &'a Descriptor, layers: &'a [Descriptor]) -> Result<Vec<u8>, Error> {
        let manifest = NewManifest { schema_version: 2, media_type: media_type::OCI_MANIFEST, config, layers };
        Ok(serde_json::to_vec(&manifest).map_err(std::io::Error::from)?)
    }
}

/// Finds the images. `folder` takes the manifests that are made for images without one.
pub(super) fn layout(files: Files, folder: &Path) -> Result<Layout, Error> {
    let mut contents: HashMap<Digest, Content> =
        files.values().map(|content| (content.digest.clone(), content.clone())).collect();
    verify_names(&files)?;
    let listed: Vec<Listed> = match files.get("manifest.json") {
        Some(content) => json("manifest.json", &content.bytes()?)?,
        None => Vec::new(),
    };
    let images = match files.get("index.json") {
        Some(content) => of_index(&content.bytes()?, &contents, &files, &listed)?,
        None if files.contains_key("manifest.json") => {
            let mut images = Vec::new();
            for image in &listed {
                let made = make(image, &files)?;
                let path = folder.join(format!("manifest-{}", images.len()));
                fs_err::write(&path, &made)?;
                let root = Manifest::parse(made, None)?.descriptor();
                let content = Content { path, digest: root.digest.clone(), size: root.size };
                contents.insert(root.digest.clone(), content);
                images.push(Archived { root, names: names(image)? });
            }
            images
        }
        None => {
            return Err(Error::Archive(
                "the archive has neither `manifest.json` nor `index.json`: make it with `docker save`, `cove save`, \
                 `podman save` or `skopeo copy`; for a root file system use `cove import`"
                    .to_owned(),
            ));
        }
    };
    Ok(Layout { images, contents })
}

fn json<T: for<'de> Deserialize<'de>>(name: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::Archive(format!("`{name}` of the archive is not valid: {error}")))
}

/// Files that are named by their digest have it.
fn verify_names(files: &Files) -> Result<(), Error> {
    for (name, content) in files {
        let stated = name.strip_prefix("blobs/sha256/").map(|hex| format!("sha256:{hex}"));
        if stated.is_some_and(|stated| stated != content.digest.as_str()) {
            return Err(Error::Archive(format!(
                "`{name}` of the archive has the digest {}: the archive is damaged, save it again",
                content.digest
            )));
        }
    }
    Ok(())
}

fn reference(text: &str) -> Result<Reference, Error> {
    Ok(text.parse::<Reference>()?.or_latest())
}

fn names(image: &Listed) -> Result<Vec<Reference>, Error> {
    image.repo_tags.iter().flatten().map(|name| reference(name)).collect()
}

/// The images that an OCI layout's index lists, one for each root, with all its names.
fn of_index(
    bytes: &[u8],
    contents: &HashMap<Digest, Content>,
    files: &Files,
    listed: &[Listed],
) -> Result<Vec<Archived>, Error> {
    let index = Manifest::parse(bytes.to_vec(), Some(media_type::OCI_INDEX))?;
    // Docker's own list has the names too, by configuration.
    let mut by_config: HashMap<Digest, Vec<Reference>> = HashMap::new();
    for image in listed {
        if let Some(config) = files.get(&image.config) {
            by_config.entry(config.digest.clone()).or_default().extend(names(image)?);
        }
    }
    let mut images: Vec<Archived> = Vec::new();
    let mut positions: HashMap<&Digest, usize> = HashMap::new();
    let mut seen: HashSet<(usize, Reference)> = HashSet::new();
    for entry in index.children().filter(|entry| !entry.is_attestation()) {
        let named = entry.annotations.as_ref().and_then(full_name).map(|name| reference(&name)).transpose()?;
        let mut names = Vec::from_iter(named);
        let position = match positions.get(&entry.digest) {
            Some(position) => *position,
            None => {
                let content = contents.get(&entry.digest).ok_or_else(|| Error::MissingBlob(entry.digest.clone()))?;
                let manifest = Manifest::parse(content.bytes()?, Some(&entry.media_type))?;
                // An image's names are given to it once, whatever else has the same configuration.
                names.extend(manifest.config().and_then(|config| by_config.remove(&config.digest)).unwrap_or_default());
                let root = Descriptor { annotations: None, platform: None, ..entry.clone() };
                images.push(Archived { root, names: Vec::new() });
                positions.insert(&entry.digest, images.len() - 1);
                images.len() - 1
            }
        };
        let new = names.into_iter().filter(|name| seen.insert((position, name.clone())));
        images[position].names.extend(new);
    }
    Ok(images)
}

/// The name in an entry's annotations. A tag alone names no repository, so it is no name.
fn full_name(annotations: &BTreeMap<String, String>) -> Option<String> {
    let name = annotations.get(FULL_NAME).or_else(|| annotations.get(REF_NAME))?;
    let complete = name.contains(['/', ':', '@']) || annotations.contains_key(FULL_NAME);
    let (repository, _) = name.split_once(':').unwrap_or((name, ""));
    (complete && (repository.contains('/') || repository.parse::<RepositoryName>().is_ok())).then(|| name.clone())
}

/// The manifest of an image that has none: its configuration and its layers as they lie in the archive.
fn make(image: &Listed, files: &Files) -> Result<Vec<u8>, Error> {
    let missing =
        |name: &str| Error::Archive(format!("`manifest.json` names `{name}`, which the archive does not have"));
    let found = |name: &String| {
        let plain = name.trim_start_matches("./");
        files.get(plain).ok_or_else(|| missing(name))
    };
    let config_file = found(&image.config)?;
    let config = ImageConfig::parse(config_file.bytes()?)?;
    let config_descriptor = Descriptor::new(media_type::OCI_CONFIG, config_file.digest.clone(), config_file.size);
    let names: Vec<&String> = image.layers.iter().flatten().collect();
    if names.len() != config.diff_ids().len() {
        return Err(Error::LayerCount { config: config.diff_ids().len(), manifest: names.len() });
    }
    let mut layers = Vec::with_capacity(names.len());
    for name in names {
        let content = found(name)?;
        let media_type = match codec(content)? {
            Codec::Identity => media_type::OCI_LAYER,
            Codec::Gzip => media_type::OCI_LAYER_GZIP,
            Codec::Zstd => media_type::OCI_LAYER_ZSTD,
        };
        layers.push(Descriptor::new(media_type, content.digest.clone(), content.size));
    }
    NewManifest::bytes(&config_descriptor, &layers)
}

/// How a layer is compressed, by its first bytes.
fn codec(content: &Content) -> Result<Codec, Error> {
    let mut first = Vec::new();
    fs_err::File::open(&content.path)?.take(6).read_to_end(&mut first)?;
    match first.as_slice() {
        [0x1f, 0x8b, ..] => Ok(Codec::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Codec::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0] | [b'B', b'Z', b'h', ..] => {
            Err(Error::LayerType("xz or bzip2 inside of an archive".to_owned()))
        }
        _ => Ok(Codec::Identity),
    }
}

/// Whether any layer of an image is not compressed.
pub(crate) fn is_raw(manifest: &Manifest) -> bool {
    manifest.kind() == ManifestKind::Image
        && manifest.layers().iter().any(|layer| layer.layer_codec() == Some(Codec::Identity))
}
