//! From `run` to `rm`, and what is refused.

use std::time::Duration;

use cove_tests::{Ordinary, OrdinaryEngine, wait_until};

#[test]
fn the_life_of_a_container() {
    let engine = OrdinaryEngine::new();
    let cove = |words: &[&str]| engine.user().cove(words);
    assert_eq!(cove(&["run", "--rm", "--network", "none", "box", "id", "-u"]).ok(), "0", "root of the namespace");
    let id = cove(&["create", "--name", "one", "box", "sh", "-c", "echo begun; exec sleep 1000"]).ok();
    assert_eq!(cove(&["start", "one"]).ok(), "one");
    engine.wait_for_status("one", "Up");
    wait_until("its output is in the log", Duration::from_secs(10), || cove(&["logs", "one"]).ok() == "begun");
    assert_eq!(cove(&["exec", "one", "hostname"]).ok(), &id[..12]);
    assert_eq!(cove(&["exec", "-i", "one", "cat"]).input("through").ok(), "through");
    assert_eq!(
        cove(&["exec", "-u", "user", "one", "id"]).ok(),
        "uid=1000(user) gid=1000(user) groups=2000(extra),1000(user)"
    );
    assert_eq!(cove(&["exec", "one", "sh", "-c", "exit 5"]).run().code, Some(5));
    let top = cove(&["top", "one", "-o", "pid,args"]).ok();
    assert!(top.contains("sleep 1000"), "{top}");
    assert_eq!(
        cove(&["inspect", "-f", "{{.State.Running}} {{.Config.Hostname}}", "one"]).ok(),
        format!("true {}", &id[..12])
    );
    assert!(cove(&["rm", "one"]).fails().contains("container is running"));
    assert_eq!(cove(&["stop", "-t", "1", "one"]).ok(), "one");
    assert!(engine.status("one").starts_with("Exited (137)"));
    cove(&["restart", "-t", "1", "one"]).ok();
    engine.wait_for_status("one", "Up");
    cove(&["kill", "one"]).ok();
    engine.wait_for_status("one", "Exited (137)");
    assert_eq!(cove(&["wait", "one"]).ok(), "137");
    cove(&["rm", "one"]).ok();
    let user = cove(&[
        "run",
        "--rm",
        "--user",
        "1000:50",
        "box",
        "sh",
        "-c",
        "id -u; id -g; touch /tmp/a && stat -c %u:%g /tmp/a",
    ])
    .ok();
    assert_eq!(user, "1000\n50\n1000:50");
    engine.wait_until_nothing_is_left();
}

#[test]
fn without_subordinate_ids_there_is_one_user() {
    let engine = OrdinaryEngine::of(Ordinary::new(false));
    let cove = |words: &[&str]| engine.user().cove(words);
    assert_eq!(cove(&["run", "--rm", "box", "id", "-u"]).ok(), "0");
    let refused = cove(&["run", "--rm", "--user", "1000", "box", "id", "-u"]).run();
    assert!(!refused.succeeded(), "{refused}");
    cove(&["run", "-d", "--name", "one", "box", "sleep", "1000"]).ok();
    assert_eq!(cove(&["exec", "one", "id", "-g"]).ok(), "0");
    cove(&["rm", "-f", "one"]).ok();
    engine.wait_until_nothing_is_left();
}

#[test]
fn what_an_ordinary_user_cannot_have_is_refused() {
    let engine = OrdinaryEngine::new();
    let cove = |words: &[&str]| engine.user().cove(words);
    for (option, value) in [("--memory", "64m"), ("--cpus", "1"), ("--pids-limit", "10"), ("--cpuset-cpus", "0")] {
        let refused = cove(&["run", "--rm", option, value, "box", "true"]).run();
        assert_eq!(refused.code, Some(125), "{refused}");
        assert!(
            refused.stderr.contains(&format!("`{option}` cannot be held: an ordinary user has no cgroup")),
            "{refused}"
        );
    }
    cove(&["run", "-d", "--name", "one", "--network", "none", "box", "sleep", "1000"]).ok();
    assert!(cove(&["update", "--memory", "64m", "one"]).fails().contains("`--memory` cannot be held"));
    assert!(cove(&["pause", "one"]).fails().contains("an ordinary user has no cgroup here that could be frozen"));
    assert!(cove(&["stats", "--no-stream"]).fails().contains("cannot tell what containers use"));
    assert!(engine.status("one").starts_with("Up") && !engine.status("one").contains("Paused"));
    cove(&["rm", "-f", "one"]).ok();
    let refused = cove(&["run", "--rm", "-p", "80:80", "box", "true"]).run();
    assert_eq!(refused.code, Some(125), "{refused}");
    assert!(
        refused.stderr.contains("bind: permission denied\nordinary users may publish ports from 1024 on"),
        "{refused}"
    );
    engine.wait_until_nothing_is_left();
}

#[test]
fn a_policy_starts_it_again() {
    let engine = OrdinaryEngine::new();
    let cove = |words: &[&str]| engine.user().cove(words);
    let port = cove_tests::free_port().to_string();
    let publish = format!("127.0.0.1:{port}:80");
    let words = ["run", "-d", "--name", "again", "-p", &publish, "--restart", "on-failure:2", "box", "sh", "-c"];
    cove(&[&words[..], &["echo x; exit 3"]].concat()).ok();
    engine.wait_for_status("again", "Exited (3)");
    assert_eq!(cove(&["logs", "again"]).ok(), "x\nx\nx");
    cove(&["rm", "again"]).ok();
    engine.wait_until_nothing_is_left();
}
