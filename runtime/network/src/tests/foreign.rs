//! Beside the firewall of the host.

use super::lab::{HOST, Lab, OUTSIDE, Space, named, run};
use crate::Warning;

/// All that must work whatever the host's firewall says.
fn all_works(lab: &Lab, outside: &Space, port: u16) {
    let server = lab.server(&format!("server{port}"), &[&format!("{port}:80")]);
    let other = lab.connect(named(&format!("other{port}")));
    let address = server.endpoint.address;
    assert_eq!(outside.ask(HOST, port).unwrap(), format!("{address} hears {OUTSIDE}"));
    assert_eq!(other.space.ask(address, 80).unwrap(), format!("{address} hears {}", other.endpoint.address));
    assert_eq!(other.space.ask(OUTSIDE, 80).unwrap(), format!("{OUTSIDE} hears {HOST}"));
}

fn rules() -> Vec<String> {
    run("iptables-nft -S FORWARD").lines().map(str::to_owned).collect()
}

fn lab() -> (Lab, Space) {
    let lab = Lab::new();
    let outside = lab.outside();
    outside.serve(80);
    std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "1").unwrap();
    (lab, outside)
}

fn dockerd_starts() {
    run("iptables-nft -P FORWARD DROP");
    run("iptables-nft -N DOCKER-USER");
    run("iptables-nft -A DOCKER-USER -j RETURN");
    run("iptables-nft -I FORWARD -j DOCKER-USER");
}

#[test]
fn dockers_firewall_was_first() {
    let (lab, outside) = lab();
    dockerd_starts();
    all_works(&lab, &outside, 8080);
    let expected = [
        "-P FORWARD DROP",
        "-A FORWARD -j DOCKER-USER",
        "-A FORWARD -i cove0 -j ACCEPT",
        "-A FORWARD -o cove0 -j ACCEPT",
    ];
    assert_eq!(rules(), expected, "in a form that iptables understands, once each");
}

#[test]
fn dockers_firewall_came_later_and_what_ran_goes_on() {
    let (lab, outside) = lab();
    let ran = lab.server("ran", &["9000:80"]);
    let goes_on = || {
        assert!(outside.ask(HOST, 9000).is_ok());
        assert!(ran.space.ask(OUTSIDE, 80).is_ok());
    };
    goes_on();
    let expected = ["-P FORWARD ACCEPT", "-A FORWARD -i cove0 -j ACCEPT", "-A FORWARD -o cove0 -j ACCEPT"];
    assert_eq!(rules(), expected, "a chain that iptables understands");
    dockerd_starts();
    goes_on();
    all_works(&lab, &outside, 8081);
    assert_eq!(rules().len(), 4);
    // Whoever loads all rules anew removes ours, until the next start of a container.
    run("iptables-nft -F FORWARD");
    all_works(&lab, &outside, 8082);
    goes_on();
    let expected = ["-P FORWARD DROP", "-A FORWARD -i cove0 -j ACCEPT", "-A FORWARD -o cove0 -j ACCEPT"];
    assert_eq!(rules(), expected);
    // dockerd restarts and puts its jump first again.
    run("iptables-nft -I FORWARD -j DOCKER-USER");
    all_works(&lab, &outside, 8083);
    goes_on();
    assert_eq!(rules().len(), 4);
}

#[test]
fn rules_that_somebody_else_made_count() {
    let (lab, outside) = lab();
    run("iptables-nft -P FORWARD DROP");
    run("iptables-nft -A FORWARD -i cove0 -j ACCEPT");
    run("iptables-nft -A FORWARD -o cove0 -p tcp -j ACCEPT");
    all_works(&lab, &outside, 8080);
    let expected = [
        "-P FORWARD DROP",
        "-A FORWARD -o cove0 -j ACCEPT",
        "-A FORWARD -i cove0 -j ACCEPT",
        "-A FORWARD -o cove0 -p tcp -j ACCEPT",
    ];
    assert_eq!(rules(), expected);
}

#[test]
fn what_administrators_forbid_dockers_users_stays_forbidden() {
    let (lab, outside) = lab();
    dockerd_starts();
    run(&format!("iptables-nft -I DOCKER-USER -s {OUTSIDE} -m conntrack --ctstate NEW -j DROP"));
    let server = lab.server("web", &["8080:80"]);
    assert!(outside.cannot_ask(HOST, 8080));
    assert!(server.space.ask(OUTSIDE, 80).is_ok());
}

#[test]
fn dockers_networks_keep_to_themselves_but_for_what_they_publish() {
    let (lab, _outside) = lab();
    let docker = Space::empty();
    run("ip link add docker0 type bridge");
    run("ip address add 172.17.0.1/16 dev docker0");
    run("ip link set docker0 up");
    run(&format!("ip link add d0 type veth peer name eth0 netns {}", docker.path()));
    run("ip link set d0 master docker0 up");
    docker.within(|| {
        run("ip address add 172.17.0.2/16 dev eth0");
        run("ip link set eth0 up");
        run("ip route add default via 172.17.0.1");
    });
    docker.serve(80);
    run(
        "iptables-nft -t nat -A PREROUTING -p tcp -m addrtype --dst-type LOCAL --dport 7000 -j DNAT --to 172.17.0.2:80",
    );
    let server = lab.server("web", &["8080:80"]);
    assert_eq!(server.endpoint.address.to_string(), "172.18.0.2");
    let address = "172.17.0.2".parse().unwrap();
    assert!(server.space.cannot_ask(address, 80));
    assert!(docker.cannot_ask(server.endpoint.address, 80));
    assert_eq!(server.space.ask(HOST, 7000).unwrap(), "172.17.0.2 hears 172.17.0.1");
    assert_eq!(docker.ask(HOST, 8080).unwrap(), "172.18.0.2 hears 172.17.0.2");
}

#[test]
fn where_the_old_iptables_drops_the_user_is_told_what_to_do() {
    let (lab, outside) = lab();
    assert_eq!(lab.connect_new(named("one")).1.warnings, []);
    run("iptables-legacy -S");
    assert_eq!(lab.connect_new(named("two")).1.warnings, [], "a table that lets everything pass");
    run("iptables-legacy -P FORWARD DROP");
    run("iptables-legacy -A FORWARD -i other0 -j ACCEPT");
    let warnings = lab.connect_new(named("three")).1.warnings;
    assert_eq!(warnings, [Warning::LegacyIptables { interface: "cove0".to_owned() }]);
    let text = warnings[0].to_string();
    let commands: Vec<&str> = text.split('`').filter(|part| part.starts_with("iptables-legacy -I")).collect();
    for command in &commands {
        run(command);
    }
    assert_eq!(commands.len(), 2);
    all_works(&lab, &outside, 8080);
}
