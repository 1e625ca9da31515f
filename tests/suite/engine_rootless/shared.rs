//! The process that holds the namespaces, and monitors: killed, raced, and gone when nobody needs them.

use std::time::Duration;

use cove_tests::{Cmd, Ordinary, OrdinaryEngine, wait_until};

fn kill(pids: &[String]) {
    assert!(!pids.is_empty(), "there is something to kill");
    Cmd::new("kill").arg("-9").args(pids).ok();
}

#[test]
fn a_dead_monitor_is_noticed_and_its_container_ended() {
    let engine = OrdinaryEngine::new();
    let cove = |words: &[&str]| engine.user().cove(words);
    let words = ["run", "-d", "--name", "orphan", "--user", "1000", "-p", "127.0.0.1::80", "box", "sleep", "1000"];
    let id = cove(&words).ok();
    let pid = cove(&["inspect", "-f", "{{.State.Pid}}", "orphan"]).ok();
    kill(&engine.processes(&format!(
        "monitor --shared {} {} {id}",
        engine.user().store().display(),
        engine.user().session().join("cove").display()
    )));
    wait_until("the monitor is gone", Duration::from_secs(10), || engine.processes(&id).is_empty());
    // Longer than the namespaces wait for somebody: what runs on in them is not left alone.
    std::thread::sleep(Duration::from_millis(2500));
    assert!(engine.status("orphan").starts_with("Exited (137)"), "{}", engine.status("orphan"));
    wait_until("its process is ended", Duration::from_secs(10), || {
        !std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|text| text.contains("sleep"))
    });
    cove(&["start", "orphan"]).ok();
    engine.wait_for_status("orphan", "Up");
    assert_eq!(cove(&["exec", "orphan", "id", "-u"]).ok(), "1000");
    cove(&["rm", "-f", "orphan"]).ok();
    engine.wait_until_nothing_is_left();
}

#[test]
fn many_first_ones_share_one_network() {
    let engine = OrdinaryEngine::new();
    let cove = |words: &[&str]| engine.user().cove(words);
    let script = "for i in 1 2 3 4 5 6 7 8; do \"$0\" run -d --name many$i box sleep 1000 & done; wait";
    let program = engine.user().program().display().to_string();
    let ids =
        engine.user().run(std::path::Path::new("sh"), ["-c", script, &program]).limit(Duration::from_secs(120)).ok();
    assert_eq!(ids.lines().count(), 8);
    assert_eq!(engine.processes("cove-runtime namespaces").len(), 1);
    assert_eq!(engine.processes("pasta").len(), 1);
    let found = cove(&[
        "exec",
        "many1",
        "sh",
        "-c",
        "for i in 2 3 4 5 6 7 8; do ping -c 1 -W 5 many$i >/dev/null && echo $i; done",
    ])
    .ok();
    assert_eq!(found, "2\n3\n4\n5\n6\n7\n8");
    let names: Vec<String> = (1..=8).map(|number| format!("many{number}")).collect();
    engine.words(["rm", "-f"]).args(&names).limit(Duration::from_secs(120)).ok();
    engine.wait_until_nothing_is_left();
}

#[test]
fn a_way_out_that_breaks_is_made_again() {
    let engine = OrdinaryEngine::new();
    let cove = |words: &[&str]| engine.user().cove(words);
    cove(&["run", "-d", "--name", "one", "box", "sleep", "1000"]).ok();
    let looks_up = || cove(&["exec", "one", "nslookup", "deb.debian.org"]).run().stdout.contains("Address: ");
    wait_until("it reaches the machine's server of names", Duration::from_secs(20), looks_up);
    let before = engine.processes("pasta --foreground");
    kill(&before);
    wait_until("there is another one", Duration::from_secs(20), || {
        let now = engine.processes("pasta --foreground");
        !now.is_empty() && now != before
    });
    wait_until("it reaches the server again", Duration::from_secs(30), looks_up);
    cove(&["rm", "-f", "one"]).ok();
    engine.wait_until_nothing_is_left();
}

#[test]
fn a_holder_that_was_killed_costs_the_network_and_no_more() {
    let engine = OrdinaryEngine::new();
    let cove = |words: &[&str]| engine.user().cove(words);
    cove(&["run", "-d", "--name", "one", "box", "sleep", "1000"]).ok();
    kill(&engine.processes("cove-runtime namespaces"));
    // The next command goes where the containers are.
    assert_eq!(cove(&["exec", "one", "echo", "here"]).ok(), "here");
    assert_eq!(cove(&["run", "--rm", "box", "echo", "there"]).ok(), "there");
    cove(&["restart", "-t", "0", "one"]).ok();
    assert_eq!(cove(&["run", "--rm", "box", "ping", "-c", "1", "-W", "5", "one"]).run().code, Some(0));
    cove(&["rm", "-f", "one"]).ok();
    engine.wait_until_nothing_is_left();
}

#[test]
fn the_machine_s_network_is_as_it_was() {
    let links = || Cmd::new("ip").args(["-o", "link"]).ok().lines().filter(|line| line.contains("cove")).count();
    let before = links();
    let engine = OrdinaryEngine::new();
    engine.words(["run", "--rm", "box", "true"]).ok();
    assert_eq!(links(), before);
    assert_eq!(Ordinary::ID, 4321);
    engine.wait_until_nothing_is_left();
}
