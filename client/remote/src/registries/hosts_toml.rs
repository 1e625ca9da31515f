//! containerd's `hosts.toml`, which docker ≥ 29 reads too: where a registry's content is, in order.
//!
//! Source: containerd, docs/hosts.md. One difference: a `[host]` is pushed to only if its `capabilities` name `push`.
//! containerd takes all capabilities where none are written, and so pushes to what was meant as a mirror.

use std::path::{Path, PathBuf};

use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use toml::Spanned;
use url::Url;

use super::cove_toml::header;
use super::error::{RegistriesError, text_of};
use super::host::{Capabilities, ClientCertificate};

/// What the file says: the registry itself, and the hosts before it.
pub(super) struct HostsToml {
    /// `None` where the file does not name a server: the registry is where its name says.
    pub(super) server: Option<Url>,
    pub(super) server_settings: HostSettings,
    pub(super) hosts: Vec<(Url, HostSettings)>,
}

/// How one of them is spoken to.
pub(super) struct HostSettings {
    pub(super) capabilities: Option<Capabilities>,
    pub(super) ca: Vec<PathBuf>,
    pub(super) client_certificates: Vec<ClientCertificate>,
    pub(super) skip_verify: Option<bool>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Deserialize)]
struct Document {
    server: Option<String>,
    #[serde(flatten)]
    settings: Settings,
    #[serde(default)]
    host: toml::Table,
}

#[derive(Default, Deserialize)]
struct Settings {
    capabilities: Option<Vec<String>>,
    #[serde(default)]
    ca: Strings,
    #[serde(default)]
    client: Clients,
    skip_verify: Option<bool>,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: std::collections::BTreeMap<String, Strings>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Strings {
    One(String),
    Many(Vec<String>),
}

impl Default for Strings {
    fn default() -> Self {
        Strings::Many(Vec::new())
    }
}

impl Strings {
    fn into_vec(self) -> Vec<String> {
        match self {
            Strings::One(text) => vec![text],
            Strings::Many(texts) => texts,
        }
    }
}

/// A file with certificate and key, several such, or pairs of certificate and key.
#[derive(Deserialize)]
#[serde(untagged)]
enum Clients {
    Together(Strings),
    Pairs(Vec<Strings>),
}

impl Default for Clients {
    fn default() -> Self {
        Clients::Together(Strings::default())
    }
}

/// The order of the hosts is the order in which they are asked. TOML's tables have none, so the places of the keys in
/// the file are read first.
#[derive(Default, Deserialize)]
struct Places {
    #[serde(default)]
    host: std::collections::BTreeMap<Spanned<String>, toml::Value>,
}

impl HostsToml {
    /// Reads the file; `None` where there is none.
    pub(super) fn load(path: &Path) -> Result<Option<Self>, RegistriesError> {
        let Some(text) = text_of(path)? else { return Ok(None) };
        let toml_error = |error: toml::de::Error| RegistriesError::toml(&error, &text, path);
        let mut document: Document = toml::from_str(&text).map_err(toml_error)?;
        let places: Places = toml::from_str(&text).map_err(toml_error)?;
        let mut places: Vec<Spanned<String>> = places.host.into_keys().collect();
        places.sort_by_key(|key| key.span().start);
        let mut hosts = Vec::new();
        for key in places {
            let name = key.into_inner();
            let Some(table) = document.host.remove(&name) else { continue };
            let settings: Settings = table.try_into().map_err(|error: toml::de::Error| RegistriesError::Syntax {
                path: path.to_owned(),
                line: 1 + text.split(name.as_str()).next().unwrap_or_default().matches('\n').count(),
                reason: error.message().to_owned(),
            })?;
            let url = address(&name, settings.override_path, path)?;
            hosts.push((url, settings.checked(path)?));
        }
        let server = match document.server.as_deref().filter(|server| !server.is_empty()) {
            Some(server) => Some(address(server, document.settings.override_path, path)?),
            None => None,
        };
        Ok(Some(HostsToml { server, server_settings: document.settings.checked(path)?, hosts }))
    }
}

impl Settings {
    fn checked(self, path: &Path) -> Result<HostSettings, RegistriesError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let capabilities = match self.capabilities {
            Some(names) => Some(capabilities(&names, path)?),
            None => None,
        };
        let pairs: Vec<Vec<String>> = match self.client {
            Clients::Together(files) => files.into_vec().into_iter().map(|file| vec![file]).collect(),
            Clients::Pairs(pairs) => pairs.into_iter().map(Strings::into_vec).collect(),
        };
        let mut client_certificates = Vec::new();
        for pair in pairs {
            let mut files = pair.iter().filter(|file| !file.is_empty()).map(|file| folder.join(file));
            match (files.next(), files.next(), files.next()) {
                (Some(certificate), key, None) => client_certificates.push(ClientCertificate { certificate, key }),
                _ => {
                    let expected = "one file, or a pair of certificate and key";
                    return Err(RegistriesError::value(path.display(), "client", &pair.join(", "), expected));
                }
            }
        }
        let mut headers = Vec::new();
        for (name, values) in self.header {
            for value in values.into_vec() {
                headers.push(header(&name, &value, path)?);
            }
        }
        Ok(HostSettings {
            capabilities,
            ca: self.ca.into_vec().iter().map(|file| folder.join(file)).collect(),
            client_certificates,
            skip_verify: self.skip_verify,
            headers,
        })
    }
}

fn capabilities(names: &[String], path: &Path) -> Result<Capabilities, RegistriesError> {
    let mut all = Capabilities { pull: false, resolve: false, push: false, tags_only: false };
    for name in names {
        match name.to_ascii_lowercase().as_str() {
            "pull" => all.pull = true,
            "resolve" => all.resolve = true,
            "push" => all.push = true,
            // Referrers are asked for where manifests are.
            "referrers" => {}
            _ => {
                return Err(RegistriesError::value(
                    path.display(),
                    "capabilities",
                    name,
                    "`pull`, `resolve` or `push`",
                ));
            }
        }
    }
    Ok(all)
}

/// The root of the API at an address: `/v2` is added to its path, unless the path is said to be the whole of it.
fn address(text: &str, override_path: bool, path: &Path) -> Result<Url, RegistriesError> {
    let bad = || RegistriesError::value(path.display(), "host", text, "the address of a host, as in https://HOST:PORT");
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url = Url::parse(&with_scheme).map_err(|_| bad())?;
    // Credentials do not belong here, and would go to everybody who reads the configuration.
    let has_userinfo = !url.username().is_empty() || url.password().is_some();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || url.query().is_some() || has_userinfo {
        return Err(bad());
    }
    let given = url.path().trim_end_matches('/');
    let root = match override_path || given.ends_with("/v2") {
        true => format!("{given}/"),
        false => format!("{given}/v2/"),
    };
    url.join(&root).map_err(|_| bad())
}
