//! One place that answers for a registry: the registry itself or a mirror of it.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use cove_oci::{ManifestReference, RegistryName, RepositoryName};
use http::{HeaderName, HeaderValue};
use url::Url;

/// What a repository is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reading.
    Pull,
    /// Reading and writing.
    Push,
}

/// A place to ask, and how.
#[derive(Clone, PartialEq, Eq)]
pub struct Host {
    /// The root of the API, with a slash at its end: `https://hub.example.com/v2/`. Names are appended to it, see
    /// [`Host::url`]. It has another path where `override_path` or a mirror's own path says so.
    pub base: Url,
    /// Plain http may be tried where the host does not speak TLS; see [`Host::over_plain_http`].
    pub plain_http_fallback: bool,
    /// Certificates are not verified.
    pub skip_verify: bool,
    /// Files of further certificate authorities, PEM.
    pub ca: Vec<PathBuf>,
    /// Certificates to show to the host.
    pub client_certificates: Vec<ClientCertificate>,
    /// Headers that go with every request to this host. They may be secrets.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What the host is asked for.
    pub capabilities: Capabilities,
    /// Whether it is a mirror: it is asked first, and what it lacks the next one is asked for. It gets no
    /// credentials of the registry, but those of [`Host::name`].
    pub is_mirror: bool,
    /// How repositories are called there.
    pub rewrite: Option<PrefixRewrite>,
}

/// A certificate to show to a host, and its key; without a file of its own the key lies in the certificate's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// PEM file of the certificate and its chain.
    pub certificate: PathBuf,
    /// PEM file of the key.
    pub key: Option<PathBuf>,
}

/// What a host is asked for (containerd's words).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Manifests by digest, and blobs.
    pub pull: bool,
    /// Manifests by tag, and lists of tags.
    pub resolve: bool,
    /// Uploads.
    pub push: bool,
    /// Manifests by digest are not asked for: registries.conf's `pull-from-mirror = "tag-only"`.
    pub tags_only: bool,
}

impl Capabilities {
    /// What a registry itself can do.
    pub const ALL: Self = Capabilities { pull: true, resolve: true, push: true, tags_only: false };
    /// What a mirror can do unless it is restricted.
    pub const MIRROR: Self = Capabilities { push: false, ..Self::ALL };

    /// Whether the host is asked for a manifest by this tag or digest.
    pub fn serves(&self, reference: &ManifestReference) -> bool {
        match reference {
            ManifestReference::Tag(_) => self.resolve,
            ManifestReference::Digest(_) => self.pull && !self.tags_only,
        }
    }
}

/// Repositories that begin with one prefix have another there (registries.conf: `prefix`, `location`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixRewrite {
    /// Removed from the front; may be empty.
    pub from: String,
    /// Put there instead; may be empty.
    pub to: String,
}

impl Host {
    /// The host's own name: credentials for it lie under this name, never under that of the registry it answers for.
    /// `None` where its address is no registry's name (`a_b.example.com`, `example.com.`): it has no credentials then.
    pub fn name(&self) -> Option<RegistryName> {
        name_of(&self.base)
    }

    /// Under which name the host's credentials and settings lie: the registry's where it is the registry itself, its
    /// own where it is a mirror or where the registry was moved to.
    pub(crate) fn name_for(&self, registry: &RegistryName) -> Option<RegistryName> {
        match is_home(&self.base, registry) {
            true => Some(registry.clone()),
            false => self.name(),
        }
    }

    /// What the repository is called at this host. `None` if it has no valid name there.
    pub fn repository<'a>(&self, repository: &'a RepositoryName) -> Option<Cow<'a, RepositoryName>> {
        let Some(PrefixRewrite { from, to }) = &self.rewrite else { return Some(Cow::Borrowed(repository)) };
        let rest = match from.is_empty() {
            true => repository.as_str(),
            false => {
                let rest = repository.as_str().strip_prefix(from.as_str())?;
                if rest.is_empty() { rest } else { rest.strip_prefix('/')? }
            }
        };
        let parts = [to.as_str(), rest];
        let joined: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        joined.join("/").parse().ok().map(Cow::Owned)
    }

    /// The address of something in a repository: `blobs/sha256:…`, `manifests/latest`, `tags/list?n=100`.
    pub fn url(&self, repository: &RepositoryName, rest: &str) -> Option<Url> {
        self.base.join(&format!("{}/{rest}", self.repository(repository)?)).ok()
    }

    /// The same host over plain http, where that may be tried: after https failed to connect or was answered by
    /// something that is not TLS, never because a certificate was wrong.
    #[must_use]
    pub fn over_plain_http(&self) -> Option<Host> {
        if !self.plain_http_fallback || self.base.scheme() != "https" {
            return None;
        }
        let mut host = Host { plain_http_fallback: false, ..self.clone() };
        host.base.set_scheme("http").ok()?;
        Some(host)
    }
}

/// The name that a registry at this address has.
pub(super) fn name_of(base: &Url) -> Option<RegistryName> {
    let host = base.host_str()?;
    match base.port() {
        Some(port) => format!("{host}:{port}").parse().ok(),
        None => host.parse().ok(),
    }
}

/// Whether an address is where the registry's own name leads.
pub(super) fn is_home(base: &Url, registry: &RegistryName) -> bool {
    // Docker Hub's registry and its search lie on two hosts, and both names are read as the one that is kept.
    let usual = if base.scheme() == "http" { 80 } else { 443 };
    let same_port = base.port() == registry.port() || base.port_or_known_default() == registry.port().or(Some(usual));
    match registry.is_docker_hub() {
        true => name_of(base).is_some_and(|name| name.is_docker_hub()),
        false => base.host_str().is_some_and(|host| host.trim_matches(['[', ']']) == registry.host()) && same_port,
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values of headers may be secrets.
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Host")
            .field("base", &self.base.as_str())
            .field("plain_http_fallback", &self.plain_http_fallback)
            .field("skip_verify", &self.skip_verify)
            .field("ca", &self.ca)
            .field("client_certificates", &self.client_certificates)
            .field("headers", &headers)
            .field("capabilities", &self.capabilities)
            .field("is_mirror", &self.is_mirror)
            .field("rewrite", &self.rewrite)
            .finish()
    }
}

/// How much is transferred at once, and how often a transfer is tried. What is not configured is left to the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Blobs downloaded at once.
    pub downloads: Option<usize>,
    /// Blobs uploaded at once.
    pub uploads: Option<usize>,
    /// Tries of one blob.
    pub attempts: Option<usize>,
}
