//! Where an address lies: on the internet, in a private network, on this machine. Decides where a registry's answer
//! may lead a client that can reach more than the registry can (server-side request forgery, by way of the client).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// How far away an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Reach {
    /// Anywhere on the internet.
    Public,
    /// A private network: RFC 1918, RFC 4193, RFC 6598.
    Private,
    /// Networks for measurements (RFC 2544), which nobody is in: resolvers of some proxies (Clash, Surge) give every name
    /// an address from there and connect to the name.
    Benchmark,
    /// One's own network segment, with the clouds' metadata services: RFC 3927, RFC 4291.
    LinkLocal,
    /// This machine.
    Loopback,
    /// Nowhere that a registry could be: multicast, reserved, documentation.
    Special,
}

impl Reach {
    /// Where an address lies. Addresses that embed another one (mapped, translated, 6to4) lie where that one does.
    pub(crate) fn of(address: IpAddr) -> Reach {
        match address {
            IpAddr::V4(address) => of_v4(address),
            IpAddr::V6(address) => match embedded(address) {
                Some(inner) => of_v4(inner),
                None => of_v6(address),
            },
        }
    }

    /// Whether what lies at `self` may send a client to what lies at `target`: to the internet always, elsewhere
    /// only from the same place; and from this machine to its private networks.
    pub(crate) fn may_lead_to(self, target: Reach) -> bool {
        match target {
            Reach::Public => true,
            Reach::Private => matches!(self, Reach::Private | Reach::Loopback),
            // A registry that has such an address has it from the same resolver.
            Reach::Benchmark => matches!(self, Reach::Benchmark | Reach::Private | Reach::Loopback),
            Reach::LinkLocal => self == Reach::LinkLocal,
            Reach::Loopback => self == Reach::Loopback,
            Reach::Special => false,
        }
    }

    /// In a message.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Reach::Public => "a public address",
            Reach::Private => "a private address",
            Reach::Benchmark => "an address for measurements",
            Reach::LinkLocal => "a link-local address",
            Reach::Loopback => "this machine",
            Reach::Special => "a reserved address",
        }
    }
}

/// Where a URL's host lies, if it is written as an address.
pub(crate) fn literal_reach(url: &Url) -> Option<Reach> {
    match url.host()? {
        Host::Ipv4(address) => Some(Reach::of(address.into())),
        Host::Ipv6(address) => Some(Reach::of(address.into())),
        // RFC 6761, section 6.3: these names never leave this machine, whatever a resolver says.
        Host::Domain(name) if is_localhost(name) => Some(Reach::Loopback),
        Host::Domain(_) => None,
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

fn of_v4(address: Ipv4Addr) -> Reach {
    let within = |network: [u8; 4], length: u8| {
        Ipv4Net::new(network.into(), length).is_ok_and(|network| network.contains(&address))
    };
    match address {
        // 0.0.0.0 reaches this machine on Linux.
        _ if address.is_loopback() || within([0, 0, 0, 0], 8) => Reach::Loopback,
        _ if address.is_link_local() => Reach::LinkLocal,
        _ if address.is_private() || within([100, 64, 0, 0], 10) => Reach::Private,
        _ if address.is_multicast() || within([240, 0, 0, 0], 4) => Reach::Special,
        _ if within([198, 18, 0, 0], 15) => Reach::Benchmark,
        _ if address.is_documentation() || within([192, 0, 0, 0], 24) => Reach::Special,
        _ => Reach::Public,
    }
}

fn of_v6(address: Ipv6Addr) -> Reach {
    let within =
        |network: Ipv6Addr, length: u8| Ipv6Net::new(network, length).is_ok_and(|network| network.contains(&address));
    match address {
        _ if address.is_loopback() || address.is_unspecified() => Reach::Loopback,
        _ if address.is_unicast_link_local() => Reach::LinkLocal,
        // fec0::/10 are the site-local addresses of old.
        _ if address.is_unique_local() || within(Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10) => Reach::Private,
        _ if address.is_multicast() => Reach::Special,
        _ if within(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32) => Reach::Special,
        _ if within(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64) => Reach::Special,
        _ => Reach::Public,
    }
}

/// The IPv4 address within an IPv6 address: mapped and compatible (RFC 4291), NAT64 (RFC 6052), 6to4 (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let last = || Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]);
    if address.is_loopback() || address.is_unspecified() {
        return None;
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff | 0, _, _] => Some(last()),
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] | [0x64, 0xff9b, 1, ..] => Some(last()),
        [0x2002, ..] => Some(Ipv4Addr::new(octets[2], octets[3], octets[4], octets[5])),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_all_their_disguises() {
        for (reach, addresses) in [
            (Reach::Public, &["8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700::1111", "64:ff9b::808:808"][..]),
            (Reach::Private, &["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fd00::1"]),
            (Reach::Private, &["::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "fec0::1", "::10.0.0.1"]),
            (Reach::LinkLocal, &["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "2002:a9fe:a9fe::"]),
            (Reach::Loopback, &["127.0.0.1", "127.255.0.1", "0.0.0.0", "0.1.2.3", "::1", "::", "::ffff:127.0.0.1"]),
            (Reach::Special, &["224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "ff02::1"]),
            (Reach::Benchmark, &["198.18.0.1", "198.19.255.255", "::ffff:198.18.0.1"]),
        ] {
            for address in addresses {
                assert_eq!(Reach::of(address.parse().unwrap()), reach, "{address}");
            }
        }
    }

    #[test]
    fn written_addresses_are_read_as_browsers_read_them() {
        for (text, reach) in [
            ("http://2130706433/", Some(Reach::Loopback)),
            ("http://0x7f.1/", Some(Reach::Loopback)),
            ("http://017700000001/", Some(Reach::Loopback)),
            ("http://[::ffff:7f00:1]/", Some(Reach::Loopback)),
            ("http://LOCALHOST./", Some(Reach::Loopback)),
            ("http://x.localhost/", Some(Reach::Loopback)),
            ("http://169.254.169.254/", Some(Reach::LinkLocal)),
            ("http://registry.example/", None),
        ] {
            assert_eq!(literal_reach(&text.parse().unwrap()), reach, "{text}");
        }
    }

    #[test]
    fn nobody_is_led_where_they_should_not_be() {
        use Reach::*;
        let all = [Public, Private, Benchmark, LinkLocal, Loopback, Special];
        let allowed: Vec<(Reach, Reach)> =
            all.iter().flat_map(|from| all.map(|to| (*from, to))).filter(|(from, to)| from.may_lead_to(*to)).collect();
        let mut expected: Vec<(Reach, Reach)> = all.map(|from| (from, Public)).to_vec();
        expected.extend([(Private, Private), (LinkLocal, LinkLocal), (Loopback, Private), (Loopback, Loopback)]);
        expected.extend([(Benchmark, Benchmark), (Private, Benchmark), (Loopback, Benchmark)]);
        assert_eq!(allowed.len(), expected.len());
        assert!(expected.iter().all(|pair| allowed.contains(pair)));
    }
}
