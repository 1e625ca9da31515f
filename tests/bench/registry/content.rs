//! What is pushed and pulled.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use cove_tests::{Registry, media_type, sha256};
use sha2::{Digest, Sha256};

/// Where everything is.
pub const REPOSITORY: &str = "library/bench";
/// Size of a small blob.
pub const SMALL: usize = 10_000;
/// Size of a large blob.
pub const LARGE: usize = 100_000_000;
/// Bytes at the end of a blob that no other blob has.
const TAIL: usize = 32;

/// An image: a configuration of 10 kB, a layer of 100 MB and four small ones.
pub struct Content {
    pub config: Vec<u8>,
    pub config_digest: String,
    pub layer: Vec<u8>,
    pub layer_digest: String,
    pub manifest: Vec<u8>,
    small_layers: Vec<Vec<u8>>,
}

impl Content {
    pub fn new() -> Self {
        let (config, layer) = (noise(1, SMALL), noise(2, LARGE));
        let small_layers: Vec<_> = (3..7).map(|seed| noise(seed, SMALL)).collect();
        let (config_digest, layer_digest) = (sha256(&config), sha256(&layer));
        let mut content = Self { config, config_digest, layer, layer_digest, manifest: Vec::new(), small_layers };
        content.manifest = content.manifest_named("the benchmark's own");
        content
    }

    /// A manifest of the image that differs from all with another name.
    pub fn manifest_named(&self, name: &str) -> Vec<u8> {
        let layer = |digest: String, size: usize| serde_json::json!({ "mediaType": media_type::LAYER, "digest": digest, "size": size });
        let small = self.small_layers.iter().map(|bytes| layer(sha256(bytes), bytes.len()));
        let layers: Vec<_> = small.chain([layer(self.layer_digest.clone(), self.layer.len())]).collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::MANIFEST,
            "config": { "mediaType": media_type::CONFIG, "digest": self.config_digest, "size": self.config.len() },
            "layers": layers,
            "annotations": { "org.opencontainers.image.title": name },
        });
        serde_json::to_vec(&manifest).expect("JSON")
    }

    /// Pushes the image.
    pub fn push(&self, registry: &Registry) {
        for blob in self.small_layers.iter().chain([&self.config, &self.layer]) {
            registry.push_blob(REPOSITORY, blob);
        }
        registry.push_manifest(REPOSITORY, "latest", media_type::MANIFEST, &self.manifest);
    }

    /// Writes what a registry would answer, under the paths where it would.
    pub fn write_files(&self, root: &Path) {
        let (manifest, config, layer) = (manifest_path("latest"), self.config_path(), self.layer_path());
        for (path, bytes) in [(manifest, &self.manifest), (config, &self.config), (layer, &self.layer)] {
            let file = root.join(path.trim_start_matches('/'));
            std::fs::create_dir_all(file.parent().expect("a parent")).expect("make a folder");
            std::fs::write(file, bytes).expect("write a file");
        }
    }

    pub fn config_path(&self) -> String {
        format!("/v2/{REPOSITORY}/blobs/{}", self.config_digest)
    }

    pub fn layer_path(&self) -> String {
        format!("/v2/{REPOSITORY}/blobs/{}", self.layer_digest)
    }
}

pub fn manifest_path(reference: &str) -> String {
    format!("/v2/{REPOSITORY}/manifests/{reference}")
}

/// Blobs of one size that differ only at their ends, so that the next one costs no time to make.
pub struct Blobs {
    /// What all begin with.
    pub start: Vec<u8>,
    hash: Sha256,
}

impl Blobs {
    pub fn new(size: usize) -> Self {
        let start = noise(7, size - TAIL);
        let hash = Sha256::new_with_prefix(&start);
        Self { start, hash }
    }

    pub fn size(&self) -> usize {
        self.start.len() + TAIL
    }

    /// The end of a blob that there was not before, and the digest of the whole.
    pub fn next(&self) -> ([u8; TAIL], String) {
        let mut tail = [0; TAIL];
        tail[..8].copy_from_slice(&unique().to_le_bytes());
        let hash = self.hash.clone().chain_update(tail).finalize();
        let hexadecimal: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        (tail, format!("sha256:{hexadecimal}"))
    }
}

/// A number that was not returned before.
pub fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Bytes that do not compress (xorshift64*).
fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
