//! docker's `daemon.json`: mirrors of Docker Hub, insecure registries, limits, proxies. What else stands there is the daemon's.

use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use super::cove_toml::mirror;
use super::error::{RegistriesError, text_of};
use super::host::Limits;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    registry_mirrors: Option<Vec<String>>,
    insecure_registries: Option<Vec<String>>,
    max_concurrent_downloads: Option<usize>,
    max_concurrent_uploads: Option<usize>,
    max_download_attempts: Option<usize>,
    proxies: Option<ProxySettings>,
}

/// The proxies by which the daemon reaches registries, as in the variables of these names.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct ProxySettings {
    pub(crate) http_proxy: String,
    pub(crate) https_proxy: String,
    pub(crate) no_proxy: String,
}

/// What the files say; of a setting that stands in several the first one's counts.
#[derive(Default)]
pub(super) struct DaemonJson {
    pub(super) mirrors: Vec<Url>,
    pub(super) insecure: Vec<(String, PathBuf)>,
    pub(super) limits: Limits,
    pub(super) proxies: ProxySettings,
}

impl DaemonJson {
    pub(super) fn load(paths: &[PathBuf]) -> Result<Self, RegistriesError> {
        let mut all = DaemonJson::default();
        let (mut mirrors, mut insecure, mut proxies) = (None, None, None);
        for path in paths {
            let Some(text) = text_of(path)?.filter(|text| !text.trim().is_empty()) else { continue };
            let document: Document = serde_json::from_str(&text).map_err(|error| RegistriesError::Syntax {
                path: path.clone(),
                line: error.line(),
                reason: error.to_string(),
            })?;
            if let (None, Some(list)) = (&mirrors, document.registry_mirrors) {
                let origin = path.display().to_string();
                let urls = list.iter().map(|text| mirror(text, &origin, "registry-mirrors"));
                mirrors = Some(urls.collect::<Result<Vec<_>, _>>()?);
            }
            if let (None, Some(list)) = (&insecure, document.insecure_registries) {
                insecure = Some(list.into_iter().map(|entry| (entry, path.clone())).collect());
            }
            proxies = proxies.or(document.proxies);
            // Docker takes 0 for its default.
            let set = |number: Option<usize>| number.filter(|number| *number > 0);
            all.limits.downloads = all.limits.downloads.or(set(document.max_concurrent_downloads));
            all.limits.uploads = all.limits.uploads.or(set(document.max_concurrent_uploads));
            all.limits.attempts = all.limits.attempts.or(set(document.max_download_attempts));
        }
        all.mirrors = mirrors.unwrap_or_default();
        all.insecure = insecure.unwrap_or_default();
        all.proxies = proxies.unwrap_or_default();
        Ok(all)
    }
}
