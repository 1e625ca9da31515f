//! The token service: both forms, every field, what ends a refresh token, and keys that are rotated.

use std::time::Duration;

use cove_tests::{Answer, Cmd, Login, Server, wait_until};
use serde_json::{Value, json};

use crate::{claims, field, header, post, status_with};

const SCOPE: &str = "repository:alice/app:pull,push";

fn get(server: &Server, login: Option<&Login>, query: &str) -> Answer {
    let registry = login.map_or_else(|| server.as_anonymous(), |login| server.as_user(login));
    registry.get(&format!("/token{query}"))
}

fn seconds(time: &str) -> i64 {
    Cmd::new("date").args(["-d", time, "+%s"]).ok().parse().expect("date prints a number")
}

/// What holds for every token that is handed out.
fn check_fields(answer: &Answer, before: i64) {
    let body = answer.json();
    assert_eq!(body["token"], body["access_token"], "podman takes the one, others the other: {answer}");
    assert!(body["expires_in"].as_u64().expect("a number") >= 60, "{answer}");
    let issued = field(answer, "issued_at");
    // RFC 3339, which `date` reads too: 2024-02-29T12:00:00Z.
    let shape: String = issued.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!(shape, "9999-99-99T99:99:99Z", "{answer}");
    let (issued, now) = (seconds(&issued), seconds("now"));
    assert!(before <= issued && issued <= now, "issued between {before} and {now}: {answer}");
    assert_eq!(answer.header("Content-Type"), "application/json");
    assert_eq!(answer.header("Cache-Control"), "no-store");
    let claims = claims(&field(answer, "token"));
    assert!(claims["exp"].as_i64().expect("exp") >= issued + 60 && claims["nbf"].as_i64().expect("nbf") <= issued);
    for name in ["iss", "sub", "aud", "iat", "jti", "access"] {
        assert!(!claims[name].is_null(), "the claim {name} is missing: {claims}");
    }
    let header = header(&field(answer, "token"));
    assert_eq!((&header["typ"], header["kid"].is_string()), (&json!("JWT"), true), "{header}");
    assert!(["ES256", "RS256", "EdDSA"].contains(&header["alg"].as_str().expect("alg")), "{header}");
}

#[test]
fn the_get_form() {
    let server = Server::start();
    let alice = server.add_user("alice");
    let before = seconds("now");
    let challenge = server.as_anonymous().get("/v2/").expect(401).header("WWW-Authenticate");
    let service = challenge.split("service=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a service");

    // As docker logs in: no scope, and a refresh token.
    let login =
        get(&server, Some(&alice), &format!("?account=alice&client_id=docker&offline_token=true&service={service}"));
    check_fields(&login.expect(200), before);
    let login = get(&server, Some(&alice), &format!("?offline_token=true&service={service}"));
    assert!(login.json()["refresh_token"].is_string(), "{login}");
    assert_eq!(status_with(&server, &field(&login, "token"), "/v2/"), 200);

    let plain = get(&server, Some(&alice), &format!("?service={service}&scope={SCOPE}")).expect(200);
    check_fields(&plain, before);
    assert!(plain.json()["refresh_token"].is_null(), "only when asked: {plain}");
    let no = get(&server, Some(&alice), &format!("?service={service}&scope={SCOPE}&offline_token=false")).expect(200);
    assert!(no.json()["refresh_token"].is_null(), "only when asked: {no}");

    // Scopes repeated, and several in one parameter.
    for query in [
        "?scope=repository:alice/a:pull&scope=repository:alice/b:push",
        "?scope=repository:alice/a:pull%20repository:alice/b:push",
        "?scope=repository:alice/a:pull+repository:alice/b:push",
    ] {
        let answer = get(&server, Some(&alice), query).expect(200);
        let access = json!([
            { "type": "repository", "name": "alice/a", "actions": ["pull"] },
            { "type": "repository", "name": "alice/b", "actions": ["push"] },
        ]);
        assert_eq!(claims(&field(&answer, "token"))["access"], access, "{query}");
    }
    // What one may not is left out, and no error.
    let query = "?scope=repository:library/x:pull,push&scope=repository:alice/a:pull,push";
    let answer = get(&server, Some(&alice), query).expect(200);
    let access = json!([{ "type": "repository", "name": "alice/a", "actions": ["pull", "push"] }]);
    assert_eq!(claims(&field(&answer, "token"))["access"], access);
    let nothing = get(&server, Some(&alice), "?scope=repository:library/x:push").expect(200);
    assert_eq!(claims(&field(&nothing, "token"))["access"], json!([]));

    // Anonymous: nothing without a scope; with one, what is public.
    get(&server, None, &format!("?service={service}")).expect(401);
    get(&server, None, "?offline_token=true").expect(401);
    server.admin(["repo", "set", "library/open", "--public"]);
    let query = "?scope=repository:library/open:pull,push&scope=repository:library/closed:pull&offline_token=true";
    let anonymous = get(&server, None, query).expect(200);
    check_fields(&anonymous, before);
    assert!(anonymous.json()["refresh_token"].is_null(), "nobody's token cannot be renewed: {anonymous}");
    let access = json!([{ "type": "repository", "name": "library/open", "actions": ["pull"] }]);
    assert_eq!(claims(&field(&anonymous, "token"))["access"], access);
    let token = field(&anonymous, "token");
    assert_eq!(status_with(&server, &token, "/v2/"), 200);
    assert_eq!(status_with(&server, &token, "/v2/library/open/tags/list"), 200);
    assert_eq!(status_with(&server, &token, "/v2/library/closed/tags/list"), 401);

    // Wrong credentials are an error, with a scope for what is public too.
    for wrong in [Login::new("alice", "wrong"), Login::new("nobody", "wrong"), Login::new("alice", "")] {
        let answer = get(&server, Some(&wrong), "?scope=repository:library/open:pull").expect(401);
        assert_eq!(answer.code(), "UNAUTHORIZED");
        assert!(answer.find_header("WWW-Authenticate").is_some());
    }
    get(&server, Some(&alice), "?service=somewhere-else").expect(400);
}

#[test]
fn the_post_form() {
    let server = Server::start();
    let alice = server.add_user("alice");
    let before = seconds("now");
    let (name, password) = (("username", "alice"), ("password", alice.password.as_str()));
    let (service, client) = (("service", "cove-server"), ("client_id", "containerd-client"));
    let grant = ("grant_type", "password");

    let plain = post(&server, &[grant, service, client, name, password, ("scope", SCOPE)]).expect(200);
    check_fields(&plain, before);
    assert_eq!(plain.json()["scope"], SCOPE);
    assert!(plain.json()["refresh_token"].is_null(), "only when asked: {plain}");
    let more = ("scope", "repository:alice/app:pull repository:library/x:push");
    let less = post(&server, &[grant, service, client, name, password, more]).expect(200);
    assert_eq!(less.json()["scope"], "repository:alice/app:pull", "the scope is what was granted");

    let offline = post(&server, &[grant, service, client, name, password, ("access_type", "offline")]).expect(200);
    let refresher = field(&offline, "refresh_token");
    assert_eq!(offline.json()["scope"], "");

    // A refresh token works again and again; podman repeats the scope.
    let refresh = [("grant_type", "refresh_token"), service, client, ("refresh_token", refresher.as_str())];
    for _ in 0..3 {
        let scopes = [("scope", "repository:alice/app:pull"), ("scope", "repository:alice/other:push")];
        let answer = post(&server, &[&refresh[..], &scopes[..]].concat()).expect(200);
        check_fields(&answer, before);
        assert_eq!(answer.json()["scope"], "repository:alice/app:pull repository:alice/other:push");
        assert!(answer.json()["refresh_token"].is_null(), "only when asked: {answer}");
        assert_eq!(status_with(&server, &field(&answer, "token"), "/v2/"), 200);
    }
    // Asked for, it is the same one: docker never saves another.
    let again = post(&server, &[&refresh[..], &[("access_type", "offline")]].concat()).expect(200);
    assert_eq!(field(&again, "refresh_token"), refresher);
    let listed = server.admin(["token", "list", "alice"]);
    assert_eq!(listed.matches("refresh").count(), 1, "{listed}");
    assert!(!listed.contains(&refresher), "only its hash is stored: {listed}");

    for wrong in [
        vec![grant, name, ("password", "wrong")],
        vec![grant, ("username", "nobody"), password],
        vec![("grant_type", "refresh_token"), ("refresh_token", "cove_rt_AAAA")],
        vec![("grant_type", "refresh_token"), ("refresh_token", alice.password.as_str())],
        // A bearer token or a personal access token is no refresh token, nor the other way round.
        vec![grant, name, ("password", refresher.as_str())],
    ] {
        assert_eq!(post(&server, &wrong).expect(401).code(), "UNAUTHORIZED", "{wrong:?}");
    }
    for malformed in [
        vec![name, password],
        vec![("grant_type", "client_credentials"), name, password],
        vec![grant, name],
        vec![grant, password],
        vec![("grant_type", "refresh_token")],
        vec![grant, name, password, ("service", "somewhere-else")],
        vec![grant, name, password, ("scope", "repository")],
    ] {
        post(&server, &malformed).expect(400);
    }
}

/// A refresh token ends with the password, the token or the account that it came from.
#[test]
fn what_ends_a_refresh_token() {
    let server = Server::start();
    let alice = server.add_user("alice");
    let bought = |secret: &str| {
        let answer = get(&server, Some(&Login::new("alice", secret)), "?offline_token=true").expect(200);
        field(&answer, "refresh_token")
    };
    let renew = |refresher: &str| {
        let scope = ("scope", "repository:alice/app:pull");
        post(&server, &[("grant_type", "refresh_token"), ("refresh_token", refresher), scope]).status
    };
    let secret = server.admin(["token", "create", "alice", "--name", "laptop", "--scope", "repository:alice/*:pull"]);
    let (by_password, by_token) = (bought(&alice.password), bought(&secret));
    let expect = |what: &str, of_password: u16, of_token: u16| {
        assert_eq!(renew(&by_password), of_password, "bought with the password: {what}");
        assert_eq!(renew(&by_token), of_token, "bought with the token: {what}");
    };
    expect("at first", 200, 200);
    // It has the limits of the token that it came from.
    let scope = ("scope", "repository:alice/app:pull,push");
    let limited = post(&server, &[("grant_type", "refresh_token"), ("refresh_token", &by_token), scope]).expect(200);
    assert_eq!(limited.json()["scope"], "repository:alice/app:pull");

    server.admin(["user", "disable", "alice"]);
    expect("account disabled", 401, 401);
    server.admin(["user", "enable", "alice"]);
    expect("account enabled", 200, 200);
    server.command(["user", "passwd", "alice", "--password-stdin"]).input("another-password").ok();
    expect("password changed", 401, 200);
    let listed = server.admin(["token", "list", "alice"]);
    let id = |words: [&str; 2]| {
        let line = listed.lines().find(|line| words.iter().all(|word| line.contains(word)));
        line.and_then(|line| line.split_whitespace().next()).unwrap_or_else(|| panic!("no {words:?} in {listed}"))
    };
    server.admin(["token", "revoke", id(["personal", "laptop"])]);
    expect("token revoked", 401, 401);

    let alone = bought("another-password");
    assert_eq!(renew(&alone), 200);
    let listed = server.admin(["token", "list", "alice"]);
    let last = listed.lines().rfind(|line| line.contains("refresh")).expect("a refresh token");
    server.admin(["token", "revoke", last.split_whitespace().next().expect("an id")]);
    assert_eq!(renew(&alone), 401, "the refresh token itself was revoked");

    let last = bought("another-password");
    server.admin(["user", "rm", "alice"]);
    assert_eq!(renew(&last), 401, "the account is gone");
    server.add_user("alice");
    assert_eq!(renew(&last), 401, "an account of the same name is another account");
}

#[test]
fn keys_are_rotated() {
    let server = Server::start();
    let alice = server.add_user("alice");
    let token = || field(&get(&server, Some(&alice), "?scope=repository:alice/app:pull"), "token");
    let published = || -> Vec<Value> {
        let answer = server.as_anonymous().get("/.well-known/jwks.json").expect(200).json();
        answer["keys"].as_array().expect("keys").clone()
    };
    let ids =
        || -> Vec<String> { published().iter().map(|key| key["kid"].as_str().expect("kid").to_owned()).collect() };
    let kid = |token: &str| header(token)["kid"].as_str().expect("kid").to_owned();
    let old = token();
    assert_eq!(ids(), [kid(&old)]);
    for key in published() {
        assert!(key["kty"].is_string() && key["alg"].is_string() && key["d"].is_null(), "{key}");
    }

    server.admin(["key", "rotate"]);
    assert_eq!(ids().len(), 2);
    assert!(ids().contains(&kid(&old)), "old tokens can still be verified");
    assert_eq!(status_with(&server, &old, "/v2/"), 200, "old tokens count until they expire");
    wait_until("new tokens are signed with the new key", Duration::from_secs(60), || kid(&token()) != kid(&old));
    let new = token();
    assert!(ids().contains(&kid(&new)));
    for token in [&old, &new] {
        assert_eq!(status_with(&server, token, "/v2/"), 200);
    }

    let mut server = server;
    server.restart();
    assert_eq!(status_with(&server, &old, "/v2/"), 200, "keys are kept in the database");
    assert_eq!(status_with(&server, &new, "/v2/"), 200);
}
