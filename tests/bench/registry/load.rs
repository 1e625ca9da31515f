//! The load generator: keep-alive HTTP/1.1 connections over plain tokio, on one thread.
//!
//! It must not be the limit of what it measures. Requests are bytes made beforehand, of an answer only the
//! status, the length and the `Location` are read, and bodies are read into one buffer and forgotten.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// Large enough that a big body costs few calls, small enough to stay in the CPU's cache.
const BUFFER: usize = 512 * 1024;

/// One keep-alive connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What is looked at of an answer.
pub struct Answer {
    pub status: u16,
    /// Bytes of the body.
    pub length: usize,
    /// The path and query of `Location`.
    pub location: Option<String>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connect to a server that is ready");
        stream.set_nodelay(true).expect("set an option of a socket");
        Self { stream, buffer: vec![0; BUFFER] }
    }

    /// Sends a request whose bytes come in `parts`, and reads the answer to its end.
    pub async fn exchange(&mut self, parts: &[&[u8]]) -> Answer {
        for part in parts {
            self.stream.write_all(part).await.expect("send a request");
        }
        let mut filled = 0;
        let head = loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await.expect("read an answer");
            assert!(read > 0, "the server closed a connection: {}", String::from_utf8_lossy(&self.buffer[..filled]));
            let searched = filled.saturating_sub(3);
            filled += read;
            if let Some(end) = self.buffer[searched..filled].windows(4).position(|four| four == b"\r\n\r\n") {
                break searched + end + 4;
            }
        };
        let answer = read_head(&self.buffer[..head]);
        let mut missing = (head + answer.length).checked_sub(filled).expect("no bytes behind the answer");
        while missing > 0 {
            let end = missing.min(BUFFER);
            let read = self.stream.read(&mut self.buffer[..end]).await.expect("read a body");
            assert!(read > 0, "the server closed a connection in the middle of a body");
            missing -= read;
        }
        answer
    }

    /// An exchange that must end with `status`.
    pub async fn expect(&mut self, status: u16, parts: &[&[u8]]) -> Answer {
        let answer = self.exchange(parts).await;
        if answer.status != status {
            let request = String::from_utf8_lossy(parts[0]);
            let body = String::from_utf8_lossy(&self.buffer[..2000.min(BUFFER)]);
            panic!("{} instead of {status} for\n{request}\n{body}", answer.status);
        }
        answer
    }
}

fn read_head(head: &[u8]) -> Answer {
    let digits = head.get(9..12).expect("a status line");
    let status = digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    let (mut length, mut location) = (0, None);
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        // Most lines are neither of the two, which their first letter tells.
        let value = |name: &str| {
            let (found, value) = line.split_at_checked(name.len())?;
            found.eq_ignore_ascii_case(name.as_bytes()).then(|| std::str::from_utf8(value).expect("ASCII").trim())
        };
        match line.first() {
            Some(b'C' | b'c') => {
                if let Some(value) = value("content-length:") {
                    length = value.parse().expect("a number");
                }
            }
            Some(b'L' | b'l') => {
                if let Some(value) = value("location:") {
                    let path = value.find("://").map_or(value, |scheme| {
                        let rest = &value[scheme + 3..];
                        rest.find('/').map_or("/", |slash| &rest[slash..])
                    });
                    location = Some(path.to_owned());
                }
            }
            Some(b'T' | b't') => assert!(value("transfer-encoding:").is_none(), "an answer in chunks is not read"),
            _ => {}
        }
    }
    Answer { status, length, location }
}

/// How often something was done.
pub struct Done {
    pub times: u64,
    pub took: Duration,
}

impl Done {
    pub fn per_second(&self) -> f64 {
        self.times as f64 / self.took.as_secs_f64()
    }
}

/// Does `work` again and again on `connections` connections for `time`, each on its own. Work that has begun is
/// ended, and counts with the time that it took.
pub fn repeat<W: Work + 'static>(address: SocketAddr, connections: usize, time: Duration, work: W) -> Done {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    let work = Rc::new(work);
    LocalSet::new().block_on(&runtime, async {
        let mut open = Vec::new();
        for _ in 0..connections {
            open.push(Connection::open(address).await);
        }
        let start = Instant::now();
        let until = start + time;
        let workers: Vec<_> = open
            .into_iter()
            .map(|mut connection| {
                let work = work.clone();
                tokio::task::spawn_local(async move {
                    let mut times = 0;
                    while Instant::now() < until {
                        work.once(&mut connection).await;
                        times += 1;
                    }
                    (times, start.elapsed())
                })
            })
            .collect();
        let mut done = Done { times: 0, took: Duration::ZERO };
        for worker in workers {
            let (times, took) = worker.await.expect("a worker ends well");
            done.times += times;
            done.took = done.took.max(took);
        }
        done
    })
}

/// Something that can be done any number of times.
#[allow(async_fn_in_trait, reason = "on one thread nothing has to be Send")]
pub trait Work {
    async fn once(&self, connection: &mut Connection);
}
