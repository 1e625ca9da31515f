//! Files of many owners: the user's are root's inside, the subordinate ids' those of everybody else.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::time::Duration;

use cove_tests::{Ordinary, OrdinaryEngine};

#[test]
fn bound_folders_and_volumes() {
    let engine = OrdinaryEngine::new();
    let cove = |words: &[&str]| engine.user().cove(words);
    let shared = engine.user().home().join("shared");
    fs::create_dir(&shared).unwrap();
    chown(&shared, Some(Ordinary::ID), Some(Ordinary::ID)).unwrap();
    let bind = format!("{}:/here", shared.display());
    cove(&[
        "run",
        "--rm",
        "-v",
        &bind,
        "box",
        "sh",
        "-c",
        "echo a > /here/mine; echo b > /here/other; chown 1000:50 /here/other",
    ])
    .ok();
    let owner = |name: &str| fs::metadata(shared.join(name)).map(|found| (found.uid(), found.gid())).unwrap();
    assert_eq!(owner("mine"), (Ordinary::ID, Ordinary::ID), "what root made is the user's");
    assert_eq!(owner("other"), (Ordinary::SUBORDINATE + 999, Ordinary::SUBORDINATE + 49));
    // Missing folders are made, as docker does.
    let made = format!("{}:/made", engine.user().home().join("made").display());
    cove(&["run", "--rm", "-v", &made, "box", "touch", "/made/x"]).ok();
    assert_eq!(fs::metadata(engine.user().home().join("made/x")).unwrap().uid(), Ordinary::ID);

    let seeded = [
        "run",
        "--rm",
        "-v",
        "kept:/etc",
        "box",
        "sh",
        "-c",
        "echo more > /etc/more; chown 1000 /etc/more; wc -l < /etc/passwd",
    ];
    assert_eq!(cove(&seeded).ok(), "2", "a new volume has what the image has at its place");
    assert_eq!(cove(&["run", "--rm", "-v", "kept:/x:ro", "box", "cat", "/x/more"]).ok(), "more");
    assert_eq!(cove(&["volume", "ls", "-q"]).ok(), "kept");
    cove(&["volume", "rm", "kept"]).ok();
    assert!(!engine.user().store().join("volumes/kept").exists());
    engine.wait_until_nothing_is_left();
}

#[test]
fn changes_are_seen_copied_committed_and_removed() {
    let engine = OrdinaryEngine::new();
    let cove = |words: &[&str]| engine.user().cove(words);
    let script = "echo text > /data/file; chown 1000:1000 /data/file; mkdir /data/closed; chown 1000 /data/closed; \
                  chmod 700 /data/closed; rm /bin/plain; echo ready; exec sleep 1000";
    cove(&["run", "-d", "--name", "work", "box", "sh", "-c", script]).ok();
    cove_tests::wait_until("it is ready", Duration::from_secs(10), || cove(&["logs", "work"]).ok() == "ready");
    let diff = cove(&["diff", "work"]).ok();
    for line in ["A /data/file", "A /data/closed", "D /bin/plain"] {
        assert!(diff.lines().any(|found| found == line), "{line} in {diff}");
    }
    let file = engine.file("given", "given text");
    cove(&["cp", &file.display().to_string(), "work:/data/closed/given"]).ok();
    assert_eq!(cove(&["exec", "work", "cat", "/data/closed/given"]).ok(), "given text");
    let out = engine.user().home().join("out");
    cove(&["cp", "work:/data/file", &out.display().to_string()]).ok();
    assert_eq!(fs::read_to_string(&out).unwrap(), "text\n");
    assert_eq!(fs::metadata(&out).unwrap().uid(), Ordinary::ID);

    let committed = cove(&["commit", "-m", "changed", "work", "box:changed"]).run();
    assert!(committed.succeeded(), "{committed}");
    assert!(committed.stderr.contains("WARNING: the container runs on while it is committed"), "{committed}");
    let looked =
        ["run", "--rm", "box:changed", "sh", "-c", "stat -c '%u:%g' /data/file; cat /data/closed/given; ls /bin/plain"];
    let looked = cove(&looked).run();
    assert!(looked.stdout == "1000:1000\ngiven text" && looked.stderr.contains("No such file"), "{looked}");
    cove(&["stop", "-t", "0", "work"]).ok();
    assert!(!cove(&["commit", "work", "box:again"]).run().stderr.contains("WARNING"), "it stands still by itself");
    cove(&["cp", "work:/data/file", &out.display().to_string()]).ok();
    let tar = engine.user().home().join("all.tar");
    cove(&["export", "-o", &tar.display().to_string(), "work"]).ok();
    let list = cove_tests::Cmd::new("tar").args(["--numeric-owner", "-tvf"]).arg(&tar).ok();
    assert!(list.lines().any(|line| line.contains("1000/1000") && line.ends_with("data/file")), "{list}");
    // Files of subordinate ids can be removed by nobody but root of the namespace.
    cove(&["rm", "work"]).ok();
    engine.wait_until_nothing_is_left();
}

/// What the package tools of a distribution do: other owners, set-user-id programs, a user of their own for downloads.
#[test]
fn packages_are_installed_in_debian() {
    let engine = OrdinaryEngine::with_debian();
    let cove = |words: &[&str]| engine.user().cove(words);
    let script = "apt-get update -q && apt-get install -y -q --no-install-recommends tree && tree --version";
    let installed =
        cove(&["run", "--name", "work", "debian", "sh", "-c", script]).limit(Duration::from_secs(300)).run();
    assert!(installed.succeeded(), "{installed}");
    cove(&["commit", "work", "debian:tree"]).ok();
    let run = cove(&[
        "run",
        "--rm",
        "debian:tree",
        "sh",
        "-c",
        "tree --version; stat -c %U /var/cache/apt/archives/partial; useradd -m me && su me -c 'id -un'",
    ])
    .ok();
    assert!(run.starts_with("tree v") && run.contains("\n_apt\n") && run.ends_with("\nme"), "{run}");
    cove(&["rm", "work"]).ok();
    engine.wait_until_nothing_is_left();
}
