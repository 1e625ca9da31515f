//! From `create` to `rm`: what each command does, says and refuses.

use std::time::Duration;

use cove_tests::{CoveEngine, runc_program, wait_until};

#[test]
fn the_life_of_a_container() {
    life(&CoveEngine::new());
}

#[test]
fn the_life_of_a_container_on_runc() {
    life(&CoveEngine::new().on(runc_program()));
}

fn life(engine: &CoveEngine) {
    let id = engine.create(["--name", "one", "box", "sh", "-c", "echo begun; exec sleep 1000"]).ok();
    assert_eq!(id.len(), 64);
    assert_eq!(engine.status("one"), "Created");
    assert_eq!(engine.words(["start", "one"]).ok(), "one");
    engine.wait_for_status("one", "Up");
    wait_until("its output is in the log", Duration::from_secs(10), || engine.words(["logs", "one"]).ok() == "begun");
    assert_eq!(engine.words(["start", &id[..12]]).ok(), &id[..12], "one that runs is left as it is");

    assert_eq!(engine.words(["exec", "one", "hostname"]).ok(), &id[..12]);
    assert_eq!(engine.words(["exec", "-i", "one", "cat"]).input("through").ok(), "through");
    assert_eq!(engine.words(["exec", "-e", "A=b", "-w", "/tmp", "one", "sh", "-c", "echo $A; pwd"]).ok(), "b\n/tmp");
    assert_eq!(engine.words(["exec", "-u", "user", "one", "id", "-u"]).ok(), "1000");
    assert_eq!(engine.words(["exec", "one", "sh", "-c", "exit 5"]).run().code, Some(5));
    let missing = engine.words(["exec", "one", "nothing"]).run();
    assert_eq!(missing.code, Some(127), "{missing}");
    assert!(missing.stderr.contains("executable file not found in $PATH"), "{missing}");

    engine.words(["pause", "one"]).ok();
    assert!(engine.status("one").ends_with("(Paused)"));
    let refused = engine.words(["pause", "one"]).fails();
    assert!(refused.contains("is already paused"), "{refused}");
    let refused = engine.words(["exec", "one", "true"]).fails();
    assert!(refused.contains("is paused, unpause the container before exec"), "{refused}");
    engine.words(["unpause", "one"]).ok();

    let refused = engine.words(["rm", "one"]).fails();
    let words =
        "cannot remove container \"/one\": container is running: stop the container before removing or force remove";
    assert!(refused.contains(words), "{refused}");
    let refused = engine.create(["--name", "one", "box"]).fails();
    assert!(refused.contains("The container name \"/one\" is already in use by container"), "{refused}");
    engine.words(["rename", "one", "two"]).ok();
    assert!(engine.words(["stop", "one"]).fails().contains("No such container: one"));

    assert_eq!(engine.words(["stop", "-t", "1", "two"]).ok(), "two");
    assert!(engine.status("two").starts_with("Exited (137)"), "{}", engine.status("two"));
    assert_eq!(engine.words(["stop", "two"]).ok(), "two");
    assert!(engine.words(["kill", "two"]).fails().contains("is not running"));
    assert!(engine.words(["exec", "two", "true"]).fails().contains("is not running"));
    assert_eq!(engine.words(["wait", "two"]).ok(), "137");
    engine.words(["start", "two"]).ok();
    engine.words(["kill", "-s", "KILL", "two"]).ok();
    engine.wait_for_status("two", "Exited (137)");
    engine.words(["restart", "-t", "1", "two"]).ok();
    engine.wait_for_status("two", "Up");
    assert_eq!(engine.words(["rm", "-f", "two"]).ok(), "two");
    assert!(engine.words(["rm", "two"]).fails().contains("No such container: two"));
    assert_eq!(engine.leftovers(&[id]), Vec::<String>::new());
}

#[test]
fn what_a_container_writes_stays_until_it_is_removed() {
    let engine = CoveEngine::new();
    engine.run(["--name", "writer", "box", "sh", "-c", "echo kept >> /data/file; rm -f /bin/plain"]).ok();
    let other = engine.run(["--rm", "box", "sh", "-c", "ls /data /bin/plain"]).ok();
    assert!(!other.contains("file") && other.contains("/bin/plain"), "the image is as it was: {other}");
    engine.create(["--name", "reader", "--volumes-from", "writer", "box"]).ok();
    engine.words(["start", "-a", "writer"]).ok();
    let log = engine.words(["cp", "writer:/data/file", "-"]).ok();
    assert!(log.contains("kept\nkept\n"), "{log}");
    let limited = engine
        .run(["--rm", "--read-only", "--tmpfs", "/scratch", "box", "sh", "-c", "touch /scratch/a; touch /b"])
        .run();
    assert!(limited.stderr.contains("Read-only file system"), "{limited}");
    let volume = engine
        .run(["--rm", "-v", "kept:/etc", "box", "sh", "-c", "echo more > /etc/more; cat /etc/passwd | wc -l"])
        .ok();
    assert_eq!(volume, "2", "a new volume has what the image has at its place");
    assert_eq!(engine.run(["--rm", "-v", "kept:/x:ro", "box", "cat", "/x/more"]).ok(), "more");
}

#[test]
fn a_policy_starts_it_again() {
    let engine = CoveEngine::new();
    engine.run(["-d", "--name", "again", "--restart", "on-failure:2", "box", "sh", "-c", "echo x; exit 3"]).ok();
    engine.wait_for_status("again", "Exited (3)");
    assert_eq!(engine.words(["logs", "again"]).ok(), "x\nx\nx");
    engine.run(["-d", "--name", "always", "--restart", "always", "box", "sleep", "1000"]).ok();
    engine.words(["exec", "always", "sh", "-c", "kill -9 -1"]).run();
    engine.wait_for_status("always", "Up");
    engine.words(["stop", "-t", "0", "always"]).ok();
    engine.wait_for_status("always", "Exited");
}

#[test]
fn who_was_killed_for_want_of_memory_says_so() {
    let engine = CoveEngine::new();
    let fill = "dd if=/dev/zero of=/dev/shm/x bs=1M count=60; exit $?";
    engine.run(["--name", "fat", "--memory", "20m", "--memory-swap", "20m", "box", "sh", "-c", fill]).fails();
    engine.run(["--name", "thin", "--memory", "20m", "box", "true"]).ok();
    let killed = |name: &str| engine.words(["inspect", "-f", "{{.State.OOMKilled}}", name]).ok();
    assert_eq!((killed("fat").as_str(), killed("thin").as_str()), ("true", "false"));
}

#[test]
fn logs_are_whole_and_can_be_followed() {
    let engine = CoveEngine::new();
    engine
        .run([
            "-d",
            "--name",
            "talker",
            "box",
            "sh",
            "-c",
            "for i in 1 2 3 4 5; do echo $i; sleep 0.2; done; echo e >&2",
        ])
        .ok();
    let followed = engine.words(["logs", "-f", "talker"]).run();
    assert_eq!((followed.stdout.as_str(), followed.stderr.as_str()), ("1\n2\n3\n4\n5\n", "e\n"));
    assert_eq!(engine.words(["logs", "--tail", "2", "talker"]).run().stdout, "5\n");
    let stamped = engine.words(["logs", "-t", "--tail", "1", "talker"]).run();
    assert!(stamped.stderr.starts_with("20") && stamped.stderr.ends_with("Z e\n"), "{stamped}");
    let none = engine.run(["--rm", "--name", "quiet", "--log-driver", "none", "box", "echo", "seen"]).ok();
    assert_eq!(none, "seen");
}

#[test]
fn a_hundred_at_once() {
    let engine = CoveEngine::new();
    let script = "for i in $(seq 100); do \"$0\" run -d --network none --name many$i box sleep 1000 & done; wait";
    let program = cove_tests::clients::Cove::program();
    let started =
        engine.cove().run_as("sh", ["-c", script]).arg(&program).env("COVE_RUNTIME", cove_tests::runtime_program());
    let ids: Vec<String> = started.limit(Duration::from_secs(120)).ok().lines().map(str::to_owned).collect();
    assert_eq!(ids.len(), 100);
    assert_eq!(engine.words(["ps", "-q"]).ok().lines().count(), 100);
    let names: Vec<String> = (1..=100).map(|number| format!("many{number}")).collect();
    engine.words(["rm", "-f"]).args(&names).limit(Duration::from_secs(120)).ok();
    assert_eq!(engine.leftovers(&ids), Vec::<String>::new());
}

#[test]
fn two_commands_on_one_container() {
    let engine = CoveEngine::new();
    for _ in 0..10 {
        engine.create(["--name", "pair", "box", "sleep", "1000"]).ok();
        let script = "\"$0\" start pair & \"$0\" rm -f pair & \"$0\" stop -t 0 pair & \"$0\" start pair & wait";
        let program = cove_tests::clients::Cove::program();
        let run =
            engine.cove().run_as("sh", ["-c", script]).arg(&program).env("COVE_RUNTIME", cove_tests::runtime_program());
        run.limit(Duration::from_secs(60)).run();
        let _ = engine.words(["rm", "-f", "pair"]).run();
        assert_eq!(engine.leftovers(&[]), Vec::<String>::new());
    }
}
