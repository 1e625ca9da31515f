//! Containers that run to their end.

use std::fs;

use cove_tests::{Engine, Finished};

/// Runs a script that prints something. On a busy machine podman 4.3 loses the output of a container that ends at once,
/// one in some hundred times and with every runtime: then it runs again.
fn said(engine: &Engine, flags: &[&str], script: &str) -> Finished {
    let command = engine.run(&[&["--rm"], flags].concat(), &["sh", "-c", script]);
    let is_empty = |finished: &Finished| finished.succeeded() && finished.printed().is_empty();
    (0..2).find_map(|_| Some(command.run()).filter(|finished| !is_empty(finished))).unwrap_or_else(|| command.run())
}

/// Output, input and exit codes pass through.
pub fn output_and_codes(engine: &Engine) {
    let finished = engine.run(&["--rm"], &["sh", "-c", "echo out; echo err >&2"]).run();
    assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("out\n", "err\n"), "{finished}");
    let echoed = engine.run(&["--rm", "-i"], &["cat"]).input("what was typed\n").run();
    assert_eq!(echoed.stdout, "what was typed\n", "{echoed}");
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("sh -c 'kill -9 $$'; exit $?", 137)] {
        let finished = engine.run(&["--rm"], &["sh", "-c", script]).run();
        assert_eq!(finished.code, Some(code), "{finished}");
    }
    assert_eq!(engine.run(&["--rm"], &["script", "a", "b c"]).ok(), "/bin/script a b c");
    // A long output arrives whole.
    assert_eq!(engine.run(&["--rm"], &["seq", "20000"]).ok().lines().count(), 20_000);
}

/// 127 for what is not there, 126 for what may not be run, with runc's words, which callers know.
pub fn what_cannot_be_run(engine: &Engine) {
    for (command, code, words) in [
        ("missing", 127, "exec: \"missing\": executable file not found in $PATH"),
        ("/bin/missing", 127, "exec: \"/bin/missing\": stat /bin/missing: no such file or directory"),
        ("/bin/plain", 126, "exec: \"/bin/plain\": permission denied"),
        ("plain", 127, "exec: \"plain\": executable file not found in $PATH"),
        // The word for it has changed in runc 1.2.
        ("/folder", 126, "exec: \"/folder\": "),
        // It is found and may be run; that its interpreter is missing shows only when it is started.
        ("orphan", 1, "exec /bin/orphan: no such file or directory"),
    ] {
        let finished = engine.run(&["--rm"], &[command]).run();
        assert_eq!(finished.code, Some(code), "{command}: {finished}");
        // podman takes the message out of the log line of those runtimes only that it knows by name.
        let printed = finished.printed().replace("\\\"", "\"");
        assert!(printed.contains(words), "{command}: not `{words}`: {finished}");
    }
}

/// Environment, working directory, user and names.
pub fn settings(engine: &Engine) {
    let run = |flags: &[&str], script: &str| said(engine, flags, script).ok();
    assert_eq!(run(&["-e", "A=one two", "-e", "B="], "echo \"[$A] [$B] ${B-unset}\""), "[one two] []");
    assert_eq!(run(&["-w", "/tmp"], "pwd"), "/tmp");
    if engine.is_docker() {
        assert_eq!(run(&["-w", "/made/on/the/way"], "pwd"), "/made/on/the/way");
    }
    assert_eq!(run(&[], "id -u; id -g"), "0\n0");
    assert_eq!(run(&["-u", "user"], "id -u; id -g; id -G").replace('\n', " "), "1000 1000 1000 2000");
    assert_eq!(run(&["-u", "4:5"], "id -u; id -g").replace('\n', " "), "4 5");
    assert_eq!(run(&["--group-add", "77"], "id -G").split(' ').next_back(), Some("77"));
    assert_eq!(run(&["--hostname", "somewhere"], "hostname"), "somewhere");
    assert_eq!(run(&["--ulimit", "core=5:6"], "ulimit -S -c; ulimit -H -c").split_whitespace().count(), 2);
    assert_eq!(run(&["--ulimit", "nofile=100:200"], "ulimit -S -n; ulimit -H -n").replace('\n', " "), "100 200");
    assert_eq!(run(&["--sysctl", "net.ipv4.ip_default_ttl=33"], "cat /proc/sys/net/ipv4/ip_default_ttl"), "33");
    assert_eq!(run(&[], "echo $$; ls /proc | grep -c '^[0-9]*$'").lines().next(), Some("1"));
    assert_eq!(run(&[], "ls /proc/self/fd"), "0\n1\n2\n3", "open: the three streams, and the folder itself");
    assert_eq!(run(&["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj"), "500");
}

/// The root file system and what is mounted on it.
pub fn files(engine: &Engine) {
    let run = |flags: &[&str], script: &str| said(engine, flags, script);
    let refused = run(&["--read-only"], "echo x >/data/file");
    assert!(!refused.succeeded() && refused.stderr.contains("Read-only file system"), "{refused}");
    let tmpfs = run(&["--read-only", "--tmpfs", "/data:size=64k"], "echo x >/data/file && df -k /data").ok();
    assert!(tmpfs.contains("tmpfs                       64 "), "{tmpfs}");

    let shared = engine.shared_folder();
    fs::write(shared.join("given"), "from the host").unwrap();
    let volume = |options: &str| format!("{}:/data{options}", shared.display());
    assert_eq!(run(&["-v", &volume("")], "cat /data/given; echo from the container >/data/made").ok(), "from the host");
    assert_eq!(fs::read_to_string(shared.join("made")).unwrap(), "from the container\n");
    let refused = run(&["-v", &volume(":ro")], "cat /data/given; echo x >/data/made");
    assert!(!refused.succeeded() && refused.stderr.contains("Read-only file system"), "{refused}");
    let file = format!("{}:/etc/motd:ro", shared.join("given").display());
    assert_eq!(run(&["-v", &file], "cat /etc/motd").ok(), "from the host");

    assert_eq!(
        run(
            &[],
            "echo x >/dev/null && head -c 3 /dev/zero | wc -c && ls -l /dev/fd/ >/dev/null && stat -c %F /dev/shm"
        )
        .ok(),
        "3\ndirectory"
    );
    assert_eq!(run(&["--shm-size", "1m"], "df -k /dev/shm | tail -1 | awk '{ print $2 }'").ok(), "1024");
    let masked = run(
        &[],
        "cat /proc/timer_list /proc/keys 2>/dev/null | wc -c; ls /sys/firmware | wc -l; echo x >/proc/sys/kernel/hostname",
    );
    assert_eq!(masked.stdout, "0\n0\n", "{masked}");
    assert!(masked.stderr.contains("Read-only file system"), "{masked}");
}

/// Capabilities, seccomp and new privileges, as `/proc/self/status` shows them.
pub fn rights(engine: &Engine) {
    let status = |flags: &[&str]| {
        let text = said(engine, flags, "exec cat /proc/self/status").ok();
        move |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
        }
    };
    let plain = status(&[]);
    assert_eq!((plain("NoNewPrivs"), plain("Seccomp")), ("0".to_owned(), "2".to_owned()));
    let default = "00000000a80425fb";
    assert_eq!((plain("CapEff").as_str(), plain("CapBnd").as_str()), (default, default));
    assert_eq!(plain("CapInh"), "0000000000000000");
    let none = status(&["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]);
    assert_eq!((none("CapEff").as_str(), none("CapBnd").as_str()), ("0000000000000000", "0000000000000000"));
    assert_eq!(none("NoNewPrivs"), "1");
    let one = status(&["--cap-drop", "ALL", "--cap-add", "NET_RAW", "--security-opt", "seccomp=unconfined"]);
    assert_eq!((one("CapEff"), one("Seccomp")), ("0000000000002000".to_owned(), "0".to_owned()));
    let user = status(&["-u", "1000"]);
    assert_eq!((user("CapEff").as_str(), user("CapBnd").as_str()), ("0000000000000000", default));
    // docker's profile forbids this to all who lack CAP_SYS_ADMIN; podman's does not.
    if engine.is_docker() {
        let refused = engine.run(&["--rm"], &["unshare", "-U", "true"]).run();
        assert!(!refused.succeeded() && refused.stderr.contains("Operation not permitted"), "{refused}");
    }
}

/// Limits are there, and they are kept.
pub fn limits(engine: &Engine) {
    let flags = ["--rm", "--memory", "64m", "--pids-limit", "20", "--cpus", "0.5", "--cpu-shares", "512"];
    let files = "memory/memory.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpu/cpu.shares";
    let script = format!("cd /sys/fs/cgroup; cat {files}");
    let shown = engine.run(&flags, &["sh", "-c", &script]).ok();
    assert_eq!(shown.split_whitespace().collect::<Vec<_>>(), ["67108864", "20", "50000", "100000", "512"]);
    let many = engine.run(&flags, &["sh", "-c", "for i in $(seq 30); do sleep 3 & done; wait"]).run();
    assert!(many.stderr.contains("can't fork"), "{many}");
    let greedy = engine
        .run(&["--name", "greedy", "--memory", "16m"], &["sh", "-c", "head -c 64m /dev/zero | tail -c 60m >/dev/null"])
        .run();
    assert_eq!(greedy.code, Some(137), "{greedy}");
    // Devices that were not given cannot be opened, though root may make their files.
    let device = engine.run(&["--rm"], &["sh", "-c", "mknod /data/disk b 254 0 && cat /data/disk"]).run();
    assert!(!device.succeeded() && device.stderr.contains("Operation not permitted"), "{device}");
    let given = engine
        .run(&["--rm", "--device", "/dev/null:/dev/given:r"], &["sh", "-c", "cat /dev/given && echo x >/dev/given"])
        .run();
    assert!(given.stdout.is_empty(), "{given}");
}
