//! What can go wrong with a registry, in words that say what to do next.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cove_oci::{ManifestError, RegistryName, VerifyError};
use cove_transfer::{Kind, Side};
use http::{Method, StatusCode};
use url::Url;

use crate::challenge::ChallengeError;
use crate::credentials::{CredentialError, TokenService};
use crate::proxies::Proxy;
use crate::registries::RegistriesError;
use crate::shown::ShownUrl;

/// A registry's answer that is an error: distribution specification, "Error Codes".
#[derive(Debug)]
pub struct Refusal {
    /// What was asked.
    pub method: Method,
    /// Where.
    pub url: ShownUrl,
    /// The answer's status.
    pub status: StatusCode,
    /// The code of the first error in the body, such as `DENIED`.
    pub code: Option<String>,
    /// Its message, or the text of a body that is none of the specification's.
    pub message: Option<String>,
    /// The proxy through which it came, where that can have answered in the registry's place.
    pub proxy: Option<String>,
    /// When the server wants to be asked again.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// What somebody can do about it.
    fn advice(&self) -> String {
        match (self.kind(), self.code.as_deref()) {
            (_, Some("MANIFEST_BLOB_UNKNOWN")) => "push again: the registry has lost a layer".to_owned(),
            (Kind::Unauthorized, _) => "log in with `cove login`".to_owned(),
            (Kind::Denied, _) => "ask the owner of the repository for access, or log in as somebody else".to_owned(),
            (Kind::NotFound, _) => "check the name, and whether a login is needed to see it".to_owned(),
            (Kind::RateLimited, _) => match self.retry_after {
                Some(after) => format!("try again in {} s, or log in for a higher limit", after.as_secs()),
                None => "try again later, or log in for a higher limit".to_owned(),
            },
            (_, Some("UNSUPPORTED")) => "the registry does not offer this".to_owned(),
            _ if self.status == StatusCode::PAYLOAD_TOO_LARGE => {
                "raise the limit of the proxy before the registry".to_owned()
            }
            _ if self.status.is_server_error() && self.proxy.is_some() => format!(
                "the proxy `{}` or the registry behind it has failed: their logs say more",
                self.proxy.as_deref().unwrap_or_default()
            ),
            _ if self.wants_certificate() => format!("the registry wants a client certificate: {SHOW_CERTIFICATE}"),
            _ if self.status.is_server_error() => "try again later; the registry's log says more".to_owned(),
            _ => "the registry's log says more".to_owned(),
        }
    }

    /// nginx asks for certificates, and lets everybody in far enough to be told.
    fn wants_certificate(&self) -> bool {
        let said = self.message.as_deref().unwrap_or_default();
        self.status == StatusCode::BAD_REQUEST && said.contains("SSL certificate")
    }

    fn kind(&self) -> Kind {
        match self.status {
            StatusCode::UNAUTHORIZED => Kind::Unauthorized,
            StatusCode::FORBIDDEN => Kind::Denied,
            StatusCode::NOT_FOUND => Kind::NotFound,
            StatusCode::TOO_MANY_REQUESTS => Kind::RateLimited,
            StatusCode::INSUFFICIENT_STORAGE => Kind::NoSpace,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                Kind::Unreachable
            }
            _ => match self.code.as_deref() {
                Some("UNAUTHORIZED") => Kind::Unauthorized,
                Some("DENIED") => Kind::Denied,
                Some("TOOMANYREQUESTS") => Kind::RateLimited,
                Some("UNSUPPORTED") => Kind::Unsupported,
                _ => Kind::Other,
            },
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} `{}`: {}", self.method, self.url, self.status.as_u16())?;
        if let Some(reason) = self.status.canonical_reason() {
            write!(f, " {}", reason.to_ascii_lowercase())?;
        }
        match (&self.code, &self.message) {
            (Some(code), Some(message)) => write!(f, " ({code}: {message})")?,
            (Some(text), None) | (None, Some(text)) => write!(f, " ({text})")?,
            (None, None) => {}
        }
        write!(f, "; {}", self.advice())
    }
}

/// Why something that a registry was asked for could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry answered with an error.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// Nobody is logged in, or the credentials are not good for this.
    #[error("`{url}`: {}; log in with `cove login {registry}`", unauthorized(*.known))]
    Unauthorized {
        /// What was asked.
        url: ShownUrl,
        /// The registry.
        registry: RegistryName,
        /// Whether credentials were at hand and sent.
        known: bool,
    },
    /// User name and password are wrong, or an identity token is no longer valid.
    #[error("`{url}` refused the credentials for `{registry}`: {reason}; log in again with `cove login {registry}`")]
    Login {
        /// Who was asked.
        url: ShownUrl,
        /// The registry.
        registry: RegistryName,
        /// What the server said.
        reason: String,
    },
    /// There is no credential helper, or it failed.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// No connection, no name, a time-out.
    #[error("`{url}` cannot be reached: {reason}; check the name, the network and proxies")]
    Unreachable {
        /// What was asked.
        url: ShownUrl,
        /// What failed.
        reason: String,
    },
    /// The server cannot show who it is, or does not speak TLS.
    #[error(
        "no secure connection to `{url}`: {reason}; put the registry's certificate authority into its certs.d folder, or configure the registry as insecure"
    )]
    Untrusted {
        /// What was asked.
        url: ShownUrl,
        /// What failed.
        reason: String,
    },
    /// The server answers in plain text where TLS was spoken.
    #[error(
        "`{url}`: http: server gave HTTP response to HTTPS client; if you trust the way to it, name the registry in `insecure-registries` of cove.toml or of docker's daemon.json"
    )]
    NotTls {
        /// What was asked.
        url: ShownUrl,
    },
    /// The server wants to know by a certificate who asks.
    #[error("`{url}` does not take the client certificate, or wants one: {reason}; {SHOW_CERTIFICATE}")]
    ClientCertificate {
        /// What was asked.
        url: ShownUrl,
        /// What failed.
        reason: String,
    },
    /// The proxy that the environment names does not do its work.
    #[error("{}", proxy_text(proxy, variable, url, problem))]
    Proxy {
        /// The proxy, without user name and password.
        proxy: String,
        /// The variable that names it.
        variable: &'static str,
        /// What was asked.
        url: ShownUrl,
        /// What is wrong.
        problem: ProxyProblem,
    },
    /// A variable that is to name a proxy does not. Its value may be a secret.
    #[error("the variable `{0}` is not the address of a proxy: write it as in http://HOST:PORT, or unset it")]
    ProxyVariable(&'static str),
    /// The connection broke, again and again, without any progress.
    #[error("the transfer of `{url}` broke off {attempts} times: {reason}; try again, it goes on where it was")]
    Broken {
        /// What was transferred.
        url: ShownUrl,
        /// How often.
        attempts: u32,
        /// What failed the last time.
        reason: String,
    },
    /// A challenge that cannot be read, or that has no scheme spoken here.
    #[error("`{url}` asks for a login in a way that is not understood: {reason}")]
    Challenge {
        /// Who asked.
        url: ShownUrl,
        /// What is wrong.
        reason: ChallengeProblem,
    },
    /// The registry names a token service that must not be trusted.
    #[error(
        "`{registry}` names the token service `{realm}`, which is not used: {reason}; allow it in the configuration if you trust it"
    )]
    Realm {
        /// The registry.
        registry: RegistryName,
        /// What it named.
        realm: ShownUrl,
        /// Why not.
        reason: &'static str,
    },
    /// The address of a file that is not asked for.
    #[error("`{address}` is not asked for: {reason}")]
    Address {
        /// As it was written.
        address: String,
        /// Why not.
        reason: &'static str,
    },
    /// The registry names another token service than the one that gave the identity token.
    #[error(
        "`{registry}` now names the token service {named}, but the stored token was given by {known}: it is not sent there; if you trust the new one, log in again with `cove login {registry}`"
    )]
    OtherTokenService {
        /// The registry.
        registry: RegistryName,
        /// What it names.
        named: TokenService,
        /// What it named when the token was given.
        known: TokenService,
    },
    /// The registry sends the client somewhere it must not go.
    #[error(
        "`{from}` leads to `{to}`, which is not followed: {reason}; allow it in the configuration if you trust the registry"
    )]
    Redirect {
        /// What was asked.
        from: ShownUrl,
        /// Where it leads.
        to: String,
        /// Why not.
        reason: &'static str,
    },
    /// The token service's answer is none.
    #[error("the token service `{url}` gave no token: {reason}")]
    Token {
        /// Who was asked.
        url: ShownUrl,
        /// What is wrong.
        reason: String,
    },
    /// An answer that the specification does not allow.
    #[error("the answer of `{url}` is not valid: {reason}; the registry, or a proxy before it, is at fault")]
    Protocol {
        /// What was asked.
        url: ShownUrl,
        /// What is wrong.
        reason: String,
    },
    /// More than what was asked for may have.
    #[error("the answer of `{url}` has more than {limit} bytes, which is not read")]
    TooLarge {
        /// What was asked.
        url: ShownUrl,
        /// What may be read.
        limit: u64,
    },
    /// Content that is not what its digest says.
    #[error("`{url}`: {error}")]
    Verify {
        /// Where it came from.
        url: ShownUrl,
        /// What is wrong.
        error: VerifyError,
    },
    /// A manifest that is none.
    #[error("`{url}`: {error}")]
    Manifest {
        /// Where it came from.
        url: ShownUrl,
        /// What is wrong.
        error: ManifestError,
    },
    /// No host of the registry may be asked for this.
    #[error("`{0}` cannot be used for this: no host is configured for it")]
    NoHost(RegistryName),
    /// The configuration of registries is wrong.
    #[error(transparent)]
    Registries(Arc<RegistriesError>),
    /// A certificate or key that cannot be used.
    #[error("`{}` cannot be used for TLS: {reason}; it must be PEM", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file of the configuration cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The HTTP client cannot be set up.
    #[error("the HTTP client could not be made: {0}")]
    Setup(String),
}

/// What to do where a certificate is wanted.
const SHOW_CERTIFICATE: &str =
    "put `client.cert` and `client.key` into the registry's certs.d folder, or set `client-certificate` in cove.toml";

/// What is wrong with a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyProblem {
    /// It wants a user name and a password.
    Login,
    /// It refused the ones that the variable has.
    WrongLogin,
    /// It cannot be reached; why.
    Unreachable(String),
    /// It does not connect to the registry.
    NoTunnel,
}

fn proxy_text(proxy: &str, variable: &str, url: &ShownUrl, problem: &ProxyProblem) -> String {
    let first = format!("`{url}`: the proxy `{proxy}`");
    match problem {
        ProxyProblem::Login => format!(
            "{first} wants a user name and a password (407): write them into `{variable}`, as in http://USER:PASSWORD@HOST:PORT"
        ),
        ProxyProblem::WrongLogin => {
            format!("{first} refused the user name and the password (407) that `{variable}` has: correct them there")
        }
        ProxyProblem::Unreachable(reason) => format!(
            "{first} cannot be reached: {reason}; correct `{variable}`, or list the registry in `NO_PROXY` if no proxy is needed"
        ),
        ProxyProblem::NoTunnel => format!(
            "{first} does not connect to it: its log says why; list the registry in `NO_PROXY` if no proxy is needed"
        ),
    }
}

fn unauthorized(known: bool) -> &'static str {
    match known {
        true => "unauthorized: the credentials at hand do not allow this",
        false => "unauthorized: authentication required",
    }
}

/// What is wrong with a challenge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeProblem {
    /// It cannot be read.
    #[error("its `WWW-Authenticate` header cannot be read: {0}")]
    Syntax(#[from] ChallengeError),
    /// There is none.
    #[error("it has no `WWW-Authenticate` header")]
    Missing,
    /// Neither Bearer nor Basic.
    #[error("it offers neither Bearer nor Basic")]
    Scheme,
    /// Bearer without a realm that is a URL.
    #[error("it names no token service")]
    Realm,
}

impl From<RegistriesError> for Error {
    fn from(error: RegistriesError) -> Self {
        Error::Registries(Arc::new(error))
    }
}

impl Error {
    /// What kind of failure it is, for those who decide what to do next.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Refused(refusal) => refusal.kind(),
            Error::Unauthorized { .. } | Error::Login { .. } => Kind::Unauthorized,
            Error::Unreachable { .. }
            | Error::Untrusted { .. }
            | Error::NotTls { .. }
            | Error::ClientCertificate { .. }
            | Error::Proxy { .. }
            | Error::Broken { .. } => Kind::Unreachable,
            Error::Verify { .. } | Error::Manifest { .. } => Kind::Corrupt,
            Error::Credentials(_)
            | Error::Challenge { .. }
            | Error::Realm { .. }
            | Error::OtherTokenService { .. }
            | Error::Redirect { .. }
            | Error::Address { .. }
            | Error::Token { .. }
            | Error::Protocol { .. }
            | Error::TooLarge { .. }
            | Error::NoHost(_)
            | Error::ProxyVariable(_)
            | Error::Registries(_)
            | Error::Certificate { .. }
            | Error::Io(_)
            | Error::Setup(_) => Kind::Other,
        }
    }

    /// A failure of the proxy between here and a URL.
    pub(crate) fn through(proxy: &Proxy, url: &Url, problem: ProxyProblem) -> Self {
        let problem = match problem {
            ProxyProblem::Login if proxy.has_login() => ProxyProblem::WrongLogin,
            problem => problem,
        };
        Error::Proxy { proxy: proxy.to_string(), variable: proxy.variable(), url: ShownUrl::from(url), problem }
    }

    /// As a failure of one side of a copy.
    pub fn on(self, side: Side) -> cove_transfer::Error {
        cove_transfer::Error::new(side, self.kind(), self)
    }

    /// Whether the same may work in a moment.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Error::Refused(refusal) => is_passing(refusal.status),
            Error::Unreachable { .. } | Error::Broken { .. } => true,
            Error::Proxy { problem, .. } => matches!(problem, ProxyProblem::Unreachable(_) | ProxyProblem::NoTunnel),
            _ => false,
        }
    }

    /// How long the server wants to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }

    /// The status of an answer that is an error.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Error::Refused(refusal) => Some(refusal.status),
            _ => None,
        }
    }
}

/// Statuses after which the same request may succeed.
pub(crate) fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504)
}
