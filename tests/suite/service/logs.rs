//! What the log says of each request.

use cove_tests::{Cmd, Noise, Scratch, SendBody, Server, add_query, sha256, wait_until};
use serde_json::Value;
use std::time::Duration;

/// The lines about one request, as objects.
fn lines(server: &Server, id: &str) -> Vec<Value> {
    server.wait_for_log(&[id, "\"message\":\"request\""]);
    let log = server.log();
    let parsed = log.lines().filter(|line| line.starts_with('{')).map(|line| {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("a line that is not JSON: {error}: {line}"))
    });
    parsed.filter(|line| line["message"] == "request" && line["id"] == *id).collect()
}

fn line(server: &Server, id: &str) -> Value {
    let mut lines = lines(server, id);
    assert_eq!(lines.len(), 1, "one line a request: {lines:?}");
    lines.remove(0)
}

#[test]
fn one_line_a_request_says_who_did_what_with_how_much() {
    let server = Server::start();
    let alice = server.add_user("alice");
    let registry = server.as_user(&alice);
    let bytes = Noise::bytes(300_000);
    let digest = sha256(&bytes);

    let location = registry.begin_upload("alice/deep/image");
    // As docker sends it: without a length.
    let body = SendBody::from_owned_reader(std::io::Cursor::new(bytes.clone()));
    let patched = registry.send("PATCH", &location, &[("User-Agent", "a-test/1")], body).expect(202);
    let said = line(&server, &patched.header("X-Request-Id"));
    assert_eq!(said["method"], "PATCH");
    assert_eq!(said["status"], 202);
    assert_eq!(said["principal"], "alice");
    assert_eq!(said["client"], "127.0.0.1");
    assert_eq!(said["agent"], "a-test/1");
    assert_eq!(said["repository"], "alice/deep/image");
    assert_eq!(said["received_bytes"], 300_000);
    assert_eq!(said["sent_bytes"], 0);
    assert!(said["duration_ms"].as_f64().expect("a number") > 0.0);
    assert!(said["timestamp"].as_str().expect("a time").ends_with('Z'));

    let put = registry.put(&add_query(&location, &format!("digest={digest}")), &[], b"").expect(201);
    assert_eq!(line(&server, &put.header("X-Request-Id"))["digest"], *digest);

    let got = registry.get(&format!("/v2/alice/deep/image/blobs/{digest}")).expect(200);
    let said = line(&server, &got.header("X-Request-Id"));
    assert_eq!(said["digest"], *digest);
    assert_eq!(said["sent_bytes"], 300_000);
    assert_eq!(said["received_bytes"], 0);

    // What is refused is told too, with the digest that was asked for; the reason for a wrong login is not who.
    let absent = sha256(b"absent");
    let missing = registry.get(&format!("/v2/alice/image/blobs/{absent}")).expect(404);
    let said = line(&server, &missing.header("X-Request-Id"));
    assert_eq!((&said["digest"], &said["repository"]), (&absent.into(), &"alice/image".into()));
    let refused = server.as_anonymous().get("/v2/alice/image/tags/list").expect(401);
    let said = line(&server, &refused.header("X-Request-Id"));
    assert_eq!((&said["status"], &said["principal"]), (&401.into(), &"-".into()));
    assert_eq!(said["client"], "127.0.0.1");

    let token = registry.get("/token?scope=repository:alice/image:pull").expect(200);
    let said = line(&server, &token.header("X-Request-Id"));
    assert_eq!((&said["path"], &said["principal"]), (&"/token".into(), &"alice".into()), "the query is not logged");
    assert_ne!(token.header("X-Request-Id"), refused.header("X-Request-Id"));
}

#[test]
fn text_where_it_is_wanted() {
    let server = Server::builder().args(["--log-format", "text"]).start();
    let answer = server.as_admin().get("/v2/").expect(200);
    let id = answer.header("X-Request-Id");
    server.wait_for_log(&[&id, "request", "principal=\"admin\""]);
    assert!(!server.log().contains("{\""), "text and not JSON: {}", server.log());
}

#[test]
fn text_on_a_terminal() {
    let folder = Scratch::new("terminal");
    let (log, data) = (folder.join("log"), folder.join("data"));
    let program = format!("{} --listen 127.0.0.1:0 --data {}", Server::program().display(), data.display());
    let process = Cmd::new("script").args(["-q", "-e", "-c", &program, "/dev/null"]).start(&log);
    wait_until("the server runs on its terminal", Duration::from_secs(30), || process.log().contains("listening on"));
    let said = process.log();
    let line = said.lines().find(|line| line.contains("listening on")).expect("just seen");
    assert!(!line.contains("{\""), "text on a terminal: {line}");
    assert!(said.contains("Log in:   docker login 127.0.0.1:"), "{said}");
    assert!(said.contains("Password: "), "the made-up password is printed: {said}");
}

#[test]
fn the_filter_is_a_setting() {
    let server = Server::builder().args(["--log", "warn"]).start();
    server.as_admin().get("/v2/").expect(200);
    assert!(!server.log().contains("\"message\":\"request\""), "{}", server.log());
    let printed = Cmd::new(Server::program())
        .args(["--listen", "127.0.0.1:0", "--log", "cove_server=loud", "--data"])
        .arg(server.folder().join("other"))
        .fails();
    assert!(printed.contains("--log `cove_server=loud`"), "{printed}");
}
