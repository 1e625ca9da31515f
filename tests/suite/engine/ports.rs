//! `-p` and `-P` in all forms, with traffic from everywhere; and what else a container is told of its network.

use std::net::{Ipv4Addr, Ipv6Addr};

use cove_tests::{CoveEngine, Space, free_port};

/// The address of this machine to which the outside speaks, and the outside's.
const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn inspect(engine: &CoveEngine, name: &str, field: &str) -> String {
    engine.words(["inspect", "-f", &format!("{{{{{field}}}}}"), name]).ok()
}

/// A container that sleeps, with these options; and its network.
fn container(engine: &CoveEngine, name: &str, options: &[&str]) -> (Space, Ipv4Addr) {
    engine.words(["run", "-d", "--name", name]).args(options).args(["box", "sleep", "1000"]).ok();
    let address = inspect(engine, name, ".NetworkSettings.IPAddress").parse().unwrap();
    (Space::of_process(&inspect(engine, name, ".State.Pid")), address)
}

/// The ports of this machine that lead to a container, as `port` tells.
fn port(engine: &CoveEngine, name: &str, of: &str) -> Vec<String> {
    engine.words(["port", name, of]).ok().lines().map(str::to_owned).collect()
}

fn number(place: &str) -> u16 {
    place.rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn from_everywhere_by_tcp_and_udp() {
    let engine = CoveEngine::new();
    let outside = Space::beside(HOST, OUTSIDE);
    let published = free_port();
    let (tcp, udp) = (format!("{published}:80"), format!("{published}:80/udp"));
    let (web, address) = container(&engine, "web", &["-p", &tcp, "-p", &udp]);
    let (other, other_address) = container(&engine, "other", &[]);
    web.serve("web", 80);
    let here = Space::here();
    let gateway: Ipv4Addr = inspect(&engine, "web", ".NetworkSettings.Gateway").parse().unwrap();
    let both = |space: &Space, to: Ipv4Addr, port: u16, from: Ipv4Addr| {
        let expected = format!("web hears {from}");
        assert_eq!(space.ask((to, port)), expected, "tcp to {to}:{port}");
        assert_eq!(space.ask_udp((to, port)), expected, "udp to {to}:{port}");
    };
    both(&outside, HOST, published, OUTSIDE);
    both(&here, LOCAL, published, gateway);
    assert_eq!(here.ask((Ipv4Addr::new(127, 9, 9, 9), published)), format!("web hears {gateway}"));
    both(&here, HOST, published, HOST);
    both(&here, gateway, published, gateway);
    both(&here, address, 80, gateway);
    both(&other, address, 80, other_address);
    for to in [HOST, gateway] {
        both(&other, to, published, gateway);
        both(&web, to, published, gateway);
    }
    assert_eq!(here.ask((Ipv6Addr::LOCALHOST, published)), format!("web hears {gateway}"));
    assert_eq!(here.ask_udp((Ipv6Addr::LOCALHOST, published)), format!("web hears {gateway}"));
    assert!(outside.cannot_ask((HOST, 80)), "only what is published");

    let both = [format!("0.0.0.0:{published}"), format!("[::]:{published}")];
    assert_eq!(port(&engine, "web", "80"), both);
    assert_eq!(port(&engine, "web", "80/udp"), both);
    let all = engine.words(["port", "web"]).ok();
    let expected: Vec<String> =
        ["tcp", "udp"].iter().flat_map(|kind| both.iter().map(move |place| format!("80/{kind} -> {place}"))).collect();
    assert_eq!(all.lines().collect::<Vec<_>>(), expected);
    let shown = engine.words(["ps", "--filter", "name=web", "--format", "{{.Ports}}"]).ok();
    assert!(shown.contains(&format!("0.0.0.0:{published}->80/tcp")), "{shown}");
    assert!(shown.contains(&format!("0.0.0.0:{published}->80/udp")), "{shown}");
}

#[test]
fn every_form() {
    let engine = CoveEngine::new();
    let outside = Space::beside(HOST, OUTSIDE);
    let here = Space::here();
    let ports: Vec<u16> = (0..8).map(|_| free_port()).collect();
    let row = ports[3];
    let forms = [
        format!("127.0.0.1:{}:80", ports[0]),
        format!("127.0.0.2:{}:80", ports[0]),
        format!("{HOST}:{}:80", ports[0]),
        format!("[::1]:{}:80", ports[1]),
        format!("{}:80", ports[2]),
        "81".to_owned(),
        "127.0.0.1::82".to_owned(),
        format!("{row}-{}:90-91", row + 1),
        format!("{}-{}:83", ports[7], ports[7] + 50),
        format!("published={},target=84", ports[6]),
    ];
    let options: Vec<&str> = forms.iter().flat_map(|form| ["-p", form.as_str()]).collect();
    let (web, _) = container(&engine, "web", &options);
    for port in [80, 81, 82, 83, 84, 90, 91] {
        web.serve(
            ["80", "81", "82", "83", "84", "90", "91"].into_iter().find(|name| *name == port.to_string()).unwrap(),
            port,
        );
    }
    let answers =
        |answer: String, name: &str| assert!(answer.starts_with(&format!("{name} hears ")), "{name}: {answer}");
    answers(here.ask((LOCAL, ports[0])), "80");
    answers(here.ask((Ipv4Addr::new(127, 0, 0, 2), ports[0])), "80");
    assert_eq!(outside.ask((HOST, ports[0])), format!("80 hears {OUTSIDE}"));
    assert!(here.cannot_ask((Ipv4Addr::new(127, 0, 0, 3), ports[0])), "an address that nobody asked for");
    answers(here.ask((Ipv6Addr::LOCALHOST, ports[1])), "80");
    assert!(here.cannot_ask((LOCAL, ports[1])), "IPv6 only");
    assert!(outside.cannot_ask((HOST, ports[1])));
    let any = port(&engine, "web", "81");
    assert_eq!(any.len(), 2, "{any:?}");
    answers(here.ask((LOCAL, number(&any[0]))), "81");
    answers(outside.ask((HOST, number(&any[0]))), "81");
    let local = port(&engine, "web", "82");
    assert!(local.len() == 1 && local[0].starts_with("127.0.0.1:"), "{local:?}");
    answers(here.ask((LOCAL, number(&local[0]))), "82");
    assert!(outside.cannot_ask((HOST, number(&local[0]))));
    answers(outside.ask((HOST, row)), "90");
    answers(outside.ask((HOST, row + 1)), "91");
    answers(outside.ask((HOST, number(&port(&engine, "web", "83")[0]))), "83");
    answers(outside.ask((HOST, ports[6])), "84");

    // The next of a choice is given to the next.
    let choice = format!("{}-{}:83", ports[7], ports[7] + 50);
    container(&engine, "second", &["-p", &choice]);
    let second = number(&port(&engine, "second", "83")[0]);
    assert!(second > number(&port(&engine, "web", "83")[0]) && second <= ports[7] + 50);
    for form in [format!("{}:80", ports[2]), format!("127.0.0.1:{}:80", ports[0]), format!("[::1]:{}:80", ports[1])] {
        let taken = engine.run(["--name", "late", "-p", &form, "box", "true"]).run();
        let place = match form.strip_suffix(":80").unwrap() {
            place if place.contains(':') => place.to_owned(),
            port => format!("0.0.0.0:{port}"),
        };
        assert_eq!(taken.code, Some(125));
        let text = "Error response from daemon: driver failed programming external connectivity on endpoint late (";
        assert!(taken.stderr.contains(text), "{taken}");
        let text = format!("): Bind for {} failed: port is already allocated", place.replace(['[', ']'], ""));
        assert!(
            taken.stderr.contains(&text)
                || taken.stderr.contains(&format!("): Bind for {place} failed: port is already allocated")),
            "{taken}"
        );
        engine.words(["rm", "late"]).ok();
    }
}

#[test]
fn all_that_is_exposed() {
    let engine = CoveEngine::new();
    let (web, _) = container(&engine, "web", &["-P", "--expose", "80", "--expose", "90-91/udp", "-p", "127.0.0.1::70"]);
    web.serve("80", 80);
    web.serve("91", 91);
    let here = Space::here();
    assert!(here.ask((LOCAL, number(&port(&engine, "web", "80")[0]))).starts_with("80 hears"));
    assert!(here.ask_udp((LOCAL, number(&port(&engine, "web", "91/udp")[0]))).starts_with("91 hears"));
    assert_eq!(engine.words(["port", "web"]).ok().lines().count(), 7, "two addresses each, and the one that was named");
    let exposed = inspect(&engine, "web", "json .Config.ExposedPorts");
    assert_eq!(exposed, r#"{"70/tcp":{},"80/tcp":{},"90/udp":{},"91/udp":{}}"#);
    // Exposed alone is not published.
    container(&engine, "quiet", &["--expose", "80"]);
    assert_eq!(engine.words(["port", "quiet"]).ok(), "");
    assert_eq!(engine.words(["ps", "--filter", "name=quiet", "--format", "{{.Ports}}"]).ok(), "80/tcp");
    assert!(engine.words(["port", "quiet", "80"]).fails().contains("No public port '80' published for quiet"));
}

#[test]
fn a_name_server_in_a_container_has_port_53_and_finds_names_itself() {
    let engine = CoveEngine::new();
    let published = free_port();
    let (dns, _) = container(&engine, "dns", &["-p", &format!("{published}:53/udp"), "-p", &format!("{published}:53")]);
    container(&engine, "web", &[]);
    dns.serve("dns", 53);
    assert!(Space::here().ask_udp((LOCAL, published)).starts_with("dns hears"));
    assert!(Space::here().ask((LOCAL, published)).starts_with("dns hears"));
    let web = inspect(&engine, "web", ".NetworkSettings.IPAddress");
    let found = engine.words(["exec", "dns", "nslookup", "-type=a", "web"]).ok();
    assert!(found.contains("127.0.0.11") && found.contains(&web), "{found}");
}

#[test]
fn what_a_container_is_told_of_names_and_addresses() {
    let engine = CoveEngine::new();
    let (_, first) = container(&engine, "first", &[]);
    let [a, b, ..] = first.octets();
    let ip = format!("{a}.{b}.7.7");
    let told = [
        "--ip",
        &ip,
        "--mac-address",
        "02:00:00:00:00:07",
        "--dns",
        "192.0.2.53",
        "--dns-search",
        "example.com",
        "--dns-search",
        "example.org",
        "--dns-option",
        "ndots:2",
        "--add-host",
        "fixed:192.0.2.1",
        "--add-host",
        "me:host-gateway",
        "--hostname",
        "box1",
        "--domainname",
        "inner.example",
    ];
    container(&engine, "one", &told);
    let inside = |words: &[&str]| engine.words(["exec", "one"]).args(words).ok();
    let device = inside(&["ip", "addr", "show", "eth0"]);
    assert!(device.contains(&format!("inet {ip}/16")) && device.contains("link/ether 02:00:00:00:00:07"), "{device}");
    assert_eq!(inspect(&engine, "one", ".NetworkSettings.IPAddress"), ip);
    assert_eq!(inspect(&engine, "one", ".NetworkSettings.MacAddress"), "02:00:00:00:00:07");
    let resolver = inside(&["cat", "/etc/resolv.conf"]);
    assert!(resolver.contains("nameserver 127.0.0.11"), "{resolver}");
    assert!(resolver.contains("search example.com example.org"), "{resolver}");
    assert!(resolver.lines().any(|line| line.starts_with("options ") && line.contains("ndots:2")), "{resolver}");
    let gateway = inspect(&engine, "one", ".NetworkSettings.Gateway");
    let hosts = inside(&["cat", "/etc/hosts"]);
    for line in ["192.0.2.1\tfixed".to_owned(), format!("{gateway}\tme"), format!("{ip}\tbox1.inner.example box1")] {
        assert!(hosts.lines().any(|found| found == line), "{line} in {hosts}");
    }
    assert_eq!(inside(&["hostname"]), "box1");
    assert_eq!(inside(&["cat", "/proc/sys/kernel/domainname"]), "inner.example");
    assert_eq!(inside(&["cat", "/etc/hostname"]), "box1");
    let host = engine.run(["--rm", "--network", "host", "--add-host", "me:host-gateway", "box", "cat", "/etc/hosts"]);
    assert!(host.ok().contains(&format!("{gateway}\tme")));

    let refused = |words: &[&str], text: &str| {
        let said = engine.words(["run", "--rm"]).args(words).args(["box", "true"]).run();
        assert_eq!(said.code, Some(125), "{said}");
        assert!(said.stderr.contains(text), "{words:?}: {said}");
    };
    refused(&["--ip", &ip], "Address already in use");
    refused(&["--ip", "192.0.2.1"], "no configured subnet or ip range contain the IP address 192.0.2.1");
    refused(&["--mac-address", "nonsense"], "nonsense is not a valid mac address");
}

#[test]
fn the_server_of_dns_answers_for_other_names() {
    let engine = CoveEngine::new();
    // A server of names at an address of this machine, which says "no such name" to everything.
    let _outside = Space::beside(HOST, OUTSIDE);
    let server = std::net::UdpSocket::bind((HOST, 53)).unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((length, from)) = server.recv_from(&mut bytes) {
            // An answer, with the address 192.0.2.99 for whatever was asked.
            let mut answer = bytes[..length].to_vec();
            answer[2] |= 0x80;
            answer[7] = 1;
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 99]);
            let _ = server.send_to(&answer, from);
        }
    });
    let found = engine.run(["--rm", "--dns", "203.0.113.1", "box", "nslookup", "-type=a", "www.example.com"]).ok();
    assert!(found.contains("192.0.2.99"), "{found}");
}
