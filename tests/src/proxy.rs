//! A way to a server that is as slow as one likes, and remembers what was asked.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A request that went through a [`Proxy`].
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET`.
    pub method: String,
    /// The path and query.
    pub path: String,
    /// All headers, their names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Asked {
    /// The first byte that a `Range` asks for.
    pub fn range_start(&self) -> Option<u64> {
        self.headers.get("range")?.strip_prefix("bytes=")?.split('-').next()?.parse().ok()
    }

    /// The digest of the blob that the path names.
    pub fn blob(&self) -> Option<&str> {
        let digest = self.path.split_once("/blobs/")?.1;
        digest.starts_with("sha256:").then(|| digest.split('?').next().unwrap_or(digest))
    }
}

/// A plain HTTP/1.1 proxy on a port of 127.0.0.1 in front of one server. Bytes pass as they are.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    to: String,
    /// Bytes per second for all connections together, each way; 0 is as fast as it goes.
    rate: AtomicU64,
    /// When the next byte may pass, down and up.
    next: [Mutex<Instant>; 2],
    passed: [AtomicU64; 2],
    asked: Mutex<Vec<Asked>>,
    over: AtomicBool,
}

const DOWN: usize = 0;
const UP: usize = 1;
const PIECE: usize = 16 * 1024;

impl Proxy {
    /// Starts one in front of `HOST:PORT`.
    pub fn start(to: &str, bytes_per_second: u64) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let now = Instant::now();
        let shared = Arc::new(Shared {
            to: to.to_owned(),
            rate: AtomicU64::new(bytes_per_second),
            next: [Mutex::new(now), Mutex::new(now)],
            passed: Default::default(),
            asked: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.over.load(Ordering::Relaxed) {
                    return;
                }
                let shared = accepting.clone();
                thread::spawn(move || shared.serve(client));
            }
        });
        Self { port, shared }
    }

    /// `HOST:PORT`, as it stands before an image's name.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Lets so many bytes per second through from now on, each way; 0 is as fast as it goes.
    pub fn set_rate(&self, bytes_per_second: u64) {
        self.shared.rate.store(bytes_per_second, Ordering::Relaxed);
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.shared.asked).clone()
    }

    /// What was asked so far, and forgets it.
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut *lock(&self.shared.asked))
    }

    /// Bytes that came down from the server so far.
    pub fn down(&self) -> u64 {
        self.shared.passed[DOWN].load(Ordering::Relaxed)
    }

    /// Bytes that went up to the server so far.
    pub fn up(&self) -> u64 {
        self.shared.passed[UP].load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn serve(&self, client: TcpStream) {
        let Ok(server) = TcpStream::connect(&self.to) else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut from = &server;
                let mut buffer = [0; PIECE];
                while let Ok(count @ 1..) = from.read(&mut buffer) {
                    self.pause(DOWN, count);
                    if (&client).write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                close(&client, &server);
            });
            let _ = self.requests(&client, &server);
            close(&client, &server);
        });
    }

    /// Passes one request after another.
    fn requests(&self, client: &TcpStream, mut server: &TcpStream) -> io::Result<()> {
        let mut client = BufReader::new(client);
        // Who tries TLS first is answered as a server without it answers, and comes again.
        if client.fill_buf()?.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
            let mut socket = *client.get_ref();
            return socket.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                if client.read_until(b'\n', &mut head)? == 0 {
                    return Ok(());
                }
            }
            let asked = read_head(&String::from_utf8_lossy(&head));
            let length = asked.headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            let chunked = asked.headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked");
            lock(&self.asked).push(asked);
            server.write_all(&head)?;
            if !chunked {
                self.pass(&mut client, server, length)?;
                continue;
            }
            loop {
                let mut line = String::new();
                client.read_line(&mut line)?;
                server.write_all(line.as_bytes())?;
                let length = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
                self.pass(&mut client, server, length + 2)?; // the line's end comes after it
                if length == 0 {
                    break;
                }
            }
        }
    }

    fn pass(&self, client: &mut impl Read, mut server: &TcpStream, mut length: u64) -> io::Result<()> {
        let mut buffer = [0; PIECE];
        while length > 0 {
            let most = buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            let count = client.read(&mut buffer[..most])?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.pause(UP, count);
            server.write_all(&buffer[..count])?;
            length -= count as u64;
        }
        Ok(())
    }

    /// Waits until so many bytes may pass.
    fn pause(&self, way: usize, bytes: usize) {
        self.passed[way].fetch_add(bytes as u64, Ordering::Relaxed);
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return;
        }
        let at = {
            let mut next = lock(&self.next[way]);
            let at = (*next).max(Instant::now());
            *next = at + Duration::from_secs_f64(bytes as f64 / rate as f64);
            at
        };
        thread::sleep(at.saturating_duration_since(Instant::now()));
    }
}

fn read_head(head: &str) -> Asked {
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, path) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
    Asked { method, path, headers }
}

fn close(client: &TcpStream, server: &TcpStream) {
    let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
