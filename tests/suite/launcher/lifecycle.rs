//! From `create` to `delete`, and what `state`, `list` and the exit codes say on the way.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use cove_tests::{Bundle, Cmd, OciRuntime, wait_until};
use serde_json::Value;

#[test]
fn a_container_is_created_started_and_deleted() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script("echo has run").set("/annotations/org.example.key", "value".into());
    let container = runtime.create(&bundle);
    let state = container.state();
    assert_eq!(state["id"], container.id());
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], bundle.path().to_str().unwrap());
    assert!(state["ociVersion"].as_str().unwrap().starts_with("1."), "{state}");
    assert_eq!(state["annotations"]["org.example.key"], "value");
    assert!(fs::exists(format!("/proc/{}", state["pid"])).unwrap());
    assert_eq!(container.output(), "", "nothing runs before `start`");

    assert_eq!(container.start().ok(), "");
    container.wait_stopped();
    assert_eq!(container.output(), "has run\n");
    let state = container.state();
    assert!(state["pid"].is_null() || state["pid"] == 0, "a stopped container has no process: {state}");
    assert_eq!(container.command(&["delete"], &[]).ok(), "");
    let gone = container.command(&["state"], &[]).run();
    assert_eq!(gone.code, Some(1));
    assert!(gone.stderr.contains("does not exist"), "{gone}");
    assert_eq!(runtime.remembered(), [""; 0]);
}

#[test]
fn a_container_is_started_once() {
    let runtime = OciRuntime::under_test();
    let container = runtime.start(&Bundle::sleeper());
    assert_eq!(container.status(), "running");
    let again = container.start();
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("cannot start a container in the running state") || again.stderr.contains("already"));
    container.kill("KILL").ok();
    container.wait_stopped();
    assert!(container.start().fails().contains("stopped"));
}

#[test]
fn a_running_container_is_deleted_by_force_only() {
    let runtime = OciRuntime::under_test();
    let container = runtime.start(&Bundle::sleeper());
    let pid = container.pid();
    let refused = container.command(&["delete"], &[]).run();
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("is not stopped"), "{refused}");
    assert_eq!(container.status(), "running");
    container.command(&["delete", "--force"], &[]).ok();
    assert!(!is_alive(pid));
    assert_eq!(runtime.remembered(), [""; 0]);
    // What is not there is no error for `--force`, so that it can be said twice.
    container.command(&["delete", "--force"], &[]).ok();
    let twice = container.command(&["delete"], &[]).run();
    assert!(twice.fails().contains("does not exist"));
}

#[test]
fn a_created_container_is_deleted_by_force_and_killed() {
    let runtime = OciRuntime::under_test();
    let container = runtime.create(&Bundle::sleeper());
    let pid = container.pid();
    container.command(&["delete", "--force"], &[]).ok();
    assert!(!is_alive(pid));

    let container = runtime.create(&Bundle::sleeper());
    container.kill("KILL").ok();
    container.wait_stopped();
    container.command(&["delete"], &[]).ok();
}

#[test]
fn signals_are_sent_by_name_and_by_number() {
    let runtime = OciRuntime::under_test();
    for (signal, last) in [("TERM", "got TERM"), ("SIGUSR1", "got USR1"), ("12", "got USR2"), ("SIGINT", "got INT")] {
        let script = "for s in TERM USR1 USR2 INT; do trap \"echo got $s; exit\" $s; done; echo ready; \
                      while :; do sleep 0.02; done";
        let container = runtime.start(&Bundle::script(script));
        container.wait_output("ready");
        assert_eq!(container.kill(signal).ok(), "");
        container.wait_stopped();
        assert_eq!(container.output(), format!("ready\n{last}\n"));
    }
    let container = runtime.start(&Bundle::sleeper());
    for wrong in ["NOSUCH", "0x9", "999"] {
        let refused = container.kill(wrong).fails();
        assert!(refused.contains("signal"), "kill {wrong}: {refused}");
    }
    assert_eq!(container.status(), "running");
    // A signal that is handled changes nothing in the status.
    container.kill("HUP").ok();
    thread::sleep(Duration::from_millis(100));
    assert_eq!(container.status(), "running");
}

#[test]
fn kill_without_a_signal_is_term() {
    let runtime = OciRuntime::under_test();
    let container =
        runtime.start(&Bundle::script("trap 'echo got TERM; exit' TERM; echo ready; while :; do sleep 0.02; done"));
    container.wait_output("ready");
    container.command(&["kill"], &[]).ok();
    container.wait_stopped();
    assert!(container.output().ends_with("got TERM\n"));
}

#[test]
fn a_stopped_container_is_not_killed() {
    let runtime = OciRuntime::under_test();
    let container = runtime.start(&Bundle::script("exit 0"));
    container.wait_stopped();
    let refused = container.kill("TERM");
    assert_eq!(refused.code, Some(1));
    // containerd looks for either of these.
    let text = refused.stderr.to_lowercase();
    assert!(text.contains("process already finished") || text.contains("container not running"), "{refused}");
    container.command(&["kill", "--all"], &["KILL"]).run();
    let refused = container.script("true");
    assert!(refused.code != Some(0) && refused.stderr.contains("stopped"), "{refused}");
    assert!(container.command(&["pause"], &[]).run().fails().contains("not running"));
}

#[test]
fn kill_all_reaches_every_process() {
    let runtime = OciRuntime::under_test();
    // Without a pid namespace the end of the first process ends nothing else.
    let bundle = Bundle::script("sleep 1000 & sleep 1000 & echo ready; wait").without_namespace("pid");
    let container = runtime.start(&bundle);
    container.wait_output("ready");
    let pids = processes(&container);
    assert_eq!(pids.len(), 3, "{pids:?}");
    container.command(&["kill", "--all"], &["KILL"]).ok();
    wait_until("all processes have ended", Duration::from_secs(10), || !pids.iter().any(|pid| is_alive(*pid)));
    container.command(&["delete"], &[]).ok();
}

#[test]
fn delete_ends_what_the_first_process_left() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script("sleep 1000 & sleep 1000 & echo ready; read line").without_namespace("pid");
    let container = runtime.start(&bundle);
    container.wait_output("ready");
    container.wait_stopped();
    let left: Vec<i32> = processes_of_cgroup(container.id());
    assert_eq!(left.len(), 2, "{left:?}");
    container.command(&["delete", "--force"], &[]).ok();
    wait_until("all processes have ended", Duration::from_secs(10), || !left.iter().any(|pid| is_alive(*pid)));
    assert_eq!(cgroups(container.id()), [""; 0]);
}

#[test]
fn a_name_is_taken_once() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::sleeper();
    let container = runtime.create(&bundle);
    let output = runtime.file("second.out");
    let again = runtime.command(["create", "--bundle"]).arg(bundle.path()).arg(container.id());
    let again = runtime.finish(&again, &output);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("already exists") || again.stderr.contains("given ID already"), "{again}");
    assert_eq!(container.status(), "created", "the first one is not disturbed");
    assert!(container.start().succeeded());
}

#[test]
fn of_creates_at_once_one_wins() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::sleeper();
    bundle.write();
    for _ in 0..5 {
        let id = OciRuntime::new_id();
        let won = thread::scope(|scope| {
            let attempts: Vec<_> = (0..4)
                .map(|number| {
                    let command = runtime.command(["create", "--bundle"]).arg(bundle.path()).arg(&id);
                    let output = runtime.file(&format!("{id}-{number}.out"));
                    let runtime = &runtime;
                    scope.spawn(move || runtime.finish(&command, &output).succeeded())
                })
                .collect();
            attempts.into_iter().map(|attempt| attempt.join().unwrap()).filter(|won| *won).count()
        });
        // runc 1.1 looks first and makes the folder later: with it even several may think that they have won.
        assert!(won == 1 || runtime.is_runc_1_1(), "{won} of 4 creates of one name succeeded");
        if !runtime.is_runc_1_1() {
            let state: Value = serde_json::from_str(&runtime.command(["state", &id]).ok()).unwrap();
            assert_eq!(state["status"], "created");
        }
        let _ = runtime.command(["delete", "--force", &id]).run();
        sweep(&id);
    }
}

#[test]
fn many_containers_start_at_once() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script("echo ran");
    bundle.write();
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let run = runtime.command(["run", "--bundle"]).arg(bundle.path()).arg(OciRuntime::new_id());
                assert_eq!(run.run().ok_exactly(), "ran\n");
            });
        }
    });
    assert_eq!(runtime.remembered(), [""; 0]);
}

#[test]
fn names_that_are_paths_are_refused() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script("echo ran");
    bundle.write();
    for name in ["", ".", "..", "../evil", "a/b", "/absolute", "a b", "a\nb", "é", "a;b", "$(id)"] {
        for verb in ["create", "run"] {
            let command = runtime.command([verb, "--bundle"]).arg(bundle.path()).args(["--", name]);
            let refused = runtime.finish(&command, &runtime.file("refused.out"));
            assert!(!refused.succeeded(), "a container may be called {name:?}: {refused}");
        }
        for verb in ["state", "delete", "kill", "start"] {
            let refused = runtime.command([verb, "--", name]).run();
            assert!(!refused.succeeded(), "{refused}");
        }
    }
    assert!(!runtime.root().parent().unwrap().join("evil").exists());
    assert_eq!(runtime.remembered(), [""; 0]);
}

#[test]
fn the_process_id_is_written_to_a_file() {
    let runtime = OciRuntime::under_test();
    let (file, bundle) = (runtime.file("pid"), Bundle::sleeper());
    let path = file.to_str().unwrap();
    let (container, finished) = runtime.try_create(&bundle, &["--pid-file", path]);
    assert!(finished.succeeded(), "{finished}");
    assert_eq!(fs::read_to_string(&file).unwrap(), container.pid().to_string());
    container.start().ok();

    let second = runtime.file("exec.pid");
    let words = ["exec", "--detach", "--pid-file", second.to_str().unwrap()];
    let command = container.command(&words, &["/bin/sleep", "1000"]);
    let started = runtime.finish(&command, &runtime.file("exec.out"));
    assert!(started.succeeded(), "{started}");
    let pid: i32 = fs::read_to_string(&second).unwrap().parse().unwrap();
    assert!(fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().contains("sleep\u{0}1000"));
}

#[test]
fn list_tells_what_there_is() {
    let runtime = OciRuntime::under_test();
    assert_eq!(runtime.command(["list", "-q"]).ok(), "");
    let bundle = Bundle::sleeper();
    let (created, running) = (runtime.create(&bundle), runtime.start(&bundle));
    let stopped = runtime.start(&Bundle::script("true"));
    stopped.wait_stopped();
    let mut names: Vec<_> = runtime.command(["list", "-q"]).ok().lines().map(str::to_owned).collect();
    names.sort();
    let mut expected = [created.id(), running.id(), stopped.id()];
    expected.sort();
    assert_eq!(names, expected);

    let list: Vec<Value> = serde_json::from_str(&runtime.command(["list", "-f", "json"]).ok()).unwrap();
    let status = |id: &str| list.iter().find(|one| one["id"] == id).map(|one| one["status"].as_str().unwrap()).unwrap();
    assert_eq!([status(created.id()), status(running.id()), status(stopped.id())], ["created", "running", "stopped"]);
    let one = list.iter().find(|one| one["id"] == running.id()).unwrap();
    assert_eq!(one["pid"], running.pid());
    assert_eq!(one["bundle"], bundle.path().to_str().unwrap());
    assert!(one["created"].as_str().unwrap().starts_with("20"), "{one}");

    let table = runtime.command(["list"]).ok();
    let head: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!(table.lines().count(), 4);
}

#[test]
fn ps_lists_the_processes() {
    let runtime = OciRuntime::under_test();
    let container = runtime.start(&Bundle::script("sleep 1000 & echo ready; wait"));
    container.wait_output("ready");
    let pids: Vec<i32> = serde_json::from_str(&container.command(&["ps", "-f", "json"], &[]).ok()).unwrap();
    assert_eq!(pids.len(), 2);
    assert!(pids.contains(&container.pid()));
    let table = container.command(&["ps"], &[]).ok();
    assert!(table.lines().next().unwrap().contains("PID"), "{table}");
    assert_eq!(table.lines().count(), 3, "{table}");
    for pid in pids {
        assert!(table.contains(&pid.to_string()), "{table}");
    }
}

#[test]
fn run_gives_the_exit_code() {
    let runtime = OciRuntime::under_test();
    for code in [0, 1, 3, 126, 127, 255] {
        assert_eq!(runtime.run(&Bundle::script(&format!("exit {code}"))).code, Some(code));
    }
    for (signal, code) in [("KILL", 137), ("SEGV", 139)] {
        // A process that is 1 in its namespace cannot be killed from within.
        let bundle = Bundle::script(&format!("kill -{signal} $$; sleep 5")).without_namespace("pid");
        assert_eq!(runtime.run(&bundle).code, Some(code), "{signal}");
    }
    assert_eq!(runtime.remembered(), [""; 0], "`run` deletes the container");
}

#[test]
fn run_passes_signals_on() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script("trap 'echo got TERM; exit 5' TERM; echo ready; while :; do sleep 0.02; done");
    bundle.write();
    let output = runtime.file("run.out");
    let mut process = runtime.command(["run", "--bundle"]).arg(bundle.path()).arg(OciRuntime::new_id()).start(&output);
    wait_until("it runs", Duration::from_secs(10), || fs::read_to_string(&output).unwrap().contains("ready"));
    let status = process.terminate(Duration::from_secs(10));
    assert_eq!(status.code(), Some(5));
    assert_eq!(fs::read_to_string(&output).unwrap(), "ready\ngot TERM\n");
}

#[test]
fn exec_gives_the_exit_code_and_leaves_the_container_alone() {
    let runtime = OciRuntime::under_test();
    let container = runtime.start(&Bundle::sleeper());
    assert_eq!(container.script("exit 9").code, Some(9));
    assert_eq!(container.script("kill -KILL $$").code, Some(137));
    assert_eq!(container.script("echo out; echo err >&2").ok(), "out");
    let fed = container.command(&["exec"], &["cat"]).input("through\n").run();
    assert_eq!(fed.ok_exactly(), "through\n");
    assert_eq!(container.status(), "running");
}

#[test]
fn exec_before_start_is_possible() {
    let runtime = OciRuntime::under_test();
    let container = runtime.create(&Bundle::sleeper());
    assert_eq!(container.script("echo in a created one").ok(), "in a created one");
    assert_eq!(container.status(), "created");
}

#[test]
fn pause_stops_everything_until_resume() {
    let runtime = OciRuntime::under_test();
    let container = runtime.start(&Bundle::script("while :; do echo tick; sleep 0.02; done"));
    container.wait_output("tick");
    container.command(&["pause"], &[]).ok();
    assert_eq!(container.status(), "paused");
    let before = container.output();
    thread::sleep(Duration::from_millis(200));
    assert_eq!(container.output(), before);
    let start = Instant::now();
    let refused = container.command(&["exec"], &["true"]).limit(Duration::from_secs(5)).run();
    assert!(refused.code != Some(0) && refused.stderr.contains("paused"), "{refused}");
    assert!(start.elapsed() < Duration::from_secs(2), "a refusal is quick");
    assert!(container.command(&["delete"], &[]).run().fails().contains("is not stopped"));
    container.command(&["resume"], &[]).ok();
    wait_until("it goes on", Duration::from_secs(5), || container.output().len() > before.len());
    assert!(container.command(&["resume"], &[]).run().fails().contains("not paused"));
    container.command(&["pause"], &[]).ok();
    let pid = container.pid();
    container.command(&["delete", "--force"], &[]).ok();
    assert!(!is_alive(pid), "a paused container is deleted by force");
    assert_eq!(runtime.remembered(), [""; 0]);
}

#[test]
fn relative_paths_are_those_of_the_caller() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script("echo ran");
    bundle.write();
    let script = "cd \"$1\" && exec \"$2\" --root ./state run --pid-file ./pid relative";
    let program = runtime.program().to_str().unwrap().to_owned();
    let run = Cmd::new("sh").args(["-c", script, "sh"]).arg(bundle.path()).arg(program);
    assert_eq!(run.ok(), "ran");
    assert!(bundle.path().join("pid").exists());
    assert_eq!(fs::read_dir(bundle.path().join("state")).unwrap().count(), 0);
}

/// Whether a process is there and is not dead already.
pub fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !matches!(stat.rsplit(") ").next().and_then(|rest| rest.chars().next()), Some('Z' | 'X')))
}

fn processes(container: &cove_tests::Container<'_>) -> Vec<i32> {
    serde_json::from_str(&container.command(&["ps", "-f", "json"], &[]).ok()).unwrap()
}

/// The control groups, in all hierarchies, that are called like this.
pub fn cgroups(id: &str) -> Vec<String> {
    let found = Cmd::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name"]).arg(format!("*{id}*")).run();
    found.stdout.lines().map(str::to_owned).collect()
}

/// Ends what is in the control groups of a container that its runtime has lost, and removes them.
pub fn sweep(id: &str) {
    let end = Instant::now() + Duration::from_secs(5);
    while !cgroups(id).is_empty() && Instant::now() < end {
        for group in cgroups(id).iter().rev() {
            for pid in fs::read_to_string(format!("{group}/cgroup.procs")).unwrap_or_default().lines() {
                Cmd::new("kill").args(["-KILL", pid]).run();
            }
            let _ = fs::remove_dir(group);
        }
    }
}

fn processes_of_cgroup(id: &str) -> Vec<i32> {
    let folder =
        cgroups(id).into_iter().find(|folder| folder.contains("/pids/") || !folder.contains("/cgroup/unified"));
    let text = fs::read_to_string(format!("{}/cgroup.procs", folder.expect("a control group"))).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn a_waiter_that_was_stopped_does_not_stop_those_who_look() {
    let runtime = OciRuntime::under_test();
    let container = runtime.create(&Bundle::script("echo ran"));
    let pid = container.pid().to_string();
    Cmd::new("kill").args(["-STOP", &pid]).ok();
    // More than wait in the queue of a socket (net.core.somaxconn is 4096, the library's own limit 128).
    for _ in 0..300 {
        assert_eq!(container.status(), "created");
    }
    Cmd::new("kill").args(["-CONT", &pid]).ok();
    container.start().ok();
    container.wait_output("ran");
}
