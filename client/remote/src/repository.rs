//! One repository of a registry, and the hosts that answer for it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cove_oci::{Action, Digest, Reference};
use cove_transfer::{NoJournal, Origin, Progress, Silent, UploadJournal};
use http::Method;

use crate::Error;
use crate::authorization::Scopes;
use crate::endpoint::{Endpoint, Request};
use crate::registries::{Access, Capabilities, RegistriesError};

/// How long a mirror that failed is left out.
const MIRROR_REST: Duration = Duration::from_secs(60);

/// One repository of a registry: a source and a target of copies.
#[derive(Clone)]
pub struct Repository {
    pub(crate) inner: Arc<Inner>,
    pub(crate) journal: Arc<dyn UploadJournal>,
    pub(crate) progress: Arc<dyn Progress>,
}

pub(crate) struct Inner {
    pub(crate) origin: Origin,
    actions: &'static [Action],
    /// Mirrors first, the registry itself last; or why there are none.
    endpoints: Result<Vec<Arc<Endpoint>>, Arc<RegistriesError>>,
    /// When a mirror failed, by its address.
    failed: Mutex<HashMap<String, Instant>>,
    /// Blobs that were found or placed here.
    pub(crate) known: Mutex<HashSet<Digest>>,
}

impl Repository {
    pub(crate) fn new(
        reference: &Reference,
        access: Access,
        endpoints: Result<Vec<Arc<Endpoint>>, RegistriesError>,
    ) -> Self {
        let repository = reference.repository();
        let actions: &'static [Action] = match access {
            Access::Pull => &[Action::Pull],
            Access::Push => &[Action::Pull, Action::Push],
        };
        let inner = Inner {
            origin: Origin { registry: reference.registry().clone(), repository: repository.clone() },
            actions,
            failed: Mutex::default(),
            endpoints: endpoints.map_err(Arc::new),
            known: Mutex::default(),
        };
        Repository { inner: Arc::new(inner), journal: Arc::new(NoJournal), progress: Arc::new(Silent) }
    }

    /// With a memory of unfinished uploads.
    #[must_use]
    pub fn with_journal(self, journal: Arc<dyn UploadJournal>) -> Self {
        Repository { journal, ..self }
    }

    /// With somebody who is told when a download is tried again.
    #[must_use]
    pub fn with_progress(self, progress: Arc<dyn Progress>) -> Self {
        Repository { progress, ..self }
    }

    /// The registry and the repository in it.
    pub fn origin(&self) -> &Origin {
        &self.inner.origin
    }

    /// The registry itself, which takes what is written.
    pub(crate) async fn home(&self) -> Result<Arc<Endpoint>, Error> {
        match self.inner.endpoints()?.last() {
            Some(endpoint) => Ok(endpoint.ready().await),
            None => Err(Error::NoHost(self.inner.origin.registry.clone())),
        }
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repository({}/{})", self.inner.origin.registry, self.inner.origin.repository)
    }
}

impl Inner {
    fn endpoints(&self) -> Result<&[Arc<Endpoint>], Error> {
        self.endpoints.as_deref().map_err(|error| Error::Registries(error.clone()))
    }

    /// The hosts to read from, in order: mirrors that failed a moment ago are left out.
    pub(crate) async fn hosts(&self, serves: impl Fn(&Capabilities) -> bool) -> Result<Vec<Arc<Endpoint>>, Error> {
        let rests = |endpoint: &Endpoint| {
            let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get(endpoint.host.base.as_str()).is_some_and(|when| when.elapsed() < MIRROR_REST)
        };
        let mut hosts = Vec::new();
        for endpoint in self.endpoints()? {
            if serves(&endpoint.host.capabilities) && !(endpoint.host.is_mirror && rests(endpoint)) {
                hosts.push(endpoint.ready().await);
            }
        }
        match hosts.is_empty() {
            true => Err(Error::NoHost(self.origin.registry.clone())),
            false => Ok(hosts),
        }
    }

    /// Leaves a mirror out for a while, if it is not merely without what was asked for.
    pub(crate) fn note_failure(&self, endpoint: &Endpoint, error: &Error) {
        tracing::debug!(%error, "a mirror failed; the next host is asked");
        if error.is_passing()
            || matches!(error, Error::Untrusted { .. } | Error::Unauthorized { .. } | Error::Login { .. })
        {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.insert(endpoint.host.base.to_string(), Instant::now());
        }
    }

    /// A request for something in this repository, by the name that it has at a host.
    pub(crate) fn request(&self, endpoint: &Endpoint, method: Method, below: &str) -> Result<Request, Error> {
        let mut url = endpoint
            .host
            .url(&self.origin.repository, below)
            .ok_or_else(|| Error::NoHost(self.origin.registry.clone()))?;
        if endpoint.host.is_mirror {
            // Mirrors of several registries need to know which one is meant.
            url.query_pairs_mut().append_pair("ns", self.origin.registry.as_str());
        }
        Ok(Request::new(method, url, &self.scopes(endpoint)))
    }

    /// What requests for this repository need to be allowed.
    pub(crate) fn scopes(&self, endpoint: &Endpoint) -> Scopes {
        match endpoint.host.repository(&self.origin.repository) {
            Some(name) => Scopes::of(&name, self.actions),
            None => Scopes::default(),
        }
    }

    pub(crate) fn is_known(&self, blob: &Digest) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(blob)
    }

    pub(crate) fn remember(&self, blob: &Digest) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(blob.clone());
    }
}
