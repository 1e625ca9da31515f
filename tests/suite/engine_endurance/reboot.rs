//! The machine starts anew: everything that ran is gone, and so is what lay in memory.

use std::fs;

use cove_tests::endurance::Remains;
use cove_tests::{Cmd, CoveEngine, wait_until};

/// A command after the machine's next start: another boot id, seen by it and by what it starts.
fn rebooted(engine: &CoveEngine, command: Cmd) -> Cmd {
    let id = engine.cove().scratch().join("boot_id");
    fs::write(&id, "11111111-2222-4333-8444-555555555555\n").unwrap();
    let script = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
    let id = id.display().to_string();
    command.wrapped("unshare", &["-m", "--propagation", "private", "sh", "-c", script, &id])
}

#[test]
fn after_a_start_of_the_machine_everything_has_ended_and_can_be_started() {
    let engine = CoveEngine::new();
    let remains = Remains::of(&engine);
    let parent = remains.parent();
    let run = |name: &str, option: &str| {
        let words = ["-d", "--name", name, option, "--cgroup-parent", parent, "-p", "127.0.0.1::80"];
        engine.run(words).args(["box", "sh", "-c", "echo begun; echo kept > /file; exec sleep 1000"]).ok()
    };
    let lasting = run("lasting", "--init=false");
    run("passing", "--rm");
    run("always", "--restart=always");
    run("ended", "--init=false");
    run("by-hand", "--restart=unless-stopped");
    engine.create(["--name", "created", "--cgroup-parent", parent, "box", "true"]).ok();
    engine.words(["stop", "-t", "0", "ended", "by-hand"]).ok();
    wait_until("it has spoken", std::time::Duration::from_secs(20), || {
        engine.words(["logs", "lasting"]).ok() == "begun"
    });

    power_off(&engine, &remains);
    let after = |words: &[&str]| rebooted(&engine, engine.words([]).args(words));
    let listed = after(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]).ok();
    let status = |name: &str| {
        let line = listed.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or("gone").split(" ago").next().unwrap_or_default().to_owned()
    };
    for (name, expected) in [
        ("lasting", "Exited (255)"),
        ("always", "Exited (255)"),
        ("ended", "Exited (137)"),
        ("by-hand", "Exited (137)"),
        ("created", "Created"),
        ("passing", "gone"),
    ] {
        assert!(status(name).starts_with(expected), "{name}: {listed}");
    }
    assert_eq!(after(&["ps", "-q"]).ok(), "");
    let shown = after(&["inspect", "-f", "{{.State.Running}} {{.State.Pid}} {{.State.ExitCode}}", "lasting"]).ok();
    assert_eq!(shown, "false 0 255");
    assert_eq!(after(&["logs", "lasting"]).ok(), "begun");
    assert!(after(&["exec", "lasting", "true"]).fails().contains("is not running"));
    assert!(after(&["kill", "lasting"]).fails().contains("is not running"));
    assert_eq!(after(&["cp", "lasting:/file", "-"]).run().code, Some(0));

    // The same container, with what it had written.
    after(&["start", "lasting", "ended"]).ok();
    assert_eq!(after(&["exec", "lasting", "cat", "/file"]).ok(), "kept");
    assert_eq!(after(&["ps", "-q", "--no-trunc"]).ok().lines().filter(|id| *id == lasting).count(), 1);
    // Its name is free again.
    after(&["run", "-d", "--name", "passing", "--cgroup-parent", parent, "box", "sleep", "1000"]).ok();
    after(&["rm", "-f", "-v", "lasting", "passing", "always", "ended", "by-hand", "created"]).ok();
    after(&["volume", "prune", "-f"]).ok();
    remains.assert_none();
}

/// No process is left, nor what lies in memory: cgroups, links, rules, the run folder.
fn power_off(engine: &CoveEngine, remains: &Remains<'_>) {
    wait_until("its processes are gone", std::time::Duration::from_secs(20), || {
        let processes = remains.processes();
        for process in &processes {
            let _ = Cmd::new("kill").args(["-9", &process.to_string()]).run();
        }
        processes.is_empty()
    });
    remains.remove_cgroups();
    Cmd::new("nft").args(["flush", "ruleset"]).ok();
    let links = Cmd::new("ip").args(["-o", "link", "show", "type", "bridge"]).ok();
    for name in links.lines().filter_map(|line| line.split(": ").nth(1)) {
        Cmd::new("ip").args(["link", "delete", name]).ok();
    }
    let run = engine.cove().scratch().join("run");
    for entry in fs::read_dir(run).unwrap() {
        fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
}
