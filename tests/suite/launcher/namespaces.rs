//! Namespaces: new ones, those of others, user and time namespaces, and what belongs to them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cove_tests::{Bundle, Cmd, OciRuntime};
use serde_json::json;

const ALL: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];

fn of_process(pid: impl std::fmt::Display) -> BTreeMap<&'static str, String> {
    let link = |name: &&'static str| fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("a namespace");
    ALL.iter().map(|name| (*name, link(name).to_string_lossy().into_owned())).collect()
}

#[test]
fn new_namespaces_are_those_that_are_asked_for() {
    let runtime = OciRuntime::under_test();
    let host = of_process("self");
    let container = runtime.start(&Bundle::sleeper().namespace("cgroup", None));
    let inside = of_process(container.pid());
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
        assert_ne!(inside[name], host[name], "{name}");
    }
    assert_eq!(inside["user"], host["user"]);
    for (kind, name) in [("ipc", "ipc"), ("network", "net"), ("pid", "pid"), ("uts", "uts")] {
        let mut bundle = Bundle::sleeper().without_namespace(kind);
        if kind == "uts" {
            bundle = bundle.set("/hostname", json!(null));
        }
        if kind == "network" {
            // sysfs belongs to a network namespace: a new one is not to be had for this process's.
            bundle = bundle.without_mount("/sys");
        }
        if kind == "ipc" {
            bundle = bundle.without_mount("/dev/mqueue");
        }
        let container = runtime.start(&bundle);
        let inside = of_process(container.pid());
        for other in ["ipc", "mnt", "net", "pid", "uts"] {
            assert_eq!(inside[other] == host[other], other == name, "without {kind}: {other}");
        }
    }
}

/// Mounts are then the caller's: nothing may be mounted, and its root must not move. Here the caller is in a mount namespace
/// of the test's, so that a runtime that is wrong harms nobody.
#[test]
fn without_a_mount_namespace_only_the_root_changes() {
    let runtime = OciRuntime::under_test();
    if runtime.is_runc() {
        // It looks for /proc inside of the container, where nothing may be mounted.
        return;
    }
    let bundle = Bundle::script("hostname; cat /mark; ls /host 2>/dev/null").file("/mark", 0o644, "of the image\n");
    let bundle = bundle.without_namespace("mount").set("/hostname", json!("inside")).set("/mounts", json!([]));
    let bundle = bundle.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
    bundle.write();
    let script = r#"
        before=$(cat /proc/self/mountinfo)
        "$RUNTIME" --root "$ROOT" run --bundle "$BUNDLE" "$ID" </dev/null
        [ "$before" = "$(cat /proc/self/mountinfo)" ] && [ -d /proc/1 ] && echo as before
    "#;
    let command = Cmd::new("unshare").args(["--mount", "sh", "-c", script]).env("RUNTIME", runtime.program());
    let command = command.env("ROOT", runtime.root()).env("BUNDLE", bundle.path()).env("ID", OciRuntime::new_id());
    assert_eq!(command.ok(), "inside\nof the image\nas before");
    let refused = runtime.run(&bundle.mount("/data", "tmpfs", "tmpfs", &[]));
    assert!(!refused.succeeded(), "{refused}");
}

#[test]
fn a_new_namespace_is_fresh() {
    let runtime = OciRuntime::under_test();
    let script =
        "hostname; echo $$; ls /sys/class/net; ip -o addr show lo | grep -c 127.0.0.1; ls /proc | grep -c '^[0-9]'";
    let printed = runtime.run(&Bundle::script(script)).printed();
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(&lines[..3], ["inside", "1", "lo"], "{printed}");
    assert_eq!(lines[3], "1", "the loopback is up: {printed}");
}

#[test]
fn namespaces_by_path_and_of_another_container() {
    let runtime = OciRuntime::under_test();
    let first = runtime.start(&Bundle::sleeper().namespace("cgroup", None));
    let theirs = of_process(first.pid());
    let path = |name: &str| format!("/proc/{}/ns/{name}", first.pid());
    let bundle = Bundle::sleeper()
        .namespace("network", Some(Path::new(&path("net"))))
        .namespace("ipc", Some(Path::new(&path("ipc"))))
        .namespace("uts", Some(Path::new(&path("uts"))))
        .namespace("pid", Some(Path::new(&path("pid"))))
        .set("/hostname", json!(null));
    let second = runtime.start(&bundle);
    let inside = of_process(second.pid());
    for name in ["net", "ipc", "uts", "pid"] {
        assert_eq!(inside[name], theirs[name], "{name}");
    }
    assert_ne!(inside["mnt"], theirs["mnt"]);
    assert_eq!(second.script("hostname; cat /proc/1/cmdline | tr '\\0' ' ' | cut -c 1-10").ok(), "inside\n/bin/sh -c");
    second.command(&["delete", "--force"], &[]).ok();
    assert_eq!(first.status(), "running");
}

#[test]
fn a_namespace_that_was_kept_by_a_mount() {
    let runtime = OciRuntime::under_test();
    let name = OciRuntime::new_id();
    Cmd::new("ip").args(["netns", "add", &name]).ok();
    let path = format!("/run/netns/{name}");
    let bundle = Bundle::script("readlink /proc/self/ns/net").namespace("network", Some(Path::new(&path)));
    let printed = runtime.run(&bundle).printed();
    let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap());
    Cmd::new("ip").args(["netns", "delete", &name]).ok();
    assert_eq!(printed.trim(), format!("net:[{inode}]"));
}

#[test]
fn paths_that_are_no_namespace_are_refused() {
    let runtime = OciRuntime::under_test();
    for path in ["/etc/passwd", "/nowhere", "/proc/self/ns/uts", "/dev/null", "relative"] {
        let refused = runtime.run(&Bundle::script("echo ran").namespace("network", Some(Path::new(path))));
        assert!(!refused.succeeded() && !refused.stdout.contains("ran"), "{path}: {refused}");
    }
    let twice = Bundle::script("echo ran").add("/linux/namespaces", json!({"type": "network"}));
    let refused = runtime.run(&twice);
    assert!(!refused.succeeded(), "{refused}");
    let unknown = Bundle::script("echo ran").add("/linux/namespaces", json!({"type": "nothing"}));
    assert!(!runtime.run(&unknown).succeeded());
    assert_eq!(runtime.remembered(), [""; 0]);
}

#[test]
fn host_names() {
    let runtime = OciRuntime::under_test();
    let before = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let bundle = Bundle::script("hostname").set("/hostname", json!("some.name"));
    assert_eq!(runtime.run(&bundle).ok(), "some.name");
    let without = bundle.without_namespace("uts");
    assert!(!runtime.run(&without).succeeded(), "a host name without a namespace of its own is refused");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), before);
    if !runtime.is_runc_1_1() {
        let bundle = Bundle::script("cat /proc/sys/kernel/domainname").set("/domainname", json!("example.org"));
        assert_eq!(runtime.run(&bundle).ok(), "example.org");
    }
}

#[test]
fn sysctls_of_the_namespaces() {
    let runtime = OciRuntime::under_test();
    let before = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    let sysctls = json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "12345", "net.ipv4.ping_group_range": "0 9"});
    let script = "cd /proc/sys; cat net/ipv4/ip_forward kernel/msgmax net/ipv4/ping_group_range";
    let printed = runtime.run(&Bundle::script(script).set("/linux/sysctl", sysctls)).ok();
    assert_eq!(printed.split_whitespace().collect::<Vec<_>>(), ["1", "12345", "0", "9"]);
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(), before);
}

#[test]
fn sysctls_of_the_host_are_refused() {
    let runtime = OciRuntime::under_test();
    let host = |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).unwrap();
    let before = (host("kernel/printk"), host("net/ipv4/ip_default_ttl"), host("kernel/msgmax"), host("vm/swappiness"));
    for (name, value, without) in [
        ("vm.swappiness", "11", None),
        ("kernel.printk", "1 1 1 1", None),
        ("kernel.hostname", "evil", None),
        ("net.ipv4.ip_default_ttl", "77", Some("network")),
        ("kernel.msgmax", "7777", Some("ipc")),
        ("net.ipv4.no_such_thing", "1", None),
        ("net/../vm/swappiness", "12", None),
        ("net.ipv4/../../vm/swappiness", "12", None),
        ("net/ipv4/../../vm/swappiness", "12", None),
        ("../../../../etc/evil", "12", None),
    ] {
        let mut bundle = Bundle::script("echo ran").set("/linux/sysctl", json!({name: value}));
        if let Some(kind) = without {
            bundle = bundle.without_namespace(kind).without_mount("/sys").without_mount("/dev/mqueue");
        }
        let refused = runtime.run(&bundle);
        assert!(!refused.succeeded() && refused.stdout.is_empty(), "{name}: {refused}");
    }
    let after = (host("kernel/printk"), host("net/ipv4/ip_default_ttl"), host("kernel/msgmax"), host("vm/swappiness"));
    assert_eq!(before, after);
}

#[test]
fn a_user_namespace_with_mappings() {
    let runtime = OciRuntime::under_test();
    let script = "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map; stat -c %u /etc/passwd; touch /made; \
                  cat /proc/self/setgroups; grep CapEff /proc/self/status";
    let bundle = Bundle::script(script).mapped(300_000);
    let printed = runtime.run(&bundle).ok();
    let words: Vec<_> = printed.split_whitespace().collect();
    let expected =
        ["0", "0", "0", "300000", "65536", "0", "300000", "65536", "0", "allow", "CapEff:", "00000000a80425fb"];
    assert_eq!(words, expected);
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(bundle.inside("/made")).unwrap());
    assert_eq!(owner, 300_000);

    let container = runtime.start(&Bundle::sleeper().mapped(300_000));
    let status = fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
    assert!(status.contains("Uid:\t300000\t300000\t300000\t300000\n"), "{status}");
    assert_eq!(
        container.script("id -u; readlink /proc/self/ns/user").ok(),
        format!("0\n{}", of_process(container.pid())["user"])
    );
    for name in ALL.iter().filter(|name| **name != "cgroup") {
        assert_ne!(of_process(container.pid())[name], of_process("self")[name], "{name}");
    }
}

#[test]
fn another_user_in_a_user_namespace() {
    let runtime = OciRuntime::under_test();
    let user = json!({"uid": 1000, "gid": 1000, "additionalGids": [20]});
    let bundle =
        Bundle::script("id -u; id -G; grep CapEff /proc/self/status").mapped(300_000).set("/process/user", user);
    let printed = runtime.run(&bundle).ok();
    assert_eq!(printed.split_whitespace().collect::<Vec<_>>(), ["1000", "1000", "20", "CapEff:", "0000000000000000"]);
    let unmapped = Bundle::script("id -u").mapped(300_000).set("/process/user", json!({"uid": 70_000, "gid": 0}));
    assert!(!runtime.run(&unmapped).succeeded());
}

#[test]
fn mappings_without_a_user_namespace_are_refused() {
    let runtime = OciRuntime::under_test();
    let mapping = json!([{"containerID": 0, "hostID": 300_000, "size": 65_536}]);
    let bundle = Bundle::script("true").set("/linux/uidMappings", mapping.clone()).set("/linux/gidMappings", mapping);
    // The old runc ignores them, and root inside is root outside, against what was asked.
    assert!(!runtime.run(&bundle).succeeded() || runtime.is_runc_1_1());
}

#[test]
fn offsets_of_a_time_namespace() {
    let runtime = OciRuntime::under_test();
    if runtime.is_runc_1_1() {
        // It knows no time namespaces.
        return;
    }
    let offsets = json!({"boottime": {"secs": 864_000, "nanosecs": 0}, "monotonic": {"secs": 172_800, "nanosecs": 5}});
    let bundle = Bundle::script("cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets; readlink /proc/self/ns/time")
        .namespace("time", None)
        .set("/linux/timeOffsets", offsets);
    let printed = runtime.run(&bundle).ok();
    let host: f64 = fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
    let inside: f64 = printed.lines().next().unwrap().parse().unwrap();
    assert!((inside - host - 864_000.0).abs() < 60.0, "{printed} and {host}");
    let words: Vec<_> = printed.split_whitespace().skip(1).collect();
    assert_eq!(&words[..6], ["monotonic", "172800", "5", "boottime", "864000", "0"]);
    let own = fs::read_link("/proc/self/ns/time").unwrap();
    assert_ne!(words[6], own.to_str().unwrap());
    let without = Bundle::script("true").set("/linux/timeOffsets", json!({"monotonic": {"secs": 1, "nanosecs": 0}}));
    assert!(!runtime.run(&without).succeeded(), "offsets without a time namespace are refused");
}

#[test]
fn exec_without_mounts_of_the_containers_own_is_in_its_root() {
    let runtime = OciRuntime::under_test();
    if runtime.is_runc() {
        // Its exec stays in the host's root.
        return;
    }
    let mut bundle = Bundle::sleeper().without_namespace("mount").file("/here", 0o644, "the image\n");
    for pointer in ["/mounts", "/linux/maskedPaths", "/linux/readonlyPaths"] {
        bundle = bundle.set(pointer, json!([]));
    }
    let container = runtime.start(&bundle);
    assert_eq!(container.exec(&["/bin/cat", "/here"]).ok(), "the image");
    assert!(!container.exec(&["/bin/sh", "-c", "[ -e /proc/self ]"]).succeeded(), "nothing of the host");
}

#[test]
fn exec_joins_a_cgroup_below_the_containers() {
    let runtime = OciRuntime::under_test();
    let container = runtime.start(&Bundle::sleeper());
    let own = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let line = |text: &str, name: &str| text.lines().find(|line| line.contains(name)).map(str::to_owned);
    let (Some(pids), Some(memory)) = (line(&own, ":pids:"), line(&own, ":memory:")) else { return };
    let path = |line: &str| line.splitn(3, ':').nth(2).unwrap().trim_start_matches('/').to_owned();
    let below = Path::new("/sys/fs/cgroup/pids").join(path(&pids)).join("part");
    fs::create_dir(&below).unwrap();
    let shown = |options: &[&str]| {
        let options: Vec<&str> = ["exec"].iter().chain(options).copied().collect();
        container.command(&options, &["/bin/cat", "/proc/self/cgroup"]).run()
    };
    let ran = shown(&["--cgroup", "pids:part"]).ok();
    let outside = |name: &str, text: &str| line(text, name).unwrap();
    assert!(outside(":pids:", &ran).ends_with("/part"), "{ran}");
    assert!(!outside(":memory:", &ran).ends_with("/part"), "only there ({memory}): {ran}");
    for wrong in ["nothing-there", "../x", "pids:/../../x"] {
        let refused = shown(&["--cgroup", wrong]);
        assert!(!refused.succeeded() && refused.stdout.is_empty(), "{wrong}: {refused}");
    }
    let _ = fs::remove_dir(below);
}

/// Where there is no unified hierarchy, the cgroups are made beside the container's process, which joins them late.
#[test]
fn without_the_unified_hierarchy() {
    let runtime = OciRuntime::under_test();
    let run = |bundle: &Bundle, id: &str| {
        bundle.write();
        let script = "umount -l /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";
        let command = runtime.command(["run", "--bundle"]).arg(bundle.path()).arg(id);
        command.wrapped("unshare", &["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).run()
    };
    let id = OciRuntime::new_id();
    let bundle = Bundle::script("cat /proc/self/cgroup; ip -o link show lo");
    let ran = run(&bundle.clone().without_namespace("cgroup"), &id).ok();
    let places = |text: &str| -> Vec<String> {
        let version1 = text.lines().filter(|line| line.splitn(3, ':').count() == 3 && !line.starts_with("0::"));
        version1.filter(|line| line.starts_with(|first: char| first.is_ascii_digit())).map(str::to_owned).collect()
    };
    let of_links = |line: &String| line.contains("lo:");
    let joined: Vec<String> = places(&ran).into_iter().filter(|line| !of_links(line)).collect();
    assert!(joined.iter().all(|line| line.contains(&id)), "it is in all of them: {ran}");
    assert!(ran.contains("UP"), "{ran}");
    let ran = run(&bundle.namespace("cgroup", None), &OciRuntime::new_id()).ok();
    let joined: Vec<String> = places(&ran).into_iter().filter(|line| !of_links(line)).collect();
    assert!(joined.iter().all(|line| line.ends_with(":/")), "its own are the roots that it sees: {ran}");

    let id = OciRuntime::new_id();
    let wrong = Bundle::script("echo ran").set("/linux/resources/cpu/cpus", json!("70000"));
    let failed = run(&wrong, &id);
    assert!(!failed.succeeded() && failed.stdout.is_empty(), "{failed}");
    assert!(failed.stderr.contains("cpuset.cpus") || runtime.is_runc(), "what is wrong is said: {failed}");
    assert_eq!(runtime.remembered(), [""; 0]);
    assert_eq!(crate::lifecycle::cgroups(&id), [""; 0]);
}
