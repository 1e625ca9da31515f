//! The body of a request: read in pieces, with patience for a slow client but not for one that stands still.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::BodyExt;

use crate::error::Error;

/// Of a body that nobody wanted, this much is still read, so that the connection can be used again and the
/// client sees the answer instead of a broken pipe. The rest is read off while the connection closes.
const UNWANTED: usize = 256 * 1024;
/// How long that may take.
const UNWANTED_TIME: Duration = Duration::from_secs(3);

/// A request's body, or what is left of it.
#[derive(Debug)]
pub struct RequestBody {
    body: Body,
    /// How long the next piece may take.
    idle: Duration,
    /// It has come to its end, good or bad.
    ended: bool,
    /// The client sends it only when asked to.
    waits_for_invitation: bool,
}

impl RequestBody {
    /// A body of which nothing is read yet.
    pub fn new(body: Body, idle: Duration) -> Self {
        RequestBody { body, idle, ended: false, waits_for_invitation: false }
    }

    /// The body of a request with these headers.
    pub fn of(headers: &HeaderMap, body: Body, idle: Duration) -> Self {
        RequestBody { waits_for_invitation: headers.contains_key(header::EXPECT), ..RequestBody::new(body, idle) }
    }

    /// The body, for a task of its own; nothing stays here.
    pub fn take(&mut self) -> Self {
        let nothing = RequestBody { ended: true, ..RequestBody::new(Body::empty(), self.idle) };
        std::mem::replace(self, nothing)
    }

    /// The next bytes. `None`: it is complete.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.next_within(self.idle).await
    }

    async fn next_within(&mut self, patience: Duration) -> Result<Option<Bytes>, Error> {
        self.waits_for_invitation = false;
        while !self.ended {
            let problem = match tokio::time::timeout(patience, self.body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) if !bytes.is_empty() => return Ok(Some(bytes)),
                    Ok(_) | Err(_) => continue, // nothing, or trailers, which mean nothing here
                },
                Ok(Some(Err(error))) => error.to_string(),
                Err(_) => "it stood still".to_owned(),
            };
            tracing::debug!(problem, "request body broke off");
            self.ended = true;
            return Err(Error::BodyBroken);
        }
        self.ended = true;
        Ok(None)
    }

    /// Reads what is left, up to a limit, after an answer that did not need it. Nothing, if the client waits to
    /// be invited (`Expect: 100-continue`): reading would invite it.
    pub async fn read_unwanted(&mut self) {
        if self.waits_for_invitation {
            return;
        }
        let reading = async {
            let mut read = 0;
            while let Ok(Some(bytes)) = self.next_within(UNWANTED_TIME).await {
                read += bytes.len();
                if read >= UNWANTED {
                    break;
                }
            }
        };
        tokio::time::timeout(UNWANTED_TIME, reading).await.ok(); // the rest is read off while closing
    }
}
