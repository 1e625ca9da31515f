//! Containers with a terminal, and somebody in front of it.

use cove_tests::{Engine, Terminal};

/// `run -it`: a shell as one knows it.
pub fn run(engine: &Engine) {
    let mut terminal = Terminal::run(&engine.run(&["--rm", "-it"], &["sh"]), 77);
    terminal.wait_for("# ");
    terminal.press("echo $((40 + 2)); tty; stty size\r");
    terminal.wait_for("42\r\n");
    terminal.wait_for("/dev/pts/0\r\n");
    terminal.wait_for("24 77\r\n");
    interrupt(&mut terminal);
    terminal.press("ls -l /dev/console /proc/self/fd/0\r");
    terminal.wait_until("the console is there", |shown| {
        shown.contains("/dev/console") && shown.contains("0 -> /dev/pts/0")
    });
    terminal.press("exit 5\r");
    assert_eq!(terminal.wait().code(), Some(5), "{}", terminal.shown());
}

/// `exec -it` in a container that has no terminal of its own.
pub fn exec(engine: &Engine) {
    engine.run(&["-d", "--name", "quiet"], &["sleep", "1000"]).ok();
    let mut terminal = Terminal::run(&engine.command(["exec", "-it", "-u", "user", "-w", "/tmp", "quiet", "sh"]), 66);
    terminal.wait_for("$ ");
    terminal.press("stty size; id -un; pwd; test -t 0 && echo ye''s\r");
    for text in ["24 66\r\n", "user\r\n", "/tmp\r\n", "yes\r\n"] {
        terminal.wait_for(text);
    }
    interrupt(&mut terminal);
    terminal.press("exit 6\r");
    assert_eq!(terminal.wait().code(), Some(6), "{}", terminal.shown());
    engine.command(["rm", "-f", "quiet"]).ok();
}

/// Ctrl-C ends what runs in the foreground, and not the shell.
fn interrupt(terminal: &mut Terminal) {
    terminal.press("sleep 1000; echo after $?\r");
    terminal.wait_for("sleep 1000; echo after $?");
    terminal.wait_until_quiet();
    terminal.press("\x03");
    terminal.press("\recho sti''ll here\r");
    terminal.wait_for("still here");
}
