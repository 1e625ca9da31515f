//! What a process may do and what it sees of itself.

use std::fs;

use cove_tests::console::Console;
use cove_tests::{Bundle, DEFAULT_CAPABILITIES, OciRuntime};
use serde_json::{Value, json};

fn status(bundle: Bundle, field: &str) -> String {
    let script = format!("sed -n 's/^{field}:[[:space:]]*//p' /proc/self/status");
    let bundle = bundle.arguments(["/bin/sh", "-c", &script]);
    OciRuntime::under_test().run(&bundle).ok()
}

/// The bits of capabilities in /proc/PID/status.
fn bits(capabilities: &[u32]) -> String {
    format!("{:016x}", capabilities.iter().fold(0_u64, |all, bit| all | 1 << bit))
}

#[test]
fn docker_s_fourteen_capabilities_and_none_to_inherit() {
    let fourteen = bits(&[29, 0, 1, 3, 4, 5, 27, 10, 13, 31, 6, 8, 7, 18]);
    for (set, expected) in [
        ("CapBnd", &fourteen),
        ("CapEff", &fourteen),
        ("CapPrm", &fourteen),
        ("CapInh", &bits(&[])),
        ("CapAmb", &bits(&[])),
    ] {
        assert_eq!(&status(Bundle::script(""), set), expected, "{set}");
    }
    assert_eq!(DEFAULT_CAPABILITIES.len(), 14);
}

#[test]
fn each_of_the_five_sets_is_what_is_asked() {
    let sets = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SETUID"],
        "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "effective": ["CAP_CHOWN", "CAP_KILL"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"],
    });
    // Not as root: an execve by root fills the sets up again from the bounding set.
    let bundle = || {
        let user = json!({"uid": 1000, "gid": 1000});
        Bundle::script("").set("/process/capabilities", sets.clone()).set("/process/user", user)
    };
    let (kill, chown, raw, setuid) = (5, 0, 13, 7);
    assert_eq!(status(bundle(), "CapBnd"), bits(&[chown, kill, raw, setuid]));
    assert_eq!(status(bundle(), "CapInh"), bits(&[kill]));
    assert_eq!(status(bundle(), "CapAmb"), bits(&[kill]));
    // What an ordinary user keeps over an execve is the ambient set.
    assert_eq!(status(bundle(), "CapPrm"), bits(&[kill]));
    assert_eq!(status(bundle(), "CapEff"), bits(&[kill]));
}

#[test]
fn no_capabilities_at_all() {
    let none = Bundle::script("").capabilities(&[]);
    for set in ["CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(status(none.clone(), set), bits(&[]), "{set}");
    }
}

#[test]
fn a_capability_that_nobody_knows_does_not_give_any() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script("grep CapEff /proc/self/status").capabilities(&["CAP_KILL", "CAP_OF_NOBODY"]);
    let finished = runtime.run(&bundle);
    // Ignored with a warning or refused; in no case something else.
    assert!(!finished.succeeded() || finished.stdout.contains(&bits(&[5])), "{finished}");
}

#[test]
fn ordinary_users_have_no_capabilities() {
    let user = json!({"uid": 1000, "gid": 1000});
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(status(Bundle::script("").set("/process/user", user.clone()), set), bits(&[]), "{set}");
    }
}

#[test]
fn users_and_groups() {
    let user = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 4_000_000]});
    let bundle = || Bundle::script("").set("/process/user", user.clone());
    assert_eq!(status(bundle(), "Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(status(bundle(), "Gid"), "1001\t1001\t1001\t1001");
    let groups = status(bundle(), "Groups");
    let mut groups: Vec<_> = groups.split_whitespace().filter(|group| *group != "1001").collect();
    groups.sort_unstable();
    assert_eq!(groups, ["4000000", "5"]);
    assert_eq!(status(Bundle::script(""), "Groups"), "", "none of the caller's groups come in");
}

#[test]
fn ids_that_are_none_are_refused() {
    let runtime = OciRuntime::under_test();
    let mut taken = Vec::new();
    for user in [
        json!({"uid": 4_294_967_296_u64, "gid": 0}),
        json!({"uid": -1, "gid": 0}),
        json!({"uid": 4_294_967_295_u64, "gid": 0}),
        json!({"uid": 0, "gid": 4_294_967_296_u64}),
        json!({"uid": 0, "gid": 4_294_967_295_u64}),
        json!({"uid": 18_446_744_073_709_551_615_u64, "gid": 0}),
        json!({"uid": "1000", "gid": 0}),
        json!({"uid": 1.5, "gid": 0}),
        json!({"uid": 1000, "gid": 0, "additionalGids": [4_294_967_296_u64]}),
        json!({"uid": 1000, "gid": 0, "additionalGids": [-1]}),
    ] {
        let refused = runtime.run(&Bundle::script("id -u").set("/process/user", user.clone()));
        if refused.succeeded() || !refused.stdout.is_empty() {
            taken.push(format!("{user} runs as {}", refused.stdout));
        }
        assert_eq!(runtime.remembered(), [""; 0], "{user}");
    }
    assert!(taken.is_empty(), "{taken:?}");
}

#[test]
fn umask_and_oom_score() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script("umask; cat /proc/self/oom_score_adj")
        .set("/process/user/umask", json!(0o027))
        .set("/process/oomScoreAdj", json!(321));
    assert_eq!(runtime.run(&bundle).ok(), "0027\n321");
    assert_eq!(runtime.run(&Bundle::script("umask")).ok(), "0022", "the specification's default");
    let before = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    assert_ne!(before.trim(), "321", "the caller's own is not touched");
}

#[test]
fn resource_limits() {
    let runtime = OciRuntime::under_test();
    let limits = json!([
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_NPROC", "soft": 300, "hard": 400},
        {"type": "RLIMIT_STACK", "soft": 4_194_304, "hard": 8_388_608},
    ]);
    let script = "ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -Su; ulimit -Hu; ulimit -Ss; ulimit -Hs";
    let script = script.replace("ulimit -Su", "awk '/Max processes/ {print $3}' /proc/self/limits");
    let script = script.replace("ulimit -Hu", "awk '/Max processes/ {print $4}' /proc/self/limits");
    let bundle = Bundle::script(&script).set("/process/rlimits", limits.clone());
    assert_eq!(runtime.run(&bundle).ok(), "100\n200\n0\n300\n400\n4096\n8192");
    for wrong in [
        json!([{"type": "RLIMIT_NOTHING", "soft": 1, "hard": 1}]),
        json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]),
        json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]),
    ] {
        // runc takes the last of two.
        let twice = wrong.as_array().is_some_and(|list| list.len() == 2);
        let refused = runtime.run(&Bundle::script("true").set("/process/rlimits", wrong));
        assert!(!refused.succeeded() || (twice && runtime.is_runc()), "{refused}");
    }
}

#[test]
fn no_new_privileges() {
    assert_eq!(status(Bundle::script("").set("/process/noNewPrivileges", json!(true)), "NoNewPrivs"), "1");
    assert_eq!(status(Bundle::script("").set("/process/noNewPrivileges", json!(false)), "NoNewPrivs"), "0");
    assert_eq!(status(Bundle::script(""), "NoNewPrivs"), "0");
}

#[test]
fn the_working_folder() {
    let runtime = OciRuntime::under_test();
    assert_eq!(runtime.run(&Bundle::script("pwd").set("/process/cwd", json!("/etc"))).ok(), "/etc");
    let made = Bundle::script("pwd; stat -c %a .").set("/process/cwd", json!("/not/there/yet"));
    assert_eq!(runtime.run(&made).ok(), "/not/there/yet\n755", "a folder that is not there is made");
    let relative = runtime.run(&Bundle::script("pwd").set("/process/cwd", json!("etc")));
    assert!(!relative.succeeded() && relative.stderr.to_lowercase().contains("absolute"), "{relative}");
    let file = runtime.run(&Bundle::script("pwd").set("/process/cwd", json!("/etc/passwd")));
    assert!(!file.succeeded() && file.stderr.contains("not a directory"), "{file}");
    // A folder that only its user may enter: the user's rights count, or root's before they are given up.
    let closed = Bundle::script("pwd")
        .set("/process/cwd", json!("/home/user"))
        .set("/process/user", json!({"uid": 1000, "gid": 1000}));
    fs::create_dir_all(closed.inside("home/user")).unwrap();
    cove_tests::Cmd::new("chown").arg("1000:1000").arg(closed.inside("home/user")).ok();
    cove_tests::Cmd::new("chmod").arg("700").arg(closed.inside("home/user")).ok();
    assert_eq!(runtime.run(&closed).ok(), "/home/user");
}

/// `mkdir` fails with this error number, all else goes.
fn no_mkdir(errno: u32) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno}],
    })
}

#[test]
fn seccomp_is_loaded() {
    let runtime = OciRuntime::under_test();
    let script = "grep -E '^Seccomp(_filters)?:' /proc/self/status; mkdir /new 2>&1; [ -d /new ] || echo none";
    let expected =
        "Seccomp:\t2\nSeccomp_filters:\t1\nmkdir: can't create directory '/new': Operation not supported\nnone";
    for privileges in [Some(true), Some(false), None] {
        for user in [0, 1000] {
            let mut bundle = Bundle::script(script).set("/linux/seccomp", no_mkdir(95));
            bundle = bundle.set("/process/user", json!({"uid": user, "gid": user}));
            if let Some(privileges) = privileges {
                bundle = bundle.set("/process/noNewPrivileges", json!(privileges));
            }
            assert_eq!(runtime.run(&bundle).ok(), expected, "no_new_privs {privileges:?}, user {user}");
        }
    }
}

#[test]
fn seccomp_looks_at_arguments() {
    let runtime = OciRuntime::under_test();
    // personality(0xffffffff) asks, personality(8) is linux32: the profile allows the first only.
    let seccomp = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{
            "names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
            "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}],
        }],
    });
    let script = "trap 'echo USR2' USR2; kill -USR1 $$ 2>/dev/null || echo refused; kill -USR2 $$";
    let bundle = Bundle::script(script).set("/linux/seccomp", seccomp);
    assert_eq!(runtime.run(&bundle).ok(), "refused\nUSR2");
}

#[test]
fn seccomp_that_is_wrong_is_refused() {
    let runtime = OciRuntime::under_test();
    for wrong in [
        json!({"defaultAction": "SCMP_ACT_NOTHING"}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NONE"]}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_MAYBE"}]}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{
            "names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_ODD"}],
        }]}),
    ] {
        let refused = runtime.run(&Bundle::script("echo ran").set("/linux/seccomp", wrong.clone()));
        assert!(!refused.succeeded() && refused.stdout.is_empty(), "{wrong}: {refused}");
    }
}

#[test]
fn a_capability_that_nobody_knows_is_passed_over() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script("grep CapEff /proc/self/status").capabilities(&["CAP_KILL", "CAP_FLY"]);
    let ran = runtime.run(&bundle);
    assert!(ran.succeeded() && ran.stdout.contains("0000000000000020"), "{ran}");
    assert!(ran.stderr.contains("unknown") && ran.stderr.contains("CAP_FLY"), "it is said: {ran}");
}

#[test]
fn whoever_answers_for_seccomp_is_told_before_anything_is_asked() {
    let runtime = OciRuntime::under_test();
    let socket = Console::listen(&runtime.file("listener"));
    let rule = json!({"names": ["setgroups", "capset"], "action": "SCMP_ACT_NOTIFY"});
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule], "listenerPath": socket.path(), "listenerMetadata": "mine"
    });
    let bundle = Bundle::script("echo ran").set("/linux/seccomp", profile);
    std::thread::scope(|scope| {
        let ran = scope.spawn(|| runtime.run(&bundle));
        let (descriptor, state) = socket.receive();
        let state: Value = serde_json::from_str(&state).unwrap();
        assert_eq!((&state["metadata"], &state["fds"]), (&json!("mine"), &json!(["seccompFd"])), "{state}");
        // Nobody answers any more: what is asked about fails, and nothing hangs.
        drop(descriptor);
        let ran = ran.join().unwrap();
        assert!(!ran.succeeded() && !ran.stdout.contains("ran"), "{ran}");
    });
}

#[test]
fn streams_can_be_opened_again_by_their_user() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script("echo out >/dev/stdout; echo err >/dev/stderr").set("/process/user/uid", json!(1234));
    // Pipes, as callers of runtimes mostly have.
    let ran = runtime.run(&bundle);
    assert_eq!((ran.stdout.trim(), ran.stderr.trim()), ("out", "err"), "{ran}");
}
