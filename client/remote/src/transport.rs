//! HTTP clients: one for every way of connecting. None follows redirects, unpacks bodies or limits a whole transfer.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, Identity};
use url::Url;

use crate::address::Reach;
use crate::error::ProxyProblem;
use crate::proxies::{Proxies, Proxy};
use crate::{Error, Patience, ShownUrl};

/// How to connect. Connections are shared by whatever connects in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Way {
    /// Certificate authorities besides the system's.
    pub(crate) ca: Vec<PathBuf>,
    pub(crate) client_certificate: Option<(PathBuf, Option<PathBuf>)>,
    /// Certificates are not checked.
    pub(crate) insecure: bool,
    /// Names may only resolve to where somebody at this distance may lead. `None`: to anything.
    pub(crate) led_from: Option<Reach>,
    /// Through this proxy.
    pub(crate) proxy: Option<Proxy>,
    /// HTTP/1.1 only, so that several requests get several connections.
    pub(crate) separate: bool,
}

/// All HTTP clients.
pub(crate) struct Transports {
    user_agent: String,
    patience: Patience,
    proxies: Proxies,
    made: Mutex<HashMap<Way, reqwest::Client>>,
}

impl Transports {
    pub(crate) fn new(user_agent: &str, patience: Patience, proxies: Proxies) -> Self {
        Transports { user_agent: user_agent.to_owned(), patience, proxies, made: Mutex::default() }
    }

    /// The proxy through which a URL is reached.
    pub(crate) fn proxy_for(&self, url: &Url) -> Option<Proxy> {
        self.proxies.proxy_for(url)
    }

    /// The client that connects in this way.
    pub(crate) fn get(&self, way: &Way) -> Result<reqwest::Client, Error> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = made.get(way) {
            return Ok(client.clone());
        }
        let client = self.make(way)?;
        made.insert(way.clone(), client.clone());
        Ok(client)
    }

    fn make(&self, way: &Way) -> Result<reqwest::Client, Error> {
        let mut builder = reqwest::Client::builder()
            .user_agent(&self.user_agent)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .connect_timeout(self.patience.connect)
            .tcp_nodelay(true)
            // The environment's proxies are chosen here, not by the library, whose rules are not docker's.
            .no_proxy()
            .http2_adaptive_window(true)
            .tls_danger_accept_invalid_certs(way.insecure);
        for path in &way.ca {
            let pem = fs_err::read(path)?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(path, &error))?;
            builder = builder.tls_certs_merge(certificates);
        }
        if let Some((certificate, key)) = &way.client_certificate {
            let mut pem = fs_err::read(certificate)?;
            if let Some(key) = key {
                pem.push(b'\n');
                pem.extend(fs_err::read(key)?);
            }
            builder = builder.identity(Identity::from_pem(&pem).map_err(|error| unusable(certificate, &error))?);
        }
        if let Some(from) = way.led_from {
            let proxy = way.proxy.as_ref().and_then(|proxy| Some(proxy.url()?.host_str()?.to_owned()));
            builder = builder.dns_resolver(Arc::new(CarefulResolver { from, proxy }));
        }
        if let Some(proxy) = &way.proxy {
            let url = proxy.url().ok_or(Error::ProxyVariable(proxy.variable()))?;
            // The library's message might show the value, and with it a password.
            let through = reqwest::Proxy::all(url.clone()).map_err(|_| Error::ProxyVariable(proxy.variable()))?;
            builder = builder.proxy(through);
        }
        if way.separate {
            builder = builder.http1_only();
        }
        builder.build().map_err(|error| Error::Setup(chain(&error)))
    }
}

fn unusable(path: &Path, error: &reqwest::Error) -> Error {
    Error::Certificate { path: path.to_owned(), reason: chain(error) }
}

/// Resolves names, and refuses those of places to which nobody may be led. What was checked is what is connected to.
struct CarefulResolver {
    from: Reach,
    /// The proxy is chosen by the user, not by the registry.
    proxy: Option<String>,
}

impl Resolve for CarefulResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        let (from, is_proxy) = (self.from, self.proxy.as_ref() == Some(&name));
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let forbidden = addresses.iter().map(|a| Reach::of(a.ip())).find(|reach| !from.may_lead_to(*reach));
            match forbidden {
                Some(reach) if !is_proxy => {
                    Err(format!("`{name}` leads to {}, where a registry may not send anybody", reach.describe()).into())
                }
                _ => Ok(Box::new(addresses.into_iter()) as Addrs),
            }
        })
    }
}

/// What a failed connection or transfer is called.
pub(crate) fn failure(url: &Url, proxy: Option<&Proxy>, error: reqwest::Error) -> Error {
    let is_connect = error.is_connect();
    let error = error.without_url();
    let reason = chain(&error);
    let is_about_trust = is_about_trust(&error, is_connect);
    if let Some(proxy) = proxy.filter(|_| is_connect)
        && let Some(problem) = proxy_problem(url, &reason, is_about_trust)
    {
        return Error::through(proxy, url, problem);
    }
    let url = ShownUrl::from(url);
    match is_about_trust {
        true if speaks_no_tls(&error) => Error::NotTls { url },
        true if wants_certificate(&error) => Error::ClientCertificate { url, reason },
        true => Error::Untrusted { url, reason },
        false => Error::Unreachable { url, reason },
    }
}

/// Whether what came in place of TLS is something else, in all likelihood plain http.
fn speaks_no_tls(error: &(dyn StdError + 'static)) -> bool {
    matches!(tls_error(error), Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)))
}

/// Whether a proxy, and not what is behind it, has failed. hyper-util has its tunnel's failures in a type that it does
/// not show; their texts are all there is.
fn proxy_problem(url: &Url, reason: &str, is_about_trust: bool) -> Option<ProxyProblem> {
    if reason.contains(PROXY_LOGIN) {
        return Some(ProxyProblem::Login);
    }
    // Without a tunnel all that is connected to is the proxy.
    let is_proxy = url.scheme() == "http" || reason.contains("failed to create underlying connection");
    match () {
        () if is_about_trust => None,
        () if is_proxy || reason.contains("socks") => Some(ProxyProblem::Unreachable(reason.to_owned())),
        () if reason.contains("tunnel error") => Some(ProxyProblem::NoTunnel),
        () => None,
    }
}

/// Whether TLS failed in a way that will not pass: a certificate that is not trusted, or two sides that speak different
/// languages. A record that was damaged on its way, or a server that gave up, may be another one the next time.
fn is_about_trust(error: &(dyn StdError + 'static), while_connecting: bool) -> bool {
    use rustls::{AlertDescription as Alert, Error as Tls};
    match tls_error(error) {
        Some(
            Tls::InvalidCertificate(_)
            | Tls::InvalidCertRevocationList(_)
            | Tls::NoCertificatesPresented
            | Tls::PeerIncompatible(_)
            | Tls::UnsupportedNameType
            | Tls::NoApplicationProtocol,
        ) => true,
        // Refused with the client's certificate, or for what it can speak: with TLS 1.3 after the handshake too.
        Some(Tls::AlertReceived(alert)) => matches!(
            alert,
            Alert::HandshakeFailure
                | Alert::NoCertificate
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::ProtocolVersion
                | Alert::InsufficientSecurity
                | Alert::UnrecognisedName
                | Alert::CertificateRequired
                | Alert::NoApplicationProtocol
        ),
        // What is no TLS at all from the first byte on.
        Some(Tls::InvalidMessage(_) | Tls::InappropriateMessage { .. } | Tls::InappropriateHandshakeMessage { .. }) => {
            while_connecting
        }
        _ => false,
    }
}

/// hyper-util's words for an answer 407 to `CONNECT`.
const PROXY_LOGIN: &str = "proxy authorization required";

/// Whether a proxy wants to know who asks.
pub(crate) fn is_about_proxy_login(error: &(dyn StdError + 'static)) -> bool {
    chain(error).contains(PROXY_LOGIN)
}

/// An answer that came, unless it is the proxy's own: it wants to know who asks.
pub(crate) fn not_the_proxys(
    response: reqwest::Response,
    url: &Url,
    proxy: Option<&Proxy>,
) -> Result<reqwest::Response, Error> {
    match proxy {
        Some(proxy) if response.status() == http::StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            Err(Error::through(proxy, url, ProxyProblem::Login))
        }
        _ => Ok(response),
    }
}

/// Whether a server has refused the client's certificate, or that there is none.
fn wants_certificate(error: &(dyn StdError + 'static)) -> bool {
    use rustls::AlertDescription::{
        AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked, CertificateUnknown,
        DecryptError, UnknownCA, UnsupportedCertificate,
    };
    tls_error(error).is_some_and(|error| {
        matches!(
            error,
            rustls::Error::AlertReceived(
                AccessDenied
                    | BadCertificate
                    | CertificateExpired
                    | CertificateRequired
                    | CertificateRevoked
                    | CertificateUnknown
                    | DecryptError
                    | UnknownCA
                    | UnsupportedCertificate
            )
        )
    })
}

/// The failure of TLS among an error and its causes: one that will not pass.
fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // What is wrapped in an I/O error is not its source but its inside, and may be wrapped again.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// Whether a server did speak TLS, with certificates that are not trusted.
pub(crate) fn is_about_certificates(error: &(dyn StdError + 'static)) -> bool {
    tls_error(error).is_some_and(|error| matches!(error, rustls::Error::InvalidCertificate(_)))
}

/// An error and its causes in one line, each said once.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stays_wrong_is_final() {
        use rustls::{AlertDescription, CertificateError, Error as Tls, InvalidMessage};
        let is_final = |error: Tls, connecting| is_about_trust(&std::io::Error::other(error), connecting);
        assert!(is_final(Tls::InvalidCertificate(CertificateError::UnknownIssuer), true));
        assert!(is_final(Tls::AlertReceived(AlertDescription::CertificateRequired), false));
        assert!(is_final(Tls::InvalidMessage(InvalidMessage::InvalidContentType), true));
        assert!(!is_final(Tls::InvalidMessage(InvalidMessage::InvalidContentType), false));
        assert!(!is_final(Tls::DecryptError, false));
        assert!(!is_final(Tls::AlertReceived(AlertDescription::InternalError), true));
        assert!(!is_about_trust(&std::io::Error::other("reset"), true));
    }

    #[tokio::test]
    async fn names_are_checked_when_they_are_connected_to() {
        let resolve = async |from, proxy: Option<&str>| {
            let proxy = proxy.map(str::to_owned);
            CarefulResolver { from, proxy }.resolve("localhost".parse().unwrap()).await.is_ok()
        };
        assert!(!resolve(Reach::Public, None).await);
        assert!(!resolve(Reach::Private, None).await);
        assert!(resolve(Reach::Loopback, None).await);
        assert!(resolve(Reach::Public, Some("localhost")).await);
    }
}
