//! Several ranges of one blob at once, where that is faster than one connection: a single stream is often held back
//! by what a server or the way to it gives to each. Begins with one, doubles while the total rises, and goes back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cove_oci::Descriptor;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use crate::download::{Opened, WINDOW, open_range};
use crate::endpoint::{Endpoint, Sending};
use crate::{Error, Repository};

/// Bytes of one piece.
const PIECE: u64 = 4 * 1024 * 1024;
/// Pieces in memory at once, over all blobs of a client.
pub(crate) const PIECES_AT_ONCE: usize = 10;
/// Most connections for one blob.
const WIDTH_LIMIT: usize = 4;
/// Below this rest nothing is begun.
const WORTH: u64 = 32 * 1024 * 1024;
/// How much faster more connections must be to be kept.
const MARGIN: f64 = 1.25;

/// Ranges that are being fetched, in the blob's order.
pub(crate) struct Pieces {
    repository: Repository,
    endpoint: Arc<Endpoint>,
    blob: Descriptor,
    /// Where the first one began.
    start: u64,
    /// Where the next one begins.
    next: u64,
    width: usize,
    running: VecDeque<Task>,
}

/// A task that ends with whoever waits for it.
struct Task(JoinHandle<Result<Piece, Error>>);

/// A piece in memory, with its place there.
pub(crate) struct Piece {
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) memory: OwnedSemaphorePermit,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Pieces {
    /// Begins behind what the open connection will give meanwhile; `None` if nothing is free for it.
    pub(crate) fn begin(
        repository: &Repository,
        endpoint: &Arc<Endpoint>,
        blob: &Descriptor,
        at: u64,
    ) -> Option<Pieces> {
        let start = at + PIECE;
        let mut pieces = Pieces {
            repository: repository.clone(),
            endpoint: endpoint.clone(),
            blob: blob.clone(),
            start,
            next: start,
            width: 2,
            running: VecDeque::new(),
        };
        // The open connection is one of the two.
        pieces.fill(1);
        (!pieces.running.is_empty()).then_some(pieces)
    }

    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn set_width(&mut self, width: usize) {
        self.width = width;
    }

    /// The next piece; `None` when there is none.
    pub(crate) async fn next(&mut self) -> Result<Option<Piece>, Error> {
        self.fill(self.width);
        let Some(mut task) = self.running.pop_front() else { return Ok(None) };
        // One more than are awaited: the connection that has just become free works on.
        let taken = (&mut task.0).await;
        self.fill(self.width);
        match taken {
            Ok(piece) => piece.map(Some),
            Err(error) => Err(Error::Setup(error.to_string())),
        }
    }

    fn fill(&mut self, width: usize) {
        while self.running.len() < width && self.next < self.blob.size {
            // Neither memory nor the host's limit are waited for: one connection always works.
            let Ok(memory) = self.repository_pieces().try_acquire_owned() else { return };
            let Some(turn) = self.endpoint.free_place_to_read() else { return };
            let (first, end) = (self.next, (self.next + PIECE).min(self.blob.size));
            let (repository, endpoint, blob) = (self.repository.clone(), self.endpoint.clone(), self.blob.clone());
            let fetch = async move { fetch(&repository, &endpoint, &blob, first, end, turn, memory).await };
            self.running.push_back(Task(tokio::spawn(fetch)));
            self.next = end;
        }
    }

    fn repository_pieces(&self) -> Arc<tokio::sync::Semaphore> {
        self.endpoint.shared.pieces.clone()
    }
}

/// Fetches one piece. A failure is final: the single connection that goes on knows how to try again.
async fn fetch(
    repository: &Repository,
    endpoint: &Endpoint,
    blob: &Descriptor,
    first: u64,
    end: u64,
    turn: OwnedSemaphorePermit,
    memory: OwnedSemaphorePermit,
) -> Result<Piece, Error> {
    drop(turn); // it is taken again by the request; it was free a moment ago
    let sending = Sending { separate: true, ..Sending::default() };
    let Opened { mut answer, skip } = open_range(repository, endpoint, blob, first, Some(end), sending).await?;
    if skip > 0 {
        return Err(answer.protocol("it gives the whole blob in place of a range"));
    }
    let (mut chunks, mut length) = (Vec::new(), 0);
    while let Some(chunk) = answer.chunk().await? {
        length += chunk.len() as u64;
        // At once, for what is read on is kept in memory.
        if length > end - first {
            return Err(answer.protocol(format!("a range of {} bytes has more than that", end - first)));
        }
        chunks.push(chunk);
    }
    match length == end - first {
        true => Ok(Piece { chunks, memory }),
        false => Err(answer.protocol(format!("a range of {} bytes has {length}", end - first))),
    }
}

/// Measures how fast a blob comes, and whether more connections are better.
pub(crate) struct Pace {
    began: Instant,
    moved: u64,
    waited: Duration,
    /// The rate of the last window with fewer connections, in bytes per second.
    before: Option<f64>,
    /// Nothing is tried any more.
    settled: bool,
    /// Windows with the present number of connections: the first one is not judged, its pieces were begun before it.
    windows: u32,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Pace { began: Instant::now(), moved: 0, waited: Duration::ZERO, before: None, settled: false, windows: 0 }
    }

    pub(crate) fn moved(&mut self, bytes: u64) {
        self.moved += bytes;
    }

    pub(crate) fn waited(&mut self, time: Duration) {
        self.waited += time;
    }

    /// Tries nothing any more.
    pub(crate) fn settle(&mut self) {
        self.settled = true;
    }

    /// The rate of a window that has just ended, and how much of it was spent waiting for the network.
    fn window(&mut self) -> Option<(f64, f64)> {
        let elapsed = self.began.elapsed();
        if elapsed < WINDOW {
            return None;
        }
        let seconds = elapsed.as_secs_f64();
        let window = (self.moved as f64 / seconds, self.waited.as_secs_f64() / seconds);
        (self.began, self.moved, self.waited) = (Instant::now(), 0, Duration::ZERO);
        Some(window)
    }

    /// Whether a second connection is worth a try: much is left, and it is the network that is waited for.
    pub(crate) fn wants_pieces(&mut self, remaining: u64) -> bool {
        if self.settled || remaining < WORTH {
            return false;
        }
        let Some((rate, waiting)) = self.window() else { return false };
        let wanted = waiting > 0.5 && remaining as f64 / rate.max(1.0) > 2.0;
        if wanted {
            self.before = Some(rate);
            self.windows = 0;
        }
        wanted
    }

    /// How many connections shall go on; `None`: one.
    pub(crate) fn judge(&mut self, width: usize) -> Option<usize> {
        if self.settled {
            return Some(width);
        }
        let Some((rate, _)) = self.window() else { return Some(width) };
        self.windows += 1;
        if self.windows < 2 {
            return Some(width);
        }
        let before = self.before.unwrap_or(rate);
        tracing::debug!(width, rate, before, "parallel ranges measured");
        match rate > before * MARGIN {
            true if width < WIDTH_LIMIT => {
                (self.before, self.windows) = (Some(rate), 0);
                Some(width * 2)
            }
            true => {
                self.settled = true;
                Some(width)
            }
            false => {
                self.settled = true;
                // The last doubling was one too many.
                (width > 2).then_some(width / 2)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use cove_oci::{Algorithm, Digest, Reference};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::registries::{Access, ConfigPaths, Registries};
    use crate::{Client, NoCredentials};

    /// A server that answers every range with so many bytes of ten, or without end.
    fn giving(length: Option<usize>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let Ok(mut connection) = connection else { return };
                let mut request = [0; 4096];
                let read = connection.read(&mut request).unwrap_or(0);
                // A client that asks for TLS is sent away, and comes back without.
                if !request[..read].starts_with(b"GET") {
                    continue;
                }
                let head = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/100\r\nConnection: close\r\n\r\n";
                let _ = connection.write_all(head.as_bytes());
                match length {
                    Some(length) => drop(connection.write_all(&vec![0; length])),
                    None => while connection.write_all(&[0; 65536]).is_ok() {},
                }
            }
        });
        port
    }

    #[tokio::test]
    async fn a_range_that_is_longer_than_it_says_is_not_kept() {
        for (length, is_right) in [(Some(10), true), (Some(9), false), (Some(11), false), (None, false)] {
            let registries = Registries::load(&ConfigPaths::default()).unwrap();
            let client = Client::new(registries, Arc::new(NoCredentials), "cove/test").unwrap();
            let reference: Reference = format!("127.0.0.1:{}/app", giving(length)).parse().unwrap();
            let repository = client.repository(&reference, Access::Pull);
            let endpoint = repository.home().await.unwrap();
            let blob = Descriptor::new("application/octet-stream", Digest::of(Algorithm::Sha256, b""), 100);
            let places = Arc::new(Semaphore::new(1));
            let place = || places.clone().try_acquire_owned().unwrap();
            let turn = endpoint.free_place_to_read().unwrap();
            let fetched = fetch(&repository, &endpoint, &blob, 0, 10, turn, place());
            let fetched = tokio::time::timeout(Duration::from_secs(5), fetched).await.expect("it ends");
            assert_eq!(fetched.is_ok(), is_right, "{length:?}");
            // The place in memory is taken for as long as the bytes are there.
            assert_eq!(places.available_permits(), usize::from(!is_right));
            drop(fetched);
            assert_eq!(places.available_permits(), 1);
        }
    }
}
