//! The public validation programs of runtime-tools, each of which tests an OCI runtime and prints what it found in the
//! Test Anything Protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::{Cmd, Scratch, tool};

/// How long one program may take. The slowest waits 15 seconds for states that never come.
const LIMIT: &str = "60";

/// What one validation program has said about a runtime.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// How many checks it has made.
    pub checks: usize,
    /// The names of those that were `not ok`. A name may stand here more than once.
    pub failed: Vec<String>,
    /// Errors that it has printed without a check that they belong to: the programs for hooks make no checks at all.
    pub complaints: Vec<String>,
    /// Whether it came to its end: it printed its plan, and that agrees with the checks.
    pub complete: bool,
    /// Whether it was ended because it took too long.
    pub timed_out: bool,
    /// Containers and control groups that it or the runtime has left behind.
    pub left: Vec<String>,
    /// Everything printed, for messages.
    pub printed: String,
}

/// The names of all programs.
pub fn validation_programs() -> Vec<String> {
    let entries = fs::read_dir(tool("runtime-tools")).expect("read the folder of the validation programs");
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name != "runtimetest" && !name.ends_with(".tar.gz")).collect();
    names.sort();
    names
}

/// Runs all these programs on a runtime and gives each one's verdict.
///
/// Most of them wait for a state that they ask for once a second, so several run at a time. Those for control groups all
/// use the same two groups: they run one after the other.
pub fn validate(runtime: &Path, programs: &[String]) -> BTreeMap<String, Verdict> {
    let (one_by_one, rest): (Vec<_>, Vec<_>) = programs.iter().partition(|name| uses_named_groups(name));
    let mut work: Vec<Vec<&String>> = rest.into_iter().map(|name| vec![name]).collect();
    // The last is taken first. `delete`, `kill` and `pidfile` take ten seconds and more each.
    work.sort_by_key(|names| ["delete", "kill", "pidfile"].contains(&names[0].as_str()));
    work.push(one_by_one);
    let (work, verdicts) = (Mutex::new(work), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(names) = { work.lock().expect("nobody panics with it").pop() } {
                    for name in names {
                        let verdict = run(runtime, name);
                        verdicts.lock().expect("nobody panics with it").insert(name.clone(), verdict);
                    }
                }
            });
        }
    });
    verdicts.into_inner().expect("nobody panics with it")
}

/// Whether a program puts its containers into control groups with names of its choice, which others choose too.
fn uses_named_groups(program: &str) -> bool {
    program.starts_with("linux_cgroups") || program.starts_with("delete_")
}

/// Runs one program, in a mount namespace and a process namespace of its own: nothing that it starts outlives it, and no
/// mount that a runtime lets out of a container (a shared root file system is among the tests) reaches the machine.
fn run(runtime: &Path, program: &str) -> Verdict {
    let folder = Scratch::new("validation");
    let called = folder.write("runtime", called_through(runtime, folder.path()));
    fs::set_permissions(&called, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("make it executable");
    // The first process of the namespace reaps what containers leave behind, as the machine's does.
    let script = "cd \"$1\"; mount -t proc proc /proc; ./\"$2\" >\"$3/stdout\" 2>\"$3/stderr\"; echo $? >\"$3/code\"
        for container in $(\"$3/runtime\" list --quiet); do
            echo \"$container\" >>\"$3/left\"; \"$3/runtime\" delete --force \"$container\"
        done >/dev/null 2>&1";
    let words =
        ["--signal=KILL", LIMIT, "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh"];
    let command = Cmd::new("timeout").args(words).arg(tool("runtime-tools")).arg(program).arg(folder.path());
    let ended =
        command.env("RUNTIME", &called).env("TMPDIR", folder.folder("tmp")).limit(Duration::from_secs(90)).run();
    let read = |name: &str| String::from_utf8_lossy(&fs::read(folder.join(name)).unwrap_or_default()).into_owned();
    let (stdout, stderr) = (read("stdout"), read("stderr"));
    let mut verdict = parse(&stdout);
    verdict.timed_out = ended.code.is_none();
    verdict.complete &= read("code").trim() == "0";
    verdict.left = read("left").lines().map(|container| format!("container {container}")).collect();
    let groups = remove_groups(&read("created"), uses_named_groups(program));
    verdict.left.extend(groups.into_iter().map(|group| format!("group {}", group.display())));
    verdict.printed = format!("{stdout}{stderr}{}", ended.printed());
    verdict
}

/// A script that calls the runtime with a folder of its own for its state, and writes down which containers it makes.
fn called_through(runtime: &Path, folder: &Path) -> String {
    let (runtime, folder) = (runtime.display(), folder.display());
    format!(
        "#!/bin/sh\nif [ \"$1\" = create ]; then for id; do :; done; echo \"$id\" >>'{folder}/created'; fi\n\
         exec '{runtime}' --root '{folder}/state' \"$@\"\n"
    )
}

/// Removes the control groups that may be left of these containers, and tells which there were; and the named ones, which
/// the programs make themselves.
fn remove_groups(containers: &str, named_too: bool) -> Vec<PathBuf> {
    let names: BTreeSet<_> = containers.lines().filter(|id| id.len() > 30 && !id.contains('/')).collect();
    let named = ["cgrouptest", "testdir/cgrouptest/container", "testdir/cgrouptest", "testdir"];
    let mut left = Vec::new();
    for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        for name in &names {
            left.extend(Some(hierarchy.path().join(name)).filter(|path| fs::remove_dir(path).is_ok()));
        }
        for name in named.iter().filter(|_| named_too) {
            let _ = fs::remove_dir(hierarchy.path().join(name));
        }
    }
    left
}

/// Reads what a program has printed. Checks are lines `ok N - NAME` and `not ok N - NAME`, the plan is `1..N`; what is
/// indented tells more about the check before it.
fn parse(text: &str) -> Verdict {
    let mut verdict = Verdict::default();
    let mut plan = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("not ok ") {
            verdict.failed.push(without_number(name).to_owned());
        }
        if line.starts_with("ok ") || line.starts_with("not ok ") {
            verdict.checks += 1;
        } else if let Some(count) = line.strip_prefix("1..") {
            // One of the programs prints a second, empty plan.
            plan = plan.or_else(|| count.split(' ').next()?.parse::<usize>().ok());
        } else if verdict.checks == 0 && line.trim_start().starts_with("\"error\": \"") {
            verdict.complaints.push(line.trim().to_owned());
        }
    }
    verdict.complete = plan == Some(verdict.checks);
    verdict
}

fn without_number(name: &str) -> &str {
    name.split_once(" - ").map_or(name, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_counted_and_what_is_indented_is_not() {
        let text = "TAP version 13\nok 1 - one\n  ---\n  {\n    \"error\": \"x\"\n  not ok 9 - nested\n  ...\nnot ok 2 - two\n1..2\n";
        let verdict = parse(text);
        assert_eq!((verdict.checks, verdict.complete), (2, true));
        assert_eq!(verdict.failed, ["two"]);
        assert_eq!(verdict.complaints, [""; 0]);
        assert!(!parse("ok 1 - one\n1..2\n").complete, "one is missing");
        assert!(!parse("ok 1 - one\n").complete, "no plan");
        let hooks = parse("  ---\n    \"error\": \"hooks MUST\"\n  ...\n1..0\n");
        assert_eq!((hooks.checks, hooks.complaints.len(), hooks.complete), (0, 1, true));
    }
}
