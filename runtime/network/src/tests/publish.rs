//! Published ports, from everywhere.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use super::lab::{HOST, Lab, OUTSIDE, ask_udp, named};
use crate::{Protocol, PublishedPort};

#[test]
fn from_outside_the_source_address_is_kept() {
    let lab = Lab::new();
    let outside = lab.outside();
    let server = lab.server("web", &["8080:80", "8080:80/udp"]);
    let address = server.endpoint.address;
    assert_eq!(outside.ask(HOST, 8080).unwrap(), format!("{address} hears {OUTSIDE}"));
    assert_eq!(ask_udp(&outside.udp(), HOST, 8080).unwrap(), format!("{address} hears {OUTSIDE}"));
    assert!(outside.cannot_ask(HOST, 80));
}

#[test]
fn from_the_host_by_its_other_addresses_and_from_containers_by_all() {
    for bridge_filter in ["0", "1"] {
        let lab = Lab::new();
        let _outside = lab.outside();
        let (server, other) = (lab.server("web", &["8080:80", "8080:80/udp"]), lab.connect(named("other")));
        std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", bridge_filter).unwrap();
        let (address, gateway) = (server.endpoint.address, server.endpoint.gateway);
        assert_eq!(lab.host.ask(HOST, 8080).unwrap(), format!("{address} hears {HOST}"));
        assert_eq!(lab.host.ask(gateway, 8080).unwrap(), format!("{address} hears {gateway}"));
        assert_eq!(ask_udp(&lab.host.udp(), HOST, 8080).unwrap(), format!("{address} hears {HOST}"));
        for (who, space) in [("itself", &server.space), ("another", &other.space)] {
            for to in [HOST, gateway] {
                let heard = space.ask(to, 8080).unwrap_or_else(|error| panic!("{who} by {to}: {error}"));
                assert_eq!(heard, format!("{address} hears {gateway}"), "{who} by {to}, filter {bridge_filter}");
                let heard = ask_udp(&space.udp(), to, 8080);
                assert_eq!(heard.unwrap(), format!("{address} hears {gateway}"), "{who} by {to}");
            }
        }
    }
}

#[test]
fn what_comes_to_localhost_comes_to_the_sockets() {
    let lab = Lab::new();
    let server = lab.server("web", &["127.0.0.1:8081:80", "8080:80"]);
    let held = |port| server.held.iter().find(|held| held.binding.host_port == port && held.binding.host.is_ipv4());
    for port in [8080, 8081] {
        let listener = TcpListener::from(held(port).unwrap().socket.try_clone().unwrap());
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert_eq!(listener.accept().unwrap().1, stream.local_addr().unwrap());
    }
    let all: Vec<_> = server.held.iter().map(|held| held.binding.host.to_string()).collect();
    assert_eq!(all, ["127.0.0.1", "0.0.0.0", "::"]);
    assert_eq!(server.held.iter().map(|held| held.binding).collect::<Vec<_>>(), server.endpoint.ports);
    assert!(TcpStream::connect(("::1", 8080)).is_ok());
}

#[test]
fn a_port_of_one_address_is_reached_by_that_address_only() {
    let lab = Lab::new();
    let outside = lab.outside();
    super::lab::run("ip address add 203.0.113.2/24 dev up0");
    let (second, local) = (Ipv4Addr::new(203, 0, 113, 2), "127.0.0.1:8081:80");
    let server = lab.server("web", &["203.0.113.2:8080:80", local]);
    let other = lab.server("other", &["203.0.113.1:8080:80"]);
    let heard = |address, by| (outside.ask(by, 8080).unwrap(), format!("{address} hears {OUTSIDE}"));
    let (found, expected) = heard(server.endpoint.address, second);
    assert_eq!(found, expected);
    let (found, expected) = heard(other.endpoint.address, HOST);
    assert_eq!(found, expected);
    assert!(outside.cannot_ask(HOST, 8081), "what is published on localhost");
    assert!(lab.host.cannot_ask(server.endpoint.gateway, 8080));
}

#[test]
fn a_port_is_allocated_once() {
    let lab = Lab::new();
    let outside = lab.outside();
    let first = lab.server("web", &["8080:80"]);
    let mut second = lab.connect(named("second"));
    second.space.serve(80);
    for form in ["8080:80", "127.0.0.1:8080:80", "203.0.113.1:8080:80"] {
        let error = lab.publish(&mut second, &["9090:80", form]).unwrap_err().to_string();
        let host = form.strip_suffix(":8080:80").unwrap_or("0.0.0.0");
        let expected = format!(
            "driver failed programming external connectivity on endpoint second ({}): \
             Bind for {host}:8080 failed: port is already allocated",
            second.endpoint.id
        );
        assert_eq!(error, expected);
    }
    assert!(outside.cannot_ask(HOST, 9090), "all or none");
    lab.publish(&mut second, &["8080:80/udp"]).unwrap();
    let address = second.endpoint.address;
    assert_eq!(ask_udp(&outside.udp(), HOST, 8080).unwrap(), format!("{address} hears {OUTSIDE}"));

    lab.networks.disconnect(&first.endpoint).unwrap();
    drop(first);
    lab.networks.unpublish(&mut second.endpoint).unwrap();
    assert!(outside.cannot_ask(HOST, 8080));
    second.held.clear();
    lab.publish(&mut second, &["8080:80"]).unwrap();
    assert_eq!(outside.ask(HOST, 8080).unwrap(), format!("{address} hears {OUTSIDE}"));
}

#[test]
fn programs_of_the_host_cannot_take_a_published_port_nor_lose_theirs() {
    let lab = Lab::new();
    let listener = TcpListener::bind("0.0.0.0:9000").unwrap();
    let mut server = lab.server("web", &["8080:80", "8080:80/udp"]);
    assert!(TcpListener::bind("0.0.0.0:8080").is_err());
    assert!(std::net::UdpSocket::bind("0.0.0.0:8080").is_err());
    let error = lab.publish(&mut server, &["9000:80"]).unwrap_err().to_string();
    assert!(error.ends_with("Bind for 0.0.0.0:9000 failed: port is already allocated"), "{error}");
    drop(listener);
    let error = lab.publish(&mut server, &["198.51.100.7:9000:80"]).unwrap_err().to_string();
    assert!(error.ends_with("listen 198.51.100.7:9000: bind: cannot assign requested address"), "{error}");
}

#[test]
fn ports_nobody_named_are_given_one_after_the_other() {
    let lab = Lab::new();
    let outside = lab.outside();
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40005").unwrap();
    let server = lab.server("web", &["80", "80/udp", "7000-7002:80"]);
    let ports = |container: &super::lab::Container| {
        let ports = container.endpoint.ports.iter().filter(|binding| binding.host.is_ipv4());
        ports.map(|binding| (binding.host_port, binding.protocol)).collect::<Vec<_>>()
    };
    assert_eq!(ports(&server), [(40000, Protocol::Tcp), (40001, Protocol::Udp), (7000, Protocol::Tcp)]);
    let address = server.endpoint.address;
    for port in [40000, 7000] {
        assert_eq!(outside.ask(HOST, port).unwrap(), format!("{address} hears {OUTSIDE}"));
    }
    let other = lab.server("other", &["80", "7000-7002:80"]);
    assert_eq!(ports(&other), [(40002, Protocol::Tcp), (7001, Protocol::Tcp)]);
    lab.networks.disconnect(&other.endpoint).unwrap();
    drop(other);
    let mut third = lab.server("third", &["80", "80", "80"]);
    assert_eq!(ports(&third).iter().map(|(port, _)| *port).collect::<Vec<_>>(), [40003, 40004, 40005]);
    let all: Vec<PublishedPort> = PublishedPort::parse("81-84").unwrap();
    let error = lab.networks.publish(&mut third.endpoint, &all).unwrap_err().to_string();
    assert!(error.ends_with("Bind for 0.0.0.0 failed: all ports are allocated"), "{error}");
}

#[test]
fn a_udp_sender_that_goes_on_is_led_to_the_new_container() {
    let lab = Lab::new();
    let outside = lab.outside();
    let sender = outside.udp();
    // Nobody is there yet; the kernel remembers the sender.
    lab.connect(named("first"));
    sender.send_to(b"?", (HOST, 5353)).unwrap();
    let mut one = lab.server("one", &["5353:80/udp"]);
    let (first, expected) = (one.endpoint.address, format!("hears {OUTSIDE}"));
    assert_eq!(ask_udp(&sender, HOST, 5353).unwrap(), format!("{first} {expected}"));
    lab.networks.unpublish(&mut one.endpoint).unwrap();
    one.held.clear();
    let two = lab.server("two", &["5353:80/udp"]);
    assert_eq!(ask_udp(&sender, HOST, 5353).unwrap(), format!("{} {expected}", two.endpoint.address));
    assert_ne!(first, two.endpoint.address);
}
