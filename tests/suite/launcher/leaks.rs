//! A `create` that fails leaves nothing behind: no mount, control group, namespace, process or file.

use std::fs;
use std::path::Path;

use cove_tests::{Bundle, Cmd, Finished, OciRuntime};
use serde_json::{Value, json};

/// Runs a command in a mount and a pid namespace of its own, where `/run` is empty, and prints what it left there.
const COUNT: &str = r#"
    mount -t tmpfs tmpfs /run
    mount -t tmpfs tmpfs /dev/shm
    count() {
        for at in /proc/[0-9]*; do
            [ $at = /proc/$$ ] || [ $at = /proc/$BASHPID ] || [ ! -e $at/cmdline ] || echo "process $at: $(tr '\0' ' ' <$at/cmdline)"
        done
        for at in /proc/[0-9]*; do readlink $at/ns/*; done 2>/dev/null | sort -u | sed 's/^/namespace /'
        sed 's/^[^ ]* [^ ]* /mount /' /proc/self/mountinfo | sort
        find /sys/fs/cgroup -name "*$ID*" | sed 's/^/cgroup /'
        find /run /dev/shm $ROOT -mindepth 1 | sed 's/^/file /'
        find "$PID_FILE" 2>/dev/null | sed 's/^/file /'
    }
    before=$(count)
    "$@" </dev/null >"$OUTPUT" 2>&1
    code=$?
    # What was killed may need a moment to be gone.
    for try in 1 2 3 4 5 6 7 8 9 10; do
        after=$(count)
        [ "$before" = "$after" ] && break
        sleep 0.05
    done
    # Other tests take away what was there, and add nothing here.
    diff <(echo "$before") <(echo "$after") | grep '^>'
    exit $code
"#;

/// What a command left behind, and how it ended.
fn left_by(runtime: &OciRuntime, bundle: &Bundle, verb: &str, variable: Option<&str>) -> (String, Finished) {
    bundle.write();
    let id = OciRuntime::new_id();
    let (output, pid_file) = (runtime.file("leak.out"), runtime.file("leak.pid"));
    let _ = fs::remove_file(&pid_file);
    fs::create_dir_all(runtime.root()).unwrap();
    let words = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", COUNT, "bash"];
    let mut command = Cmd::new("unshare").args(words).arg(runtime.program()).arg("--root").arg(runtime.root());
    command = command.args([verb, "--pid-file"]).arg(&pid_file).arg("--bundle").arg(bundle.path()).arg(&id);
    command = command.env("ID", &id).env("ROOT", runtime.root()).env("OUTPUT", &output).env("PID_FILE", &pid_file);
    if let Some(step) = variable {
        command = command.env("COVE_LAUNCHER_FAIL_AT", step);
    }
    let mut finished = command.run();
    finished.stderr.push_str(&fs::read_to_string(&output).unwrap_or_default());
    (finished.stdout.clone(), finished)
}

/// Configurations that fail, each at another step.
fn failures() -> Vec<(&'static str, Bundle)> {
    let plain = || Bundle::script("echo ran");
    let hook = |kind: &str| plain().add(&format!("/hooks/{kind}"), json!({"path": "/bin/false"}));
    vec![
        ("a source that is not there", plain().mount("/data", "bind", "/nowhere/at/all", &["bind"])),
        ("a file system that is not known", plain().mount("/data", "nothing", "none", &[])),
        ("an option that is refused", plain().mount("/data", "tmpfs", "tmpfs", &["size=much"])),
        ("a sysctl that is not there", plain().set("/linux/sysctl", json!({"net.ipv4.no_such_thing": "1"}))),
        ("a value of a sysctl", plain().set("/linux/sysctl", json!({"kernel.msgmax": "words"}))),
        ("a sysctl of the host", plain().set("/linux/sysctl", json!({"vm.swappiness": "1"}))),
        ("a device of no kind", plain().add("/linux/devices", json!({"path": "/dev/x", "type": "x"}))),
        (
            "a device below a file",
            plain().add("/linux/devices", json!({"path": "/etc/passwd/x", "type": "c", "major": 1, "minor": 3})),
        ),
        ("a user that is too large", plain().set("/process/user", json!({"uid": 4_294_967_295_u64, "gid": 0}))),
        ("a user without a mapping", plain().mapped(300_000).set("/process/user", json!({"uid": 70_000, "gid": 0}))),
        ("a seccomp action", plain().set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NOTHING"}))),
        (
            "a limit that is not known",
            plain().set("/process/rlimits", json!([{"type": "RLIMIT_NONE", "soft": 1, "hard": 1}])),
        ),
        (
            "a limit above its own",
            plain().set("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}])),
        ),
        (
            "a limit that needs a right",
            plain().set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 99_999_999, "hard": 99_999_999}])),
        ),
        ("a command that is missing", Bundle::new(["/bin/nothing-there"])),
        ("a name that is missing", Bundle::new(["nothing-there"])),
        ("a working folder that is a file", plain().set("/process/cwd", json!("/etc/passwd/x"))),
        ("a root that is not there", plain().set("/root/path", json!("nothing"))),
        ("a root that is a file", plain().set("/root/path", json!("config.json"))),
        ("a namespace that is not there", plain().namespace("network", Some(Path::new("/nowhere")))),
        ("a namespace of another kind", plain().namespace("network", Some(Path::new("/proc/self/ns/uts")))),
        ("a limit of the group", plain().set("/linux/resources/cpu", json!({"cpus": "9999"}))),
        ("a memory limit that is too low", plain().set("/linux/resources/memory", json!({"limit": 1}))),
        ("a label", plain().set("/process/apparmorProfile", json!("some-profile"))),
        ("a mapping that overlaps", {
            let twice =
                json!([{"containerID": 0, "hostID": 1000, "size": 10}, {"containerID": 5, "hostID": 1000, "size": 10}]);
            plain().mapped(300_000).set("/linux/uidMappings", twice)
        }),
        ("a host name that is too long", plain().set("/hostname", json!("x".repeat(100)))),
        ("prestart hook", hook("prestart")),
        ("createRuntime hook", hook("createRuntime")),
        ("createContainer hook", hook("createContainer")),
        ("a terminal without a socket", plain().set("/process/terminal", json!(true))),
    ]
}

#[test]
fn a_create_that_fails_leaves_nothing_behind() {
    let runtime = OciRuntime::under_test();
    let mut wrong = Vec::new();
    for (what, bundle) in failures() {
        let (left, failed) = left_by(&runtime, &bundle, "create", None);
        if failed.succeeded() {
            wrong.push(format!("{what} does not fail"));
            runtime.remembered().iter().for_each(|id| crate::lifecycle::sweep(id));
        } else if !left.is_empty() {
            wrong.push(format!("{what} leaves behind:\n{left}{}", failed.stderr));
        } else if failed.stderr.len() < 10 || failed.stderr.contains("panicked") {
            wrong.push(format!("{what} says: {}", failed.stderr));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_run_leaves_nothing_behind() {
    let runtime = OciRuntime::under_test();
    for (what, bundle) in [
        ("it ends well", Bundle::script("echo ran; exit 0")),
        ("it ends badly", Bundle::script("exit 3")),
        (
            "a startContainer hook fails",
            Bundle::script("true").add("/hooks/startContainer", json!({"path": "/bin/nothing"})),
        ),
        ("children are left", Bundle::script("sleep 1000 & sleep 1000 & exit 0")),
        ("a group below the group is left", {
            let administrator = [&cove_tests::DEFAULT_CAPABILITIES[..], &["CAP_SYS_ADMIN"]].concat();
            Bundle::script(
                "mkdir /sys/fs/cgroup/pids/sub; sleep 1000 & echo $! >/sys/fs/cgroup/pids/sub/cgroup.procs; exit 0",
            )
            .capabilities(&administrator)
            .namespace("cgroup", None)
            .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"])
        }),
    ] {
        let (left, finished) = left_by(&runtime, &bundle, "run", None);
        let left: Vec<_> = left.lines().filter(|line| !line.contains("leak.pid")).collect();
        assert!(left.is_empty(), "{what} leaves behind {left:?}: {finished}");
    }
}

#[test]
fn a_create_that_fails_at_any_step_leaves_nothing_behind() {
    // Another runtime has no such build.
    let Some(program) = cove_tests::failing_runtime_program() else { return };
    let runtime = OciRuntime::of(&program);
    let features: Value = serde_json::from_str(&runtime.command(["features"]).ok()).unwrap();
    let steps = features["annotations"]["cove.fail-points"].as_str().expect("the feature `fail-points`");
    assert!(steps.split(',').count() > 5, "{steps}");
    let everything = || {
        Bundle::sleeper()
            .mount("/data", "bind", "/etc/hostname", &["bind", "ro"])
            .namespace("cgroup", None)
            .set("/linux/sysctl", json!({"kernel.msgmax": "1234"}))
            .set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW"}))
            .set("/linux/resources/pids", json!({"limit": 50}))
            .add("/hooks/createRuntime", json!({"path": "/bin/true"}))
            .add("/hooks/createContainer", json!({"path": "/bin/true"}))
    };
    for bundle in [everything(), everything().mapped(300_000)] {
        // Nothing is wrong with the configuration; and what a runtime keeps of a profile for all containers to come is
        // there from now on.
        runtime.create(&bundle).start().ok();
        for step in steps.split(',').filter(|step| !step.is_empty()) {
            let (left, finished) = left_by(&runtime, &bundle, "create", Some(step));
            assert!(!finished.succeeded(), "nothing fails at {step}: {finished}");
            assert!(left.is_empty(), "{step} leaves behind:\n{left}{}", finished.stderr);
        }
    }
}

#[test]
fn the_counting_counts() {
    let runtime = OciRuntime::under_test();
    let (left, finished) = left_by(&runtime, &Bundle::sleeper(), "create", None);
    assert!(finished.succeeded(), "{finished}");
    for what in ["> process", "> namespace", "> cgroup", "> file"] {
        assert!(left.contains(what), "a container that stays is seen: {what}: {left}");
    }
    for name in runtime.remembered() {
        crate::lifecycle::sweep(&name);
        let _ = fs::remove_dir_all(runtime.root().join(name));
    }
}
