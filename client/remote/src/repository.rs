//! One repository of a registry, and the hosts that answer for it.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cove_oci::{Action, Digest, Reference};
use cove_transfer::{NoJournal, Origin, Progress, Silent, UploadJournal};
use http::Method;
use tokio::sync::OnceCell;

use crate::authorization::Scopes;
use crate::endpoint::{Endpoint, Request};
use crate::registries::{Access, Capabilities};
use crate::{Client, Error};

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
    client: Client,
    access: Access,
    /// Mirrors first, the registry itself last; found out when they are needed.
    endpoints: OnceCell<Vec<Arc<Endpoint>>>,
    /// A mirror gave what is damaged: only the registry itself is asked.
    distrusts_mirrors: AtomicBool,
    /// Blobs that were found or placed here.
    pub(crate) known: Mutex<HashSet<Digest>>,
}

impl Repository {
    pub(crate) fn new(client: Client, reference: &Reference, access: Access) -> Self {
        let repository = reference.repository();
        let actions: &'static [Action] = match access {
            Access::Pull => &[Action::Pull],
            Access::Push => &[Action::Pull, Action::Push],
        };
        let inner = Inner {
            origin: Origin { registry: reference.registry().clone(), repository: repository.clone() },
            actions,
            client,
            access,
            endpoints: OnceCell::new(),
            distrusts_mirrors: AtomicBool::new(false),
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

    /// Leaves mirrors out from now on, after one of them gave what is not what its digest says. Whether there were any
    /// that will not be asked again: then it is worth another try.
    pub fn distrust_mirrors(&self) -> bool {
        let has_mirrors =
            self.inner.endpoints.get().is_some_and(|hosts| hosts.iter().any(|endpoint| endpoint.host.is_mirror));
        has_mirrors && !self.inner.distrusts_mirrors.swap(true, Ordering::Relaxed)
    }

    /// The registry itself, which takes what is written.
    pub(crate) async fn home(&self) -> Result<Arc<Endpoint>, Error> {
        match self.inner.endpoints().await?.last() {
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
    async fn endpoints(&self) -> Result<&[Arc<Endpoint>], Error> {
        let find = || self.client.endpoints(&self.origin.registry, &self.origin.repository, self.access);
        Ok(self.endpoints.get_or_try_init(find).await?.as_slice())
    }

    /// The hosts to read from, in order: mirrors that failed a moment ago are left out.
    pub(crate) async fn hosts(&self, serves: impl Fn(&Capabilities) -> bool) -> Result<Vec<Arc<Endpoint>>, Error> {
        let left_out = |endpoint: &Endpoint| {
            endpoint.host.is_mirror
                && (self.distrusts_mirrors.load(Ordering::Relaxed)
                    || endpoint.shared.rests(&endpoint.host, &self.origin.repository))
        };
        let mut hosts = Vec::new();
        for endpoint in self.endpoints().await? {
            if serves(&endpoint.host.capabilities) && !left_out(endpoint) {
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
        match error {
            // Nobody gets an answer there, and each new attempt would cost its time-out.
            Error::Unreachable { .. } | Error::Untrusted { .. } | Error::NotTls { .. } => {
                endpoint.shared.rest(&endpoint.host, None)
            }
            Error::Unauthorized { .. } | Error::Login { .. } => {
                endpoint.shared.rest(&endpoint.host, Some(&self.origin.repository));
            }
            _ if error.is_passing() => endpoint.shared.rest(&endpoint.host, Some(&self.origin.repository)),
            _ => {}
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
