//! Names of containers.

use super::*;

const WEB: &[u8] = &[172, 18, 0, 2];

/// A resolver whose server answers 10.0.0.9 to everything.
fn resolver() -> Running {
    Running::start(&[server(|query, _| vec![answer(query, 9)])])
}

#[test]
fn containers_are_found_by_name_whatever_the_case() {
    let resolver = resolver();
    for name in ["web", "WEB", "wEb.nEt"] {
        let query = question(0x1234, name, 1);
        let response = resolver.ask(&query);
        assert_eq!(read(&response), (0, false, vec![(600, WEB.to_vec())]), "{name}");
        // The id, recursion, and the question with its letters as they were.
        assert_eq!(response[..4], [0x12, 0x34, 0x81, 0x80]);
        assert_eq!(response[12..query.len()], query[12..]);
    }
    let web6: std::net::Ipv6Addr = "fd00::2".parse().unwrap();
    assert_eq!(data(&resolver.ask(&question(1, "both", 28))), [web6.octets()]);
    assert_eq!(data(&resolver.ask(&question(1, "both", 1))), [WEB]);
}

#[test]
fn a_name_without_such_an_address_exists_all_the_same() {
    let resolver = resolver();
    // AAAA, MX, SVCB, HTTPS
    for kind in [28, 15, 64, 65] {
        assert_eq!(read(&resolver.ask(&question(1, "web", kind))), (0, false, vec![]), "{kind}");
    }
}

#[test]
fn everything_else_goes_to_the_server() {
    let resolver = resolver();
    for (name, kind) in [
        ("example.com", 1),
        ("web.example.com", 1),
        // ANY, TXT, SOA: an alias can be a real domain.
        ("web", 255),
        ("web", 16),
        ("web", 6),
        ("", 2),
        ("9.9.9.9.in-addr.arpa", 12),
        ("2.0.18.172.3.in-addr.arpa", 12),
        ("x.2.0.18.172.in-addr.arpa", 12),
        ("in-addr.arpa", 12),
    ] {
        assert_eq!(data(&resolver.ask(&question(1, name, kind))), [[10, 0, 0, 9]], "{name} {kind}");
    }
    let mut other_class = question(1, "web", 1);
    *other_class.last_mut().unwrap() = 3;
    assert_eq!(data(&resolver.ask(&other_class)), [[10, 0, 0, 9]]);
}

#[test]
fn addresses_are_found_back() {
    let resolver = resolver();
    let six = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.D.f.ip6.arpa";
    for name in ["2.0.18.172.in-addr.arpa", "2.0.18.172.IN-ADDR.arpa", six] {
        assert_eq!(data(&resolver.ask(&question(1, name, 12))), [b"\x03web\x03net\0"], "{name}");
    }
}

#[test]
fn many_addresses_are_cut_to_a_datagram_and_whole_in_a_connection() {
    let resolver = resolver();
    let query = question(1, "many", 1);
    let response = resolver.ask(&query);
    let (code, cut, records) = read(&response);
    assert!(code == 0 && cut && records.len() == (512 - query.len()) / 16 && response.len() <= 512);
    let response = resolver.ask(&with_edns(query.clone(), 4096));
    let (_, cut, records) = read(&response);
    assert!(!cut && records.len() == 100 && response[11] == 1, "{}", records.len());
    assert_eq!(response[response.len() - 11..], [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    let mut stream = resolver.connection();
    send_framed(&mut stream, &query);
    assert_eq!(data(&receive_framed(&mut stream).unwrap()).len(), 100);
}

#[test]
fn containers_of_one_name_take_turns() {
    let resolver = resolver();
    let first: std::collections::HashSet<Vec<u8>> =
        (0..50).map(|id| data(&resolver.ask(&question(id, "many", 1)))[0].clone()).collect();
    assert!(first.len() > 5);
}
