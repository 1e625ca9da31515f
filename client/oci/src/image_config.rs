//! Image configurations, kept with the bytes they were read from.
//!
//! Shape: OCI image specification, config.md; Docker adds `Healthcheck`, `Shell`, `OnBuild` and `ArgsEscaped`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Algorithm, Digest, Platform};

/// Largest configuration that is read, in bytes.
const SIZE_LIMIT: usize = 8 * 1024 * 1024;
/// Most layers that are read; one mount takes fewer.
const LAYER_LIMIT: usize = 1000;

/// Why bytes are not the configuration of an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageConfigError {
    /// More than 8 MiB.
    #[error("the image's configuration has more than {} MiB", SIZE_LIMIT / 1024 / 1024)]
    TooLarge,
    /// Not JSON of the right shape.
    #[error("the image's configuration is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// No list of layers, as in artifacts that are no images.
    #[error("the configuration has no rootfs: this is an artifact, not an image that can be unpacked")]
    NoRootfs,
    /// More layers than any image needs.
    #[error("the image has more than {LAYER_LIMIT} layers: build it again with fewer")]
    TooManyLayers,
}

/// The configuration of an image, with the exact bytes it was read from: its digest is the image's id.
#[derive(Debug, Clone)]
pub struct ImageConfig {
    bytes: Vec<u8>,
    document: ImageDocument,
}

/// What an image's configuration says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImageDocument {
    /// When it was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Processor that it is for.
    #[serde(default)]
    pub architecture: String,
    /// Variant of the processor.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Operating system that it is for.
    #[serde(default)]
    pub os: String,
    /// Version of the operating system.
    #[serde(default, rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// How to run it.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: RunConfig,
    /// Its layers.
    #[serde(default)]
    pub rootfs: Rootfs,
    /// How each layer came to be.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// Docker's words about the image, from `commit` and old builds.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Version of the docker that made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub docker_version: String,
}

/// How a container of the image is run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)] // the specification's words
pub struct RunConfig {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub args_escaped: bool,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// The value of a set that is written as an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Empty {}

/// How to tell whether a container is well. Durations are nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)] // Docker's words
pub struct Healthcheck {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_period: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<i64>,
}

/// The layers of an image, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rootfs {
    /// Always `layers`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed tars.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

/// How a layer came to be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs)] // the specification's words
pub struct History {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub empty_layer: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Go writes empty lists and maps as `null`.
fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl ImageConfig {
    /// Largest configuration in bytes.
    pub const SIZE_LIMIT: usize = SIZE_LIMIT;

    /// Reads a configuration.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, ImageConfigError> {
        if bytes.len() > SIZE_LIMIT {
            return Err(ImageConfigError::TooLarge);
        }
        let document: ImageDocument = serde_json::from_slice(&bytes)?;
        // An image of no layers says so; what is no image says nothing.
        if document.rootfs.diff_ids.is_empty() && document.rootfs.kind.is_empty() {
            return Err(ImageConfigError::NoRootfs);
        }
        if document.rootfs.diff_ids.len() > LAYER_LIMIT {
            return Err(ImageConfigError::TooManyLayers);
        }
        Ok(ImageConfig { bytes, document })
    }

    /// Writes a configuration that did not exist before (`import`, `commit`, `build`).
    pub fn write(document: &ImageDocument) -> Result<Self, ImageConfigError> {
        ImageConfig::parse(serde_json::to_vec(document)?)
    }

    /// The bytes it was read from.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The image's id: digest of the bytes.
    pub fn id(&self) -> Digest {
        Digest::of(Algorithm::Sha256, &self.bytes)
    }

    /// What it says.
    pub fn document(&self) -> &ImageDocument {
        &self.document
    }

    /// Digests of the uncompressed layers, lowest first.
    pub fn diff_ids(&self) -> &[Digest] {
        &self.document.rootfs.diff_ids
    }

    /// The platform that the image is for.
    pub fn platform(&self) -> Platform {
        let document = &self.document;
        Platform {
            os: document.os.clone(),
            architecture: document.architecture.clone(),
            variant: document.variant.clone(),
            os_version: document.os_version.clone(),
        }
    }
}

/// The ChainIDs of layers, lowest first: each names a layer together with all below it. OCI image specification,
/// config.md "Layer ChainID".
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(below) => Digest::of(Algorithm::Sha256, format!("{below} {diff_id}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn docker_nulls_are_empty() {
        let bytes = br#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["sh"],"Labels":null,"Volumes":{"/v":{}}},
            "rootfs":{"type":"layers","diff_ids":null},"history":null,"unknown":1}"#;
        let config = ImageConfig::parse(bytes.to_vec()).unwrap();
        assert_eq!(config.document().config.cmd.as_deref(), Some(&["sh".to_owned()][..]));
        assert!(config.document().config.volumes.contains_key("/v"));
        assert_eq!(config.id(), Digest::of(Algorithm::Sha256, bytes));
        assert!(matches!(ImageConfig::parse(b"{}".to_vec()), Err(ImageConfigError::NoRootfs)));
        assert!(matches!(ImageConfig::parse(vec![b' '; SIZE_LIMIT + 1]), Err(ImageConfigError::TooLarge)));
    }

    #[test]
    fn chain_ids_follow_the_specification() {
        let digest = |byte: u8| Digest::of(Algorithm::Sha256, &[byte]);
        let chain = chain_ids(&[digest(1), digest(2)]);
        assert_eq!(chain[0], digest(1));
        let text = format!("{} {}", digest(1), digest(2));
        assert_eq!(chain[1], Digest::of(Algorithm::Sha256, text.as_bytes()));
    }
}
