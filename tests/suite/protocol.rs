//! The protocol beyond what the conformance suite asks, and everything that clients should not send: one suite,
//! run on SQLite + folder, PostgreSQL + folder and PostgreSQL + S3.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

#[path = "protocol/bad_input.rs"]
mod bad_input;
#[path = "protocol/lists.rs"]
mod lists;
#[path = "protocol/manifests.rs"]
mod manifests;
#[path = "protocol/raw.rs"]
mod raw;
#[path = "protocol/uploads.rs"]
mod uploads;

use std::panic::{AssertUnwindSafe, catch_unwind};

use cove_tests::{Postgres, S3, Server};

/// A name and what it does with a running server.
type Scenario = (&'static str, fn(&Server));

macro_rules! scenarios {
    ($($module:ident :: $name:ident),* $(,)?) => { &[$((stringify!($name), $module::$name as fn(&Server))),*] };
}

const SCENARIOS: &[Scenario] = scenarios![
    uploads::chunks_must_be_in_order,
    uploads::an_upload_belongs_to_its_repository_and_its_user,
    uploads::what_breaks_off_is_kept,
    uploads::a_newer_request_takes_over,
    uploads::mounting_needs_the_right_to_read,
    uploads::wrong_digests_are_refused_everywhere,
    uploads::other_algorithms,
    manifests::bytes_and_types_come_back_as_they_went,
    manifests::what_the_client_has_is_not_sent_again,
    manifests::an_image_needs_its_blobs,
    manifests::a_blob_in_use_stays,
    manifests::retired_and_broken_manifests_are_refused,
    manifests::several_tags_in_one_request,
    manifests::referrers_are_found_and_filtered,
    lists::tags_are_paged,
    lists::the_catalog_is_paged_and_shows_what_one_may_see,
    lists::page_sizes_of_all_kinds,
    bad_input::names_that_are_none,
    bad_input::huge_manifests_cost_nothing,
    bad_input::an_early_refusal_is_seen,
    bad_input::bodies_shorter_than_declared,
    bad_input::requests_that_are_no_http,
    bad_input::methods_that_paths_do_not_have,
];

/// Runs all scenarios, and reports every one that fails.
fn run(server: &Server) {
    let failed: Vec<&str> = SCENARIOS
        .iter()
        .filter(|(name, scenario)| {
            eprintln!("--- {name}");
            catch_unwind(AssertUnwindSafe(|| scenario(server))).is_err()
        })
        .map(|(name, _)| *name)
        .collect();
    assert!(failed.is_empty(), "failed: {failed:?}\nthe server's last lines:\n{}", tail(&server.log()));
    server.check();
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

#[test]
fn on_sqlite_and_a_folder() {
    run(&Server::start());
}

#[test]
fn on_postgresql_and_a_folder() {
    let postgres = Postgres::start();
    run(&Server::builder().database(&postgres.url()).start());
}

#[test]
fn on_postgresql_and_s3() {
    let (postgres, s3) = (Postgres::start(), S3::start());
    run(&Server::builder().database(&postgres.url()).s3(&s3, "protocol").start());
}

/// What came in chunks lies in several objects of the bucket at first, and in one after a while.
#[test]
fn chunks_are_joined_in_the_cloud() {
    let (postgres, s3) = (Postgres::start(), S3::start());
    let server = Server::builder().database(&postgres.url()).s3(&s3, "join").args(["--gc-grace", "2s"]).start();
    let registry = server.as_admin();
    let bytes = cove_tests::Noise::bytes(20_000_000);
    let digest = cove_tests::sha256(&bytes);
    let location = registry.begin_upload("join/a");
    for (number, chunk) in bytes.chunks(7_000_000).enumerate() {
        let range = format!("{}-{}", number * 7_000_000, number * 7_000_000 + chunk.len() - 1);
        registry.patch(&location, &[("Content-Range", &range)], chunk).expect(202);
    }
    registry.put(&cove_tests::add_query(&location, &format!("digest={digest}")), &[], b"").expect(201);
    let index = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"x/y","digest":"{digest}","size":20000000}},"layers":[]}}"#
    );
    registry.push_manifest("join/a", "v1", cove_tests::media_type::MANIFEST, index.as_bytes());
    let objects = "SELECT COUNT(*) FROM objects o JOIN blobs b ON b.content = o.content";
    cove_tests::wait_until("the objects are joined", std::time::Duration::from_secs(30), || {
        registry.check_blob("join/a", &digest, 20_000_000);
        postgres.query(objects).trim() == "1"
    });
    registry.check_blob("join/a", &digest, 20_000_000);
    server.check();
}

/// A push over bytes that were damaged on the disk heals them, for every repository that has the blob.
#[test]
fn a_push_heals_damaged_bytes() {
    let server = Server::start();
    let registry = server.as_admin();
    let bytes = vec![7; 100_000];
    let digest = registry.push_blob("heal/a", &bytes);
    let objects: Vec<_> = walk(&server.data().join("blobs"))
        .into_iter()
        .filter(|path| path.metadata().unwrap().len() == 100_000)
        .collect();
    assert_eq!(objects.len(), 1);
    std::fs::File::options().write(true).open(&objects[0]).unwrap().set_len(10).unwrap();
    let answer = registry.get(&format!("/v2/heal/a/blobs/{digest}"));
    assert_eq!(answer.status, 500, "damaged bytes must not be served as if they were whole");
    let report = server.command(["check"]).run();
    assert!(!report.succeeded(), "`check` must notice");
    registry.push_blob("heal/b", &bytes);
    registry.check_blob("heal/a", &digest, 100_000);
    registry.check_blob("heal/b", &digest, 100_000);
    server.check();
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
