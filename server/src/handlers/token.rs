//! The token service, GET and POST.
//!
//! Sources: distribution's "Token Authentication Specification" and "OAuth2 Token Authentication". Rights that
//! the caller lacks are not an error: the token covers what they have.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use cove_oci::Scope;
use http::header;
use http::request::Parts;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Answer, json};
use crate::access_log::AccessLog;
use crate::auth::rights::allowed;
use crate::auth::{Access, LIFETIME, LoginError, Principal, SERVICE};
use crate::body::RequestBody;
use crate::call::{Origin, Peer, basic_credentials, parameters};
use crate::error::Error;
use crate::state::Server;

/// Largest form that is read.
const FORM_LIMIT: usize = 64 * 1024;
/// Most scopes in one request.
const SCOPE_LIMIT: usize = 100;

/// What is asked, however it was asked.
struct Asked {
    scopes: Vec<Scope>,
    /// The client keeps what it gets: it wants a refresh token.
    offline: bool,
    client: String,
    login: Login,
    /// The answer repeats the scope (OAuth 2).
    oauth: bool,
}

enum Login {
    None,
    Password(String, String),
    Refresh(String),
}

#[derive(Serialize)]
struct Token {
    token: String,
    access_token: String,
    expires_in: u64,
    issued_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
}

/// `GET /token?service=…&scope=…&account=…&client_id=…&offline_token=true`
pub async fn get(State(server): State<Arc<Server>>, request: Request) -> Answer {
    let (parts, _) = request.into_parts();
    let asked = read_query(&parts)?;
    answer(&server, &parts, asked).await
}

/// `POST /token` with a form: `grant_type=password|refresh_token`, …
pub async fn post(State(server): State<Arc<Server>>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let form = read_form(RequestBody::new(body, server.behaviour.idle_timeout)).await?;
    let asked = read_grant(&form)?;
    answer(&server, &parts, asked).await
}

fn read_query(parts: &Parts) -> Result<Asked, Error> {
    let query = parts.uri.query().unwrap_or_default();
    let first = |name| parameters(query, name).next();
    check_service(first("service"))?;
    let login = match parts.headers.get(header::AUTHORIZATION) {
        None => Login::None,
        Some(value) => {
            let credentials = value.to_str().ok().and_then(basic_credentials);
            let (name, secret) = credentials.ok_or_else(|| {
                Error::TokenRequest("the Authorization header must be Basic: a user name and a password".to_owned())
            })?;
            Login::Password(name, secret)
        }
    };
    Ok(Asked {
        scopes: read_scopes(parameters(query, "scope"))?,
        offline: first("offline_token").is_some_and(|value| value == "true" || value == "1"),
        client: first("client_id").unwrap_or_default(),
        login,
        oauth: false,
    })
}

fn read_grant(form: &str) -> Result<Asked, Error> {
    let first = |name| parameters(form, name).next();
    check_service(first("service"))?;
    let need = |name: &str| {
        parameters(form, name).next().ok_or_else(|| Error::TokenRequest(format!("the field `{name}` is missing")))
    };
    let login = match first("grant_type").as_deref() {
        Some("password") => Login::Password(need("username")?, need("password")?),
        Some("refresh_token") => Login::Refresh(need("refresh_token")?),
        _ => {
            return Err(Error::TokenRequest("`grant_type` must be `password` or `refresh_token`".to_owned()));
        }
    };
    Ok(Asked {
        scopes: read_scopes(parameters(form, "scope"))?,
        offline: first("access_type").as_deref() == Some("offline"),
        client: first("client_id").unwrap_or_default(),
        login,
        oauth: true,
    })
}

fn check_service(service: Option<String>) -> Result<(), Error> {
    match service {
        Some(service) if !service.is_empty() && service != SERVICE => {
            Err(Error::TokenRequest(format!("the service here is `{SERVICE}`: take it from the registry's challenge")))
        }
        _ => Ok(()),
    }
}

/// Clients repeat the parameter, or put several scopes into one.
fn read_scopes(values: impl Iterator<Item = String>) -> Result<Vec<Scope>, Error> {
    let mut scopes = Vec::new();
    for value in values {
        scopes.extend(Scope::parse_list(&value)?);
    }
    if scopes.len() > SCOPE_LIMIT {
        return Err(Error::TokenRequest(format!("at most {SCOPE_LIMIT} scopes fit into one token")));
    }
    Ok(scopes)
}

async fn read_form(mut body: RequestBody) -> Result<String, Error> {
    let mut form = Vec::new();
    while let Some(bytes) = body.next().await? {
        if form.len() + bytes.len() > FORM_LIMIT {
            return Err(Error::TokenRequest("the form is too large".to_owned()));
        }
        form.extend_from_slice(&bytes);
    }
    String::from_utf8(form).map_err(|_| Error::TokenRequest("the form is not UTF-8".to_owned()))
}

async fn answer(server: &Server, parts: &Parts, asked: Asked) -> Answer {
    let peer = parts.extensions.get::<Peer>().copied();
    let authority = parts.uri.authority().map(|authority| authority.as_str());
    let origin = Origin::of(server, &parts.headers, authority, peer);
    let log = parts.extensions.get::<AccessLog>();
    if let Some(log) = log {
        log.client(origin.client);
    }
    let principal = match log_in(server, &asked, origin.client).await {
        Ok(principal) => principal,
        Err(LoginError::Wrong) => return Err(wrong_login(&LoginError::Wrong.to_string())),
        Err(error) => return Err(error.into()),
    };
    if let Some(log) = log {
        log.principal(principal.name());
    }
    // docker logs in without a scope: whoever shows nothing then must not be told that all is well.
    if principal.account.is_none() && asked.scopes.is_empty() && !principal.unrestricted {
        return Err(wrong_login("a user name and a password or token are required"));
    }
    let mut granted = Vec::new();
    for scope in asked.scopes {
        match scope {
            Scope::Repository(scope) => {
                let facts = server.facts(&principal, &scope.repository).await?;
                let actions = allowed(&principal, &facts, &scope.repository, scope.actions);
                if !actions.is_empty() {
                    granted.push(Scope::repository(scope.repository, actions));
                }
            }
            Scope::Catalog if principal.ceiling.allows_catalog() => granted.push(Scope::Catalog),
            Scope::Catalog => {}
        }
    }
    let scope = granted.iter().map(Scope::to_string).collect::<Vec<_>>().join(" ");
    let (token, issued_ms) = server.authenticator.issue(&principal, &Access::new(granted)).await?;
    let refresh_token = match asked.login {
        _ if !asked.offline => None,
        // Not rotated: it goes on.
        Login::Refresh(secret) => Some(secret),
        _ => server.authenticator.issue_refresh(&principal, &asked.client).await?,
    };
    let issued = OffsetDateTime::from_unix_timestamp(issued_ms / 1000).map_err(|_| Error::Broken)?;
    let answer = Token {
        access_token: token.clone(),
        token,
        expires_in: LIFETIME.as_secs(),
        issued_at: issued.format(&Rfc3339).map_err(|_| Error::Broken)?,
        scope: asked.oauth.then_some(scope),
        refresh_token,
    };
    let mut response = json("application/json", &answer)?;
    response.headers_mut().insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn log_in(server: &Server, asked: &Asked, from: Option<IpAddr>) -> Result<Principal, LoginError> {
    if server.behaviour.no_auth {
        return Ok(Principal::unrestricted());
    }
    match &asked.login {
        Login::None => Ok(Principal::anonymous()),
        Login::Password(name, secret) => server.authenticator.basic(name, secret, from).await,
        Login::Refresh(secret) => server.authenticator.refresh(secret, from).await,
    }
}

fn wrong_login(message: &str) -> Error {
    Error::Unauthorized { message: message.to_owned(), challenge: format!("Basic realm=\"{SERVICE}\"") }
}
