//! The order of system calls: blob durable, its name durable, row committed, then the answer.

use std::fs;
use std::time::Duration;

use cove_tests::{Cmd, Noise, Scratch, Server, sha256, wait_until};
use rustix::process::Signal;

/// Calls that end with success, in order, as `NAME(ARGUMENTS`; a call that strace shows in two lines counts from
/// its second one, except for writes: what is written may be out before the call returns.
fn calls(trace: &str) -> Vec<String> {
    let mut unfinished: Vec<(&str, &str)> = Vec::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(' ').map(|(thread, call)| (thread, call.trim_start())) else {
            continue;
        };
        if let Some(begun) = call.strip_suffix(" <unfinished ...>") {
            if begun.contains("sync(") { unfinished.push((thread, begun)) } else { calls.push(begun.to_owned()) }
        } else if call.starts_with("<... ") {
            let Some(at) = unfinished.iter().position(|(other, _)| *other == thread) else { continue };
            let (_, begun) = unfinished.remove(at);
            assert!(call.ends_with("= 0"), "a sync failed: {line}");
            calls.push(begun.to_owned());
        } else {
            calls.push(call.to_owned());
        }
    }
    calls
}

#[test]
fn a_blob_is_acknowledged_after_its_bytes_its_name_and_its_row_are_synced() {
    let server = Server::start();
    let registry = server.as_admin();
    registry.push_blob("library/warm", b"the password is known now, and the connection is there");
    let bytes = Noise::bytes(3_000_000);
    let location = registry.begin_upload("library/traced");

    let scratch = Scratch::new("strace");
    let trace = scratch.join("trace");
    let mut strace = Cmd::new("strace")
        .args(["-f", "-y", "-s", "40", "-e", "trace=fsync,fdatasync,pwrite64,write,writev,sendto,sendmsg", "-o"])
        .arg(&trace)
        .args(["-p", &server.id().to_string()])
        .start(&scratch.join("log"));
    wait_until("strace has attached itself", Duration::from_secs(20), || strace.log().contains("attached"));
    let digest = sha256(&bytes);
    registry.put(&format!("{location}?digest={digest}"), &[], &bytes).expect(201);
    strace.signal(Signal::INT);
    strace.wait(Duration::from_secs(20)).expect("strace detaches");

    let calls = calls(&fs::read_to_string(&trace).unwrap());
    let id = location.rsplit('/').next().unwrap();
    let folder = format!("/blobs/{}", &id[..2]);
    let first = |what: &str, matches: &dyn Fn(&str) -> bool| {
        let found = calls.iter().position(|call| matches(call));
        found.unwrap_or_else(|| panic!("{what} is not among the calls:\n{}", calls.join("\n")))
    };
    let answered = first("the answer", &|call| call.contains("HTTP/1.1 201"));
    let last = |matches: &dyn Fn(&str) -> bool| calls[..answered].iter().rposition(|call| matches(call));
    let sync_of = |call: &str, file: &str| call.contains("sync(") && call.contains(&format!("{file}>"));
    let write_of = |call: &str, file: &str| call.starts_with("pwrite64(") && call.contains(&format!("{file}>"));

    let file = format!("{folder}/{id}");
    let bytes_written = last(&|call| write_of(call, &file)).expect("the blob is written");
    let bytes_synced = first("the sync of the blob", &|call| sync_of(call, &file));
    let name_synced = first("the sync of its folder", &|call| sync_of(call, &folder));
    let row_written = last(&|call| write_of(call, "cove.db-wal")).expect("the row is written before the answer");
    let row_synced = last(&|call| sync_of(call, "cove.db-wal")).expect("the row is synced before the answer");
    let order = [bytes_written, bytes_synced, name_synced, row_written, row_synced];
    assert!(order.is_sorted(), "bytes, their sync, the folder's, row, its sync: {order:?}\n{}", calls.join("\n"));
}
