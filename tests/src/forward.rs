//! A proxy as a network has it between itself and the world: clients are told of it and ask it for everything.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

/// A proxy on a port of 127.0.0.1. It alone knows the names of the network behind it: clients that do not ask it reach
/// nothing.
pub struct ForwardProxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    /// `HOST:PORT` as clients say it, and where that is.
    names: BTreeMap<String, String>,
    login: Option<String>,
    refusal: Mutex<Option<&'static str>>,
    asked: Mutex<Vec<String>>,
    over: AtomicBool,
}

impl ForwardProxy {
    /// A proxy that leads to these names.
    pub fn start(names: &[(&str, &str)]) -> Self {
        Self::with_login(names, None)
    }

    /// The same; if `login` is given as `USER:PASSWORD`, whoever does not have it gets a 407.
    pub fn with_login(names: &[(&str, &str)], login: Option<&str>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let names = names.iter().map(|(name, to)| ((*name).to_owned(), (*to).to_owned())).collect();
        let shared = Arc::new(Shared {
            names,
            login: login.map(|login| format!("Basic {}", BASE64.encode(login))),
            refusal: Mutex::default(),
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
                thread::spawn(move || shared.serve(&client));
            }
        });
        Self { port, shared }
    }

    /// `HOST:PORT` of the proxy.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Answers everything with this status line from now on, such as `502 Bad Gateway`.
    pub fn refuse_with(&self, status: &'static str) {
        *lock(&self.shared.refusal) = Some(status);
    }

    /// What was asked so far and let through: `CONNECT HOST:PORT` or `GET http://…`. Forgets it.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.shared.asked))
    }
}

impl Drop for ForwardProxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn serve(&self, client: &TcpStream) {
        let _ = client.set_nodelay(true);
        let _ = self.one(client);
        let _ = client.shutdown(Shutdown::Both);
    }

    /// One request. What was asked for without a tunnel is asked for on a connection of its own each time.
    fn one(&self, client: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(client);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if reader.read_until(b'\n', &mut head)? == 0 {
                return Ok(());
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.trim_end().split("\r\n");
        let first = lines.next().unwrap_or_default();
        let [method, target, _] = first.split(' ').collect::<Vec<_>>()[..] else {
            return answer(client, "400 Bad Request", "");
        };
        let headers: Vec<&str> = lines.collect();
        let value = |wanted: &str| {
            let pairs = headers.iter().filter_map(|line| line.split_once(": "));
            pairs.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
        };
        if self.login.is_some() && value("proxy-authorization") != self.login.as_deref() {
            return answer(client, "407 Proxy Authentication Required", "Proxy-Authenticate: Basic realm=\"net\"\r\n");
        }
        if let Some(status) = *lock(&self.refusal) {
            return answer(client, status, "");
        }
        let tunnel = method == "CONNECT";
        let without_scheme = target.strip_prefix("http://").unwrap_or(target);
        let (host, path) = without_scheme.split_at(without_scheme.find('/').unwrap_or(without_scheme.len()));
        let Some(to) = self.names.get(host) else { return answer(client, "502 Bad Gateway", "") };
        if !tunnel && !target.starts_with("http://") {
            return answer(client, "400 Bad Request", "");
        }
        lock(&self.asked).push(format!("{method} {target}"));
        let Ok(server) = TcpStream::connect(to) else { return answer(client, "502 Bad Gateway", "") };
        let _ = server.set_nodelay(true);
        if tunnel {
            (&mut &*client).write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        } else {
            let kept = headers.iter().filter(|line| {
                let name = line.split(':').next().unwrap_or_default().to_lowercase();
                !name.starts_with("proxy-") && name != "connection"
            });
            let kept: String = kept.map(|line| format!("{line}\r\n")).collect();
            (&server).write_all(format!("{method} {path} HTTP/1.1\r\n{kept}Connection: close\r\n\r\n").as_bytes())?;
        }
        thread::scope(|scope| {
            scope.spawn(|| {
                let _ = io::copy(&mut &server, &mut &*client);
                let _ = client.shutdown(Shutdown::Both);
            });
            pass(&mut reader, &server);
            let _ = server.shutdown(if tunnel { Shutdown::Both } else { Shutdown::Write });
        });
        Ok(())
    }
}

fn pass(from: &mut impl Read, mut to: &TcpStream) {
    let _ = io::copy(from, &mut to);
}

fn answer(mut client: &TcpStream, status: &str, headers: &str) -> io::Result<()> {
    client.write_all(format!("HTTP/1.1 {status}\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n").as_bytes())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
