//! Connecting: addresses, ways, ranges, names.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::sync::Barrier;

use super::lab::{HOST, Lab, OUTSIDE, Space, answer, commit, eventually, everybody_lives, named, run};
use crate::netlink::Batch;
use crate::nftables::{self, Transaction};
use crate::{Driver, Error, Request, loopback_up};

#[test]
fn a_container_reaches_the_outside_with_the_hosts_address() {
    let lab = Lab::new();
    let outside = lab.outside();
    outside.serve(80);
    let container = lab.connect(named("one"));
    assert_eq!(container.space.ask(OUTSIDE, 80).unwrap(), format!("{OUTSIDE} hears {HOST}"));
}

#[test]
fn containers_reach_each_other_and_the_host_with_their_own_addresses() {
    for bridge_filter in ["0", "1"] {
        let lab = Lab::new();
        let (one, two) = (lab.connect(named("one")), lab.connect(named("two")));
        std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", bridge_filter).unwrap();
        two.space.serve(80);
        let (from, to) = (one.endpoint.address, two.endpoint.address);
        assert_eq!(one.space.ask(to, 80).unwrap(), format!("{to} hears {from}"));
        assert_eq!(lab.host.ask(to, 80).unwrap(), format!("{to} hears {}", two.endpoint.gateway));
        assert_eq!(two.space.ask(to, 80).unwrap(), format!("{to} hears {to}"), "itself");
        assert_eq!(two.space.ask(Ipv4Addr::LOCALHOST, 80).unwrap(), format!("{to} hears 127.0.0.1"));
    }
}

#[test]
fn what_is_not_published_is_not_reached_from_outside() {
    let lab = Lab::new();
    let outside = lab.outside();
    let container = lab.server("one", &[]);
    outside.within(|| run(&format!("ip route add 172.17.0.0/16 via {HOST}")));
    assert!(outside.cannot_ask(container.endpoint.address, 80));
}

#[test]
fn the_containers_end_is_as_docker_makes_it() {
    let lab = Lab::new();
    let container = lab.connect(named("one"));
    let endpoint = &container.endpoint;
    assert_eq!((endpoint.address.to_string().as_str(), endpoint.prefix), ("172.17.0.2", 16));
    assert_eq!(endpoint.mac.to_string(), "02:42:ac:11:00:02");
    container.space.within(|| {
        let link = run("ip -o link show dev eth0");
        assert!(link.contains("02:42:ac:11:00:02") && link.contains("mtu 1500") && link.contains(",UP"), "{link}");
        let address = run("ip -o address show dev eth0");
        assert!(address.contains("172.17.0.2/16 brd 172.17.255.255 scope global"), "{address}");
        assert!(!address.contains("inet6"), "{address}");
        let routes = run("ip route");
        assert_eq!(routes.lines().next().unwrap().trim(), "default via 172.17.0.1 dev eth0");
        assert!(run("ip -o address show dev lo").contains("127.0.0.1/8"));
    });
    let host = run("ip -o address show dev cove0");
    assert!(host.contains("172.17.0.1/16 brd 172.17.255.255") && !host.contains("inet6"), "{host}");
    assert_eq!(std::fs::read("/proc/sys/net/ipv4/ip_forward").unwrap(), b"1\n");
}

#[test]
fn addresses_that_were_asked_for_are_given() {
    let lab = Lab::new();
    let mac = Some("02:42:00:00:00:07".parse().unwrap());
    let address = Some(Ipv4Addr::new(172, 17, 9, 9));
    let container = lab.connect(Request { address, mac, ..named("one") });
    container.space.within(|| {
        assert!(run("ip -o address show dev eth0").contains("172.17.9.9/16"));
        assert!(run("ip -o link show dev eth0").contains("02:42:00:00:00:07"));
    });
    container.space.serve(80);
    assert!(lab.host.ask(Ipv4Addr::new(172, 17, 9, 9), 80).is_ok());
    let space = Space::empty();
    let again =
        lab.networks.connect(space.descriptor().as_fd(), &Request { address, ..named("two") }, &everybody_lives);
    assert_eq!(again.unwrap_err().to_string(), "Address already in use");
}

#[test]
fn many_connect_at_once_to_a_machine_that_has_nothing_yet() {
    let lab = Lab::new();
    let names: Vec<String> = (0..12).map(|number| format!("c{number}")).collect();
    let containers: Vec<(Space, Ipv4Addr)> = std::thread::scope(|scope| {
        let connect = |name: &String| {
            let name = name.clone();
            let lab = &lab;
            scope.spawn(move || {
                lab.host.within(|| {
                    // As processes of their own have it: only the folders are shared.
                    let networks = Lab::store(lab.folder());
                    let (container, _) = Lab::connect_by(&networks, named(&name));
                    (container.space, container.endpoint.address)
                })
            })
        };
        let threads: Vec<_> = names.iter().map(connect).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut addresses: Vec<Ipv4Addr> = containers.iter().map(|(_, address)| *address).collect();
    addresses.sort_unstable();
    let expected: Vec<Ipv4Addr> = (2..14).map(|last| Ipv4Addr::new(172, 17, 0, last)).collect();
    assert_eq!(addresses, expected);
    count_rules();
    let (server, address) = &containers[0];
    server.serve(80);
    for (space, from) in &containers[1..] {
        assert_eq!(space.ask(*address, 80).unwrap(), format!("{address} hears {from}"));
    }
}

/// Every rule is there once.
fn count_rules() {
    for (table, chain, expected) in [("cove0", "postrouting", 2), ("cove0", "forward", 8), ("filter", "FORWARD", 2)] {
        let mut batch = Batch::default();
        nftables::list_rules(&mut batch, table, chain);
        assert_eq!(nftables::rules(&answer(&mut batch).messages().unwrap()).len(), expected, "{table} {chain}");
    }
}

#[test]
fn the_rules_are_made_once_however_many_make_them() {
    let lab = Lab::new();
    let bridge = lab.networks.find("bridge").unwrap().into_bridge().unwrap();
    for _ in 0..20 {
        let together = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    lab.host.within(|| {
                        let networks = Lab::store(lab.folder());
                        together.wait();
                        networks.prepare_firewall(&bridge).unwrap();
                    });
                });
            }
        });
        count_rules();
        let mut transaction = Transaction::new();
        transaction.delete_table("cove0");
        transaction.delete_table("filter");
        commit(transaction);
    }
}

#[test]
fn ranges_that_the_host_uses_are_avoided_also_when_that_changes_with_a_restart() {
    let lab = Lab::new();
    run("ip link add docker0 type bridge");
    run("ip address add 172.17.0.1/16 dev docker0");
    run("ip link set docker0 up");
    run("ip route add 172.18.128.0/24 dev docker0");
    assert_eq!(lab.connect(named("one")).endpoint.address.to_string(), "172.19.0.2");
    let network = lab.networks.find("bridge").unwrap();
    assert_eq!(network.ipv4.unwrap().subnet.to_string(), "172.19.0.0/16");

    // Nothing changed: the range stays.
    lab.restart();
    assert_eq!(lab.connect(named("one")).endpoint.address.to_string(), "172.19.0.2");

    lab.restart();
    run("ip route add 172.19.5.0/24 dev docker0");
    let container = lab.connect(named("one"));
    assert_eq!(container.endpoint.address.to_string(), "172.20.0.2");
    let after = lab.networks.find("bridge").unwrap();
    assert_eq!((after.id, after.ipv4.unwrap().subnet.to_string().as_str()), (network.id, "172.20.0.0/16"));
    let outside = lab.outside();
    outside.serve(80);
    let heard = container.space.ask(OUTSIDE, 80).unwrap();
    assert_eq!(heard, format!("{OUTSIDE} hears {HOST}"), "the rules are those of the new range");
}

#[test]
fn packets_are_as_small_as_the_way_out_wants_them() {
    let lab = Lab::new();
    let _outside = lab.outside();
    run("ip link set up0 mtu 1400");
    run(&format!("ip route add default via {OUTSIDE}"));
    let container = lab.connect(named("one"));
    assert!(container.space.within(|| run("ip -o link show dev eth0")).contains("mtu 1400"));
    assert!(run(&format!("ip -o link show dev {}", container.endpoint.interface)).contains("mtu 1400"));
}

#[test]
fn containers_are_found_by_name_and_by_address() {
    let lab = Lab::new();
    let aliases = vec!["db".to_owned()];
    let one = lab.connect(Request { aliases: aliases.clone(), ..named("one") });
    let two = lab.connect(Request { aliases, hostname: "one".to_owned(), ..named("two") });
    let (first, second) = (IpAddr::V4(one.endpoint.address), IpAddr::V4(two.endpoint.address));
    let lookup = |name: &str| lab.networks.lookup("bridge", name, &everybody_lives).unwrap();
    assert_eq!(lookup("one"), [first], "a name counts more than another's host name");
    assert_eq!(lookup("ONE"), [first]);
    assert_eq!(lookup(&one.endpoint.container[..12]), [first]);
    assert_eq!(lookup("one-host"), [first]);
    assert_eq!(lookup("db"), [first, second]);
    assert_eq!(lookup("three"), [] as [IpAddr; 0]);
    assert_eq!(lookup(""), [] as [IpAddr; 0]);
    let is_alive = |id: &str| id != one.endpoint.container;
    assert_eq!(lab.networks.lookup("bridge", "db", &is_alive).unwrap(), [second]);
    assert_eq!(lab.networks.reverse("bridge", second).unwrap().unwrap().name, "two");
    assert_eq!(lab.networks.reverse("bridge", "172.17.0.77".parse().unwrap()).unwrap(), None);

    assert!(lab.networks.rename("bridge", &two.endpoint.container, "three").unwrap());
    assert_eq!(lookup("three"), [second]);
    lab.networks.disconnect(&two.endpoint).unwrap();
    assert_eq!(lookup("three"), [] as [IpAddr; 0]);
    assert!(!lab.networks.rename("bridge", &two.endpoint.container, "two").unwrap());
}

#[test]
fn the_link_goes_with_the_namespace_and_the_address_with_the_lease() {
    let lab = Lab::new();
    let container = lab.connect(named("one"));
    let interface = container.endpoint.interface.clone();
    assert!(run("ip -o link show").contains(&interface));
    lab.networks.disconnect(&container.endpoint).unwrap();
    lab.networks.disconnect(&container.endpoint).unwrap();
    // The address can be given while the old link still dies.
    assert_eq!(lab.connect(named("two")).endpoint.address, container.endpoint.address);
    lab.networks.disconnect(&container.endpoint).unwrap();
    assert_eq!(lab.networks.endpoints("bridge").unwrap().len(), 1, "another's lease is left alone");
    drop(container);
    eventually("the link goes", || !run("ip -o link show").contains(&interface));
}

#[test]
fn the_three_networks_are_always_there() {
    let lab = Lab::new();
    let networks = lab.networks.list().unwrap();
    let names: Vec<(&str, Driver)> = networks.iter().map(|network| (network.name.as_str(), network.driver)).collect();
    assert_eq!(names, [("bridge", Driver::Bridge), ("host", Driver::Host), ("none", Driver::Null)]);
    assert_eq!(lab.networks.list().unwrap(), networks, "they keep their ids");
    let pool = networks[0].ipv4.unwrap();
    assert_eq!((pool.subnet.to_string().as_str(), pool.gateway.to_string().as_str()), ("172.17.0.0/16", "172.17.0.1"));
    assert_eq!(networks[0].options["com.docker.network.bridge.name"], "cove0");
    for network in &networks {
        assert_eq!(network.id.len(), 64);
        assert_eq!(&lab.networks.find(&network.id[..12]).unwrap(), network);
        assert_eq!(&lab.networks.find(&network.name).unwrap(), network);
    }
    assert_eq!(lab.networks.find("nowhere").unwrap_err().to_string(), "network nowhere not found");
    assert!(matches!(lab.networks.find(""), Err(Error::NoSuchNetwork { .. })));
    let refused = lab.networks.connect(
        Space::empty().descriptor().as_fd(),
        &Request { network: "host".into(), ..named("a") },
        &everybody_lives,
    );
    assert!(matches!(refused, Err(Error::NoBridge { .. })));
}

#[test]
fn a_namespace_that_cannot_be_connected_keeps_no_address() {
    let lab = Lab::new();
    let space = Space::empty();
    let connect = |name| lab.networks.connect(space.descriptor().as_fd(), &named(name), &everybody_lives);
    space.within(|| run("ip link add eth0 type bridge"));
    let error = connect("one").unwrap_err();
    assert!(matches!(error, Error::Kernel { .. }), "{error}");
    assert_eq!(lab.networks.endpoints("bridge").unwrap(), []);
    space.within(|| run("ip link delete eth0"));
    assert_eq!(connect("one").unwrap().endpoint.address.to_string(), "172.17.0.2");
}

#[test]
fn without_a_network_a_container_speaks_to_itself() {
    let space = Space::empty();
    loopback_up(space.descriptor().as_fd()).unwrap();
    space.within(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    });
}

#[test]
fn who_has_no_rights_is_told_so() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let lab = Lab::new();
    let space = Space::empty();
    let connect = || lab.networks.connect(space.descriptor().as_fd(), &named("one"), &everybody_lives);
    let error = lab.host.within(|| {
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::NET_ADMIN);
        set_capabilities(None, sets).unwrap();
        connect().unwrap_err()
    });
    assert!(matches!(error, Error::NotPermitted { .. }), "{error}");
    assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
    assert_eq!(lab.networks.endpoints("bridge").unwrap(), [], "no lease is left");
    connect().unwrap();
}
