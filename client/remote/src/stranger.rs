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
            Reach::Benchmark => 1,
            Reach::LinkLocal => 2,
            Reach::Private => 3,
            Reach::Loopback => 4,
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
        let refused = |reason| Err(Error::Realm { registry: self.shown_name(), realm: ShownUrl::from(realm), reason });
        let base = &self.host.base;
        if !same_origin(base, realm) && realm.scheme() != "https" && !self.is_configured(realm).await {
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
            return Ok(Way { client_certificate, proxy: self.shared.transports.proxy_for(to), ..own });
        }
        let proxy = self.shared.transports.proxy_for(to);
        let way = Way { client_certificate: None, insecure: false, proxy, ..own };
        if self.is_configured(to).await {
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

    /// Whether the configuration of this very host (not of the registry that it mirrors) allows the address.
    async fn is_configured(&self, url: &Url) -> bool {
        let Some(name) = self.name.clone() else { return false };
        let (shared, url) = (self.shared.clone(), url.clone());
        // Names may be looked up, where ranges of addresses are listed as insecure.
        tokio::task::spawn_blocking(move || shared.registries.realm_allowed(&name, &url)).await.unwrap_or(false)
    }

    /// Where the host is, seen from here: where it answered and where its name leads, whichever is farther. Behind
    /// a proxy only the second is known; a name that changes its mind fools neither.
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::registries::{Access, ConfigPaths, Registries};
    use crate::{Client, NoCredentials};

    fn at(base: &str) -> Arc<Endpoint> {
        let registries = Registries::load(&ConfigPaths::default()).unwrap();
        let client = Client::new(registries, Arc::new(NoCredentials), "cove/test").unwrap();
        let registry = "registry.example".parse().unwrap();
        let mut host = client.shared().registries.hosts(&registry, Access::Pull).unwrap().remove(0);
        host.base = base.parse().unwrap();
        client.endpoint(&registry, None, host)
    }

    /// Realms that a registry on the internet must not get credentials sent to.
    const EVIL: &[&str] = &[
        "http://registry.example/token",
        "http://registry.example:443/token",
        "http://8.8.8.8/token",
        "http://evil.example/token",
        "http://localhost/token",
        "http://127.0.0.1/token",
        "https://localhost/token",
        "https://localhost./token",
        "https://sub.localhost/token",
        "https://127.0.0.1/token",
        "https://127.0.0.1:5000/token",
        "https://127.1/token",
        "https://2130706433/token",
        "https://0x7f000001/token",
        "https://017700000001/token",
        "https://0.0.0.0/token",
        "https://0/token",
        "https://[::1]/token",
        "https://[::]/token",
        "https://[::ffff:127.0.0.1]/token",
        "https://[::ffff:7f00:1]/token",
        "https://[::127.0.0.1]/token",
        "https://[64:ff9b::7f00:1]/token",
        "https://[2002:7f00:1::]/token",
        "https://169.254.169.254/latest/meta-data/",
        "http://169.254.169.254/latest/meta-data/",
        "https://2852039166/",
        "https://0xa9.0xfe.0xa9.0xfe/",
        "https://[::ffff:169.254.169.254]/",
        "https://[fe80::1]/token",
        "https://[fd00:ec2::254]/token",
        "https://10.0.0.1/token",
        "https://172.16.0.1/token",
        "https://192.168.1.1/token",
        "https://192.168.257/token",
        "https://100.64.0.1/token",
        "https://[fec0::1]/token",
        "https://224.0.0.1/token",
        "https://255.255.255.255/token",
        "https://198.18.0.1/token",
        "https://[ff02::1]/token",
        "https://user@auth.example/token",
        "https://user:password@auth.example/token",
        "https://registry.example@127.0.0.1/token",
        "ftp://registry.example/token",
        "file:///etc/passwd",
        "gopher://127.0.0.1:25/",
        "unix:///run/docker.sock",
        "javascript:alert(1)",
        "data:application/json,{}",
    ];

    #[tokio::test]
    async fn credentials_of_a_public_registry_go_nowhere_else() {
        for base in ["https://registry.example/v2/", "https://8.8.4.4/v2/"] {
            let endpoint = at(base);
            for realm in EVIL {
                let refused = endpoint.way_to_realm(&realm.parse().unwrap()).await;
                assert!(matches!(refused, Err(Error::Realm { .. })), "{base} {realm}");
            }
            for realm in ["https://auth.example/token", "https://1.1.1.1/token", "https://registry.example:5001/token"]
            {
                assert!(endpoint.way_to_realm(&realm.parse().unwrap()).await.is_ok(), "{base} {realm}");
            }
        }
    }

    #[tokio::test]
    async fn nobody_is_led_into_ones_own_network() {
        let endpoint = at("https://registry.example/v2/");
        let from = endpoint.host.base.clone();
        for to in EVIL {
            let refused = endpoint.stranger(&from, &to.parse().unwrap()).await;
            assert!(matches!(refused, Err(Error::Redirect { .. })), "{to}");
        }
        // What leads out of https may not lead on to http either.
        let far = "https://storage.example/".parse().unwrap();
        assert!(endpoint.stranger(&from, &far).await.is_ok());
        assert!(endpoint.stranger(&far, &"http://storage.example/".parse().unwrap()).await.is_err());
    }

    #[tokio::test]
    async fn realms_beside_a_private_registry_are_fine() {
        for (base, realm, fine) in [
            ("https://10.0.0.1/v2/", "https://10.0.0.2/token", true),
            ("https://10.0.0.1/v2/", "https://192.168.0.2/token", true),
            ("https://10.0.0.1/v2/", "https://127.0.0.1/token", false),
            ("https://10.0.0.1/v2/", "https://169.254.169.254/", false),
            ("http://10.0.0.1:5000/v2/", "http://10.0.0.1:5001/token", true),
            ("http://10.0.0.1:5000/v2/", "http://10.0.0.2:5001/token", false),
            ("http://127.0.0.1:5000/v2/", "http://127.0.0.1:5001/token", true),
            ("http://127.0.0.1:5000/v2/", "http://localhost:5001/token", true),
            ("http://127.0.0.1:5000/v2/", "https://10.0.0.1/token", true),
            ("http://127.0.0.1:5000/v2/", "http://10.0.0.1/token", false),
            ("http://127.0.0.1:5000/v2/", "https://169.254.169.254/", false),
            // As a resolver that gives every name such an address makes them look.
            ("https://198.18.0.4/v2/", "https://198.18.0.5/token", true),
            ("https://198.18.0.4/v2/", "https://10.0.0.1/token", false),
            ("https://198.18.0.4/v2/", "https://127.0.0.1/token", false),
            // Its own name is of this machine, where plain http may be spoken.
            ("https://127.0.0.1:5000/v2/", "http://127.0.0.1:5000/token", true),
            ("https://10.0.0.1:5000/v2/", "http://10.0.0.1:5000/token", false),
        ] {
            let way = at(base).way_to_realm(&realm.parse().unwrap()).await;
            assert_eq!(way.is_ok(), fine, "{base} {realm}");
        }
    }

    #[tokio::test]
    async fn a_registry_whose_name_changes_its_mind_gains_nothing() {
        let endpoint = at("https://127.0.0.1:5000/v2/");
        // It has answered from the internet, and now its name leads here.
        *endpoint.answered_at.lock().unwrap() = Some(Reach::Public);
        assert!(endpoint.way_to_realm(&"https://10.0.0.1/token".parse().unwrap()).await.is_err());
    }

    #[tokio::test]
    async fn realms_are_configured_for_the_host_that_names_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cove.toml");
        std::fs::write(&file, "[registry.\"registry.example\"]\nrealms = [\"10.0.0.9\"]\n").unwrap();
        let registries = Registries::load(&ConfigPaths { cove: vec![file], ..ConfigPaths::default() }).unwrap();
        let client = Client::new(registries, Arc::new(NoCredentials), "cove/test").unwrap();
        let registry = "registry.example".parse().unwrap();
        let host = client.shared().registries.hosts(&registry, Access::Pull).unwrap().remove(0);
        let realm = "https://10.0.0.9/token".parse().unwrap();
        assert!(client.endpoint(&registry, None, host.clone()).way_to_realm(&realm).await.is_ok());
        let mirror = crate::Host { base: "https://mirror.example/v2/".parse().unwrap(), is_mirror: true, ..host };
        assert!(client.endpoint(&registry, None, mirror).way_to_realm(&realm).await.is_err());
    }

    #[tokio::test]
    async fn strangers_get_neither_the_users_certificate_nor_leniency() {
        let endpoint = at("https://registry.example/v2/");
        let mut host = endpoint.host.clone();
        host.skip_verify = true;
        host.client_certificates = vec![crate::ClientCertificate { certificate: "/certificate".into(), key: None }];
        let registries = Registries::load(&ConfigPaths::default()).unwrap();
        let client = Client::new(registries, Arc::new(NoCredentials), "cove/test").unwrap();
        let endpoint = client.endpoint(&"registry.example".parse().unwrap(), None, host);
        let way = endpoint.way_to(&"https://storage.example/".parse().unwrap()).await.unwrap();
        assert!(!way.insecure && way.client_certificate.is_none() && way.led_from == Some(Reach::Public));
        let way = endpoint.way_to(&"https://registry.example:444/".parse().unwrap()).await.unwrap();
        assert!(way.client_certificate.is_none());
    }
}
