//! The one algorithm: resolve, read the manifest, choose the platforms, place every blob at once, then the manifests,
//! then the tag.

use std::collections::{HashMap, HashSet};

use cove_oci::{Descriptor, Digest, Manifest, ManifestKind, ManifestReference, Platform};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};

use crate::{Error, Kind, Placed, Progress, Side, Source, Target};

/// Deepest nesting of indexes that is followed. Nobody nests more than two.
const DEPTH_LIMIT: usize = 8;
/// Most manifests of one copy.
const MANIFEST_LIMIT: usize = 4096;

/// Most bytes of all manifests of one copy, which are in memory together.
const MANIFESTS_SIZE_LIMIT: u64 = 64 * 1024 * 1024;
/// Most platforms that a message lists.
const PLATFORMS_SHOWN: usize = 20;

/// Which images of an index are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Platforms {
    /// The one that fits this platform best; no other and no attestations.
    One(Platform),
    /// Everything that the index lists and the source has, attestations included. What the source lacks must be at the
    /// target already.
    All,
}

/// How to copy.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// Which images of an index.
    pub platforms: Platforms,
    /// How many blobs at once.
    pub blobs_at_once: usize,
}

/// What was copied.
#[derive(Debug, Clone)]
pub struct Copied {
    /// What the reference stood for at the source.
    pub root: Descriptor,
    /// The manifest or index behind it. `None` if the target held everything already and nothing was read.
    pub manifest: Option<Manifest>,
    /// The images that were copied: of an index, those that were chosen. Empty if nothing was read.
    pub images: Vec<Manifest>,
    /// How each blob got there.
    pub blobs: HashMap<Digest, Placed>,
}

impl Copied {
    /// Whether the target held everything already.
    pub fn was_up_to_date(&self) -> bool {
        self.manifest.is_none()
    }
}

/// Copies what `from` stands for at the source, and makes `to` stand for it at the target.
pub async fn copy<S: Source, T: Target>(
    source: &S,
    from: &ManifestReference,
    target: &T,
    to: &ManifestReference,
    options: &CopyOptions,
    progress: &dyn Progress,
) -> Result<Copied, Error> {
    let root = source.resolve(from).await?;
    if target.holds(&root, to).await? {
        return Ok(Copied { root, manifest: None, images: Vec::new(), blobs: HashMap::new() });
    }
    let plan = Plan::read(source, &root, &options.platforms).await?;
    // Asked before anything is sent: an index is of no use to a registry that has not all that it lists.
    find_elsewhere(target, &plan.missing).await?;
    for image in plan.images() {
        progress.image(image);
        target.expect(image).await?;
    }
    let wanted = stream::iter(plan.blobs()?.into_iter().map(Ok));
    let blobs = place(source, target, wanted, options.blobs_at_once, progress).await?;
    for manifest in &plan.below {
        target.put_manifest(manifest, None).await?;
    }
    target.put_manifest(&plan.root, Some(to)).await?;
    let images = plan.images().cloned().collect();
    Ok(Copied { root, manifest: Some(plan.root), images, blobs })
}

/// Places blobs in the target, each as soon as its descriptor comes: those of a manifest that is still in the making,
/// for instance, while others are being compressed.
pub async fn place<S: Source, T: Target>(
    source: &S,
    target: &T,
    blobs: impl Stream<Item = Result<Descriptor, Error>> + Send,
    at_once: usize,
    progress: &dyn Progress,
) -> Result<HashMap<Digest, Placed>, Error> {
    let placed = blobs.map(|blob| async move {
        let blob = blob?;
        let placed = target.put_blob(&blob, source, progress).await.map_err(|error| error.about(&blob.digest))?;
        Ok((blob.digest, placed))
    });
    placed.buffer_unordered(at_once.max(1)).try_collect().await
}

/// Sees whether the target has what an index lists and the source lacks.
async fn find_elsewhere<T: Target>(target: &T, missing: &[Descriptor]) -> Result<(), Error> {
    let asked = stream::iter(missing).map(|child| async move {
        let is_there = target.has_manifest(child).await.map_err(|error| error.about(&child.digest))?;
        Ok::<_, Error>((!is_there).then_some(child))
    });
    let absent: Vec<Option<&Descriptor>> = asked.buffered(8).try_collect().await?;
    let absent: Vec<String> = absent.into_iter().flatten().map(named).collect();
    if absent.is_empty() {
        return Ok(());
    }
    // Docker's first words.
    let message = format!(
        "missing content: the index lists {}, which is neither here nor in the registry: fetch it first with \
         `cove pull --all-platforms`, or push the image of one platform with `--platform`",
        absent.join(" and ")
    );
    Err(Error::new(Side::Source, Kind::NotFound, message))
}

/// An entry of an index, as messages name it.
fn named(child: &Descriptor) -> String {
    match &child.platform {
        _ if child.is_attestation() => format!("an attestation ({})", child.digest),
        Some(platform) => format!("{platform} ({})", child.digest),
        None => child.digest.to_string(),
    }
}

/// The manifests of a copy.
struct Plan {
    root: Manifest,
    /// Everything below the root, children before their parents.
    below: Vec<Manifest>,
    /// What the indexes list and the source lacks.
    missing: Vec<Descriptor>,
}

impl Plan {
    async fn read<S: Source>(source: &S, root: &Descriptor, platforms: &Platforms) -> Result<Plan, Error> {
        let manifest = source.manifest(root).await?;
        let (mut levels, mut missing) = (Vec::new(), Vec::new());
        let mut seen = HashSet::from([root.digest.clone()]);
        let mut level = choose(source, &manifest, platforms)?;
        let mut size = root.size;
        for _ in 0..DEPTH_LIMIT {
            level.retain(|child| seen.insert(child.digest.clone()));
            if seen.len() > MANIFEST_LIMIT {
                return Err(
                    corrupt(format!("the index lists more than {MANIFEST_LIMIT} manifests")).about(&root.digest)
                );
            }
            let (here, elsewhere): (Vec<Descriptor>, Vec<Descriptor>) =
                level.into_iter().partition(|child| source.offers(child));
            level = here;
            missing.extend(elsewhere);
            if level.is_empty() {
                let below = levels.into_iter().rev().flatten().collect();
                return Ok(Plan { root: manifest, below, missing });
            }
            // What a manifest has is what its descriptor says, or it is refused.
            size = level.iter().fold(size, |size, child| size.saturating_add(child.size));
            if size > MANIFESTS_SIZE_LIMIT {
                let message = format!("the index lists manifests of more than {MANIFESTS_SIZE_LIMIT} bytes");
                return Err(corrupt(message).about(&root.digest));
            }
            let children = stream::iter(level.iter().map(|child| source.manifest(child)));
            let children: Vec<Manifest> = children.buffered(8).try_collect().await?;
            level = Vec::new();
            for child in &children {
                level.extend(choose(source, child, platforms)?);
            }
            levels.push(children);
        }
        Err(corrupt(format!("indexes are nested more than {DEPTH_LIMIT} levels deep")).about(&root.digest))
    }

    fn images(&self) -> impl Iterator<Item = &Manifest> {
        self.below.iter().chain([&self.root]).filter(|manifest| manifest.kind() == ManifestKind::Image)
    }

    /// Every blob once: configurations first, for they are small and say what the layers are, then layers, the
    /// largest first, so that the longest work does not begin last.
    fn blobs(&self) -> Result<Vec<Descriptor>, Error> {
        let mut seen = HashSet::new();
        let (mut configs, mut layers) = (Vec::new(), Vec::new());
        for image in self.images() {
            configs.extend(image.config().filter(|config| seen.insert(config.digest.clone())).cloned());
            for layer in image.layers() {
                if layer.urls.as_ref().is_some_and(|urls| !urls.is_empty()) {
                    let message = "the layer lies at other addresses (`urls`), which are not followed: \
                         push the image again with its layers included";
                    return Err(Error::new(Side::Source, Kind::Unsupported, message).about(&layer.digest));
                }
                if seen.insert(layer.digest.clone()) {
                    layers.push(layer.clone());
                }
            }
        }
        layers.sort_by_key(|layer| std::cmp::Reverse(layer.size));
        configs.extend(layers);
        Ok(configs)
    }
}

/// The children to follow: of one platform, the best that the source has.
fn choose<S: Source>(source: &S, manifest: &Manifest, platforms: &Platforms) -> Result<Vec<Descriptor>, Error> {
    if manifest.kind() == ManifestKind::Image {
        return Ok(Vec::new());
    }
    match platforms {
        Platforms::All => Ok(manifest.children().cloned().collect()),
        Platforms::One(platform) => {
            let children = || manifest.children().filter(|child| source.offers(child));
            let chosen = platform.choose(children());
            chosen.map(|chosen| vec![chosen.clone()]).ok_or_else(|| {
                let offered = children().filter(|child| !child.is_attestation());
                let mut offered: Vec<String> =
                    offered.filter_map(|child| child.platform.as_ref()).map(|platform| brief(&platform.to_string())).collect();
                offered.dedup();
                let left_out = offered.len().saturating_sub(PLATFORMS_SHOWN);
                offered.truncate(PLATFORMS_SHOWN);
                if left_out > 0 {
                    offered.push(format!("{left_out} more"));
                }
                let message = format!(
                    "no matching manifest for {platform} in the manifest list entries: there are {}; choose one with --platform",
                    if offered.is_empty() { "none".to_owned() } else { offered.join(", ") }
                );
                Error::new(Side::Source, Kind::NotFound, message)
            })
        }
    }
}

/// A text of somebody else's in a list: short, and without what would move a cursor.
fn brief(text: &str) -> String {
    text.chars().take(60).map(|character| if character.is_control() { '?' } else { character }).collect()
}

fn corrupt(message: String) -> Error {
    Error::new(Side::Source, Kind::Corrupt, message)
}
