//! References to images, in full and as people write them.
//!
//! Grammar and defaults: distribution's `reference` package. `debian` is `docker.io/library/debian:latest`; a first
//! part with a dot or a colon, or `localhost`, is a registry.

use std::fmt;
use std::str::FromStr;

use crate::digest::shortened;
use crate::{Digest, ManifestReference, NameError, RepositoryName, Tag};

/// Docker Hub's name in references.
pub const DOCKER_HUB: &str = "docker.io";

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing there.
    #[error("the reference is empty: name an image, such as debian or localhost:5000/team/app:v1")]
    Empty,
    /// Not host[:port].
    #[error("`{0}` is not the name of a registry: write it as HOST or HOST:PORT, without `https://`")]
    Registry(String),
    /// A scheme stands in front.
    #[error("`{0}` is not a reference: leave `https://` away")]
    Scheme(String),
    /// Upper-case letters, which docker names in a message of its own.
    #[error("invalid reference format: repository name (`{0}`) must be lowercase")]
    Uppercase(String),
    /// 64 hexadecimal digits, which would be taken for an image's id.
    #[error("invalid repository name (`{0}`), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// The repository or the tag breaks its grammar.
    #[error("invalid reference format: {0}")]
    Name(#[from] NameError),
}

/// A registry's name in references: `docker.io`, `registry.example.com`, `localhost:5000`, `[::1]:5000`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistryName(Box<str>);

impl RegistryName {
    /// Docker Hub.
    pub fn docker_hub() -> Self {
        RegistryName(DOCKER_HUB.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is Docker Hub, whose repositories without a namespace lie under `library/`.
    pub fn is_docker_hub(&self) -> bool {
        &*self.0 == DOCKER_HUB
    }

    /// Host without the port and without brackets.
    pub fn host(&self) -> &str {
        match self.0.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => self.0.split(':').next().unwrap_or(&self.0),
        }
    }

    /// The port, where one is written.
    pub fn port(&self) -> Option<u16> {
        let after = match self.0.rfind(']') {
            Some(end) => &self.0[end + 1..],
            None => &self.0,
        };
        after.split_once(':').and_then(|(_, port)| port.parse().ok())
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RegistryName {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let bad = || ReferenceError::Registry(shortened(text));
        let lower = text.to_ascii_lowercase();
        // Docker Hub has had several names; one is kept.
        if matches!(lower.as_str(), "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com") {
            return Ok(RegistryName::docker_hub());
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, after) = rest.split_once(']').ok_or_else(bad)?;
                address.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
                (None, after.strip_prefix(':').map_or((!after.is_empty()).then_some(""), Some))
            }
            None => match text.split_once(':') {
                Some((host, port)) => (Some(host), Some(port)),
                None => (Some(text), None),
            },
        };
        let label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let host_is_good = host.is_none_or(|host| host.len() <= 253 && host.split('.').all(label));
        let port_is_good =
            port.is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok());
        if !host_is_good || !port_is_good {
            return Err(bad());
        }
        Ok(RegistryName(lower.into()))
    }
}

/// What stands for what is left out when a reference is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceDefaults {
    /// The registry of names without one.
    pub registry: RegistryName,
}

impl Default for ReferenceDefaults {
    fn default() -> Self {
        ReferenceDefaults { registry: RegistryName::docker_hub() }
    }
}

/// Registry + repository + (tag | digest), in full: OCI distribution specification, "Definitions".
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: RegistryName,
    repository: RepositoryName,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a reference as people write it. Nothing stands for a tag that is left out; see
    /// [`Reference::or_latest`].
    pub fn parse(text: &str, defaults: &ReferenceDefaults) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.contains("://") {
            return Err(ReferenceError::Scheme(shortened(text)));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(NameError::from)?)),
            None => (text, None),
        };
        let (rest, tag) = match rest.rsplit_once(':') {
            // A colon before a slash belongs to a port.
            Some((rest, tag)) if !tag.contains('/') && !rest.is_empty() => (rest, Some(tag.parse::<Tag>()?)),
            _ => (rest, None),
        };
        let (registry, repository) = match rest.split_once('/') {
            Some((first, rest)) if is_registry(first) => (first.parse::<RegistryName>()?, rest),
            _ => (defaults.registry.clone(), rest),
        };
        if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(ReferenceError::Uppercase(shortened(repository)));
        }
        if looks_like_id(rest) {
            return Err(ReferenceError::LooksLikeId(shortened(rest)));
        }
        let repository = match repository.contains('/') || !registry.is_docker_hub() {
            true => repository.parse::<RepositoryName>()?,
            false => {
                repository.parse::<RepositoryName>()?;
                format!("library/{repository}").parse::<RepositoryName>()?
            }
        };
        Ok(Reference { registry, repository, tag, digest })
    }

    /// A reference made of its parts.
    pub fn new(registry: RegistryName, repository: RepositoryName, reference: ManifestReference) -> Self {
        let (tag, digest) = match reference {
            ManifestReference::Tag(tag) => (Some(tag), None),
            ManifestReference::Digest(digest) => (None, Some(digest)),
        };
        Reference { registry, repository, tag, digest }
    }

    /// The registry.
    pub fn registry(&self) -> &RegistryName {
        &self.registry
    }

    /// The repository within the registry.
    pub fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    /// The tag, where one is written.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The digest, where one is written.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Whether neither a tag nor a digest is written: `latest` is meant.
    pub fn is_bare(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// The same reference with the tag `latest` if neither a tag nor a digest is written.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.is_bare() {
            self.tag = "latest".parse().ok();
        }
        self
    }

    /// The repository of this reference with another tag.
    #[must_use]
    pub fn with_tag(&self, tag: Tag) -> Self {
        Reference { tag: Some(tag), digest: None, ..self.clone() }
    }

    /// The repository of this reference with a digest.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// What to ask the registry for: the digest where there is one, else the tag, else `latest`.
    pub fn manifest_reference(&self) -> ManifestReference {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => ManifestReference::Digest(digest.clone()),
            (None, Some(tag)) => ManifestReference::Tag(tag.clone()),
            #[allow(clippy::expect_used)] // `latest` follows the grammar of tags
            (None, None) => ManifestReference::Tag("latest".parse().expect("`latest` is a tag")),
        }
    }

    /// Registry and repository in full: `docker.io/library/debian`.
    pub fn full_repository(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Registry and repository as docker shows them: `debian`, `team/app`, `localhost:5000/app`.
    pub fn familiar_repository(&self) -> String {
        if !self.registry.is_docker_hub() {
            return self.full_repository();
        }
        let repository = self.repository.as_str();
        match repository.strip_prefix("library/") {
            // A name that is read as an image's id keeps `library/`.
            Some(name) if !name.contains('/') && !looks_like_id(name) => name.to_owned(),
            // Without its registry the first part of this one would be taken for another registry.
            _ if repository.split_once('/').is_some_and(|(first, _)| is_registry(first)) => self.full_repository(),
            _ => repository.to_owned(),
        }
    }

    /// The whole reference as docker shows it: `debian:latest`.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_repository())
    }

    fn with_suffix(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag.as_str());
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
        text
    }
}

/// Whether a name would be taken for an image's id.
fn looks_like_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether the first part of a name is a registry: it has a dot or a colon, or is `localhost`. (Newer parsers take
/// upper-case letters for a sign too; but who writes `Team/app` has mistyped a repository's name.)
fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':'])
}

impl fmt::Display for Reference {
    /// In full; what is stored and compared.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.full_repository()))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    /// With docker's defaults; a full reference is always read as what it is.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Reference::parse(text, &ReferenceDefaults::default())
    }
}

impl serde::Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn what_is_left_out_is_docker_hub() {
        for (written, full, familiar) in [
            ("debian", "docker.io/library/debian", "debian"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("library/debian", "docker.io/library/debian", "debian"),
            ("docker.io/debian", "docker.io/library/debian", "debian"),
            ("index.docker.io/team/app:v1", "docker.io/team/app:v1", "team/app:v1"),
            ("Index.Docker.IO/team/app", "docker.io/team/app", "team/app"),
            ("team/app", "docker.io/team/app", "team/app"),
            ("localhost/app", "localhost/app", "localhost/app"),
            ("docker.io/a.b/app", "docker.io/a.b/app", "docker.io/a.b/app"),
            ("localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"),
            ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c"),
            ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
            ("Hub.Example.COM/app", "hub.example.com/app", "hub.example.com/app"),
        ] {
            let reference: Reference = written.parse().unwrap();
            assert_eq!(reference.to_string(), full, "{written}");
            assert_eq!(reference.familiar(), familiar, "{written}");
        }
        let with_digest: Reference = format!("debian:12@{DIGEST}").parse().unwrap();
        assert_eq!(with_digest.to_string(), format!("docker.io/library/debian:12@{DIGEST}"));
        assert!(matches!(with_digest.manifest_reference(), ManifestReference::Digest(_)));
        assert_eq!("debian".parse::<Reference>().unwrap().or_latest().familiar(), "debian:latest");
    }

    #[test]
    fn what_is_shown_is_read_as_the_same_reference() {
        let like_id = format!("library/{}", "a".repeat(64));
        for written in [like_id.as_str(), "docker.io/a.b/app", "docker.io/localhost/app", "INDEX.docker.io/app:1"] {
            let reference = Reference::parse(written, &ReferenceDefaults::default()).unwrap();
            for shown in [reference.to_string(), reference.familiar()] {
                assert_eq!(Reference::parse(&shown, &ReferenceDefaults::default()), Ok(reference.clone()), "{shown}");
            }
        }
    }

    #[test]
    fn ones_own_hub_can_be_the_default() {
        let defaults = ReferenceDefaults { registry: "hub.example.com".parse().unwrap() };
        assert_eq!(Reference::parse("app", &defaults).unwrap().to_string(), "hub.example.com/app");
        assert_eq!(Reference::parse("docker.io/app", &defaults).unwrap().to_string(), "docker.io/library/app");
    }

    #[test]
    fn registries_have_a_host_and_a_port() {
        for (text, host, port) in
            [("localhost:5000", "localhost", Some(5000)), ("[::1]:80", "::1", Some(80)), ("a.b", "a.b", None)]
        {
            let name: RegistryName = text.parse().unwrap();
            assert_eq!((name.host(), name.port()), (host, port));
        }
    }

    #[test]
    fn bad_references_are_refused() {
        let id = "a".repeat(64);
        for text in [
            "",
            ":",
            "/",
            "a//b",
            "A",
            "Team/app",
            "a:",
            "a:b c",
            "a@",
            "a@sha256:0",
            "https://a.b/c",
            "a:b:c",
            "x.y:99999/a",
            "-x.y/a",
            "a/b/",
            "[::1/a",
            "[x]:1/a",
            "../a",
            "a\n",
            &id,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?} must not parse");
        }
    }
}
