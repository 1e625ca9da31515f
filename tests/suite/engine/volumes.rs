//! What is mounted into containers: volumes, and folders of the host.

use std::fs;
use std::path::Path;

use cove_tests::{Cmd, CoveEngine};

fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().any(|line| line.split(' ').nth(4) == path.to_str())
}

#[test]
fn a_volume_of_memory_is_shared_and_goes_with_its_last_user() {
    let engine = CoveEngine::new();
    engine.words(["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m", "mem"]).ok();
    let data = engine.words(["volume", "inspect", "-f", "{{.Mountpoint}}", "mem"]).ok();
    let data = Path::new(&data);
    engine.run(["-d", "--name", "one", "-v", "mem:/mem", "box", "sleep", "1000"]).ok();
    assert!(is_mounted(data), "the host sees it too");
    engine.words(["exec", "one", "sh", "-c", "echo kept >/mem/file"]).ok();
    assert_eq!(engine.run(["--rm", "-v", "mem:/mem", "box", "cat", "/mem/file"]).ok(), "kept");
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "kept\n");
    let kind = engine.words(["exec", "one", "sh", "-c", "grep ' /mem ' /proc/mounts | cut -d' ' -f1,3"]).ok();
    assert_eq!(kind, "tmpfs tmpfs");
    engine.words(["stop", "-t", "0", "one"]).ok();
    assert!(!is_mounted(data), "nobody runs that has it");
    engine.words(["start", "one"]).ok();
    assert!(is_mounted(data));
    let gone = engine.words(["exec", "one", "ls", "/mem"]).ok();
    assert_eq!(gone, "", "what is kept in memory goes with its last user");
    engine.words(["rm", "-f", "one"]).ok();
    assert!(!is_mounted(data));
    // One that was only made has it mounted to be filled.
    engine.create(["--name", "made", "-v", "mem:/etc", "box", "true"]).ok();
    engine.words(["rm", "made"]).ok();
    assert!(!is_mounted(data));
    engine.words(["volume", "rm", "mem"]).ok();

    let source = engine.cove().scratch().folder("source");
    fs::write(source.join("file"), "bound").unwrap();
    let device = format!("device={}", source.display());
    engine.words(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "bound"]).ok();
    assert_eq!(engine.run(["--rm", "-v", "bound:/b", "box", "cat", "/b/file"]).ok(), "bound");
    let data = engine.words(["volume", "inspect", "-f", "{{.Mountpoint}}", "bound"]).ok();
    assert!(!is_mounted(Path::new(&data)));
    engine.words(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/missing", "bad"]).ok();
    let refused = engine.run(["--rm", "-v", "bad:/b", "box", "true"]).run();
    assert_eq!(refused.code, Some(125));
    assert!(refused.stderr.contains("failed to mount local volume: mount /missing:"), "{refused}");
}

#[test]
fn propagation_between_the_host_and_a_container() {
    let engine = CoveEngine::new();
    let folder = engine.cove().scratch().folder("shared");
    let path = folder.display().to_string();
    let mount = |words: &[&str]| Cmd::new("mount").args(words).ok();
    let refused = engine.run(["--rm", "-v", &format!("{path}:/s:shared"), "box", "true"]).run();
    assert_eq!(refused.code, Some(125));
    assert!(refused.stderr.contains("but it is not a shared mount"), "{refused}");
    mount(&["--bind", &path, &path]);
    mount(&["--make-shared", &path]);
    for name in ["in", "out", "below"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    mount(&["-t", "tmpfs", "below", &format!("{path}/below")]);

    let publish = |name: &str, mode: &str| {
        let volume = format!("{path}:/s:{mode}");
        engine
            .run(["-d", "--name", name, "--cap-add", "SYS_ADMIN", "--security-opt", "apparmor=unconfined"])
            .args(["-v", &volume, "box", "sleep", "1000"])
            .ok();
    };
    publish("both", "rshared");
    publish("into", "rslave");
    publish("not", "rprivate");
    engine.words(["exec", "both", "mount", "-t", "tmpfs", "tmpfs", "/s/out"]).ok();
    assert!(is_mounted(&folder.join("out")), "what a container mounts is seen by the host");
    mount(&["-t", "tmpfs", "tmpfs", &format!("{path}/in")]);
    let sees = |name: &str, place: &str| {
        let mounts = engine.words(["exec", name, "cat", "/proc/mounts"]).ok();
        mounts.lines().any(|line| line.split(' ').nth(1) == Some(place))
    };
    for (name, expected) in [("both", true), ("into", true), ("not", false)] {
        assert_eq!(sees(name, "/s/in"), expected, "what the host mounts, in a container that is `{name}`");
        assert_eq!(sees(name, "/s/out"), expected, "what another container mounts, in one that is `{name}`");
    }
    assert!(sees("not", "/s/below"), "what was there before");
    engine.words(["exec", "into", "umount", "/s/in"]).ok();
    assert!(is_mounted(&folder.join("in")), "a slave does not change the host");
    engine.words(["rm", "-f", "both", "into", "not"]).ok();
    for name in ["in", "out", "below"] {
        assert!(is_mounted(&folder.join(name)), "{name} stays when the containers go");
        Cmd::new("umount").arg(folder.join(name)).ok();
    }
    Cmd::new("umount").arg(&folder).ok();
}

#[test]
fn what_a_failed_start_has_made_goes() {
    let engine = CoveEngine::new();
    let refused = engine.create(["--name", "one", "-v", "/bin/plain", "box", "true"]).run();
    assert!(refused.stderr.contains("cannot mount volume over existing file, file exists /bin/plain"), "{refused}");
    assert_eq!(engine.words(["volume", "ls", "-q"]).ok(), "", "its volume");
    assert_eq!(engine.words(["ps", "-aq"]).ok(), "");
}

#[test]
fn folders_of_the_host() {
    let engine = CoveEngine::new();
    let missing = engine.cove().scratch().join("missing/folder");
    let mount = format!("type=bind,source={},target=/m", missing.display());
    let refused = engine.run(["--rm", "--mount", &mount, "box", "true"]).run();
    assert_eq!(refused.code, Some(125));
    let text =
        format!("invalid mount config for type \"bind\": bind source path does not exist: {}", missing.display());
    assert!(refused.stderr.contains(&text), "{refused}");
    let volume = format!("{}:/m", missing.display());
    engine.run(["--rm", "-v", &volume, "box", "sh", "-c", "echo written >/m/file"]).ok();
    assert_eq!(fs::read_to_string(missing.join("file")).unwrap(), "written\n", "made, and written to");
    let read_only = engine.run(["--rm", "-v", &format!("{volume}:ro"), "box", "touch", "/m/other"]).run();
    assert!(read_only.stderr.contains("Read-only file system"), "{read_only}");
    let file = missing.join("file").display().to_string();
    assert_eq!(engine.run(["--rm", "-v", &format!("{file}:/one"), "box", "cat", "/one"]).ok(), "written");
}

#[test]
fn volumes_of_another_container_and_volumes_in_use() {
    let engine = CoveEngine::new();
    engine
        .run(["--name", "first", "-v", "named:/named", "-v", "/anonymous", "box"])
        .args(["sh", "-c", "echo n >/named/file; echo a >/anonymous/file"])
        .ok();
    let other =
        |from: &str, script: &str| engine.run(["--rm", "--volumes-from", from, "box", "sh", "-c", script]).run();
    assert_eq!(other("first", "cat /named/file /anonymous/file").stdout, "n\na\n");
    let refused = other("first:ro", "cat /named/file; echo x >/anonymous/file");
    assert_eq!(refused.stdout, "n\n");
    assert!(refused.stderr.contains("Read-only file system"), "{refused}");
    assert_eq!(other("first:rw", "echo more >>/named/file; cat /named/file").stdout, "n\nmore\n");

    let id = engine.words(["ps", "-aq", "--no-trunc"]).ok();
    let said = engine.words(["volume", "rm", "named"]).fails();
    assert!(said.contains(&format!("remove named: volume is in use - [{id}]")), "{said}");
    engine.words(["volume", "create", "--label", "kept=yes", "spare"]).ok();
    let listed = |filter: &str| engine.words(["volume", "ls", "-q", "--filter", filter]).ok();
    assert_eq!(listed("dangling=true"), "spare");
    assert_eq!(listed("dangling=false").lines().count(), 2);
    assert_eq!(listed("name=nam"), "named");
    assert_eq!(listed("label=kept=yes"), "spare");
    assert_eq!(listed("driver=local").lines().count(), 3);
    assert!(engine.words(["volume", "ls", "--filter", "other=x"]).fails().contains("nvalid filter"));

    engine.words(["rm", "-v", "first"]).ok();
    assert_eq!(engine.words(["volume", "ls", "-q"]).ok(), "named\nspare", "the anonymous one goes");
    // Without `-a` only those that nobody has named.
    engine.create(["--name", "second", "-v", "/anonymous", "box", "true"]).ok();
    engine.words(["rm", "second"]).ok();
    let pruned = engine.words(["volume", "prune", "-f"]).ok();
    assert!(pruned.starts_with("Deleted Volumes:\n") && pruned.contains("Total reclaimed space:"), "{pruned}");
    assert_eq!(engine.words(["volume", "ls", "-q"]).ok(), "named\nspare");
    engine.words(["volume", "prune", "-f", "-a", "--filter", "label!=kept"]).ok();
    assert_eq!(engine.words(["volume", "ls", "-q"]).ok(), "spare");
    engine.words(["volume", "rm", "spare"]).ok();
    assert!(engine.words(["volume", "rm", "spare"]).fails().contains("get spare: no such volume"));
}
