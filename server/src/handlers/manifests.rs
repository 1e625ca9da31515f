//! Manifests and referrers.

use axum::body::Body;
use axum::response::Response;
use bytes::BytesMut;
use cove_oci::{Algorithm, Digest, Manifest, ManifestError, ManifestReference, RepositoryName, Tag, media_type};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::value::RawValue;

use super::{Answer, CONTENT_DIGEST, client_has, empty, entity_tag, json, set};
use crate::body::RequestBody;
use crate::call::Call;
use crate::error::Error;
use crate::metadata::{ManifestPut, PutOutcome, ReferrerRow};
use crate::state::Server;

/// `OCI-Subject`: the subject was understood.
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// `OCI-Tag`: a tag that was set.
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
/// `OCI-Filters-Applied`: the list of referrers was filtered.
const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// Tags in one request; the specification asks for ten at least.
const TAG_LIMIT: usize = 100;
/// Referrers in one answer; `Link` leads to the others.
const REFERRERS_PAGE: u32 = 500;
/// Bytes of a manifest beyond the limit that are read and thrown away, so that the client gets to see the answer.
const EXCESS_READ: usize = 16 * 1024 * 1024;

/// `GET`, `HEAD /v2/NAME/manifests/REFERENCE`
pub async fn get(server: &Server, call: &Call, repository: &RepositoryName, reference: &ManifestReference) -> Answer {
    let found = server.manifest(repository, reference).await?;
    let manifest =
        found.ok_or_else(|| Error::ManifestUnknown { repository: repository.clone(), reference: reference.clone() })?;
    let mut response = if client_has(&call.parts.headers, &manifest.digest) {
        empty(StatusCode::NOT_MODIFIED)
    } else if call.parts.method == Method::HEAD {
        let mut response = empty(StatusCode::OK);
        set(response.headers_mut(), header::CONTENT_LENGTH, manifest.bytes.len().to_string());
        response
    } else {
        // An index is on the way to an image: the image itself comes next, and is what counts.
        if !matches!(manifest.media_type.as_str(), media_type::OCI_INDEX | media_type::DOCKER_LIST) {
            server.pulls.add(repository, 1);
        }
        Response::new(Body::from(manifest.bytes.clone()))
    };
    let headers = response.headers_mut();
    set(headers, header::CONTENT_TYPE, &manifest.media_type);
    set(headers, CONTENT_DIGEST, manifest.digest.as_str());
    set(headers, header::ETAG, entity_tag(&manifest.digest));
    Ok(response)
}

/// `PUT /v2/NAME/manifests/REFERENCE[?tag=…&tag=…]`
pub async fn put(
    server: &Server,
    call: &Call,
    repository: &RepositoryName,
    reference: &ManifestReference,
    body: &mut RequestBody,
) -> Answer {
    let tags = tags_to_set(call, reference)?;
    let bytes = read_manifest(call, body).await?;
    let manifest = Manifest::parse(bytes, call.header(header::CONTENT_TYPE))?;
    let digest = match reference {
        ManifestReference::Tag(_) => manifest.digest(Algorithm::Sha256),
        ManifestReference::Digest(claimed) => {
            let computed = manifest.digest(claimed.algorithm());
            if computed != *claimed {
                return Err(Error::DigestMismatch { claimed: claimed.clone(), computed });
            }
            computed
        }
    };
    server.blobs.check_room()?;
    let sparse = server.behaviour.sparse_images;
    let put = ManifestPut { repository, digest: &digest, manifest: &manifest, tags: &tags, sparse };
    let missing = match server.store.put_manifest(&put).await? {
        PutOutcome::MissingBlobs(missing) => return Err(Error::MissingBlobs(missing)),
        PutOutcome::Stored(missing) => missing,
    };
    let mut response = empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    set(headers, header::LOCATION, format!("/v2/{repository}/manifests/{digest}"));
    set(headers, CONTENT_DIGEST, digest.as_str());
    if let Some(subject) = manifest.subject() {
        set(headers, OCI_SUBJECT, subject.digest.as_str());
    }
    for tag in &tags {
        if let Ok(value) = HeaderValue::from_str(tag.as_str()) {
            headers.append(OCI_TAG, value);
        }
    }
    if !missing.is_empty() {
        let text = format!("299 - \"stored without {} blobs that are not in the repository\"", missing.len());
        set(headers, header::WARNING, text);
    }
    Ok(response)
}

/// The tag in the path, and those in parameters.
fn tags_to_set(call: &Call, reference: &ManifestReference) -> Result<Vec<Tag>, Error> {
    let mut tags: Vec<Tag> = Vec::new();
    if let ManifestReference::Tag(tag) = reference {
        tags.push(tag.clone());
    }
    for text in call.parameters("tag") {
        let tag: Tag = text.parse()?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
        if tags.len() > TAG_LIMIT {
            return Err(Error::TooManyTags(TAG_LIMIT));
        }
    }
    // Always in the same order, so that two pushes of several tags wait for each other and not in a circle.
    tags.sort();
    Ok(tags)
}

async fn read_manifest(call: &Call, body: &mut RequestBody) -> Result<Vec<u8>, Error> {
    let declared = call.content_length().unwrap_or(0);
    let too_large = declared > Manifest::SIZE_LIMIT as u64;
    let mut bytes = BytesMut::with_capacity(if too_large { 0 } else { declared as usize });
    let mut excess = 0;
    while let Some(piece) = body.next().await? {
        if !too_large && bytes.len() + piece.len() <= Manifest::SIZE_LIMIT {
            bytes.extend_from_slice(&piece);
            continue;
        }
        excess += piece.len();
        if excess > EXCESS_READ {
            break;
        }
    }
    if too_large || excess > 0 {
        return Err(ManifestError::TooLarge.into());
    }
    Ok(bytes.into())
}

/// `DELETE /v2/NAME/manifests/REFERENCE`
pub async fn delete(server: &Server, repository: &RepositoryName, reference: &ManifestReference) -> Answer {
    if !server.store.delete_manifest(repository, reference).await? {
        return Err(Error::ManifestUnknown { repository: repository.clone(), reference: reference.clone() });
    }
    Ok(empty(StatusCode::ACCEPTED))
}

/// An index as the list of referrers is one.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct ReferrersIndex {
    schema_version: u8,
    media_type: &'static str,
    manifests: Vec<ReferrerDescriptor>,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct ReferrerDescriptor {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Box<RawValue>>,
}

impl From<ReferrerRow> for ReferrerDescriptor {
    fn from(row: ReferrerRow) -> Self {
        ReferrerDescriptor {
            media_type: row.media_type,
            digest: row.digest,
            size: row.size,
            artifact_type: row.artifact_type,
            annotations: row.annotations.and_then(|annotations| RawValue::from_string(annotations).ok()),
        }
    }
}

/// `GET /v2/NAME/referrers/DIGEST[?artifactType=…]`. `visible`: the caller may see the repository; others get
/// the empty list, like everybody for a repository that does not exist.
pub async fn referrers(
    server: &Server,
    call: &Call,
    repository: &RepositoryName,
    digest: &Digest,
    visible: bool,
) -> Answer {
    let artifact_type = call.parameter("artifactType").filter(|wanted| !wanted.is_empty());
    let last = call.parameter("last");
    let mut rows = match visible {
        true => {
            let (wanted, last) = (artifact_type.as_deref(), last.as_deref());
            server.store.referrers(repository, digest, wanted, last, REFERRERS_PAGE + 1).await?
        }
        false => Vec::new(),
    };
    let more = rows.len() > REFERRERS_PAGE as usize;
    rows.truncate(REFERRERS_PAGE as usize);
    let next = rows.last().filter(|_| more).map(|last| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(artifact_type.iter().map(|wanted| ("artifactType", wanted.as_str())));
        let query = query.append_pair("last", last.digest.as_str()).finish();
        format!("</v2/{repository}/referrers/{digest}?{query}>; rel=\"next\"")
    });
    let manifests = rows.into_iter().map(ReferrerDescriptor::from).collect();
    let index = ReferrersIndex { schema_version: 2, media_type: media_type::OCI_INDEX, manifests };
    let mut response = json(media_type::OCI_INDEX, &index)?;
    if let Some(next) = next {
        set(response.headers_mut(), header::LINK, next);
    }
    if artifact_type.is_some() {
        set(response.headers_mut(), OCI_FILTERS_APPLIED, "artifactType");
    }
    Ok(response)
}
