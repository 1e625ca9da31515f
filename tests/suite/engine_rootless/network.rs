//! The network that all containers of a user share.

use std::time::Duration;

use cove_tests::{Cmd, OrdinaryEngine, free_port, wait_until};

#[test]
fn a_published_port_is_reached_from_everywhere() {
    let engine = OrdinaryEngine::new();
    let cove = |words: &[&str]| engine.user().cove(words);
    let port = free_port();
    let publish = format!("{port}:80");
    let serve = "mkdir -p /www; echo served > /www/index.html; exec httpd -f -p 80 -h /www";
    cove(&["run", "-d", "--name", "web", "-p", &publish, "box", "sh", "-c", serve]).ok();
    let get = |host: &str| Cmd::new("curl").args(["-s", "-m", "5", &format!("http://{host}:{port}/")]).run().stdout;
    wait_until("it serves on localhost", Duration::from_secs(20), || get("127.0.0.1") == "served\n");
    let inside = |url: &str| cove(&["run", "--rm", "box", "wget", "-q", "-T", "5", "-O", "-", url]).run().stdout;
    assert_eq!(inside("http://web/"), "served\n", "by name, from another container");
    let gateway =
        cove(&["run", "--rm", "box", "sh", "-c", "ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'"]).ok();
    assert_eq!(inside(&format!("http://{gateway}:{port}/")), "served\n", "by the bridge's address");
    assert!(cove(&["ps"]).ok().contains(&format!("0.0.0.0:{port}->80/tcp")));
    assert_eq!(cove(&["port", "web", "80/tcp"]).ok().lines().next(), Some(format!("0.0.0.0:{port}").as_str()));
    let address = cove(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"]).ok();
    assert!(cove(&["network", "inspect", "bridge"]).ok().contains(&address));
    let taken = cove(&["run", "--name", "late", "-p", &publish, "box", "true"]).run();
    assert_eq!(taken.code, Some(125));
    assert!(taken.stderr.contains("port is already allocated"), "{taken}");
    cove(&["rm", "-f", "web", "late"]).ok();
    wait_until("the port is free", Duration::from_secs(10), || get("127.0.0.1").is_empty());
    engine.wait_until_nothing_is_left();
}

#[test]
fn datagrams_arrive_and_find_back() {
    let engine = OrdinaryEngine::new();
    let cove = |words: &[&str]| engine.user().cove(words);
    let port = free_port();
    let publish = format!("127.0.0.1:{port}:7/udp");
    cove(&["run", "-d", "--name", "echo", "-p", &publish, "box", "nc", "-u", "-l", "-p", "7", "-e", "cat"]).ok();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    wait_until("it answers", Duration::from_secs(20), || {
        socket.send_to(b"hello", ("127.0.0.1", port)).unwrap();
        let mut answer = [0; 10];
        socket.recv(&mut answer).is_ok_and(|length| &answer[..length] == b"hello")
    });
    cove(&["rm", "-f", "echo"]).ok();
}

#[test]
fn containers_reach_what_the_user_reaches() {
    let engine = OrdinaryEngine::new();
    let cove = |words: &[&str]| engine.user().cove(words);
    let own = Cmd::new("sh").args(["-c", "ip -4 route get 192.0.2.200 | sed -n 's/.* src \\([^ ]*\\).*/\\1/p'"]).ok();
    let looked = cove(&["run", "--rm", "box", "nslookup", "deb.debian.org"]).run();
    assert!(looked.succeeded() && looked.stdout.contains("Address: "), "{looked} (this machine is {own})");
    // What listens on this machine's loopback device is not for containers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let script = format!(
        "g=$(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'); for a in $g {own} 127.0.0.1; do nc -w 2 $a {port} </dev/null && echo reached; done; true"
    );
    assert_eq!(cove(&["run", "--rm", "box", "sh", "-c", &script]).ok(), "");
}

#[test]
fn networks_of_other_kinds() {
    let engine = OrdinaryEngine::new();
    let cove = |words: &[&str]| engine.user().cove(words);
    assert_eq!(cove(&["run", "--rm", "--network", "none", "box", "ls", "/sys/class/net"]).ok(), "lo");
    let host = cove(&["run", "--rm", "--network", "host", "box", "cat", "/proc/net/dev"]).ok();
    assert_eq!(host.lines().count(), std::fs::read_to_string("/proc/net/dev").unwrap().trim().lines().count());
    cove(&[
        "run",
        "-d",
        "--name",
        "first",
        "--hostname",
        "named",
        "--add-host",
        "other:10.9.8.7",
        "box",
        "sleep",
        "1000",
    ])
    .ok();
    let address = cove(&["exec", "first", "hostname", "-i"]).ok();
    let joined = cove(&["run", "--rm", "--network", "container:first", "box", "ip", "-4", "addr", "show", "eth0"]).ok();
    assert!(joined.contains(&address), "{joined} has {address}");
    let hosts = cove(&["exec", "first", "cat", "/etc/hosts"]).ok();
    assert!(hosts.contains("10.9.8.7\tother") && hosts.contains(&format!("{address}\tnamed")), "{hosts}");
    assert!(cove(&["network", "ls", "--format", "{{.Name}}"]).ok().contains("bridge\nhost\nnone"));
    cove(&["rm", "-f", "first"]).ok();
    engine.wait_until_nothing_is_left();
}

#[test]
fn without_pasta_the_reason_is_told() {
    let engine = OrdinaryEngine::new();
    let cove = |words: &[&str]| engine.user().cove(words).env("PATH", "/nowhere:/usr/sbin");
    let programs = engine.user().folder().join("programs");
    std::fs::create_dir(&programs).unwrap();
    for name in ["newuidmap", "newgidmap", "unshare", "sh", "mount", "setpriv"] {
        let path = Cmd::new("sh").args(["-c", &format!("command -v {name}")]).ok();
        std::os::unix::fs::symlink(path, programs.join(name)).unwrap();
    }
    let without = |words: &[&str]| cove(words).env("PATH", &programs);
    let refused = without(&["run", "--rm", "box", "true"]).run();
    assert_eq!(refused.code, Some(125), "{refused}");
    assert!(refused.stderr.contains("`pasta` is not installed") && refused.stderr.contains("`passt`"), "{refused}");
    assert_eq!(without(&["run", "--rm", "--network", "none", "box", "echo", "fine"]).ok(), "fine");
    engine.wait_until_nothing_is_left();
}
