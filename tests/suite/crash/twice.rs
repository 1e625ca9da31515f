//! Servers that start where another one is, or where a newer one was.

use std::time::Duration;

use cove_tests::{Cmd, Noise, Postgres, S3, Scratch, Server, free_port};

/// Starts a server that must refuse: it says why, in one line, and ends with exit code 1.
fn refuses(server: Cmd, words: &[&str]) {
    let listen = format!("127.0.0.1:{}", free_port());
    let finished =
        server.env("COVE_LISTEN", listen).env("COVE_ADMIN_PASSWORD", "x").limit(Duration::from_secs(30)).run();
    assert_eq!(finished.code, Some(1), "{finished}");
    for word in words {
        assert!(finished.stderr.contains(word), "`{word}` is not said: {finished}");
    }
}

#[test]
fn a_second_server_on_one_sqlite_folder_says_so_and_stops() {
    let server = Server::start();
    let digest = server.as_admin().push_blob("library/a", b"before");
    refuses(server.command([]), &["another cove-server", &server.data().display().to_string()]);
    // The database alone is enough, and so is the folder alone.
    let elsewhere = Scratch::new("elsewhere");
    let database = format!("sqlite://{}", server.data().join("cove.db").display());
    let blobs = format!("file://{}", server.data().join("blobs").display());
    let second = || Cmd::new(Server::program()).env("COVE_DATA", elsewhere.path());
    refuses(second().env("COVE_DATABASE", database), &["another cove-server", "cove.db"]);
    refuses(second().env("COVE_BLOBS", blobs), &["another cove-server", "blobs"]);
    server.as_admin().check_blob("library/a", &digest, 6);
    server.check();
}

#[test]
fn a_lock_does_not_outlive_its_server() {
    let mut server = Server::start();
    server.kill9();
    server.start_again();
    server.restart();
    server.check();
}

#[test]
fn two_servers_may_start_together_on_an_empty_database() {
    let s3 = S3::start();
    // More than once: each time they meet at another moment.
    for _ in 0..3 {
        let postgres = Postgres::start();
        let builder = Server::builder().database(&postgres.url()).s3(&s3, "together");
        let mut servers: Vec<_> = (0..3).map(|_| builder.clone().prepare()).collect();
        std::thread::scope(|scope| {
            for server in &mut servers {
                scope.spawn(|| server.start_again());
            }
        });
        let bytes = Noise::bytes(1_000);
        let digest = servers[0].as_admin().push_blob("library/a", &bytes);
        for server in &servers {
            server.as_admin().check_blob("library/a", &digest, 1_000);
        }
        assert_eq!(postgres.query("select count(*) from accounts"), "1", "one administrator");
        assert_eq!(postgres.query("select count(*) from _sqlx_migrations where not success"), "0");
    }
}

const NEWER: &str = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)";

#[test]
fn a_newer_schema_is_refused() {
    let mut server = Server::start();
    server.terminate();
    let database = server.data().join("cove.db");
    let statement = format!("{NEWER} values (9000, 'from the future', true, x'00', 0)");
    Cmd::new("sqlite3").arg(&database).arg(statement).ok();
    refuses(server.command([]), &["9000", "newer"]);
    let printed = server.command(["user", "list"]).fails();
    assert!(printed.contains("newer"), "commands refuse it too: {printed}");
    Cmd::new("sqlite3").arg(&database).arg("delete from _sqlx_migrations where version = 9000").ok();
    server.start_again();

    let postgres = Postgres::start();
    let mut server = Server::builder().database(&postgres.url()).start();
    server.terminate();
    postgres.query(&format!("{NEWER} values (9000, 'from the future', true, '\\x00', 0)"));
    refuses(server.command([]), &["9000", "newer"]);
    postgres.query("delete from _sqlx_migrations where version = 9000");
    server.start_again();
}
