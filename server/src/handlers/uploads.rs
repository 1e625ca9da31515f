//! Uploading blobs: begin, mount, append, ask, finish, cancel.

use std::sync::Arc;

use axum::response::Response;
use cove_oci::{Action, Algorithm, Digest, RepositoryName};
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{Answer, CONTENT_DIGEST, empty, set};
use crate::auth::rights::may;
use crate::body::RequestBody;
use crate::call::Call;
use crate::error::Error;
use crate::metadata::UploadRow;
use crate::state::Server;
use crate::upload::Receiver;

/// `Docker-Upload-UUID`: the upload's id.
const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// `POST /v2/NAME/blobs/uploads/`: mounts a blob, takes a whole one, or begins an upload.
pub async fn begin(server: &Arc<Server>, call: &Call, repository: &RepositoryName, body: &mut RequestBody) -> Answer {
    if let Some(digest) = call.parameter("mount") {
        let digest: Digest = digest.parse()?;
        if mount(server, call, repository, &digest).await? {
            return Ok(created(repository, &digest));
        }
    }
    let digest: Option<Digest> = call.parameter("digest").map(|digest| digest.parse()).transpose()?;
    let algorithm = match (&digest, call.parameter("digest-algorithm")) {
        (Some(digest), _) => digest.algorithm(),
        (None, Some(algorithm)) => algorithm.parse()?,
        (None, None) => Algorithm::default(),
    };
    let (server, repository, account_id) = (server.clone(), repository.clone(), call.principal.account_id());
    let Some(digest) = digest else {
        let upload = Receiver::begin(&server, repository, account_id, algorithm).await?;
        return Ok(accepted(&upload, StatusCode::ACCEPTED));
    };
    let mut body = body.take();
    server
        .clone()
        .carry_out(async move {
            let upload = Receiver::begin(&server, repository.clone(), account_id, algorithm).await?;
            let id = upload.id.clone();
            let stored = store(&server, upload, None, &digest, &mut body).await;
            if stored.is_err() {
                // The client was never told the upload's address, so nobody can go on with it.
                server.store.cancel_upload(&id).await?;
                server.garbage.notify_one();
            }
            read_off(stored, body).await.map(|()| created(&repository, &digest))
        })
        .await
}

/// Appends a body and makes the upload a blob.
async fn store(
    server: &Arc<Server>,
    upload: UploadRow,
    start: Option<u64>,
    digest: &Digest,
    body: &mut RequestBody,
) -> Result<(), Error> {
    let receiver = Receiver::take_over(server, upload, Some(digest.algorithm())).await?;
    check_start(receiver.upload(), start)?;
    receiver.finish(body, digest).await
}

/// Appends a body.
async fn extend(
    server: &Arc<Server>,
    upload: UploadRow,
    start: Option<u64>,
    body: &mut RequestBody,
) -> Result<UploadRow, Error> {
    let mut receiver = Receiver::take_over(server, upload, None).await?;
    check_start(receiver.upload(), start)?;
    receiver.receive(body).await?;
    Ok(receiver.upload().clone())
}

/// After a refusal, reads what the client is still sending, so that it sees the answer.
async fn read_off<T>(outcome: Result<T, Error>, mut body: RequestBody) -> Result<T, Error> {
    if outcome.is_err() {
        body.read_unwanted().await;
    }
    outcome
}

/// Links a blob that the caller may read somewhere. `false`: it must be uploaded; why is not told.
async fn mount(server: &Server, call: &Call, repository: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
    let from = call.parameter("from").and_then(|name| name.parse::<RepositoryName>().ok());
    let readable = match from {
        Some(source) => readable_in(server, call, &source, digest).await?,
        None => false,
    };
    let readable = readable || readable_in(server, call, repository, digest).await? || {
        // A credential with limits of its own must name the source: the search goes by the account's rights.
        let viewer = call.principal.viewer();
        call.principal.ceiling.is_unlimited() && server.store.readable_somewhere(&viewer, digest).await?.is_some()
    };
    Ok(readable && server.store.link_blob(repository, digest).await?)
}

async fn readable_in(server: &Server, call: &Call, source: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
    let facts = server.facts(&call.principal, source).await?;
    Ok(may(&call.principal, &facts, source, Action::Pull) && server.blob(source, digest).await?.is_some())
}

/// `GET /v2/NAME/blobs/uploads/ID`: how far it has come.
pub async fn status(server: &Server, call: &Call, repository: &RepositoryName, id: &str) -> Answer {
    let upload = find(server, call, repository, id).await?;
    Ok(accepted(&upload, StatusCode::NO_CONTENT))
}

/// `PATCH /v2/NAME/blobs/uploads/ID`: appends.
pub async fn append(
    server: &Arc<Server>,
    call: &Call,
    repository: &RepositoryName,
    id: &str,
    body: &mut RequestBody,
) -> Answer {
    let upload = find(server, call, repository, id).await?;
    let start = chunk_start(call)?;
    check_start(&upload, start)?;
    let (server, mut body) = (server.clone(), body.take());
    server
        .clone()
        .carry_out(async move {
            let extended = extend(&server, upload, start, &mut body).await;
            read_off(extended, body).await.map(|upload| accepted(&upload, StatusCode::ACCEPTED))
        })
        .await
}

/// `PUT /v2/NAME/blobs/uploads/ID?digest=…`: appends the last bytes, if there are any, and makes it a blob.
pub async fn finish(
    server: &Arc<Server>,
    call: &Call,
    repository: &RepositoryName,
    id: &str,
    body: &mut RequestBody,
) -> Answer {
    let digest = call.parameter("digest").ok_or_else(|| {
        Error::UploadInvalid("the parameter `digest` is missing: name the digest of the whole blob".to_owned())
    })?;
    let digest: Digest = digest.parse()?;
    let upload = find(server, call, repository, id).await?;
    let start = chunk_start(call)?;
    check_start(&upload, start)?;
    let (server, repository, mut body) = (server.clone(), repository.clone(), body.take());
    server
        .clone()
        .carry_out(async move {
            let stored = store(&server, upload, start, &digest, &mut body).await;
            read_off(stored, body).await.map(|()| created(&repository, &digest))
        })
        .await
}

/// `DELETE /v2/NAME/blobs/uploads/ID`: gives it up.
pub async fn cancel(server: &Server, call: &Call, repository: &RepositoryName, id: &str) -> Answer {
    let upload = find(server, call, repository, id).await?;
    server.store.cancel_upload(&upload.id).await?;
    server.garbage.notify_one();
    Ok(empty(StatusCode::NO_CONTENT))
}

/// The upload, if it was begun in this repository by the caller.
async fn find(server: &Server, call: &Call, repository: &RepositoryName, id: &str) -> Result<UploadRow, Error> {
    if !is_upload_id(id) {
        return Err(Error::UploadUnknown);
    }
    let upload = server.store.upload(id).await?;
    let own = |upload: &UploadRow| {
        upload.repository == *repository
            && (call.principal.unrestricted || upload.account_id == call.principal.account_id())
    };
    upload.filter(own).ok_or(Error::UploadUnknown)
}

/// Ids are made by `auth::random_hex`; what looks different was never one.
fn is_upload_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Where a chunk says that it begins: `Content-Range: FIRST-LAST`, whose length must agree with the body's.
fn chunk_start(call: &Call) -> Result<Option<u64>, Error> {
    let Some(text) = call.header(header::CONTENT_RANGE) else { return Ok(None) };
    let wrong = || Error::UploadInvalid(format!("Content-Range `{text}` is not FIRST-LAST, two byte offsets"));
    let range = text.strip_prefix("bytes").map_or(text, |rest| rest.trim_start_matches([' ', '=']));
    let range = range.split_once('/').map_or(range, |(range, _)| range);
    let (first, last) = range.split_once('-').ok_or_else(wrong)?;
    let first: u64 = first.trim().parse().map_err(|_| wrong())?;
    let last: u64 = last.trim().parse().map_err(|_| wrong())?;
    let Some(declared) = call.content_length() else { return Ok(Some(first)) };
    // An empty chunk cannot be written as a range; clients send 0-0 for it.
    let length = last.checked_sub(first).and_then(|length| length.checked_add(1)).ok_or_else(wrong)?;
    if length != declared && !(declared == 0 && length == 1) {
        let problem = format!("Content-Range names {length} bytes but Content-Length is {declared}");
        return Err(Error::SizeInvalid(problem));
    }
    Ok(Some(first))
}

fn check_start(upload: &UploadRow, start: Option<u64>) -> Result<(), Error> {
    match start {
        Some(start) if start != upload.size => {
            Err(Error::UploadRange { location: location(upload), size: upload.size })
        }
        _ => Ok(()),
    }
}

fn location(upload: &UploadRow) -> String {
    format!("/v2/{}/blobs/uploads/{}", upload.repository, upload.id)
}

fn accepted(upload: &UploadRow, status: StatusCode) -> Response {
    let mut response = empty(status);
    let headers = response.headers_mut();
    set(headers, header::LOCATION, location(upload));
    set(headers, UPLOAD_UUID, &upload.id);
    // Inclusive; docker reads it with "%d-%d", so an empty upload is 0-0 too.
    set(headers, header::RANGE, format!("0-{}", upload.size.saturating_sub(1)));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    if status == StatusCode::NO_CONTENT {
        headers.remove(header::CONTENT_LENGTH); // RFC 9110, section 8.6: none with 204
    }
    response
}

fn created(repository: &RepositoryName, digest: &Digest) -> Response {
    let mut response = empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    set(headers, header::LOCATION, format!("/v2/{repository}/blobs/{digest}"));
    set(headers, CONTENT_DIGEST, digest.as_str());
    response
}
