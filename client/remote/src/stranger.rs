//! Where a host's answers may lead a client: redirects, upload locations and token services on other origins.
//!
//! Rules: https is never left for http; nobody is led into a network that is nearer to the client than the registry
//! is; names are resolved before they are used, and connected to where they were found to be.

use std::sync::PoisonError;

use url::Url;

use crate::address::{Reach, literal_reach};
use crate::endpoint::Endpoint;
use crate::shown::same_origin;
use crate::transport::Way;
use crate::{Error, ShownUrl};

impl Reach {
    /// The one that is farther from the client: what it may lead to is the least.
    pub(crate) fn farther(self, other: Reach) -> Reach {
        let rank = |reach: Reach| match reach {
            Reach::Public | Reach::Special => 0,
            Reach::LinkLocal => 1,
            Reach::Private => 2,
            Reach::Loopback => 3,
        };
        if rank(self) <= rank(other) { self } else { other }
    }
}

impl Endpoint {
    /// How to connect to another origin that an answer of `from` names.
    pub(crate) async fn stranger(&self, from: &Url, to: &Url) -> Result<Way, Error> {
        let refused =
            |reason| Err(Error::Redirect { from: ShownUrl::from(from), to: ShownUrl::from(to).to_string(), reason });
        if from.scheme() == "https" && to.scheme() != "https" {
            return refused("it leaves https");
        }
        match self.way_to(to).await {
            Ok(way) => Ok(way),
            Err(reason) => refused(reason),
        }
    }

    /// How to connect to a token service. Credentials go there, so the rules are stricter: https, or the very host
    /// that is spoken to without it.
    pub(crate) async fn way_to_realm(&self, realm: &Url) -> Result<Way, Error> {
        let refused =
            |reason| Err(Error::Realm { registry: self.registry.clone(), realm: ShownUrl::from(realm), reason });
        let base = &self.host.base;
        if !self.is_configured(realm) && !same_origin(base, realm) && realm.scheme() != "https" {
            if base.scheme() == "https" {
                return refused("it is not https");
            }
            let both_here = [base, realm].map(literal_reach) == [Some(Reach::Loopback); 2];
            if realm.host() != base.host() && !both_here {
                return refused("it is another host, and not https");
            }
        }
        match self.way_to(realm).await {
            Ok(way) => Ok(way),
            Err(reason) => refused(reason),
        }
    }

    async fn way_to(&self, to: &Url) -> Result<Way, &'static str> {
        if !matches!(to.scheme(), "http" | "https") || to.host().is_none() {
            return Err("it is neither https nor http");
        }
        if !to.username().is_empty() || to.password().is_some() {
            return Err("it has a user name or a password in it");
        }
        let own = self.way();
        if to.host() == self.host.base.host() {
            let same = to.port_or_known_default() == self.host.base.port_or_known_default();
            // Another port is another server: the certificate that says who the user is does not concern it.
            let client_certificate = own.client_certificate.clone().filter(|_| same);
            return Ok(Way { client_certificate, ..own });
        }
        let direct = literal_reach(to) == Some(Reach::Loopback);
        let way = Way { client_certificate: None, insecure: false, direct, ..own };
        if self.is_configured(to) {
            return Ok(way);
        }
        let from = self.reach().await;
        let near = "its address is nearer to this machine than the registry's is";
        let literal = literal_reach(to);
        if literal.is_some_and(|reach| !from.may_lead_to(reach)) {
            return Err(near);
        }
        // A name that cannot be resolved here may still be one that a proxy can resolve.
        if literal.is_none()
            && resolve(to).await.is_some_and(|found| found.iter().any(|reach| !from.may_lead_to(*reach)))
        {
            return Err(near);
        }
        // What is at a literal address or on this machine has just been checked.
        let led_from = if literal.is_none() { Some(from) } else { None };
        Ok(Way { led_from, ..way })
    }

    fn is_configured(&self, url: &Url) -> bool {
        self.shared.registries.realm_allowed(&self.registry, url)
    }

    /// Where the host is, seen from here: where it answered and where its name leads, whichever is farther. Behind
    /// a proxy the first is the proxy, so only the second counts; a name that changes its mind fools neither.
    async fn reach(&self) -> Reach {
        let base = &self.host.base;
        let named = self.named_at.get_or_init(|| async {
            match literal_reach(base) {
                Some(reach) => reach,
                None => {
                    let found = resolve(base).await.unwrap_or_default();
                    found.into_iter().reduce(Reach::farther).unwrap_or(Reach::Public)
                }
            }
        });
        let named = *named.await;
        let answered = *self.answered_at.lock().unwrap_or_else(PoisonError::into_inner);
        answered.map_or(named, |answered| answered.farther(named))
    }
}

/// Where a URL's name leads; `None` if it leads nowhere.
async fn resolve(url: &Url) -> Option<Vec<Reach>> {
    let found = tokio::net::lookup_host((url.host_str()?, url.port_or_known_default()?)).await.ok()?;
    let reaches: Vec<Reach> = found.map(|address| Reach::of(address.ip())).collect();
    (!reaches.is_empty()).then_some(reaches)
}
