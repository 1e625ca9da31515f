//! What a container has written: `diff`, `commit`, `export` and `cp`.

use std::fs;

use cove_tests::{Cmd, CoveEngine};

/// Has a container change its files, and run on.
fn changed(engine: &CoveEngine) {
    let script = "echo hi >/made; rm /bin/plain; mkdir -p /new/folder; echo ready; exec sleep 1000";
    engine.run(["-d", "--name", "one", "-v", "/volume", "box", "sh", "-c", script]).ok();
    let ready = || engine.words(["logs", "one"]).ok() == "ready";
    cove_tests::wait_until("it has changed its files", std::time::Duration::from_secs(30), ready);
}

#[test]
fn diff_tells_what_a_container_has_changed() {
    let engine = CoveEngine::new();
    changed(&engine);
    let expected = "C /bin\nD /bin/plain\nA /made\nA /new\nA /new/folder";
    assert_eq!(engine.words(["diff", "one"]).ok(), expected, "without mount points");
    engine.words(["kill", "one"]).ok();
    engine.wait_for_status("one", "Exited");
    assert_eq!(engine.words(["container", "diff", "one"]).ok(), expected);
    assert!(engine.words(["diff", "two"]).fails().contains("No such container: two"));
}

#[test]
fn a_commit_can_be_run_and_saved() {
    let engine = CoveEngine::new();
    changed(&engine);
    let id = engine
        .words(["commit", "-a", "Somebody", "-m", "what was done", "-c", "CMD [\"cat\", \"/made\"]", "-c", "ENV A=b"])
        .args(["one", "snap:1"])
        .ok();
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    assert!(engine.status("one").starts_with("Up") && !engine.status("one").contains("Paused"), "it goes on");
    assert_eq!(engine.run(["--rm", "snap:1"]).ok(), "hi");
    assert_eq!(engine.run(["--rm", "snap:1", "sh", "-c", "echo $A; ls /bin/plain"]).run().stdout.trim(), "b");
    assert_eq!(engine.words(["history", "-q", "snap:1"]).ok().lines().count(), 2);
    let shown = engine.words(["image", "inspect", "-f", "{{.Author}} {{.Config.Cmd}}", "snap:1"]).ok();
    assert_eq!(shown, "Somebody [cat /made]");
    let archive = engine.cove().scratch().join("snap.tar");
    engine.words(["save", "-o"]).arg(&archive).arg("snap:1").ok();
    engine.words(["rmi", "snap:1"]).ok();
    engine.words(["load", "-q", "-i"]).arg(&archive).ok();
    assert_eq!(engine.run(["--rm", "snap:1"]).ok(), "hi");

    assert!(engine.words(["commit", "one", "Snap"]).fails().contains("must be lowercase"));
    assert!(engine.words(["commit", "-c", "RUN x", "one"]).fails().contains("run is not a valid change command"));
}

#[test]
fn an_export_is_the_whole_tree() {
    let engine = CoveEngine::new();
    changed(&engine);
    let archive = engine.cove().scratch().join("tree.tar");
    for _ in 0..2 {
        engine.words(["export", "-o"]).arg(&archive).arg("one").ok();
        let names = Cmd::new("tar").arg("tf").arg(&archive).ok();
        let has = |name: &str| names.lines().any(|line| line == name);
        assert!(has("made") && has("new/folder/") && has("bin/busybox") && !has("bin/plain"), "{names}");
        engine.words(["kill", "one"]).run();
        engine.wait_for_status("one", "Exited");
    }
}

#[test]
fn files_are_copied_both_ways() {
    let engine = CoveEngine::new();
    changed(&engine);
    copies(&engine);
    engine.words(["exec", "one", "rm", "-r", "/in", "/volume/file"]).ok();
    engine.words(["kill", "one"]).ok();
    engine.wait_for_status("one", "Exited");
    copies(&engine);
    engine.words(["start", "one"]).ok();
    assert_eq!(engine.words(["exec", "one", "cat", "/volume/file"]).ok(), "from the host", "into the volume");
}

fn copies(engine: &CoveEngine) {
    let folder = engine.cove().scratch().folder("copies");
    let copy = |from: &str, to: &str| engine.words(["cp", from, to]);
    let local = |name: &str| folder.join(name).display().to_string();
    fs::create_dir(folder.join("tree")).unwrap();
    fs::write(folder.join("tree/file"), "from the host").unwrap();

    copy("one:/made", &local("out")).ok();
    assert_eq!(fs::read_to_string(local("out")).unwrap(), "hi\n");
    copy("one:/new", &folder.display().to_string()).ok();
    assert!(folder.join("new/folder").is_dir());
    copy("one:/new/.", &local("tree")).ok();
    assert!(folder.join("tree/folder").is_dir(), "what is in the folder");
    let listed = engine.words(["cp", "one:/made", "-"]).wrapped("sh", &["-c", "\"$@\" | tar t", "sh"]).ok();
    assert_eq!(listed, "made");
    copy("one:/ma*", &folder.display().to_string()).ok();
    assert_eq!(fs::read_to_string(local("made")).unwrap(), "hi\n");

    copy(&local("tree"), "one:/in").ok();
    copy(&local("tree"), "one:/in").ok();
    copy(&local("tree/file"), "one:/volume").ok();
    copy("one:/in/tree/file", &local("back")).ok();
    assert_eq!(fs::read_to_string(local("back")).unwrap(), "from the host", "a folder that is there is copied into");
    copy("one:/volume/file", &local("volume")).ok();
    assert_eq!(fs::read_to_string(local("volume")).unwrap(), "from the host");
    let tar = Cmd::new("tar").args(["c", "-C"]).arg(&folder).arg("out").run().stdout;
    copy("-", "one:/new").input(tar).ok();
    assert_eq!(copy("one:/new/out", "-").run().code, Some(0));

    let refused = |from: &str, to: &str, words: &str| {
        let said = copy(from, to).fails();
        assert!(said.contains(words), "cp {from} {to}: {said}");
    };
    refused("one:/made", "one:/again", "copying between containers is not supported");
    refused(&local("out"), &local("again"), "must specify at least one container source");
    refused("one:/missing", &local("again"), "Could not find the file /missing in container one");
    refused(&local("missing"), "one:/", "no such file or directory");
    refused(&local("out"), "one:/missing/", "no such directory");
    refused(&local("tree"), "one:/made", "cannot copy directory");
    refused(&local("out"), "one:/missing/name", "Could not find the file /missing in container one");
    refused("one:/made", &local("missing/name"), "invalid output path: directory");
    refused("one:/made", "/dev/null", "must be a directory or a regular file: got a device");
    refused("-", "one:/made", "must be a directory");
    fs::remove_dir_all(folder).unwrap();
}
