//! One function confines `run` and `exec`: what the two see of themselves is the same, whatever is asked for.

use std::collections::BTreeMap;

use cove_tests::{Bundle, DEFAULT_CAPABILITIES, OciRuntime};
use serde_json::{Value, json};

/// What a process is confined by, a line each: its name, then its value.
const REPORT: &str = r#"
    grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp|Seccomp_filters|Uid|Gid|Groups|Umask):' /proc/self/status
    sed -n 's/^\(Max [a-z ]*[a-z]\) \{2,\}\(.*\)/\1: \2/p' /proc/self/limits
    for name in cgroup ipc mnt net pid user uts time; do echo "namespace $name: $(readlink /proc/self/ns/$name)"; done
    sed 's/^/cgroup: /' /proc/self/cgroup
    echo "label: $(cat /proc/self/attr/current 2>/dev/null)"
    echo "oom: $(cat /proc/self/oom_score_adj)"
    echo "root: $(stat -c %d:%i /)"
    echo "loginuid: $(cat /proc/self/loginuid 2>/dev/null)"
    echo "dumpable: $(stat -c %u /proc/self/stat)"
    for at in /proc/self/fd/*; do if [ -L $at ] && [ ${#at} -lt 16 ]; then echo "descriptor: ${at##*/}"; fi; done
    echo "personality: $(cat /proc/self/personality)"
    echo "signals: $(grep -E '^Sig(Blk|Ign):' /proc/self/status | tr '\n\t' '  ')"
    mkdir /matrix-probe 2>/dev/null && { echo "mkdir: yes"; rmdir /matrix-probe; } || echo "mkdir: no"
"#;

fn configurations() -> Vec<(&'static str, Bundle)> {
    let plain = || Bundle::script("");
    let seccomp = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    });
    let limits = json!([
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_NPROC", "soft": 300, "hard": 400},
    ]);
    let user = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o027});
    let all = |bundle: Bundle| {
        bundle
            .set("/linux/seccomp", seccomp.clone())
            .set("/process/noNewPrivileges", json!(true))
            .set("/process/rlimits", limits.clone())
            .set("/process/user", user.clone())
            .set("/process/oomScoreAdj", json!(100))
            .namespace("cgroup", None)
    };
    let ambient = ["CAP_KILL"];
    let ambient = json!({
        "bounding": DEFAULT_CAPABILITIES, "permitted": DEFAULT_CAPABILITIES, "effective": DEFAULT_CAPABILITIES,
        "inheritable": ambient, "ambient": ambient,
    });
    vec![
        ("docker's defaults", plain()),
        ("seccomp", plain().set("/linux/seccomp", seccomp.clone())),
        (
            "seccomp and privileges that may be had",
            plain().set("/linux/seccomp", seccomp.clone()).set("/process/noNewPrivileges", json!(false)),
        ),
        (
            "seccomp and no new privileges",
            plain().set("/linux/seccomp", seccomp.clone()).set("/process/noNewPrivileges", json!(true)),
        ),
        ("limits", plain().set("/process/rlimits", limits.clone())),
        ("a user", plain().set("/process/user", user.clone())),
        ("no capabilities", plain().capabilities(&[])),
        ("ambient capabilities", plain().set("/process/capabilities", ambient).set("/process/user", user.clone())),
        ("a cgroup namespace", plain().namespace("cgroup", None)),
        ("a user namespace", plain().mapped(300_000)),
        ("no pid namespace", plain().without_namespace("pid")),
        ("everything", all(plain())),
        ("everything in a user namespace", all(plain()).mapped(300_000)),
    ]
}

/// The process that the configuration asks for, with another command.
fn process(bundle: &Bundle) -> Value {
    let mut process = bundle.config()["process"].clone();
    process["args"] = json!(["/bin/sh", "-c", REPORT]);
    process
}

fn parse(report: &str) -> BTreeMap<String, Vec<String>> {
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in report.lines() {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        values.entry(name.to_owned()).or_default().push(value.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    values
}

#[test]
fn run_and_exec_are_confined_alike() {
    let runtime = OciRuntime::under_test();
    for (what, bundle) in configurations() {
        let script = format!("{REPORT}\necho END; while :; do sleep 0.05; done");
        let container = runtime.start(&bundle.clone().arguments(["/bin/sh", "-c", &script]));
        container.wait_output("END\n");
        let first = container.output();
        let ran = parse(first.strip_suffix("END\n").expect("the report ends"));
        assert!(ran.len() > 30, "{what}: a report says a lot: {first}");
        // podman, docker and containerd hand over a whole process, people a command line.
        let with_process = parse(&container.exec_process(&process(&bundle)).ok());
        // The old runc's `exec` raises the soft limit to the hard one, and takes the umask of nobody.
        let files: &[&str] = if runtime.is_runc_1_1() { &["Max open files", "Umask"] } else { &[] };
        assert_same(what, "exec --process", &ran, &with_process, files);
        let user = &bundle.config()["process"]["user"];
        let user = format!("{}:{}", user["uid"], user["gid"]);
        let command = container.command(&["exec", "--user", &user], &["/bin/sh", "-c", REPORT]);
        // What the command line does not say: runc forgets the umask, and nobody gives a user of the command line the
        // groups of the configured one.
        let by_hand: &[&str] = if runtime.is_runc() { &["Groups", "Umask", "Max open files"] } else { &["Groups"] };
        assert_same(what, "exec", &ran, &parse(&command.ok()), by_hand);
    }
}

fn assert_same(
    what: &str,
    verb: &str,
    ran: &BTreeMap<String, Vec<String>>,
    executed: &BTreeMap<String, Vec<String>>,
    besides: &[&str],
) {
    let names: Vec<_> = ran.keys().chain(executed.keys()).filter(|name| !besides.contains(&name.as_str())).collect();
    let different: Vec<_> = names
        .into_iter()
        .filter(|name| ran.get(*name) != executed.get(*name))
        .map(|name| format!("{name}: run {:?}, {verb} {:?}", ran.get(name), executed.get(name)))
        .collect();
    assert!(different.is_empty(), "{what}: {different:#?}");
}

#[test]
fn the_matrix_sees_what_was_asked_for() {
    let runtime = OciRuntime::under_test();
    let (_, bundle) = configurations().into_iter().find(|(what, _)| *what == "everything").unwrap();
    let report = parse(&runtime.run(&bundle.arguments(["/bin/sh", "-c", REPORT])).ok());
    let value = |name: &str| report.get(name).map(|values| values.join(",")).unwrap_or_default();
    assert_eq!(value("Seccomp"), "2");
    assert_eq!(value("Seccomp_filters"), "1");
    assert_eq!(value("NoNewPrivs"), "1");
    assert_eq!(value("Max open files"), "100 200 files");
    assert_eq!(value("Uid"), "1000 1000 1000 1000");
    assert_eq!(value("CapBnd"), "00000000a80425fb");
    assert_eq!(value("CapInh"), "0000000000000000");
    assert_eq!(value("mkdir"), "no");
    assert_eq!(value("oom"), "100");
    assert_eq!(value("Umask"), "0027");
}
