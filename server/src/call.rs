//! One request: who asks, from where, for what; and how that is settled before any handler runs.

use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cove_oci::{Action, Actions, RepositoryName, Scope};
use http::request::Parts;
use http::{HeaderMap, Method, header};

use crate::auth::rights::may;
use crate::auth::{Access, LoginError, Principal, SERVICE};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::state::Server;

/// The other end of the connection that a request came in on.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The connection is encrypted.
    pub tls: bool,
}

/// What a request says about where it comes from and what it was addressed to.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The client's address, behind trusted proxies too.
    pub client: Option<IpAddr>,
    /// `https://host[:port]`, as the client sees this server.
    pub base_url: String,
}

/// An authorised request.
pub struct Call {
    /// Who asks.
    pub principal: Principal,
    /// The request without its body.
    pub parts: Parts,
    /// Where it comes from.
    pub origin: Origin,
}

impl Call {
    /// A query parameter's values, decoded.
    pub fn parameters<'a>(&'a self, name: &'a str) -> impl Iterator<Item = String> + 'a {
        parameters(self.parts.uri.query().unwrap_or_default(), name)
    }

    /// The first value of a query parameter.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.parameters(name).next()
    }

    /// A header as text.
    pub fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The declared length of the body.
    pub fn content_length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH).and_then(|text| text.parse().ok())
    }
}

/// The values of `name` in a query or form. NUL characters are left out: nothing that has a name here contains
/// them, and PostgreSQL refuses them in texts.
pub fn parameters<'a>(encoded: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    let pairs = url::form_urlencoded::parse(encoded.as_bytes());
    pairs.filter(move |(key, _)| key == name).map(|(_, value)| value.replace('\0', ""))
}

/// What the caller has shown.
enum Shown {
    Nothing,
    /// A user name with a password or token, which covers all that its account may.
    Basic(Principal),
    /// A bearer token, which covers what it names.
    Bearer(Principal, Access),
}

/// What a request needs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Need {
    /// To be somebody, anonymous with a token included.
    Token,
    Catalog,
    /// To see what one may see, without an account too.
    Search,
    Repository(RepositoryName, Action),
}

impl Need {
    fn of(endpoint: &Endpoint, method: &Method) -> Self {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let action = match endpoint {
            Endpoint::Base => return Need::Token,
            Endpoint::Catalog => return Need::Catalog,
            Endpoint::Search => return Need::Search,
            Endpoint::Uploads(_) | Endpoint::Upload(..) => Action::Push,
            _ if reads => Action::Pull,
            _ if *method == Method::DELETE => Action::Delete,
            _ => Action::Push,
        };
        match endpoint.repository() {
            Some(repository) => Need::Repository(repository.clone(), action),
            None => Need::Token,
        }
    }

    /// The scope that a client should ask the token service for. Who pushes also looks at what is there.
    fn scope(&self) -> Option<Scope> {
        match self {
            Need::Token => None,
            Need::Catalog | Need::Search => Some(Scope::Catalog),
            Need::Repository(repository, action) => {
                let actions: Actions = match action {
                    Action::Push => [Action::Pull, Action::Push].into_iter().collect(),
                    action => [*action].into_iter().collect(),
                };
                Some(Scope::repository(repository.clone(), actions))
            }
        }
    }

    fn covered_by(&self, access: &Access) -> bool {
        match self {
            Need::Token => true,
            Need::Catalog | Need::Search => access.covers_catalog(),
            Need::Repository(repository, action) => access.covers(repository, *action),
        }
    }
}

/// Outcome of [`authorise`].
pub enum Authorised {
    /// Go on.
    Yes(Principal),
    /// The caller may not know whether the thing exists.
    Hidden(Principal),
}

/// Settles whether the request may go on. Answers: no token, or the scope is not in the token: 401 with the
/// scope, the same for private and absent. In the token but not allowed: hidden, or 403 for a push.
pub async fn authorise(
    server: &Server,
    endpoint: &Endpoint,
    method: &Method,
    headers: &HeaderMap,
    origin: &Origin,
) -> Result<Authorised, Error> {
    if server.behaviour.no_auth {
        return Ok(Authorised::Yes(Principal::unrestricted()));
    }
    let need = Need::of(endpoint, method);
    let refuse = |message: &str, error: Option<&str>| unauthorized(message, error, &need, origin);
    let shown = match show(server, headers, origin).await {
        Ok(shown) => shown,
        Err(error @ LoginError::Wrong) => return Err(refuse(&error.to_string(), None)),
        Err(error @ LoginError::Bearer(crate::auth::BearerError::Invalid)) => {
            return Err(refuse(&error.to_string(), Some("invalid_token")));
        }
        Err(LoginError::Bearer(crate::auth::BearerError::Keys(error))) => return Err(error.into()),
        Err(error) => return Err(error.into()),
    };
    let principal = match shown {
        // docker asks without a token where it has no password to show, and does not follow the challenge.
        Shown::Nothing if need == Need::Search => return Ok(Authorised::Yes(Principal::anonymous())),
        Shown::Nothing => return Err(refuse("authentication is required: log in, or ask for a token", None)),
        Shown::Basic(principal) => principal,
        Shown::Bearer(principal, access) if need.covered_by(&access) => principal,
        Shown::Bearer(principal, _) => {
            let message = match &need {
                Need::Repository(repository, action) => {
                    format!("{} has no token to {action} `{repository}`: it needs the right to", principal.name())
                }
                _ => "the token does not cover this request".to_owned(),
            };
            return Err(refuse(&message, Some("insufficient_scope")));
        }
    };
    let Need::Repository(repository, action) = &need else {
        let lists = matches!(need, Need::Catalog | Need::Search);
        let listing_refused = lists && !principal.ceiling.allows_catalog();
        return match listing_refused {
            true => Err(Error::Denied("the token may not list repositories".to_owned())),
            false => Ok(Authorised::Yes(principal)),
        };
    };
    let facts = server.facts(&principal, repository).await?;
    if may(&principal, &facts, repository, *action) {
        return Ok(Authorised::Yes(principal));
    }
    match action {
        Action::Push => Err(denied(&principal, repository, *action)),
        Action::Delete | Action::Admin if may(&principal, &facts, repository, Action::Pull) => {
            Err(denied(&principal, repository, *action))
        }
        _ => Ok(Authorised::Hidden(principal)),
    }
}

fn denied(principal: &Principal, repository: &RepositoryName, action: Action) -> Error {
    Error::Denied(format!(
        "{} may not {action} `{repository}`: use a repository of your own, or ask an administrator for the right",
        principal.name()
    ))
}

async fn show(server: &Server, headers: &HeaderMap, origin: &Origin) -> Result<Shown, LoginError> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(Shown::Nothing) };
    let value = value.to_str().map_err(|_| LoginError::Wrong)?;
    if let Some(token) = credentials_of(value, "Bearer") {
        let (principal, access) = server.authenticator.bearer(token).await?;
        return Ok(Shown::Bearer(principal, access));
    }
    let (name, secret) = basic_credentials(value).ok_or(LoginError::Wrong)?;
    Ok(Shown::Basic(server.authenticator.basic(&name, &secret, origin.client).await?))
}

/// What stands behind the scheme's name, which is compared without case (RFC 9110, section 11.1).
fn credentials_of<'a>(value: &'a str, scheme: &str) -> Option<&'a str> {
    let (found, rest) = value.split_once(' ')?;
    found.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

/// User name and password of a Basic header.
pub fn basic_credentials(value: &str) -> Option<(String, String)> {
    let decoded = STANDARD.decode(credentials_of(value, "Basic")?).ok()?;
    let text = String::from_utf8(decoded).ok().filter(|text| !text.contains('\0'))?;
    let (name, secret) = text.split_once(':')?;
    Some((name.to_owned(), secret.to_owned()))
}

fn unauthorized(message: &str, error: Option<&str>, need: &Need, origin: &Origin) -> Error {
    let mut challenge = format!("Bearer realm=\"{}/token\",service=\"{SERVICE}\"", origin.base_url);
    if let Some(scope) = need.scope() {
        challenge.push_str(&format!(",scope=\"{scope}\""));
    }
    if let Some(error) = error {
        challenge.push_str(&format!(",error=\"{error}\""));
    }
    Error::Unauthorized { message: message.to_owned(), challenge }
}

impl Origin {
    /// Reads where a request comes from. `X-Forwarded-…` counts only from trusted proxies.
    pub fn of(server: &Server, headers: &HeaderMap, authority: Option<&str>, peer: Option<Peer>) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let host = authority.or_else(|| text("host")).unwrap_or("localhost");
        let mut scheme = if peer.is_some_and(|peer| peer.tls) { "https" } else { "http" };
        let mut host = host.to_owned();
        let mut client = peer.map(|peer| peer.address.ip().to_canonical());
        match client {
            Some(address) if server.trusts(address) => {
                // From the right, over all lines: the first address that is not a proxy of ours is the client's.
                // What does not parse ends the walk, for what stands to its left was written by anybody.
                let lines = headers.get_all("x-forwarded-for").iter().rev();
                let hops = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.rsplit(','));
                for hop in hops.map_while(forwarded_address) {
                    client = Some(hop);
                    if !server.trusts(hop) {
                        break;
                    }
                }
                match text("x-forwarded-proto") {
                    Some("https") => scheme = "https",
                    Some("http") => scheme = "http",
                    _ => {}
                }
                if let Some(forwarded) = text("x-forwarded-host") {
                    host = forwarded.split(',').next().unwrap_or_default().trim().to_owned();
                }
            }
            Some(address) if text("x-forwarded-proto").is_some() => hint_at_proxy(server, address),
            _ => {}
        }
        let base_url = match &server.behaviour.public_url {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => format!("{scheme}://{}", clean_host(&host)),
        };
        Origin { client, base_url }
    }
}

/// An address as proxies write it, with or without a port.
fn forwarded_address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let with_port = || hop.parse::<SocketAddr>().map(|address| address.ip());
    hop.parse::<IpAddr>().or_else(|_| with_port()).ok().map(|address| address.to_canonical())
}

/// A host as it may stand in a header of ours; anything else could end the quoted string it goes into.
fn clean_host(host: &str) -> &str {
    let clean = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte));
    if clean { host } else { "localhost" }
}

fn hint_at_proxy(server: &Server, address: IpAddr) {
    if !server.proxy_hint_given.swap(true, std::sync::atomic::Ordering::Relaxed) {
        tracing::warn!(
            %address,
            "X-Forwarded-Proto comes from an address that is not trusted and is ignored: if this is your reverse \
             proxy, start with --trusted-proxy {address}"
        );
    }
}
