//! Mounts, the root file system, devices, and what is hidden of `/proc` and `/sys`.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use cove_tests::{Bundle, Cmd, OciRuntime, Scratch};
use serde_json::json;

/// The options of the mount at a path, of itself and of its file system.
const OPTIONS_OF: &str =
    "of() { awk -v at=$1 '$5 == at {last=$6 \" \" $NF \" \" $0} END {print last}' /proc/self/mountinfo; };";

#[test]
fn docker_s_mounts_are_there() {
    let runtime = OciRuntime::under_test();
    let script = "awk '{for (i = 7; $i != \"-\"; i++); print $5, $(i + 1)}' /proc/self/mountinfo | grep -v ' /proc/'";
    let printed = runtime.run(&Bundle::script(script)).ok();
    for expected in
        ["/proc proc", "/dev tmpfs", "/dev/pts devpts", "/sys sysfs", "/dev/mqueue mqueue", "/dev/shm tmpfs"]
    {
        assert_eq!(printed.lines().filter(|line| line == &expected).count(), 1, "{expected}: {printed}");
    }
    let script = "stat -c %a /dev/shm; grep -c . /proc/1/cmdline; echo x >/dev/shm/file && cat /dev/shm/file; \
                  ls -d /dev/mqueue /sys/kernel; [ -w /sys/kernel ] && touch /sys/kernel/x 2>&1; tty -s; readlink /dev/ptmx";
    let printed = runtime.run(&Bundle::script(script)).ok();
    assert!(printed.starts_with("1777\n"), "{printed}");
    assert!(printed.contains("x\n/dev/mqueue\n/sys/kernel"), "{printed}");
    assert!(printed.ends_with("pts/ptmx"), "{printed}");
}

#[test]
fn options_of_a_tmpfs() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script(&format!("{OPTIONS_OF} of /scratch; stat -c %a:%u:%g /scratch; touch /scratch/file"))
        .mount(
            "/scratch",
            "tmpfs",
            "tmpfs",
            &["nosuid", "nodev", "noexec", "size=100k", "mode=1750", "uid=7", "gid=8"],
        );
    let printed = runtime.run(&bundle).ok();
    for option in ["rw", "nosuid", "nodev", "noexec", "size=100k"] {
        assert!(printed.contains(option), "{option}: {printed}");
    }
    assert!(printed.ends_with("1750:7:8"), "{printed}");
    let bundle = Bundle::script("touch /scratch/file 2>&1").mount("/scratch", "tmpfs", "tmpfs", &["ro"]);
    assert!(runtime.run(&bundle).fails().contains("Read-only file system"));
    let full = Bundle::script("cat /dev/zero 2>&1 >/scratch/file").mount("/scratch", "tmpfs", "tmpfs", &["size=100k"]);
    let failed = runtime.run(&full).fails();
    assert!(failed.contains("No space left"), "{failed}");
}

#[test]
fn tmpcopyup_keeps_what_was_there() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script("cat /place/file; echo new >/place/file").file("/place/file", 0o640, "old\n").mount(
        "/place",
        "tmpfs",
        "tmpfs",
        &["tmpcopyup"],
    );
    assert_eq!(runtime.run(&bundle).ok(), "old");
    assert_eq!(fs::read_to_string(bundle.inside("/place/file")).unwrap(), "old\n");
}

#[test]
fn bind_mounts() {
    let runtime = OciRuntime::under_test();
    let host = Scratch::new("volume");
    host.write("file", "of the host\n");
    let bundle =
        Bundle::script("cat /data/file; echo inside >/data/made").mount("/data", "bind", host.path(), &["bind"]);
    assert_eq!(runtime.run(&bundle).ok(), "of the host");
    assert_eq!(fs::read_to_string(host.join("made")).unwrap(), "inside\n");
    let read_only = Bundle::script("cat /data/file; echo no >/data/no 2>&1 || echo refused").mount(
        "/data",
        "bind",
        host.path(),
        &["rbind", "ro", "nosuid", "nodev", "noexec"],
    );
    let printed = runtime.run(&read_only).ok();
    assert!(printed.starts_with("of the host") && printed.ends_with("refused"), "{printed}");
    assert!(!host.join("no").exists());
    let none = Bundle::script("true").mount("/data", "bind", host.join("nothing"), &["bind"]);
    assert!(runtime.run(&none).fails().contains("no such file or directory"));
    // Any type with the option is a bind mount; podman writes "bind", docker too, others none.
    let typed = Bundle::script("cat /data/file").mount("/data", "none", host.path(), &["rbind", "rw"]);
    assert_eq!(runtime.run(&typed).ok(), "of the host");
}

#[test]
fn the_flags_of_a_bind_mount_are_its_own() {
    let runtime = OciRuntime::under_test();
    let host = Scratch::new("volume");
    let script = format!("{OPTIONS_OF} of /one; of /two");
    let bundle = Bundle::script(&script)
        .mount("/one", "bind", host.path(), &["bind", "nosuid", "nodev", "noexec", "noatime"])
        .mount("/two", "bind", host.path(), &["bind"]);
    let printed = runtime.run(&bundle).ok();
    let (one, two) = printed.split_once('\n').unwrap();
    for option in ["nosuid", "nodev", "noexec", "noatime"] {
        assert!(one.split(' ').next().unwrap().contains(option), "{option}: {one}");
        assert!(!two.split(' ').next().unwrap().contains(option), "{option}: {two}");
    }
}

#[test]
fn rbind_takes_mounts_below_along_and_bind_does_not() {
    let runtime = OciRuntime::under_test();
    let host = Scratch::new("volume");
    host.folder("below");
    Cmd::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(host.join("below")).ok();
    host.write("below/file", "on the mount below\n");
    for (option, expected) in [("rbind", "file"), ("bind", "")] {
        let bundle = Bundle::script("ls /data/below").mount("/data", "bind", host.path(), &[option]);
        assert_eq!(runtime.run(&bundle).ok(), expected, "{option}");
    }
    // `ro` is of the first mount only, `rro` of all.
    let bundle = Bundle::script("touch /data/x 2>/dev/null || echo refused; touch /data/below/y && echo written")
        .mount("/data", "bind", host.path(), &["rbind", "ro"]);
    assert_eq!(runtime.run(&bundle).ok(), "refused\nwritten");
    let bundle =
        Bundle::script("touch /data/x 2>/dev/null || echo refused; touch /data/below/y 2>/dev/null || echo refused")
            .mount("/data", "bind", host.path(), &["rbind", "rro"]);
    assert_eq!(runtime.run(&bundle).ok(), "refused\nrefused");
}

#[test]
fn a_file_over_a_file_and_places_that_are_not_there() {
    let runtime = OciRuntime::under_test();
    let host = Scratch::new("volume");
    let file = host.write("file", "of the host\n");
    let bundle = Bundle::script("cat /etc/hosts /new/deep/file; ls -d /new/folder/too")
        .file("/etc/hosts", 0o644, "of the image\n")
        .mount("/etc/hosts", "bind", &file, &["bind", "ro"])
        .mount("/new/deep/file", "bind", &file, &["bind"])
        .mount("/new/folder/too", "bind", host.path(), &["bind"]);
    assert_eq!(runtime.run(&bundle).ok(), "of the host\nof the host\n/new/folder/too");
    assert_eq!(fs::read_to_string(bundle.inside("/etc/hosts")).unwrap(), "of the image\n");
    assert_eq!(fs::metadata(bundle.inside("/new/deep/file")).unwrap().len(), 0);
    let over_folder = Bundle::script("true").mount("/etc", "bind", &file, &["bind"]);
    let failed = runtime.run(&over_folder).fails().to_lowercase();
    assert!(failed.contains("not a directory") || failed.contains("is a directory"), "{failed}");
}

#[test]
fn a_destination_through_a_link_stays_inside() {
    let runtime = OciRuntime::under_test();
    let host = Scratch::new("volume");
    host.write("file", "of the host\n");
    // As with /var/run, which is a link to /run in most images.
    let bundle = Bundle::script("cat /run/data/file; cat /var/run/data/file").link("/var/run", "/run").mount(
        "/var/run/data",
        "bind",
        host.path(),
        &["bind"],
    );
    assert_eq!(runtime.run(&bundle).ok(), "of the host\nof the host");
}

#[test]
fn mounts_inside_do_not_come_out() {
    let runtime = OciRuntime::under_test();
    let host = Scratch::new("volume");
    host.folder("at");
    Cmd::new("mount").args(["--bind"]).arg(host.path()).arg(host.path()).ok();
    Cmd::new("mount").arg("--make-shared").arg(host.path()).ok();
    let administrator = [&cove_tests::DEFAULT_CAPABILITIES[..], &["CAP_SYS_ADMIN"]].concat();
    let inside = |propagation: &str| {
        let bundle = Bundle::script("mount -t tmpfs tmpfs /data/at && echo mounted; sleep 0.1")
            .capabilities(&administrator)
            .mount("/data", "bind", host.path(), &["rbind", propagation]);
        // A volume can be shared with the host only in a root that is not cut off from it.
        let bundle =
            if propagation == "rshared" { bundle.set("/linux/rootfsPropagation", json!("shared")) } else { bundle };
        let container = runtime.start(&bundle);
        container.wait_output("mounted");
        let seen = fs::read_to_string("/proc/self/mountinfo").unwrap().contains(host.join("at").to_str().unwrap());
        let _ = Cmd::new("umount").arg(host.join("at")).run();
        seen
    };
    assert!(!inside("rprivate") && !inside("rslave"));
    assert!(inside("rshared"), "unless it is asked for");
}

#[test]
fn mounts_of_the_host_come_in_as_asked() {
    let runtime = OciRuntime::under_test();
    let host = Scratch::new("volume");
    host.folder("at");
    Cmd::new("mount").args(["--bind"]).arg(host.path()).arg(host.path()).ok();
    Cmd::new("mount").arg("--make-shared").arg(host.path()).ok();
    for (propagation, expected) in [("rprivate", false), ("rslave", true)] {
        let bundle = Bundle::sleeper().mount("/data", "bind", host.path(), &["rbind", propagation]);
        let container = runtime.start(&bundle);
        Cmd::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(host.join("at")).ok();
        host.write("at/file", "late\n");
        assert_eq!(container.script("cat /data/at/file").succeeded(), expected, "{propagation}");
        container.command(&["delete", "--force"], &[]).ok();
        Cmd::new("umount").arg(host.join("at")).ok();
    }
}

#[test]
fn a_read_only_root() {
    let runtime = OciRuntime::under_test();
    let host = Scratch::new("volume");
    let bundle = Bundle::script("touch /file 2>&1; touch /data/file && echo written; touch /dev/shm/x && echo shm")
        .set("/root/readonly", json!(true))
        .mount("/data", "bind", host.path(), &["bind"]);
    let printed = runtime.run(&bundle).ok();
    assert!(printed.contains("Read-only file system") && printed.ends_with("written\nshm"), "{printed}");
    assert!(!bundle.inside("/file").exists());
}

#[test]
fn the_root_is_private_and_the_host_s_is_gone() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script("cat /proc/self/mountinfo; ls -a /; ls -di /..; ls -di /");
    let printed = runtime.run(&bundle).ok();
    let mounts: Vec<_> = printed.lines().filter(|line| line.contains(" - ")).collect();
    assert!(mounts.iter().all(|line| !line.contains("shared:")), "{printed}");
    assert!(!printed.contains(".old") && !printed.contains(".pivot"), "{printed}");
    let inodes: Vec<_> = printed.lines().rev().take(2).map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(inodes[0], inodes[1], "{printed}");
    for line in mounts {
        let at = line.split(' ').nth(4).unwrap();
        assert!(
            ["/", "/proc", "/dev", "/sys"].contains(&at)
                || ["/proc/", "/dev/", "/sys/"].iter().any(|p| at.starts_with(p)),
            "{line}"
        );
    }
}

#[test]
fn masked_and_read_only_paths() {
    let runtime = OciRuntime::under_test();
    let script = "wc -c </masked/file; ls -A /masked/folder; echo x 2>&1 >/closed/file; touch /closed/new 2>&1; \
                  cat /closed/file; touch /masked/folder/x 2>&1";
    let bundle = Bundle::script(script)
        .file("/masked/file", 0o644, "secret\n")
        .file("/masked/folder/inner", 0o644, "secret\n")
        .file("/closed/file", 0o644, "readable\n")
        .add("/linux/maskedPaths", json!("/masked/file"))
        .add("/linux/maskedPaths", json!("/masked/folder"))
        .add("/linux/maskedPaths", json!("/not/there"))
        .add("/linux/readonlyPaths", json!("/closed"))
        .add("/linux/readonlyPaths", json!("/not/there"));
    let printed = runtime.run(&bundle).printed();
    assert!(!printed.contains("secret") && !printed.contains("inner"), "{printed}");
    assert!(printed.contains("0\n") && printed.contains("readable"), "{printed}");
    assert_eq!(printed.matches("Read-only file system").count(), 3, "{printed}");
    assert_eq!(fs::read_to_string(bundle.inside("/closed/file")).unwrap(), "readable\n");
    assert!(!bundle.inside("/not").exists());
    let proc = Bundle::script(
        "wc -c </proc/kcore; echo 1 2>&1 >/proc/sys/kernel/printk || echo refused; wc -c </proc/timer_list",
    );
    let printed = runtime.run(&proc).printed();
    assert!(printed.contains("0\n") && printed.contains("Read-only file system"), "{printed}");
}

#[test]
fn the_devices_that_every_container_has() {
    let runtime = OciRuntime::under_test();
    let script = "cd /dev; stat -c '%n %t:%T %a %u:%g' null zero full random urandom tty; \
                  for link in fd stdin stdout stderr; do readlink $link; done; echo x >null; head -c 3 zero | od -An -tx1; ls";
    let printed = runtime.run(&Bundle::script(script)).ok();
    let expected = "null 1:3 666 0:0\nzero 1:5 666 0:0\nfull 1:7 666 0:0\nrandom 1:8 666 0:0\nurandom 1:9 666 0:0\n\
                    tty 5:0 666 0:0\n/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n 00 00 00\n";
    assert!(printed.starts_with(expected), "{printed}");
    let mut names: Vec<_> =
        printed[expected.len()..].lines().filter(|name| *name != "core" && *name != "console").collect();
    names.sort_unstable();
    let all = [
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom",
        "zero",
    ];
    assert_eq!(names, all);
}

#[test]
fn devices_that_are_asked_for() {
    let runtime = OciRuntime::under_test();
    let fuse =
        json!({"path": "/dev/deep/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7, "gid": 8});
    let pipe = json!({"path": "/dev/pipe", "type": "p", "fileMode": 0o600});
    let block = json!({"path": "/dev/disk", "type": "b", "major": 7, "minor": 200, "fileMode": 0o600});
    let bundle = Bundle::script(
        "cd /dev; stat -c '%n %F %t:%T %a %u:%g' deep/mine pipe disk; echo x >deep/mine && echo open; : <disk",
    )
    .add("/linux/devices", fuse.clone())
    .add("/linux/devices", pipe)
    .add("/linux/devices", block)
    .add("/linux/resources/devices", json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}));
    let finished = runtime.run(&bundle);
    let printed = finished.printed();
    assert!(printed.contains("deep/mine character special file 1:3 640 7:8\n"), "{printed}");
    assert!(
        printed.contains("pipe fifo 0:0 600 0:0\n") && printed.contains("disk block special file 7:c8 600"),
        "{printed}"
    );
    assert!(printed.contains("open\n") && printed.contains("Operation not permitted"), "{printed}");
    for (key, value) in [("type", json!("x")), ("major", json!("1")), ("fileMode", json!(-1))] {
        let mut wrong = fuse.clone();
        wrong[key] = value;
        let refused = runtime.run(&Bundle::script("true").add("/linux/devices", wrong));
        assert!(!refused.succeeded(), "{key}: {refused}");
    }
}

#[test]
fn devices_that_are_not_allowed_cannot_be_used() {
    let runtime = OciRuntime::under_test();
    // A node may be made with CAP_MKNOD, as docker's users expect, but not opened.
    let script = "mknod /made c 1 11 && cat </made | head -c 10; mknod /disk b 254 0 && head -c 1 /disk";
    let printed = runtime.run(&Bundle::script(script)).printed();
    assert_eq!(printed.matches("Operation not permitted").count(), 2, "{printed}");
}

#[test]
fn cgroups_are_mounted_for_reading() {
    let runtime = OciRuntime::under_test();
    for cgroup_namespace in [false, true] {
        let mut bundle = Bundle::script(
            "ls /sys/fs/cgroup; mkdir /sys/fs/cgroup/pids/x 2>&1; mkdir /sys/fs/cgroup/memory/x 2>&1; \
             cat /sys/fs/cgroup/pids/pids.max; grep -c . /sys/fs/cgroup/pids/cgroup.procs",
        )
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"])
        .set("/linux/resources/pids", json!({"limit": 77}));
        if cgroup_namespace {
            bundle = bundle.namespace("cgroup", None);
        }
        let finished = runtime.run(&bundle);
        let printed = finished.printed();
        assert!(printed.contains("memory\n") && printed.contains("cpuset\n"), "{printed}");
        assert_eq!(printed.matches("Read-only file system").count(), 2, "{printed}");
        assert!(printed.contains("\n77\n"), "the container sees its own group: {printed}");
    }
}

#[test]
fn id_mapped_bind_mounts() {
    let runtime = OciRuntime::under_test();
    let host = Scratch::new("volume");
    let file = host.write("file", "of the host\n");
    let mapping = json!([{"containerID": 0, "hostID": 5000, "size": 10}]);
    let bundle = Bundle::script("stat -c %u:%g /data/file; touch /data/made 2>&1").mount(
        "/data",
        "bind",
        host.path(),
        &["bind"],
    );
    let last = bundle.config()["mounts"].as_array().unwrap().len() - 1;
    let bundle = bundle
        .set(&format!("/mounts/{last}/uidMappings"), mapping.clone())
        .set(&format!("/mounts/{last}/gidMappings"), mapping);
    let finished = runtime.run(&bundle);
    if runtime.is_runc_1_1() {
        // It knows no mappings of mounts and takes them for nothing.
        return;
    }
    assert!(finished.stdout.starts_with("5000:5000\n"), "root's file is the mapped user's: {finished}");
    // Who the mapping does not know, root inside, owns nothing there and can make nothing.
    assert!(!host.join("made").exists());
    assert_eq!(fs::metadata(&file).unwrap().uid(), 0);
    let user = json!({"uid": 5000, "gid": 5000});
    let by_user = bundle.arguments(["/bin/sh", "-c", "touch /data/made"]).set("/process/user", user);
    runtime.run(&by_user).ok();
    assert_eq!(fs::metadata(host.join("made")).unwrap().uid(), 0, "the mapped user's file is root's");
}

#[test]
fn devices_in_a_user_namespace_are_the_host_s() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script("echo x >/dev/null && head -c 2 /dev/zero | od -An -tx1; stat -c %t:%T /dev/null")
        .mapped(200_000);
    assert_eq!(runtime.run(&bundle).ok(), "00 00\n1:3");
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
}

#[test]
fn a_bind_mount_of_a_shared_one_is_no_peer_of_it() {
    let runtime = OciRuntime::under_test();
    let folder = Scratch::new("shared");
    let source = folder.path().to_str().unwrap();
    Cmd::new("mount").args(["-t", "tmpfs", "shared", source]).ok();
    Cmd::new("mount").args(["--make-shared", source]).ok();
    let ran = runtime.run(&Bundle::script("grep ' /volume ' /proc/self/mountinfo").mount(
        "/volume",
        "bind",
        source,
        &["bind"],
    ));
    Cmd::new("umount").arg(source).ok();
    let ran = ran.ok();
    // What is mounted inside must not come out; what is mounted outside comes in where the root is a slave.
    assert!(ran.contains(" /volume ") && !ran.contains("shared:"), "{ran}");
}
