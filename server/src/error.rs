//! Everything that can go wrong with a request, and what the client is told.
//!
//! Code and status of each variant stand side by side in [`Error::answer`]. Internal text goes to the log with
//! the request's id, never to a client.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use cove_oci::{
    Digest, DigestError, ErrorCode, ManifestError, ManifestReference, NameError, RepositoryName, ScopeError,
};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::auth::{KeyError, LoginError, TooManyLogins};
use crate::blobs::BlobStoreError;
use crate::metadata::MetadataError;

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No or not enough authentication; the challenge says what is needed.
    #[error("{message}")]
    Unauthorized {
        /// What a person should do.
        message: String,
        /// Value of `WWW-Authenticate`.
        challenge: String,
    },
    /// Authenticated, and not allowed.
    #[error("{0}")]
    Denied(String),
    /// A name in the path.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A digest in the path or a parameter.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A scope parameter.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// The bytes are others than the digest says.
    #[error(
        "the content has digest {computed}, not {claimed}: it was damaged on the way or the digest is wrong; send it again"
    )]
    DigestMismatch {
        /// What the client said.
        claimed: Digest,
        /// What arrived.
        computed: Digest,
    },
    /// No such repository, for this caller.
    #[error("repository `{0}` is not known: check the name, or log in if it is private")]
    NameUnknown(RepositoryName),
    /// No such blob in the repository, for this caller.
    #[error("blob {0} is not known in this repository")]
    BlobUnknown(Digest),
    /// A blob that a manifest needs.
    #[error("blob {blob} is part of manifest {manifest}: delete the manifest first")]
    BlobInUse {
        /// The blob.
        blob: Digest,
        /// The manifest.
        manifest: String,
    },
    /// No such upload, for this caller.
    #[error("the upload is not known: it has ended, expired or belongs to somebody else; start a new one")]
    UploadUnknown,
    /// A newer request writes to the upload.
    #[error("another request has taken over the upload: ask for its state and go on from there")]
    UploadTaken,
    /// A chunk that does not begin where the upload ends.
    #[error("the upload goes on at byte {size}: ask for its state and send the bytes from there")]
    UploadRange {
        /// Where the client can go on.
        location: String,
        /// Bytes that have arrived.
        size: u64,
    },
    /// A header or parameter of an upload that cannot be understood.
    #[error("{0}")]
    UploadInvalid(String),
    /// The body has another length than was declared.
    #[error("{0}")]
    SizeInvalid(String),
    /// The body broke off, or came to a halt.
    #[error(
        "the request body ended early or came too slowly: what arrived is kept, ask for the upload's state and go on"
    )]
    BodyBroken,
    /// A range outside the blob.
    #[error("the range lies outside the blob, which has {0} bytes")]
    RangeNotSatisfiable(u64),
    /// No such manifest, for this caller.
    #[error("manifest `{reference}` is not known in repository `{repository}`")]
    ManifestUnknown {
        /// Where it was looked for.
        repository: RepositoryName,
        /// By what.
        reference: ManifestReference,
    },
    /// A manifest that cannot be stored.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A manifest whose blobs are not here.
    #[error("the manifest refers to blobs that are not in the repository: push them first")]
    MissingBlobs(Vec<Digest>),
    /// A page size that is no number.
    #[error("`n` must be a whole number: it says how many entries to list")]
    PageSize,
    /// Too many tags in one request.
    #[error("at most {0} tags can be set in one request: send the others in further requests")]
    TooManyTags(usize),
    /// A path that is none of this API's.
    #[error("there is nothing at this path: a registry's paths begin with /v2/")]
    NotFound,
    /// A method that the path does not have.
    #[error("this path takes {0} only")]
    Method(&'static str),
    /// A parameter or field of the token service.
    #[error("{0}")]
    TokenRequest(String),
    /// Too many logins at once.
    #[error(transparent)]
    TooManyLogins(#[from] TooManyLogins),
    /// The database.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The blob store.
    #[error(transparent)]
    BlobStore(#[from] BlobStoreError),
    /// Keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// A bug: a handler panicked or was cancelled.
    #[error("the request could not be carried out")]
    Broken,
}

impl Error {
    /// The code and the status that a client gets.
    fn answer(&self) -> (ErrorCode, StatusCode) {
        use {ErrorCode as Code, StatusCode as Status};
        match self {
            Error::Unauthorized { .. } => (Code::Unauthorized, Status::UNAUTHORIZED),
            Error::Denied(_) => (Code::Denied, Status::FORBIDDEN),
            Error::Name(NameError::Tag(_)) => (Code::TagInvalid, Status::BAD_REQUEST),
            Error::Name(NameError::Digest(_)) | Error::Digest(_) => (Code::DigestInvalid, Status::BAD_REQUEST),
            Error::Name(NameError::Repository(_) | NameError::RepositoryTooLong(_)) => {
                (Code::NameInvalid, Status::BAD_REQUEST)
            }
            Error::Scope(_) | Error::TokenRequest(_) => (Code::Unsupported, Status::BAD_REQUEST),
            Error::DigestMismatch { .. } => (Code::DigestInvalid, Status::BAD_REQUEST),
            Error::NameUnknown(_) => (Code::NameUnknown, Status::NOT_FOUND),
            Error::BlobUnknown(_) => (Code::BlobUnknown, Status::NOT_FOUND),
            Error::BlobInUse { .. } => (Code::Unsupported, Status::METHOD_NOT_ALLOWED),
            Error::UploadUnknown => (Code::BlobUploadUnknown, Status::NOT_FOUND),
            Error::UploadTaken => (Code::BlobUploadInvalid, Status::CONFLICT),
            Error::UploadRange { .. } => (Code::RangeInvalid, Status::RANGE_NOT_SATISFIABLE),
            Error::UploadInvalid(_) | Error::BodyBroken => (Code::BlobUploadInvalid, Status::BAD_REQUEST),
            Error::SizeInvalid(_) => (Code::SizeInvalid, Status::BAD_REQUEST),
            Error::RangeNotSatisfiable(_) => (Code::RangeInvalid, Status::RANGE_NOT_SATISFIABLE),
            Error::ManifestUnknown { .. } => (Code::ManifestUnknown, Status::NOT_FOUND),
            Error::Manifest(ManifestError::TooLarge) => (Code::SizeInvalid, Status::PAYLOAD_TOO_LARGE),
            Error::Manifest(_) => (Code::ManifestInvalid, Status::BAD_REQUEST),
            Error::MissingBlobs(_) => (Code::ManifestBlobUnknown, Status::NOT_FOUND),
            Error::PageSize => (Code::PaginationNumberInvalid, Status::BAD_REQUEST),
            Error::TooManyTags(_) => (Code::Unsupported, Status::URI_TOO_LONG),
            Error::TooManyLogins(_) => (Code::TooManyRequests, Status::TOO_MANY_REQUESTS),
            Error::NotFound => (Code::Unsupported, Status::NOT_FOUND),
            Error::Method(_) => (Code::Unsupported, Status::METHOD_NOT_ALLOWED),
            Error::BlobStore(error) if error.is_full() => (Code::Unavailable, Status::INSUFFICIENT_STORAGE),
            Error::Metadata(error) if error.is_full() => (Code::Unavailable, Status::INSUFFICIENT_STORAGE),
            Error::Metadata(MetadataError::StaleWriter) => (Code::BlobUploadInvalid, Status::CONFLICT),
            Error::Metadata(MetadataError::Busy) => (Code::Unavailable, Status::SERVICE_UNAVAILABLE),
            Error::Metadata(_) | Error::BlobStore(_) | Error::Keys(_) | Error::Broken => {
                (Code::Unknown, Status::INTERNAL_SERVER_ERROR)
            }
        }
    }

    /// What the client reads. Internal errors say where to look, not what they are.
    fn message(&self, code: ErrorCode, status: StatusCode) -> String {
        match (status, code) {
            (StatusCode::INSUFFICIENT_STORAGE, _) => {
                "the registry has no room left: ask its operator to free or add disk space, then push again".to_owned()
            }
            (StatusCode::INTERNAL_SERVER_ERROR, _) => {
                "the registry failed; its log tells why under the id in X-Request-Id".to_owned()
            }
            _ => self.to_string(),
        }
    }

    fn detail(&self) -> serde_json::Value {
        match self {
            Error::MissingBlobs(blobs) => json!({ "digests": blobs }),
            Error::DigestMismatch { claimed, computed } => json!({ "claimed": claimed, "computed": computed }),
            _ => serde_json::Value::Null,
        }
    }
}

impl From<LoginError> for Error {
    /// For failures that are not the client's; wrong credentials become a challenge where it is known.
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Metadata(error) => error.into(),
            LoginError::Keys(error) => error.into(),
            LoginError::TooMany(error) => Error::TooManyLogins(error),
            LoginError::Wrong | LoginError::Bearer(_) => Error::Denied(error.to_string()),
            LoginError::Ceiling(error) => Error::Metadata(MetadataError::Corrupt(error.to_string())),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (code, status) = self.answer();
        if status.is_server_error() {
            tracing::error!(error = %self, "request failed");
        } else {
            tracing::debug!(error = %self, "request refused");
        }
        let error = match self.detail() {
            serde_json::Value::Null => json!({ "code": code.as_str(), "message": self.message(code, status) }),
            detail => json!({ "code": code.as_str(), "message": self.message(code, status), "detail": detail }),
        };
        let body = json!({ "errors": [error] }).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut insert = |name, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        };
        match self {
            Error::Unauthorized { challenge, .. } => insert(header::WWW_AUTHENTICATE, challenge),
            Error::RangeNotSatisfiable(size) => insert(header::CONTENT_RANGE, format!("bytes */{size}")),
            Error::UploadRange { location, size } => {
                insert(header::LOCATION, location);
                insert(header::RANGE, format!("0-{}", size.saturating_sub(1)));
            }
            Error::Method(allowed) => insert(header::ALLOW, allowed.to_owned()),
            Error::BlobInUse { .. } => insert(header::ALLOW, "GET, HEAD".to_owned()),
            Error::TooManyLogins(_) => insert(header::RETRY_AFTER, "5".to_owned()),
            Error::Metadata(MetadataError::Busy) => insert(header::RETRY_AFTER, "1".to_owned()),
            _ => {}
        }
        response
    }
}
