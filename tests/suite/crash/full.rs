//! A full disk: what cannot be stored is refused with a message, everything else goes on.

use std::fs;
use std::thread;
use std::time::Duration;

use cove_tests::{Answer, Login, LoopDisk, Noise, Registry, Server, Wire, media_type, sha256, wait_until};
use serde_json::json;

const DISK: u64 = 100_000_000;

/// An image of one layer; returns the answer to the first request that fails, or the one to the last.
fn push(server: &Server, repository: &str, tag: &str, layer: &[u8]) -> Answer {
    let address = server.address();
    let login = server.admin_login();
    let ask = |method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]| {
        Wire::ask(&address, &login, method, path, headers, body).expect("an answer, even when the disk is full")
    };
    for blob in [layer, b"{}"] {
        let begun = ask("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"");
        if begun.status != 202 {
            return begun;
        }
        let put = ask("PUT", &format!("{}?digest={}", begun.header("Location"), sha256(blob)), &[], blob);
        if put.status != 201 {
            return put;
        }
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::MANIFEST,
        "config": { "mediaType": media_type::EMPTY, "digest": sha256(b"{}"), "size": 2 },
        "layers": [{ "mediaType": media_type::LAYER, "digest": sha256(layer), "size": layer.len() }],
    });
    let path = format!("/v2/{repository}/manifests/{tag}");
    ask("PUT", &path, &[("Content-Type", media_type::MANIFEST)], manifest.to_string().as_bytes())
}

/// Refused for want of room, in words that say so.
fn refused_as_full(answer: &Answer) {
    assert_eq!(answer.status, 507, "{answer}");
    assert!(answer.message().contains("no room"), "{answer}");
}

/// Pushes images until one is refused. Returns the tags of those that were acknowledged.
fn fill(server: &Server, repository: &str, layer_bytes: u64) -> Vec<String> {
    let mut stored = Vec::new();
    for number in 0..200 {
        let tag = format!("{layer_bytes}-{number}");
        let answer = push(server, repository, &tag, &Noise::bytes(layer_bytes));
        if answer.status != 201 {
            refused_as_full(&answer);
            return stored;
        }
        stored.push(tag);
    }
    panic!("{DISK} bytes of disk were never full");
}

fn pull_all(registry: &Registry, repository: &str, tags: &[String]) {
    tags.iter().for_each(|tag| drop(registry.pull(repository, tag)));
}

#[test]
fn a_full_disk_refuses_pushes_and_nothing_else() {
    let mut server = Server::builder().args(["--gc-grace", "1s"]).prepare();
    let _disk = LoopDisk::mount(DISK, &server.data());
    server.start_again();
    let registry = server.as_admin();
    let mut stored = fill(&server, "library/full", 9_000_000);
    assert!(stored.len() >= 3, "{stored:?}");
    // Down to the last byte, so that the database has no room either.
    stored.extend(fill(&server, "library/full", 150_000));
    stored.extend(fill(&server, "library/full", 5_000));
    pull_all(&registry, "library/full", &stored);
    assert_eq!(registry.tags("library/full").len(), stored.len());
    assert!(server.process().ended().is_none(), "the server must stay");

    // The operator deletes an image; after the grace there is room, and nobody has to restart anything.
    let (first, rest) = stored.split_first().unwrap();
    let digest = registry.manifest("library/full", first).expect(200).header("Docker-Content-Digest");
    registry.delete(&format!("/v2/library/full/manifests/{digest}")).expect(202);
    let layer = Noise::bytes(5_000_000);
    wait_until("there is room again", Duration::from_secs(60), || {
        push(&server, "library/full", "after", &layer).status == 201
    });
    registry.pull("library/full", "after");
    pull_all(&registry, "library/full", rest);
    server.check();
    server.restart();
    pull_all(&server.as_admin(), "library/full", rest);
    server.check();
    drop(server);
}

/// Somebody else's file takes all the room while pushes run, until it is removed.
#[test]
fn service_returns_when_the_operator_makes_room() {
    let grace = Duration::from_secs(2);
    let mut server = Server::builder().args(["--gc-grace", "2s"]).prepare();
    let disk = LoopDisk::mount(DISK, &server.data());
    server.start_again();
    let registry = server.as_admin();
    push(&server, "library/other", "before", &Noise::bytes(1_000_000)).expect(201);
    let token = server.admin(["token", "create", "admin", "--name", "pulls"]);
    let ballast = server.data().join("somebody-elses-file");
    let take_all = || {
        // Falls short of it: that is the point.
        let _ = fs::write(&ballast, vec![1; DISK as usize]);
    };
    take_all();
    // What is left is ext4's own reserve.
    assert!(disk.free() < 2_000_000, "{} bytes are free", disk.free());
    refused_as_full(&push(&server, "library/other", "refused", &Noise::bytes(2_000_000)));
    for number in 0..30 {
        let answer = push(&server, "library/other", "small", &Noise::bytes(30_000 + number));
        assert!([201, 507].contains(&answer.status), "{answer}");
    }
    // Even what the collector wants to look at, and cannot.
    thread::sleep(grace);
    registry.pull("library/other", "before");
    // With a token too, of which the registry would like to note that it was used.
    server.as_user(&Login::new("admin", &token)).pull("library/other", "before");
    assert!(registry.get("/v2/library/other/manifests/refused").status == 404, "half a push is visible");

    // A stream that meets the full disk in its middle goes on when there is room.
    fs::remove_file(&ballast).unwrap();
    let bytes = Noise::bytes(30_000_000);
    let location = registry.begin_upload("library/other");
    registry.patch(&location, &[], &bytes[..10_000_000]).expect(202);
    take_all();
    let full = Wire::ask(&server.address(), &server.admin_login(), "PATCH", &location, &[], &bytes[10_000_000..]);
    refused_as_full(&full.expect("an answer"));
    let range = registry.get(&location).expect(204).header("Range");
    assert_eq!(range, "0-9999999", "what was recorded stays");
    // Even now the server can be stopped and started.
    server.restart();
    server.as_admin().pull("library/other", "before");

    fs::remove_file(&ballast).unwrap();
    let registry = server.as_admin();
    registry.patch(&location, &[("Content-Range", "10000000-29999999")], &bytes[10_000_000..]).expect(202);
    let digest = sha256(&bytes);
    registry.put(&format!("{location}?digest={digest}"), &[], b"").expect(201);
    registry.check_blob("library/other", &digest, bytes.len() as u64);
    push(&server, "library/other", "after", &Noise::bytes(5_000_000)).expect(201);
    registry.pull("library/other", "after");
    server.check();
    drop(server);
}
