//! `/v2/`, health and the public keys.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::{Answer, json};
use crate::auth::jwks;
use crate::error::Error;
use crate::state::Server;

/// Less than the 5 seconds that `cove-server healthcheck` waits.
const PING_LIMIT: Duration = Duration::from_secs(3);

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
    let ping_database = async { server.store.ping().await.map_err(|error| error.to_string()) };
    let ping_blobs = async { server.blobs.ping().await.map_err(|error| error.to_string()) };
    let (database, blobs) = tokio::join!(in_time(ping_database), in_time(ping_blobs));
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

/// What does not answer is down: stores try again for minutes, and whoever asks wants to know now.
async fn in_time(ping: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let late = |_| Err(format!("no answer within {} seconds", PING_LIMIT.as_secs()));
    tokio::time::timeout(PING_LIMIT, ping).await.unwrap_or_else(late)
}

/// `GET /.well-known/jwks.json`: the keys that bearer tokens can be verified with.
pub async fn public_keys(State(server): State<Arc<Server>>) -> Result<Response, Error> {
    json("application/jwk-set+json", &jwks(&server.store.signing_keys().await?))
}
