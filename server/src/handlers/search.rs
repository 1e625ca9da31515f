//! `/v1/search`, which `docker search HOST/term` asks, and the `/v1/_ping` before it.
//!
//! Docker's first protocol lives on in this one question. Sources: moby, `daemon/pkg/registry/search*.go`; the fields
//! of paging are those that Docker Hub answers with.

use axum::response::Response;
use cove_oci::Action;
use http::{HeaderName, HeaderValue};
use serde_json::{Value, json as object};

use super::{Answer, json, page};
use crate::call::Call;
use crate::error::Error;
use crate::metadata::FoundRepository;
use crate::state::Server;

/// Results in one answer, unless the client names a number.
const PAGE: u32 = 25;
/// Most results in one answer; docker asks for no more.
const LONGEST_PAGE: u32 = 100;
/// Repositories that are looked at for a token with limits of its own.
const LOOKED_AT: u32 = 10_000;
/// Longest term that is looked for, in bytes.
const TERM_LIMIT: usize = 255;

const STANDALONE: HeaderName = HeaderName::from_static("x-docker-registry-standalone");

/// `GET /v1/_ping`: a registry that stands alone, so that docker sends a user's credentials to it and nowhere else.
pub async fn ping() -> Result<Response, Error> {
    let mut response = json("application/json", &object!({ "standalone": true }))?;
    response.headers_mut().insert(STANDALONE, HeaderValue::from_static("true"));
    Ok(response)
}

/// `GET /v1/search?q=TERM&n=RESULTS&page=NUMBER`: what the caller may see.
pub async fn search(server: &Server, call: &Call) -> Answer {
    let term = call.parameter("q").unwrap_or_default();
    let term = term.trim();
    let (size, _) = page(call, PAGE, LONGEST_PAGE)?;
    let size = if size == 0 { PAGE } else { size };
    let number = call.parameter("page").and_then(|text| text.parse::<u32>().ok()).unwrap_or(1).max(1);
    let skip = u64::from(number - 1) * u64::from(size);
    let (total, found) = match term.len() <= TERM_LIMIT {
        true => find(server, call, term, skip, size).await?,
        false => (0, Vec::new()), // no name is as long
    };
    let results: Vec<Value> = found.iter().map(shown).collect();
    json(
        "application/json",
        &object!({
            "query": term,
            "num_results": total,
            "num_pages": total.div_ceil(u64::from(size)),
            "page": number,
            "page_size": size,
            "results": results,
        }),
    )
}

async fn find(
    server: &Server,
    call: &Call,
    term: &str,
    skip: u64,
    size: u32,
) -> Result<(u64, Vec<FoundRepository>), Error> {
    let (viewer, ceiling) = (call.principal.viewer(), &call.principal.ceiling);
    if ceiling.is_unlimited() {
        return Ok(server.store.search(&viewer, term, skip, size).await?);
    }
    // A token with limits of its own hides some of what its account may see.
    let (_, mut found) = server.store.search(&viewer, term, 0, LOOKED_AT).await?;
    found.retain(|repository| ceiling.allows(&repository.name, Action::Pull));
    let total = found.len() as u64;
    let skip = usize::try_from(skip).unwrap_or(usize::MAX);
    Ok((total, found.into_iter().skip(skip).take(size as usize).collect()))
}

/// Names are whole, `library/` included: they are what a pull from this host needs.
fn shown(found: &FoundRepository) -> Value {
    object!({
        "name": found.name.as_str(),
        "description": found.description,
        "star_count": 0,
        "is_official": found.name.as_str().starts_with("library/"),
        "is_automated": false,
        "is_trusted": false,
        "pull_count": found.pulls,
    })
}
