//! Clients that are slow, or stand still.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use cove_tests::{Noise, Server, add_query, sha256};

/// Longer than any time-out that a test waits for.
const LONG: Duration = Duration::from_secs(90);

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).expect("connect");
    stream.set_read_timeout(Some(LONG)).expect("set a time-out");
    stream.set_write_timeout(Some(LONG)).expect("set a time-out");
    stream
}

/// Reads until the server closes the connection, and returns what it sent. Panics if it never does.
fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    match stream.read_to_end(&mut received) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the server did not close the connection within {LONG:?}: {error}"),
    }
    received
}

fn head(server: &Server, first_line: &str, more: &str) -> String {
    let login = BASE64.encode(server.admin_login().pair());
    let address = server.address();
    format!("{first_line} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic {login}\r\n{more}\r\n")
}

#[test]
fn whoever_does_not_finish_a_request_head_is_cut_off() {
    let server = Server::start();
    thread::scope(|scope| {
        // Nothing; half of a method that may become HTTP/2's preface; half of a head.
        for sent in ["", "P", "PRI * HTTP/2.0\r\n", "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Half: "] {
            let server = &server;
            scope.spawn(move || {
                let mut stream = connect(server);
                stream.write_all(sent.as_bytes()).expect("send");
                let received = until_closed(&mut stream);
                assert!(!received.starts_with(b"HTTP/1.1 2"), "half a head is no request: {sent:?}");
            });
        }
        // A byte now and then does not help.
        scope.spawn(|| {
            let mut stream = connect(&server);
            let start = Instant::now();
            stream.write_all(b"GET /v2/ HTTP/1.1\r\nX-Drip: ").expect("send");
            stream.set_read_timeout(Some(Duration::from_secs(1))).expect("set a time-out");
            loop {
                assert!(start.elapsed() < LONG, "a slow drip is cut off");
                match stream.write_all(b"x").and_then(|()| stream.read(&mut [0; 1000])) {
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Ok(length) if length > 0 => {} // an answer that says so
                    Ok(_) | Err(_) => break,
                }
            }
        });
    });
    server.as_admin().get("/v2/").expect(200);
}

#[test]
fn an_upload_that_stands_still_ends_and_keeps_what_arrived() {
    let server = Server::builder().args(["--idle-timeout", "2s"]).start();
    let registry = server.as_admin();
    let bytes = Noise::bytes(5_000_000);
    let location = registry.begin_upload("library/image");
    let mut stream = connect(&server);
    let request = head(&server, &format!("PATCH {location}"), "Content-Length: 5000000\r\n");
    stream.write_all(request.as_bytes()).expect("send the head");
    stream.write_all(&bytes[..3_000_000]).expect("send a part of the body");
    let received = String::from_utf8_lossy(&until_closed(&mut stream)).into_owned();
    assert!(received.starts_with("HTTP/1.1 400"), "the client is told: {received}");

    let status = registry.get(&location).expect(204);
    assert_eq!(status.header("Range"), "0-2999999");
    registry.patch(&location, &[("Content-Range", "3000000-4999999")], &bytes[3_000_000..]).expect(202);
    let digest = sha256(&bytes);
    registry.put(&add_query(&location, &format!("digest={digest}")), &[], b"").expect(201);
    registry.check_blob("library/image", &digest, 5_000_000);
}

#[test]
fn a_slow_upload_that_moves_is_not_cut_off() {
    let server = Server::builder().args(["--idle-timeout", "2s"]).start();
    let registry = server.as_admin();
    let location = registry.begin_upload("library/image");
    let mut stream = connect(&server);
    let request = head(&server, &format!("PATCH {location}"), "Content-Length: 8\r\nConnection: close\r\n");
    stream.write_all(request.as_bytes()).expect("send the head");
    for byte in b"8 bytes." {
        thread::sleep(Duration::from_millis(500)); // twice the time-out in all
        stream.write_all(&[*byte]).expect("send a byte");
    }
    let received = String::from_utf8_lossy(&until_closed(&mut stream)).into_owned();
    assert!(received.starts_with("HTTP/1.1 202"), "{received}");
}

#[test]
fn a_client_that_does_not_read_its_answer_is_cut_off() {
    let server = Server::builder().args(["--idle-timeout", "2s"]).start();
    let registry = server.as_admin();
    let digest = registry.push_blob("library/image", &Noise::bytes(60_000_000));
    let mut stream = connect(&server);
    let request = head(&server, &format!("GET /v2/library/image/blobs/{digest}"), "X-Marker: 1\r\n");
    stream.write_all(request.as_bytes()).expect("send the request");
    // Its line in the log is written when the answer has ended, one way or the other.
    cove_tests::wait_until("the answer is given up", LONG, || {
        server.log().lines().any(|line| line.contains(&digest) && line.contains("\"method\":\"GET\""))
    });
    let received = until_closed(&mut stream).len();
    assert!(received < 60_000_000, "the rest of the answer is not kept for it: {received} bytes");
    registry.check_blob("library/image", &digest, 60_000_000);
}
