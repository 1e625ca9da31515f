//! Beside a dockerd on the same machine, whose firewall drops what it does not know.

use std::net::Ipv4Addr;

use cove_tests::{Cmd, CoveEngine, Dockerd, Space, busybox_image, free_port};

const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// A server on a published port, of one engine or the other.
struct Server {
    space: Space,
    address: Ipv4Addr,
    port: u16,
}

impl Server {
    /// `command` runs and inspects containers; the image is called `box`.
    fn start(command: &dyn Fn(&[&str]) -> String, name: &'static str) -> Self {
        let port = free_port();
        command(&["run", "-d", "--name", name, "-p", &format!("{port}:80"), "box", "sleep", "1000"]);
        let told = command(&["inspect", "-f", "{{.State.Pid}} {{.NetworkSettings.IPAddress}}", name]);
        let (pid, address) = told.trim().split_once(' ').unwrap();
        let server = Self { space: Space::of_process(pid), address: address.parse().unwrap(), port };
        server.space.serve(name, 80);
        server
    }
}

/// Everybody reaches everybody as if they were alone.
fn all_works(outside: &Space, servers: &[&Server]) {
    for server in servers {
        assert!(outside.ask((HOST, server.port)).ends_with(&format!("hears {OUTSIDE}")), "from outside");
        assert!(server.space.ask((OUTSIDE, 80)).ends_with(&format!("hears {HOST}")), "to the outside");
        for other in servers {
            assert!(other.space.ask((HOST, server.port)).contains(" hears "), "by a published port");
        }
    }
}

/// A dockerd with the image `box`, whose firewall drops what it does not know.
struct Beside(Dockerd);

impl Beside {
    fn start() -> Self {
        let dockerd = Dockerd::with_bridge_at("172.30.0.1/24");
        // It sets this itself only where it turned forwarding on.
        Cmd::new("iptables").args(["-P", "FORWARD", "DROP"]).ok();
        let beside = Self(dockerd);
        let image = busybox_image();
        let (archive, _) = image.docker_archive("box:latest");
        beside.docker(&["load", "-q", "-i", &archive.display().to_string()]);
        beside
    }

    fn docker(&self, words: &[&str]) -> String {
        Cmd::new("docker").args(["--host", &self.0.host()]).args(words).ok()
    }
}

#[test]
fn all_works_beside_a_dockerd_that_was_first() {
    let engine = CoveEngine::new();
    let outside = Space::beside(HOST, OUTSIDE);
    outside.serve("outside", 80);
    let dockerd = Beside::start();
    let cove = |words: &[&str]| engine.words::<0>([]).args(words).ok();
    let of_docker = Server::start(&|words| dockerd.docker(words), "docked");
    let first = Server::start(&cove, "first");
    all_works(&outside, &[&first, &of_docker]);
    let second = Server::start(&cove, "second");
    all_works(&outside, &[&first, &second, &of_docker]);
    assert!(first.space.ask((second.address, 80)).starts_with("second hears"), "on one bridge");
    assert!(first.space.cannot_ask((of_docker.address, 80)), "the networks keep to themselves");
    assert!(of_docker.space.cannot_ask((first.address, 80)));
    // What goes takes nothing of the others along.
    cove(&["rm", "-f", "second"]);
    all_works(&outside, &[&first, &of_docker]);
    dockerd.docker(&["rm", "-f", "docked"]);
    all_works(&outside, &[&first]);
}

#[test]
fn all_works_beside_a_dockerd_that_came_later() {
    let engine = CoveEngine::new();
    let outside = Space::beside(HOST, OUTSIDE);
    outside.serve("outside", 80);
    let cove = |words: &[&str]| engine.words::<0>([]).args(words).ok();
    let first = Server::start(&cove, "first");
    all_works(&outside, &[&first]);
    let dockerd = Beside::start();
    let of_docker = Server::start(&|words| dockerd.docker(words), "docked");
    all_works(&outside, &[&first, &of_docker]);
    let second = Server::start(&cove, "second");
    all_works(&outside, &[&first, &second, &of_docker]);
    assert!(second.space.ask((first.address, 80)).starts_with("first hears"), "on one bridge");
    cove(&["rm", "-f", "first"]);
    all_works(&outside, &[&second, &of_docker]);
}
