//! Lists: tags of a repository, repositories of the registry.

use cove_oci::{Action, RepositoryName};
use http::header;
use serde_json::json as object;

use super::{Answer, cut_page, json, page, set};
use crate::call::Call;
use crate::error::Error;
use crate::state::Server;

/// Most entries in one answer.
const LONGEST_PAGE: u32 = 10_000;
/// Repositories in one answer where the client names no number.
const CATALOG_PAGE: u32 = 1000;

/// `GET /v2/NAME/tags/list`
pub async fn list(server: &Server, call: &Call, repository: &RepositoryName) -> Answer {
    let (limit, last) = page(call, LONGEST_PAGE, LONGEST_PAGE)?;
    let tags = server.store.tags(repository, last.as_deref(), limit.saturating_add(1)).await?;
    let mut tags = tags.ok_or_else(|| Error::NameUnknown(repository.clone()))?;
    let next = cut_page(&mut tags, limit, &format!("/v2/{repository}/tags/list"));
    let mut response = json("application/json", &object!({ "name": repository.as_str(), "tags": tags }))?;
    if let Some(next) = next.filter(|_| limit > 0) {
        set(response.headers_mut(), header::LINK, next);
    }
    Ok(response)
}

/// `GET /v2/_catalog`: what the caller may see.
pub async fn catalog(server: &Server, call: &Call) -> Answer {
    let (limit, mut last) = page(call, CATALOG_PAGE, LONGEST_PAGE)?;
    let viewer = call.principal.viewer();
    let wanted = limit as usize + 1;
    let read_at_once = limit.saturating_add(1).max(CATALOG_PAGE);
    let mut names: Vec<String> = Vec::new();
    // A token with limits of its own hides some of what its account may see: read on until the page is full.
    loop {
        let found = server.store.catalog(&viewer, last.as_deref(), read_at_once).await?;
        let exhausted = found.len() < read_at_once as usize;
        last = found.last().map(|name| name.to_string());
        let shown = found.iter().filter(|name| call.principal.ceiling.allows(name, Action::Pull));
        names.extend(shown.map(|name| name.to_string()));
        if exhausted || names.len() >= wanted {
            break;
        }
    }
    let next = cut_page(&mut names, limit, "/v2/_catalog");
    let mut response = json("application/json", &object!({ "repositories": names }))?;
    if let Some(next) = next.filter(|_| limit > 0) {
        set(response.headers_mut(), header::LINK, next);
    }
    Ok(response)
}
