//! Searching a registry as docker does: `GET /v1/search?q=&n=`.

use cove_oci::RegistryName;
use http::Method;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::authorization::Scopes;
use crate::endpoint::Request;
use crate::{Access, Client, Error, ShownUrl};

/// Docker Hub's search lies on another host than its registry.
const DOCKER_HUB_INDEX: &str = "https://index.docker.io/";
/// Largest answer that is read.
const ANSWER_LIMIT: usize = 4 * 1024 * 1024;

/// A repository that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchResult {
    /// Its name.
    pub name: String,
    /// What its owner says of it.
    #[serde(default, deserialize_with = "or_default")]
    pub description: String,
    /// How many people like it.
    #[serde(default)]
    pub star_count: u64,
    /// Whether it is one of the registry's own.
    #[serde(default)]
    pub is_official: bool,
    /// Whether it is built automatically. Retired.
    #[serde(default)]
    pub is_automated: bool,
    /// How often it was pulled, where the registry tells.
    #[serde(default)]
    pub pull_count: Option<u64>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    results: Vec<SearchResult>,
}

fn or_default<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}

impl Client {
    /// Asks a registry for repositories that match a term: at most `limit`.
    pub async fn search(&self, registry: &RegistryName, term: &str, limit: u32) -> Result<Vec<SearchResult>, Error> {
        let mut host = self.origin(registry, Access::Pull).await?;
        // A registry that was configured to be elsewhere is searched there.
        if registry.is_docker_hub() && host.base.host_str() == Some("registry-1.docker.io") {
            host.base = Url::parse(DOCKER_HUB_INDEX).map_err(|error| Error::Setup(error.to_string()))?;
        }
        let endpoint = self.endpoint(registry, None, host).ready().await;
        let mut url = endpoint.host.base.clone();
        url.set_path("/v1/search");
        url.query_pairs_mut().append_pair("q", term).append_pair("n", &limit.to_string());
        // Registries answer a search without credentials, with what everybody may see; so whoever has some asks for the
        // challenge first, as docker does.
        if endpoint.credential().await?.is_some() {
            let base = Request::new(Method::GET, endpoint.host.base.clone(), &Scopes::default());
            endpoint.challenge(&base).await?;
        }
        let request = Request::new(Method::GET, url, &Scopes::search());
        let (_, body) = endpoint.fetch(&request, ANSWER_LIMIT).await?;
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|error| Error::Protocol { url: ShownUrl::from(&request.url), reason: error.to_string() })?;
        let mut results = answer.results;
        results.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(results)
    }
}
