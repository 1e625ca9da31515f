//! Reading and deleting blobs.

use std::io::ErrorKind;
use std::ops::Range;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use cove_oci::{Digest, RepositoryName, media_type};
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;

use super::{Answer, CONTENT_DIGEST, client_has, empty, entity_tag, set};
use crate::blobs::{BlobBody, BlobStoreError};
use crate::call::Call;
use crate::error::Error;
use crate::metadata::{StoredBlob, Unlinked};
use crate::state::{SMALL_BLOB, Server};

/// `GET`, `HEAD /v2/NAME/blobs/DIGEST`
pub async fn get(server: &Server, call: &Call, repository: &RepositoryName, digest: &Digest) -> Answer {
    let blob = server.blob(repository, digest).await?.ok_or_else(|| Error::BlobUnknown(digest.clone()))?;
    match answer(server, call, &blob, digest).await {
        // Deleted, and collected, since we looked.
        Err(Error::BlobStore(BlobStoreError::File(error)))
            if error.kind() == ErrorKind::NotFound && server.blob(repository, digest).await? != Some(blob) =>
        {
            Err(Error::BlobUnknown(digest.clone()))
        }
        answer => answer,
    }
}

async fn answer(server: &Server, call: &Call, blob: &StoredBlob, digest: &Digest) -> Answer {
    let mut response = if client_has(&call.parts.headers, digest) {
        empty(StatusCode::NOT_MODIFIED)
    } else if call.parts.method == Method::HEAD {
        let mut response = empty(StatusCode::OK);
        set(response.headers_mut(), header::CONTENT_LENGTH, blob.size.to_string());
        response
    } else {
        match requested_range(call, digest, blob.size)? {
            None => Response::new(Body::new(read(server, blob, 0..blob.size).await?)),
            Some(range) => {
                let mut response = Response::new(Body::new(read(server, blob, range.clone()).await?));
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                let text = format!("bytes {}-{}/{}", range.start, range.end - 1, blob.size);
                set(response.headers_mut(), header::CONTENT_RANGE, text);
                response
            }
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type::OCTET_STREAM));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    set(headers, CONTENT_DIGEST, digest.as_str());
    set(headers, header::ETAG, entity_tag(digest));
    Ok(response)
}

/// `DELETE /v2/NAME/blobs/DIGEST`
pub async fn delete(server: &Server, repository: &RepositoryName, digest: &Digest) -> Answer {
    match server.store.unlink_blob(repository, digest).await? {
        Unlinked::Done => {
            server.garbage.notify_one();
            Ok(empty(StatusCode::ACCEPTED))
        }
        Unlinked::Absent => Err(Error::BlobUnknown(digest.clone())),
        Unlinked::InUse(manifest) => Err(Error::BlobInUse { blob: digest.clone(), manifest }),
    }
}

/// The bytes, from memory where they are small: configs are asked for by every client.
async fn read(server: &Server, blob: &StoredBlob, range: Range<u64>) -> Result<BlobBody, Error> {
    if blob.size > SMALL_BLOB {
        return Ok(server.blobs.read(server.extents(blob).await?, range).await?);
    }
    let bytes = match server.small_blob(&blob.content) {
        Some(bytes) => bytes,
        None => {
            let body = server.blobs.read(server.extents(blob).await?, 0..blob.size).await?;
            let bytes: Bytes = body.collect().await.map_err(BlobStoreError::from)?.to_bytes();
            server.keep_small_blob(&blob.content, bytes.clone());
            bytes
        }
    };
    Ok(BlobBody::memory(bytes.slice(range.start as usize..range.end as usize)))
}

/// The range that the client wants (RFC 9110, section 14). `None`: all of it, also for what a server may ignore:
/// other units, several ranges, nonsense, and a condition that does not hold.
fn requested_range(call: &Call, digest: &Digest, size: u64) -> Result<Option<Range<u64>>, Error> {
    let Some(wanted) = call.header(header::RANGE).and_then(|value| value.trim().strip_prefix("bytes=")) else {
        return Ok(None);
    };
    if call.header(header::IF_RANGE).is_some_and(|tag| tag != entity_tag(digest)) {
        return Ok(None);
    }
    parse_range(wanted, size)
}

fn parse_range(wanted: &str, size: u64) -> Result<Option<Range<u64>>, Error> {
    let Some((first, last)) = wanted.trim().split_once('-') else { return Ok(None) };
    let number = |text: &str| match text {
        // More digits than fit lie behind the end of any blob.
        text if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(text.parse::<u64>().unwrap_or(u64::MAX))
        }
        _ => None,
    };
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) => first..last.saturating_add(1).min(size),
        (Some(first), None) if last.is_empty() => first..size,
        (None, Some(length)) if first.is_empty() => size.saturating_sub(length)..size,
        _ => return Ok(None),
    };
    if range.is_empty() { Err(Error::RangeNotSatisfiable(size)) } else { Ok(Some(range)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_a_range() {
        let parse = |text| parse_range(text, 10_000).ok().flatten();
        assert_eq!(parse("500-1499"), Some(500..1500));
        assert_eq!(parse("500-"), Some(500..10_000));
        assert_eq!(parse("-500"), Some(9_500..10_000));
        assert_eq!(parse("-20000"), Some(0..10_000));
        assert_eq!(parse("9000-99999999999999999999999"), Some(9_000..10_000));
        assert_eq!(parse("0-0"), Some(0..1));
        for ignored in ["", "a-b", "1-2,4-5", "1", "+1-2", "-"] {
            assert!(matches!(parse_range(ignored, 10_000), Ok(None)), "{ignored}");
        }
        for outside in ["500-0", "10000-", "10000-20000", "-0"] {
            assert!(matches!(parse_range(outside, 10_000), Err(Error::RangeNotSatisfiable(_))), "{outside}");
        }
        assert!(parse_range("0-", 0).is_err() && parse_range("-5", 0).is_err());
    }
}
