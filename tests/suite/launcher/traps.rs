//! What has gone wrong in other runtimes: the program that containers can reach, pids that are used again, states that
//! were written half, privileges that leaked, and whatever else is handed to a runtime in `config.json`.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use cove_tests::{Bundle, Canary, Cmd, OciRuntime, Scratch, Terminal, sha256_of_file, wait_until};
use rustix::fs::{SealFlags, fcntl_get_seals};
use serde_json::{Value, json};

use crate::lifecycle::{cgroups, is_alive, sweep};

#[test]
fn what_waits_in_the_container_is_a_sealed_copy() {
    let runtime = OciRuntime::under_test();
    let container = runtime.create(&Bundle::sleeper());
    let program = format!("/proc/{}/exe", container.pid());
    let (ours, host) = (fs::metadata(&program).unwrap(), fs::metadata(runtime.program()).unwrap());
    if runtime.is_runc_1_1() {
        // It is mounted read-only for its child, which is not what this test is about.
        return;
    }
    assert_ne!((ours.dev(), ours.ino()), (host.dev(), host.ino()), "it is not the file of the host");
    let seals = fcntl_get_seals(File::open(&program).unwrap()).expect("it is in memory");
    for seal in [SealFlags::WRITE, SealFlags::SHRINK, SealFlags::GROW, SealFlags::SEAL] {
        assert!(seals.contains(seal), "{seals:?}");
    }
}

#[test]
fn the_program_on_the_host_cannot_be_written() {
    let runtime = OciRuntime::under_test();
    let before = sha256_of_file(runtime.program());
    // An entrypoint that is the runtime itself, a library that the image brings, and a process that opens whatever
    // enters the container again and again, to write into it.
    let grab = "while :; do for at in /proc/[0-9]*; do [ $at = /proc/$$ ] || [ $at = /proc/1 ] || \
                { echo evil >$at/exe; } 2>/dev/null; done; done";
    for arguments in [&["/proc/self/exe"][..], &["/entry"], &["/proc/self/exe", "init"]] {
        let bundle = Bundle::new(arguments)
            .file("/entry", 0o755, "#!/proc/self/exe\n")
            .file("/etc/ld.so.preload", 0o644, "/evil.so\n")
            .file("/evil.so", 0o755, "no library\n");
        let bundle = bundle.clone().set("/process/env", json!(["PATH=/bin", "LD_PRELOAD=/evil.so"]));
        let _ = runtime.run(&bundle);
    }
    let container = runtime.start(&Bundle::script(grab).set("/process/env", json!(["PATH=/bin"])));
    for _ in 0..10 {
        let _ = container.exec(&["/bin/true"]);
        let _ = container.exec(&["/proc/self/exe"]);
    }
    drop(container);
    assert_eq!(sha256_of_file(runtime.program()), before);
}

#[test]
fn a_working_folder_that_is_a_descriptor_does_not_lead_out() {
    let runtime = OciRuntime::under_test();
    let script = "pwd; ls ../../../../../.. 2>/dev/null | grep -cx boot; readlink /proc/self/cwd; ls /proc/self/cwd/";
    let container = runtime.start(&Bundle::sleeper());
    let canary = Canary::new();
    let check = |what: String, finished: cove_tests::Finished| {
        let printed = finished.stdout.clone();
        assert!(!printed.contains("unreachable") && !printed.contains("boot"), "{what}: {finished}");
        assert!(!finished.succeeded() || printed.starts_with('/'), "{what}: {finished}");
        assert!(!printed.lines().any(|line| line == "1"), "{what}: {finished}");
    };
    for number in 0..20 {
        for folder in [format!("/proc/self/fd/{number}"), format!("/proc/self/fd/{number}/..")] {
            // The caller has a folder of the host open under every number.
            let bundle = Bundle::script(script).set("/process/cwd", json!(folder));
            bundle.write();
            let open = "for number in $(seq 3 19); do eval \"exec $number<$1\"; done; shift; exec \"$@\"";
            let shell = || Cmd::new("bash").args(["-c", open, "bash"]).arg(canary.path()).arg(runtime.program());
            let run = shell().arg("--root").arg(runtime.root()).args(["run", "--bundle"]).arg(bundle.path());
            check(format!("run in {folder}"), run.arg(OciRuntime::new_id()).run());
            let exec = shell().arg("--root").arg(runtime.root()).args(["exec", "--cwd", &folder, container.id()]);
            check(format!("exec in {folder}"), exec.args(["/bin/sh", "-c", script]).run());
        }
    }
    for folder in
        ["/proc/self/root/..", "/proc/1/root", "/proc/self/cwd", "/proc/thread-self/fd/9", "/dev/fd/8", "/link"]
    {
        let bundle = Bundle::script(script).link("/link", "/proc/self/fd/7").set("/process/cwd", json!(folder));
        check(format!("run in {folder}"), runtime.run(&bundle));
        let exec = container.command(&["exec", "--cwd", folder], &["/bin/sh", "-c", script]);
        check(format!("exec in {folder}"), exec.run());
    }
    canary.assert_untouched("working folders that are descriptors");
}

#[test]
fn nothing_may_be_mounted_over_proc() {
    let runtime = OciRuntime::under_test();
    let volume = Scratch::new("volume");
    for name in ["self/attr", "sys/kernel", "self/fd", "sysrq-trigger"] {
        volume.folder(&format!("fake/{name}"));
    }
    for (at, kind) in [
        ("/proc", "bind"),
        ("/proc", "tmpfs"),
        ("/proc/self", "bind"),
        ("/proc/self/attr", "bind"),
        ("/proc/sys", "tmpfs"),
        ("/proc/sys/kernel", "bind"),
        ("/proc/1/attr", "bind"),
        ("/linked", "bind"),
        ("//proc/./self/../self/attr", "bind"),
    ] {
        let mut bundle = Bundle::script("echo ran").link("/linked", "/proc/self/attr");
        if at == "/proc" {
            bundle = bundle.without_mount("/proc");
        }
        let source = volume.join("fake");
        let source = if kind == "bind" { source.as_path() } else { Path::new("tmpfs") };
        let options: &[&str] = if kind == "bind" { &["bind"] } else { &[] };
        let bundle = bundle.mount(at, kind, source, options);
        let refused = runtime.run(&bundle);
        // The old runc looks at bind mounts only.
        if kind == "tmpfs" && at != "/proc" && runtime.is_runc_1_1() {
            continue;
        }
        assert!(!refused.succeeded() && refused.stdout.is_empty(), "{kind} at {at}: {refused}");
        assert_eq!(runtime.remembered(), [""; 0]);
    }
    // The files that lxcfs brings are what may be put there.
    let file = volume.write("meminfo", "MemTotal: 1 kB\n");
    let allowed = Bundle::script("cat /proc/meminfo").mount("/proc/meminfo", "bind", &file, &["bind", "ro"]);
    assert_eq!(runtime.run(&allowed).ok(), "MemTotal: 1 kB");
}

#[test]
fn a_label_that_cannot_be_applied_is_an_error() {
    let runtime = OciRuntime::under_test();
    if Path::new("/sys/kernel/security/apparmor").exists() {
        return;
    }
    let refused = runtime.run(&Bundle::script("echo ran").set("/process/apparmorProfile", json!("some-profile")));
    assert!(!refused.succeeded() && refused.stderr.to_lowercase().contains("apparmor"), "{refused}");
}

#[test]
fn a_pid_that_is_used_again_is_not_killed() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script("while :; do sleep 0.05; done");
    bundle.write();
    // In a pid namespace of its own the next pid can be chosen: a stranger gets the one of a container that has died.
    let script = r#"
        runtime() { "$RUNTIME" --root "$ROOT" "$@"; }
        for verb in "kill NAME KILL" "delete --force NAME" "kill --all NAME KILL" "delete NAME"; do
            runtime run --detach --pid-file "$ROOT.pid" --bundle "$BUNDLE" name </dev/null >/dev/null || exit 90
            pid=$(cat "$ROOT.pid")
            kill -KILL $pid
            while [ -d /proc/$pid ]; do sleep 0.01; wait; done
            tries=0
            until [ "$stranger" = $pid ]; do
                echo $((pid - 1)) >/proc/sys/kernel/ns_last_pid
                sleep 1000 & stranger=$!
                [ $stranger = $pid ] || kill $stranger
                tries=$((tries + 1)); [ $tries -lt 100 ] || exit 91
            done
            runtime state name | grep -q '"status": *"stopped"' || echo "state: $verb"
            runtime ${verb%%NAME*} name ${verb##*NAME} >/dev/null 2>&1
            kill -0 $stranger || echo "killed by $verb"
            kill -KILL $stranger
            runtime delete --force name
        done
        echo END
    "#;
    let command = Cmd::new("unshare").args(["--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", script]);
    let root = runtime.root();
    let finished = command.env("RUNTIME", runtime.program()).env("ROOT", root).env("BUNDLE", bundle.path()).run();
    assert!(finished.stdout == "END\n", "{finished}");
}

#[test]
fn a_runtime_that_is_killed_leaves_what_can_be_deleted() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::sleeper();
    bundle.write();
    // From the very start to well after the end of a `create`.
    for step in 0..30_u64 {
        let id = OciRuntime::new_id();
        let command = runtime.command(["create", "--bundle"]).arg(bundle.path()).arg(&id);
        let mut process = command.start(&runtime.file("killed.out"));
        thread::sleep(Duration::from_micros(step * 1500));
        process.kill9();
        drop(process);
        let deleted = runtime.command(["delete", "--force", &id]).run();
        assert!(deleted.succeeded(), "killed after {} µs: {deleted}", step * 1500);
        let again = runtime.command(["create", "--bundle"]).arg(bundle.path()).arg(&id);
        let again = runtime.finish(&again, &runtime.file("again.out"));
        assert!(again.succeeded() || runtime.is_runc_1_1(), "killed after {} µs: {again}", step * 1500);
        let deleted = runtime.command(["delete", "--force", &id]).run();
        assert!(deleted.succeeded(), "{deleted}");
        let list = runtime.command(["list", "-q"]).run();
        assert!(list.succeeded(), "{list}");
        if !runtime.is_runc_1_1() {
            wait_until("nothing is left", Duration::from_secs(3), || cgroups(&id).is_empty());
        }
        sweep(&id);
    }
}

#[test]
fn a_damaged_record_does_no_harm() {
    let runtime = OciRuntime::under_test();
    for damage in ["", "{", "null", "{\"pid\": 1}", "[]"] {
        let container = runtime.start(&Bundle::sleeper());
        let (pid, folder) = (container.pid(), runtime.root().join(container.id()));
        let records: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .collect();
        assert!(!records.is_empty() || !runtime.is_runc());
        for record in &records {
            fs::write(record, damage).unwrap();
        }
        let state = container.command(&["state"], &[]).run();
        assert!(!state.printed().is_empty());
        let healthy = runtime.start(&Bundle::sleeper());
        let list = runtime.command(["list", "-q"]).run();
        assert!(list.stdout.contains(healthy.id()) || runtime.is_runc_1_1(), "the others are still listed: {list}");
        let _ = container.command(&["delete", "--force"], &[]).run();
        assert!(fs::exists("/proc/1").unwrap() && healthy.status() == "running");
        if is_alive(pid) {
            Cmd::new("kill").args(["-KILL", &pid.to_string()]).ok();
        }
        let id = container.id().to_owned();
        wait_until("it has ended", Duration::from_secs(5), || !is_alive(pid));
        let _ = fs::remove_dir_all(&folder);
        sweep(&id);
    }
}

#[test]
fn what_the_runtime_makes_is_closed_to_others() {
    let runtime = OciRuntime::under_test();
    for mask in ["000", "077"] {
        let bundle = Bundle::script("umask; stat -c %a /made/deep; sleep 1000")
            .mount("/made/deep/at", "tmpfs", "tmpfs", &[])
            .set("/process/user/umask", json!(0o022));
        bundle.write();
        let id = OciRuntime::new_id();
        let script = "umask $0; exec \"$@\"";
        let command =
            Cmd::new("sh").args(["-c", script, mask]).arg(runtime.program()).arg("--root").arg(runtime.root());
        let log = runtime.file("log");
        let command = command.arg("--log").arg(&log).args(["run", "--detach", "--bundle"]).arg(bundle.path()).arg(&id);
        let output = runtime.file("umask.out");
        assert!(runtime.finish(&command, &output).succeeded());
        wait_until("it prints", Duration::from_secs(5), || fs::read_to_string(&output).unwrap().lines().count() == 2);
        // runc makes folders by the umask of its caller.
        let printed = fs::read_to_string(&output).unwrap();
        assert!(printed == "0022\n755\n" || runtime.is_runc(), "umask {mask}: {printed}");
        let open: Vec<_> = open_to_others(&runtime.root().join(&id));
        assert!(open.is_empty(), "umask {mask}: {open:?}");
        assert_eq!(fs::metadata(runtime.root()).unwrap().permissions().mode() & 0o066, 0, "umask {mask}");
        runtime.command(["delete", "--force", &id]).ok();
        let _ = fs::remove_dir(runtime.root());
    }
}

/// What others than the owner may read, write or, folders apart, enter.
fn open_to_others(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |path: &Path| {
        let metadata = path.symlink_metadata().unwrap();
        let closed = if metadata.is_dir() { 0o066 } else { 0o022 };
        if metadata.permissions().mode() & closed != 0 {
            found.push(format!("{} {:o}", path.display(), metadata.permissions().mode()));
        }
    };
    look(folder);
    for entry in fs::read_dir(folder).unwrap() {
        look(&entry.unwrap().path());
    }
    found
}

#[test]
fn the_caller_is_not_changed() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script("true").set("/process/oomScoreAdj", json!(500));
    bundle.write();
    let report = "pwd; umask; cat /proc/self/oom_score_adj; ulimit -n; cat /proc/self/cgroup; readlink /proc/self/ns/*; \
                  sort /proc/self/mountinfo | md5sum";
    let id = OciRuntime::new_id();
    let script = format!(
        "report() {{ {report}; }}; before=$(report); \"$@\" >/dev/null || exit 9; after=$(report); \
         [ \"$before\" = \"$after\" ] || echo \"$before\" and \"$after\""
    );
    // In a mount namespace of its own, for other tests mount too.
    let command = Cmd::new("unshare").args(["--mount", "bash", "-c", &script, "bash"]).arg(runtime.program());
    let command = command.arg("--root").arg(runtime.root()).args(["run", "--bundle"]).arg(bundle.path()).arg(id);
    assert_eq!(command.ok(), "");
}

#[test]
fn annotations_and_labels_are_words_only() {
    let runtime = OciRuntime::under_test();
    let canary = Canary::new();
    let file = canary.path().join("evil").to_string_lossy().into_owned();
    let touch = format!("touch {file}");
    let names = [
        "run.oci.hooks.stderr",
        "run.oci.hooks.stdout",
        "run.oci.seccomp.receiver",
        "run.oci.seccomp_bpf_data",
        "run.oci.handler",
        "run.oci.delegate-cgroup",
        "run.oci.mount_context_type",
        "run.oci.systemd.subgroup",
        "org.criu.config",
        "org.systemd.property.ExecStart",
        "io.katacontainers.config.hypervisor.path",
        "cdi.k8s.io/device",
        "binary://",
        "a\nb",
        "${file}",
    ];
    for value in [file.as_str(), touch.as_str(), "", "../../../../etc/passwd", "%s%n", "$(touch evil)"] {
        let annotations: Value = names.iter().map(|name| ((*name).to_owned(), json!(value))).collect();
        let finished = runtime.run(&Bundle::script("echo ran").set("/annotations", annotations));
        assert_eq!(finished.ok(), "ran", "{value}");
    }
    canary.assert_untouched("annotations");
}

#[test]
fn words_with_control_characters_stay_words() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::new(["/bin/sh", "-c", "printf '%s|' \"$@\"", "sh", "a b", "$(id)", "x\ny", "é", "\u{1}", ""]);
    assert_eq!(runtime.run(&bundle).ok_exactly(), "a b|$(id)|x\ny|é|\u{1}||");
    for (pointer, value) in [
        ("/process/args", json!(["/bin/true", "nul\u{0}inside"])),
        ("/process/env", json!(["A=nul\u{0}inside"])),
        ("/process/cwd", json!("/tmp\u{0}/x")),
        ("/hostname", json!("nul\u{0}")),
    ] {
        let refused = runtime.run(&Bundle::script("echo ran").set(pointer, value));
        assert!(!refused.succeeded() || !refused.stdout.contains("inside"), "{pointer}: {refused}");
    }
    let many: Vec<Value> = (0..2000).map(|number| json!(format!("V{number}={}", "x".repeat(40)))).collect();
    let bundle = Bundle::new(["/bin/sh", "-c", "/bin/env | grep -c ^V"]).set("/process/env", json!(many));
    assert_eq!(runtime.run(&bundle).ok(), "2000");
}

#[test]
fn files_of_users_that_are_none_do_not_hold_the_runtime_up() {
    let runtime = OciRuntime::under_test();
    // Who has no HOME in the environment gets it from the image's /etc/passwd, whatever that is.
    let without_home = || Bundle::script("echo ran").set("/process/env", json!(["PATH=/bin"]));
    let mut cases = vec![
        ("a device without an end", without_home().link("/etc/passwd", "/dev/zero")),
        ("a loop", without_home().link("/etc/passwd", "/etc/passwd")),
        ("a link out", without_home().link("/etc/passwd", "../../../../../../etc/shadow")),
        ("no text", without_home().file("/etc/passwd", 0o644, [0xff_u8, 0, b':', b'\n'].repeat(1000))),
        ("no numbers", without_home().file("/etc/passwd", 0o644, "root:x:99999999999999999999:-1::/evil:/bin/sh\n")),
        ("a folder", without_home().link("/etc/passwd", "/tmp")),
    ];
    let large = without_home();
    File::create(large.inside("/etc/passwd")).unwrap().set_len(1 << 30).unwrap();
    cases.push(("a large file", large));
    let pipe = without_home();
    fs::remove_file(pipe.inside("/etc/passwd")).unwrap();
    Cmd::new("mkfifo").arg(pipe.inside("/etc/passwd")).ok();
    cases.push(("a pipe", pipe));
    for (what, bundle) in cases {
        bundle.write();
        let id = OciRuntime::new_id();
        let run = runtime.command(["run", "--bundle"]).arg(bundle.path()).arg(&id);
        let limited = "ulimit -v 4000000; exec timeout -s KILL 8 \"$@\"";
        let finished = run.wrapped("bash", &["-c", limited, "bash"]).run();
        let _ = runtime.command(["delete", "--force", &id]).run();
        // The old runc waits for somebody to write into the pipe.
        let held_up = finished.code.is_none_or(|code| code == 137);
        assert!(!held_up || runtime.is_runc_1_1(), "{what}: {finished}");
        assert!(finished.stdout.is_empty() || finished.stdout == "ran\n", "{what}: {finished}");
        assert_eq!(cgroups(&id), [""; 0], "{what}");
    }
}

#[test]
fn a_flood_on_the_terminal_takes_no_memory() {
    let runtime = OciRuntime::under_test();
    // Four megabytes without the end of a line, and somebody who reads them slowly.
    let script = "head -c 4000000 /dev/zero | tr '\\0' x; echo; echo done";
    let bundle = Bundle::script(script).set("/process/terminal", json!(true));
    bundle.write();
    let command = runtime.command(["run", "--bundle"]).arg(bundle.path()).arg(OciRuntime::new_id());
    let mut terminal = Terminal::run(&command, 80);
    let (mut peak, id) = (0, terminal.id());
    terminal.wait_until("all of it has come", |shown| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
        peak = peak.max(line.split_whitespace().next().and_then(|size| size.parse::<u64>().ok()).unwrap_or(0));
        shown.ends_with("done\r\n")
    });
    assert!(terminal.wait().success());
    // Go's own memory is most of it with runc.
    let limit = if runtime.is_runc() { 60_000 } else { 8_000 };
    assert!((1..limit).contains(&peak), "{peak} kB");
}

#[test]
fn mount_options_do_not_smuggle_others() {
    let runtime = OciRuntime::under_test();
    let host = Scratch::new("volume");
    for option in ["ro,rshared", "size=1k,mode=777,exec", "context=\"x\"", "lowerdir=/", "\u{0}", "bind,rw"] {
        let bundle = Bundle::script("awk '$5 == \"/at\" {print $4, $6, $7}' /proc/self/mountinfo").mount(
            "/at",
            "bind",
            host.path(),
            &["rbind", option],
        );
        let finished = runtime.run(&bundle);
        assert!(!finished.stdout.contains("shared:"), "{option}: {finished}");
    }
    for (kind, source) in [("overlay", "overlay"), ("ext4", "/dev/vda"), ("nothing", "none"), ("proc", "proc")] {
        let bundle = Bundle::script("ls /at").mount("/at", kind, source, &["lowerdir=/nowhere"]);
        let finished = runtime.run(&bundle);
        assert!(!finished.stdout.contains("boot"), "{kind}: {finished}");
    }
}

#[test]
fn what_the_runtime_prints_of_a_hostile_name_is_one_line_of_json() {
    let runtime = OciRuntime::under_test();
    let log = runtime.file("log.json");
    let bundle = Bundle::new(["/bin/\"}\n{\"level\":\"error\",\"msg\":\"forged\"}"]);
    bundle.write();
    let words = ["--log", log.to_str().unwrap(), "--log-format", "json", "run", "--bundle"];
    runtime.command(words).arg(bundle.path()).arg(OciRuntime::new_id()).fails();
    for line in fs::read_to_string(&log).unwrap().lines() {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_ne!(entry["msg"], "forged");
    }
}

#[test]
fn a_large_configuration_is_read_in_bounded_memory() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script("echo ran").set("/annotations/big", json!("x".repeat(8 << 20)));
    let finished = runtime.run(&bundle);
    assert!(finished.succeeded() || !finished.stderr.is_empty(), "{finished}");
    assert_eq!(runtime.remembered(), [""; 0]);
    // A file without an end is not read for ever.
    let bundle = Bundle::script("true");
    std::os::unix::fs::symlink("/dev/zero", bundle.path().join("config.json")).unwrap();
    let command = runtime.command(["run", "--bundle"]).arg(bundle.path()).arg(OciRuntime::new_id());
    let limited = "ulimit -v 4000000; exec \"$@\"";
    let finished = command.wrapped("bash", &["-c", limited, "bash"]).limit(Duration::from_secs(20)).run();
    assert!(!finished.succeeded());
}
