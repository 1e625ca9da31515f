//! The handlers, one file for each thing of the protocol, and the small parts that their answers share.

pub mod blobs;
pub mod manifests;
pub mod search;
pub mod status;
pub mod tags;
pub mod token;
pub mod uploads;

use axum::body::Body;
use axum::response::Response;
use cove_oci::Digest;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::error::Error;

/// `Docker-Content-Digest`: the digest of what is named.
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Result of a handler.
pub type Answer = Result<Response, Error>;

/// An answer without a body.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// An answer that is JSON.
pub fn json(media_type: &'static str, value: &impl serde::Serialize) -> Answer {
    let body = serde_json::to_vec(value).map_err(|_| Error::Broken)?;
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    Ok(response)
}

/// Sets a header whose value was made of checked parts.
pub fn set(headers: &mut HeaderMap, name: impl Into<HeaderName>, value: impl AsRef<str>) {
    if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
        headers.insert(name.into(), value);
    }
}

/// The entity tag of content with a digest.
pub fn entity_tag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// Whether `If-None-Match` says that the client has it (RFC 9110, section 13.1.2).
pub fn client_has(headers: &HeaderMap, digest: &Digest) -> bool {
    let tags = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    tags.flat_map(|list| list.split(',')).any(|tag| {
        let tag = tag.trim();
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        tag == "*" || tag.trim_matches('"') == digest.as_str()
    })
}

/// Reads the parameters `n` and `last` of a list. `n` is capped: whoever wants more follows `Link`.
pub fn page(call: &crate::call::Call, default: u32, cap: u32) -> Result<(u32, Option<String>), Error> {
    let limit = match call.parameter("n") {
        None => default,
        Some(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse::<u32>().unwrap_or(u32::MAX).min(cap) // more digits than fit mean more than the cap
        }
        Some(_) => return Err(Error::PageSize),
    };
    Ok((limit, call.parameter("last").filter(|last| !last.is_empty())))
}

/// Cuts a list that was read one entry too long, and says where it goes on.
pub fn cut_page<T: AsRef<str>>(entries: &mut Vec<T>, limit: u32, path: &str) -> Option<String> {
    let limit = limit as usize;
    if entries.len() <= limit {
        return None;
    }
    entries.truncate(limit);
    let last: String = url::form_urlencoded::byte_serialize(entries.last()?.as_ref().as_bytes()).collect();
    Some(format!("<{path}?n={limit}&last={last}>; rel=\"next\""))
}
