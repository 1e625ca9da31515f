//! The few blobs and manifests that random requests are about.

use std::sync::LazyLock;

use serde_json::json;

use crate::{media_type, sha256};

pub(super) struct Manifest {
    pub(super) bytes: Vec<u8>,
    pub(super) digest: String,
    /// The blobs that it needs, by number.
    pub(super) needs: [usize; 2],
    /// The manifest that it is about, by number.
    pub(super) subject: Option<usize>,
}

pub(super) struct Blob {
    pub(super) bytes: Vec<u8>,
    pub(super) digest: String,
}

pub(super) const TAGS: [&str; 3] = ["latest", "v1", "v2"];

pub(super) static BLOBS: LazyLock<Vec<Blob>> = LazyLock::new(|| {
    let blob = |number: usize| {
        let bytes = format!("blob {number} of the model").into_bytes();
        Blob { digest: sha256(&bytes), bytes }
    };
    (0..5).map(blob).collect()
});

pub(super) static MANIFESTS: LazyLock<Vec<Manifest>> = LazyLock::new(|| {
    let mut manifests: Vec<Manifest> = Vec::new();
    for (config, layer, subject) in [(0, 1, None), (1, 2, None), (2, 3, Some(0)), (3, 4, Some(0)), (4, 0, Some(1))] {
        let describe = |number: usize, media_type: &str| {
            let blob = &BLOBS[number];
            json!({ "mediaType": media_type, "digest": blob.digest, "size": blob.bytes.len() })
        };
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::MANIFEST,
            "config": describe(config, media_type::CONFIG), "layers": [describe(layer, media_type::LAYER)],
        });
        if let Some(subject) = subject.map(|number: usize| &manifests[number]) {
            let (digest, size) = (&subject.digest, subject.bytes.len());
            manifest["subject"] = json!({ "mediaType": media_type::MANIFEST, "digest": digest, "size": size });
        }
        let bytes = manifest.to_string().into_bytes();
        manifests.push(Manifest { digest: sha256(&bytes), bytes, needs: [config, layer], subject });
    }
    manifests
});
