//! Very long logs.

use std::process::Stdio;
use std::time::Duration;

use super::Remains;
use crate::{Cmd, CoveEngine};

/// Has a container write so many bytes in lines of 1,000, with nobody who reads, and compares what `logs` gives with them.
///
/// # Panics
/// If a byte is missing or in another place.
pub fn log_of(engine: &CoveEngine, bytes: u64) {
    let remains = Remains::of(engine);
    let script = format!("yes \"$(printf '%0992d' 0)\" | cat -n | head -c {bytes}");
    let words = ["-d", "--name", "writes", "--network", "none", "--cgroup-parent", remains.parent()];
    let limit = Duration::from_secs(120 + bytes / 5_000_000);
    // All of it is kept: the log of a container has a cap otherwise.
    engine.run(words).args(["--log-opt", "max-size=-1", "box", "sh", "-c", &script]).ok();
    assert_eq!(engine.words(["wait", "writes"]).limit(limit).ok(), "0");
    // Sums, for a gigabyte is not held here.
    let sum = |mut command: std::process::Command| {
        let mut source = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
        let output = source.stdout.take().expect("piped");
        let sum = std::process::Command::new("cksum").stdin(output).output().expect("cksum");
        assert!(source.wait().expect("it ends").success());
        String::from_utf8_lossy(&sum.stdout).into_owned()
    };
    let expected = sum(Cmd::new("busybox").args(["sh", "-c", &script]).command());
    assert_eq!(sum(engine.words(["logs", "writes"]).command()), expected);
    engine.words(["rm", "writes"]).ok();
    remains.assert_none();
}
