//! Challenges, tokens and what is sent in `Authorization`.
//!
//! Sources: distribution's "Token Authentication Specification" and "OAuth2 Token Authentication". There is no `/v2/`
//! ping: the first request that is refused brings the challenge, and later ones get their tokens beforehand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use cove_oci::{Action, Actions, RepositoryName, Scope};
use http::{HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::Serializer;

use crate::answer::{Answer, read_error};
use crate::challenge::Challenge;
use crate::credentials::{Credential, TokenService};
use crate::endpoint::Endpoint;
use crate::error::ChallengeProblem;
use crate::shown::{Secret, same_origin, shortened};
use crate::transport::{self, Way};
use crate::{Error, ShownUrl};

/// What the client calls itself at token services.
const CLIENT_ID: &str = "cove";
/// Largest answer of a token service.
const TOKEN_LIMIT: usize = 256 * 1024;
/// How long a token lives that does not say so, in seconds.
const DEFAULT_LIFETIME: u64 = 60;

/// What a request needs to be allowed to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Scopes(Vec<String>);

impl Scopes {
    pub(crate) fn of(repository: &RepositoryName, actions: &[Action]) -> Self {
        Scopes::default().and(repository, actions)
    }

    /// What docker asks for before a search.
    pub(crate) fn search() -> Self {
        Scopes(vec!["registry:catalog:search".to_owned()])
    }

    /// The same and more.
    pub(crate) fn and(&self, repository: &RepositoryName, actions: &[Action]) -> Self {
        let actions: Actions = actions.iter().copied().collect();
        let mut scopes = self.0.clone();
        scopes.push(Scope::repository(repository.clone(), actions).to_string());
        scopes.sort();
        Scopes(scopes)
    }
}

/// How a host wants to be asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    Basic,
    Bearer {
        realm: Url,
        service: Option<String>,
        /// What the challenge asks for; used only where a request has no scopes of its own, so that a host cannot
        /// have tokens made for more than what it is asked for.
        scope: Option<String>,
    },
}

/// What is known of a host's authorisation.
#[derive(Default)]
pub(crate) struct Authorization {
    scheme: Mutex<Option<Scheme>>,
    tokens: Mutex<HashMap<(Scheme, Scopes), Arc<Cell>>>,
    credential: tokio::sync::OnceCell<Option<Credential>>,
}

/// A token; locked while it is fetched, so that requests which need the same one wait for it together.
type Cell = tokio::sync::Mutex<Option<Token>>;

struct Token {
    header: HeaderValue,
    expires: Instant,
}

/// What a token service answers.
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
    refresh_token: Option<String>,
}

/// A token, and a refresh token where one was asked for.
pub(crate) struct Granted {
    pub(crate) token: Secret,
    pub(crate) refresh_token: Option<Secret>,
    lifetime: Duration,
}

impl Authorization {
    /// With a credential that is known already.
    pub(crate) fn with(credential: Credential) -> Self {
        Authorization { credential: tokio::sync::OnceCell::new_with(Some(Some(credential))), ..Self::default() }
    }

    /// Nothing but the credential, if it was given beforehand.
    pub(crate) fn renewed(&self) -> Self {
        match self.credential.get() {
            Some(Some(credential)) => Authorization::with(credential.clone()),
            _ => Authorization::default(),
        }
    }

    pub(crate) fn has_credential(&self) -> bool {
        matches!(self.credential.get(), Some(Some(_)))
    }

    pub(crate) fn scheme(&self) -> Option<Scheme> {
        self.scheme.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn cell(&self, scheme: &Scheme, scopes: &Scopes) -> Arc<Cell> {
        // The challenge's own scope makes no difference where the request has one.
        let mut scheme = scheme.clone();
        if let Scheme::Bearer { scope, .. } = &mut scheme
            && !scopes.0.is_empty()
        {
            *scope = None;
        }
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.entry((scheme, scopes.clone())).or_default().clone()
    }
}

impl Endpoint {
    /// The header for a request with these scopes, as far as the host has said what it wants.
    pub(crate) async fn authorize(&self, scopes: &Scopes) -> Result<Option<HeaderValue>, Error> {
        let Some(scheme) = self.authorization.scheme() else { return Ok(None) };
        let Scheme::Bearer { realm, service, scope } = &scheme else {
            return Ok(match self.credential().await? {
                Some(Credential::Password { username, password }) => Some(basic(username, password)),
                Some(Credential::RegistryToken(token)) => bearer(token),
                Some(Credential::IdentityToken { .. }) | None => None,
            });
        };
        if let Some(Credential::RegistryToken(token)) = self.credential().await? {
            return Ok(bearer(token));
        }
        let cell = self.authorization.cell(&scheme, scopes);
        let mut cell = cell.lock().await;
        if let Some(token) = &*cell
            && token.expires > Instant::now()
        {
            return Ok(Some(token.header.clone()));
        }
        let asked: Vec<String> = match scopes.0.is_empty() {
            true => scope.iter().cloned().collect(),
            false => scopes.0.clone(),
        };
        let ask = Ask { realm, service: service.as_deref(), scopes: &asked, offline: false };
        let granted = self.fetch_token(&ask).await?;
        let header = bearer(granted.token.expose()).ok_or_else(|| Error::Token {
            url: ShownUrl::from(realm),
            reason: "it has characters that no header may have".to_owned(),
        })?;
        // Requests take time to arrive: the last tenth of a token's life is not used.
        let expires = Instant::now() + granted.lifetime.mul_f64(0.9);
        *cell = Some(Token { header: header.clone(), expires });
        Ok(Some(header))
    }

    /// Takes in a challenge. The token that was sent, if any, is not used again.
    pub(crate) async fn learn(
        &self,
        answer: &Answer,
        scopes: &Scopes,
        sent: Option<&HeaderValue>,
    ) -> Result<(), Error> {
        let scheme =
            read_challenges(answer).map_err(|reason| Error::Challenge { url: ShownUrl::from(&answer.url), reason })?;
        tracing::debug!(registry = %self.registry, scheme = scheme.name(), "challenge");
        // A password that was refused stays refused; without one there is nothing to send.
        let is_spent = sent.is_some() || self.credential().await?.is_none();
        if scheme == Scheme::Basic && is_spent {
            return Err(self.unauthorized(&answer.url));
        }
        let cell = self.authorization.cell(&scheme, scopes);
        let mut token = cell.lock().await;
        if token.as_ref().is_some_and(|token| Some(&token.header) == sent) {
            *token = None;
        }
        *self.authorization.scheme.lock().unwrap_or_else(PoisonError::into_inner) = Some(scheme);
        Ok(())
    }

    /// The credential for this host. Helpers are programs: they run off the async threads.
    pub(crate) async fn credential(&self) -> Result<Option<&Credential>, Error> {
        let find = || async {
            let Some(name) = self.name.clone() else { return Ok(None) };
            let (source, repository) = (self.shared.credentials.clone(), self.repository.clone());
            let find = move || match repository {
                Some(repository) => source.find_for(&name, &repository),
                None => source.find(&name),
            };
            match tokio::task::spawn_blocking(find).await {
                Ok(found) => Ok(found?),
                Err(error) => Err(Error::Setup(error.to_string())),
            }
        };
        Ok(self.authorization.credential.get_or_try_init(find).await?.as_ref())
    }

    /// Fetches a token.
    pub(crate) async fn fetch_token(&self, ask: &Ask<'_>) -> Result<Granted, Error> {
        let way = self.way_to_realm(ask.realm).await?;
        let credential = self.credential().await?;
        let (first, second) = match credential {
            None => (ask.get(None), None),
            Some(Credential::Password { username, password }) => {
                (ask.get(Some((username.as_str(), password.as_str()))), Some(ask.post_password(username, password)))
            }
            Some(Credential::IdentityToken { username, token }) => {
                self.check_token_service(ask, token).await?;
                let username = username.as_deref().unwrap_or("<token>");
                (ask.post_refresh(token), Some(ask.get(Some((username, token.as_str())))))
            }
            Some(Credential::RegistryToken(_)) => return Err(self.unauthorized(ask.realm)),
        };
        let (status, body) = self.ask_realm(&way, &first).await?;
        // Services that know only the other form.
        let is_other_form = matches!(status.as_u16(), 404 | 405) || (status == 400 && first.method == Method::POST);
        let (status, body) = match second {
            Some(second) if is_other_form => {
                let (other, other_body) = self.ask_realm(&way, &second).await?;
                // If neither works, the first answer says what is wrong.
                if other.is_success() { (other, other_body) } else { (status, body) }
            }
            _ => (status, body),
        };
        if !status.is_success() {
            return Err(self.token_refused(ask.realm, status, &body, credential.is_some()));
        }
        read_token(ask.realm, &body)
    }

    /// Whoever can change a registry's challenge must not get the token: it goes where it came from.
    async fn check_token_service(&self, ask: &Ask<'_>, token: &str) -> Result<(), Error> {
        let Some(name) = self.name.clone() else { return Ok(()) };
        let (source, token) = (self.shared.credentials.clone(), token.to_owned());
        let find = move || source.token_service(&name, &token);
        let known = match tokio::task::spawn_blocking(find).await {
            Ok(known) => known?,
            Err(error) => return Err(Error::Setup(error.to_string())),
        };
        let named = ask.token_service();
        match known {
            Some(known) if known != named => {
                Err(Error::OtherTokenService { registry: self.shown_name(), named, known })
            }
            _ => Ok(()),
        }
    }

    fn token_refused(&self, realm: &Url, status: StatusCode, body: &Bytes, has_credential: bool) -> Error {
        let url = ShownUrl::from(realm);
        let (code, message) = read_error(body);
        let reason = message.or(code);
        let is_about_login = matches!(status.as_u16(), 400 | 401 | 403);
        match (is_about_login, has_credential) {
            (true, true) => {
                let reason = reason.unwrap_or_else(|| "incorrect user name or password".to_owned());
                Error::Login { url, registry: self.shown_name(), reason }
            }
            (true, false) => self.unauthorized(realm),
            (false, _) => {
                let said = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
                Error::Token { url, reason: format!("it answered {}{said}", status.as_u16()) }
            }
        }
    }

    async fn ask_realm(&self, way: &Way, form: &Form) -> Result<(StatusCode, Bytes), Error> {
        self.retry(None, || self.ask_realm_once(way, form)).await
    }

    async fn ask_realm_once(&self, way: &Way, form: &Form) -> Result<(StatusCode, Bytes), Error> {
        let client = self.shared.transports.get(way)?;
        let mut url = form.url.clone();
        for _ in 0..5 {
            tracing::debug!(method = %form.method, url = %ShownUrl::from(&url), "asking for a token");
            let mut request = client.request(form.method.clone(), url.clone());
            if let Some(basic) = &form.basic {
                request = request.header(header::AUTHORIZATION, basic);
            }
            if let Some(body) = &form.body {
                request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
                request = request.body(body.expose().to_owned());
            }
            let wait = self.shared.patience.headers;
            let response = tokio::time::timeout(wait, request.send()).await.map_err(|_| Error::Unreachable {
                url: ShownUrl::from(&url),
                reason: format!("no answer came within {} s", wait.as_secs_f32()),
            })?;
            let response = response.map_err(|error| transport::failure(&url, way.proxy.as_ref(), error))?;
            let response = transport::not_the_proxys(response, &url, way.proxy.as_ref())?;
            let (proxy, patience) = (way.proxy.clone(), &self.shared.patience);
            let (idle, whole) = (patience.idle, patience.whole);
            let answer = Answer { response, url, proxy, idle, whole, _permit: None };
            let status = answer.status();
            if crate::error::is_passing(status) {
                return Err(answer.refusal(&form.method).await);
            }
            if !status.is_redirection() {
                return Ok((status, answer.bytes(TOKEN_LIMIT).await?));
            }
            url = token_redirect(&answer, form)?;
        }
        Err(Error::Token { url: ShownUrl::from(&form.url), reason: "it redirects again and again".to_owned() })
    }
}

/// Where a token service leads. Credentials go along, so only within its origin, and never as a form.
fn token_redirect(answer: &Answer, form: &Form) -> Result<Url, Error> {
    let refused =
        |to: String, reason| Err(Error::Redirect { from: ShownUrl::from(&answer.url), to: shortened(&to), reason });
    let location = answer.header(header::LOCATION).unwrap_or_default();
    match answer.url.join(location) {
        Ok(next) if same_origin(&next, &answer.url) && form.method == Method::GET => Ok(next),
        Ok(next) => {
            refused(ShownUrl::from(&next).to_string(), "credentials are not sent to where a token service leads")
        }
        Err(_) => refused(String::new(), "it is no URL"),
    }
}

fn read_token(realm: &Url, body: &Bytes) -> Result<Granted, Error> {
    let wrong = |reason: &str| Error::Token { url: ShownUrl::from(realm), reason: reason.to_owned() };
    // The body may hold secrets: what is wrong with it is not told in detail.
    let answer: TokenAnswer =
        serde_json::from_slice(body).map_err(|_| wrong("its answer is not the specified JSON"))?;
    let given = |token: Option<String>| token.filter(|token| !token.is_empty()).map(Secret::new);
    let token = given(answer.token).or(given(answer.access_token));
    let lifetime = match answer.expires_in {
        None | Some(0) => DEFAULT_LIFETIME,
        Some(seconds) => seconds.min(24 * 3600),
    };
    Ok(Granted {
        token: token.ok_or_else(|| wrong("its answer has neither `token` nor `access_token`"))?,
        refresh_token: given(answer.refresh_token),
        lifetime: Duration::from_secs(lifetime),
    })
}

/// What a token service is asked for.
pub(crate) struct Ask<'a> {
    pub(crate) realm: &'a Url,
    pub(crate) service: Option<&'a str>,
    pub(crate) scopes: &'a [String],
    /// A refresh token is wanted, to be kept.
    pub(crate) offline: bool,
}

/// A request to a token service.
struct Form {
    method: Method,
    url: Url,
    basic: Option<HeaderValue>,
    body: Option<Secret>,
}

impl Ask<'_> {
    pub(crate) fn token_service(&self) -> TokenService {
        TokenService { realm: self.realm.to_string(), service: self.service.map(str::to_owned) }
    }

    fn get(&self, login: Option<(&str, &str)>) -> Form {
        let mut url = self.realm.clone();
        url.set_fragment(None);
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = self.service {
                query.append_pair("service", service);
            }
            for scope in self.scopes {
                query.append_pair("scope", scope);
            }
            if let Some((username, _)) = login {
                query.append_pair("account", username);
            }
            query.append_pair("client_id", CLIENT_ID);
            if self.offline {
                query.append_pair("offline_token", "true");
            }
        }
        let basic = login.map(|(username, password)| basic(username, password));
        Form { method: Method::GET, url, basic, body: None }
    }

    fn post_password(&self, username: &str, password: &str) -> Form {
        self.post(&[("grant_type", "password"), ("username", username), ("password", password)])
    }

    fn post_refresh(&self, token: &str) -> Form {
        self.post(&[("grant_type", "refresh_token"), ("refresh_token", token)])
    }

    fn post(&self, fields: &[(&str, &str)]) -> Form {
        let mut form = Serializer::new(String::new());
        form.extend_pairs(fields);
        form.append_pair("service", self.service.unwrap_or_default());
        form.append_pair("client_id", CLIENT_ID);
        if self.offline {
            form.append_pair("access_type", "offline");
        }
        if !self.scopes.is_empty() {
            form.append_pair("scope", &self.scopes.join(" "));
        }
        Form { method: Method::POST, url: self.realm.clone(), basic: None, body: Some(Secret::new(form.finish())) }
    }
}

impl Scheme {
    fn name(&self) -> &'static str {
        match self {
            Scheme::Basic => "Basic",
            Scheme::Bearer { .. } => "Bearer",
        }
    }
}

/// The challenge to answer: Bearer before Basic.
fn read_challenges(answer: &Answer) -> Result<Scheme, ChallengeProblem> {
    let headers = answer.response.headers().get_all(header::WWW_AUTHENTICATE);
    let mut challenges = Vec::new();
    for header in headers {
        challenges.extend(Challenge::parse(&String::from_utf8_lossy(header.as_bytes()))?);
    }
    if challenges.is_empty() {
        return Err(ChallengeProblem::Missing);
    }
    if let Some(bearer) = challenges.iter().find(|challenge| challenge.scheme == "bearer") {
        let realm = bearer.parameter("realm").ok_or(ChallengeProblem::Realm)?;
        let realm = answer.url.join(realm).map_err(|_| ChallengeProblem::Realm)?;
        let owned = |name| bearer.parameter(name).map(str::to_owned);
        return Ok(Scheme::Bearer { realm, service: owned("service"), scope: owned("scope") });
    }
    match challenges.iter().any(|challenge| challenge.scheme == "basic") {
        true => Ok(Scheme::Basic),
        false => Err(ChallengeProblem::Scheme),
    }
}

/// `Authorization: Basic`, marked so that nobody prints it.
pub(crate) fn basic(username: &str, password: &str) -> HeaderValue {
    let encoded = BASE64.encode(format!("{username}:{password}"));
    // Base64 has no character that a header may not have.
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).unwrap_or(HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}

/// `Authorization: Bearer`; `None` if the token has characters that no header may have.
pub(crate) fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}
