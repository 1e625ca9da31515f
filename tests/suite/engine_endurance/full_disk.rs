//! The disk of the store is full to the last byte: what cannot be done says so, what runs goes on, nothing is lost.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use cove_tests::endurance::{Remains, assert_sane};
use cove_tests::{CoveEngine, Finished, LoopDisk, Scratch, wait_until};

/// Fills a disk to its last byte and its last inode's block.
fn fill(disk: &Path) {
    let mut file = fs::File::create(disk.join("filler")).unwrap();
    for size in [1 << 20, 4096, 512, 1] {
        let block = vec![b'x'; size];
        while file.write_all(&block).is_ok() {}
    }
    // Space that the file system has kept back for what it had promised.
    let _ = file.sync_all();
    while file.write_all(&[b'x'; 4096]).is_ok() {}
    let _ = file.sync_all();
}

#[test]
fn a_full_disk_stops_nobody_and_says_so() {
    let place = Scratch::new("full");
    let mounted = place.join("disk");
    let disk = LoopDisk::mount(64 << 20, &mounted);
    let engine = CoveEngine::with_root(&mounted.join("root"));
    let remains = Remains::of(&engine);
    let parent = remains.parent();
    let limit = Duration::from_secs(60);
    // It makes the bridge, and its record.
    engine.run(["--rm", "box", "true"]).ok();
    let run = |name: &str, script: &str| {
        let words = ["-d", "--name", name, "--network", "none", "--cgroup-parent", parent, "box", "sh", "-c", script];
        engine.run(words).ok()
    };
    run("talks", "i=0; while :; do i=$((i+1)); echo line $i; usleep 1000; done");
    run("ends", "trap 'exit 7' TERM; while :; do sleep 0.05; done");
    run("stopped", "echo hi");
    run("goes", "exec sleep 1000");
    run("restarts", "exec sleep 1000");
    engine.wait_for_status("stopped", "Exited (0)");
    wait_until("it talks", limit, || engine.words(["logs", "talks"]).ok().contains("line 3"));

    fill(&mounted);
    let said = |words: &[&str]| -> Finished {
        let finished = engine.words([]).args(words).limit(limit).run();
        assert_sane(&finished, &"a full disk");
        finished
    };
    // What needs space says that there is none, and leaves nothing of itself.
    for words in [
        &["run", "--rm", "--network", "none", "box", "true"][..],
        &["run", "-d", "--name", "late", "--network", "none", "box", "true"],
        &["create", "--name", "late", "box", "true"],
        &["commit", "goes", "late:1"],
    ] {
        let finished = said(words);
        assert!(finished.code == Some(125) || finished.code == Some(1), "{finished}");
        let text = finished.stderr.to_lowercase();
        assert!(text.contains("no space left on device") && text.contains("cove system prune"), "{finished}");
    }
    assert!(said(&["inspect", "late"]).stderr.contains("No such object"));
    let local = place.write("local", "x".repeat(100_000));
    let copied = said(&["cp", &local.display().to_string(), "goes:/copied"]);
    assert!(!copied.succeeded() && copied.stderr.to_lowercase().contains("no space left"), "{copied}");
    // What runs goes on, and what is written down is read.
    assert!(said(&["logs", "--tail", "1", "talks"]).stdout.contains("line "));
    assert!(engine.status("talks").starts_with("Up"));
    assert_eq!(said(&["exec", "goes", "echo", "alive"]).stdout, "alive\n");
    assert_eq!(said(&["cp", "goes:/bin/plain", "-"]).code, Some(0));
    for words in [&["pause", "goes"][..], &["unpause", "goes"], &["kill", "-s", "CONT", "goes"], &["diff", "goes"]] {
        assert_eq!(said(words).code, Some(0), "{words:?}");
    }
    // Ends are known, with their status: what a container does is in memory.
    assert_eq!(said(&["stop", "ends"]).code, Some(0));
    assert!(engine.status("ends").starts_with("Exited (7)"), "{}", engine.status("ends"));
    assert_eq!(said(&["wait", "ends"]).stdout, "7\n");
    assert!(said(&["restart", "-t", "0", "restarts"]).code.is_some());
    // `start` either works or says why.
    let started = said(&["start", "stopped"]);
    assert!(started.succeeded() || started.stderr.to_lowercase().contains("no space left"), "{started}");
    assert_eq!(said(&["rm", "-f", "goes"]).code, Some(0));
    assert!(said(&["inspect", "goes"]).stderr.contains("No such object"));
    assert!(disk.free() < 1 << 20);

    fs::remove_file(mounted.join("filler")).unwrap();
    assert_eq!(engine.run(["--rm", "--cgroup-parent", parent, "box", "echo", "again"]).limit(limit).ok(), "again");
    assert!(engine.status("ends").starts_with("Exited (7)"));
    engine.words(["start", "ends", "restarts", "stopped"]).ok();
    engine.words(["commit", "restarts", "late:1"]).ok();
    engine.words(["rmi", "late:1"]).ok();
    // The log tells what it has lost, and goes on.
    wait_until("the log says what is missing", limit, || {
        engine.words(["logs", "talks"]).run().stderr.contains("of this log could not be written and are lost")
    });
    let text = engine.words(["logs", "talks"]).run().stdout;
    let numbers: Vec<u64> = text.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
    assert_eq!(numbers.len(), text.lines().count(), "only whole lines");
    assert!(numbers.is_sorted() && numbers[0] == 1, "in their order");
    engine.words(["rm", "-f", "talks", "ends", "stopped", "restarts"]).ok();
    remains.assert_none();
}
