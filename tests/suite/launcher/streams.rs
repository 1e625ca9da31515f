//! Standard streams, terminals, descriptors and the log.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use cove_tests::console::{Console, press, read_terminal};
use cove_tests::{Bundle, Cmd, OciRuntime, Terminal, wait_until};
use serde_json::{Value, json};

/// Prints the descriptors that the shell itself has: `ls` would show its own too.
const DESCRIPTORS: &str = "for at in /proc/self/fd/*; do if [ -L $at ]; then echo ${at##*/}; fi; done";

#[test]
fn streams_pass_through() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script("cat; echo on err >&2");
    bundle.write();
    let command = runtime.command(["run", "--bundle"]).arg(bundle.path()).arg(OciRuntime::new_id());
    let text = "x".repeat(300_000) + "\n";
    let finished = command.input(&text).run();
    assert_eq!(finished.stderr, "on err\n");
    assert!(finished.ok_exactly() == text);
}

#[test]
fn nothing_but_the_streams_is_open_inside() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script(DESCRIPTORS);
    bundle.write();
    let id = OciRuntime::new_id();
    // Whatever the caller left open must not come in: here a folder and a file of the host as 3, 7 and 11.
    let script = "exec 3</ 7</etc/hostname 11<>/dev/null; exec \"$@\"";
    let run = Cmd::new("bash").args(["-c", script, "bash"]).arg(runtime.program());
    let run = run.arg("--root").arg(runtime.root()).args(["run", "--bundle"]).arg(bundle.path()).arg(&id);
    assert_eq!(run.ok(), "0\n1\n2");

    let container = runtime.start(&Bundle::sleeper());
    let exec = Cmd::new("bash").args(["-c", script, "bash"]).arg(runtime.program()).arg("--root").arg(runtime.root());
    assert_eq!(exec.args(["exec", container.id(), "/bin/sh", "-c", DESCRIPTORS]).ok(), "0\n1\n2");
}

#[test]
fn the_first_process_has_no_descriptor_of_the_runtime() {
    let runtime = OciRuntime::under_test();
    for options in [&[][..], &["--pid-file"]] {
        let file = runtime.file("pid");
        let options: Vec<&str> =
            options.iter().copied().chain(options.iter().map(|_| file.to_str().unwrap())).collect();
        let (container, finished) = runtime.make("create", &Bundle::sleeper(), &options);
        assert!(finished.succeeded(), "{finished}");
        container.start().ok();
        wait_until("the shell runs", Duration::from_secs(5), || {
            fs::read_link(format!("/proc/{}/exe", container.pid())).is_ok_and(|program| program.ends_with("busybox"))
        });
        let mut open: Vec<String> = fs::read_dir(format!("/proc/{}/fd", container.pid()))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            // The shell keeps what it reads from at 10 and above.
            .filter(|name| name.len() < 2)
            .collect();
        open.sort();
        assert_eq!(open, ["0", "1", "2"]);
    }
}

#[test]
fn descriptors_are_preserved_when_asked() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script(&format!("{DESCRIPTORS}; cat <&3; cat <&4"));
    bundle.write();
    let (three, four) = (runtime.file("three"), runtime.file("four"));
    fs::write(&three, "in three\n").unwrap();
    fs::write(&four, "in four\n").unwrap();
    let script = "exec 3<\"$1\" 4<\"$2\" 5</; shift 2; exec \"$@\"";
    let run = |verb: &[&str], rest: &[&str]| {
        let command = Cmd::new("bash").args(["-c", script, "bash"]).arg(&three).arg(&four).arg(runtime.program());
        command.arg("--root").arg(runtime.root()).args(verb).args(["--preserve-fds", "2"]).args(rest).ok()
    };
    let expected = "0\n1\n2\n3\n4\nin three\nin four";
    let path = bundle.path().to_str().unwrap();
    assert_eq!(run(&["run", "--bundle", path], &[&OciRuntime::new_id()]), expected);
    let container = runtime.start(&Bundle::sleeper());
    let inside = format!("{DESCRIPTORS}; cat <&3; cat <&4");
    assert_eq!(run(&["exec"], &[container.id(), "/bin/sh", "-c", &inside]), expected);
}

#[test]
fn a_terminal_is_sent_over_the_console_socket() {
    let runtime = OciRuntime::under_test();
    let console = Console::listen(&runtime.file("console"));
    let script = "[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all three; tty; stty size; stat -c %t:%T /dev/console >/dev/null; \
                  [ -c /dev/console ] && echo console; read line; echo got $line";
    let bundle = Bundle::script(script)
        .set("/process/terminal", json!(true))
        .set("/process/consoleSize", json!({"height": 33, "width": 101}));
    let (container, finished) = runtime.try_create(&bundle, &["--console-socket", console.path()]);
    assert!(finished.succeeded(), "{finished}");
    let (mut terminal, name) = console.receive();
    assert!(!name.is_empty(), "the terminal's name is sent with it");
    container.start().ok();
    // Pressed before, its echo would stand between the lines.
    let mut before = String::new();
    let mut piece = [0; 256];
    while !before.contains("console\r\n") {
        let count = terminal.read(&mut piece).unwrap();
        before.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    press(&mut terminal, "hello\r");
    let shown = (before + &read_terminal(&mut terminal)).replace('\r', "");
    assert!(shown.contains("all three\n/dev/pts/0\n33 101\nconsole\n"), "{shown}");
    assert!(shown.contains("got hello\n"), "{shown}");
    container.wait_stopped();
}

#[test]
fn exec_gets_a_terminal_too() {
    let runtime = OciRuntime::under_test();
    let container = runtime.start(&Bundle::sleeper());
    let console = Console::listen(&runtime.file("console"));
    let options = ["exec", "--tty", "--detach", "--console-socket", console.path()];
    let command = container.command(&options, &["/bin/sh", "-c", "tty; [ -t 0 ] && echo yes"]);
    let started = runtime.finish(&command, &runtime.file("exec.out"));
    assert!(started.succeeded(), "{started}");
    let (mut terminal, _) = console.receive();
    let shown = read_terminal(&mut terminal).replace('\r', "");
    assert!(shown.contains("/dev/pts/0\nyes\n"), "{shown}");
}

#[test]
fn run_with_a_terminal_in_front() {
    let runtime = OciRuntime::under_test();
    let bundle =
        Bundle::script("tty; stty size; read line; echo got $line; exit 4").set("/process/terminal", json!(true));
    bundle.write();
    let command = runtime.command(["run", "--bundle"]).arg(bundle.path()).arg(OciRuntime::new_id());
    let mut terminal = Terminal::run(&command, 97);
    terminal.wait_for("/dev/pts/0");
    terminal.wait_for("24 97");
    terminal.press("hello\r");
    terminal.wait_for("got hello");
    assert_eq!(terminal.wait().code(), Some(4));
    assert!(terminal.echoes(), "the caller's terminal is as before");
}

#[test]
fn interrupts_reach_the_process_on_the_terminal() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::script("trap 'echo interrupted; exit 6' INT; echo ready; while :; do sleep 0.02; done")
        .set("/process/terminal", json!(true));
    bundle.write();
    let command = runtime.command(["run", "--bundle"]).arg(bundle.path()).arg(OciRuntime::new_id());
    let mut terminal = Terminal::run(&command, 80);
    terminal.wait_for("ready");
    terminal.press("\x03");
    terminal.wait_for("interrupted");
    assert_eq!(terminal.wait().code(), Some(6));
}

#[test]
fn a_terminal_and_its_socket_belong_together() {
    let runtime = OciRuntime::under_test();
    let with_terminal = Bundle::script("true").set("/process/terminal", json!(true));
    let (_one, refused) = runtime.try_create(&with_terminal, &[]);
    assert!(refused.code == Some(1) && refused.stderr.contains("console socket"), "{refused}");
    let console = Console::listen(&runtime.file("console"));
    let (_two, refused) = runtime.try_create(&Bundle::script("true"), &["--console-socket", console.path()]);
    assert!(refused.code == Some(1) && refused.stderr.contains("console socket"), "{refused}");
    let nowhere = runtime.file("nowhere");
    let (_three, refused) = runtime.try_create(&with_terminal, &["--console-socket", nowhere.to_str().unwrap()]);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert_eq!(runtime.remembered(), [""; 0]);
}

#[test]
fn errors_go_to_the_log_as_json() {
    let runtime = OciRuntime::under_test();
    let log = runtime.file("log.json");
    let bundle = Bundle::new(["/bin/nothing-there"]);
    bundle.write();
    let words = ["--log", log.to_str().unwrap(), "--log-format", "json", "run", "--bundle"];
    let failed = runtime.command(words).arg(bundle.path()).arg(OciRuntime::new_id()).run();
    assert!(!failed.succeeded());
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    let error = lines.iter().rfind(|line| line["level"] == "error").expect("an error is logged");
    assert!(error["msg"].as_str().unwrap().contains("no such file or directory"), "{error}");
    assert!(error["time"].as_str().unwrap().contains('T'), "{error}");
    assert!(failed.stderr.contains("no such file or directory"), "the caller reads it too: {failed}");

    // A further run appends.
    runtime.command(["--log", log.to_str().unwrap(), "--log-format", "json", "state", "nobody"]).fails();
    let more = fs::read_to_string(&log).unwrap();
    assert!(more.starts_with(&text) && more.len() > text.len());
    assert!(more.lines().last().unwrap().contains("does not exist"));
}

#[test]
fn a_log_as_text_and_with_debug() {
    let runtime = OciRuntime::under_test();
    let log = runtime.file("log.text");
    let bundle = Bundle::script("echo ran");
    bundle.write();
    let words = ["--debug", "--log", log.to_str().unwrap(), "run", "--bundle"];
    let run = runtime.command(words).arg(bundle.path()).arg(OciRuntime::new_id()).run();
    assert_eq!(run.ok_exactly(), "ran\n");
    runtime.command(["--log", log.to_str().unwrap(), "state", "nobody"]).fails();
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("does not exist"), "{text}");
    assert!(text.contains("level=debug"), "{text}");
}

#[test]
fn a_log_that_cannot_be_written_is_an_error() {
    let runtime = OciRuntime::under_test();
    let words = ["--log", "/nowhere/at/all/log", "list"];
    let refused = runtime.command(words).run();
    assert!(!refused.succeeded() && refused.stderr.contains("no such file or directory"), "{refused}");
}

#[test]
fn a_container_outlives_the_runtime_and_its_streams() {
    let runtime = OciRuntime::under_test();
    let container = runtime.start(&Bundle::script("sleep 0.2; echo late; echo late >&2"));
    container.wait_stopped();
    assert_eq!(container.output(), "late\nlate\n");
}

#[test]
fn a_descriptor_of_the_process_is_sent() {
    let runtime = OciRuntime::under_test();
    if runtime.is_runc_1_1() {
        return;
    }
    let socket = Console::listen(&runtime.file("pidfd"));
    let pid_of = |file: &fs::File| {
        use std::os::fd::AsRawFd;
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).unwrap();
        info.lines().find_map(|line| line.strip_prefix("Pid:")).expect("a pidfd").trim().parse::<i32>().unwrap()
    };
    let (container, finished) = runtime.try_create(&Bundle::sleeper(), &["--pidfd-socket", socket.path()]);
    assert!(finished.succeeded(), "{finished}");
    assert_eq!(pid_of(&socket.receive().0), container.pid());
    container.start().ok();
    let file = runtime.file("exec.pid");
    let options = ["exec", "--detach", "--pidfd-socket", socket.path(), "--pid-file", file.to_str().unwrap()];
    let command = container.command(&options, &["/bin/sleep", "100"]);
    assert!(runtime.finish(&command, &runtime.file("exec.out")).succeeded());
    assert_eq!(pid_of(&socket.receive().0).to_string(), fs::read_to_string(file).unwrap());
}

#[test]
fn what_the_container_does_not_read_holds_up_neither_output_nor_signals() {
    let runtime = OciRuntime::under_test();
    let script = "stty raw -echo; trap 'echo heard; exit 5' USR1; echo ready; while :; do sleep 0.02; echo more; done";
    let bundle = Bundle::script(script).set("/process/terminal", json!(true));
    bundle.write();
    let command = runtime.command(["run", "--bundle"]).arg(bundle.path()).arg(OciRuntime::new_id());
    let mut terminal = Terminal::run(&command, 80);
    terminal.wait_for("ready");
    // Terminals hold 8 to 12 kB each: more than one, less than the two and what lies between.
    for _ in 0..12 {
        terminal.press(&"x".repeat(2000));
    }
    let before = terminal.shown().len();
    terminal.wait_until("the output goes on", |shown| shown.len() > before + 100);
    Cmd::new("kill").args(["-USR1", &terminal.id().to_string()]).ok();
    terminal.wait_for("heard");
    assert_eq!(terminal.wait().code(), Some(5));
}

#[test]
fn output_that_nobody_reads_holds_up_no_signals() {
    let runtime = OciRuntime::under_test();
    if runtime.is_runc() {
        // It wants a terminal of the caller's for a container with one.
        return;
    }
    let bundle = Bundle::script("trap 'exit 5' USR1; while :; do echo line of the container; done")
        .set("/process/terminal", json!(true));
    bundle.write();
    let id = OciRuntime::new_id();
    let mut run = Command::new(runtime.program())
        .arg("--root")
        .arg(runtime.root())
        .args(["run", "--bundle"])
        .arg(bundle.path())
        .arg(&id)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Until everything between is full.
    let state = || runtime.command(["state", &id]).run().stdout;
    wait_until("it runs", Duration::from_secs(10), || state().contains("running"));
    std::thread::sleep(Duration::from_millis(500));
    runtime.command(["kill", &id, "KILL"]).ok();
    wait_until("it has ended", Duration::from_secs(10), || !state().contains("running"));
    // What it has printed last is still for whoever reads; who asks for the end gets it.
    Cmd::new("kill").args(["-TERM", &run.id().to_string()]).ok();
    wait_until("run ends", Duration::from_secs(10), || run.try_wait().unwrap().is_some());
}
