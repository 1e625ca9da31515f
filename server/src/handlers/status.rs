//! `/v2/`, health and the public keys.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::{Answer, json};
use crate::auth::jwks;
use crate::error::Error;
use crate::state::Server;

/// `GET /v2/`: the caller is somebody, and this is a registry.
pub fn base() -> Answer {
    json("application/json", &serde_json::json!({}))
}

/// `GET /healthz`: the process answers.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: database and blob store can be reached.
pub async fn readyz(State(server): State<Arc<Server>>) -> Response {
    let database = server.store.ping().await.map_err(|error| error.to_string());
    let blobs = server.blobs.ping().await.map_err(|error| error.to_string());
    let mut unready = Vec::new();
    for (what, outcome) in [("database", database), ("blob store", blobs)] {
        if let Err(error) = outcome {
            tracing::warn!(what, error, "not ready");
            unready.push(what);
        }
    }
    match unready.as_slice() {
        [] => "ready\n".into_response(),
        unready => {
            let text = format!("not reachable: {}; the log tells why\n", unready.join(", "));
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

/// `GET /.well-known/jwks.json`: the keys that bearer tokens can be verified with.
pub async fn public_keys(State(server): State<Arc<Server>>) -> Result<Response, Error> {
    json("application/jwk-set+json", &jwks(&server.store.signing_keys().await?))
}
