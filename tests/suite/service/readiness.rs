//! `/healthz`, `/readyz`, `healthcheck`, and what SIGTERM does.

use std::fs;
use std::net::TcpStream;
use std::time::Duration;

use cove_tests::{Cmd, Postgres, S3, Server, Wire, free_port, wait_until};
use rustix::process::Signal;

fn healthcheck(server: &Server) -> Cmd {
    server.command(["healthcheck", "--address", &server.address()])
}

fn becomes(server: &Server, status: u16) {
    let registry = server.as_anonymous();
    wait_until(&format!("/readyz answers {status}"), Duration::from_secs(60), || {
        registry.get("/readyz").status == status
    });
}

#[test]
fn ready_while_the_database_and_the_bucket_are_there() {
    let (mut postgres, s3) = (Postgres::start(), S3::start());
    let server = Server::builder().database(&postgres.url()).s3(&s3, "ready").start();
    let registry = server.as_anonymous();
    registry.get("/readyz").expect(200);
    healthcheck(&server).ok();

    postgres.stop();
    let answer = registry.get("/readyz").expect(503);
    assert!(answer.text().contains("database") && !answer.text().contains("blob store"), "{answer}");
    registry.get("/healthz").expect(200);
    let printed = healthcheck(&server).fails();
    assert!(printed.contains("not ready"), "{printed}");
    postgres.start_again();
    becomes(&server, 200);
    healthcheck(&server).ok();

    let aside = s3.objects().with_extension("aside");
    fs::rename(s3.objects(), &aside).expect("take the bucket away");
    let answer = registry.get("/readyz").expect(503);
    assert!(answer.text().contains("blob store") && !answer.text().contains("database"), "{answer}");
    registry.get("/healthz").expect(200);
    fs::rename(&aside, s3.objects()).expect("put the bucket back");
    becomes(&server, 200);
    server.as_admin().push_blob("library/after", b"service is back");
}

#[test]
fn healthcheck_fails_where_nobody_listens() {
    let address = format!("127.0.0.1:{}", free_port());
    let printed = Cmd::new(Server::program()).args(["healthcheck", "--address", &address]).fails();
    assert!(printed.contains(&address) && printed.contains("does not answer"), "{printed}");
}

#[test]
fn the_healthcheck_asks_where_the_settings_say() {
    // In a container the server listens on every address; the check asks on the loopback.
    let server = Server::start();
    let everywhere = server.address().replace("127.0.0.1", "0.0.0.0");
    server.command(["healthcheck"]).env("COVE_LISTEN", everywhere).ok();
}

/// An upload's location, and a request that has sent the first 5 of 10 bytes and that the server is working on.
fn half_an_upload(server: &Server) -> (String, Wire) {
    let location = server.as_admin().begin_upload("library/image");
    let expect = [("Expect", "100-continue")];
    let wire = Wire::begin(&server.address(), &server.admin_login(), "PATCH", &location, &expect, Some(10));
    let mut wire = wire.expect("begin a request");
    let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
    assert_eq!(wire.read(go_on.len()).expect("an interim answer"), go_on);
    wire.send(b"first").expect("send a half");
    (location, wire)
}

#[test]
fn sigterm_lets_a_running_upload_finish_and_takes_no_new_connections() {
    let mut server = Server::start();
    let address = server.address();
    let (_, mut wire) = half_an_upload(&server);
    server.process().signal(Signal::TERM);
    server.wait_for_log(&["stopping: running requests may finish"]);
    wait_until("nobody new gets in", Duration::from_secs(10), || TcpStream::connect(&address).is_err());
    wire.send(b"-last").expect("send the other half");
    wire.answer().expect("an answer").expect(202);
    let status = server.terminate();
    assert!(status.success(), "{status}");
    assert!(server.log().contains("\"message\":\"stopped\""), "{}", server.log());
}

#[test]
fn sigterm_cuts_off_what_takes_longer_than_the_limit() {
    let mut server = Server::builder().args(["--stop-timeout", "2s"]).start();
    let (location, _wire) = half_an_upload(&server);
    let status = server.terminate();
    assert!(status.success(), "{status}");
    server.start_again();
    server.as_admin().get(&location).expect(204);
}
