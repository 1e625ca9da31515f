//! What `events` tells besides a container's own life, and namespaces that containers share.

use cove_tests::CoveEngine;

#[test]
fn networks_volumes_and_commands_are_told_as_docker_tells_them() {
    let engine = CoveEngine::new();
    engine.words(["volume", "create", "kept"]).ok();
    engine.run(["-d", "--name", "one", "-v", "kept:/kept", "-v", "/own", "box", "sleep", "1000"]).ok();
    engine.words(["top", "one"]).ok();
    let copy = engine.cove().scratch().join("copy");
    engine.words(["cp", "one:/etc/passwd"]).arg(&copy).ok();
    engine.words(["cp"]).arg(&copy).arg("one:/tmp/").ok();
    engine.words(["export", "-o"]).arg(&copy).arg("one").ok();
    engine.words(["commit", "-m", "note", "one", "made:1"]).ok();
    engine.words(["stop", "-t", "0", "one"]).ok();
    engine.words(["rm", "-v", "one"]).ok();
    engine.run(["--rm", "--name", "two", "-v", "/own", "box", "true"]).ok();
    engine.run(["--name", "bad", "box", "nothing"]).fails();
    engine.words(["container", "prune", "-f"]).ok();
    engine.words(["volume", "rm", "kept"]).ok();
    engine.words(["volume", "prune", "-f"]).ok();

    let events = engine.words(["events", "--since", "1", "--until", "0s", "--format", "{{.Type}} {{.Action}}"]).ok();
    let expected = [
        "image load",
        "volume create",
        "volume create",
        "volume create",
        "container create",
        "network connect",
        "volume mount",
        "volume mount",
        "container start",
        "container top",
        "container archive-path",
        "container extract-to-dir",
        "container export",
        "container pause",
        "image tag",
        "container commit",
        "container unpause",
        "container die",
        "network disconnect",
        "volume unmount",
        "volume unmount",
        "container stop",
        "volume destroy",
        "container destroy",
        // The second container.
        "volume create",
        "container create",
        "container attach",
        "network connect",
        "volume mount",
        "container start",
        "container die",
        "network disconnect",
        "volume unmount",
        "volume destroy",
        "container destroy",
        // The one that cannot begin.
        "container create",
        "container attach",
        "network connect",
        "network disconnect",
        "container destroy",
        "container prune",
        "volume destroy",
        "volume prune",
    ];
    let told: Vec<&str> = events.lines().filter(|line| *line != "container kill").collect();
    assert_eq!(told, expected);

    let attributes = |filters: &[&str]| {
        let words = filters.iter().flat_map(|filter| ["-f", *filter]);
        let events =
            engine.words(["events", "--since", "1", "--until", "0s", "--format", "{{json .Actor.Attributes}}"]);
        events.args(words).ok()
    };
    let mounted = attributes(&["event=mount", "volume=kept"]);
    for part in [r#""destination":"/kept""#, r#""driver":"local""#, r#""propagation":"""#, r#""read/write":"true""#] {
        assert!(mounted.contains(part), "{mounted}");
    }
    let committed = attributes(&["event=commit"]);
    for part in [r#""comment":"note""#, r#""imageRef":"made:1""#, r#""imageID":"sha256:"#] {
        assert!(committed.contains(part), "{committed}");
    }
    let connected = attributes(&["event=connect", "network=bridge"]);
    assert!(connected.contains(r#""name":"bridge","type":"bridge""#), "{connected}");
}

#[test]
fn only_a_shareable_ipc_namespace_can_be_joined() {
    let engine = CoveEngine::new();
    engine.run(["-d", "--name", "giver", "--ipc", "shareable", "box", "sleep", "1000"]).ok();
    engine.run(["-d", "--name", "closed", "box", "sleep", "1000"]).ok();
    engine.run(["--rm", "--ipc", "container:giver", "box", "touch", "/dev/shm/given"]).ok();
    assert_eq!(engine.words(["exec", "giver", "ls", "/dev/shm"]).ok(), "given");
    let own = engine.words(["exec", "giver", "readlink", "/proc/self/ns/ipc"]).ok();
    let joined = engine.run(["--rm", "--ipc", "container:giver", "box", "readlink", "/proc/self/ns/ipc"]).ok();
    assert_eq!(own, joined);
    let refused = engine.run(["--rm", "--ipc", "container:closed", "box", "true"]).run();
    assert_eq!(refused.code, Some(125), "{refused}");
    let words = "non-shareable IPC (hint: use IpcMode:shareable for the donor container)";
    assert!(refused.stderr.contains(words), "{refused}");
    // The processes of another container.
    let first = engine.run(["--rm", "--pid", "container:giver", "box", "cat", "/proc/1/cmdline"]).ok();
    assert!(first.starts_with("sleep"), "{first:?}");
    assert_eq!(engine.run(["--rm", "--userns", "host", "box", "echo", "host"]).ok(), "host");
    let refused = engine.run(["--rm", "--userns", "keep-id", "box", "true"]).run();
    assert!(refused.code == Some(125) && refused.stderr.contains("--userns: invalid USER mode"), "{refused}");
}

#[test]
fn signals_that_are_none_are_refused_in_dockers_words() {
    let engine = CoveEngine::new();
    engine.run(["-d", "--name", "one", "box", "sleep", "1000"]).ok();
    for (signal, words) in [
        ("99", "Cannot kill container: one: The linux daemon does not support signal 99"),
        ("0", "invalid signal: 0"),
        ("BAD", "invalid signal: BAD"),
    ] {
        let refused = engine.words(["kill", "-s", signal, "one"]).fails();
        assert!(refused.contains(&format!("Error response from daemon: {words}")), "{refused}");
    }
    assert_eq!(engine.words(["inspect", "-f", "{{.HostConfig.Runtime}}", "one"]).ok(), "cove-runtime");
}
