//! Uploads: order, ownership, interruption, mounts, digests.

use std::time::Duration;

use cove_tests::{Noise, Server, add_query, sha256, wait_until};

use crate::raw::{Raw, head};

pub fn chunks_must_be_in_order(server: &Server) {
    let registry = server.as_admin();
    let bytes = Noise::bytes(30_000);
    let location = registry.begin_upload("chunks/a");
    let status = registry.get(&location).expect(204);
    assert!(status.header("Range").starts_with("0-"), "{status}");
    assert!(status.header("Location").starts_with('/'), "locations are relative: {status}");

    let first = registry.patch(&location, &[("Content-Range", "0-9999")], &bytes[..10_000]).expect(202);
    assert_eq!(first.header("Range"), "0-9999");
    let again = registry.patch(&location, &[("Content-Range", "0-9999")], &bytes[..10_000]).expect(416);
    assert_eq!((again.header("Range").as_str(), again.code().as_str()), ("0-9999", "RANGE_INVALID"));
    registry.patch(&location, &[("Content-Range", "20000-29999")], &bytes[20_000..]).expect(416);
    let liar = registry.patch(&location, &[("Content-Range", "10000-10001")], &bytes[10_000..20_000]).expect(400);
    assert_eq!(liar.code(), "SIZE_INVALID");
    registry.patch(&location, &[("Content-Range", "nonsense")], b"x").expect(400);

    registry.patch(&location, &[("Content-Range", "10000-19999")], &bytes[10_000..20_000]).expect(202);
    let last = add_query(&location, &format!("digest={}", sha256(&bytes)));
    registry.put(&last, &[("Content-Range", "5-6")], b"xy").expect(416);
    registry.put(&last, &[("Content-Range", "20000-29999")], &bytes[20_000..]).expect(201);
    registry.check_blob("chunks/a", &sha256(&bytes), 30_000);
    assert_eq!(registry.get(&location).expect(404).code(), "BLOB_UPLOAD_UNKNOWN");
}

pub fn an_upload_belongs_to_its_repository_and_its_user(server: &Server) {
    let registry = server.as_admin();
    let location = registry.begin_upload("mine/a");
    let elsewhere = location.replace("mine/a", "mine/b");
    for answer in [registry.get(&elsewhere), registry.patch(&elsewhere, &[], b"x"), registry.delete(&elsewhere)] {
        assert_eq!(answer.expect(404).code(), "BLOB_UPLOAD_UNKNOWN");
    }
    let other = server.as_user(&server.add_user("uploader"));
    server.admin(["grant", "uploader", "mine/a", "push"]);
    other.begin_upload("mine/a");
    assert_eq!(other.patch(&location, &[], b"x").expect(404).code(), "BLOB_UPLOAD_UNKNOWN");
    registry.delete(&location).expect(204);
    registry.get(&location).expect(404);
    for wrong in ["/v2/mine/a/blobs/uploads/..", "/v2/mine/a/blobs/uploads/%00", "/v2/mine/a/blobs/uploads/x"] {
        assert!(matches!(registry.get(wrong).status, 400 | 404), "{wrong}");
    }
}

pub fn what_breaks_off_is_kept(server: &Server) {
    let registry = server.as_admin();
    let bytes = Noise::bytes(3_000_000);
    let location = registry.begin_upload("broken/a");
    let mut raw = Raw::connect(server);
    raw.send(head(server, "PATCH", &location)).send("Content-Length: 3000000\r\n\r\n").send(&bytes[..1_234_567]).end();
    let answer = raw.read_to_end();
    assert!(!answer.starts_with("HTTP/1.1 2"), "a body that breaks off is no success: {answer}");
    wait_until("what arrived is recorded", Duration::from_secs(20), || {
        registry.get(&location).expect(204).header("Range") == "0-1234566"
    });
    registry.patch(&location, &[("Content-Range", "1234567-2999999")], &bytes[1_234_567..]).expect(202);
    registry.put(&add_query(&location, &format!("digest={}", sha256(&bytes))), &[], b"").expect(201);
    registry.check_blob("broken/a", &sha256(&bytes), 3_000_000);
}

pub fn a_newer_request_takes_over(server: &Server) {
    let registry = server.as_admin();
    let location = registry.begin_upload("taken/a");
    let bytes = Noise::bytes(2_000_000);
    // The older request has sent a million bytes and hangs.
    let mut older = Raw::connect(server);
    older.send(head(server, "PATCH", &location)).send("Content-Length: 2000000\r\n\r\n").send(&bytes[..1_000_000]);
    std::thread::sleep(Duration::from_millis(300));
    // Without a range the newer one appends to what the older one had.
    let newer = registry.patch(&location, &[], &bytes[1_000_000..]).expect(202);
    assert_eq!(newer.header("Range"), "0-1999999");
    assert_eq!(older.status(), 409);
    registry.put(&add_query(&location, &format!("digest={}", sha256(&bytes))), &[], b"").expect(201);
    registry.check_blob("taken/a", &sha256(&bytes), 2_000_000);
}

pub fn mounting_needs_the_right_to_read(server: &Server) {
    let registry = server.as_admin();
    let digest = registry.push_blob("secret/a", b"a secret layer");
    let user = server.as_user(&server.add_user("mounter"));
    let uploads = "/v2/mounter/x/blobs/uploads/";
    for query in [format!("mount={digest}&from=secret/a"), format!("mount={digest}")] {
        let answer = user.post(&format!("{uploads}?{query}"), &[], b"").expect(202);
        assert!(answer.header("Location").contains("/blobs/uploads/"), "{answer}");
    }
    assert_eq!(user.head(&format!("/v2/mounter/x/blobs/{digest}")).status, 404, "a refused mount links nothing");
    let unknown = sha256(b"nowhere");
    registry.post(&format!("/v2/secret/b/blobs/uploads/?mount={unknown}&from=secret/a"), &[], b"").expect(202);

    server.admin(["grant", "mounter", "secret/a", "pull"]);
    let answer = user.post(&format!("{uploads}?mount={digest}&from=secret/a"), &[], b"").expect(201);
    assert_eq!(answer.header("Docker-Content-Digest"), digest);
    user.check_blob("mounter/x", &digest, 14);
    user.post(&format!("/v2/mounter/y/blobs/uploads/?mount={digest}"), &[], b"").expect(201);
    user.check_blob("mounter/y", &digest, 14);
    user.post(&format!("{uploads}?mount=sha256:short&from=secret/a"), &[], b"").expect(400);
}

pub fn wrong_digests_are_refused_everywhere(server: &Server) {
    let registry = server.as_admin();
    let (bytes, wrong) = (b"some bytes".as_slice(), sha256(b"other bytes"));
    let uploads = "/v2/digests/a/blobs/uploads/";
    let mut answers = vec![registry.post(&format!("{uploads}?digest={wrong}"), &[], bytes)];
    let location = registry.begin_upload("digests/a");
    answers.push(registry.put(&add_query(&location, &format!("digest={wrong}")), &[], bytes));
    let location = registry.begin_upload("digests/a");
    registry.patch(&location, &[], bytes).expect(202);
    answers.push(registry.put(&add_query(&location, &format!("digest={wrong}")), &[], b""));
    let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let media_type = [("Content-Type", "application/vnd.oci.image.index.v1+json")];
    answers.push(registry.put(&format!("/v2/digests/a/manifests/{wrong}"), &media_type, index));
    for answer in answers {
        let answer = answer.expect(400);
        assert_eq!(answer.code(), "DIGEST_INVALID", "{answer}");
        assert!(answer.message().contains(&wrong), "the message names what was wrong: {answer}");
    }
    assert_eq!(registry.head(&format!("/v2/digests/a/blobs/{wrong}")).status, 404);
    // A wrong digest at the end loses nothing: the right one still makes the blob.
    registry.put(&add_query(&location, &format!("digest={}", sha256(bytes))), &[], b"").expect(201);

    for text in
        ["sha256:abc", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256", "sha999:00", "sha256:../../../etc/passwd"]
    {
        let location = registry.begin_upload("digests/a");
        for answer in [
            registry.post(&format!("{uploads}?digest={text}"), &[], bytes),
            registry.put(&add_query(&location, &format!("digest={text}")), &[], bytes),
        ] {
            assert_eq!(answer.expect(400).code(), "DIGEST_INVALID", "{text}");
        }
        let path = text.replace('/', "%2F");
        assert!(matches!(registry.get(&format!("/v2/digests/a/blobs/{path}")).status, 400 | 404), "{text}");
    }
    registry.post(&format!("{uploads}?digest-algorithm=md5"), &[], b"").expect(400);
    let location = registry.begin_upload("digests/a");
    assert_eq!(registry.put(&location, &[], bytes).expect(400).code(), "BLOB_UPLOAD_INVALID", "no digest at all");
}

pub fn other_algorithms(server: &Server) {
    let registry = server.as_admin();
    let abc = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
    // Announced, not announced, and with the digest at once; the second time the blob is there already.
    for query in ["?digest-algorithm=sha512", ""] {
        let location = registry.post(&format!("/v2/algorithms/a/blobs/uploads/{query}"), &[], b"").expect(202);
        let location = location.header("Location");
        registry.patch(&location, &[], b"ab").expect(202);
        registry.put(&add_query(&location, &format!("digest={abc}")), &[], b"c").expect(201);
    }
    registry.post(&format!("/v2/algorithms/b/blobs/uploads/?digest={abc}"), &[], b"abc").expect(201);
    assert_eq!(registry.get(&format!("/v2/algorithms/a/blobs/{abc}")).expect(200).body, b"abc");
    assert_eq!(registry.get(&format!("/v2/algorithms/b/blobs/{}", abc.replace(':', "%3A"))).expect(200).body, b"abc");
    // The empty blob, in every way.
    let empty = sha256(b"");
    registry.post(&format!("/v2/algorithms/a/blobs/uploads/?digest={empty}"), &[], b"").expect(201);
    registry.push_blob("algorithms/b", b"");
    let answer = registry.get(&format!("/v2/algorithms/b/blobs/{empty}")).expect(200);
    assert_eq!((answer.header("Content-Length").as_str(), answer.body.len()), ("0", 0));
}
