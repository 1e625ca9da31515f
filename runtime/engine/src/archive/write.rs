//! Writes an archive that is docker's and an OCI layout at once: the same bytes for the same images.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;

use cove_oci::{
    Descriptor, Digest, Manifest, ManifestKind, ManifestReference, Platform, Reference, Verifier, media_type,
};
use cove_transfer::{Kind, Placed, Progress, Side, Source, Step, Target};
use futures_util::StreamExt;
use serde::Serialize;
use tokio::sync::Mutex;

use super::parse::{FULL_NAME, Listed, REF_NAME};
use crate::Error;

/// A target of copies whose result is one tar. Tell it the names of each image before it is copied, and
/// [`Writer::finish`] it after the last.
pub struct Writer<W> {
    // A tar has one end to write at, so blobs queue here, each with its source.
    state: Mutex<State<W>>,
}

struct State<W> {
    out: W,
    written: HashSet<Digest>,
    /// Names of the image that comes next.
    names: Vec<Reference>,
    manifests: HashMap<Digest, Manifest>,
    roots: Vec<(Descriptor, Vec<Reference>)>,
}

impl<W: Write + Send> Writer<W> {
    /// Begins an archive.
    pub fn new(mut out: W) -> Result<Self, Error> {
        for folder in ["blobs/", "blobs/sha256/"] {
            out.write_all(header(folder, 0, true).as_bytes())?;
        }
        let state =
            State { out, written: HashSet::new(), names: Vec::new(), manifests: HashMap::new(), roots: Vec::new() };
        Ok(Writer { state: Mutex::new(state) })
    }

    /// What the image that is copied next is called. It may have no name.
    pub async fn name(&self, names: Vec<Reference>) {
        self.state.lock().await.names = names;
    }

    /// Writes the lists of images and the end.
    pub fn finish(self) -> Result<W, Error> {
        self.state.into_inner().finish()
    }
}

impl<W: Write + Send> Target for Writer<W> {
    async fn holds(&self, _: &Descriptor, _: &ManifestReference) -> Result<bool, cove_transfer::Error> {
        Ok(false)
    }

    async fn put_blob<S: Source>(
        &self,
        blob: &Descriptor,
        source: &S,
        progress: &dyn Progress,
    ) -> Result<Placed, cove_transfer::Error> {
        let mut state = self.state.lock().await;
        if !state.written.insert(blob.digest.clone()) {
            return Ok(Placed::Existed);
        }
        let ours = |error: std::io::Error| Error::from(error).on(Side::Target);
        let wrong = |error| cove_transfer::Error::new(Side::Source, Kind::Corrupt, error);
        let mut stream = source.blob(blob, 0).await?;
        let mut verifier = Verifier::new(&blob.digest, blob.size);
        state.out.write_all(header(&path_of(&blob.digest), blob.size, false).as_bytes()).map_err(ours)?;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            verifier.update(&chunk).map_err(wrong)?;
            state.out.write_all(&chunk).map_err(ours)?;
            progress.step(blob, Step::Transferring { done: verifier.seen(), total: blob.size });
        }
        verifier.finish().map_err(wrong)?;
        state.out.write_all(padding(blob.size)).map_err(ours)?;
        progress.step(blob, Step::Done);
        Ok(Placed::Stored(blob.size))
    }

    async fn put_manifest(
        &self,
        manifest: &Manifest,
        reference: Option<&ManifestReference>,
    ) -> Result<(), cove_transfer::Error> {
        let mut state = self.state.lock().await;
        let descriptor = manifest.descriptor();
        if state.written.insert(descriptor.digest.clone()) {
            state.file(&path_of(&descriptor.digest), manifest.bytes()).map_err(|error| error.on(Side::Target))?;
        }
        state.manifests.insert(descriptor.digest.clone(), manifest.clone());
        if reference.is_some() {
            let names = std::mem::take(&mut state.names);
            state.roots.push((descriptor, names));
        }
        Ok(())
    }
}

impl<W: Write> State<W> {
    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(header(name, bytes.len() as u64, false).as_bytes())?;
        self.out.write_all(bytes)?;
        Ok(self.out.write_all(padding(bytes.len() as u64))?)
    }

    fn json(&mut self, name: &str, value: &impl Serialize) -> Result<(), Error> {
        let bytes = serde_json::to_vec(value).map_err(std::io::Error::from)?;
        self.file(name, &bytes)
    }

    fn finish(mut self) -> Result<W, Error> {
        self.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let index = Index { schema_version: 2, media_type: media_type::OCI_INDEX, manifests: self.entries() };
        self.json("index.json", &index)?;
        let (listed, repositories) = self.listed();
        self.json("manifest.json", &listed)?;
        self.json("repositories", &repositories)?;
        self.out.write_all(&[0; 1024])?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// Entries of the OCI index: one for each name, one for an image without any.
    fn entries(&self) -> Vec<Descriptor> {
        let mut entries = Vec::new();
        for (root, names) in &self.roots {
            if names.is_empty() {
                entries.push(root.clone());
            }
            for name in names {
                let mut annotations = BTreeMap::from([(FULL_NAME.to_owned(), name.to_string())]);
                if let Some(tag) = name.tag() {
                    annotations.insert(REF_NAME.to_owned(), tag.to_string());
                }
                entries.push(Descriptor { annotations: Some(annotations), ..root.clone() });
            }
        }
        entries
    }

    /// Docker's lists: images with their files, and the topmost layer that each name stands for.
    fn listed(&self) -> (Vec<Listed>, BTreeMap<String, BTreeMap<String, String>>) {
        let mut listed = Vec::new();
        let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (root, names) in &self.roots {
            let Some(image) = self.image_of(&root.digest, &mut HashSet::new()) else { continue };
            let Some(config) = image.config() else { continue };
            let layers: Vec<String> = image.layers().iter().map(|layer| path_of(&layer.digest)).collect();
            for name in names {
                if let (Some(tag), Some(top)) = (name.tag(), image.layers().last()) {
                    let tags = repositories.entry(name.familiar_repository()).or_default();
                    tags.insert(tag.to_string(), top.digest.hex().to_owned());
                }
            }
            let repo_tags: Vec<String> =
                names.iter().filter(|name| name.tag().is_some()).map(Reference::familiar).collect();
            listed.push(Listed {
                config: path_of(&config.digest),
                repo_tags: (!repo_tags.is_empty()).then_some(repo_tags),
                layers: Some(layers),
            });
        }
        (listed, repositories)
    }

    /// The image that stands for a manifest in lists that know one only: itself, or of what an index lists and was
    /// written, the one for this machine, or the first.
    fn image_of(&self, digest: &Digest, seen: &mut HashSet<Digest>) -> Option<&Manifest> {
        let manifest = self.manifests.get(digest).filter(|_| seen.insert(digest.clone()))?;
        if manifest.kind() == ManifestKind::Image {
            return Some(manifest);
        }
        let written = || manifest.children().filter(|child| self.manifests.contains_key(&child.digest));
        let best = Platform::host().choose(written());
        let mut images = best.into_iter().chain(written().filter(|child| !child.is_attestation()));
        images.find_map(|child| self.image_of(&child.digest, seen))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u8,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

fn path_of(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// A header without owner and time, so that the same image is the same archive.
fn header(name: &str, size: u64, folder: bool) -> ::tar::Header {
    let mut header = ::tar::Header::new_ustar();
    // Names are at most 140 bytes, which fit into the two fields; what does not would be found by the tests.
    let _ = header.set_path(name);
    header.set_size(size);
    header.set_mode(if folder { 0o755 } else { 0o644 });
    header.set_entry_type(if folder { ::tar::EntryType::Directory } else { ::tar::EntryType::Regular });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    header
}

fn padding(size: u64) -> &'static [u8] {
    const ZEROS: [u8; 512] = [0; 512];
    let rest = usize::try_from(size % 512).unwrap_or_default();
    if rest == 0 { &[] } else { &ZEROS[rest..] }
}
