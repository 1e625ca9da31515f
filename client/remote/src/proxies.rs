//! Through which proxy a URL is asked for: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in capitals or not.
//!
//! The rules are those of Go's programs, docker and podman among them (golang.org/x/net/http/httpproxy): the variable
//! in capitals wins if it has a value, this machine is never reached through a proxy, and an entry of `NO_PROXY` may be a
//! domain, a domain with a dot before it (only what is below), an address, a range of addresses, each with a port or
//! without, or `*`. `ALL_PROXY` is curl's. What no variable says, docker's `daemon.json` may say under `proxies`. A value that is no address of a proxy is an error: to go on without the proxy
//! would show others what was to go through it.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use url::Url;

use crate::address::{Reach, literal_reach};
use crate::registries::ProxySettings;

/// A proxy, and the variable that named it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Proxy {
    variable: &'static str,
    /// `None` if the variable's value is no address of a proxy.
    url: Option<Url>,
}

impl Proxy {
    fn read(variable: &'static str, value: &str) -> Self {
        // As in Go: `proxy:3128` has no scheme, though it looks like one.
        let with_scheme = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
        let is_known = |url: &Url| matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h") && url.has_host();
        Proxy { variable, url: Url::parse(&with_scheme).ok().filter(is_known) }
    }

    /// The variable that names it.
    pub(crate) fn variable(&self) -> &'static str {
        self.variable
    }

    /// Where it is, with user name and password.
    pub(crate) fn url(&self) -> Option<&Url> {
        self.url.as_ref()
    }

    /// Whether the variable has a user name in it.
    pub(crate) fn has_login(&self) -> bool {
        self.url.as_ref().is_some_and(|url| !url.username().is_empty())
    }
}

/// The proxy as messages show it: without user name and password.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(url) = &self.url else { return f.write_str("?") };
        write!(f, "{}://{}", url.scheme(), url.host_str().unwrap_or_default())?;
        match url.port() {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={self}", self.variable)
    }
}

/// What stands in the place of a variable where the daemon's file names the proxy.
const DAEMON_HTTP: &str = "proxies.http-proxy of daemon.json";
const DAEMON_HTTPS: &str = "proxies.https-proxy of daemon.json";

/// What the variables say.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    except: Vec<Exception>,
}

/// An entry of `NO_PROXY`.
#[derive(Debug, PartialEq, Eq)]
enum Exception {
    Everything,
    Network(IpNet),
    Address(IpAddr, Option<u16>),
    /// What ends in this, which begins with a dot; with `itself` also what it is without the dot.
    Domain {
        suffix: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl Proxies {
    /// Those of this process's environment, and of docker's daemon where that says nothing.
    pub(crate) fn of_this_process(daemon: &ProxySettings) -> Self {
        Proxies::read(|name| std::env::var(name).ok(), daemon)
    }

    fn read(variable: impl Fn(&str) -> Option<String>, daemon: &ProxySettings) -> Self {
        let value = |name: &'static str, small: &'static str| {
            let one = |name| variable(name).filter(|value| !value.trim().is_empty()).map(|value| (name, value));
            one(name).or_else(|| one(small))
        };
        let proxy = |name, small| value(name, small).map(|(name, value)| Proxy::read(name, value.trim()));
        let all = proxy("ALL_PROXY", "all_proxy");
        let of_daemon = |name, value: &str| Some(Proxy::read(name, value.trim())).filter(|_| !value.trim().is_empty());
        // A web server gives its programs the header `Proxy:` of anybody as `HTTP_PROXY` (httpoxy).
        let is_safe = variable("REQUEST_METHOD").is_none();
        Proxies {
            http: proxy("HTTP_PROXY", "http_proxy")
                .filter(|_| is_safe)
                .or_else(|| all.clone())
                .or_else(|| of_daemon(DAEMON_HTTP, &daemon.http_proxy)),
            https: proxy("HTTPS_PROXY", "https_proxy").or(all).or_else(|| of_daemon(DAEMON_HTTPS, &daemon.https_proxy)),
            except: exceptions(
                &value("NO_PROXY", "no_proxy").map_or_else(|| daemon.no_proxy.clone(), |(_, list)| list),
            ),
        }
    }

    /// The proxy for a URL; `None`: it is connected to directly.
    pub(crate) fn proxy_for(&self, url: &Url) -> Option<Proxy> {
        let proxy = if url.scheme() == "https" { &self.https } else { &self.http };
        let is_this_machine = literal_reach(url) == Some(Reach::Loopback);
        proxy.clone().filter(|_| !is_this_machine && !self.except.iter().any(|entry| entry.is_for(url)))
    }
}

fn exceptions(list: &str) -> Vec<Exception> {
    list.split(',').map(|entry| entry.trim().to_lowercase()).filter_map(|entry| exception(&entry)).collect()
}

fn exception(entry: &str) -> Option<Exception> {
    if entry == "*" {
        return Some(Exception::Everything);
    }
    if let Ok(network) = entry.parse() {
        return Some(Exception::Network(network));
    }
    let whole: Result<IpAddr, _> = entry.trim_matches(['[', ']']).parse();
    let (host, port) = match (whole, entry.rsplit_once(':')) {
        (Err(_), Some((host, port))) => (host, Some(port.parse().ok()?)),
        _ => (entry, None),
    };
    if let Ok(address) = host.trim_matches(['[', ']']).parse() {
        return Some(Exception::Address(address, port));
    }
    let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
    match host.strip_prefix('.') {
        _ if host.is_empty() => None,
        Some(_) => Some(Exception::Domain { suffix: host.to_owned(), itself: false, port }),
        None => Some(Exception::Domain { suffix: format!(".{host}"), itself: true, port }),
    }
}

impl Exception {
    fn is_for(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).trim_end_matches('.');
        let address = || host.parse::<IpAddr>().ok();
        let fits = |port: &Option<u16>| port.is_none() || *port == url.port_or_known_default();
        match self {
            Exception::Everything => true,
            Exception::Network(network) => address().is_some_and(|address| network.contains(&address)),
            Exception::Address(excepted, port) => address() == Some(*excepted) && fits(port),
            Exception::Domain { suffix, itself, port } => {
                (host.ends_with(suffix.as_str()) || *itself && host == &suffix[1..]) && fits(port)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        let find = |name: &str| Some(variables.iter().find(|(known, _)| *known == name)?.1.to_owned());
        Proxies::read(find, &ProxySettings::default())
    }

    fn chosen(variables: &[(&str, &str)], url: &str) -> String {
        let proxy = proxies(variables).proxy_for(&url.parse().unwrap());
        proxy.map_or("none".to_owned(), |proxy| format!("{proxy:?}"))
    }

    #[test]
    fn the_variable_in_capitals_wins_if_it_has_a_value() {
        for (variables, http, https) in [
            (&[][..], "none", "none"),
            (&[("HTTP_PROXY", "http://a:1")], "HTTP_PROXY=http://a:1", "none"),
            (&[("http_proxy", "a:1"), ("HTTP_PROXY", "")], "http_proxy=http://a:1", "none"),
            (&[("HTTPS_PROXY", "https://a:1/"), ("https_proxy", "b")], "none", "HTTPS_PROXY=https://a:1"),
            (
                &[("https_proxy", "socks5h://a:1"), ("all_proxy", "b:2")],
                "all_proxy=http://b:2",
                "https_proxy=socks5h://a:1",
            ),
            (&[("HTTP_PROXY", "http://a:1"), ("REQUEST_METHOD", "GET")], "none", "none"),
            // No address of a proxy: an error when it is used, not a way around it.
            (&[("HTTP_PROXY", "ftp://a")], "HTTP_PROXY=?", "none"),
        ] {
            assert_eq!(chosen(variables, "http://hub.example/v2/"), http, "{variables:?}");
            assert_eq!(chosen(variables, "https://hub.example/v2/"), https, "{variables:?}");
        }
    }

    /// As golang.org/x/net/http/httpproxy has it.
    #[test]
    fn exceptions_are_those_of_go() {
        for (list, without, with) in [
            ("", "http://localhost/ http://127.0.0.2:5000/ http://[::1]/ http://x.localhost/", "http://hub.example/"),
            (
                "hub.example",
                "http://hub.example/ https://HUB.example:5000/ http://a.hub.example/",
                "http://thub.example/",
            ),
            (".hub.example, ", "http://a.hub.example/", "http://hub.example/"),
            ("*.hub.example", "http://a.hub.example/", "http://hub.example/"),
            ("hub.example:5000", "http://hub.example:5000/", "http://hub.example/ http://hub.example:5001/"),
            ("a.example , hub.example:443", "https://hub.example/ http://a.example/", "http://hub.example/"),
            ("10.0.0.0/8,fd00::/8", "http://10.1.2.3/ http://[fd00::1]/", "http://11.1.2.3/ http://hub.example/"),
            ("10.0.0.1,[fd00::1]", "http://10.0.0.1/ http://[fd00::1]:1/", "http://10.0.0.2/"),
            ("10.0.0.1:80", "http://10.0.0.1/", "https://10.0.0.1/"),
            ("*", "http://hub.example/ https://10.0.0.1/", ""),
        ] {
            let variables = [("ALL_PROXY", "proxy:3128"), ("no_proxy", list)];
            for url in without.split_whitespace() {
                assert_eq!(chosen(&variables, url), "none", "{list} {url}");
            }
            for url in with.split_whitespace() {
                assert_eq!(chosen(&variables, url), "ALL_PROXY=http://proxy:3128", "{list} {url}");
            }
        }
    }

    #[test]
    fn dockers_daemon_is_asked_where_no_variable_says_anything() {
        let owned = str::to_owned;
        let daemon =
            ProxySettings { http_proxy: owned("http://d:1"), https_proxy: String::new(), no_proxy: owned("x.test") };
        let chosen = |variable: fn(&str) -> Option<String>, url: &str| {
            Proxies::read(variable, &daemon).proxy_for(&url.parse().unwrap()).map(|proxy| proxy.to_string())
        };
        assert_eq!(chosen(|_| None, "http://hub.test/"), Some(owned("http://d:1")));
        assert_eq!(chosen(|_| None, "https://hub.test/"), None);
        assert_eq!(chosen(|_| None, "http://x.test/"), None);
        let variables = |name: &str| Some(if name == "NO_PROXY" { "y.test" } else { "v:2" }.to_owned());
        assert_eq!(
            chosen(|name| (name == "HTTP_PROXY").then(|| "v:2".to_owned()), "http://hub.test/"),
            Some(owned("http://v:2"))
        );
        assert_eq!(Proxies::read(variables, &daemon).proxy_for(&"https://y.test".parse().unwrap()), None);
        let proxy = Proxies::read(variables, &daemon).proxy_for(&"https://x.test".parse().unwrap());
        assert_eq!(proxy.map(|proxy| proxy.to_string()), Some(owned("http://v:2")));
    }

    #[test]
    fn nobody_is_shown_the_password() {
        let proxy = Proxy::read("HTTP_PROXY", "http://user:s3cret@proxy.example:3128");
        assert!(!format!("{proxy} {proxy:?}").contains("s3cret") && proxy.has_login());
    }
}
