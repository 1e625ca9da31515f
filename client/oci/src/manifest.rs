//! Manifests and indexes, read once and kept with the bytes they came in.
//!
//! Shapes: OCI image specification, manifest.md and image-index.md; Docker's "Image Manifest Version 2,
//! Schema 2". A manifest cannot be serialised again, so its digest cannot change by accident.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::digest::shortened;
use crate::{Algorithm, Descriptor, Digest, media_type};

/// Largest manifest that is read, in bytes. The distribution specification asks for at least 4 MB.
const SIZE_LIMIT: usize = 4 * 1024 * 1024;
/// Deepest nesting of objects and arrays. The specified shapes need six; readers of all languages manage this.
const DEPTH_LIMIT: usize = 64;

/// Which of the two shapes a manifest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestKind {
    /// An image or an artifact: a config and layers.
    Image,
    /// An index or manifest list: other manifests.
    Index,
}

/// Why bytes are not a manifest that can be stored.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// More than 4 MiB.
    #[error("the manifest has more than {} MiB: move large content into a blob and refer to it", SIZE_LIMIT / 1024 / 1024)]
    TooLarge,
    /// Docker's first manifest format.
    #[error(
        "docker manifest schema 1 is retired and not accepted: push with docker 1.10 or later, or convert the image with `skopeo copy --format oci`"
    )]
    Schema1,
    /// No media type that this registry knows how to check.
    #[error(
        "`{0}` is not the media type of a manifest: send an OCI image manifest or index, or a Docker schema 2 manifest or list"
    )]
    MediaType(String),
    /// Header and body disagree.
    #[error("the Content-Type is `{header}` but the manifest's mediaType is `{body}`: send the same in both")]
    MediaTypeMismatch {
        /// The request's `Content-Type`.
        header: String,
        /// The manifest's `mediaType`.
        body: String,
    },
    /// Not JSON of the right shape.
    #[error("the manifest is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// Nested deeper than any reader needs.
    #[error("the manifest is nested more than {DEPTH_LIMIT} levels deep: flatten it")]
    TooDeep,
    /// `schemaVersion` is not 2.
    #[error("schemaVersion is {0}: only version 2 is accepted")]
    SchemaVersion(u64),
    /// Fields of an image and of an index in one document, which two readers would read differently.
    #[error("the manifest is ambiguous: it has `{field}`, which belongs to {other}")]
    Ambiguous {
        /// The field that does not belong.
        field: &'static str,
        /// Where it belongs.
        other: &'static str,
    },
    /// An image manifest without `config`.
    #[error(
        "an image manifest needs a `config` descriptor: for an artifact use the empty descriptor of the OCI specification"
    )]
    NoConfig,
}

/// A manifest or index of a known shape, with the exact bytes it was read from.
#[derive(Debug, Clone)]
pub struct Manifest {
    bytes: Vec<u8>,
    media_type: String,
    kind: ManifestKind,
    document: Document,
}

/// What a registry reads of a manifest. Unknown fields are left alone, known fields that stand twice are an
/// error (two readers could take different ones).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    schema_version: u64,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<BTreeMap<String, String>>,
}

/// What the list of referrers says of a manifest that has a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// The manifest's `artifactType`, or its config's media type where it has none.
    pub artifact_type: Option<String>,
    /// The manifest's annotations.
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Manifest {
    /// Largest manifest in bytes.
    pub const SIZE_LIMIT: usize = SIZE_LIMIT;

    /// Reads and checks a manifest. `content_type` is the request's header, parameters and all.
    pub fn parse(bytes: Vec<u8>, content_type: Option<&str>) -> Result<Self, ManifestError> {
        if bytes.len() > SIZE_LIMIT {
            return Err(ManifestError::TooLarge);
        }
        let header = content_type.map(|value| value.split(';').next().unwrap_or_default().trim());
        let header = header.filter(|value| !value.is_empty());
        if header.is_some_and(|value| media_type::DOCKER_SCHEMA1.contains(&value)) {
            return Err(ManifestError::Schema1);
        }
        // A type in the header that can never be a manifest is refused before the body is looked at.
        if let Some(value) = header {
            kind_of(value)?;
        }
        check_depth(&bytes)?;
        let document: Document = serde_json::from_slice(&bytes)?;
        if document.schema_version == 1 {
            return Err(ManifestError::Schema1);
        }
        if document.schema_version != 2 {
            return Err(ManifestError::SchemaVersion(document.schema_version));
        }
        let media_type = match (header, document.media_type.as_deref()) {
            (Some(header), Some(body)) if header != body => {
                return Err(ManifestError::MediaTypeMismatch { header: shortened(header), body: shortened(body) });
            }
            (Some(found), _) | (None, Some(found)) => found.to_owned(),
            // Both may be missing: the shape decides.
            (None, None) if document.manifests.is_some() => media_type::OCI_INDEX.to_owned(),
            (None, None) => media_type::OCI_MANIFEST.to_owned(),
        };
        let kind = kind_of(&media_type)?;
        document.check_shape(kind)?;
        Ok(Manifest { bytes, media_type, kind, document })
    }

    /// The bytes it was read from.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes it was read from, given away.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Digest of the bytes.
    pub fn digest(&self, algorithm: Algorithm) -> Digest {
        Digest::of(algorithm, &self.bytes)
    }

    /// Media type, as it must be served.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// Image or index.
    pub fn kind(&self) -> ManifestKind {
        self.kind
    }

    /// The config and the layers: the blobs that make up an image. Empty for an index.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.document.config.iter().chain(self.document.layers.iter().flatten())
    }

    /// The image's config. An index has none.
    pub fn config(&self) -> Option<&Descriptor> {
        self.document.config.as_ref()
    }

    /// The image's layers, lowest first. Empty for an index.
    pub fn layers(&self) -> &[Descriptor] {
        self.document.layers.as_deref().unwrap_or_default()
    }

    /// A descriptor of this manifest.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest(Algorithm::Sha256), self.bytes.len() as u64)
    }

    /// The blobs that a registry must hold: layers that may not be distributed are left out.
    pub fn required_blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.blobs().filter(|blob| !media_type::is_nondistributable(&blob.media_type))
    }

    /// The manifests that an index lists. Empty for an image.
    pub fn children(&self) -> impl Iterator<Item = &Descriptor> {
        self.document.manifests.iter().flatten()
    }

    /// The manifest that this one is about.
    pub fn subject(&self) -> Option<&Descriptor> {
        self.document.subject.as_ref()
    }

    /// What a list of referrers says of this manifest.
    pub fn referrer(&self) -> Referrer {
        let stated = self.document.artifact_type.clone().filter(|text| !text.is_empty());
        let from_config = || self.document.config.as_ref().map(|config| config.media_type.clone());
        Referrer {
            artifact_type: stated.or_else(from_config).filter(|text| !text.is_empty()),
            annotations: self.document.annotations.clone(),
        }
    }
}

fn kind_of(media_type: &str) -> Result<ManifestKind, ManifestError> {
    match media_type {
        media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => Ok(ManifestKind::Image),
        media_type::OCI_INDEX | media_type::DOCKER_LIST => Ok(ManifestKind::Index),
        other => Err(ManifestError::MediaType(shortened(other))),
    }
}

/// Unknown fields are passed over by the JSON reader without counting their depth, but other readers would
/// descend into them: a document that could overflow their stacks is not stored.
fn check_depth(bytes: &[u8]) -> Result<(), ManifestError> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_LIMIT {
            return Err(ManifestError::TooDeep);
        }
    }
    Ok(())
}

/// Types are plain words; control characters in them would only serve to confuse whoever lists them.
fn check_types<'a>(mut types: impl Iterator<Item = &'a str>) -> Result<(), ManifestError> {
    match types.find(|text| text.chars().any(char::is_control)) {
        Some(text) => Err(ManifestError::MediaType(shortened(&text.escape_default().to_string()))),
        None => Ok(()),
    }
}

impl Document {
    fn check_shape(&self, kind: ManifestKind) -> Result<(), ManifestError> {
        let config_type = self.config.as_ref().map(|config| config.media_type.as_str());
        check_types(self.artifact_type.as_deref().into_iter().chain(config_type))?;
        let ambiguous = |field, other| Err(ManifestError::Ambiguous { field, other });
        match kind {
            ManifestKind::Image if self.manifests.is_some() => ambiguous("manifests", "an index"),
            ManifestKind::Image if self.config.is_none() => Err(ManifestError::NoConfig),
            ManifestKind::Index if self.layers.is_some() => ambiguous("layers", "an image"),
            ManifestKind::Index if self.config.is_some() => ambiguous("config", "an image"),
            ManifestKind::Image | ManifestKind::Index => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn image(extra: &str) -> Vec<u8> {
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/x","digest":"{DIGEST}","size":3}},"layers":[]{extra}}}"#
        )
        .into_bytes()
    }

    #[test]
    fn keeps_the_bytes_and_reads_the_edges() {
        let bytes = image(&format!(r#","subject":{{"mediaType":"y","digest":"{DIGEST}","size":3}},"x":{{"y":1}}"#));
        let manifest =
            Manifest::parse(bytes.clone(), Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8")).unwrap();
        assert_eq!(manifest.bytes(), bytes);
        assert_eq!(manifest.blobs().count(), 1);
        assert_eq!(manifest.subject().unwrap().digest.as_str(), DIGEST);
        assert_eq!(manifest.referrer().artifact_type.as_deref(), Some("application/x"));
    }

    #[test]
    fn refuses_what_two_readers_would_read_differently() {
        let both = image(r#","manifests":[]"#);
        assert!(matches!(
            Manifest::parse(both, None),
            Err(ManifestError::MediaType(_) | ManifestError::Ambiguous { .. })
        ));
        let twice = image(r#","layers":[]"#);
        assert!(matches!(Manifest::parse(twice, None), Err(ManifestError::Json(_))));
        let other = image(r#","mediaType":"application/vnd.oci.image.index.v1+json""#);
        let header = Some(media_type::OCI_MANIFEST);
        assert!(matches!(Manifest::parse(other, header), Err(ManifestError::MediaTypeMismatch { .. })));
    }

    #[test]
    fn refuses_bad_documents() {
        assert!(matches!(Manifest::parse(b"{\"schemaVersion\":1}".to_vec(), None), Err(ManifestError::Schema1)));
        let header = Some(media_type::DOCKER_SCHEMA1[1]);
        assert!(matches!(Manifest::parse(image(""), header), Err(ManifestError::Schema1)));
        assert!(matches!(Manifest::parse(image(""), Some("text/html")), Err(ManifestError::MediaType(_))));
        assert!(matches!(Manifest::parse(vec![b' '; SIZE_LIMIT + 1], None), Err(ManifestError::TooLarge)));
        let control = image(r#","artifactType":"a\u0000b""#);
        assert!(matches!(Manifest::parse(control, None), Err(ManifestError::MediaType(_))));
        let no_config = br#"{"schemaVersion":2,"layers":[]}"#.to_vec();
        assert!(matches!(Manifest::parse(no_config, None), Err(ManifestError::NoConfig)));
        let negative = br#"{"schemaVersion":2,"manifests":[{"digest":"sha256:00","size":-1}]}"#.to_vec();
        assert!(matches!(Manifest::parse(negative, None), Err(ManifestError::Json(_))));
        let deep = format!(r#"{{"schemaVersion":2,"x":{}{}}}"#, "[".repeat(1000), "]".repeat(1000));
        assert!(matches!(Manifest::parse(deep.into_bytes(), None), Err(ManifestError::TooDeep)));
    }
}
