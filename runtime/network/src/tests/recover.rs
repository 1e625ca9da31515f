//! What is put right after somebody was killed, or removed what is ours.

use super::lab::{HOST, Lab, OUTSIDE, ask_udp, everybody_lives, named, run};
use crate::netlink::Batch;
use crate::nftables::{self, Transaction};
use crate::{Request, firewall};

/// How many elements a map has.
fn count(map: firewall::Map) -> usize {
    let mut batch = Batch::default();
    nftables::list_elements(&mut batch, "cove0", map.name());
    let answer = firewall::open().unwrap().ask(&mut batch).unwrap().pop().unwrap();
    nftables::elements(&answer.messages().unwrap()).len()
}

#[test]
fn what_dead_containers_left_is_swept_and_nothing_else() {
    let lab = Lab::new();
    let outside = lab.outside();
    let dead = lab.server("dead", &["8080:80", "8080:80/udp", "203.0.113.1:8082:80"]);
    let alive = lab.server("alive", &["8081:80", "8081:80/udp"]);
    let sender = outside.udp();
    assert!(ask_udp(&sender, HOST, 8080).is_some());
    let (name, address) = (dead.endpoint.container.clone(), dead.endpoint.address);
    let is_alive = |id: &str| id != name;
    // Killed: its sockets and its namespace are gone, nothing was taken back.
    drop(dead);
    assert_eq!(lab.networks.sweep(&everybody_lives).unwrap(), 0);
    assert_eq!((count(firewall::Map::Ports), count(firewall::Map::Addresses)), (4, 1));
    assert_eq!(lab.networks.sweep(&is_alive).unwrap(), 1);
    assert_eq!(lab.networks.sweep(&is_alive).unwrap(), 0);
    assert_eq!((count(firewall::Map::Ports), count(firewall::Map::Addresses)), (2, 0));
    let left = lab.networks.endpoints("bridge").unwrap();
    assert_eq!(left, std::slice::from_ref(&alive.endpoint));
    let expected = format!("{} hears {OUTSIDE}", alive.endpoint.address);
    assert_eq!(outside.ask(HOST, 8081).unwrap(), expected);
    assert_eq!(ask_udp(&outside.udp(), HOST, 8081).unwrap(), expected);

    let next = lab.server("next", &["8080:80", "8080:80/udp"]);
    assert_eq!(next.endpoint.address, address);
    assert_eq!(outside.ask(HOST, 8080).unwrap(), format!("{address} hears {OUTSIDE}"));
    assert_eq!(ask_udp(&sender, HOST, 8080).unwrap(), format!("{address} hears {OUTSIDE}"));
}

#[test]
fn a_port_of_a_dead_container_can_be_published_before_anybody_sweeps() {
    let lab = Lab::new();
    let outside = lab.outside();
    drop(lab.server("dead", &["8080:80", "203.0.113.1:8082:80"]));
    let next = lab.server("next", &["8080:80", "203.0.113.1:8082:80"]);
    for port in [8080, 8082] {
        assert_eq!(outside.ask(HOST, port).unwrap(), format!("{} hears {OUTSIDE}", next.endpoint.address));
    }
    // What is swept then is not what the next one has.
    lab.networks.sweep(&|id| id == next.endpoint.container).unwrap();
    for port in [8080, 8082] {
        assert_eq!(outside.ask(HOST, port).unwrap(), format!("{} hears {OUTSIDE}", next.endpoint.address));
    }
}

#[test]
fn an_address_of_a_dead_container_can_be_asked_for() {
    let lab = Lab::new();
    let address = Some("172.17.0.50".parse().unwrap());
    let dead = lab.connect(Request { address, ..named("dead") });
    let id = dead.endpoint.container.clone();
    drop(dead);
    let space = super::lab::Space::empty();
    let descriptor = std::os::fd::AsFd::as_fd(space.descriptor());
    let request = Request { address, ..named("next") };
    let next = lab.networks.connect(descriptor, &request, &|other| other != id).unwrap();
    assert_eq!(Some(next.endpoint.address), address);
}

#[test]
fn a_table_that_somebody_removed_comes_back_with_all_ports() {
    let lab = Lab::new();
    let outside = lab.outside();
    let mut server = lab.server("web", &["8080:80"]);
    let expected = format!("{} hears {OUTSIDE}", server.endpoint.address);
    let mut transaction = Transaction::new();
    transaction.delete_table("cove0");
    firewall::open().unwrap().commit(&mut transaction.finish()).unwrap();
    assert!(outside.cannot_ask(HOST, 8080));
    let other = lab.connect(named("other"));
    assert_eq!(outside.ask(HOST, 8080).unwrap(), expected);

    let mut transaction = Transaction::new();
    transaction.delete_table("cove0");
    transaction.add_table("cove0", "cove network bridge, layout 0");
    firewall::open().unwrap().commit(&mut transaction.finish()).unwrap();
    lab.connect(named("third"));
    assert_eq!(outside.ask(HOST, 8080).unwrap(), expected, "after a table of another layout");

    let mut transaction = Transaction::new();
    transaction.delete_table("cove0");
    firewall::open().unwrap().commit(&mut transaction.finish()).unwrap();
    lab.networks.unpublish(&mut server.endpoint).unwrap();
    lab.networks.disconnect(&server.endpoint).unwrap();
    lab.networks.disconnect(&other.endpoint).unwrap();
    assert_eq!(lab.networks.endpoints("bridge").unwrap().len(), 1);
}

#[test]
fn a_bridge_without_its_address_or_taken_down_is_put_right() {
    let lab = Lab::new();
    let outside = lab.outside();
    outside.serve(80);
    lab.connect(named("one"));
    for damage in ["ip address flush dev cove0", "ip link set cove0 down", "ip link delete cove0"] {
        run(damage);
        let container = lab.connect(named("two"));
        let heard = container.space.ask(OUTSIDE, 80).unwrap_or_else(|error| panic!("{damage}: {error}"));
        assert_eq!(heard, format!("{OUTSIDE} hears {HOST}"), "{damage}");
    }
}

#[test]
fn an_endpoint_that_was_swept_publishes_nothing() {
    let lab = Lab::new();
    let mut container = lab.connect(named("one"));
    lab.networks.sweep(&|_| false).unwrap();
    let error = lab.publish(&mut container, &["8080:80"]).unwrap_err();
    assert!(matches!(error, crate::Error::NoEndpoint { .. }), "{error}");
    assert_eq!(count(firewall::Map::Ports), 0);
}
