//! Images in memory and a source of them that can be made to misbehave.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cove_engine::{Places, ReceiveOptions, Store};
use cove_oci::{Algorithm, Descriptor, Digest, Manifest, ManifestReference, Platform, Reference, media_type};
use cove_transfer::{
    ByteStream, Copied, CopyOptions, Error, Kind, Placed, Platforms, Progress, Side, Silent, Source, Step, Target, copy,
};
use futures_util::stream;

/// A tar of these files; folders end in `/`.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        let folder = name.ends_with('/');
        header.set_entry_type(if folder { tar::EntryType::Directory } else { tar::EntryType::Regular });
        header.set_mode(if folder { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, bytes)
}

/// Bytes that do not compress.
pub fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(size).collect()
}

/// How a source misbehaves.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Break each answer off after so many bytes.
    pub break_after: Option<u64>,
    /// Flip a bit of this content.
    pub flip: Option<Digest>,
    /// Pause between pieces.
    pub pause: Option<Duration>,
}

/// An image in memory, as a registry has it.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    pub root: Option<Descriptor>,
    pub content: HashMap<Digest, Vec<u8>>,
    pub faults: Faults,
    /// What was asked for: blob and offset.
    pub asked: Arc<Mutex<Vec<(Digest, u64)>>>,
    pub sent: Arc<AtomicU64>,
}

impl Memory {
    pub fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let descriptor = Descriptor::new(media_type, sha256(&bytes), bytes.len() as u64);
        self.content.insert(descriptor.digest.clone(), bytes);
        descriptor
    }

    /// An image of these layer tars, gzip compressed.
    pub fn image(layers: &[Vec<u8>]) -> Memory {
        let mut memory = Memory::default();
        let blobs: Vec<(Digest, Vec<u8>)> = layers.iter().map(|tar| (sha256(tar), gzip(tar))).collect();
        memory.manifest_of(&blobs, "linux/amd64", "");
        memory
    }

    pub fn manifest_of(&mut self, layers: &[(Digest, Vec<u8>)], platform: &str, salt: &str) -> Descriptor {
        let platform: Platform = platform.parse().unwrap();
        let diff_ids: Vec<&Digest> = layers.iter().map(|(diff_id, _)| diff_id).collect();
        let config = serde_json::json!({
            "architecture": platform.architecture, "os": platform.os, "created": "2026-01-02T03:04:05Z",
            "config": {"Cmd": ["sh"], "Labels": {"salt": salt}}, "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.add(media_type::OCI_CONFIG, config.to_string().into_bytes());
        let layers: Vec<Descriptor> =
            layers.iter().map(|(_, blob)| self.add(media_type::OCI_LAYER_GZIP, blob.clone())).collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": layers,
        });
        let manifest = self.add(media_type::OCI_MANIFEST, manifest.to_string().into_bytes());
        self.root = Some(manifest.clone());
        manifest
    }

    pub fn index_of(&mut self, children: &[Descriptor]) -> Descriptor {
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children});
        let index = self.add(media_type::OCI_INDEX, index.to_string().into_bytes());
        self.root = Some(index.clone());
        index
    }

    pub fn manifest(&self) -> Manifest {
        let root = self.root.clone().unwrap();
        Manifest::parse(self.content[&root.digest].clone(), None).unwrap()
    }

    fn bytes(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let found = self.content.get(digest).cloned();
        let mut bytes = found.ok_or_else(|| Error::new(Side::Source, Kind::NotFound, "no such content"))?;
        if self.faults.flip.as_ref() == Some(digest) {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        Ok(bytes)
    }

    pub fn asked(&self) -> Vec<(Digest, u64)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl Source for Memory {
    async fn resolve(&self, _reference: &ManifestReference) -> Result<Descriptor, Error> {
        Ok(self.root.clone().unwrap())
    }

    async fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest, Error> {
        let bytes = self.bytes(&descriptor.digest)?;
        if sha256(&bytes) != descriptor.digest {
            return Err(Error::new(Side::Source, Kind::Corrupt, "the manifest is wrong"));
        }
        Manifest::parse(bytes, Some(&descriptor.media_type))
            .map_err(|error| Error::new(Side::Source, Kind::Corrupt, error))
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, Error> {
        self.asked.lock().unwrap().push((blob.digest.clone(), offset));
        let bytes = self.bytes(&blob.digest)?;
        let rest = bytes[offset as usize..].to_vec();
        let mut pieces: Vec<Result<Bytes, Error>> = Vec::new();
        let mut left = self.faults.break_after.unwrap_or(u64::MAX);
        for piece in rest.chunks(16 * 1024) {
            let piece = &piece[..piece.len().min(left as usize)];
            left -= piece.len() as u64;
            pieces.push(Ok(Bytes::copy_from_slice(piece)));
            if left == 0 {
                pieces.push(Err(Error::new(Side::Source, Kind::Unreachable, "the connection broke off")));
                break;
            }
        }
        let (pause, sent) = (self.faults.pause, Arc::clone(&self.sent));
        Ok(Box::pin(stream::unfold(pieces.into_iter(), move |mut pieces| {
            let sent = Arc::clone(&sent);
            async move {
                if let Some(pause) = pause {
                    tokio::time::sleep(pause).await;
                }
                let piece = pieces.next()?;
                if let Ok(piece) = &piece {
                    sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
                }
                Some((piece, pieces))
            }
        })))
    }
}

/// Keeps what it is told.
#[derive(Debug, Default)]
pub struct Notes(pub Mutex<Vec<(Digest, Step)>>);

impl Progress for Notes {
    fn step(&self, blob: &Descriptor, step: Step) {
        self.0.lock().unwrap().push((blob.digest.clone(), step));
    }
}

pub fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Places::under(folder.path())).unwrap();
    (folder, store)
}

pub fn reference(text: &str) -> Reference {
    text.parse::<Reference>().unwrap().or_latest()
}

pub async fn pull_with(
    store: &Store,
    source: &Memory,
    name: &str,
    options: ReceiveOptions,
    progress: &dyn Progress,
) -> Result<Copied, Error> {
    let reference = reference(name);
    let platforms = match options.all_platforms {
        true => Platforms::All,
        false => Platforms::One(options.platform.clone().unwrap_or_else(|| "linux/amd64".parse().unwrap())),
    };
    let receiver = store.receive(Some(&reference), options);
    let to = reference.manifest_reference();
    let copying = CopyOptions { platforms, blobs_at_once: 4 };
    copy(source, &to, &receiver, &to, &copying, progress).await
}

pub async fn pull(store: &Store, source: &Memory, name: &str) -> Result<Copied, Error> {
    pull_with(store, source, name, ReceiveOptions::default(), &Silent).await
}

/// A target that takes everything.
pub struct Nowhere;

impl Target for Nowhere {
    async fn holds(&self, _: &Descriptor, _: &ManifestReference) -> Result<bool, Error> {
        Ok(false)
    }

    async fn put_blob<S: Source>(
        &self,
        blob: &Descriptor,
        source: &S,
        progress: &dyn Progress,
    ) -> Result<Placed, Error> {
        use futures_util::TryStreamExt;
        let pieces: Vec<Bytes> = source.blob(blob, 0).await?.try_collect().await?;
        assert_eq!(sha256(&pieces.concat()), blob.digest);
        progress.step(blob, Step::Done);
        Ok(Placed::Stored(blob.size))
    }

    async fn put_manifest(&self, _: &Manifest, _: Option<&ManifestReference>) -> Result<(), Error> {
        Ok(())
    }
}
