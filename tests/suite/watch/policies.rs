//! `cove system watch`: what it starts, what it watches and how it ends.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use cove_tests::{Cmd, CoveEngine, Process, wait_until};
use rustix::process::Signal;

const LIMIT: Duration = Duration::from_secs(30);

/// `cove system watch`, with somebody who hears what it tells.
struct Watch {
    process: Process,
    told: UnixDatagram,
}

impl Watch {
    fn start(engine: &CoveEngine, number: u32) -> Self {
        Self::started(engine, number, engine.words(["system", "watch"]))
    }

    /// After another start of the machine.
    fn after_reboot(engine: &CoveEngine, number: u32) -> Self {
        let boot = engine
            .cove()
            .scratch()
            .write(&format!("boot{number}"), format!("{number:08}-0000-4000-8000-000000000000\n"));
        let script = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
        let watch = engine.words(["system", "watch"]);
        let boot = boot.display().to_string();
        Self::started(engine, number, watch.wrapped("unshare", &["--mount", "sh", "-c", script, &boot]))
    }

    fn started(engine: &CoveEngine, number: u32, command: Cmd) -> Self {
        let scratch = engine.cove().scratch();
        let socket = scratch.join(format!("notify{number}"));
        let told = UnixDatagram::bind(&socket).unwrap();
        told.set_read_timeout(Some(LIMIT)).unwrap();
        let process = command.env("NOTIFY_SOCKET", &socket).start(&scratch.join(format!("watch{number}.log")));
        let watch = Self { process, told };
        assert_eq!(watch.hears(), "READY=1", "{}", watch.process.log());
        watch
    }

    fn hears(&self) -> String {
        let mut buffer = [0; 1000];
        let length = self.told.recv(&mut buffer).unwrap_or_else(|error| panic!("{error}: {}", self.process.log()));
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    fn wait_for(&self, line: &str) {
        wait_until(line, LIMIT, || self.process.log().lines().any(|found| found == line));
    }
}

fn kill_monitor(id: &str) {
    let monitor = Cmd::new("pgrep").args(["-f", &format!("monitor .* {id}$")]).ok();
    Cmd::new("kill").args(["-9", &monitor]).ok();
}

/// A container that ends with 5 when it is asked to, and says so.
fn polite(engine: &CoveEngine, name: &str, policy: &str) -> String {
    let script = "trap 'echo asked; exit 5' TERM; echo begun; while :; do sleep 0.1; done";
    let words = ["-d", "--network", "none", "--name", name, "--restart", policy, "box", "sh", "-c", script];
    let id = engine.run(words).ok();
    wait_until("it has begun", LIMIT, || engine.words(["logs", name]).ok().contains("begun"));
    id
}

/// What is written down of a container, without the help of a command that would put it right.
fn written(engine: &CoveEngine, id: &str) -> String {
    fs::read_to_string(engine.cove().root().join("containers").join(id).join("state.json")).unwrap()
}

#[test]
fn after_a_start_of_the_machine_policies_decide() {
    let engine = CoveEngine::new();
    let names = ["always", "always-stopped", "unless", "unless-stopped", "failure", "none"];
    let policy = |name: &str| match name {
        "none" => "no".to_owned(),
        "failure" => "on-failure:3".to_owned(),
        name => {
            if name.starts_with("always") {
                "always".to_owned()
            } else {
                "unless-stopped".to_owned()
            }
        }
    };
    let ids: Vec<String> = names.iter().map(|name| polite(&engine, name, &policy(name))).collect();
    engine.create(["--name", "never", "--restart", "always", "--network", "none", "box", "sleep", "1000"]).ok();
    let passing = engine.run(["-d", "--rm", "--network", "none", "box", "sleep", "1000"]).ok();
    engine.words(["stop", "always-stopped", "unless-stopped"]).ok();
    // The power goes.
    for id in ids.iter().chain([&passing]) {
        let process = engine.words(["inspect", "-f", "{{.State.Pid}}", id]).ok();
        if process != "0" {
            kill_monitor(id);
            Cmd::new("kill").args(["-9", &process]).run();
        }
    }
    fs::remove_dir_all(engine.cove().scratch().join("run")).unwrap();
    let mut watch = Watch::after_reboot(&engine, 1);
    let running = engine.words(["ps", "--format", "{{.Names}}"]).ok();
    let mut running: Vec<&str> = running.lines().collect();
    running.sort_unstable();
    assert_eq!(running, ["always", "always-stopped", "failure", "unless"], "{}", watch.process.log());
    assert!(engine.status("none").starts_with("Exited (255)"), "{}", engine.status("none"));
    assert_eq!(engine.status("never"), "Created");
    assert!(engine.status("unless-stopped").starts_with("Exited (5)"));
    // The oldest began first: it does not count on the others.
    let started: Vec<String> = watch.process.log().lines().map(str::to_owned).collect();
    assert_eq!(started, ["always", "always-stopped", "unless", "failure"].map(|name| format!("{name}: started")));
    assert_eq!(watch.process.terminate(LIMIT).code(), Some(0));
    engine.words(["rm", "-f", "always", "always-stopped", "unless", "unless-stopped", "failure", "none", "never"]).ok();
    let all: Vec<String> = ids.into_iter().chain([passing]).collect();
    // What the power took of the one with --rm, the next that is made sweeps.
    engine.run(["--rm", "--network", "none", "box", "true"]).ok();
    assert_eq!(engine.leftovers(&all), Vec::<String>::new());
}

#[test]
fn a_monitor_that_dies_is_put_right_at_once() {
    let engine = CoveEngine::new();
    let before = polite(&engine, "before", "always");
    let watch = Watch::start(&engine, 1);
    // Those that begin later are seen, too.
    let after = polite(&engine, "after", "unless-stopped");
    let plain = polite(&engine, "plain", "no");
    let passing = engine.run(["-d", "--rm", "--name", "passing", "--network", "none", "box", "sleep", "1000"]).ok();
    let process = |name: &str| engine.words(["inspect", "-f", "{{.State.Pid}}", name]).ok();
    for (name, id) in [("before", &before), ("after", &after)] {
        let old = process(name);
        for round in 1..=2 {
            kill_monitor(id);
            let line = format!("{name}: started");
            wait_until(&line, LIMIT, || watch.process.log().lines().filter(|found| *found == line).count() == round);
            assert!(engine.status(name).starts_with("Up"));
        }
        assert_ne!(process(name), old);
    }
    kill_monitor(&plain);
    watch.wait_for("plain: its monitor has died");
    assert!(written(&engine, &plain).contains("\"status\":\"exited\""), "{}", written(&engine, &plain));
    assert!(engine.status("plain").starts_with("Exited (137)"));
    kill_monitor(&passing);
    watch.wait_for("passing: its monitor has died: removed");
    wait_until("it is gone", LIMIT, || !engine.words(["ps", "-aq", "--no-trunc"]).ok().contains(&passing));
    // Who is ended by a command stays so.
    engine.words(["stop", "before"]).ok();
    engine.words(["rm", "-f", "after"]).ok();
    assert!(engine.status("before").starts_with("Exited (5)"));
    engine.words(["start", "before"]).ok();
    kill_monitor(&before);
    wait_until("it has begun again", LIMIT, || engine.status("before").starts_with("Up"));
    drop(watch);
    engine.words(["rm", "-f", "before", "plain"]).ok();
    assert_eq!(engine.leftovers(&[before, after, plain, passing]), Vec::<String>::new());
}

#[test]
fn it_ends_with_all_containers_and_leaves_them_when_it_is_killed() {
    let engine = CoveEngine::new();
    let kept = polite(&engine, "kept", "unless-stopped");
    let mut watch = Watch::start(&engine, 1);
    let second = engine.words(["system", "watch"]).fails();
    assert!(second.contains("another `cove system watch` watches over these containers"), "{second}");
    // It may die at any time.
    watch.process.kill9();
    assert!(engine.status("kept").starts_with("Up"));
    let mut watch = Watch::start(&engine, 2);
    kill_monitor(&kept);
    watch.wait_for("kept: started");
    wait_until("it has begun", LIMIT, || engine.words(["logs", "kept"]).ok().matches("begun").count() == 2);
    polite(&engine, "plain", "no");
    let stubborn = ["-d", "--network", "none", "--stop-timeout", "1", "--name", "stubborn", "box", "sleep", "1000"];
    engine.run(stubborn).ok();
    engine.words(["pause", "stubborn"]).ok();
    // Without a command that looks: it has seen them by itself.
    watch.process.signal(Signal::TERM);
    let told = watch.hears();
    assert!(told.starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC="), "{told}");
    assert_eq!(watch.process.wait(LIMIT).and_then(|status| status.code()), Some(0), "{}", watch.process.log());
    for (name, status) in [("kept", "Exited (5)"), ("plain", "Exited (5)"), ("stubborn", "Exited (137)")] {
        assert!(engine.status(name).starts_with(status), "{name}: {}", engine.status(name));
    }
    assert!(engine.words(["logs", "kept"]).ok().ends_with("asked"));
    // Nobody has stopped it: the machine went down.
    let mut watch = Watch::start(&engine, 3);
    assert!(engine.status("kept").starts_with("Up"));
    assert!(engine.status("plain").starts_with("Exited"));
    watch.process.signal(Signal::INT);
    assert_eq!(watch.process.wait(LIMIT).and_then(|status| status.code()), Some(0));
}
