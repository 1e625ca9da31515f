//! One upload: sent as one stream where that works, taken up where it broke off, verified while it goes out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cove_oci::{Descriptor, Verifier, VerifyError};
use cove_transfer::{ByteStream, Kind, Progress, Side, Source, Step};
use futures_util::{Stream, StreamExt};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use tokio::sync::OwnedSemaphorePermit;
use url::Url;

use crate::answer::Answer;
use crate::endpoint::{Endpoint, Request, Sending, Told};
use crate::push::{location, with_digest};
use crate::{Error, Repository, ShownUrl};

/// A registry writes down what has arrived when it sees that the sender has gone: whoever asks right after a kill is
/// told that nothing has. When it is asked again.
const RECORDED_AFTER: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(200), Duration::from_millis(400)];
/// Blobs up to this size go out in one piece, with the request that ends the upload.
const SMALL: u64 = 1024 * 1024;
/// How large chunks are where a registry, or what is before it, refuses larger bodies.
const CHUNKS: [u64; 3] = [64 * 1024 * 1024, 16 * 1024 * 1024, 4 * 1024 * 1024];
/// `OCI-Chunk-Min-Length`.
const CHUNK_MINIMUM: HeaderName = HeaderName::from_static("oci-chunk-min-length");
/// How often progress is told.
const TICK: Duration = Duration::from_millis(100);

/// An upload that a registry has accepted.
pub(crate) struct Upload<'a> {
    repository: &'a Repository,
    endpoint: Arc<Endpoint>,
    blob: &'a Descriptor,
    url: Url,
    /// Bytes that the registry has.
    offset: u64,
    /// What has been sent so far is what it should be. `None`: an earlier command sent the first bytes, and only the
    /// registry can tell.
    verifier: Option<Arc<Mutex<Verifier>>>,
    /// Largest body that is sent, once the registry has refused a larger one.
    chunk: Option<u64>,
    chunk_minimum: u64,
}

/// What ended an attempt.
enum Failure {
    /// The registry's side.
    Target(Error),
    /// The source's side: final.
    Source(cove_transfer::Error),
}

impl<'a> Upload<'a> {
    /// Begins an upload.
    pub(crate) async fn begin(
        repository: &'a Repository,
        blob: &'a Descriptor,
        told: Told<'_>,
    ) -> Result<Upload<'a>, Error> {
        let endpoint = repository.home().await?;
        let request = repository.inner.request(&endpoint, Method::POST, "blobs/uploads/")?;
        let answer = endpoint.send(&request, Some(told)).await?;
        match answer.status() {
            StatusCode::ACCEPTED => Upload::begun(repository, &endpoint, blob, &answer),
            status if status.is_success() => Err(answer.protocol("it should answer 202 to the beginning of an upload")),
            _ => Err(answer.refusal(&Method::POST).await),
        }
    }

    /// The upload that an answer has begun.
    pub(crate) fn begun(
        repository: &'a Repository,
        endpoint: &Arc<Endpoint>,
        blob: &'a Descriptor,
        answer: &Answer,
    ) -> Result<Self, Error> {
        let minimum = answer.header(CHUNK_MINIMUM).and_then(|length| length.trim().parse().ok());
        let upload = Upload {
            repository,
            endpoint: endpoint.clone(),
            blob,
            url: location(endpoint, answer)?,
            offset: 0,
            verifier: Some(Arc::new(Mutex::new(Verifier::new(&blob.digest, blob.size)))),
            chunk: None,
            chunk_minimum: minimum.unwrap_or(0),
        };
        Ok(upload)
    }

    /// Takes up what an earlier command has left, if the registry still has it.
    pub(crate) async fn take_up(repository: &'a Repository, blob: &'a Descriptor) -> Result<Option<Self>, Error> {
        let origin = repository.origin();
        let Some(text) = repository.journal.find(origin, &blob.digest) else { return Ok(None) };
        let endpoint = repository.home().await?;
        let forget = || repository.journal.forget(origin, &blob.digest);
        let Ok(url) = Url::parse(&text) else {
            forget();
            return Ok(None);
        };
        let mut upload =
            Upload { repository, endpoint, blob, url, offset: 0, verifier: None, chunk: None, chunk_minimum: 0 };
        let mut asked = upload.ask().await;
        for pause in RECORDED_AFTER {
            if !matches!(asked, Ok(true) if upload.offset == 0) {
                break;
            }
            tokio::time::sleep(pause).await;
            asked = upload.ask().await;
        }
        match asked {
            Ok(true) if upload.offset > 0 => Ok(Some(upload)),
            // There is nothing to go on with; whatever the reason, a new one begins well.
            Ok(_) => {
                forget();
                Ok(None)
            }
            // It was waited for, and some registries answer so for ever about an upload that they have lost. A new one
            // takes its place in the journal once it has begun; if it cannot, the registry is down, and the old one may
            // still be there later.
            Err(error) if error.is_passing() => {
                tracing::debug!(%error, "an earlier upload cannot be asked for");
                Ok(None)
            }
            Err(error) => {
                tracing::debug!(%error, "an earlier upload cannot be taken up");
                forget();
                Ok(None)
            }
        }
    }

    /// Gives it up. That it fails is of no interest: registries forget uploads by themselves.
    pub(crate) async fn cancel(&self) {
        let request = self.request(Method::DELETE, self.url.clone());
        if let Err(error) = self.endpoint.attempt(&request, Sending::default()).await {
            tracing::debug!(%error, "an upload could not be cancelled");
        }
    }

    /// The next command does not take it up.
    fn forget(&self) {
        self.repository.journal.forget(self.repository.origin(), &self.blob.digest);
    }

    /// Sends what the registry does not have yet, and ends the upload. Returns how many bytes were sent.
    pub(crate) async fn send<S: Source>(
        mut self,
        source: &S,
        progress: &dyn Progress,
    ) -> Result<u64, cove_transfer::Error> {
        if self.offset > 0 {
            progress.step(self.blob, Step::Resumed(self.offset));
        }
        let resumed_at = self.offset;
        // Only what was never reached before is progress: a registry that forgets and forgets is given up.
        let (mut furthest, mut failures) = (self.offset, 0);
        loop {
            let error = match self.send_rest(source, progress).await {
                Ok(()) => return Ok(self.blob.size - resumed_at),
                Err(Failure::Target(error)) => error,
                Err(Failure::Source(error)) => {
                    if error.kind() == Kind::Corrupt {
                        self.cancel().await;
                        self.forget();
                    }
                    return Err(error.about(&self.blob.digest));
                }
            };
            failures = if self.offset > furthest { 1 } else { failures + 1 };
            furthest = furthest.max(self.offset);
            self.recover(error, failures, progress)
                .await
                .map_err(|error| error.on(Side::Target).about(&self.blob.digest))?;
            if self.offset > furthest {
                (furthest, failures) = (self.offset, 0);
            }
        }
    }

    /// After a failure: waits, and finds out where to go on. Gives the error back if there is nothing to try.
    async fn recover(&mut self, error: Error, failures: u32, progress: &dyn Progress) -> Result<(), Error> {
        let told = Told { progress, blob: self.blob };
        let is_stale = self.verifier.is_none();
        match error.status() {
            Some(StatusCode::PAYLOAD_TOO_LARGE) => {
                let present = self.chunk.unwrap_or(u64::MAX).min(self.blob.size);
                let smaller = CHUNKS.into_iter().find(|size| *size < present && *size >= self.chunk_minimum);
                self.chunk = Some(smaller.ok_or(error)?);
            }
            // The upload is gone, or what an earlier command sent was not good: once more from the beginning.
            Some(StatusCode::NOT_FOUND) if failures < self.endpoint.attempts() => {
                return self.begin_anew(told).await;
            }
            Some(StatusCode::RANGE_NOT_SATISFIABLE) if failures < self.endpoint.attempts() => {}
            Some(status) if is_stale && status.is_client_error() && !error.is_passing() => {
                self.cancel().await;
                return self.begin_anew(told).await;
            }
            _ if matches!(error, Error::Unauthorized { .. }) && failures < 2 => {}
            _ => self.endpoint.pause(failures, error, Some(told)).await?,
        }
        match self.endpoint.retry(Some(told), || self.status()).await? {
            Some((url, offset)) if offset <= self.verified() => {
                self.move_to(url);
                self.offset = offset;
                Ok(())
            }
            _ => self.begin_anew(told).await,
        }
    }

    /// How far an upload can be taken up: what was never sent from here cannot be verified here. An upload that an
    /// earlier command began is verified by the registry alone.
    fn verified(&self) -> u64 {
        match &self.verifier {
            Some(verifier) => verifier.lock().unwrap_or_else(PoisonError::into_inner).seen(),
            None => self.blob.size,
        }
    }

    async fn begin_anew(&mut self, told: Told<'_>) -> Result<(), Error> {
        self.repository.journal.forget(self.repository.origin(), &self.blob.digest);
        let chunk = self.chunk;
        *self = Upload { chunk, ..Upload::begin(self.repository, self.blob, told).await? };
        Ok(())
    }

    /// Whether the registry still has the upload; then also how much of it.
    async fn ask(&mut self) -> Result<bool, Error> {
        let found = self.endpoint.retry(None, || self.status()).await?;
        let Some((url, offset)) = found.filter(|(_, offset)| *offset <= self.blob.size) else { return Ok(false) };
        (self.url, self.offset) = (url, offset);
        Ok(true)
    }

    /// How far the registry says it has come: `Range: 0-LAST`; and where the upload goes on.
    async fn status(&self) -> Result<Option<(Url, u64)>, Error> {
        let request = self.request(Method::GET, self.url.clone());
        let answer = self.endpoint.attempt(&request, Sending::default()).await?;
        match answer.status() {
            StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED => return Ok(None),
            status if !status.is_success() => return Err(answer.refusal(&Method::GET).await),
            _ => {}
        }
        let url = match answer.header(header::LOCATION) {
            Some(_) => location(&self.endpoint, &answer)?,
            None => self.url.clone(),
        };
        Ok(Some((url, received(&answer)?)))
    }

    fn request(&self, method: Method, url: Url) -> Request {
        Request::new(method, url, &self.repository.inner.scopes(&self.endpoint))
    }

    fn move_to(&mut self, url: Url) {
        self.repository.journal.remember(self.repository.origin(), &self.blob.digest, url.as_str());
        self.url = url;
    }

    async fn send_rest<S: Source>(&mut self, source: &S, progress: &dyn Progress) -> Result<(), Failure> {
        if self.blob.size <= SMALL && self.offset == 0 {
            let body = self.collect(source).await?;
            self.finish(body, progress).await?;
            progress.step(self.blob, Step::Transferring { done: self.blob.size, total: self.blob.size });
            return Ok(());
        }
        self.repository.journal.remember(self.repository.origin(), &self.blob.digest, self.url.as_str());
        while self.offset < self.blob.size {
            self.send_chunk(source, progress).await?;
        }
        self.finish(Bytes::new(), progress).await
    }

    /// A small blob, verified.
    async fn collect<S: Source>(&self, source: &S) -> Result<Bytes, Failure> {
        let mut stream = source.blob(self.blob, 0).await.map_err(Failure::Source)?;
        let mut verifier = Verifier::new(&self.blob.digest, self.blob.size);
        let mut body = Vec::with_capacity(usize::try_from(self.blob.size).unwrap_or_default());
        while let Some(bytes) = stream.next().await {
            let bytes = bytes.map_err(Failure::Source)?;
            verifier.update(&bytes).map_err(corrupt)?;
            body.extend_from_slice(&bytes);
        }
        verifier.finish().map_err(corrupt)?;
        Ok(body.into())
    }

    /// Streams one chunk: all that is left, unless the registry wants less at a time.
    async fn send_chunk<S: Source>(&mut self, source: &S, progress: &dyn Progress) -> Result<(), Failure> {
        // The place is taken before the source is opened: the other way round, copies within one registry could
        // wait for each other.
        let place = self.endpoint.place_to_write().await;
        let rest = self.blob.size - self.offset;
        let length = self.chunk.unwrap_or(rest).min(rest);
        let content = source.blob(self.blob, self.offset).await.map_err(Failure::Source)?;
        let state = Arc::new(Sent::default());
        let outgoing = Outgoing {
            content,
            verifier: self.verifier.clone(),
            at: self.offset,
            end: self.offset + length,
            size: self.blob.size,
            digest: self.blob.digest.clone(),
            state: state.clone(),
        };
        let mut request = self.request(Method::PATCH, self.url.clone());
        request = request.header(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        request = request.header(header::CONTENT_LENGTH, HeaderValue::from(length));
        // One chunk that is the whole blob goes without a range, as docker and podman send it.
        if length < self.blob.size
            && let Ok(range) = HeaderValue::from_str(&format!("{}-{}", self.offset, self.offset + length - 1))
        {
            request = request.header(header::CONTENT_RANGE, range);
        }
        let body = reqwest::Body::wrap_stream(outgoing.into_stream());
        let answer = self.watch(&request, body, place, &state, progress).await;
        if let Some(error) = state.take_error() {
            return Err(Failure::Source(error));
        }
        let answer = answer.map_err(Failure::Target)?;
        if !answer.status().is_success() {
            return Err(Failure::Target(answer.refusal(&Method::PATCH).await));
        }
        let url = match answer.header(header::LOCATION) {
            Some(_) => location(&self.endpoint, &answer).map_err(Failure::Target)?,
            None => self.url.clone(),
        };
        // What it says it has counts, if it says it.
        let sent = self.offset + length;
        self.offset = match answer.header(header::RANGE) {
            Some(_) => received(&answer).map_err(Failure::Target)?.min(sent),
            None => sent,
        };
        self.move_to(url);
        match self.offset == sent {
            true => Ok(()),
            false => Err(Failure::Target(Error::Unreachable {
                url: ShownUrl::from(&self.url),
                reason: format!("the registry kept {} of {sent} bytes", self.offset),
            })),
        }
    }

    /// Sends a stream, tells how far it is, and gives up on a registry that takes nothing any more.
    async fn watch(
        &self,
        request: &Request,
        body: reqwest::Body,
        place: Option<OwnedSemaphorePermit>,
        state: &Sent,
        progress: &dyn Progress,
    ) -> Result<Answer, Error> {
        let patience = &self.endpoint.shared.patience;
        let sending = Sending { stream: Some(body), ..Sending::default() };
        let mut answer = std::pin::pin!(self.endpoint.attempt_in_turn(request, sending, place));
        let mut ticks = tokio::time::interval(TICK);
        let mut told = 0;
        loop {
            let tick = tokio::select! {
                answer = &mut answer => {
                    state.tell(self, self.offset, &mut told, progress);
                    return answer;
                }
                tick = ticks.tick() => tick,
            };
            state.tell(self, self.offset, &mut told, progress);
            let limit = if state.is_complete() { patience.commit } else { patience.idle };
            if state.idle_since().is_some_and(|since| tick.into_std().saturating_duration_since(since) > limit) {
                let reason = format!("the registry took nothing for {} s", limit.as_secs_f32());
                return Err(Error::Unreachable { url: ShownUrl::from(&self.url), reason });
            }
        }
    }

    /// Ends the upload.
    async fn finish(&self, body: Bytes, progress: &dyn Progress) -> Result<(), Failure> {
        let url = with_digest(&self.url, &self.blob.digest);
        let request = self
            .request(Method::PUT, url)
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
            .body(body);
        let wait = Some(self.endpoint.shared.patience.commit);
        let once = async || {
            let answer = self.endpoint.attempt(&request, Sending { wait, ..Sending::default() }).await?;
            match answer.status() {
                status if status.is_success() => Ok(()),
                _ => Err(answer.refusal(&Method::PUT).await),
            }
        };
        let told = Told { progress, blob: self.blob };
        match once().await {
            Ok(()) => {}
            // Its answer may have been lost on the way: then the blob is there, and the upload is not.
            Err(error) if error.is_passing() => {
                self.endpoint.pause(1, error, Some(told)).await.map_err(Failure::Target)?;
                if !self.is_stored().await.map_err(Failure::Target)? {
                    once().await.map_err(Failure::Target)?;
                }
            }
            Err(error) => return Err(Failure::Target(error)),
        }
        self.repository.journal.forget(self.repository.origin(), &self.blob.digest);
        Ok(())
    }

    async fn is_stored(&self) -> Result<bool, Error> {
        let below = format!("blobs/{}", self.blob.digest);
        let request = self.repository.inner.request(&self.endpoint, Method::HEAD, &below)?;
        let answer = self.endpoint.send(&request, None).await?;
        Ok(answer.status().is_success())
    }
}

/// How many bytes an upload has, by its `Range: 0-LAST`. `0-0` stands for none as well as for one: none is safe.
fn received(answer: &Answer) -> Result<u64, Error> {
    let Some(text) = answer.header(header::RANGE) else { return Ok(0) };
    let range = text.trim().trim_start_matches("bytes=").split_once('-');
    match range.map(|(first, last)| (first.parse::<u64>(), last.parse::<u64>())) {
        Some((Ok(0), Ok(0))) => Ok(0),
        Some((Ok(0), Ok(last))) => Ok(last.saturating_add(1)),
        _ => Err(answer.protocol(format!("the upload's `Range` is `{}`", crate::shown::shortened(text)))),
    }
}

fn corrupt(error: VerifyError) -> Failure {
    Failure::Source(cove_transfer::Error::new(Side::Source, Kind::Corrupt, error))
}

/// What is known of a body that is going out.
#[derive(Default)]
struct Sent {
    bytes: AtomicU64,
    state: Mutex<SentState>,
}

#[derive(Default)]
struct SentState {
    /// When the last bytes were handed over; `None` while the source is waited for.
    idle_since: Option<Instant>,
    complete: bool,
    error: Option<cove_transfer::Error>,
}

impl Sent {
    fn state(&self) -> std::sync::MutexGuard<'_, SentState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_error(&self) -> Option<cove_transfer::Error> {
        self.state().error.take()
    }

    fn idle_since(&self) -> Option<Instant> {
        self.state().idle_since
    }

    fn is_complete(&self) -> bool {
        self.state().complete
    }

    fn tell(&self, upload: &Upload<'_>, offset: u64, told: &mut u64, progress: &dyn Progress) {
        let done = offset + self.bytes.load(Ordering::Relaxed);
        if done != *told {
            *told = done;
            progress.step(upload.blob, Step::Transferring { done, total: upload.blob.size });
        }
    }
}

/// The bytes of one chunk on their way out.
struct Outgoing {
    content: ByteStream,
    verifier: Option<Arc<Mutex<Verifier>>>,
    /// Offset in the blob of the next byte.
    at: u64,
    end: u64,
    size: u64,
    digest: cove_oci::Digest,
    state: Arc<Sent>,
}

impl Outgoing {
    fn into_stream(self) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
        futures_util::stream::try_unfold(self, async |mut outgoing| {
            if outgoing.at >= outgoing.end {
                return Ok(None);
            }
            outgoing.state.state().idle_since = None;
            match outgoing.next().await {
                Ok(bytes) => {
                    outgoing.state.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    let mut state = outgoing.state.state();
                    state.idle_since = Some(Instant::now());
                    state.complete = outgoing.at >= outgoing.end;
                    drop(state);
                    Ok(Some((bytes, outgoing)))
                }
                Err(error) => {
                    // The connection is broken off with it, so that the registry never sees a wrong ending.
                    outgoing.state.state().error = Some(error);
                    Err(std::io::Error::other("the source failed"))
                }
            }
        })
    }

    async fn next(&mut self) -> Result<Bytes, cove_transfer::Error> {
        let corrupt = |error: VerifyError| cove_transfer::Error::new(Side::Source, Kind::Corrupt, error);
        let Some(bytes) = self.content.next().await else {
            let (digest, expected, found) = (self.digest.clone(), self.size, self.at);
            return Err(corrupt(VerifyError::Size { digest, expected, found }));
        };
        let mut bytes = bytes?;
        if let Some(verifier) = &self.verifier {
            let mut verifier = verifier.lock().unwrap_or_else(PoisonError::into_inner);
            // Bytes that are sent for the second time have been hashed before.
            let behind = usize::try_from(verifier.seen().saturating_sub(self.at)).unwrap_or(usize::MAX);
            let fresh = bytes.get(behind..).unwrap_or_default();
            let fresh = match usize::try_from(self.end - self.at) {
                // What goes out with the next chunk is read again for it.
                Ok(room) if self.end < self.size && behind + fresh.len() > room => {
                    &fresh[..room.saturating_sub(behind)]
                }
                _ => fresh,
            };
            verifier.update(fresh).map_err(corrupt)?;
            if verifier.seen() == self.size {
                verifier.clone().finish().map_err(corrupt)?;
            }
        }
        bytes.truncate(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        self.at += bytes.len() as u64;
        Ok(bytes)
    }
}
