//! `update`, `events`, `features`, `spec`, `exec`'s options, and wrong command lines.

use std::fs;
use std::path::Path;

use cove_tests::{Bundle, Cmd, OciRuntime, Scratch};
use serde_json::{Value, json};

use crate::lifecycle::cgroups;

/// A file of a control group of cgroup v1.
fn of_group(id: &str, controller: &str, file: &str) -> String {
    let folders = cgroups(id);
    let marker = format!("/{controller}/");
    let folder = folders.iter().find(|folder| folder.contains(&marker)).expect("the group is there");
    fs::read_to_string(Path::new(folder).join(file)).expect("a file of the group").trim().to_owned()
}

fn limited() -> Bundle {
    let resources = json!({
        "devices": [{"allow": false, "access": "rwm"}],
        "memory": {"limit": 67_108_864, "reservation": 33_554_432},
        "cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0"},
        "pids": {"limit": 64},
    });
    Bundle::sleeper().set("/linux/resources", resources)
}

#[test]
fn resources_are_in_effect() {
    let runtime = OciRuntime::under_test();
    let container = runtime.start(&limited());
    let id = container.id();
    for (controller, file, expected) in [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("memory", "memory.soft_limit_in_bytes", "33554432"),
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("pids", "pids.max", "64"),
    ] {
        assert_eq!(of_group(id, controller, file), expected, "{file}");
    }
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    for controller in ["memory", "pids", "cpuset", "devices", "freezer", "blkio", "name=systemd"] {
        let line =
            groups.lines().find(|line| line.split(':').nth(1).unwrap().split(',').any(|name| name == controller));
        assert!(line.is_some_and(|line| line.ends_with(id)), "{controller}: {groups}");
    }
    let id = id.to_owned();
    container.command(&["delete", "--force"], &[]).ok();
    assert_eq!(cgroups(&id), [""; 0], "all of them are removed");
}

#[test]
fn the_limits_bite() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script("i=0; while [ $i -lt 30 ]; do sleep 1000 & i=$((i + 1)); done 2>&1; echo made $i")
        .set("/linux/resources/pids", json!({"limit": 10}));
    let finished = runtime.run(&bundle);
    assert!(finished.printed().contains("can't fork"), "{finished}");
    let bundle = Bundle::new(["/bin/sh", "-c", "x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo ${#x}"])
        .set("/linux/resources/memory", json!({"limit": 20_000_000, "swap": 20_000_000}));
    let finished = runtime.run(&bundle);
    assert!(!finished.stdout.contains("60000000"), "{finished}");
}

#[test]
fn the_path_of_the_control_group() {
    let runtime = OciRuntime::under_test();
    let name = OciRuntime::new_id();
    let container = runtime.start(&Bundle::sleeper().set("/linux/cgroupsPath", json!(format!("/cove-suite/{name}"))));
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let pids = groups.lines().find(|line| line.contains(":pids:")).unwrap();
    assert_eq!(pids.split(':').nth(2).unwrap(), format!("/cove-suite/{name}"));
    container.command(&["delete", "--force"], &[]).ok();
    assert_eq!(cgroups(&name), [""; 0]);
    Cmd::new("find").args(["/sys/fs/cgroup", "-depth", "-type", "d", "-name", "cove-suite", "-empty"]).run();
    for folder in cgroups("cove-suite") {
        let _ = fs::remove_dir(folder);
    }
    // A path cannot climb out of the tree.
    let bundle = Bundle::sleeper().set("/linux/cgroupsPath", json!(format!("/../../../../var/tmp/{name}")));
    let (container, finished) = runtime.try_create(&bundle, &[]);
    assert!(!Path::new("/var/tmp").join(&name).exists(), "{finished}");
    if finished.succeeded() {
        let groups = cgroups(&name);
        assert!(!groups.is_empty() && groups.iter().all(|group| group.starts_with("/sys/fs/cgroup/")), "{groups:?}");
    }
    container.command(&["delete", "--force"], &[]).ok();
    for folder in cgroups(&name).iter().rev() {
        let _ = fs::remove_dir(folder);
    }
}

#[test]
fn update_changes_limits() {
    let runtime = OciRuntime::under_test();
    let container = runtime.start(&limited());
    let id = container.id();
    let options =
        ["update", "--memory", "80000000", "--cpu-share", "256", "--pids-limit", "32", "--cpu-quota", "20000"];
    container.command(&options, &[]).ok();
    for (controller, file, expected) in [
        ("memory", "memory.limit_in_bytes", "79998976"),
        ("cpu", "cpu.shares", "256"),
        ("cpu", "cpu.cfs_quota_us", "20000"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("pids", "pids.max", "32"),
        ("cpuset", "cpuset.cpus", "0"),
    ] {
        assert_eq!(of_group(id, controller, file), expected, "{file}");
    }
    // Docker sends the specification's resources on standard input.
    let resources = json!({"memory": {"limit": 90_000_000}, "pids": {"limit": 16}}).to_string();
    container.command(&["update", "--resources", "-"], &[]).input(resources).ok();
    assert_eq!(of_group(id, "memory", "memory.limit_in_bytes"), "89997312");
    assert_eq!(of_group(id, "pids", "pids.max"), "16");
    assert_eq!(of_group(id, "cpu", "cpu.shares"), "256", "what is not said stays");
    let wrong = container.command(&["update", "--memory", "much"], &[]).run();
    assert!(!wrong.succeeded(), "{wrong}");
    let impossible = container.command(&["update", "--cpuset-cpus", "9999"], &[]).run();
    assert!(!impossible.succeeded(), "{impossible}");
    assert_eq!(of_group(id, "cpuset", "cpuset.cpus"), "0");
    assert_eq!(container.status(), "running");
}

#[test]
fn events_tell_what_is_used() {
    let runtime = OciRuntime::under_test();
    let container = runtime.start(&limited());
    let line = container.command(&["events", "--stats"], &[]).ok();
    let event: Value = serde_json::from_str(&line).expect("one line of JSON");
    assert_eq!(event["type"], "stats");
    assert_eq!(event["id"], container.id());
    let data = &event["data"];
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "{data}");
    assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0, "{data}");
    assert_eq!(data["memory"]["usage"]["limit"], 67_108_864, "{data}");
    assert!((1..=3).contains(&data["pids"]["current"].as_u64().unwrap()), "{data}");
    assert_eq!(data["pids"]["limit"], 64, "{data}");
    let stopped = runtime.start(&Bundle::script("true"));
    stopped.wait_stopped();
    assert!(!stopped.command(&["events", "--stats"], &[]).run().succeeded());
}

#[test]
fn features_are_told() {
    let runtime = OciRuntime::under_test();
    let features: Value = serde_json::from_str(&runtime.command(["features"]).ok()).expect("JSON");
    let texts = |pointer: &str| -> Vec<String> {
        let list = features.pointer(pointer).and_then(Value::as_array);
        let list = list.unwrap_or_else(|| panic!("{pointer}: {features}"));
        list.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    assert!(features["ociVersionMin"].as_str().unwrap() == "1.0.0", "{features}");
    assert!(features["ociVersionMax"].as_str().unwrap().starts_with("1."), "{features}");
    for hook in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        assert!(texts("/hooks").contains(&hook.to_owned()), "{hook}");
    }
    for option in ["bind", "rbind", "ro", "nosuid", "rprivate", "rslave", "tmpcopyup"] {
        assert!(texts("/mountOptions").contains(&option.to_owned()), "{option}");
    }
    for namespace in ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"] {
        assert!(texts("/linux/namespaces").contains(&namespace.to_owned()), "{namespace}");
    }
    assert!(texts("/linux/capabilities").contains(&"CAP_CHOWN".to_owned()));
    assert_eq!(features["linux"]["cgroup"]["v1"], true);
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
    assert!(texts("/linux/seccomp/actions").contains(&"SCMP_ACT_ERRNO".to_owned()));
    assert!(texts("/linux/seccomp/archs").contains(&"SCMP_ARCH_X86_64".to_owned()));
    assert!(texts("/linux/seccomp/operators").contains(&"SCMP_CMP_MASKED_EQ".to_owned()));
}

#[test]
fn a_specification_to_begin_with() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script("true");
    let made = runtime.command(["spec", "--bundle"]).arg(bundle.path()).run();
    assert!(made.succeeded(), "{made}");
    let file = bundle.path().join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(config["process"]["args"], json!(["sh"]));
    assert_eq!(config["root"], json!({"path": "rootfs", "readonly": true}));
    let refused = runtime.command(["spec", "--bundle"]).arg(bundle.path()).run();
    assert!(refused.fails().contains("exists"), "what is there is not overwritten");
    // With nothing changed but the terminal, which this test has not, and the limits, which it may not raise.
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["sh", "-c", "echo ran"]);
    config["process"]["rlimits"] = json!([]);
    fs::write(&file, config.to_string()).unwrap();
    let run = runtime.command(["run", "--bundle"]).arg(bundle.path()).arg(OciRuntime::new_id());
    assert_eq!(run.ok(), "ran");

    let empty = Scratch::new("spec");
    runtime.command(["spec", "--rootless", "--bundle"]).arg(empty.path()).ok();
    let config: Value = serde_json::from_str(&fs::read_to_string(empty.join("config.json")).unwrap()).unwrap();
    let namespaces = config["linux"]["namespaces"].as_array().unwrap();
    assert!(namespaces.iter().any(|namespace| namespace["type"] == "user"), "{config}");
    assert!(config["linux"]["uidMappings"][0]["size"] == 1, "{config}");
}

#[test]
fn exec_with_options() {
    let runtime = OciRuntime::under_test();
    let container = runtime.start(&Bundle::sleeper().set("/process/env", json!(["PATH=/bin", "OF=container"])));
    let options = ["exec", "--cwd", "/etc", "--user", "1000:1001", "-e", "MORE=yes", "-e", "OF=exec"];
    let printed = container.command(&options, &["/bin/sh", "-c", "pwd; id -u; id -g; echo $MORE $OF"]).ok();
    assert_eq!(printed, "/etc\n1000\n1001\nyes exec");
    let options = ["exec", "--user", "1000", "--additional-gids", "77", "--additional-gids", "78"];
    assert_eq!(container.command(&options, &["/bin/sh", "-c", "id -G"]).ok(), "0 77 78");
    let options = ["exec", "--cap", "CAP_SYS_ADMIN"];
    let printed = container.command(&options, &["/bin/sh", "-c", "grep CapEff /proc/self/status"]).ok();
    let effective = u64::from_str_radix(printed.split_whitespace().nth(1).unwrap(), 16).unwrap();
    assert!(effective & 1 << 21 != 0, "{printed}");
    let printed = container.command(&["exec", "--no-new-privs"], &["grep", "NoNewPrivs", "/proc/self/status"]).ok();
    assert_eq!(printed, "NoNewPrivs:\t1");
    let marked = container.command(&["exec", "--detach"], &["/bin/sh", "-c", "echo x >/detached; sleep 1000"]);
    assert!(runtime.finish(&marked, &runtime.file("exec.out")).succeeded());
    cove_tests::wait_until("it runs", std::time::Duration::from_secs(5), || {
        container.script("cat /detached").succeeded()
    });
}

#[test]
fn exec_of_a_process_in_json() {
    let runtime = OciRuntime::under_test();
    let container = runtime.start(&Bundle::sleeper());
    let process = json!({
        "args": ["/bin/sh", "-c", "pwd; id -u; id -G; echo $NAME; umask; grep -E 'CapEff|NoNewPrivs' /proc/self/status; ulimit -n"],
        "cwd": "/tmp", "env": ["PATH=/bin", "NAME=value"],
        "user": {"uid": 0, "gid": 5, "additionalGids": [6], "umask": 63},
        "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
        "noNewPrivileges": true,
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}],
    });
    // runc takes the umask from the container's configuration only.
    let umask = if runtime.is_runc() { "0022" } else { "0077" };
    let expected = format!("/tmp\n0\n5 6\nvalue\n{umask}\nCapEff:\t0000000000000020\nNoNewPrivs:\t1\n64");
    assert_eq!(container.exec_process(&process).ok(), expected);
}

#[test]
fn wrong_command_lines() {
    let runtime = OciRuntime::under_test();
    for words in [
        &["nonsense"][..],
        &["create"],
        &["run"],
        &["start"],
        &["state"],
        &["kill"],
        &["delete"],
        &["exec"],
        &["state", "one", "two"],
        &["--nonsense", "list"],
        &["list", "--nonsense"],
        &["run", "--bundle", "/nowhere/at/all", "name"],
    ] {
        let refused = runtime.command(words).run();
        // Without a verb that it knows runc prints its help, and is content.
        if words == ["nonsense"] && runtime.is_runc() {
            continue;
        }
        assert!(!refused.succeeded() && !refused.printed().is_empty(), "{refused}");
    }
    assert!(runtime.command(["--version"]).ok().contains("spec: 1."));
    assert!(runtime.command(["--help"]).ok().contains("create"));
}

#[test]
fn systemd_is_asked_only_where_it_runs() {
    let runtime = OciRuntime::under_test();
    if Path::new("/run/systemd/system").exists() {
        return;
    }
    let bundle = Bundle::script("echo ran").set("/linux/cgroupsPath", json!("system.slice:cove:name"));
    bundle.write();
    let words = ["--systemd-cgroup", "run", "--bundle"];
    let refused = runtime.command(words).arg(bundle.path()).arg(OciRuntime::new_id()).run();
    assert!(!refused.succeeded() && refused.stderr.contains("systemd"), "{refused}");
    assert_eq!(runtime.remembered(), [""; 0]);
}

#[test]
fn a_configuration_that_is_none() {
    let runtime = OciRuntime::under_test();
    for (what, text) in [
        ("nothing", ""),
        ("no object", "[]"),
        ("half an object", r#"{"ociVersion": "1.0.2", "process": {"args": ["/bin/sh"]"#),
        ("no root", r#"{"ociVersion": "1.0.2", "process": {"args": ["/bin/sh"], "cwd": "/"}}"#),
        (
            "another version",
            r#"{"ociVersion": "7.0.0", "root": {"path": "rootfs"}, "process": {"args": ["/bin/true"], "cwd": "/", "user": {"uid": 0, "gid": 0}}, "linux": {}}"#,
        ),
        ("a deep one", &("[".repeat(100_000) + &"]".repeat(100_000))),
    ] {
        let bundle = Bundle::script("true");
        fs::write(bundle.path().join("config.json"), text).unwrap();
        let refused = runtime.command(["run", "--bundle"]).arg(bundle.path()).arg(OciRuntime::new_id()).run();
        // runc does not look at the version.
        assert!(refused.code == Some(1) || (what == "another version" && runtime.is_runc()), "{what}: {refused}");
        assert_eq!(runtime.remembered(), [""; 0], "{what}");
    }
    let bundle = Bundle::script("true");
    let refused = runtime.command(["run", "--bundle"]).arg(bundle.path()).arg(OciRuntime::new_id()).run();
    assert!(
        refused.code == Some(1) && refused.stderr.contains("no such file or directory")
            || refused.stderr.contains("not found"),
        "{refused}"
    );
}
