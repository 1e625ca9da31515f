//! Commands that cannot be run: the words that podman, docker and containerd look for; and what can be run.

use std::os::unix::ffi::OsStrExt;

use cove_tests::{Bundle, Cmd, OciRuntime};
use serde_json::json;

/// Each kind of command that cannot be run, and what is said of it.
fn cases() -> Vec<(&'static str, Bundle, &'static str)> {
    let plain = || Bundle::new(["/bin/nothing-there"]);
    vec![
        ("no such path", plain(), "no such file or directory"),
        ("no such name", plain().arguments(["nothing-there"]), "executable file not found in $PATH"),
        (
            "not executable",
            plain().file("/bin/data", 0o644, "#!/bin/sh\n").arguments(["/bin/data"]),
            "permission denied",
        ),
        ("not executable, by name", plain().file("/bin/data", 0o644, "#!/bin/sh\n").arguments(["data"]), "$PATH"),
        // "is a directory" of a newer runc, "permission denied" of an older: docker knows both.
        ("a folder", plain().arguments(["/etc"]), ""),
        (
            "no interpreter",
            plain().file("/bin/script", 0o755, "#!/bin/none\n").arguments(["/bin/script"]),
            "no such file or directory",
        ),
        ("no format", plain().file("/bin/text", 0o755, "neither\n").arguments(["/bin/text"]), "exec format error"),
        ("no words", plain().arguments([""; 0]), "args"),
    ]
}

#[test]
fn run_and_create_say_why_a_command_cannot_run() {
    let runtime = OciRuntime::under_test();
    for (what, bundle, words) in cases() {
        let failed = runtime.run(&bundle);
        let folder = ["permission denied", "is a directory"].iter().any(|words| failed.stderr.contains(words));
        assert!(what != "a folder" || folder, "{failed}");
        assert!(failed.code != Some(0) && failed.stderr.contains(words), "{what}: {failed}");
        assert_eq!(runtime.remembered(), [""; 0], "{what}");
    }
    // What can be seen before `start` fails in `create`.
    for (what, bundle, words) in cases().drain(..2) {
        let (_container, failed) = runtime.try_create(&bundle, &[]);
        assert!(failed.code == Some(1) && failed.stderr.contains(words), "{what}: {failed}");
        assert_eq!(runtime.remembered(), [""; 0], "{what}");
    }
}

#[test]
fn exec_says_why_a_command_cannot_run() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::sleeper().file("/bin/data", 0o644, "#!/bin/sh\n");
    let container = runtime.start(&bundle);
    for (command, words) in [
        ("/bin/nothing-there", "no such file or directory"),
        ("nothing-there", "executable file not found in $PATH"),
        ("/bin/data", "permission denied"),
        ("/etc", ": "),
    ] {
        let failed = container.exec(&[command]);
        assert!(failed.code == Some(255) && failed.stderr.contains(words), "{command}: {failed}");
    }
    assert_eq!(container.status(), "running");
}

#[test]
fn scripts_run_and_know_their_name() {
    let runtime = OciRuntime::under_test();
    let script = "#!/bin/sh\necho $0 \"$@\"\nls -1 /proc/self/fd | grep -c .\n";
    let bundle = Bundle::new(["/bin/script", "one", "two words"]).file("/bin/script", 0o755, script);
    // ls has the folder open too.
    assert_eq!(runtime.run(&bundle).ok(), "/bin/script one two words\n4");
    let by_name = bundle.arguments(["script", "by name"]);
    assert_eq!(runtime.run(&by_name).ok(), "/bin/script by name\n4");
}

#[test]
fn a_program_that_only_its_owner_may_run() {
    let runtime = OciRuntime::under_test();
    for mode in [0o700, 0o750, 0o100] {
        let script = "#!/bin/sh\necho ran\n";
        // A script must be readable for its interpreter; root reads everything.
        let bundle = Bundle::new(["/bin/script"]).file("/bin/script", mode, script);
        assert_eq!(runtime.run(&bundle).ok(), "ran", "mode {mode:o}");
    }
    let bundle = Bundle::new(["/bin/script"]).file("/bin/script", 0o700, "#!/bin/sh\necho ran\n");
    let refused = runtime.run(&bundle.set("/process/user", json!({"uid": 1000, "gid": 1000})));
    assert!(!refused.succeeded() && refused.stderr.to_lowercase().contains("permission denied"), "{refused}");
}

#[test]
fn the_path_of_the_container_is_searched() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::new(["tool"])
        .file("/first/tool", 0o755, "#!/bin/sh\necho first\n")
        .file("/second/tool", 0o755, "#!/bin/sh\necho second\n")
        .set("/process/env", json!(["PATH=/none:/second:/first"]));
    assert_eq!(runtime.run(&bundle).ok(), "second");
    // Without PATH a path is needed, and is enough.
    let without = Bundle::new(["/bin/sh", "-c", "echo ran"]).set("/process/env", json!(["A=b"]));
    assert_eq!(runtime.run(&without).ok(), "ran");
}

#[test]
fn a_command_is_found_from_the_working_folder() {
    let runtime = OciRuntime::under_test();
    let script = "#!/bin/sh\npwd\n";
    let bundle = Bundle::new(["./tool"]).file("/place/tool", 0o755, script).set("/process/cwd", json!("/place"));
    assert_eq!(runtime.run(&bundle).ok(), "/place");
}

#[test]
fn the_environment_is_what_is_asked_in_that_order() {
    let runtime = OciRuntime::under_test();
    let environment = json!(["PATH=/bin", "Z=1", "A=two words", "M=a=b", "EMPTY=", "HOME=/somewhere"]);
    let bundle = Bundle::new(["/bin/env"]).set("/process/env", environment);
    assert_eq!(runtime.run(&bundle).ok(), "PATH=/bin\nZ=1\nA=two words\nM=a=b\nEMPTY=\nHOME=/somewhere");
    let without_home = Bundle::new(["/bin/env"]).set("/process/env", json!(["PATH=/bin"]));
    let printed = runtime.run(&without_home).ok();
    assert!(printed.contains("HOME=/root"), "the home of the user is set: {printed}");
}

#[test]
fn an_environment_of_the_caller_that_is_not_text_does_no_harm() {
    let runtime = OciRuntime::under_test();
    let bundle = Bundle::new(["/bin/env"]).set("/process/env", json!(["PATH=/bin", "HOME=/"]));
    bundle.write();
    let value = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    let command: Cmd = runtime.command(["run", "--bundle"]).arg(bundle.path()).arg(OciRuntime::new_id());
    assert_eq!(command.env("NOT_TEXT", value).ok(), "PATH=/bin\nHOME=/");
}
