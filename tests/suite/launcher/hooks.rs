//! Hooks: when and where they run, what they are told, and what comes of it when one fails.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cove_tests::{Bundle, Cmd, OciRuntime, Scratch, Terminal, wait_until};
use serde_json::{Value, json};

const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Adds a hook that runs this script with the shell of the host, or of the container.
fn with_hook(bundle: Bundle, kind: &str, script: &str) -> Bundle {
    with_timed_hook(bundle, kind, script, None)
}

fn with_timed_hook(bundle: Bundle, kind: &str, script: &str, seconds: Option<u32>) -> Bundle {
    let path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    let mut hook =
        json!({"path": "/bin/sh", "args": ["sh", "-c", script, "name", "argument"], "env": [path, "MINE=yes"]});
    if let Some(seconds) = seconds {
        hook["timeout"] = json!(seconds);
    }
    bundle.add(&format!("/hooks/{kind}"), hook)
}

/// A container whose every hook writes what it is told, and where it is, into files of a folder. The folder has the
/// same path outside and inside.
struct Reporting {
    bundle: Bundle,
    folder: Scratch,
}

impl Reporting {
    fn new(command: &str) -> Self {
        let folder = Scratch::new("hooks");
        let path = folder.path().to_str().unwrap().to_owned();
        let mut bundle = Bundle::script(command).mount(&path, "bind", &path, &["bind"]);
        for kind in KINDS {
            let script = format!(
                "cat >{path}/{kind}.state; echo {kind} >>{path}/order; echo \"$0 $1 $MINE\" >{path}/{kind}.words; \
                 env | sort >{path}/{kind}.env; pwd >{path}/{kind}.cwd; \
                 for name in mnt pid net uts; do readlink /proc/self/ns/$name; done >{path}/{kind}.ns"
            );
            bundle = with_hook(bundle, kind, &script);
        }
        Self { bundle, folder }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

#[test]
fn hooks_run_in_their_order() {
    let runtime = OciRuntime::under_test();
    let reporting = Reporting::new("while :; do sleep 0.02; done");
    let container = runtime.create(&reporting.bundle);
    // The old runc runs the poststart hooks before the start already.
    let early = if runtime.is_runc_1_1() { "poststart\n" } else { "" };
    assert_eq!(reporting.read("order"), format!("prestart\ncreateRuntime\ncreateContainer\n{early}"));
    container.start().ok();
    wait_until("both have run", Duration::from_secs(10), || reporting.read("order").lines().count() == 5);
    if !runtime.is_runc_1_1() {
        assert_eq!(reporting.read("order"), "prestart\ncreateRuntime\ncreateContainer\nstartContainer\npoststart\n");
    }
    container.kill("KILL").ok();
    container.wait_stopped();
    container.command(&["delete"], &[]).ok();
    assert!(reporting.read("order").ends_with("\npoststop\n"));
    assert_eq!(reporting.read("order").lines().count(), 6, "each runs once");
}

#[test]
fn hooks_are_told_the_state() {
    let runtime = OciRuntime::under_test();
    let reporting = Reporting::new("true");
    let bundle = reporting.bundle.clone().set("/annotations/org.example", json!("here"));
    runtime.run(&bundle).ok();
    for kind in KINDS {
        let state: Value = serde_json::from_str(&reporting.read(&format!("{kind}.state"))).expect(kind);
        let expected = match kind {
            "startContainer" => &["created"][..],
            // The program is so short that it may have ended already.
            "poststart" if runtime.is_runc_1_1() => &["created", "running", "stopped"],
            "poststart" => &["running", "stopped"],
            "poststop" => &["stopped"],
            _ => &["creating", "created"],
        };
        assert!(expected.contains(&state["status"].as_str().unwrap()), "{kind}: {state}");
        assert_eq!(state["bundle"], bundle.path().to_str().unwrap(), "{kind}");
        assert!(state["id"].as_str().unwrap().starts_with("cove-test-"), "{kind}: {state}");
        assert_eq!(state["annotations"]["org.example"], "here", "{kind}: {state}");
        assert!(state["ociVersion"].is_string(), "{kind}: {state}");
        if ["prestart", "createRuntime"].contains(&kind) {
            assert!(state["pid"].as_i64().unwrap() > 1, "{kind}: {state}");
        }
        assert_eq!(reporting.read(&format!("{kind}.words")), "name argument yes\n", "{kind}");
        let environment = reporting.read(&format!("{kind}.env"));
        let variables: Vec<_> = environment.lines().map(|line| line.split('=').next().unwrap()).collect();
        assert!(
            variables.iter().all(|name| ["MINE", "PATH", "PWD", "OLDPWD", "SHLVL", "_", "HOME"].contains(name)),
            "nothing of the caller's environment reaches {kind}: {environment}"
        );
    }
}

#[test]
fn hooks_run_in_their_namespaces() {
    let runtime = OciRuntime::under_test();
    let reporting = Reporting::new("while :; do sleep 0.02; done");
    let container = runtime.start(&reporting.bundle);
    wait_until("five have run", Duration::from_secs(10), || reporting.read("order").lines().count() == 5);
    let namespaces = |pid: &str| -> String {
        let link = |name| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        ["mnt", "pid", "net", "uts"].map(|name| link(name).to_string_lossy().into_owned() + "\n").concat()
    };
    let (inside, outside) = (namespaces(&container.pid().to_string()), namespaces("self"));
    for kind in ["prestart", "createRuntime", "poststart"] {
        assert_eq!(reporting.read(&format!("{kind}.ns")), outside, "{kind}");
    }
    for kind in ["createContainer", "startContainer"] {
        assert_eq!(reporting.read(&format!("{kind}.ns")), inside, "{kind}");
    }
    container.command(&["delete", "--force"], &[]).ok();
    assert_eq!(reporting.read("poststop.ns"), outside);
}

#[test]
fn a_hook_may_set_up_the_network_of_the_container() {
    let runtime = OciRuntime::under_test();
    let script = "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); nsenter -t $pid -n ip addr add 10.77.7.7/32 dev lo";
    let bundle = with_hook(Bundle::script("ip -o addr show lo"), "createRuntime", script);
    assert!(runtime.run(&bundle).ok().contains("10.77.7.7"));
}

#[test]
fn a_failing_hook_fails_what_it_belongs_to() {
    let runtime = OciRuntime::under_test();
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let bundle = with_hook(Bundle::script("echo ran"), kind, "echo why it fails >&2; exit 3");
        let (container, failed) = runtime.try_create(&bundle, &[]);
        assert_eq!(failed.code, Some(1), "{kind}: {failed}");
        assert!(failed.stderr.contains("hook") && failed.stderr.contains("exit status 3"), "{kind}: {failed}");
        assert!(failed.stderr.contains("why it fails"), "what it said is passed on, {kind}: {failed}");
        assert_eq!(runtime.remembered(), [""; 0], "{kind}");
        assert!(!container.command(&["state"], &[]).run().succeeded());
    }
    let bundle = with_hook(Bundle::script("echo ran"), "startContainer", "exit 3");
    let failed = runtime.run(&bundle);
    assert!(!failed.succeeded() && !failed.stdout.contains("ran"), "{failed}");
    assert_eq!(runtime.remembered(), [""; 0]);
}

#[test]
fn the_poststop_hooks_run_even_if_one_fails() {
    let runtime = OciRuntime::under_test();
    let folder = Scratch::new("hooks");
    let mark = format!("echo ran >{}", folder.join("mark").display());
    let bundle = with_hook(with_hook(Bundle::script("true"), "poststop", "exit 3"), "poststop", &mark);
    let container = runtime.start(&bundle);
    container.wait_stopped();
    container.command(&["delete"], &[]).run();
    assert_eq!(runtime.remembered(), [""; 0], "the container is gone all the same");
    // The specification: the remaining hooks run as if it had succeeded. The old runc stops at the first.
    assert!(folder.join("mark").exists() || runtime.is_runc_1_1());
}

#[test]
fn a_hook_that_is_missing() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script("echo ran").add("/hooks/createRuntime", json!({"path": "/nowhere/hook"}));
    let failed = runtime.run(&bundle);
    assert!(!failed.succeeded() && failed.stderr.contains("no such file or directory"), "{failed}");
    let bundle = Bundle::script("echo ran").add("/hooks/createRuntime", json!({"path": "relative"}));
    assert!(!runtime.run(&bundle).succeeded());
    assert_eq!(runtime.remembered(), [""; 0]);
}

#[test]
fn a_hook_has_its_time() {
    let runtime = OciRuntime::under_test();
    let pid = Scratch::new("hooks");
    let script = format!("echo $$ >{}; exec sleep 1000", pid.join("pid").display());
    let bundle = with_timed_hook(Bundle::script("echo ran"), "createRuntime", &script, Some(1));
    let start = Instant::now();
    let failed = runtime.run(&bundle);
    assert!(!failed.succeeded() && !failed.stdout.contains("ran"), "{failed}");
    assert!((Duration::from_millis(900)..Duration::from_secs(8)).contains(&start.elapsed()), "{:?}", start.elapsed());
    let hook: i32 = fs::read_to_string(pid.join("pid")).unwrap().trim().parse().unwrap();
    wait_until("the hook is ended", Duration::from_secs(5), || !crate::lifecycle::is_alive(hook));
    assert_eq!(runtime.remembered(), [""; 0]);
    let quick = with_timed_hook(Bundle::script("echo ran"), "createRuntime", "sleep 0.1", Some(20));
    assert_eq!(runtime.run(&quick).ok(), "ran");
}

#[test]
fn a_hook_that_talks_a_lot_or_does_not_listen() {
    let runtime = OciRuntime::under_test();
    let loud = with_hook(
        Bundle::script("echo ran"),
        "createRuntime",
        "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2",
    );
    assert!(runtime.run(&loud).ok().ends_with("ran"));
    let deaf = with_hook(Bundle::script("echo ran"), "createRuntime", "exec <&-; sleep 0.1")
        .set("/annotations/big", json!("x".repeat(200_000)));
    assert!(runtime.run(&deaf).ok().ends_with("ran"));
}

#[test]
fn what_a_hook_has_made_is_taken_back_when_a_later_one_fails() {
    let runtime = OciRuntime::under_test();
    let folder = Scratch::new("hooks");
    let mark = format!("cat >{}", folder.join("after").display());
    let bundle = with_hook(with_hook(Bundle::script("true"), "createRuntime", "exit 0"), "createContainer", "exit 3");
    let (_container, failed) = runtime.try_create(&with_hook(bundle, "poststop", &mark), &[]);
    assert_eq!(failed.code, Some(1), "{failed}");
    let state: Value = serde_json::from_str(&fs::read_to_string(folder.join("after")).unwrap()).unwrap();
    assert_eq!(state["status"], "stopped", "{state}");
    assert_eq!(runtime.remembered(), [""; 0]);
}

#[test]
fn signals_end_a_hook_that_hangs() {
    let runtime = OciRuntime::under_test();
    let folder = Scratch::new("hooks");
    let script = format!("echo $$ >{0}.new; mv {0}.new {0}; exec sleep 1000", folder.join("pid").display());
    // What runc's own init calls is not on the caller's terminal, and runc keeps the signal for the container.
    let kinds = ["createRuntime", "createContainer", "startContainer"];
    for kind in &kinds[..if runtime.is_runc() { 1 } else { 3 }] {
        let mount = folder.path().to_str().unwrap();
        let bundle = with_hook(Bundle::script("echo ran").mount(mount, "bind", mount, &["bind"]), kind, &script);
        bundle.write();
        let command = runtime.command(["run", "--bundle"]).arg(bundle.path()).arg(OciRuntime::new_id());
        let mut terminal = Terminal::run(&command, 80);
        wait_until("the hook runs", Duration::from_secs(10), || folder.join("pid").exists());
        fs::remove_file(folder.join("pid")).unwrap();
        terminal.press("\x03");
        assert!(!terminal.wait().success(), "{kind}: {}", terminal.shown());
        assert!(!terminal.shown().contains("ran\r"), "{kind}: {}", terminal.shown());
        assert_eq!(runtime.remembered(), [""; 0], "{kind}");
    }
}

#[test]
fn a_signal_to_the_runtime_alone_ends_a_hook_that_hangs() {
    let runtime = OciRuntime::under_test();
    if runtime.is_runc() {
        // It keeps the signal for the container's process, and waits for the hook.
        return;
    }
    let folder = Scratch::new("hooks");
    let script = format!("echo $$ >{0}.new; mv {0}.new {0}; exec sleep 1000", folder.join("pid").display());
    let bundle = with_hook(Bundle::script("echo ran"), "createRuntime", &script);
    bundle.write();
    let command = runtime.command(["run", "--bundle"]).arg(bundle.path()).arg(OciRuntime::new_id());
    let mut terminal = Terminal::run(&command, 80);
    wait_until("the hook runs", Duration::from_secs(10), || folder.join("pid").exists());
    let hook: i32 = fs::read_to_string(folder.join("pid")).unwrap().trim().parse().unwrap();
    Cmd::new("kill").args(["-TERM", &terminal.id().to_string()]).ok();
    assert!(!terminal.wait().success(), "{}", terminal.shown());
    assert!(terminal.shown().contains("signal 15"), "{}", terminal.shown());
    assert!(!crate::lifecycle::is_alive(hook));
    assert_eq!(runtime.remembered(), [""; 0]);
}

#[test]
fn nothing_runs_in_a_container_that_is_being_created() {
    let runtime = OciRuntime::under_test();
    if runtime.is_runc() {
        // It has no process that could be taken for the container's then, and says so in other words.
        return;
    }
    let folder = Scratch::new("hooks");
    let script = format!(
        "id=$(sed 's/.*\"id\": *\"\\([^\"]*\\)\".*/\\1/'); {} --root {} exec $id /bin/sh -c 'echo ran' >{} 2>&1; true",
        runtime.program().display(),
        runtime.root().display(),
        folder.join("said").display()
    );
    let ran = runtime.run(&with_hook(Bundle::script("echo the program"), "createRuntime", &script));
    assert_eq!(ran.ok(), "the program");
    let said = fs::read_to_string(folder.join("said")).unwrap();
    assert!(said.contains("being created") && !said.contains("ran\n"), "{said}");
}
