//! Addresses, names and ports.

use std::time::Duration;

use cove_tests::{Cmd, CoveEngine, free_port, wait_until};

#[test]
fn a_published_port_is_reached_from_everywhere() {
    let engine = CoveEngine::new();
    let port = free_port();
    let publish = format!("{port}:80");
    let serve = "mkdir -p /www; echo served > /www/index.html; exec httpd -f -p 80 -h /www";
    engine.run(["-d", "--name", "web", "-p", &publish, "box", "sh", "-c", serve]).ok();
    let get = |host: &str| Cmd::new("curl").args(["-s", "-m", "5", &format!("http://{host}:{port}/")]).run().stdout;
    wait_until("it serves on localhost", Duration::from_secs(20), || get("127.0.0.1") == "served\n");
    let inside = |url: &str| {
        let got = engine.run(["--rm", "box", "wget", "-q", "-O", "-", url]).run();
        if got.succeeded() { got.stdout } else { got.to_string() }
    };
    assert_eq!(inside("http://web/"), "served\n", "by name, from another container");
    let gateway =
        engine.run(["--rm", "box", "sh", "-c", "ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'"]).ok();
    assert_eq!(get(&gateway), "served\n", "at an address of this machine");
    assert_eq!(
        inside(&format!("http://{gateway}:{port}/")),
        "served\n",
        "from another container, by the machine's address"
    );
    let own = engine.words(["exec", "web", "wget", "-q", "-O", "-", &format!("http://{gateway}:{port}/")]).run();
    assert_eq!(own.stdout, "served\n", "from itself, by the machine's address");
    assert!(engine.words(["ps"]).ok().contains(&format!("0.0.0.0:{port}->80/tcp")));

    let taken = engine.run(["--name", "late", "-p", &publish, "box", "true"]).run();
    assert_eq!(taken.code, Some(125));
    assert!(taken.stderr.contains(&format!("Bind for 0.0.0.0:{port} failed: port is already allocated")), "{taken}");
    engine.words(["rm", "-f", "web", "late"]).ok();
    wait_until("the port is free", Duration::from_secs(10), || get("127.0.0.1").is_empty());
    engine.run(["--rm", "-p", &publish, "box", "true"]).ok();
}

#[test]
fn networks_of_other_kinds() {
    let engine = CoveEngine::new();
    assert_eq!(engine.run(["--rm", "--network", "none", "box", "ls", "/sys/class/net"]).ok(), "lo");
    let host = engine.run(["--rm", "--network", "host", "box", "cat", "/proc/net/dev"]).ok();
    let own = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    assert_eq!(host.lines().count(), own.trim().lines().count());
    engine
        .run(["-d", "--name", "first", "--hostname", "named", "--add-host", "other:10.9.8.7", "box", "sleep", "1000"])
        .ok();
    let address = engine.words(["exec", "first", "hostname", "-i"]).ok();
    let joined = engine.run(["--rm", "--network", "container:first", "box", "sh", "-c", "ip -4 addr show eth0"]).ok();
    assert!(joined.contains(&address), "{joined} has {address}");
    let hosts = engine.words(["exec", "first", "cat", "/etc/hosts"]).ok();
    assert!(hosts.contains("10.9.8.7\tother") && hosts.contains(&format!("{address}\tnamed")), "{hosts}");
    let refused = engine.run(["--rm", "--network", "missing", "box", "true"]).run();
    assert_eq!(refused.code, Some(125));
    assert!(refused.stderr.contains("network missing not found"), "{refused}");
}

/// What this thread's network has of bridges and of rules for them.
fn bridges_and_rules() -> (Vec<String>, Vec<String>) {
    let links = Cmd::new("ip").args(["-o", "link", "show", "type", "bridge"]).ok();
    let links = links.lines().filter_map(|line| Some(line.split(": ").nth(1)?.to_owned())).collect();
    let rules = Cmd::new("iptables-nft").args(["-S", "FORWARD"]).run().stdout;
    (links, rules.lines().filter(|line| line.contains("cove")).map(str::to_owned).collect())
}

#[test]
fn the_bridge_of_a_store_at_another_place_goes_with_its_last_container() {
    let engine = CoveEngine::new();
    let nothing = (Vec::new(), Vec::new());
    engine.run(["-d", "--name", "one", "box", "sleep", "1000"]).ok();
    engine.run(["-d", "--name", "two", "box", "sleep", "1000"]).ok();
    let (links, rules) = bridges_and_rules();
    assert!(links.len() == 1 && links[0].starts_with("cove-") && rules.len() == 2, "{links:?} {rules:?}");
    engine.words(["stop", "-t", "0", "one"]).ok();
    assert_eq!(bridges_and_rules(), (links.clone(), rules));
    engine.words(["rm", "-f", "two"]).ok();
    assert_eq!(bridges_and_rules(), nothing);
    // The same network again: a short run, in the foreground, lets nobody wait for the removal.
    engine.words(["start", "one"]).ok();
    assert_eq!(bridges_and_rules().0, links);
    engine.words(["rm", "-f", "one"]).ok();
    assert_eq!(engine.run(["--rm", "box", "echo", "ran"]).ok(), "ran");
    wait_until("the bridge is gone", Duration::from_secs(20), || bridges_and_rules() == nothing);
    // Many at once, each of which may be the last.
    let here = cove_tests::Space::here();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (engine, here) = (&engine, &here);
            scope.spawn(move || {
                for _ in 0..4 {
                    here.within(|| engine.run(["--rm", "box", "ip", "-4", "addr", "show", "eth0"]).ok());
                    let id = here.within(|| engine.run(["-d", "box", "true"]).ok());
                    here.within(|| engine.words(["wait", &id]).ok());
                }
            });
        }
    });
    wait_until("the bridge is gone again", Duration::from_secs(20), || bridges_and_rules() == nothing);
}

#[test]
fn what_stands_in_a_containers_way_is_told_to_its_user() {
    let engine = CoveEngine::new();
    let begun = engine.run(["-d", "--name", "one", "box", "sleep", "1000"]).run();
    assert_eq!((begun.code, begun.stderr.as_str()), (Some(0), ""));
    engine.words(["stop", "-t", "0", "one"]).ok();
    Cmd::new("iptables-legacy").args(["-P", "FORWARD", "DROP"]).ok();
    let warning = "WARNING: the firewall of this machine is `iptables-legacy` and drops what is forwarded";
    let started = engine.words(["start", "one"]).run();
    assert!(started.succeeded() && started.stderr.starts_with(warning), "{started}");
    for words in [vec!["-d", "box", "true"], vec!["--rm", "box", "echo", "ran"]] {
        let ran = engine.run([]).args(words).run();
        assert!(ran.succeeded() && ran.stderr.starts_with(warning), "{ran}");
        assert_eq!(ran.stderr.lines().count(), 1, "{ran}");
    }
}
