//! Containers in the background.

use std::path::PathBuf;
use std::time::Duration;

use cove_tests::{Cmd, Engine, wait_until};

/// Says when it has begun, and what signals it hears.
const LISTENER: &str = "trap 'echo heard USR1' USR1; trap 'echo heard TERM; exit 3' TERM; echo started; \
                        while :; do sleep 0.1; done";

const PATIENCE: Duration = Duration::from_secs(20);

/// A container in the background, which is listening.
fn start(engine: &Engine, name: &str, flags: &[&str]) -> String {
    let id = engine.run(&[&["-d", "--name", name], flags].concat(), &["sh", "-c", LISTENER]).ok();
    wait_for_log(engine, name, "started");
    id
}

fn wait_for_log(engine: &Engine, name: &str, text: &str) {
    wait_until(text, PATIENCE, || engine.command(["logs", name]).ok().contains(text));
}

fn inspect(engine: &Engine, name: &str, template: &str) -> String {
    engine.command(["inspect", "-f", template, name]).ok()
}

/// Started, seen, stopped, started again, removed; nothing is left.
pub fn life(engine: &Engine) {
    let id = start(engine, "life", &[]);
    let (template, runtime) = engine.runtime_shown();
    assert_eq!(inspect(engine, "life", template), runtime);
    assert_eq!(inspect(engine, "life", "{{.State.Status}}"), "running");
    let pid = inspect(engine, "life", "{{.State.Pid}}");
    let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(command.starts_with("sh\0-c\0trap"), "{command}");
    assert!(engine.command(["top", "life"]).ok().contains("sleep 0.1"));
    if engine.has_groups() {
        assert!(!groups_of(&id).is_empty(), "control groups of {id}");
    }
    let refused = engine.command(["rm", "life"]).fails();
    assert!(refused.contains("running"), "{refused}");

    engine.command(["stop", "-t", "10", "life"]).ok();
    assert_eq!(inspect(engine, "life", "{{.State.Status}} {{.State.ExitCode}}"), "exited 3");
    assert_eq!(engine.command(["wait", "life"]).ok(), "3");
    assert_eq!(engine.command(["logs", "life"]).ok(), "started\nheard TERM");
    engine.command(["start", "life"]).ok();
    wait_until("it has started twice", PATIENCE, || {
        engine.command(["logs", "life"]).ok().matches("started").count() == 2
    });
    engine.command(["rm", "-f", "life"]).ok();
    assert_eq!(engine.command(["ps", "-a", "-q"]).ok(), "");
    wait_until("the process is gone", PATIENCE, || !PathBuf::from(format!("/proc/{pid}")).exists());
    wait_until("the control groups are gone", PATIENCE, || groups_of(&id).is_empty());
}

/// The control groups of a container, by its id in their names.
fn groups_of(id: &str) -> Vec<String> {
    let found = Cmd::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", &format!("*{id}*")]).run().stdout;
    found.lines().map(str::to_owned).collect()
}

/// Further commands in a running container.
pub fn exec(engine: &Engine) {
    start(engine, "exec", &["-e", "A=of the container", "-w", "/data"]);
    let exec = |flags: &[&str], command: &[&str]| engine.command(["exec"]).args(flags).arg("exec").args(command);
    let finished = exec(&[], &["sh", "-c", "echo out; echo err >&2; exit 9"]).run();
    assert_eq!((finished.stdout.as_str(), finished.stderr.as_str(), finished.code), ("out\n", "err\n", Some(9)));
    assert_eq!(exec(&[], &["sh", "-c", "echo $A; pwd"]).ok(), "of the container\n/data");
    assert_eq!(exec(&["-e", "A=mine", "-w", "/tmp"], &["sh", "-c", "echo $A; pwd"]).ok(), "mine\n/tmp");
    assert_eq!(exec(&["-u", "user"], &["sh", "-c", "id -u; id -G"]).ok(), "1000\n1000 2000");
    assert_eq!(exec(&["-u", "4:5"], &["sh", "-c", "id -u; id -g"]).ok(), "4\n5");
    assert_eq!(exec(&["-i"], &["cat"]).input("typed").ok(), "typed");
    assert_eq!(exec(&[], &["cat", "/proc/1/cmdline"]).ok().split('\0').next(), Some("sh"), "the same processes");
    exec(&["-d"], &["sh", "-c", "echo later >/tmp/later"]).ok();
    wait_until("what runs in the background has run", PATIENCE, || exec(&[], &["cat", "/tmp/later"]).run().succeeded());
    for (command, code, words) in [
        ("missing", 127, "executable file not found in $PATH"),
        ("/bin/missing", 127, "no such file or directory"),
        ("/bin/plain", 126, "permission denied"),
        ("/folder", 126, "\"/folder\": "),
    ] {
        let finished = exec(&[], &[command]).run();
        // docker 20.10 says 126 for everything here.
        let code = if engine.is_docker() { 126 } else { code };
        assert_eq!(finished.code, Some(code), "{command}: {finished}");
        assert!(finished.printed().contains(words), "{command}: {finished}");
    }
    // What confines the container confines the command.
    let lines = ["Seccomp:", "CapEff:", "CapBnd:", "NoNewPrivs:"].map(|name| format!("-e {name}")).join(" ");
    let of = |process: &str| {
        exec(&[], &["sh", "-c", &format!("grep {lines} /proc/{process}/status; cat /proc/{process}/cgroup")]).ok()
    };
    assert_eq!(of("self"), of("1"));
    engine.command(["rm", "-f", "exec"]).ok();
    let refused = exec(&[], &["true"]).fails();
    assert!(refused.to_lowercase().contains("no such container") || refused.contains("no container"), "{refused}");
}

/// Signals arrive; those that end a container give its exit code.
pub fn signals(engine: &Engine) {
    start(engine, "signals", &[]);
    for name in ["USR1", "SIGUSR1", "10"] {
        let before = engine.command(["logs", "signals"]).ok().matches("heard USR1").count();
        engine.command(["kill", "-s", name, "signals"]).ok();
        wait_until(name, PATIENCE, || {
            engine.command(["logs", "signals"]).ok().matches("heard USR1").count() == before + 1
        });
    }
    engine.command(["kill", "signals"]).ok();
    assert_eq!(engine.command(["wait", "signals"]).ok(), "137");
    let refused = engine.command(["kill", "signals"]).fails();
    assert!(
        refused.contains("not running") || refused.contains("running or paused") || refused.contains("state improper"),
        "{refused}"
    );
    engine.command(["rm", "signals"]).ok();
    // One that does not listen to TERM is killed after its time.
    engine.run(&["-d", "--name", "deaf"], &["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]).ok();
    engine.command(["stop", "-t", "1", "deaf"]).ok();
    assert_eq!(inspect(engine, "deaf", "{{.State.ExitCode}}"), "137");
    engine.command(["rm", "deaf"]).ok();
}

/// A paused container stands still and takes no commands.
pub fn pause(engine: &Engine) {
    start(engine, "pause", &[]);
    engine.command(["pause", "pause"]).ok();
    assert_eq!(inspect(engine, "pause", "{{.State.Status}}"), "paused");
    let refused = engine.command(["exec", "pause", "true"]).limit(Duration::from_secs(30)).fails();
    assert!(refused.contains("paused") || refused.contains("state improper"), "{refused}");
    let pid = inspect(engine, "pause", "{{.State.Pid}}");
    let ticks = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let before = ticks();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(ticks(), before, "it has done something");
    engine.command(["unpause", "pause"]).ok();
    assert_eq!(engine.command(["exec", "pause", "echo", "again"]).ok(), "again");
    // A paused one can be removed.
    engine.command(["pause", "pause"]).ok();
    engine.command(["rm", "-f", "pause"]).ok();
}

/// Limits are shown, and can be changed while it runs.
pub fn groups(engine: &Engine) {
    start(engine, "groups", &["--memory", "64m", "--memory-swap", "128m", "--cpu-shares", "512"]);
    let stats = engine.command(["stats", "--no-stream", "groups"]).ok();
    assert!(stats.contains("groups") && (stats.contains("64MiB") || stats.contains("67.11MB")), "{stats}");
    engine.command(["update", "--memory", "32m", "--memory-swap", "96m", "--cpu-shares", "256", "groups"]).ok();
    let shown = |file: &str| engine.command(["exec", "groups", "cat", &format!("/sys/fs/cgroup/{file}")]).ok();
    assert_eq!(shown("memory/memory.limit_in_bytes"), "33554432");
    assert_eq!(shown("memory/memory.memsw.limit_in_bytes"), "100663296");
    assert_eq!(shown("cpu/cpu.shares"), "256");
    engine.command(["rm", "-f", "groups"]).ok();
}
