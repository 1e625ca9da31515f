//! What is put right after somebody was killed, or removed what is ours.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::lab::{HOST, Lab, OUTSIDE, answer, ask_udp, commit, enter, eventually, everybody_lives, named, run};
use crate::netlink::Batch;
use crate::nftables::{self, Transaction};
use crate::{Networks, PublishedPort, Request, firewall};

/// How many elements a map has.
fn count(map: firewall::Map) -> usize {
    let mut batch = Batch::default();
    nftables::list_elements(&mut batch, "cove0", map.name());
    nftables::elements(&answer(&mut batch).messages().unwrap()).len()
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
    let request = Request { address, ..named("next") };
    let next = lab.networks.connect(space.descriptor().as_fd(), &request, &|other| other != id).unwrap();
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
    commit(transaction);
    assert!(outside.cannot_ask(HOST, 8080));
    let other = lab.connect(named("other"));
    assert_eq!(outside.ask(HOST, 8080).unwrap(), expected);

    let mut transaction = Transaction::new();
    transaction.delete_table("cove0");
    transaction.add_table("cove0", Some("cove network bridge, layout 0"));
    commit(transaction);
    lab.connect(named("third"));
    assert_eq!(outside.ask(HOST, 8080).unwrap(), expected, "after a table of another layout");

    let mut transaction = Transaction::new();
    transaction.delete_table("cove0");
    commit(transaction);
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
    let other = lab.connect(named("two"));
    assert_eq!(other.endpoint.address, container.endpoint.address);
    let error = lab.publish(&mut container, &["8080:80"]).unwrap_err();
    assert!(matches!(error, crate::Error::NoEndpoint { .. }), "{error}");
    assert_eq!(lab.networks.endpoints("bridge").unwrap(), [other.endpoint]);
    assert_eq!(count(firewall::Map::Ports), 0);
}

/// Where the process of the next test finds its store, and its machine.
const STORE: &str = "COVE_NETWORK_TEST_STORE";
const MACHINE: &str = "COVE_NETWORK_TEST_MACHINE";

/// No test by itself: the process that the next test kills. It connects, publishes and takes back until it dies.
#[test]
fn connects_until_it_is_killed() {
    let (Ok(store), Ok(machine)) = (std::env::var(STORE), std::env::var(MACHINE)) else { return };
    enter(&std::fs::File::open(machine).unwrap().into());
    let networks = Lab::store(Path::new(&store));
    let ports = PublishedPort::parse("8080:80/udp").unwrap();
    std::io::stdout().write_all(b"ready\n").unwrap();
    loop {
        let space = super::lab::Space::empty();
        let request = Request { address: Some("172.17.0.9".parse().unwrap()), ..named("killed") };
        let connected = networks.connect(space.descriptor().as_fd(), &request, &|_| false).unwrap();
        let mut endpoint = connected.endpoint;
        let _held = networks.publish(&mut endpoint, &ports).unwrap();
        networks.disconnect(&endpoint).unwrap();
    }
}

#[test]
fn whoever_is_killed_leaves_nothing_that_the_next_one_cannot_put_right() {
    let lab = Lab::new();
    let outside = lab.outside();
    let alive = lab.server("alive", &["8081:80"]);
    let is_alive = |id: &str| id == alive.endpoint.container;
    let (mut leases, mut elements) = (0, 0);
    for round in 0..40 {
        // The bridge and the table are also made by processes that are killed.
        if round % 8 == 0 {
            run("ip link delete cove0");
            let mut transaction = Transaction::new();
            transaction.delete_table("cove0");
            commit(transaction);
        }
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::recover::connects_until_it_is_killed", "--nocapture"])
            .env(STORE, lab.folder())
            .env(MACHINE, lab.host.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("ready")));
        std::thread::sleep(Duration::from_micros(round * 317 % 9000));
        child.kill().unwrap();
        child.wait().unwrap();

        leases += lab.networks.sweep(&is_alive).unwrap();
        if round % 8 != 0 {
            elements += count(firewall::Map::Ports);
        }
        let left = lab.networks.endpoints("bridge").unwrap();
        assert_eq!(left, std::slice::from_ref(&alive.endpoint));
        let next = lab.server("next", &["8080:80/udp"]);
        let expected = format!("{} hears {OUTSIDE}", next.endpoint.address);
        assert_eq!(ask_udp(&outside.udp(), HOST, 8080).unwrap(), expected);
        assert_eq!(count(firewall::Map::Ports), 2);
        lab.networks.disconnect(&next.endpoint).unwrap();
    }
    assert!(leases > 0, "some were killed while they had an address");
    assert!(elements > 0, "the living one kept its port");
    let files = std::fs::read_dir(lab.folder().join("run/networks/bridge")).unwrap();
    let files: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let is_expected = |file: &String| *file == alive.endpoint.address.to_string() || file.ends_with(".new");
    assert!(files.iter().all(is_expected) && files.len() <= 2, "{files:?}");
}

fn bridges() -> usize {
    run("ip -o link show type bridge").lines().count()
}

#[test]
fn the_bridge_of_another_store_goes_with_its_last_container() {
    let lab = Lab::new();
    let folder = tempfile::tempdir().unwrap();
    let other = Networks::of(&folder.path().join("root"), &folder.path().join("run"));
    let kept = lab.connect(named("kept"));
    let rules = || run("iptables-nft -S FORWARD");
    let before = (rules(), bridges());
    let (one, _) = Lab::connect_by(&other, named("one"));
    let (two, _) = Lab::connect_by(&other, named("two"));
    assert!(one.endpoint.bridge.starts_with("cove-") && bridges() == 2);
    let remove = || other.remove_unused("bridge", &everybody_lives).unwrap();
    assert!(!remove(), "two are connected");
    other.disconnect(&one.endpoint).unwrap();
    assert!(!remove(), "one is connected");
    // The other was killed: nobody disconnects it.
    // A program that another test starts has our locks for a moment.
    eventually("it is removed", || other.remove_unused("bridge", &|_| false).unwrap());
    assert_eq!((rules(), bridges()), before);
    let mut batch = Batch::default();
    nftables::get_table(&mut batch, &one.endpoint.bridge);
    assert!(answer(&mut batch).found().unwrap().is_none(), "its table");
    eventually("what is gone is gone", remove);
    drop((one, two));

    let (again, _) = Lab::connect_by(&other, named("again"));
    let third = Lab::connect_by(&other, named("third")).0;
    again.space.serve(80);
    assert!(third.space.ask(again.endpoint.address, 80).is_ok());
    lab.networks.disconnect(&kept.endpoint).unwrap();
    assert!(!lab.networks.remove_unused("bridge", &everybody_lives).unwrap(), "the machine's own stays");
}

#[test]
fn a_bridge_is_not_taken_from_one_that_starts() {
    let lab = Lab::new();
    let folder = tempfile::tempdir().unwrap();
    let networks = Networks::of(&folder.path().join("root"), &folder.path().join("run"));
    std::thread::scope(|scope| {
        // It ends with its channel, however this ends.
        let (_ends, over) = std::sync::mpsc::channel::<()>();
        let (lab, networks) = (&lab, &networks);
        scope.spawn(move || {
            enter(lab.host.descriptor());
            while over.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                networks.remove_unused("bridge", &everybody_lives).unwrap();
            }
        });
        for number in 0..20 {
            let (container, _) = Lab::connect_by(networks, named(&format!("c{number}")));
            assert_eq!(bridges(), 1);
            container.space.serve(80);
            assert!(lab.host.ask(container.endpoint.address, 80).is_ok());
            networks.disconnect(&container.endpoint).unwrap();
        }
    });
}
