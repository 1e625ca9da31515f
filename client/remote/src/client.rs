//! The client: what all repositories and registries share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cove_oci::{Reference, RegistryName, RepositoryName};
use tokio::sync::Semaphore;
use url::Url;

use crate::authorization::Authorization;
use crate::credentials::{Credential, CredentialSource};
use crate::download::PIECES_AT_ONCE;
use crate::endpoint::{Endpoint, Turns};
use crate::proxies::Proxies;
use crate::registries::{Access, Host, Limits, Registries, RegistriesError};
use crate::transport::Transports;
use crate::{Error, Patience, Repository};

/// Speaks to registries. Cheap to clone; clones share connections, tokens and limits.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// What endpoints share.
pub(crate) struct Shared {
    pub(crate) registries: Registries,
    pub(crate) credentials: Arc<dyn CredentialSource>,
    pub(crate) patience: Patience,
    pub(crate) transports: Transports,
    /// Bounds the memory of parallel ranges, over all blobs.
    pub(crate) pieces: Arc<Semaphore>,
    endpoints: Mutex<HashMap<Key, Arc<Endpoint>>>,
    turns: Mutex<HashMap<String, Turns>>,
    /// When a mirror failed: all of it, or one repository of it.
    resting: Mutex<HashMap<(String, Option<RepositoryName>), Instant>>,
}

/// How long a mirror that failed is left out.
const MIRROR_REST: Duration = Duration::from_secs(60);

/// Registry, repository and base URL.
type Key = (RegistryName, Option<RepositoryName>, String);

impl Shared {
    /// The places at a host. A registry with which more shall be transferred at once than usual has more of them; less
    /// is seen to by whoever copies, for a transfer needs other requests beside it.
    pub(crate) fn turns(&self, registry: &RegistryName, base: &Url) -> Turns {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let host = base.origin().ascii_serialization();
        let limits = self.registries.limits(registry);
        let at_once = limits.downloads.max(limits.uploads).unwrap_or(0).max(self.patience.requests_at_once);
        turns.entry(host).or_insert_with(|| Turns::new(at_once)).clone()
    }

    /// Asks the configuration, which may read files and look names up: off the async threads.
    pub(crate) async fn ask_registries<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Registries) -> Result<T, RegistriesError> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = self.clone();
        match tokio::task::spawn_blocking(move || ask(&shared.registries)).await {
            Ok(answer) => Ok(answer?),
            Err(error) => Err(Error::Setup(error.to_string())),
        }
    }

    /// Whether a mirror failed a moment ago and is left alone.
    pub(crate) fn rests(&self, host: &Host, repository: &RepositoryName) -> bool {
        let resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        [None, Some(repository.clone())].into_iter().any(|repository| {
            resting.get(&(place(&host.base), repository)).is_some_and(|when| when.elapsed() < MIRROR_REST)
        })
    }

    /// Leaves a mirror alone for a while: for one repository, or for all where it does not answer at all.
    pub(crate) fn rest(&self, host: &Host, repository: Option<&RepositoryName>) {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting.insert((place(&host.base), repository.cloned()), Instant::now());
    }

    /// How often something is tried with a registry.
    pub(crate) fn attempts(&self, registry: &RegistryName) -> u32 {
        let configured = self.registries.limits(registry).attempts.and_then(|attempts| u32::try_from(attempts).ok());
        configured.unwrap_or(self.patience.attempts)
    }
}

/// Where a host is, whichever way it is spoken to.
fn place(base: &Url) -> String {
    base.as_str().split_once("://").map_or(base.as_str(), |(_, rest)| rest).to_owned()
}

impl Client {
    /// A client with the configured registries and the user's credentials.
    pub fn new(
        registries: Registries,
        credentials: Arc<dyn CredentialSource>,
        user_agent: &str,
    ) -> Result<Client, Error> {
        Client::with_patience(registries, credentials, user_agent, Patience::default())
    }

    /// The same, with time-outs and repetitions other than the usual ones.
    pub fn with_patience(
        registries: Registries,
        credentials: Arc<dyn CredentialSource>,
        user_agent: &str,
        patience: Patience,
    ) -> Result<Client, Error> {
        let transports = Transports::new(user_agent, patience.clone(), Proxies::of_this_process(registries.proxies()));
        let pieces = Arc::new(Semaphore::new(PIECES_AT_ONCE));
        let (endpoints, turns, resting) = (Mutex::default(), Mutex::default(), Mutex::default());
        let shared = Shared { registries, credentials, patience, transports, pieces, endpoints, turns, resting };
        Ok(Client { shared: Arc::new(shared) })
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// What is configured for a registry: how many blobs to transfer with it at once, how often to try.
    pub fn limits(&self, registry: &RegistryName) -> Limits {
        self.shared.registries.limits(registry)
    }

    /// The repository of a reference, to read from or to write to. Nothing is sent before it is used.
    pub fn repository(&self, reference: &Reference, access: Access) -> Repository {
        Repository::new(self.clone(), reference, access)
    }

    /// Where to ask for a repository: mirrors first, the registry itself last.
    pub(crate) async fn endpoints(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        access: Access,
    ) -> Result<Vec<Arc<Endpoint>>, Error> {
        let (named, wanted) = (registry.clone(), repository.clone());
        let hosts = self.shared.ask_registries(move |registries| registries.hosts_for(&named, &wanted, access)).await?;
        Ok(hosts.into_iter().map(|host| self.endpoint(registry, Some(repository), host)).collect())
    }

    /// Where the registry's own name leads.
    pub(crate) async fn home(&self, registry: &RegistryName) -> Result<Host, Error> {
        let registry = registry.clone();
        self.shared.ask_registries(move |registries| registries.home(&registry)).await
    }

    /// The registry itself or what stands in for it, mirrors left out.
    pub(crate) async fn origin(&self, registry: &RegistryName, access: Access) -> Result<Host, Error> {
        let named = registry.clone();
        let mut hosts = self.shared.ask_registries(move |registries| registries.hosts(&named, access)).await?;
        hosts.retain(|host| !host.is_mirror);
        hosts.pop().ok_or_else(|| Error::NoHost(registry.clone()))
    }

    pub(crate) fn endpoint(
        &self,
        registry: &RegistryName,
        repository: Option<&RepositoryName>,
        host: Host,
    ) -> Arc<Endpoint> {
        let mut endpoints = self.shared.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (registry.clone(), repository.cloned(), host.base.to_string());
        let make =
            || Arc::new(Endpoint::new(self.shared.clone(), registry, repository, host, Authorization::default()));
        endpoints.entry(key).or_insert_with(make).clone()
    }

    /// A host with a credential that is to be tried.
    pub(crate) fn endpoint_with(&self, registry: &RegistryName, host: Host, credential: Credential) -> Arc<Endpoint> {
        Arc::new(Endpoint::new(self.shared.clone(), registry, None, host, Authorization::with(credential)))
    }
}
