//! `/healthz`, `/readyz`, `healthcheck`, and what SIGTERM does.

use std::fs;
use std::time::Duration;

use cove_tests::{Cmd, Postgres, S3, Server, free_port, wait_until};

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
