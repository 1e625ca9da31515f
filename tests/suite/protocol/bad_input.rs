//! What clients should not send. Each is answered with an error that says what to do, and costs nothing.

use std::time::Duration;

use cove_tests::{Server, media_type, sha256, wait_until};

use crate::lists::private_memory;
use crate::raw::{Raw, head, status_of};

pub fn names_that_are_none(server: &Server) {
    let registry = server.as_admin();
    let long = "a".repeat(300);
    for name in ["A", "a..b", "a%00b", "%2e%2e", "a/%2e%2e/b", "a//b", "-a", "a-", "%ff", "a%20b", "%C3%A4", &long] {
        let digest = sha256(b"x");
        let manifests = registry.get(&format!("/v2/{name}/manifests/latest"));
        let blobs = registry.get(&format!("/v2/{name}/blobs/{digest}"));
        let tags = registry.get(&format!("/v2/{name}/tags/list"));
        let uploads = registry.post(&format!("/v2/{name}/blobs/uploads/"), &[], b"");
        for answer in [manifests, blobs, tags, uploads] {
            assert_eq!((answer.status, answer.code().as_str()), (400, "NAME_INVALID"), "{answer}");
            assert!(answer.message().contains('`'), "the message says what was wrong: {answer}");
        }
    }
    // Before anybody is asked who they are, so that a client with a typing error is not sent to log in.
    assert_eq!(server.as_anonymous().get("/v2/UPPER/tags/list").expect(400).code(), "NAME_INVALID");
    // Dots that a client did not resolve itself; the harness's client would.
    let mut raw = Raw::connect(server);
    raw.send(head(server, "GET", "/v2/a/../../etc/manifests/passwd")).send("Connection: close\r\n\r\n");
    assert_eq!(raw.status(), 400);
    for path in ["/", "/v1/", "/v2/a", "/v2/a/b/c", "/v3/a/tags/list"] {
        registry.get(path).expect(404);
    }
}

pub fn huge_manifests_cost_nothing(server: &Server) {
    let registry = server.as_admin();
    let huge = vec![b' '; 100 * 1024 * 1024];
    let before = private_memory(server.id());
    let answer =
        registry.put("/v2/huge/a/manifests/v1", &[("Content-Type", media_type::MANIFEST)], &huge[..10_000_000]);
    assert_eq!((answer.status, answer.code().as_str()), (413, "SIZE_INVALID"));
    assert!(answer.message().contains("4 MiB"), "{answer}");
    // The whole of it, with and without a declared length; the answer must be seen although much is never read.
    let mut raw = Raw::connect(server);
    raw.send(head(server, "PUT", "/v2/huge/a/manifests/v1"));
    raw.send(format!("Content-Type: {}\r\nContent-Length: {}\r\n\r\n", media_type::MANIFEST, huge.len())).send(&huge);
    assert_eq!(raw.end().status(), 413);
    let mut raw = Raw::connect(server);
    raw.send(head(server, "PUT", "/v2/huge/a/manifests/v1"));
    raw.send(format!("Content-Type: {}\r\nTransfer-Encoding: chunked\r\n\r\n", media_type::MANIFEST));
    for chunk in huge.chunks(1_000_000) {
        raw.send(format!("{:x}\r\n", chunk.len())).send(chunk).send("\r\n");
    }
    assert_eq!(raw.send("0\r\n\r\n").end().status(), 413);
    let grown = private_memory(server.id()).saturating_sub(before);
    assert!(grown < 16 * 1024, "a manifest of 100 MB costs {grown} kB");
    // Four megabytes and a little less are fine.
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[],"annotations":{{"a":"{}"}}}}"#,
        "x".repeat(4 * 1024 * 1024 - 100)
    );
    registry.push_manifest("huge/a", "fits", media_type::INDEX, index.as_bytes());
    assert_eq!(registry.get("/v2/huge/a/manifests/fits").expect(200).body, index.as_bytes());
}

pub fn an_early_refusal_is_seen(server: &Server) {
    let body = vec![b'x'; 30_000_000];
    for (path, status) in [
        ("/v2/early/a/blobs/uploads/", 401),
        ("/v2/early/a/blobs/uploads/nothing", 401),
        ("/v2/EARLY/blobs/uploads/", 400),
    ] {
        let mut raw = Raw::connect(server);
        raw.send(format!(
            "PUT {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
            server.address(),
            body.len()
        ));
        raw.send(&body).end();
        let answer = raw.read_to_end();
        assert_eq!(status_of(&answer), status, "{path}: {answer:.500}");
        assert!(answer.contains("\"errors\""), "{path}: {answer:.500}");
    }
}

pub fn bodies_shorter_than_declared(server: &Server) {
    let registry = server.as_admin();
    let digest = sha256([b'x'; 1000]);
    let location = registry.begin_upload("short/a");
    let requests = [
        head(server, "PUT", &format!("{location}?digest={digest}")),
        head(server, "POST", &format!("/v2/short/a/blobs/uploads/?digest={digest}")),
        head(server, "PUT", "/v2/short/a/manifests/v1") + "Content-Type: application/vnd.oci.image.index.v1+json\r\n",
        format!("POST /token HTTP/1.1\r\nHost: {}\r\n", server.address()),
    ];
    for request in requests {
        let mut raw = Raw::connect(server);
        raw.send(&request).send("Content-Length: 1000\r\n\r\n").send([b'x'; 500]).end();
        let status = raw.status();
        assert!(!(200..300).contains(&status), "{status} for {request}");
    }
    // Chunked, without the last chunk.
    let mut raw = Raw::connect(server);
    raw.send(head(server, "POST", &format!("/v2/short/a/blobs/uploads/?digest={digest}")));
    raw.send("Transfer-Encoding: chunked\r\n\r\n3e8\r\n").send([b'x'; 1000]).send("\r\n").end();
    assert!(!(200..300).contains(&raw.status()));
    assert_eq!(registry.head(&format!("/v2/short/a/blobs/{digest}")).status, 404, "no blob came of it");
    registry.get("/v2/short/a/manifests/v1").expect(404);
    wait_until("the part that arrived is kept", Duration::from_secs(20), || {
        registry.get(&location).expect(204).header("Range") == "0-499"
    });
}

pub fn requests_that_are_no_http(server: &Server) {
    let registry = server.as_admin();
    let host = server.address();
    let endless = format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nX-Endless: {}", "x".repeat(2_000_000));
    let many: String = (0..5000).map(|n| format!("X-{n}: y\r\n")).collect();
    let many = format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\n{many}\r\n");
    let location = registry.begin_upload("http/a");
    let both =
        head(server, "PATCH", &location) + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET ";
    let twice = head(server, "PATCH", &location) + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!";
    let negative = head(server, "PATCH", &location) + "Content-Length: -5\r\n\r\nhello";
    let cases = [
        ("endless header", endless),
        ("many headers", many),
        ("no HTTP", "\u{16}\u{3}\u{1}hello\r\n\r\n".to_owned()),
        ("broken header", format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nno colon here\r\n\r\n")),
        ("broken version", "GET /v2/ HTTP/9.9\r\n\r\n".to_owned()),
        ("two lengths", twice),
        ("negative length", negative),
        ("broken chunk", head(server, "PATCH", &location) + "Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n"),
    ];
    for (what, bytes) in cases {
        let mut raw = Raw::connect(server);
        let status = raw.send(bytes).end().status();
        assert!(status == 0 || (400..500).contains(&status), "{what}: {status}");
    }
    // Length and chunks in one request: whichever counts, the bytes behind it are no second request.
    let mut raw = Raw::connect(server);
    let answer = raw.send(both).end().read_to_end();
    assert!(answer.matches("HTTP/1.1 2").count() <= 1, "{answer}");
    assert_eq!(registry.get(&location).expect(204).header("Range"), "0-0", "nothing has changed");
    // Bytes past the declared length are no part of the body.
    let mut raw = Raw::connect(server);
    raw.send(head(server, "PATCH", &location)).send("Content-Length: 5\r\n\r\nhello and more\r\n\r\n").end();
    let answer = raw.read_to_end();
    assert_eq!(status_of(&answer), 202, "{answer}");
    assert_eq!(registry.get(&location).expect(204).header("Range"), "0-4");
    registry.get("/v2/").expect(200);
}

pub fn methods_that_paths_do_not_have(server: &Server) {
    let registry = server.as_admin();
    for (method, path) in [
        ("POST", "/v2/"),
        ("PUT", "/v2/_catalog"),
        ("DELETE", "/v2/methods/a/tags/list"),
        ("POST", "/v2/methods/a/manifests/v1"),
        ("PUT", "/v2/methods/a/blobs/uploads/"),
        ("PATCH", &format!("/v2/methods/a/blobs/{}", sha256(b"x"))),
    ] {
        let answer = registry.send(method, path, &[], b"".as_slice()).expect(405);
        assert!(!answer.header("Allow").is_empty());
        assert_eq!(answer.code(), "UNSUPPORTED");
    }
}
