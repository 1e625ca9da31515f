//! containerd's own client, whose shim calls the runtime for every verb.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use cove_tests::{Cmd, Containerd, Scratch, Terminal, busybox_image, wait_until};

const IMAGE: &str = "localhost/busybox:1";
const PATIENCE: Duration = Duration::from_secs(20);

struct Ctr {
    containerd: Containerd,
    runtime: String,
    state: Scratch,
    /// Control groups are named after it, so no two sessions have the same.
    namespace: String,
}

impl Ctr {
    fn command(&self, words: &[&str]) -> Cmd {
        Cmd::new("ctr")
            .arg("--address")
            .arg(self.containerd.socket())
            .args(["--namespace", &self.namespace])
            .args(words)
    }

    /// `ctr run FLAGS IMAGE ID COMMAND`.
    fn run(&self, flags: &[&str], id: &str, command: &[&str]) -> Cmd {
        let runtime = ["run", "--runc-binary", &self.runtime, "--runc-root", &self.state.path().display().to_string()];
        self.command(&[&runtime, flags, &[IMAGE, id], command].concat())
    }

    fn task(&self, words: &[&str]) -> Cmd {
        self.command(&[&["task"], words].concat()).limit(Duration::from_secs(30))
    }

    fn status(&self, id: &str) -> String {
        let list = self.task(&["ls"]).ok();
        let line = list.lines().find(|line| line.starts_with(id)).unwrap_or_default();
        line.split_whitespace().next_back().unwrap_or("gone").to_owned()
    }
}

pub fn session(runtime: &Path) {
    let (containerd, state) = (Containerd::start(), Scratch::new("state"));
    let name = runtime.file_name().unwrap_or_default().to_string_lossy();
    let namespace = format!("sessions-{name}-{}", std::process::id());
    let ctr = Ctr { containerd, runtime: runtime.display().to_string(), state, namespace };
    let image = busybox_image();
    let (archive, _) = image.docker_archive(IMAGE);
    ctr.command(&["images", "import"]).arg(archive).ok();
    let steps: [(&str, fn(&Ctr)); 5] = [
        ("run", run),
        ("what cannot be run", what_cannot_be_run),
        ("terminal", terminal),
        ("background", background),
        ("limits", limits),
    ];
    let fails = |step: fn(&Ctr)| catch_unwind(AssertUnwindSafe(|| step(&ctr))).is_err();
    let failed: Vec<_> = steps.into_iter().filter(|(_, step)| fails(*step)).map(|(name, _)| name).collect();
    for container in ctr.command(&["container", "ls", "-q"]).ok().split_whitespace() {
        let _ = ctr.command(&["task", "rm", "-f", container]).run();
    }
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        let _ = std::fs::remove_dir(hierarchy.path().join(&ctr.namespace));
    }
    assert!(failed.is_empty(), "failed, with reasons above: {failed:?}");
}

fn run(ctr: &Ctr) {
    let finished = ctr.run(&["--rm"], "out", &["sh", "-c", "echo out; echo err >&2; exit 7"]).run();
    assert_eq!(finished.stdout, "out\n", "{finished}");
    assert_eq!(finished.code, Some(7), "{finished}");
    assert_eq!(
        ctr.run(&["--rm", "--env", "A=b", "--cwd", "/tmp"], "env", &["sh", "-c", "echo $A; pwd"]).ok(),
        "b\n/tmp"
    );
    let refused = ctr.run(&["--rm", "--read-only"], "read-only", &["touch", "/file"]).run();
    assert!(!refused.succeeded() && refused.stderr.contains("Read-only file system"), "{refused}");
    let shared = ctr.state.write("given", "from the host");
    let mount = format!("type=bind,src={},dst=/etc/motd,options=rbind:ro", shared.display());
    assert_eq!(ctr.run(&["--rm", "--mount", &mount], "mount", &["cat", "/etc/motd"]).ok(), "from the host");
    let seccomp = ctr.run(&["--rm", "--seccomp"], "seccomp", &["grep", "Seccomp:", "/proc/self/status"]).ok();
    assert_eq!(seccomp.split_whitespace().next_back(), Some("2"));
}

fn what_cannot_be_run(ctr: &Ctr) {
    for (command, words) in [
        ("missing", "exec: \"missing\": executable file not found in $PATH"),
        ("/bin/plain", "exec: \"/bin/plain\": permission denied"),
        ("/folder", "exec: \"/folder\": "),
    ] {
        let printed = ctr.run(&["--rm"], "refused", &[command]).fails();
        assert!(printed.contains(words), "{command}: {printed}");
        // Nothing of it is in the way of the next one.
        assert_eq!(ctr.status("refused"), "gone");
        let _ = ctr.command(&["container", "rm", "refused"]).run();
    }
}

fn terminal(ctr: &Ctr) {
    let mut terminal = Terminal::run(&ctr.run(&["--rm", "--tty"], "terminal", &["sh"]), 70);
    terminal.wait_for("# ");
    terminal.press("stty size; tty\r");
    // ctr leaves its own terminal as it is, which adds a return to each line.
    terminal.wait_for("24 70\r");
    terminal.wait_for("/dev/pts/0\r");
    terminal.press("exit 5\r");
    assert_eq!(terminal.wait().code(), Some(5), "{}", terminal.shown());
}

fn background(ctr: &Ctr) {
    let script =
        "trap 'echo heard >/tmp/heard' USR1; trap 'exit 3' TERM; echo >/tmp/started; while :; do sleep 0.1; done";
    ctr.run(&["--detach", "--env", "A=of the container"], "listener", &["sh", "-c", script]).ok();
    assert_eq!(ctr.status("listener"), "RUNNING");
    let exec = |flags: &[&str], command: &[&str]| {
        ctr.task(&[&["exec", "--exec-id", "another"], flags, &["listener"], command].concat())
    };
    wait_until("it has started", PATIENCE, || exec(&[], &["ls", "/tmp/started"]).run().succeeded());
    assert_eq!(exec(&["--cwd", "/data"], &["sh", "-c", "pwd; echo $A"]).ok(), "/data\nof the container");
    assert_eq!(exec(&["--user", "1000"], &["id", "-u"]).ok(), "1000");
    assert_eq!(exec(&[], &["sh", "-c", "exit 9"]).run().code, Some(9));
    assert!(exec(&[], &["missing"]).fails().contains("executable file not found in $PATH"));
    // The terminal gets its size a moment after the command has begun.
    let script = "until stty size 2>/dev/null | grep 60; do sleep 0.1; done; test -t 0 && exit 6";
    let mut terminal = Terminal::run(&exec(&["--tty"], &["sh", "-c", script]), 60);
    terminal.wait_for("24 60\r");
    assert_eq!(terminal.wait().code(), Some(6), "{}", terminal.shown());
    assert!(ctr.task(&["ps", "listener"]).ok().lines().count() >= 2);
    let metrics = ctr.task(&["metrics", "listener"]).ok();
    assert!(metrics.contains("pids.current") || metrics.contains("memory.usage_in_bytes"), "{metrics}");

    ctr.task(&["pause", "listener"]).ok();
    assert_eq!(ctr.status("listener"), "PAUSED");
    let refused = exec(&[], &["true"]).fails();
    assert!(refused.contains("paused"), "{refused}");
    refused_by_the_runtime_itself(ctr);
    ctr.task(&["resume", "listener"]).ok();
    assert_eq!(ctr.status("listener"), "RUNNING");

    ctr.task(&["kill", "--signal", "USR1", "listener"]).ok();
    wait_until("the signal arrives", PATIENCE, || exec(&[], &["cat", "/tmp/heard"]).run().stdout == "heard\n");
    ctr.task(&["kill", "--signal", "TERM", "listener"]).ok();
    wait_until("it has stopped", PATIENCE, || ctr.status("listener") == "STOPPED");
    let removed = ctr.task(&["rm", "listener"]).run();
    assert!(removed.printed().contains("exit code 3"), "the exit code is the container's: {removed}");
    ctr.command(&["container", "rm", "listener"]).ok();
    let left: Vec<_> = std::fs::read_dir(ctr.state.join(&ctr.namespace)).into_iter().flatten().flatten().collect();
    assert!(left.iter().all(|entry| entry.file_name() != "listener"), "{left:?}");
}

/// The shim refuses a command in a paused container without asking the runtime: that must do so too, at once.
fn refused_by_the_runtime_itself(ctr: &Ctr) {
    let runtime =
        Cmd::new(&ctr.runtime).arg("--root").arg(ctr.state.join(&ctr.namespace)).limit(Duration::from_secs(10));
    assert!(runtime.clone().args(["state", "listener"]).ok().contains("\"paused\""));
    let refused = runtime.args(["exec", "listener", "true"]).fails();
    assert!(refused.contains("cannot exec in a paused container"), "{refused}");
}

fn limits(ctr: &Ctr) {
    let script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes; cat /sys/fs/cgroup/cpu/cpu.shares";
    let mount = "type=cgroup,src=cgroup,dst=/sys/fs/cgroup,options=ro";
    let flags = ["--rm", "--memory-limit", "33554432", "--cpu-shares", "300", "--mount", mount];
    assert_eq!(ctr.run(&flags, "limits", &["sh", "-c", script]).ok(), "33554432\n300");
}
