//! One line in the log for each request, written when its answer has gone out.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::call::Peer;
use crate::endpoint::Endpoint;

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
    agent: Option<String>,
    start: Instant,
    /// Bytes of the body that have come in: a length that was only declared would miss the streams.
    received: AtomicU64,
    noted: Mutex<Noted>,
}

/// What becomes known while the request is worked on.
#[derive(Default)]
struct Noted {
    client: Option<IpAddr>,
    principal: Option<String>,
    repository: Option<String>,
    digest: Option<String>,
}

impl AccessLog {
    /// Notes what a request asks.
    pub fn new(id: &str, request: &Request, start: Instant) -> Self {
        let agent = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let peer = request.extensions().get::<Peer>();
        let noted = Noted { client: peer.map(|peer| peer.address.ip().to_canonical()), ..Default::default() };
        AccessLog {
            line: Arc::new(Line {
                id: id.to_owned(),
                method: request.method().clone(),
                path: request.uri().path().to_owned(),
                agent: agent.map(str::to_owned),
                start,
                received: AtomicU64::new(0),
                noted: Mutex::new(noted),
            }),
        }
    }

    /// Notes where the request comes from, behind trusted proxies too.
    pub fn client(&self, client: Option<IpAddr>) {
        self.note(|noted| noted.client = client);
    }

    /// Notes who asks.
    pub fn principal(&self, name: &str) {
        self.note(|noted| noted.principal = Some(name.to_owned()));
    }

    /// Notes what the request is about.
    pub fn endpoint(&self, endpoint: &Endpoint) {
        self.note(|noted| {
            noted.repository = endpoint.repository().map(|name| name.to_string());
            noted.digest = endpoint.digest().map(|digest| digest.to_string());
        });
    }

    fn note(&self, change: impl FnOnce(&mut Noted)) {
        change(&mut self.line.noted.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Lets the request's body through and counts its bytes.
    pub fn count(&self, request: Request) -> Request {
        request.map(|body| Body::new(Counted { body, line: self.line.clone() }))
    }

    /// Lets the answer through, counts its bytes, and writes the line at its end.
    pub fn follow(self, response: Response) -> Response {
        let digest = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        if let Some(digest) = digest {
            self.note(|noted| noted.digest = Some(digest.to_owned()));
        }
        let status = response.status();
        response.map(|body| Body::new(Followed { body, line: self.line, status, sent: 0 }))
    }
}

struct Counted {
    body: Body,
    line: Arc<Line>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let length = frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
            self.line.received.fetch_add(length, Ordering::Relaxed);
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

struct Followed {
    body: Body,
    line: Arc<Line>,
    status: StatusCode,
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
                tracing::error!(id = self.line.id, %error, "an answer broke off");
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
        let line = &self.line;
        let noted = line.noted.lock().unwrap_or_else(PoisonError::into_inner);
        tracing::info!(
            target: "cove_server::access",
            id = line.id,
            method = %line.method,
            path = line.path,
            status = self.status.as_u16(),
            principal = noted.principal.as_deref().unwrap_or("-"),
            client = noted.client.map(tracing::field::display),
            agent = line.agent.as_deref(),
            repository = noted.repository.as_deref(),
            digest = noted.digest.as_deref(),
            received_bytes = line.received.load(Ordering::Relaxed),
            sent_bytes = self.sent,
            duration_ms = line.start.elapsed().as_secs_f64() * 1000.0,
            "request"
        );
    }
}
