//! Bearer tokens that are not what they should be: forged, confused, ended, glued together. The key that signs is
//! read from the database, so that the forgeries differ from a good token in one thing each.
//!
//! The classes are those of CVE-2025-24976 (a key from the token's own header), CVE-2022-21449 (a signature of
//! zeros), algorithm confusion, key id injection and scope confusion.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod common;

use std::net::TcpListener;
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use common::{ADMIN_PASSWORD, InProcess};
use cove_server::auth::{KEY_AFTERLIFE, jwks, new_signing_key};
use cove_server::metadata::{SigningKeyRow, as_ms, now_ms};
use cove_tests::rights::{Change, Reply, Request, Subject};
use serde_json::{Value, json};

const PASSWORD: &str = "password-of-ann-and-nobody-else";
const PATH: &str = "/v2/ann/app/tags/list";

/// What the cases are made from.
struct Forge {
    server: InProcess,
    key: SigningKeyRow,
    /// A token as the service issues it, for `repository:ann/app:pull`, and its parts.
    good: String,
    header: Value,
    claims: Value,
}

fn text(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn parse(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn signed(header: &Value, claims: &Value, key: &SigningKeyRow) -> String {
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &STANDARD.decode(&key.private_key).unwrap());
    let message = format!("{}.{}", text(header), text(claims));
    let signature = pair.unwrap().sign(&SystemRandom::new(), message.as_bytes()).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn with(value: &Value, field: &str, content: impl Into<Value>) -> Value {
    let mut changed = value.clone();
    changed[field] = content.into();
    changed
}

fn without(value: &Value, field: &str) -> Value {
    let mut changed = value.clone();
    changed.as_object_mut().unwrap().remove(field).expect("the field was there");
    changed
}

fn ask(server: &mut InProcess, method: &'static str, path: &str, authorization: Option<String>, body: &str) -> Reply {
    let content_type = (!body.is_empty()).then_some("application/x-www-form-urlencoded");
    server.ask(&Request { method, path: path.to_owned(), authorization, content_type, body: body.into() })
}

fn basic(name: &str, secret: &str) -> Option<String> {
    Some(format!("Basic {}", STANDARD.encode(format!("{name}:{secret}"))))
}

fn token(server: &mut InProcess, name: &str, secret: &str) -> String {
    let path = "/token?service=cove-server&scope=repository:ann/app:pull";
    let reply = ask(server, "GET", path, basic(name, secret), "");
    assert_eq!(reply.status, 200, "{reply:?}");
    serde_json::from_slice::<Value>(&reply.body).unwrap()["token"].as_str().unwrap().to_owned()
}

fn add_ann(server: &mut InProcess) {
    let (name, password) = ("ann".to_owned(), PASSWORD.to_owned());
    server.change(&Change::AddAccount { name, robot: false, administrator: false, password });
}

impl Forge {
    fn new() -> Self {
        let mut server = InProcess::start(false);
        add_ann(&mut server);
        // A repository that exists, so that 200 means something.
        let digest = cove_tests::sha256("content");
        let path = format!("/v2/ann/app/blobs/uploads/?digest={digest}");
        assert_eq!(ask(&mut server, "POST", &path, basic("ann", PASSWORD), "content").status, 201);
        let key = server.runtime.block_on(server.store.signing_keys()).unwrap().remove(0);
        let good = token(&mut server, "ann", PASSWORD);
        let parts: Vec<&str> = good.split('.').collect();
        let (header, claims) = (parse(parts[0]), parse(parts[1]));
        Forge { server, key, header, claims, good }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        signed(header, claims, &self.key)
    }

    fn claiming(&self, field: &str, content: impl Into<Value>) -> String {
        self.sign(&self.header, &with(&self.claims, field, content))
    }

    fn allowing(&self, kind: &str, name: &str, actions: &[&str]) -> String {
        self.claiming("access", json!([{ "type": kind, "name": name, "actions": actions }]))
    }

    fn naming(&self, kid: impl Into<Value>) -> String {
        self.sign(&with(&self.header, "kid", kid), &self.claims)
    }

    /// Signed with a symmetric key.
    fn hs256(&self, secret: &[u8]) -> String {
        let message = format!("{}.{}", text(&with(&self.header, "alg", "HS256")), text(&self.claims));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    fn status(&mut self, authorization: &str) -> u16 {
        let reply = ask(&mut self.server, "GET", PATH, Some(authorization.to_owned()), "");
        if reply.status == 401 {
            let challenge = reply.header("www-authenticate").expect("a challenge");
            assert!(challenge.starts_with("Bearer realm=\"") && challenge.contains("repository:ann/app:pull"));
        }
        reply.status
    }

    fn try_all(&mut self, cases: Vec<(&str, String, u16)>) -> usize {
        let count = cases.len();
        let mut wrong = Vec::new();
        for (name, authorization, expected) in cases {
            let status = self.status(&authorization);
            if status != expected {
                wrong.push(format!("{name}: {status} instead of {expected}"));
            }
            // What was refused is not remembered as good, nor the other way round.
            assert_eq!(self.status(&authorization), status, "{name}, asked again");
            assert_eq!(self.status(&format!("Bearer {}", self.good)), 200, "the good token after {name}");
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        count
    }
}

/// An uncompressed point (SEC 1), and the same as a SubjectPublicKeyInfo in PEM.
fn public_key(key: &SigningKeyRow) -> (Vec<u8>, String) {
    let coordinate = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let point = [vec![4], coordinate(&key.public_x), coordinate(&key.public_y)].concat();
    let prefix = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
    let prefix = (0..prefix.len()).step_by(2).map(|at| u8::from_str_radix(&prefix[at..at + 2], 16).unwrap());
    let info = STANDARD.encode(prefix.chain(point.iter().copied()).collect::<Vec<u8>>());
    let lines: Vec<&str> = info.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    (point, format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n")))
}

#[test]
fn signatures_and_keys() {
    let mut forge = Forge::new();
    let (header, claims) = (forge.header.clone(), forge.claims.clone());
    let parts: Vec<String> = forge.good.split('.').map(str::to_owned).collect();
    let (signature, unsigned) = (parts[2].clone(), format!("{}.{}", parts[0], parts[1]));
    let (point, pem) = public_key(&forge.key);
    let own = new_signing_key().unwrap();
    let own_jwk = jwks(std::slice::from_ref(&own))["keys"][0].clone();
    let jwk_of_server = jwks(std::slice::from_ref(&forge.key))["keys"][0].to_string();
    // Nobody may come for a key that a token points to.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/keys.json", listener.local_addr().unwrap());
    let by_own = |header: &Value| format!("Bearer {}", signed(header, &claims, &own));
    let no_kid = without(&header, "kid");
    let algorithm = |name: &str| format!("{}.{}.{signature}", text(&with(&header, "alg", name)), parts[1]);
    let flip = |at: usize| {
        let mut bytes = URL_SAFE_NO_PAD.decode(&signature).unwrap();
        bytes[at] ^= 1;
        format!("Bearer {unsigned}.{}", URL_SAFE_NO_PAD.encode(bytes))
    };
    let tampered =
        |field: &str, value: Value| format!("Bearer {}.{}.{signature}", parts[0], text(&with(&claims, field, value)));
    // The last character carries two bits of the signature and four that must be zero.
    let odd_end = {
        let mut text = signature.clone().into_bytes();
        let last = text.last_mut().unwrap();
        *last = match *last {
            b'A' => b'B',
            b'Q' => b'R',
            b'g' => b'h',
            _ => b'x',
        };
        String::from_utf8(text).unwrap()
    };
    let bearer = |token: String| format!("Bearer {token}");
    let access = json!([{ "type": "repository", "name": "ann/app", "actions": ["pull", "push", "delete", "admin"] }]);
    let cases = vec![
        ("as issued", bearer(forge.good.clone()), 200),
        ("signed again here", bearer(forge.sign(&header, &claims)), 200),
        ("alg none, no signature", bearer(format!("{}.{}.", text(&with(&header, "alg", "none")), parts[1])), 401),
        ("alg none, two parts", bearer(format!("{}.{}", text(&with(&header, "alg", "none")), parts[1])), 401),
        ("alg None", bearer(algorithm("None")), 401),
        ("alg none with the signature", bearer(algorithm("none")), 401),
        ("alg empty", bearer(algorithm("")), 401),
        ("alg ES384", bearer(algorithm("ES384")), 401),
        ("alg RS256", bearer(algorithm("RS256")), 401),
        ("alg EdDSA", bearer(algorithm("EdDSA")), 401),
        ("alg HS256 with the signature", bearer(algorithm("HS256")), 401),
        ("HS256 with the public point", bearer(forge.hs256(&point)), 401),
        ("HS256 with the public key as PEM", bearer(forge.hs256(pem.as_bytes())), 401),
        ("HS256 with the public key as JWK", bearer(forge.hs256(jwk_of_server.as_bytes())), 401),
        ("HS256 with the key id", bearer(forge.hs256(forge.key.id.as_bytes())), 401),
        ("HS256 with the empty key", bearer(forge.hs256(b"")), 401),
        ("another key, jwk in the header", by_own(&with(&no_kid, "jwk", own_jwk.clone())), 401),
        ("another key, jwk, the server's kid", by_own(&with(&header, "jwk", own_jwk.clone())), 401),
        (
            "another key, jwk with the server's kid",
            {
                let jwk = with(&own_jwk, "kid", forge.key.id.clone());
                by_own(&with(&header, "jwk", jwk))
            },
            401,
        ),
        ("another key, jku", by_own(&with(&with(&header, "kid", own.id.clone()), "jku", url.clone())), 401),
        ("another key, jku, the server's kid", by_own(&with(&header, "jku", url.clone())), 401),
        ("another key, x5u", by_own(&with(&header, "x5u", url.clone())), 401),
        ("another key, x5c", by_own(&with(&header, "x5c", json!([STANDARD.encode(&point)]))), 401),
        ("another key, x5t", by_own(&with(&header, "x5t", "AAAA")), 401),
        ("another key, its own kid", by_own(&with(&header, "kid", own.id.clone())), 401),
        ("another key, the server's kid", by_own(&header), 401),
        ("another key, no kid", by_own(&no_kid), 401),
        ("kid absent", bearer(forge.sign(&no_kid, &claims)), 401),
        ("kid unknown", bearer(forge.naming("0".repeat(32))), 401),
        ("kid empty", bearer(forge.naming("")), 401),
        ("kid a path", bearer(forge.naming("../../../../../../dev/null")), 401),
        ("kid SQL", bearer(forge.naming("' OR '1'='1")), 401),
        ("kid SQL, union", bearer(forge.naming("x' UNION SELECT id FROM signing_keys --")), 401),
        ("kid a pattern", bearer(forge.naming("%")), 401),
        ("kid with white space", bearer(forge.naming(format!(" {}", forge.key.id))), 401),
        ("kid in capitals", bearer(forge.naming(forge.key.id.to_uppercase() + "X")), 401),
        ("kid a number", bearer(forge.naming(0)), 401),
        ("kid null", bearer(forge.naming(Value::Null)), 401),
        ("kid of 100 kB", bearer(forge.naming("k".repeat(100_000))), 401),
        ("first bit of the signature", flip(0), 401),
        ("last bit of the signature", flip(63), 401),
        ("bits behind the end of the signature", bearer(format!("{unsigned}.{odd_end}")), 401),
        ("a signature of zeros", bearer(format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode([0; 64]))), 401),
        ("an empty signature", bearer(format!("{unsigned}.")), 401),
        ("no signature", bearer(unsigned.clone()), 401),
        ("header only", bearer(parts[0].clone()), 401),
        ("cut by one character", bearer(forge.good[..forge.good.len() - 1].to_owned()), 401),
        (
            "the signature in DER",
            bearer(format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode([0x30, 6, 2, 1, 1, 2, 1, 1]))),
            401,
        ),
        ("payload: another subject", tampered("sub", json!("admin")), 401),
        ("payload: more access", tampered("access", access), 401),
        ("payload: a later end", tampered("exp", json!(9_999_999_999_i64)), 401),
        ("payload: another credential", tampered("credential", json!("password:1:1")), 401),
        (
            "header: another type",
            bearer(format!("{}.{}.{signature}", text(&with(&header, "typ", "at+jwt")), parts[1])),
            401,
        ),
        ("padding behind", bearer(format!("{}=", forge.good)), 401),
        ("huge", bearer(forge.claiming("jti", "j".repeat(300_000))), 401),
    ];
    let count = forge.try_all(cases);
    assert!(count >= 50, "{count}");
    assert!(listener.accept().is_err(), "somebody came for the key that a token pointed to");
}

#[test]
fn claims_and_scopes() {
    let mut forge = Forge::new();
    let now = now_ms() / 1000;
    let claims = forge.claims.clone();
    let (app, none) = ("ann/app", json!([]));
    let mut cases = vec![
        ("aud wrong", forge.claiming("aud", "registry"), 401),
        ("aud empty", forge.claiming("aud", ""), 401),
        ("aud a list without it", forge.claiming("aud", json!(["a", "b"])), 401),
        ("iss wrong", forge.claiming("iss", "https://auth.example"), 401),
        ("iss in capitals", forge.claiming("iss", "COVE-SERVER"), 401),
        ("expired a second ago", forge.claiming("exp", now - 1), 401),
        ("expired long ago", forge.claiming("exp", 1), 401),
        ("exp negative", forge.claiming("exp", -1), 401),
        ("exp a text", forge.claiming("exp", "never"), 401),
        ("exp null", forge.claiming("exp", Value::Null), 401),
        ("not yet valid", forge.claiming("nbf", now + 60), 401),
        ("nbf a text", forge.claiming("nbf", "now"), 401),
        ("sub another account's", forge.claiming("sub", "admin"), 401),
        ("sub nobody's", forge.claiming("sub", ""), 401),
        ("credential empty", forge.claiming("credential", ""), 401),
        ("credential unknown", forge.claiming("credential", "root"), 401),
        ("credential of no token", forge.claiming("credential", "token:999999"), 401),
        ("credential of no account", forge.claiming("credential", "password:999999:1"), 401),
        ("credential of a later password", forge.claiming("credential", "password:2:2"), 401),
        ("credential with more behind", forge.claiming("credential", "password:2:1:1"), 401),
        ("credential anonymous, subject not", forge.claiming("credential", "anonymous"), 401),
        ("no access", forge.claiming("access", none), 401),
        ("access to another repository", forge.allowing("repository", "ann/app2", &["pull"]), 401),
        ("access to what is above", forge.allowing("repository", "ann", &["pull"]), 401),
        ("access to what is below", forge.allowing("repository", "ann/app/x", &["pull"]), 401),
        ("access to `*`", forge.allowing("repository", "*", &["*"]), 401),
        ("access to `ann/*`", forge.allowing("repository", "ann/*", &["*"]), 401),
        ("access to a name with a colon", forge.allowing("repository", "ann/app:latest", &["pull"]), 401),
        ("access to a name in capitals", forge.allowing("repository", "Ann/App", &["pull"]), 401),
        ("access to a name with a slash behind", forge.allowing("repository", "ann/app/", &["pull"]), 401),
        ("access to a name with white space", forge.allowing("repository", " ann/app", &["pull"]), 401),
        ("another action", forge.allowing("repository", app, &["push"]), 401),
        ("an unknown action", forge.allowing("repository", app, &["read"]), 401),
        ("an action in capitals", forge.allowing("repository", app, &["PULL"]), 401),
        ("no action", forge.allowing("repository", app, &[]), 401),
        ("another type", forge.allowing("registry", app, &["pull"]), 401),
        ("an unknown type", forge.allowing("image", app, &["pull"]), 401),
        ("a type in capitals", forge.allowing("Repository", app, &["pull"]), 401),
        ("a type with a class", forge.allowing("repository(plugin)", app, &["pull"]), 401),
        ("the catalog's scope", forge.allowing("registry", "catalog", &["*"]), 401),
        ("action `*` means all", forge.allowing("repository", app, &["*"]), 200),
    ];
    for field in ["exp", "nbf", "aud", "iss", "sub", "iat", "jti", "access", "credential"] {
        cases.push((field, forge.sign(&forge.header, &without(&claims, field)), 401));
    }
    let cases = cases.into_iter().map(|(name, token, status)| (name, format!("Bearer {token}"), status)).collect();
    let count = forge.try_all(cases);
    assert!(count >= 45, "{count}");
}

#[test]
fn the_header_around_the_token() {
    let mut forge = Forge::new();
    let good = forge.good.clone();
    let secret = forge.server.change(&Change::CreateToken {
        account: "ann".to_owned(),
        name: "laptop".to_owned(),
        limits: None,
        expired: false,
    });
    let reply = ask(&mut forge.server, "GET", "/token?offline_token=true", basic("ann", PASSWORD), "");
    let refresher = serde_json::from_slice::<Value>(&reply.body).unwrap()["refresh_token"].as_str().unwrap().to_owned();
    let cases = vec![
        ("bearer", format!("bearer {good}"), 200),
        ("BEARER", format!("BEARER {good}"), 200),
        ("two spaces", format!("Bearer  {good}"), 200),
        ("a tab", format!("Bearer\t{good}"), 401),
        ("quoted", format!("Bearer \"{good}\""), 401),
        ("a comma behind", format!("Bearer {good},"), 401),
        ("without a scheme", good.clone(), 401),
        ("another scheme", format!("Token {good}"), 401),
        ("as Basic", format!("Basic {good}"), 401),
        ("as a parameter", format!("Bearer token={good}"), 401),
        ("twice, with a space", format!("Bearer {good} {good}"), 401),
        ("twice, with a comma", format!("Bearer {good},{good}"), 401),
        ("twice, with a dot", format!("Bearer {good}.{good}"), 401),
        ("the scheme twice", format!("Bearer Bearer {good}"), 401),
        ("nothing", String::new(), 401),
        ("the scheme alone", "Bearer".to_owned(), 401),
        ("the scheme and a space", "Bearer ".to_owned(), 401),
        ("dots", "Bearer ..".to_owned(), 401),
        ("a refresh token", format!("Bearer {refresher}"), 401),
        ("a personal access token", format!("Bearer {secret}"), 401),
        ("a password", format!("Bearer {PASSWORD}"), 401),
        ("a refresh token as password", basic("ann", &refresher).unwrap(), 401),
        ("a bearer token as password", basic("ann", &good).unwrap(), 401),
        ("a personal access token of somebody else", basic("admin", &secret).unwrap(), 401),
        ("a personal access token as password", basic("ann", &secret).unwrap(), 200),
    ];
    forge.try_all(cases);
}

#[test]
fn what_a_token_came_from_has_ended() {
    let mut forge = Forge::new();
    let bought = |forge: &mut Forge, expired: Option<Duration>| {
        let name = format!("token-{}", now_ms());
        let secret = forge.server.change(&Change::CreateToken {
            account: "ann".to_owned(),
            name: name.clone(),
            limits: None,
            expired: false,
        });
        if let Some(lasts) = expired {
            let (server, id) = (&forge.server, forge.server.tokens[&name]);
            let end = Some(now_ms() + as_ms(lasts));
            server.runtime.block_on(server.store.touch_token(id, end)).unwrap();
            // A write that readers are told of.
            forge.server.change(&Change::SetDisabled { name: "ann".to_owned(), disabled: false });
        }
        (name, format!("Bearer {}", token(&mut forge.server, "ann", &secret)))
    };
    let (name, by_token) = bought(&mut forge, None);
    let (_, short) = bought(&mut forge, Some(Duration::from_secs(2)));
    let by_password = format!("Bearer {}", forge.good);
    let expect = |forge: &mut Forge, what: &str, of_token: u16, of_password: u16| {
        assert_eq!(forge.status(&by_token), of_token, "bought with a personal access token, {what}");
        assert_eq!(forge.status(&by_password), of_password, "bought with a password, {what}");
    };
    expect(&mut forge, "at first", 200, 200);
    let disabled = |disabled| Change::SetDisabled { name: "ann".to_owned(), disabled };
    forge.server.change(&disabled(true));
    expect(&mut forge, "account disabled", 401, 401);
    forge.server.change(&disabled(false));
    expect(&mut forge, "account enabled again", 200, 200);
    forge.server.change(&Change::SetPassword { name: "ann".to_owned(), password: "another password".to_owned() });
    expect(&mut forge, "password changed", 200, 401);
    forge.server.change(&Change::RevokeToken { account: "ann".to_owned(), name });
    expect(&mut forge, "token revoked", 401, 401);

    assert_eq!(forge.status(&short), 200, "bought with a token that has not expired yet");
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(forge.status(&short), 401, "bought with a token that has expired");

    let renamed = format!("Bearer {}", token(&mut forge.server, "ann", "another password"));
    assert_eq!(forge.status(&renamed), 200);
    sql(&forge.server, "UPDATE accounts SET name = 'eve' WHERE name = 'ann'");
    assert_eq!(forge.status(&renamed), 401, "the account has another name");
    sql(&forge.server, "UPDATE accounts SET name = 'ann' WHERE name = 'eve'");
    assert_eq!(forge.status(&renamed), 200);
    forge.server.change(&Change::RemoveAccount { name: "ann".to_owned() });
    assert_eq!(forge.status(&renamed), 401, "the account is gone");
    add_ann(&mut forge.server);
    assert_eq!(forge.status(&renamed), 401, "an account of the same name is another account");
    assert_eq!(forge.status(&by_password), 401, "an account of the same name is another account");
}

/// A statement beside the server, of which readers are told as of any other write.
fn sql(server: &InProcess, statement: &'static str) {
    use sqlx::{Connection, Executor};
    server.runtime.block_on(async {
        let url = format!("sqlite://{}", server.folder.path().join("cove.db").display());
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        connection.execute(statement).await.unwrap();
        server.store.set_disabled("nobody", false).await.unwrap();
    });
}

#[test]
fn keys_are_retired() {
    let mut forge = Forge::new();
    let old = format!("Bearer {}", forge.good);
    // The same, for ever: what somebody could sign who got hold of the key.
    let lasting = format!("Bearer {}", forge.claiming("exp", now_ms() / 1000 + 1_000_000));
    let next = new_signing_key().unwrap();
    let server = &forge.server;
    server.runtime.block_on(server.store.add_signing_key(&next, false, as_ms(KEY_AFTERLIFE))).unwrap();
    let published = ask(&mut forge.server, "GET", "/.well-known/jwks.json", None, "");
    let published: Value = serde_json::from_slice(&published.body).unwrap();
    let ids: Vec<&str> = published["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap()).collect();
    assert!(ids.len() == 2 && ids.contains(&next.id.as_str()) && ids.contains(&forge.key.id.as_str()), "{ids:?}");
    assert!(!published.to_string().contains(&next.private_key), "the private key is nobody's business");

    // Another server may sign with the new key at once: it verifies here, without waiting for anything.
    let elsewhere = signed(&with(&forge.header, "kid", next.id.clone()), &forge.claims, &next);
    assert_eq!(forge.status(&format!("Bearer {elsewhere}")), 200, "signed with the new key by another server");
    assert_eq!(forge.status(&old), 200, "signed with the retired key before it ended");
    assert_eq!(forge.status(&lasting), 200);
    std::thread::sleep(Duration::from_millis(1100));
    let new = token(&mut forge.server, "ann", PASSWORD);
    assert_eq!(parse(new.split('.').next().unwrap())["kid"], next.id.as_str(), "new tokens have the new key");

    sql(&forge.server, "UPDATE signing_keys SET retired_ms = retired_ms - 3600000 WHERE retired_ms IS NOT NULL");
    std::thread::sleep(Duration::from_millis(1100));
    token(&mut forge.server, "ann", PASSWORD); // the keys are read again for it
    assert_eq!(forge.status(&lasting), 401, "the retired key has ended");
    assert_eq!(forge.status(&old), 401, "the retired key has ended, whatever was remembered");
    assert_eq!(forge.status(&format!("Bearer {new}")), 200);
}

/// What the token service makes of odd scopes: at most what was meant.
#[test]
fn odd_scopes() {
    let mut forge = Forge::new();
    let pull = json!([{ "type": "repository", "name": "ann/app", "actions": ["pull"] }]);
    let all = json!([{ "type": "repository", "name": "ann/app", "actions": ["pull", "push", "delete", "admin"] }]);
    let catalog = json!([{ "type": "registry", "name": "catalog", "actions": ["*"] }]);
    let nothing = json!([]);
    for (scope, expected) in [
        ("repository:ann/app:pull", Some(&pull)),
        ("repository:ann/app:*", Some(&all)),
        ("repository:ann/app:pull,read,write", Some(&pull)),
        ("repository:ann/app:pull,pull", Some(&pull)),
        ("repository(plugin):ann/app:pull", Some(&pull)),
        ("registry:catalog:*", Some(&catalog)),
        ("repository:ann/app:fly", Some(&nothing)),
        ("repository:ann/app:PULL", Some(&nothing)),
        ("repository:ann/app:", Some(&nothing)),
        ("repository:ben/app:*", Some(&nothing)),
        ("repository:library/x:push,delete", Some(&nothing)),
        ("repository:ann:*", Some(&nothing)),
        ("repository:annex/app:*", Some(&nothing)),
        ("REPOSITORY:ann/app:pull", Some(&nothing)),
        ("image:ann/app:pull", Some(&nothing)),
        ("registry:other:*", Some(&nothing)),
        ("repository:*:*", None),
        ("repository:ann/*:pull", None),
        ("repository:ann/app:pull:push", None),
        ("repository:host:5000/ann/app:pull", None),
        ("repository:Ann/App:pull", None),
        ("repository:../ann/app:pull", None),
        ("repository:ann/app", None),
        ("repository", None),
        (":::", Some(&nothing)),
    ] {
        let encoded: String = url::form_urlencoded::byte_serialize(scope.as_bytes()).collect();
        let reply = ask(&mut forge.server, "GET", &format!("/token?scope={encoded}"), basic("ann", PASSWORD), "");
        match expected {
            Some(access) => {
                assert_eq!(reply.status, 200, "{scope}: {reply:?}");
                let answer: Value = serde_json::from_slice(&reply.body).unwrap();
                let claims = parse(answer["token"].as_str().unwrap().split('.').nth(1).unwrap());
                assert_eq!(claims["access"], *access, "{scope}");
            }
            None => assert_eq!(reply.status, 400, "{scope}: {reply:?}"),
        }
    }
    assert_eq!(ask(&mut forge.server, "GET", "/v2/", basic("admin", ADMIN_PASSWORD), "").status, 200);
}
