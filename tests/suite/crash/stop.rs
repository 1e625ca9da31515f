//! SIGTERM: what runs may finish, nothing new begins, and there is a limit.

use std::thread;
use std::time::Duration;

use cove_tests::{Noise, Server, Wire, sha256};
use rustix::process::Signal;

const MB: usize = 1_000_000;

/// Sends SIGTERM and waits until the server takes no more connections.
fn ask_to_stop(server: &mut Server) {
    server.process().signal(Signal::TERM);
    server.wait_for_log(&["stopping"]);
    let login = server.admin_login();
    let refused = Wire::ask(&server.address(), &login, "GET", "/v2/", &[], b"");
    assert!(refused.is_err(), "a server that stops took a new connection: {}", refused.unwrap());
}

#[test]
fn a_push_and_a_pull_finish_before_the_server_stops() {
    let mut server = Server::start();
    let (address, login) = (server.address(), server.admin_login());
    let pushed = Noise::bytes(100 * MB as u64);
    let pulled = Noise::bytes(50 * MB as u64);
    let registry = server.as_admin();
    let digest_pulled = registry.push_blob("library/slow", &pulled);
    let digest = sha256(&pushed);
    let location = registry.begin_upload("library/slow");

    let put = format!("{location}?digest={digest}");
    let mut push = Wire::begin(&address, &login, "PUT", &put, &[], Some(pushed.len() as u64)).unwrap();
    push.send(&pushed[..30 * MB]).unwrap();
    let get = format!("/v2/library/slow/blobs/{digest_pulled}");
    let mut pull = Wire::begin(&address, &login, "GET", &get, &[], Some(0)).unwrap();
    pull.answer_head().unwrap();
    let mut got = pull.read(5 * MB).unwrap();

    ask_to_stop(&mut server);
    thread::scope(|scope| {
        scope.spawn(|| {
            for piece in pushed[30 * MB..].chunks(5 * MB) {
                push.send(piece).unwrap();
                thread::sleep(Duration::from_millis(50));
            }
            push.answer().unwrap().expect(201);
        });
        scope.spawn(|| {
            while got.len() < pulled.len() {
                let more = pull.read(5 * MB).unwrap();
                assert!(!more.is_empty(), "the pull was cut off after {} bytes", got.len());
                got.extend(more);
                thread::sleep(Duration::from_millis(50));
            }
            assert!(got == pulled, "other bytes came");
        });
    });
    let status = server.process().wait(Duration::from_secs(60)).expect("the server stops when nothing runs any more");
    assert_eq!(status.code(), Some(0));
    server.check();
    server.terminate();
    server.start_again();
    server.as_admin().check_blob("library/slow", &digest, pushed.len() as u64);
}

#[test]
fn a_transfer_that_takes_too_long_is_cut_off() {
    let mut server = Server::builder().args(["--stop-timeout", "2s"]).start();
    let (address, login) = (server.address(), server.admin_login());
    let bytes = Noise::bytes(90 * MB as u64);
    let registry = server.as_admin();
    let location = registry.begin_upload("library/endless");
    registry.patch(&location, &[], &bytes[..10 * MB]).expect(202);
    let mut patch = Wire::begin(&address, &login, "PATCH", &location, &[], None).unwrap();
    patch.send(&bytes[10 * MB..20 * MB]).unwrap();

    ask_to_stop(&mut server);
    // The client goes on for ever, slowly.
    let mut at = 20 * MB;
    while server.process().ended().is_none() && at < 80 * MB {
        if patch.send(&bytes[at..at + MB / 10]).is_err() {
            break;
        }
        at += MB / 10;
        thread::sleep(Duration::from_millis(50));
    }
    let status = server.process().wait(Duration::from_secs(60)).expect("the server stops at its limit");
    assert_eq!(status.code(), Some(0));
    server.check();

    server.terminate();
    server.start_again();
    let registry = server.as_admin();
    let range = registry.get(&location).expect(204).header("Range");
    let kept = range.strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1;
    assert!((10 * MB..=at + MB).contains(&kept), "{kept} bytes are kept of {at} sent");
    let digest = sha256(&bytes);
    registry.patch(&location, &[("Content-Range", &format!("{kept}-{}", bytes.len() - 1))], &bytes[kept..]).expect(202);
    registry.put(&format!("{location}?digest={digest}"), &[], b"").expect(201);
    registry.check_blob("library/endless", &digest, bytes.len() as u64);
    server.check();
}

/// Connections that are kept open without a request do not hold it up, for as long as one would notice.
#[test]
fn an_idle_server_stops_at_once() {
    let mut server = Server::builder().args(["--stop-timeout", "10m"]).start();
    let idle: Vec<_> = (0..5).map(|_| server.as_admin()).collect();
    idle.iter().for_each(|registry| drop(registry.get("/v2/").expect(200)));
    let _silent = std::net::TcpStream::connect(server.address()).unwrap();
    let status = server.terminate();
    assert_eq!(status.code(), Some(0), "{}", server.log());
    drop(idle);
}
