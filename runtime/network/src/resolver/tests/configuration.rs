//! resolv.conf, read and written.

use super::super::{DnsOptions, HostResolver, Nameserver, container_resolv_conf};
use super::*;

#[test]
fn the_hosts_file_is_read_as_the_c_library_does() {
    let host = HostResolver::parse(
        "# a comment\n; another\nnameserver 127.0.0.53 # stub\n nameserver\t192.0.2.1\nnameserver 2001:db8::1\n\
         nameserver fe80::1%no-such-if\nnameserver fe80::1%1\nnameserver nonsense\nnameserver\nnameserver 10.0.0.1%eth0\n\
         domain old.example\nsearch one.example two.example\noptions ndots:2 timeout:1 attempts:3\noptions edns0 trust-ad\n\
         sortlist 130.155.160.0\nfamily inet\n",
    );
    let server = |address: &str, scope: Option<&str>| Nameserver {
        address: address.parse().unwrap(),
        scope: scope.map(str::to_owned),
    };
    assert_eq!(
        host.servers,
        [
            server("127.0.0.53", None),
            server("192.0.2.1", None),
            server("2001:db8::1", None),
            server("fe80::1", Some("no-such-if")),
            server("fe80::1", Some("1"))
        ]
    );
    assert_eq!(host.search, ["one.example", "two.example"]);
    assert_eq!(host.options, ["ndots:2", "timeout:1", "attempts:3", "edns0", "trust-ad"]);
    // The interface that is not there is left out; the other is kept with its number.
    let addresses: Vec<String> = host.addresses(&DnsOptions::default()).iter().map(SocketAddr::to_string).collect();
    assert_eq!(addresses, ["127.0.0.53:53", "192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%1]:53"]);
    let own = DnsOptions { servers: vec!["9.9.9.9".parse().unwrap()], ..DnsOptions::default() };
    assert_eq!(host.addresses(&own), ["9.9.9.9:53".parse().unwrap()]);
    assert_eq!(HostResolver::parse(""), HostResolver::default());
    let loopback = HostResolver::parse("nameserver fe80::2%lo").addresses(&DnsOptions::default());
    assert_eq!(loopback, ["[fe80::2%1]:53".parse().unwrap()]);
}

#[test]
fn a_containers_file_names_the_resolver_and_what_was_asked_for() {
    let host = HostResolver::parse("nameserver 192.0.2.1\nsearch a.example b.example\noptions edns0 trust-ad\n");
    let text = |own: &DnsOptions, servers: &[IpAddr]| container_resolv_conf(&host, own, servers);
    let comment = "# Made by cove for this container.\n";
    let none = DnsOptions::default();
    assert_eq!(
        text(&none, &[ADDRESS]),
        format!("{comment}nameserver 127.0.0.11\nsearch a.example b.example\noptions edns0 trust-ad ndots:0\n")
    );
    let own = DnsOptions {
        servers: vec!["9.9.9.9".parse().unwrap()],
        search: vec!["c.example".to_owned()],
        options: vec!["ndots:3".to_owned()],
    };
    assert_eq!(text(&own, &[ADDRESS]), format!("{comment}nameserver 127.0.0.11\nsearch c.example\noptions ndots:3\n"));
    assert_eq!(text(&own, &own.servers), format!("{comment}nameserver 9.9.9.9\nsearch c.example\noptions ndots:3\n"));
    let nothing_searched = DnsOptions { search: vec![".".to_owned()], ..none };
    assert_eq!(
        text(&nothing_searched, &[ADDRESS]),
        format!("{comment}nameserver 127.0.0.11\noptions edns0 trust-ad ndots:0\n")
    );
}
