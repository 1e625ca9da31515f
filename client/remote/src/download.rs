//! One blob's bytes, in order, over as many connections as it takes: what breaks off goes on where it was.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use cove_oci::{Descriptor, VerifyError};
use http::{HeaderValue, Method, StatusCode, header};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Duration;

use crate::answer::Answer;
use crate::endpoint::{Endpoint, Sending, Told};
use crate::pieces::{Pace, Pieces};
use crate::{Error, Repository, ShownUrl};

pub(crate) use crate::pieces::PIECES_AT_ONCE;

/// A blob on its way.
pub(crate) struct Download {
    repository: Repository,
    blob: Descriptor,
    /// The next byte to give away.
    at: u64,
    body: Option<Answer>,
    /// Bytes of the body to pass over: of a server that ignores `Range`.
    skip: u64,
    /// Ranges that are fetched at the same time, while they pay.
    pieces: Option<Pieces>,
    /// A piece that is complete and comes next.
    ready: VecDeque<Bytes>,
    /// Its place in memory, until all of it has been given away.
    memory: Option<OwnedSemaphorePermit>,
    pace: Pace,
    /// Without progress since.
    failures: u32,
    /// Hosts that have not failed, the current one first.
    hosts: VecDeque<Arc<Endpoint>>,
}

/// A body that begins at the right byte.
pub(crate) struct Opened {
    pub(crate) answer: Answer,
    pub(crate) skip: u64,
}

impl Download {
    /// Opens the blob, so that one that is not there is found out at once.
    pub(crate) async fn open(repository: &Repository, blob: &Descriptor, offset: u64) -> Result<Download, Error> {
        let mut download = Download {
            repository: repository.clone(),
            blob: blob.clone(),
            at: offset.min(blob.size),
            body: None,
            skip: 0,
            pieces: None,
            ready: VecDeque::new(),
            memory: None,
            pace: Pace::new(),
            failures: 0,
            hosts: repository.inner.hosts(|host| host.pull).await?.into(),
        };
        while download.body.is_none() && download.at < blob.size {
            download.connect().await?;
        }
        Ok(download)
    }

    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.at >= self.blob.size {
                return Ok(None);
            }
            if let Some(bytes) = self.ready.pop_front() {
                if self.ready.is_empty() {
                    self.memory = None;
                }
                return Ok(Some(self.progressed(bytes)));
            }
            if self.pieces.is_some() && self.primary_is_done() {
                self.take_piece().await;
                continue;
            }
            if self.body.is_none() {
                self.connect().await?;
                continue;
            }
            if let Some(bytes) = self.read_body().await? {
                return Ok(Some(bytes));
            }
        }
    }

    /// Reads from the open connection; `None` if it broke off, or gave bytes that are already there.
    async fn read_body(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(body) = &mut self.body else { return Ok(None) };
        let asked = Instant::now();
        let chunk = body.chunk().await;
        self.pace.waited(asked.elapsed());
        let error = match chunk {
            Ok(Some(mut bytes)) => {
                let skipped = self.skip.min(bytes.len() as u64);
                bytes.advance_by(skipped);
                self.skip -= skipped;
                let boundary = self.pieces.as_ref().map_or(self.blob.size, Pieces::start);
                bytes.truncate(usize::try_from(boundary - self.at).unwrap_or(usize::MAX));
                if bytes.is_empty() {
                    return Ok(None);
                }
                let bytes = self.progressed(bytes);
                self.consider_pieces();
                return Ok(Some(bytes));
            }
            Ok(None) => Error::Unreachable {
                url: ShownUrl::from(&body.url),
                reason: format!("the blob ended after {} of {} bytes", self.at, self.blob.size),
            },
            Err(error) => error,
        };
        self.failed(error).await?;
        Ok(None)
    }

    /// Counts bytes that are about to be given away.
    fn progressed(&mut self, bytes: Bytes) -> Bytes {
        self.at += bytes.len() as u64;
        self.failures = 0;
        self.pace.moved(bytes.len() as u64);
        bytes
    }

    /// After a failure: the pause, or the next host, or the end.
    async fn failed(&mut self, error: Error) -> Result<(), Error> {
        self.body = None;
        self.pieces = None;
        self.ready.clear();
        self.memory = None;
        self.failures += 1;
        self.pace.settle();
        let Some(endpoint) = self.hosts.front().cloned() else { return Err(error) };
        let is_last = self.hosts.len() <= 1;
        if !is_last && (self.failures > 1 || !error.is_passing()) {
            self.repository.inner.note_failure(&endpoint, &error);
            self.hosts.pop_front();
            self.failures = 0;
            return Ok(());
        }
        let told = Told { progress: &*self.repository.progress, blob: &self.blob };
        let attempts = self.failures;
        endpoint.pause(self.failures, error, Some(told)).await.map_err(|error| match error {
            Error::Unreachable { url, reason } if self.at > 0 => Error::Broken { url, attempts, reason },
            error => error,
        })
    }

    /// Opens a connection for the rest.
    async fn connect(&mut self) -> Result<(), Error> {
        let Some(endpoint) = self.hosts.front().cloned() else {
            return Err(Error::NoHost(self.repository.origin().registry.clone()));
        };
        let sending = Sending::default();
        match open_range(&self.repository, &endpoint, &self.blob, self.at, None, sending).await {
            Ok(Opened { answer, skip }) => {
                self.body = Some(answer);
                self.skip = skip;
                Ok(())
            }
            Err(error) => self.failed(error).await,
        }
    }

    /// Whether what comes next comes from the pieces.
    fn primary_is_done(&self) -> bool {
        self.pieces.as_ref().is_some_and(|pieces| self.at >= pieces.start())
    }

    /// Begins to fetch pieces where that may pay.
    fn consider_pieces(&mut self) {
        let remaining = self.blob.size - self.at;
        if self.pieces.is_some() || self.skip > 0 || !self.pace.wants_pieces(remaining) {
            return;
        }
        let Some(endpoint) = self.hosts.front() else { return };
        self.pieces = Pieces::begin(&self.repository, endpoint, &self.blob, self.at);
    }

    /// Takes the next piece, or gives parallel work up: then one connection goes on with the rest.
    async fn take_piece(&mut self) {
        self.body = None;
        let Some(pieces) = &mut self.pieces else { return };
        let asked = Instant::now();
        let taken = pieces.next().await;
        self.pace.waited(asked.elapsed());
        match taken {
            Ok(Some(piece)) if !piece.chunks.is_empty() => {
                self.ready.extend(piece.chunks);
                self.memory = Some(piece.memory);
                let width = pieces.width();
                match self.pace.judge(width) {
                    Some(better) => pieces.set_width(better),
                    None => self.pieces = None,
                }
                if self.pieces.is_none() {
                    tracing::debug!("parallel ranges do not pay here: back to one connection");
                }
            }
            Ok(_) => self.pieces = None,
            Err(error) => {
                tracing::debug!(%error, "a range failed: back to one connection");
                self.pieces = None;
                self.pace.settle();
            }
        }
    }
}

/// Asks for bytes from `first` on, up to and without `end`, and sees to it that they are what comes.
pub(crate) async fn open_range(
    repository: &Repository,
    endpoint: &Endpoint,
    blob: &Descriptor,
    first: u64,
    end: Option<u64>,
    sending: Sending,
) -> Result<Opened, Error> {
    let mut request = repository.inner.request(endpoint, Method::GET, &format!("blobs/{}", blob.digest))?;
    if first > 0 || end.is_some() {
        let last = end.map(|end| (end - 1).to_string()).unwrap_or_default();
        if let Ok(range) = HeaderValue::from_str(&format!("bytes={first}-{last}")) {
            request = request.header(header::RANGE, range);
        }
    }
    // Offsets count bytes as they are stored.
    request = request.header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let answer = endpoint.attempt(&request, sending).await?;
    if answer.header(header::CONTENT_ENCODING).is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
        return Err(answer.protocol("it compresses the blob, though that was not asked for"));
    }
    match answer.status() {
        StatusCode::PARTIAL_CONTENT => {
            check_content_range(&answer, first, end.unwrap_or(blob.size), blob)?;
            Ok(Opened { answer, skip: 0 })
        }
        StatusCode::OK => {
            if answer.content_length().is_some_and(|length| length != blob.size) {
                let found = answer.content_length().unwrap_or_default();
                let error = VerifyError::Size { digest: blob.digest.clone(), expected: blob.size, found };
                return Err(Error::Verify { url: ShownUrl::from(&answer.url), error });
            }
            Ok(Opened { answer, skip: first })
        }
        _ => Err(answer.refusal(&Method::GET).await),
    }
}

/// `Content-Range: bytes FIRST-LAST/SIZE` must be what was asked for: RFC 9110, section 14.4.
fn check_content_range(answer: &Answer, first: u64, end: u64, blob: &Descriptor) -> Result<(), Error> {
    let text = answer.header(header::CONTENT_RANGE).unwrap_or_default();
    let parts = text.strip_prefix("bytes ").and_then(|text| text.split_once('/'));
    let range = parts.and_then(|(range, _)| range.split_once('-'));
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let found = range.and_then(|(first, last)| Some((number(first)?, number(last)?)));
    let size_fits = parts.is_some_and(|(_, size)| size.trim() == "*" || number(size) == Some(blob.size));
    if !size_fits || found != Some((first, end - 1)) {
        let reason = format!("asked for the bytes {first}-{} of {}, it gives `{text}`", end - 1, blob.size);
        return Err(answer.protocol(crate::shown::shortened(&reason)));
    }
    Ok(())
}

/// What `bytes::Buf` does, without its panic.
trait Advance {
    fn advance_by(&mut self, count: u64);
}

impl Advance for Bytes {
    fn advance_by(&mut self, count: u64) {
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.len());
        drop(self.split_to(count));
    }
}

/// How long a window of measurement is.
pub(crate) const WINDOW: Duration = Duration::from_millis(1500);
