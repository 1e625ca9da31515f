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

fn both(docker_is_first: bool) {
    let engine = CoveEngine::new();
    let outside = Space::beside(HOST, OUTSIDE);
    outside.serve("outside", 80);
    let cove = |words: &[&str]| engine.words::<0>([]).args(words).ok();
    // It sets this itself only where it turned forwarding on.
    let start_docker = || {
        let dockerd = Dockerd::with_network();
        Cmd::new("iptables").args(["-P", "FORWARD", "DROP"]).ok();
        let image = busybox_image();
        let (archive, _) = image.docker_archive("box:latest");
        Cmd::new("docker").args(["--host", &dockerd.host(), "load", "-q", "-i"]).arg(archive).ok();
        dockerd
    };
    let docker =
        |dockerd: &Dockerd, words: &[&str]| Cmd::new("docker").args(["--host", &dockerd.host()]).args(words).ok();
    let (dockerd, first, of_docker) = if docker_is_first {
        let dockerd = start_docker();
        let of_docker = Server::start(&|words| docker(&dockerd, words), "docked");
        (dockerd, Server::start(&cove, "first"), of_docker)
    } else {
        let first = Server::start(&cove, "first");
        all_works(&outside, &[&first]);
        let dockerd = start_docker();
        let of_docker = Server::start(&|words| docker(&dockerd, words), "docked");
        (dockerd, first, of_docker)
    };
    all_works(&outside, &[&first, &of_docker]);
    let second = Server::start(&cove, "second");
    all_works(&outside, &[&first, &second, &of_docker]);
    assert!(first.space.ask((second.address, 80)).starts_with("second hears"), "on one bridge");
    assert!(first.space.cannot_ask((of_docker.address, 80)), "the networks keep to themselves");
    assert!(of_docker.space.cannot_ask((first.address, 80)));
    // What goes takes nothing of the others along.
    cove(&["rm", "-f", "second"]);
    all_works(&outside, &[&first, &of_docker]);
    docker(&dockerd, &["rm", "-f", "docked"]);
    all_works(&outside, &[&first]);
}

#[test]
fn dockerd_was_first() {
    both(true);
}

#[test]
fn dockerd_came_later() {
    both(false);
}
