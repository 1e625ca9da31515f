//! One line in the log for each request, written when its answer has gone out.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};

/// What the line will say.
#[derive(Clone)]
pub struct AccessLog {
    line: Arc<Line>,
}

struct Line {
    id: String,
    method: Method,
    /// Without the query: parameters may hold what does not belong into a log.
    path: String,
    client_name: Option<String>,
    received: Option<String>,
    start: Instant,
    caller: Mutex<Option<(String, Option<IpAddr>)>>,
}

impl AccessLog {
    /// Notes what a request asks.
    pub fn new(id: &str, request: &Request, start: Instant) -> Self {
        let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        AccessLog {
            line: Arc::new(Line {
                id: id.to_owned(),
                method: request.method().clone(),
                path: request.uri().path().to_owned(),
                client_name: text(header::USER_AGENT),
                received: text(header::CONTENT_LENGTH),
                start,
                caller: Mutex::new(None),
            }),
        }
    }

    /// Notes who asks.
    pub fn caller(&self, name: &str, client: Option<IpAddr>) {
        let mut caller = self.line.caller.lock().unwrap_or_else(PoisonError::into_inner);
        *caller = Some((name.to_owned(), client));
    }

    /// Lets the answer through, counts its bytes, and writes the line at its end.
    pub fn follow(self, response: Response) -> Response {
        let digest = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        let digest = digest.map(str::to_owned);
        let status = response.status();
        response.map(|body| Body::new(Followed { body, log: self, status, digest, sent: 0 }))
    }
}

struct Followed {
    body: Body,
    log: AccessLog,
    status: StatusCode,
    digest: Option<String>,
    sent: u64,
}

impl HttpBody for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => self.sent += frame.data_ref().map_or(0, |bytes| bytes.len() as u64),
            Poll::Ready(Some(Err(error))) => {
                tracing::error!(id = self.log.line.id, %error, "an answer broke off");
            }
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let line = &self.log.line;
        let caller = line.caller.lock().unwrap_or_else(PoisonError::into_inner);
        let (principal, client) = caller.as_ref().map_or(("-", None), |(name, client)| (name.as_str(), *client));
        tracing::info!(
            target: "cove_server::access",
            id = line.id,
            method = %line.method,
            path = line.path,
            status = self.status.as_u16(),
            principal,
            client = client.map(tracing::field::display),
            agent = line.client_name.as_deref(),
            digest = self.digest.as_deref(),
            received_bytes = line.received.as_deref(),
            sent_bytes = self.sent,
            duration_ms = line.start.elapsed().as_secs_f64() * 1000.0,
            "request"
        );
    }
}
