//! Accepting connections: HTTP/1 and HTTP/2, with or without TLS, until told to stop.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::call::Peer;

/// How long a client may take to send a request's headers, or to shake hands.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Headers of one HTTP/2 request, in bytes; those of HTTP/1 must fit into its read buffer.
const HEADER_LIMIT: usize = 64 * 1024;
/// After the last byte of an answer, this long and this many bytes of what the client still sends are read off,
/// so that the answer is not lost to a reset connection.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 64 * 1024 * 1024;

/// Certificate and key, read again when the files change.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tls({})", self.certificate.display())
    }
}

impl Tls {
    /// Reads the files.
    pub fn open(certificate: &Path, key: &Path) -> io::Result<Arc<Self>> {
        let current = RwLock::new(load(certificate, key)?);
        Ok(Arc::new(Tls { certificate: certificate.to_owned(), key: key.to_owned(), current }))
    }

    fn acceptor(self: &Arc<Self>) -> TlsAcceptor {
        let mut config = rustls::ServerConfig::builder().with_no_client_auth().with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// Reads the files again when they have changed; keeps what it has when they do not fit together.
    async fn watch(self: Arc<Self>) {
        let changed = || [&self.certificate, &self.key].map(|path| modified(path));
        let mut seen = changed();
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let now = changed();
            if now == seen {
                continue;
            }
            match load(&self.certificate, &self.key) {
                Ok(loaded) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
                    tracing::info!(certificate = %self.certificate.display(), "certificate reloaded");
                    seen = now;
                }
                // Perhaps only one of the two files is new yet: look again.
                Err(error) => tracing::warn!(%error, "the new certificate cannot be used; the old one stays"),
            }
        }
    }
}

impl ResolvesServerCert for Tls {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn load(certificate: &Path, key: &Path) -> io::Result<Arc<CertifiedKey>> {
    let invalid = |path: &Path, error: &dyn std::fmt::Display| {
        let problem = format!("`{}` cannot be used: {error}; it must be PEM", path.display());
        io::Error::new(io::ErrorKind::InvalidData, problem)
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&fs_err::read(certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(certificate, &error))?;
    if chain.is_empty() {
        return Err(invalid(certificate, &"it holds no certificate"));
    }
    let private = PrivateKeyDer::from_pem_slice(&fs_err::read(key)?).map_err(|error| invalid(key, &error))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let loaded = CertifiedKey::from_der(chain, private, &provider).map_err(|error| invalid(key, &error))?;
    Ok(Arc::new(loaded))
}

/// Serves until `stop` becomes true; then accepts no more connections, lets running requests finish for `limit`
/// at most, and returns the time at which that limit is over.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<Tls>>,
    idle: Duration,
    mut stop: watch::Receiver<bool>,
    limit: Duration,
) -> Instant {
    let graceful = GracefulShutdown::new();
    let acceptor = tls.as_ref().map(Tls::acceptor);
    if let Some(tls) = tls {
        tokio::spawn(tls.watch());
    }
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: others must end before there is room for new ones.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        stream.set_nodelay(true).ok(); // a connection that is gone already is noticed when it is read
        let stream = Patient::new(stream, idle);
        let watcher = graceful.watcher();
        let router = router.clone();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            match acceptor {
                None => converse(stream, address, false, router, watcher).await,
                Some(acceptor) => match tokio::time::timeout(HEADER_TIMEOUT, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => converse(stream, address, true, router, watcher).await,
                    Ok(Err(error)) => tracing::debug!(%error, %address, "TLS handshake failed"),
                    Err(_) => tracing::debug!(%address, "TLS handshake took too long"),
                },
            }
        });
    }
    drop(listener);
    let deadline = Instant::now() + limit;
    tracing::info!("stopping: running requests may finish");
    if tokio::time::timeout_at(deadline, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests were still running and are cut off");
    }
    deadline
}

async fn converse<S>(
    stream: S,
    address: SocketAddr,
    tls: bool,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let spoken = Arc::new(AtomicBool::new(false));
    let speaks = spoken.clone();
    let service = router.map_request(move |mut request: Request<Incoming>| {
        speaks.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(Peer { address, tls });
        request.map(axum::body::Body::new)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(512 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_concurrent_streams(256)
        .max_header_list_size(HEADER_LIMIT as u32)
        .adaptive_window(true);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(watcher.watch(connection.into_owned()));
    // hyper's own time-out begins when it knows which version of HTTP is spoken, so not with a silent client.
    let ended = match tokio::time::timeout(HEADER_TIMEOUT, &mut connection).await {
        Ok(ended) => ended,
        Err(_) if spoken.load(Ordering::Relaxed) => connection.await,
        Err(_) => return tracing::debug!(%address, "no request came in time"),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %address, "connection ended");
    }
}

/// A connection that gives up on a client which does not take its answer, and that reads off what a client
/// still sends while the connection closes.
struct Patient {
    stream: TcpStream,
    idle: Duration,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Runs while the connection closes.
    closing: Option<Pin<Box<Sleep>>>,
    read_off: usize,
}

impl Patient {
    fn new(stream: TcpStream, idle: Duration) -> Self {
        Patient { stream, idle, stalled: None, closing: None, read_off: 0 }
    }

    /// Turns a write that has waited for too long into an error.
    fn limit<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let idle = self.idle;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + idle)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.limit(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.limit(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            self.closing = Some(Box::pin(tokio::time::sleep(LINGER)));
        }
        let mut space = [0; 16 * 1024];
        loop {
            if self.closing.as_mut().is_some_and(|closing| closing.as_mut().poll(context).is_ready()) {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut space);
            match ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)) {
                Ok(()) if buffer.filled().is_empty() => return Poll::Ready(Ok(())),
                Ok(()) => self.read_off += buffer.filled().len(),
                Err(_) => return Poll::Ready(Ok(())), // the client has gone: nothing to linger for
            }
            if self.read_off > LINGER_BYTES {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
