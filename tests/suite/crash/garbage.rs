//! Space comes back, and pushes that run beside do not notice.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use cove_tests::{Cmd, Login, Noise, Postgres, Registry, S3, Server, media_type, sha256, wait_until};
use serde_json::json;

const GRACE: Duration = Duration::from_secs(1);
const KEPT: u64 = 300_000;

/// Bytes of all files below a folder that are as large as a layer of these tests.
fn stored(folder: &PathBuf) -> u64 {
    let sizes = Cmd::new("find").arg(folder).args(["-type", "f", "-size", "+64k", "-printf", "%s\\n"]).run();
    sizes.stdout.lines().map(|size| size.parse::<u64>().unwrap()).sum()
}

/// A manifest over blobs.
fn manifest(blobs: &[&[u8]]) -> Vec<u8> {
    let describe =
        |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "digest": sha256(bytes), "size": bytes.len() });
    let layers: Vec<_> = blobs[1..].iter().map(|blob| describe(media_type::LAYER, blob)).collect();
    let config = describe(media_type::CONFIG, blobs[0]);
    json!({ "schemaVersion": 2, "mediaType": media_type::MANIFEST, "config": config, "layers": layers })
        .to_string()
        .into_bytes()
}

fn push(registry: &Registry, repository: &str, tag: &str, blobs: &[&[u8]]) -> String {
    for blob in blobs {
        registry.push_blob(repository, blob);
    }
    registry.push_manifest(repository, tag, media_type::MANIFEST, &manifest(blobs))
}

/// One push as docker does it: what is there is not sent again. Returns whether it was in time: a client may count
/// on what it was told for half the grace, and a machine that is too busy may take longer.
fn push_again(registry: &Registry, repository: &str, tag: &str, blobs: &[&[u8]]) -> bool {
    let start = Instant::now();
    for blob in blobs {
        let head = registry.head(&format!("/v2/{repository}/blobs/{}", sha256(blob)));
        if head.status != 200 {
            head.expect(404);
            registry.push_blob(repository, blob);
        }
    }
    let path = format!("/v2/{repository}/manifests/{tag}");
    let answer = registry.put(&path, &[("Content-Type", media_type::MANIFEST)], &manifest(blobs));
    if answer.status != 201 && start.elapsed() > GRACE / 2 {
        return false;
    }
    answer.expect(201);
    true
}

/// Pushes the same image over and over while its content is collected, at ever other moments.
fn push_on(registry: &Registry, repository: &str, rounds: u64) {
    let blobs = [Noise::bytes(500), Noise::bytes(100_000), Noise::bytes(2_000)];
    let blobs: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
    let mut in_time = 0;
    for round in 0..rounds {
        in_time += u64::from(push_again(registry, repository, "again", &blobs));
        // Deleted by digest: tag, manifest, and after the grace everything else.
        registry.delete(&format!("/v2/{repository}/manifests/{}", sha256(manifest(&blobs))));
        // Most pushes come when the grace is just over: that is when collector and client meet.
        let pause = if round % 4 == 0 { 100 } else { 900 + round * 7 % 230 };
        thread::sleep(Duration::from_millis(pause));
    }
    assert!(in_time * 2 > rounds, "only {in_time} of {rounds} pushes were quick enough to prove anything");
}

fn collected_while_pushing(server: &Server, folder: &PathBuf) {
    let alice = server.add_user("alice");
    let registry = server.as_user(&alice);
    let kept: Vec<_> = (0..3).map(|_| Noise::bytes(KEPT / 3)).collect();
    let kept: Vec<&[u8]> = kept.iter().map(Vec::as_slice).collect();
    push(&registry, "alice/kept", "1", &kept);
    let before = stored(folder);
    assert!(before >= KEPT, "the store holds {before} bytes only: is it looked for in the right place?");

    thread::scope(|scope| {
        for number in 0..8 {
            let registry = server.as_user(&alice);
            scope.spawn(move || push_on(&registry, &format!("alice/again-{number}"), 40));
        }
        // Meanwhile, deleted and overwritten content.
        let layers: Vec<_> = (0..4).map(|_| Noise::bytes(700_000)).collect();
        push(&registry, "alice/goes", "overwritten", &[b"{}", &layers[0], kept[0]]);
        push(&registry, "alice/goes", "overwritten", &[b"{}", &layers[1], kept[1]]);
        push(&registry, "alice/goes", "untagged", &[b"{}", &layers[2]]);
        let by_digest = push(&registry, "alice/goes", "deleted", &[b"{}", &layers[3]]);
        registry.delete("/v2/alice/goes/manifests/untagged").expect(202);
        registry.delete(&format!("/v2/alice/goes/manifests/{by_digest}")).expect(202);
        let gone = |layer: &[u8]| registry.head(&format!("/v2/alice/goes/blobs/{}", sha256(layer))).status == 404;
        // Looking keeps alive what a client counts on, so this looks seldom.
        wait_for_space(&layers[1..2], folder);
        assert!(gone(&layers[0]) && gone(&layers[2]) && gone(&layers[3]), "collected content is still shown");
        registry.pull("alice/goes", "overwritten");
    });
    registry.delete("/v2/alice/goes/manifests/overwritten").expect(202);
    wait_until("everything but what is needed is gone from the disk", Duration::from_secs(60), || {
        stored(folder) == before
    });
    registry.pull("alice/kept", "1");
    server.check();
}

/// Waits until of all files that have the size of a layer only so many are left.
fn wait_for_space(left: &[Vec<u8>], folder: &PathBuf) {
    let size = format!("{}c", left[0].len());
    wait_until("deleted and overwritten layers are gone from the disk", Duration::from_secs(60), || {
        let found = Cmd::new("find").arg(folder).args(["-type", "f", "-size", &size]).run();
        found.stdout.lines().count() == left.len()
    });
}

#[test]
fn space_comes_back_in_a_folder_while_pushes_go_on() {
    let server = Server::builder().args(["--gc-grace", "1s"]).start();
    collected_while_pushing(&server, &server.data().join("blobs"));
}

#[test]
fn space_comes_back_in_s3_while_pushes_go_on() {
    let (postgres, s3) = (Postgres::start(), S3::start());
    let server = Server::builder().args(["--gc-grace", "1s"]).database(&postgres.url()).s3(&s3, "blobs").start();
    collected_while_pushing(&server, &s3.objects());
    drop(server);
}

/// Two servers collect from one state, and push to it.
#[test]
fn two_servers_collect_beside_each_other() {
    let (postgres, s3) = (Postgres::start(), S3::start());
    let builder = Server::builder().args(["--gc-grace", "1s"]).database(&postgres.url()).s3(&s3, "blobs");
    let servers = [builder.clone().start(), builder.start()];
    let alice: Login = servers[0].add_user("alice");
    let blobs = [Noise::bytes(500), Noise::bytes(100_000)];
    thread::scope(|scope| {
        for number in 0..6 {
            let (servers, alice, blobs) = (&servers, &alice, &blobs);
            scope.spawn(move || {
                // All the same content, half of it through each server.
                let blobs: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
                let repository = format!("alice/two-{}", number % 3);
                for round in 0..25u64 {
                    let registry = servers[(number + round as usize) % 2].as_user(alice);
                    push_again(&registry, &repository, &format!("tag-{number}"), &blobs);
                    registry.delete(&format!("/v2/{repository}/manifests/tag-{number}")).expect(202);
                    thread::sleep(Duration::from_millis(if round % 3 == 0 { 100 } else { 900 + round * 11 % 200 }));
                }
            });
        }
    });
    wait_until("everything is gone from the disk", Duration::from_secs(60), || stored(&s3.objects()) == 0);
    servers.iter().for_each(Server::check);
    assert!(fs::exists(s3.objects()).unwrap());
}
