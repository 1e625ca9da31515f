//! Further processes in a container.

use std::time::Duration;

use cove_tests::{CoveEngine, Terminal, runc_program, wait_until};

#[test]
fn a_process_in_the_background_is_looked_after() {
    background(&CoveEngine::new());
}

#[test]
fn a_process_in_the_background_is_looked_after_on_runc() {
    background(&CoveEngine::new().on(runc_program()));
}

fn background(engine: &CoveEngine) {
    let id = engine.run(["-d", "--name", "one", "box", "sleep", "1000"]).ok();
    assert_eq!(engine.words(["inspect", "--format", "{{json .ExecIDs}}", "one"]).ok(), "null");
    assert_eq!(engine.words(["exec", "-d", "one", "sh", "-c", "sleep 1; exit 9"]).ok(), "");
    let execs = engine.words(["inspect", "--format", "{{index .ExecIDs 0}}", "one"]).ok();
    assert_eq!(execs.len(), 64, "{execs}");
    assert!(engine.words(["top", "one"]).ok().contains("sleep 1"));
    let told = || {
        let events = engine.words(["events", "--since", "1", "--until", "0s", "-f", "event=exec_die"]);
        events.args(["--format", "{{.Actor.Attributes.execID}} {{.Actor.Attributes.exitCode}}"]).ok()
    };
    wait_until("its end is told", Duration::from_secs(30), || !told().is_empty());
    assert_eq!(told(), format!("{execs} 9"));
    assert_eq!(engine.words(["inspect", "--format", "{{json .ExecIDs}}", "one"]).ok(), "null");
    // No signal is held back from it that the monitor holds back.
    let blocked = engine.words(["exec", "one", "grep", "SigBlk", "/proc/self/status"]).ok();
    assert_eq!(blocked.split_whitespace().last(), Some("0000000000000000"));
    let blocked = engine.words(["exec", "one", "grep", "SigBlk", "/proc/1/status"]).ok();
    assert_eq!(blocked.split_whitespace().last(), Some("0000000000000000"));
    // Nobody is left uncollected, in the container or beside it.
    let monitor = engine.words(["inspect", "--format", "{{.State.Pid}}", "one"]).ok();
    let children = cove_tests::Cmd::new("ps").args(["-o", "stat="]).arg(format!("--ppid={}", parent(&monitor))).ok();
    assert_eq!(children.lines().filter(|state| state.starts_with('Z')).count(), 0, "{children}");
    for (command, status, words) in [("nothing", 127, "executable file not found"), ("/etc", 126, "permission denied")]
    {
        let refused = engine.words(["exec", "-d", "one", command]).run();
        assert_eq!(refused.code, Some(status), "{refused}");
        assert!(refused.stderr.contains(words), "{refused}");
    }
    // The container's end is theirs.
    engine.words(["exec", "-d", "one", "sleep", "777"]).ok();
    engine.words(["stop", "-t", "0", "one"]).ok();
    assert!(told().ends_with(" 137"), "{}", told());
    engine.words(["rm", "one"]).ok();
    assert_eq!(engine.leftovers(&[id]), Vec::<String>::new());
}

fn parent(pid: &str) -> String {
    cove_tests::Cmd::new("ps").args(["-o", "ppid=", "-p", pid]).ok().trim().to_owned()
}

#[test]
fn streams_of_a_further_process_are_whole() {
    let engine = CoveEngine::new();
    engine.run(["-d", "--name", "one", "-e", "A=container", "-w", "/data", "box", "sleep", "1000"]).ok();
    let finished = engine.words(["exec", "one", "sh", "-c", "echo out; echo error >&2; exit 42"]).run();
    assert_eq!((finished.code, finished.stdout.as_str(), finished.stderr.as_str()), (Some(42), "out\n", "error\n"));
    let input: String = (0..200_000).map(|number| format!("{number}\n")).collect();
    let expected = cove_tests::Cmd::new("md5sum").input(&input).ok();
    // It hears the end of its input, and answers after that.
    assert_eq!(engine.words(["exec", "-i", "one", "md5sum"]).input(&input).ok(), expected);
    assert_eq!(engine.words(["exec", "one", "wc", "-c"]).input("unseen").ok(), "0");
    let lines = engine.words(["exec", "one", "seq", "1", "500000"]).limit(Duration::from_secs(60)).ok();
    assert_eq!(lines.lines().count(), 500_000);
    let killed = engine.words(["exec", "one", "sh", "-c", "kill -9 $$"]).run();
    assert_eq!(killed.code, Some(137), "{killed}");
    // Whoever keeps its output open is not waited for.
    engine.words(["exec", "one", "sh", "-c", "sleep 888 &"]).limit(Duration::from_secs(30)).ok();

    let file = engine.cove().scratch().write("environment", "B=file\nC=file\n");
    let script = "echo $A $B $C $(pwd) $(id -u):$(id -g)";
    assert_eq!(engine.words(["exec", "one", "sh", "-c", script]).ok(), "container /data 0:0");
    let chosen = engine.words(["exec", "-e", "C=own", "-w", "/tmp", "-u", "user:extra", "--env-file"]);
    assert_eq!(chosen.arg(file).args(["one", "sh", "-c", script]).ok(), "container file own /tmp 1000:2000");
    let capabilities = |options: &[&str]| {
        let words = ["one", "sh", "-c", "grep CapEff /proc/self/status"];
        engine.words(["exec"]).args(options).args(words).ok()
    };
    assert!(capabilities(&[]).ends_with("00000000a80425fb"));
    assert_ne!(capabilities(&["--privileged"]), capabilities(&[]));
    let unknown = engine.words(["exec", "-u", "nobodyelse", "one", "true"]).fails();
    assert!(unknown.contains("unable to find user nobodyelse"), "{unknown}");
}

#[test]
fn a_stopping_container_ends_its_further_processes() {
    let engine = CoveEngine::new();
    // It hears no SIGTERM.
    engine.run(["-d", "--name", "one", "box", "sh", "-c", "trap '' TERM; while :; do sleep 1; done"]).ok();
    let log = engine.cove().scratch().join("stop");
    let stop = engine.words(["stop", "-t", "3", "one"]).start(&log);
    // Until it has ended it takes more.
    let ended = engine.words(["exec", "one", "sleep", "777"]).run();
    assert!(matches!(ended.code, Some(137)), "{ended}");
    drop(stop);
    engine.wait_for_status("one", "Exited");
    assert!(engine.words(["exec", "one", "true"]).fails().contains("is not running"));
}

#[test]
fn keys_leave_a_further_process_running() {
    let engine = CoveEngine::new();
    engine.run(["-d", "--name", "one", "box", "sleep", "1000"]).ok();
    let mut terminal = Terminal::run(&engine.words(["exec", "-it", "one", "sh"]), 97);
    terminal.wait_for("# ");
    terminal.press("stty size; echo made-$((1+1))\r");
    let shown = terminal.wait_for("made-2");
    assert!(shown.contains("24 97"), "{shown:?}");
    terminal.press("sleep 555\r");
    wait_until("it sleeps", Duration::from_secs(30), || engine.words(["top", "one"]).ok().contains("sleep 555"));
    terminal.press("\x10\x11");
    assert_eq!(terminal.wait().code(), Some(0));
    assert!(engine.words(["top", "one"]).ok().contains("sleep 555"));

    let own = engine.words(["exec", "-it", "--detach-keys", "ctrl-x,x", "one", "sh"]);
    let mut terminal = Terminal::run(&own, 80);
    terminal.wait_for("# ");
    terminal.press("sleep 444\r");
    wait_until("it sleeps", Duration::from_secs(30), || engine.words(["top", "one"]).ok().contains("sleep 444"));
    terminal.press("\x18x");
    assert_eq!(terminal.wait().code(), Some(0));
    assert!(engine.words(["top", "one"]).ok().contains("sleep 444"));
    let wrong = engine.words(["exec", "--detach-keys", "ctrl-!", "one", "true"]).fails();
    assert!(wrong.contains("ctrl-!"), "{wrong}");
}
