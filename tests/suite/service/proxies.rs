//! Behind a reverse proxy: whom the server believes, and what it tells clients about where it is.

use cove_tests::{Answer, Server, add_query, media_type, sha256};

const FORWARDED: [(&str, &str); 3] = [
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "registry.example.com"),
    ("X-Forwarded-For", "198.51.100.7, 203.0.113.9"),
];

fn ask(server: &Server) -> Answer {
    server.as_anonymous().send("GET", "/v2/", &FORWARDED, ()).expect(401)
}

fn realm(answer: &Answer) -> String {
    let challenge = answer.header("WWW-Authenticate");
    let realm = challenge.split_once("realm=\"").and_then(|(_, rest)| rest.split_once('"'));
    realm.unwrap_or_else(|| panic!("no realm in {challenge}")).0.to_owned()
}

#[test]
fn strangers_are_not_believed_and_the_log_says_so_once() {
    let server = Server::builder().args(["--trusted-proxy", "192.0.2.0/24"]).start();
    for _ in 0..3 {
        let answer = ask(&server);
        assert_eq!(realm(&answer), format!("{}/token", server.url()));
        server.wait_for_log(&[&answer.header("X-Request-Id"), "\"client\":\"127.0.0.1\""]);
    }
    let hints = server.log().matches("--trusted-proxy 127.0.0.1").count();
    assert_eq!(hints, 1, "one hint: {}", server.log());
}

#[test]
fn a_trusted_proxy_is_believed() {
    let server = Server::builder().args(["--trusted-proxy", "192.0.2.0/24", "--trusted-proxy", "127.0.0.1"]).start();
    let answer = ask(&server);
    assert_eq!(realm(&answer), "https://registry.example.com/token");
    // What is left of the last address that is no proxy of ours may be made up by the client.
    server.wait_for_log(&[&answer.header("X-Request-Id"), "\"client\":\"203.0.113.9\""]);
    assert!(!server.log().contains("--trusted-proxy 127.0.0.1\""), "no hint: {}", server.log());

    let plain = server.as_anonymous().get("/v2/").expect(401);
    assert_eq!(realm(&plain), format!("{}/token", server.url()));
    let odd = [("X-Forwarded-Proto", "gopher"), ("X-Forwarded-Host", "a\" b"), ("X-Forwarded-For", "nobody, 1.2.3")];
    let answer = server.as_anonymous().send("GET", "/v2/", &odd, ()).expect(401);
    assert_eq!(realm(&answer), "http://localhost/token", "nothing unclean gets into a challenge");
}

#[test]
fn chains_of_trusted_proxies_are_followed_to_the_client() {
    let server = Server::builder().env("COVE_TRUSTED_PROXY", "127.0.0.1,203.0.113.0/24").start();
    let answer = ask(&server);
    server.wait_for_log(&[&answer.header("X-Request-Id"), "\"client\":\"198.51.100.7\""]);
}

#[test]
fn the_public_url_wins() {
    let server = Server::builder()
        .args(["--public-url", "https://hub.example.com:8443", "--trusted-proxy", "127.0.0.1"])
        .start();
    assert_eq!(realm(&ask(&server)), "https://hub.example.com:8443/token");
    assert_eq!(realm(&server.as_anonymous().get("/v2/")), "https://hub.example.com:8443/token");
    assert!(server.log().contains("docker login hub.example.com:8443"), "the greeting too: {}", server.log());
}

#[test]
fn locations_are_relative() {
    let server =
        Server::builder().args(["--public-url", "https://hub.example.com", "--trusted-proxy", "127.0.0.1"]).start();
    let registry = server.as_admin();
    let (bytes, name) = (b"bytes".as_slice(), "library/image");
    let digest = sha256(bytes);
    let mut answers = Vec::new();
    let begun = registry.send("POST", "/v2/library/image/blobs/uploads/", &FORWARDED, b"".as_slice()).expect(202);
    let location = begun.header("Location");
    answers.push(begun);
    answers.push(registry.send("PATCH", &location, &FORWARDED, bytes).expect(202));
    answers.push(registry.send("GET", &location, &FORWARDED, ()).expect(204));
    let wrong = [&FORWARDED[..], &[("Content-Range", "99-99")]].concat();
    answers.push(registry.send("PATCH", &location, &wrong, b"x".as_slice()).expect(416));
    let finish = add_query(&location, &format!("digest={digest}"));
    answers.push(registry.send("PUT", &finish, &FORWARDED, b"".as_slice()).expect(201));
    let single = format!("/v2/{name}/blobs/uploads/?digest={digest}");
    answers.push(registry.send("POST", &single, &FORWARDED, bytes).expect(201));
    let mount = format!("/v2/library/other/blobs/uploads/?mount={digest}&from={name}");
    answers.push(registry.send("POST", &mount, &FORWARDED, b"".as_slice()).expect(201));
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{digest}","size":5}},"layers":[]}}"#,
        media_type::MANIFEST,
        media_type::CONFIG
    );
    for tag in ["a", "b"] {
        let headers = [&FORWARDED[..], &[("Content-Type", media_type::MANIFEST)]].concat();
        let path = format!("/v2/{name}/manifests/{tag}");
        answers.push(registry.send("PUT", &path, &headers, manifest.as_bytes()).expect(201));
    }
    for answer in &answers {
        assert!(answer.header("Location").starts_with("/v2/"), "{answer}");
    }
    let page = registry.send("GET", &format!("/v2/{name}/tags/list?n=1"), &FORWARDED, ()).expect(200);
    assert!(page.header("Link").starts_with("</v2/"), "{page}");
}
