//! What is known of each registry: its mirrors, how it is spoken to, whom it may send us to.
//!
//! Docker, podman and containerd each have a dialect for this; all are read, for any registry, next to Cove's own
//! file. Each question (which mirrors? which transport?) is answered by the first of these that says something
//! about it:
//!
//! 1. variables: `COVE_DEFAULT_REGISTRY`, `COVE_INSECURE_REGISTRIES`, `COVE_REGISTRY_MIRRORS`
//! 2. `cove.toml`
//! 3. `hosts.toml` of the registry's folder in `certs.d` (containerd, docker ≥ 29)
//! 4. `registries.conf` and its drop-ins (podman)
//! 5. `daemon.json` (docker)
//!
//! Certificates of `certs.d` folders are added to whatever else is said.
//!
//! **Transport.** https, verified. Registries on this machine (localhost, 127.0.0.0/8, ::1) and those listed as
//! insecure are asked by https without verification first, then by plain http, in docker's order: a server that does
//! not speak TLS refuses at once, and one that does is never sent a credential in the clear. Plain http at once only
//! where `plain-http = true` or an address with `http://` says so.
//!
//! **Proxies** are the environment's: `proxies.rs`.

mod certificates;
mod cove_toml;
mod daemon_json;
mod error;
mod host;
mod hosts_toml;
mod insecure;
mod paths;
mod registries_conf;

use std::path::PathBuf;

use cove_oci::{RegistryName, RepositoryName};
use url::Url;

use certificates::{Certificates, folders_of};
use cove_toml::CoveToml;
use daemon_json::DaemonJson;
use host::{is_home, name_of};
use hosts_toml::{HostSettings, HostsToml};
use insecure::{Insecure, is_loopback};
use registries_conf::{MirrorUse, RegistriesConf, Table};

pub(crate) use daemon_json::ProxySettings;
pub use error::RegistriesError;
pub use host::{Access, Capabilities, ClientCertificate, Host, Limits, PrefixRewrite};
pub use paths::{ConfigPaths, Variables};

/// What all configuration together says of registries.
pub struct Registries {
    default_registry: RegistryName,
    insecure: Insecure,
    insecure_by_variable: Insecure,
    mirrors_by_variable: Option<Vec<Url>>,
    cove: CoveToml,
    conf: RegistriesConf,
    daemon: DaemonJson,
    certs_d: Vec<PathBuf>,
}

impl Registries {
    /// Reads the configuration.
    pub fn load(paths: &ConfigPaths) -> Result<Self, RegistriesError> {
        let cove = CoveToml::load(&paths.cove)?;
        let daemon = DaemonJson::load(&paths.daemon_json)?;
        let variables = &paths.variables;
        let (mut insecure, mut insecure_by_variable) = (Insecure::default(), Insecure::default());
        for (entry, path) in cove.insecure.iter().chain(&daemon.insecure) {
            insecure.add(entry, &path.display().to_string(), "insecure-registries")?;
        }
        for entry in listed(variables.insecure_registries.as_deref()) {
            insecure_by_variable.add(entry, "COVE_INSECURE_REGISTRIES", "the list")?;
        }
        let mirrors_by_variable = match &variables.registry_mirrors {
            Some(list) => {
                let urls = listed(Some(list)).map(|text| cove_toml::mirror(text, "COVE_REGISTRY_MIRRORS", "the list"));
                Some(urls.collect::<Result<Vec<_>, _>>()?)
            }
            None => None,
        };
        let default_registry = match variables.default_registry.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => name.parse().map_err(|_| {
                RegistriesError::value("COVE_DEFAULT_REGISTRY", "the variable", name, "HOST or HOST:PORT")
            })?,
            None => cove.default_registry.clone().unwrap_or_else(RegistryName::docker_hub),
        };
        Ok(Registries {
            default_registry,
            insecure,
            insecure_by_variable,
            mirrors_by_variable,
            cove,
            conf: RegistriesConf::load(&paths.registries_conf, &paths.registries_conf_d)?,
            daemon,
            certs_d: paths.hosts.clone(),
        })
    }

    /// The registry of names without one.
    pub fn default_registry(&self) -> RegistryName {
        self.default_registry.clone()
    }

    /// podman's `unqualified-search-registries`. Cove never searches for a name: it has one default.
    pub fn unqualified(&self) -> &[RegistryName] {
        &self.conf.unqualified
    }

    /// Where to ask for things of the registry as a whole (`/v2/`, a search): mirrors first, the registry itself last.
    ///
    /// Reads the registry's folders in `certs.d`; and where ranges of addresses are listed as insecure, a host's name is
    /// looked up. Call it off the async threads.
    pub fn hosts(&self, registry: &RegistryName, access: Access) -> Result<Vec<Host>, RegistriesError> {
        self.hosts_of(registry, None, access)
    }

    /// Where to ask for things of a repository: mirrors first, the registry itself last. Only hosts that have the
    /// access asked for; for [`Access::Push`] that is the registry itself, as a rule.
    pub fn hosts_for(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        access: Access,
    ) -> Result<Vec<Host>, RegistriesError> {
        self.hosts_of(registry, Some(repository), access)
    }

    /// The registry where its own name says, whatever is configured of other places for it: this is where one logs in.
    ///
    /// Blocks as [`Registries::hosts`] does.
    pub fn home(&self, registry: &RegistryName) -> Result<Host, RegistriesError> {
        let mut host = self.described(Some(registry), root_of(registry)?, Capabilities::ALL)?;
        if let Some(file) = self.hosts_toml(registry)?
            && file.server.as_ref().is_none_or(|server| is_home(server, registry))
        {
            host.base = file.server.unwrap_or(host.base);
            apply(&file.server_settings, &mut host);
        }
        let is_here = |table: &&Table| table.location.as_ref().is_none_or(|location| location.registry == *registry);
        let table = self.conf.table(registry, None).filter(is_here);
        let may = self.settings(registry).insecure != Some(false);
        allow_insecure(may && table.is_some_and(|table| table.insecure), &mut host);
        Ok(host)
    }

    /// Whether the configuration lets the registry send us to this address for a token, with our credential: the
    /// registry itself does so always, others where `realms` of `cove.toml` names them. Whatever else is allowed (an
    /// https realm at a public address) is for the caller to judge, who sees the addresses.
    pub fn realm_allowed(&self, registry: &RegistryName, realm: &Url) -> bool {
        let port = realm.port_or_known_default();
        let is_at = |name: &RegistryName| {
            let expected = name.port().or(match realm.scheme() {
                "https" => Some(443),
                _ => Some(80),
            });
            realm.host_str().is_some_and(|host| host.trim_matches(['[', ']']) == name.host()) && port == expected
        };
        let plain_http_is_fine =
            || self.is_insecure(registry) || is_loopback(registry) || self.settings(registry).plain_http == Some(true);
        if realm.scheme() != "https" && !(realm.scheme() == "http" && plain_http_is_fine()) {
            return false;
        }
        is_at(registry) || self.settings(registry).realms.iter().any(is_at)
    }

    /// Whether the registry is this machine: no proxy must be used for it.
    pub fn is_loopback(registry: &RegistryName) -> bool {
        is_loopback(registry)
    }

    /// How much is transferred at once with the registry.
    pub fn limits(&self, registry: &RegistryName) -> Limits {
        let (own, cove, daemon) = (self.settings(registry).limits, self.cove.limits, self.daemon.limits);
        Limits {
            downloads: own.downloads.or(cove.downloads).or(daemon.downloads),
            uploads: own.uploads.or(cove.uploads).or(daemon.uploads),
            attempts: own.attempts.or(cove.attempts).or(daemon.attempts),
        }
    }

    /// The proxies of docker's daemon.
    pub(crate) fn proxies(&self) -> &ProxySettings {
        &self.daemon.proxies
    }

    fn hosts_of(
        &self,
        registry: &RegistryName,
        repository: Option<&RepositoryName>,
        access: Access,
    ) -> Result<Vec<Host>, RegistriesError> {
        let table = self.conf.table(registry, repository);
        if let Some(table) = table.filter(|table| table.blocked) {
            let name = repository.map_or(registry.to_string(), |repository| format!("{registry}/{repository}"));
            return Err(RegistriesError::Blocked { name, path: table.path.clone() });
        }
        let file = self.hosts_toml(registry)?;
        let mut hosts = self.mirrors(registry, file.as_ref(), table)?;
        hosts.push(self.origin(registry, file.as_ref(), table)?);
        hosts.retain(|host| match access {
            Access::Pull => host.capabilities.pull || host.capabilities.resolve,
            Access::Push => host.capabilities.push,
        });
        Ok(hosts)
    }

    /// The mirrors, by the first dialect that names some.
    fn mirrors(
        &self,
        registry: &RegistryName,
        file: Option<&HostsToml>,
        table: Option<&Table>,
    ) -> Result<Vec<Host>, RegistriesError> {
        let by_variable = self.mirrors_by_variable.as_ref().filter(|_| registry.is_docker_hub());
        if let Some(mirrors) = by_variable.or(self.settings(registry).mirrors.as_ref()) {
            return mirrors.iter().map(|base| self.mirror(base.clone())).collect();
        }
        if let Some(file) = file {
            let described = |(base, settings): &(Url, HostSettings)| {
                let mut host = self.mirror(base.clone())?;
                apply(settings, &mut host);
                Ok(host)
            };
            return file.hosts.iter().map(described).collect();
        }
        if let Some(table) = table.filter(|table| !table.mirrors.is_empty()) {
            let described = |mirror: &registries_conf::Mirror| {
                let mut host = self.mirror(root_of(&mirror.location.registry)?)?;
                host.rewrite.clone_from(&mirror.location.rewrite);
                host.capabilities.resolve = mirror.used_for != MirrorUse::DigestOnly;
                host.capabilities.tags_only = mirror.used_for == MirrorUse::TagOnly;
                allow_insecure(mirror.insecure, &mut host);
                Ok(host)
            };
            return table.mirrors.iter().map(described).collect();
        }
        let of_docker = if registry.is_docker_hub() { self.daemon.mirrors.as_slice() } else { &[] };
        of_docker.iter().map(|base| self.mirror(base.clone())).collect()
    }

    /// The registry itself, where its name or the first dialect that knows better says.
    fn origin(
        &self,
        registry: &RegistryName,
        file: Option<&HostsToml>,
        table: Option<&Table>,
    ) -> Result<Host, RegistriesError> {
        if let Some(file) = file {
            let base = file.server.clone().map_or_else(|| root_of(registry), Ok)?;
            let mut host = self.placed(registry, base)?;
            apply(&file.server_settings, &mut host);
            return Ok(host);
        }
        let location = table.and_then(|table| table.location.as_ref());
        let base = root_of(location.map_or(registry, |location| &location.registry))?;
        let moved = name_of(&base).filter(|_| !is_home(&base, registry));
        let may = self.settings(moved.as_ref().unwrap_or(registry)).insecure != Some(false);
        let mut host = self.placed(registry, base)?;
        host.rewrite = location.and_then(|location| location.rewrite.clone());
        allow_insecure(may && table.is_some_and(|table| table.insecure), &mut host);
        Ok(host)
    }

    /// The registry at an address. Moved to another host it is that host, with what is configured of that one: what is
    /// meant for the registry's own host (certificates, headers, leniency) is not for whoever stands in for it.
    fn placed(&self, registry: &RegistryName, base: Url) -> Result<Host, RegistriesError> {
        match is_home(&base, registry) {
            true => self.described(Some(registry), base, Capabilities::ALL),
            false => self.described(name_of(&base).as_ref(), base, Capabilities::ALL),
        }
    }

    fn mirror(&self, base: Url) -> Result<Host, RegistriesError> {
        let mut host = self.described(name_of(&base).as_ref(), base, Capabilities::MIRROR)?;
        host.is_mirror = true;
        Ok(host)
    }

    /// A host with what is configured under its own name, if it has one.
    fn described(
        &self,
        name: Option<&RegistryName>,
        base: Url,
        capabilities: Capabilities,
    ) -> Result<Host, RegistriesError> {
        let mut host = bare(base, capabilities);
        let Some(name) = name else { return Ok(host) };
        let settings = self.settings(name);
        if settings.plain_http == Some(true) {
            let _ = host.base.set_scheme("http"); // from https: always possible
        }
        allow_insecure(self.is_insecure(name) || is_loopback(name) && settings.insecure != Some(false), &mut host);
        let found = Certificates::load(&self.certs_d, name)?;
        host.ca = settings.ca.iter().chain(&found.ca).cloned().collect();
        host.client_certificates = settings.client_certificate.iter().chain(&found.client).cloned().collect();
        host.headers.clone_from(&settings.headers);
        Ok(host)
    }

    /// The `hosts.toml` of the registry, else the one for all that have none of their own.
    fn hosts_toml(&self, registry: &RegistryName) -> Result<Option<HostsToml>, RegistriesError> {
        let own = self.certs_d.iter().flat_map(|folder| folders_of(folder, registry));
        let general = self.certs_d.iter().map(|folder| folder.join("_default"));
        for folder in own.chain(general) {
            if let Some(found) = HostsToml::load(&folder.join("hosts.toml"))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn is_insecure(&self, registry: &RegistryName) -> bool {
        if self.insecure_by_variable.has(registry) {
            return true;
        }
        match self.settings(registry).insecure {
            Some(insecure) => insecure,
            None => self.insecure.has(registry),
        }
    }

    fn settings(&self, registry: &RegistryName) -> &cove_toml::RegistrySettings {
        self.cove.registries.get(registry).unwrap_or(&cove_toml::NOTHING)
    }
}

fn bare(base: Url, capabilities: Capabilities) -> Host {
    Host {
        base,
        plain_http_fallback: false,
        skip_verify: false,
        ca: Vec::new(),
        client_certificates: Vec::new(),
        headers: Vec::new(),
        capabilities,
        is_mirror: false,
        rewrite: None,
    }
}

/// Certificates are not verified, and plain http is tried if https is not spoken.
fn allow_insecure(insecure: bool, host: &mut Host) {
    host.skip_verify |= insecure;
    host.plain_http_fallback |= insecure && host.base.scheme() == "https";
}

/// What `hosts.toml` says of a host wins over what was known of it. `skip_verify` is about TLS alone, either way.
fn apply(settings: &HostSettings, host: &mut Host) {
    host.capabilities = settings.capabilities.unwrap_or(host.capabilities);
    host.ca.extend(settings.ca.iter().cloned());
    host.client_certificates.extend(settings.client_certificates.iter().cloned());
    host.headers.extend(settings.headers.iter().cloned());
    host.skip_verify = settings.skip_verify.unwrap_or(host.skip_verify);
}

/// The root of the API where a registry's name says.
fn root_of(registry: &RegistryName) -> Result<Url, RegistriesError> {
    let authority = if registry.is_docker_hub() { "registry-1.docker.io" } else { registry.as_str() };
    Url::parse(&format!("https://{authority}/v2/"))
        .map_err(|_| RegistriesError::value("reference", "registry", authority, "the name of a host"))
}

/// The entries of a list in a variable.
fn listed(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.unwrap_or_default().split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty())
}
