//! Cove's own file, `cove.toml`. A key that is not known is an error: a misspelt setting must not be a silent one.
//!
//! ```toml
//! default-registry = "hub.example.com"
//!
//! [limits]
//! downloads = 6
//!
//! [registry."hub.example.com"]
//! mirrors = ["https://mirror.example.com"]
//! ca = "/etc/cove/hub-ca.pem"
//! realms = ["auth.example.com"]
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cove_oci::RegistryName;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::IgnoredAny;
use url::Url;

use super::error::{RegistriesError, text_of};
use super::host::{ClientCertificate, Limits};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Document {
    default_registry: Option<String>,
    #[serde(default)]
    insecure_registries: Vec<String>,
    #[serde(default)]
    limits: LimitsTable,
    #[serde(default)]
    registry: BTreeMap<String, RegistryTable>,
    /// For those who unpack layers.
    #[serde(rename = "unpack")]
    _unpack: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct LimitsTable {
    downloads: Option<std::num::NonZeroUsize>,
    uploads: Option<std::num::NonZeroUsize>,
    attempts: Option<std::num::NonZeroUsize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RegistryTable {
    mirrors: Option<Vec<String>>,
    insecure: Option<bool>,
    plain_http: Option<bool>,
    #[serde(default)]
    ca: OneOrMany,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
    #[serde(default)]
    realms: Vec<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    limits: LimitsTable,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(PathBuf),
    Many(Vec<PathBuf>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        OneOrMany::Many(Vec::new())
    }
}

/// What Cove's files say.
#[derive(Default)]
pub(super) struct CoveToml {
    pub(super) default_registry: Option<RegistryName>,
    pub(super) insecure: Vec<(String, PathBuf)>,
    pub(super) limits: Limits,
    pub(super) registries: BTreeMap<RegistryName, RegistrySettings>,
}

/// What they say of one registry.
#[derive(Default)]
pub(super) struct RegistrySettings {
    pub(super) mirrors: Option<Vec<Url>>,
    pub(super) insecure: Option<bool>,
    pub(super) plain_http: Option<bool>,
    pub(super) ca: Vec<PathBuf>,
    pub(super) client_certificate: Option<ClientCertificate>,
    pub(super) realms: Vec<RegistryName>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) limits: Limits,
}

impl CoveToml {
    /// Reads the files; of a setting that stands in several the last one's counts.
    pub(super) fn load(paths: &[PathBuf]) -> Result<Self, RegistriesError> {
        let mut all = CoveToml::default();
        for path in paths {
            if let Some(text) = text_of(path)? {
                all.add(&text, path)?;
            }
        }
        Ok(all)
    }

    fn add(&mut self, text: &str, path: &Path) -> Result<(), RegistriesError> {
        let document: Document = toml::from_str(text).map_err(|error| RegistriesError::toml(&error, text, path))?;
        if let Some(name) = &document.default_registry {
            self.default_registry = Some(registry(name, path, "default-registry")?);
        }
        self.insecure.extend(document.insecure_registries.into_iter().map(|entry| (entry, path.to_owned())));
        merge(&mut self.limits, &document.limits);
        for (name, table) in document.registry {
            let key = format!("registry.\"{name}\"");
            let settings = self.registries.entry(registry(&name, path, &key)?).or_default();
            settings.add(table, path, &key)?;
        }
        Ok(())
    }
}

/// Of a registry that has no table of its own.
pub(super) static NOTHING: RegistrySettings = RegistrySettings {
    mirrors: None,
    insecure: None,
    plain_http: None,
    ca: Vec::new(),
    client_certificate: None,
    realms: Vec::new(),
    headers: Vec::new(),
    limits: Limits { downloads: None, uploads: None, attempts: None },
};

impl RegistrySettings {
    fn add(&mut self, table: RegistryTable, path: &Path, key: &str) -> Result<(), RegistriesError> {
        if let Some(mirrors) = table.mirrors {
            let urls = mirrors.iter().map(|text| mirror(text, &path.display().to_string(), &format!("{key}.mirrors")));
            self.mirrors = Some(urls.collect::<Result<_, _>>()?);
        }
        self.insecure = table.insecure.or(self.insecure);
        self.plain_http = table.plain_http.or(self.plain_http);
        let folder = path.parent().unwrap_or(Path::new(""));
        let ca = match table.ca {
            OneOrMany::One(file) => vec![file],
            OneOrMany::Many(files) => files,
        };
        self.ca.extend(ca.iter().map(|file| folder.join(file)));
        match (table.client_certificate, table.client_key) {
            (Some(certificate), key) => {
                let key = key.map(|key| folder.join(key));
                self.client_certificate = Some(ClientCertificate { certificate: folder.join(certificate), key });
            }
            (None, Some(file)) => {
                let value = file.display().to_string();
                let expected = "of use without `client-certificate` beside it";
                return Err(RegistriesError::value(path.display(), format!("{key}.client-key"), &value, expected));
            }
            (None, None) => {}
        }
        for realm in &table.realms {
            self.realms.push(registry(realm, path, &format!("{key}.realms"))?);
        }
        for (name, value) in &table.headers {
            self.headers.push(header(name, value, path)?);
        }
        merge(&mut self.limits, &table.limits);
        Ok(())
    }
}

fn merge(limits: &mut Limits, table: &LimitsTable) {
    let or = |new: Option<std::num::NonZeroUsize>, old| new.map(std::num::NonZeroUsize::get).or(old);
    limits.downloads = or(table.downloads, limits.downloads);
    limits.uploads = or(table.uploads, limits.uploads);
    limits.attempts = or(table.attempts, limits.attempts);
}

fn registry(text: &str, path: &Path, key: &str) -> Result<RegistryName, RegistriesError> {
    text.parse().map_err(|_| RegistriesError::value(path.display(), key, text, "HOST or HOST:PORT"))
}

/// The root of a mirror's API. A mirror is written as an address (`https://host`, perhaps with a path) or as a host.
pub(super) fn mirror(text: &str, origin: &str, key: &str) -> Result<Url, RegistriesError> {
    let bad = || RegistriesError::value(origin, key, text, "the address of a mirror, as in https://HOST:PORT");
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url = Url::parse(&with_scheme).map_err(|_| bad())?;
    let good = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if !good {
        return Err(bad());
    }
    let path = url.path().trim_end_matches('/').trim_end_matches("/v2").to_owned();
    url.join(&format!("{path}/v2/")).map_err(|_| bad())
}

/// A header of a configuration. Its value may be a secret, so the error has only the name.
pub(super) fn header(name: &str, value: &str, path: &Path) -> Result<(HeaderName, HeaderValue), RegistriesError> {
    match (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
        (Ok(name), Ok(mut value)) => {
            value.set_sensitive(true);
            Ok((name, value))
        }
        _ => {
            Err(RegistriesError::value(path.display(), "header", name, "the name of a header with a value of one line"))
        }
    }
}
