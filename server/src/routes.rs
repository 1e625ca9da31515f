//! Every path that the server answers, on one page, and what wraps all of them.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Method, header};
use tracing::Instrument;

use crate::access_log::AccessLog;
use crate::auth::random_hex;
use crate::body::RequestBody;
use crate::call::{Authorised, Call, Origin, Peer, authorise};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::handlers::{Answer, blobs, manifests, search, status, tags, token, uploads};
use crate::state::Server;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The whole API.
pub fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/token", get(token::get).post(token::post))
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz))
        .route("/v1/_ping", get(search::ping))
        .route("/.well-known/jwks.json", get(status::public_keys))
        .fallback(registry)
        .layer(middleware::from_fn_with_state(server.clone(), wrap))
        .with_state(server)
}

/// Everything below `/v2/`, and docker's search.
async fn registry(State(server): State<Arc<Server>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut body = RequestBody::of(&parts.headers, body, server.behaviour.idle_timeout);
    let answer = answer(&server, parts, &mut body).await;
    if answer.is_err() {
        body.read_unwanted().await;
    }
    answer.into_response()
}

async fn answer(server: &Arc<Server>, parts: http::request::Parts, body: &mut RequestBody) -> Answer {
    let endpoint = Endpoint::parse(parts.uri.path())?;
    let peer = parts.extensions.get::<Peer>().copied();
    let authority = parts.uri.authority().map(|authority| authority.as_str());
    let origin = Origin::of(server, &parts.headers, authority, peer);
    let method = parts.method.clone();
    let log = parts.extensions.get::<AccessLog>();
    if let Some(log) = log {
        log.endpoint(&endpoint);
        log.client(origin.client);
    }
    let (principal, visible) = match authorise(server, &endpoint, &method, &parts.headers, &origin).await? {
        Authorised::Yes(principal) => (principal, true),
        Authorised::Hidden(principal) => (principal, false),
    };
    if let Some(log) = log {
        log.principal(principal.name());
    }
    let call = Call { principal, parts, origin };
    if let (Endpoint::Referrers(name, digest), true) = (&endpoint, reads(&method)) {
        return manifests::referrers(server, &call, name, digest, visible).await;
    }
    if !visible {
        return Err(endpoint.absent());
    }
    match (&endpoint, &method) {
        (Endpoint::Base, &Method::GET | &Method::HEAD) => status::base(),
        (Endpoint::Catalog, &Method::GET | &Method::HEAD) => tags::catalog(server, &call).await,
        (Endpoint::Search, &Method::GET | &Method::HEAD) => search::search(server, &call).await,
        (Endpoint::Tags(name), &Method::GET | &Method::HEAD) => tags::list(server, &call, name).await,

        (Endpoint::Manifest(name, reference), &Method::GET | &Method::HEAD) => {
            manifests::get(server, &call, name, reference).await
        }
        (Endpoint::Manifest(name, reference), &Method::PUT) => {
            manifests::put(server, &call, name, reference, body).await
        }
        (Endpoint::Manifest(name, reference), &Method::DELETE) => manifests::delete(server, name, reference).await,

        (Endpoint::Blob(name, digest), &Method::GET | &Method::HEAD) => blobs::get(server, &call, name, digest).await,
        (Endpoint::Blob(name, digest), &Method::DELETE) => blobs::delete(server, name, digest).await,

        (Endpoint::Uploads(name), &Method::POST) => uploads::begin(server, &call, name, body).await,
        (Endpoint::Upload(name, id), &Method::GET | &Method::HEAD) => uploads::status(server, &call, name, id).await,
        (Endpoint::Upload(name, id), &Method::PATCH) => uploads::append(server, &call, name, id, body).await,
        (Endpoint::Upload(name, id), &Method::PUT) => uploads::finish(server, &call, name, id, body).await,
        (Endpoint::Upload(name, id), &Method::DELETE) => uploads::cancel(server, &call, name, id).await,

        (Endpoint::Base | Endpoint::Catalog | Endpoint::Search | Endpoint::Tags(_) | Endpoint::Referrers(..), _) => {
            Err(Error::Method("GET, HEAD"))
        }
        (Endpoint::Manifest(..), _) => Err(Error::Method("GET, HEAD, PUT, DELETE")),
        (Endpoint::Blob(..), _) => Err(Error::Method("GET, HEAD, DELETE")),
        (Endpoint::Uploads(_), _) => Err(Error::Method("POST")),
        (Endpoint::Upload(..), _) => Err(Error::Method("GET, HEAD, PATCH, PUT, DELETE")),
    }
}

fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Around every request: an id, a span, headers that stand on every answer, a log line at the end of the body,
/// and an answer even when a handler panics.
async fn wrap(State(_server): State<Arc<Server>>, mut request: Request, next: Next) -> Response {
    let id = random_hex();
    let log = AccessLog::new(&id, &request, Instant::now());
    request.extensions_mut().insert(log.clone());
    let span = tracing::info_span!("request", id);
    let handled =
        std::panic::AssertUnwindSafe(next.run(log.count(request))).catch_unwind().instrument(span.clone()).await;
    let mut response = handled.unwrap_or_else(|_| span.in_scope(|| Error::Broken.into_response()));
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    log.follow(response)
}
