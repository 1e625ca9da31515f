//! One host of a registry: sends requests to it with authorisation, follows its redirects, tries again.
//!
//! Everything that a host answers is hostile until shown otherwise. Where its answers lead: `stranger.rs`; what it
//! asks for: `authorization.rs`.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cove_oci::{Descriptor, RegistryName, RepositoryName};
use cove_transfer::{Progress, Step};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use url::Url;

use crate::address::Reach;
use crate::answer::Answer;
use crate::authorization::{Authorization, Scheme, Scopes};
use crate::client::Shared;
use crate::registries::Host;
use crate::shown::same_origin;
use crate::transport::{self, Way};
use crate::{Error, ShownUrl};

/// Most redirects of one request.
const REDIRECT_LIMIT: usize = 10;

/// A request that can be sent again.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) scopes: Scopes,
}

impl Request {
    pub(crate) fn new(method: Method, url: Url, scopes: &Scopes) -> Self {
        Request { method, url, headers: HeaderMap::new(), body: Bytes::new(), scopes: scopes.clone() }
    }

    pub(crate) fn header(mut self, name: http::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    pub(crate) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }
}

/// How a request is sent.
#[derive(Default)]
pub(crate) struct Sending {
    /// A body that can be sent once only, in place of the request's.
    pub(crate) stream: Option<reqwest::Body>,
    /// How long to wait for the answer's headers; the usual time if `None`. A stream is not waited for here.
    pub(crate) wait: Option<Duration>,
    /// On a connection of its own.
    pub(crate) separate: bool,
}

/// Who is told of repetitions.
#[derive(Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) progress: &'a dyn Progress,
    pub(crate) blob: &'a Descriptor,
}

/// One host of a registry.
pub(crate) struct Endpoint {
    pub(crate) shared: Arc<Shared>,
    /// The registry that it answers for.
    pub(crate) registry: RegistryName,
    /// Under which name its credentials lie. `None`: an address that is no registry's name has none.
    pub(crate) name: Option<RegistryName>,
    /// The repository that it is asked for, which may have credentials of its own.
    pub(crate) repository: Option<RepositoryName>,
    pub(crate) host: Host,
    pub(crate) authorization: Authorization,
    turns: Turns,
    /// The farthest place at which it answered.
    pub(crate) answered_at: Mutex<Option<Reach>>,
    /// The farthest place to which its name leads.
    pub(crate) named_at: OnceCell<Reach>,
    /// The host over plain http, once it is known that it speaks nothing else.
    plain: OnceCell<Option<Arc<Endpoint>>>,
}

/// A host's limits. Two, so that what is read from a host while it is written to it can never wait for itself.
#[derive(Clone)]
pub(crate) struct Turns {
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
}

impl Turns {
    pub(crate) fn new(at_once: usize) -> Self {
        let semaphore = || Arc::new(Semaphore::new(at_once.max(1)));
        Turns { reads: semaphore(), writes: semaphore() }
    }
}

impl Endpoint {
    pub(crate) fn new(
        shared: Arc<Shared>,
        registry: &RegistryName,
        repository: Option<&RepositoryName>,
        host: Host,
        authorization: Authorization,
    ) -> Self {
        Endpoint {
            name: host.name_for(registry),
            registry: registry.clone(),
            repository: repository.cloned(),
            turns: shared.turns(registry, &host.base),
            shared,
            host,
            authorization,
            answered_at: Mutex::default(),
            named_at: OnceCell::new(),
            plain: OnceCell::new(),
        }
    }

    /// The same host as it can be spoken to: over plain http, where that is configured and it speaks no TLS.
    pub(crate) async fn ready(self: &Arc<Self>) -> Arc<Self> {
        let Some(plain) = self.host.over_plain_http() else { return self.clone() };
        let choose = || async {
            if self.speaks_tls().await {
                return None;
            }
            let (shared, repository) = (self.shared.clone(), self.repository.as_ref());
            Some(Arc::new(Endpoint::new(shared, &self.registry, repository, plain, self.authorization.renewed())))
        };
        let plain = self.plain.get_or_init(choose).await;
        plain.clone().unwrap_or_else(|| self.clone())
    }

    /// Asks without any credential. What fails for another reason fails again, and is told then.
    async fn speaks_tls(&self) -> bool {
        let Ok(client) = self.shared.transports.get(&self.way()) else { return true };
        let asked = tokio::time::timeout(self.shared.patience.headers, client.head(self.host.base.clone()).send());
        match asked.await {
            Ok(Err(error)) => {
                !error.is_connect()
                    || transport::is_about_certificates(&error)
                    || transport::is_about_proxy_login(&error)
            }
            Ok(Ok(_)) | Err(_) => true,
        }
    }

    /// How the host itself is reached.
    pub(crate) fn way(&self) -> Way {
        Way {
            ca: self.host.ca.clone(),
            client_certificate: self.host.client_certificates.first().map(|c| (c.certificate.clone(), c.key.clone())),
            insecure: self.host.skip_verify,
            led_from: None,
            proxy: self.shared.transports.proxy_for(&self.host.base),
            separate: false,
        }
    }

    /// Sends a request until there is an answer that will stay the same: a success, or an error for the caller to
    /// judge.
    pub(crate) async fn send(&self, request: &Request, told: Option<Told<'_>>) -> Result<Answer, Error> {
        self.retry(told, || self.attempt(request, Sending::default())).await
    }

    /// Sends a request and reads the body of its answer, which is tried again together with it. Errors are errors.
    pub(crate) async fn fetch(&self, request: &Request, limit: usize) -> Result<(HeaderMap, Bytes), Error> {
        let once = || async {
            let answer = self.attempt(request, Sending::default()).await?;
            if !answer.status().is_success() {
                return Err(answer.refusal(&request.method).await);
            }
            let headers = answer.response.headers().clone();
            Ok((headers, answer.bytes(limit).await?))
        };
        self.retry(None, once).await
    }

    /// Does something again, with growing pauses, while its failures may pass.
    pub(crate) async fn retry<T, F>(&self, told: Option<Told<'_>>, act: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut failures = 0;
        loop {
            match act().await {
                Ok(done) => return Ok(done),
                Err(error) => {
                    failures += 1;
                    self.pause(failures, error, told).await?;
                }
            }
        }
    }

    /// How often something is tried here.
    pub(crate) fn attempts(&self) -> u32 {
        self.shared.attempts(&self.registry)
    }

    /// Waits before the next attempt; gives the error back if there shall be none.
    pub(crate) async fn pause(&self, failures: u32, error: Error, told: Option<Told<'_>>) -> Result<(), Error> {
        let patience = &self.shared.patience;
        let asked = error.retry_after();
        if !error.is_passing() || failures >= self.attempts() || asked.is_some_and(|wait| wait > patience.longest_pause)
        {
            return Err(error);
        }
        let pause = patience.pause(failures).max(asked.unwrap_or_default());
        tracing::debug!(%error, ?pause, failures, "trying again");
        if let Some(Told { progress, blob }) = told {
            progress.step(blob, Step::Retrying { after: pause, reason: error.to_string() });
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// A place among the requests that write. Whoever streams from elsewhere takes it before it opens its source.
    pub(crate) async fn place_to_write(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        self.turns.writes.clone().acquire_owned().await.ok()
    }

    /// A place among the requests that read, if one is free.
    pub(crate) fn free_place_to_read(&self) -> Option<OwnedSemaphorePermit> {
        self.turns.reads.clone().try_acquire_owned().ok()
    }

    /// Sends a request once, in its turn, twice if authorisation must be renewed. An error that may pass is an `Err`.
    pub(crate) async fn attempt(&self, request: &Request, sending: Sending) -> Result<Answer, Error> {
        let turn = match request.method {
            Method::GET | Method::HEAD => &self.turns.reads,
            _ => &self.turns.writes,
        };
        let permit = turn.clone().acquire_owned().await.ok();
        self.attempt_in_turn(request, sending, permit).await
    }

    /// The same, by somebody who has waited for their turn.
    pub(crate) async fn attempt_in_turn(
        &self,
        request: &Request,
        mut sending: Sending,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Answer, Error> {
        let is_stream = sending.stream.is_some();
        let mut renewed = false;
        loop {
            let authorization = self.authorize(&request.scopes).await?;
            let answer = self.follow(request, &mut sending, authorization.as_ref()).await?;
            if answer.status() != StatusCode::UNAUTHORIZED || !same_origin(&answer.url, &self.host.base) {
                let answer = Answer { _permit: permit, ..answer };
                return match crate::error::is_passing(answer.status()) {
                    true => Err(answer.refusal(&request.method).await),
                    false => Ok(answer),
                };
            }
            let refused = || self.unauthorized(&request.url);
            if renewed {
                return Err(refused());
            }
            self.learn(&answer, &request.scopes, authorization.as_ref()).await?;
            if is_stream {
                return Err(refused()); // the stream is spent; the next one goes with the new token
            }
            renewed = true;
        }
    }

    /// Asks without authorisation, to learn how the host wants to be asked; `None` if it wants nothing.
    pub(crate) async fn challenge(&self, request: &Request) -> Result<Option<Scheme>, Error> {
        let answer = self.follow(request, &mut Sending::default(), None).await?;
        match answer.status() {
            // Only the host itself says how it wants to be asked, not whoever it leads to.
            StatusCode::UNAUTHORIZED if same_origin(&answer.url, &self.host.base) => {
                self.learn(&answer, &request.scopes, None).await?;
            }
            StatusCode::UNAUTHORIZED => return Err(answer.refusal(&request.method).await),
            status if crate::error::is_passing(status) => return Err(answer.refusal(&request.method).await),
            _ => {}
        }
        Ok(self.authorization.scheme())
    }

    pub(crate) fn unauthorized(&self, url: &Url) -> Error {
        let known = self.authorization.has_credential();
        Error::Unauthorized { url: ShownUrl::from(url), registry: self.shown_name(), known }
    }

    /// The name for messages.
    pub(crate) fn shown_name(&self) -> RegistryName {
        self.name.clone().unwrap_or_else(|| self.registry.clone())
    }

    /// Sends a request and follows where it leads.
    pub(crate) async fn follow(
        &self,
        request: &Request,
        sending: &mut Sending,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Error> {
        let mut url = request.url.clone();
        let mut previous = self.host.base.clone();
        // Once the request has left the host, nothing that is for the host goes along, not even back to it.
        let mut at_home = true;
        for _ in 0..=REDIRECT_LIMIT {
            at_home &= same_origin(&url, &self.host.base);
            let way = match at_home {
                true => Way { separate: sending.separate, ..self.way() },
                false => Way { separate: sending.separate, ..self.stranger(&previous, &url).await? },
            };
            let client = self.shared.transports.get(&way)?;
            let mut prepared = client.request(request.method.clone(), url.clone()).headers(request.headers.clone());
            if at_home {
                for (name, value) in &self.host.headers {
                    let mut value = value.clone();
                    value.set_sensitive(true);
                    prepared = prepared.header(name, value);
                }
                if let Some(authorization) = authorization {
                    prepared = prepared.header(header::AUTHORIZATION, authorization);
                }
            }
            let body = sending.stream.take();
            let is_stream = body.is_some();
            prepared = match body {
                Some(stream) => prepared.body(stream),
                None if request.body.is_empty() && !sends_length(&request.method) => prepared,
                None => prepared.body(request.body.clone()),
            };
            let response = self.exchange(prepared, &request.method, &url, &way, is_stream, sending.wait).await?;
            // A proxy is not where the registry is.
            if at_home
                && way.proxy.is_none()
                && let Some(address) = response.remote_addr()
            {
                self.note_address(address);
            }
            let (idle, whole) = (self.shared.patience.idle, self.shared.patience.whole);
            let answer = Answer { response, url, proxy: way.proxy, idle, whole, _permit: None };
            let Some(next) = redirect(&answer, &request.method, is_stream)? else { return Ok(answer) };
            previous = answer.url;
            url = next;
        }
        let reason = "it is the eleventh redirect in a row";
        Err(Error::Redirect { from: ShownUrl::from(&request.url), to: ShownUrl::from(&url).to_string(), reason })
    }

    async fn exchange(
        &self,
        prepared: reqwest::RequestBuilder,
        method: &Method,
        url: &Url,
        way: &Way,
        is_stream: bool,
        wait: Option<Duration>,
    ) -> Result<reqwest::Response, Error> {
        let shown = ShownUrl::from(url);
        tracing::debug!(%method, url = %shown, "request");
        let sent = prepared.send();
        let answer = match is_stream {
            true => sent.await,
            false => {
                let wait = wait.unwrap_or(self.shared.patience.headers);
                tokio::time::timeout(wait, sent).await.map_err(|_| Error::Unreachable {
                    url: shown.clone(),
                    reason: format!("no answer came within {} s", wait.as_secs_f32()),
                })?
            }
        };
        let response = answer.map_err(|error| transport::failure(url, way.proxy.as_ref(), error))?;
        let response = transport::not_the_proxys(response, url, way.proxy.as_ref())?;
        tracing::debug!(%method, url = %shown, status = response.status().as_u16(), "answer");
        Ok(response)
    }

    fn note_address(&self, address: SocketAddr) {
        let reach = Reach::of(address.ip());
        let mut seen = self.answered_at.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = Some(seen.map_or(reach, |before| before.farther(reach)));
    }
}

/// Whether an empty body has a length of its own: RFC 9110, section 8.6.
fn sends_length(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Where an answer leads; `None` if it is the end.
fn redirect(answer: &Answer, method: &Method, is_stream: bool) -> Result<Option<Url>, Error> {
    let followed = match answer.status().as_u16() {
        301..=303 => matches!(*method, Method::GET | Method::HEAD),
        307 | 308 => !is_stream,
        _ => return Ok(None),
    };
    let refused = |to: &str, reason| {
        Err(Error::Redirect { from: ShownUrl::from(&answer.url), to: crate::shown::shortened(to), reason })
    };
    let Some(location) = answer.header(header::LOCATION) else {
        return Err(answer.protocol("it redirects without a `Location`"));
    };
    let Ok(mut next) = answer.url.join(location) else { return refused("", "it is no URL") };
    next.set_fragment(None);
    match followed {
        true => Ok(Some(next)),
        false => refused(&ShownUrl::from(&next).to_string(), "this kind of request is not redirected"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::registries::{Access, ConfigPaths, Registries};
    use crate::{Client, Credential, CredentialError, CredentialSource};

    /// Has a password for everybody.
    struct ForAll;

    impl CredentialSource for ForAll {
        fn find(&self, registry: &RegistryName) -> Result<Option<Credential>, CredentialError> {
            Ok(Some(Credential::Password { username: registry.to_string(), password: "password".to_owned() }))
        }
    }

    #[tokio::test]
    async fn a_hosts_credentials_are_those_of_its_own_name() {
        let mut paths = ConfigPaths::default();
        // Names of hosts may have underscores and a dot at the end; names of registries may not.
        let mirrors =
            "https://mirror.example.com,https://a_b.example.com,https://registry-1.docker.io.,https://127.0.0.1.";
        paths.variables.registry_mirrors = Some(mirrors.to_owned());
        let client = Client::new(Registries::load(&paths).unwrap(), Arc::new(ForAll), "cove/test").unwrap();
        let hub = RegistryName::docker_hub();
        let mut names = Vec::new();
        for endpoint in client.endpoints(&hub, &"library/x".parse().unwrap(), Access::Pull).await.unwrap() {
            let credential = endpoint.credential().await.unwrap();
            names.push(credential.and_then(Credential::username).unwrap_or("none").to_owned());
        }
        assert_eq!(names, ["mirror.example.com", "none", "none", "127.0.0.1", "docker.io"]);
    }
}
