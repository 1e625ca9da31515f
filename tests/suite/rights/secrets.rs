//! Secrets stay out of the log, however much is logged.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use cove_tests::{Cmd, Login, Postgres, S3, Server, ServerBuilder, sha256};

use crate::{field, post};

/// How every private key on P-256 begins in PKCS #8 and base64.
const PRIVATE_KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg";

/// A secret, and the forms that it may take on its way.
fn forms(secret: &str) -> Vec<String> {
    let form: String = secret
        .bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    let bytes: Vec<String> = secret.bytes().take(16).map(|byte| byte.to_string()).collect();
    let hex: String = secret.bytes().take(16).map(|byte| format!("{byte:02x}")).collect();
    let base64 = STANDARD_NO_PAD.encode(secret);
    let url = URL_SAFE_NO_PAD.encode(secret);
    vec![secret.to_owned(), form.to_lowercase(), form, bytes.join(", "), hex, base64, url]
}

/// Logs in by all means, pushes and pulls, fails to, and runs every command that sees a secret.
fn live(server: &Server) -> Vec<(&'static str, String)> {
    let password = "a pass/word+with=odd&signs%";
    server.command(["user", "add", "alice", "--password-stdin"]).input(password).ok();
    let alice = Login::new("alice", password);
    let secret = server.admin(["token", "create", "alice"]);
    let by_token = Login::new("alice", &secret);
    let scope = "repository:alice/app:pull,push,delete";
    let mut secrets = vec![("password", password.to_owned()), ("personal access token", secret.clone())];

    for login in [&alice, &by_token] {
        let registry = server.as_user(login);
        let pair = login.pair();
        secrets.push(("Basic credentials", STANDARD.encode(&pair)));
        let bought = registry.get(&format!("/token?scope={scope}&offline_token=true")).expect(200);
        let (token, refresher) = (field(&bought, "token"), field(&bought, "refresh_token"));
        let posted = [("grant_type", "password"), ("username", "alice"), ("password", login.password.as_str())];
        let posted = post(server, &posted).expect(200);
        let renewed = [("grant_type", "refresh_token"), ("refresh_token", refresher.as_str()), ("scope", scope)];
        let renewed = post(server, &renewed).expect(200);
        for token in [&token, &field(&posted, "token"), &field(&renewed, "token")] {
            secrets.push(("signature of a bearer token", token.rsplit('.').next().expect("a signature").to_owned()));
        }
        secrets.push(("refresh token", refresher.clone()));
        for registry in [&registry, &server.as_anonymous().with_token(&token)] {
            registry.get("/v2/").expect(200);
            let digest = registry.push_blob("alice/app", b"{}");
            registry.get(&format!("/v2/alice/app/blobs/{digest}")).expect(200);
            registry.get("/v2/alice/app/tags/list").expect(200);
            registry.get("/v2/library/x/tags/list");
            registry.patch("/v2/alice/app/blobs/uploads/none", &[], b"bytes").expect(404);
            registry.put(&format!("/v2/alice/app/manifests/{}", sha256(b"x")), &[], b"no manifest").expect(400);
            registry.get("/v2/_catalog");
        }
        // Over HTTP/2, whose implementation logs a lot.
        let curl = |arguments: &[&str]| {
            let url = format!("{}/v2/", server.url());
            Cmd::new("curl").args(["-sS", "--http2-prior-knowledge", "-o", "/dev/null"]).args(arguments).arg(url).ok()
        };
        curl(&["-u", &pair]);
        curl(&["-H", &format!("Authorization: Bearer {token}")]);
        curl(&["-u", &pair, "-X", "POST", "-d", &format!("password={}", login.password)]);
        // What is wrong is as secret: often it is right somewhere else.
        let wrong = Login::new("alice", &format!("{}x", login.password));
        server.as_user(&wrong).get("/v2/").expect(401);
        server.as_user(&wrong).get("/token").expect(401);
        let refused = [("grant_type", "refresh_token"), ("refresh_token", "cove_rt_of-another-registry")];
        post(server, &refused).expect(401);
        secrets.push(("somebody else's refresh token", "cove_rt_of-another-registry".to_owned()));
        server.as_anonymous().with_token(&format!("{token}x")).get("/v2/").expect(401);
        // Mixed up: a password where a token belongs, and in fields that are wrong.
        let mixed = [("grant_type", login.password.as_str()), ("refresh_token", login.password.as_str())];
        post(server, &mixed).expect(400);
        server.as_anonymous().with_token(&secret).get("/v2/").expect(401);
    }
    server.command(["user", "passwd", "alice", "--password-stdin"]).input("the-next-password-of-alice").ok();
    server.as_user(&Login::new("alice", "the-next-password-of-alice")).get("/v2/").expect(200);
    server.admin(["key", "rotate"]);
    server.admin(["token", "revoke", "1"]);
    secrets.push(("next password", "the-next-password-of-alice".to_owned()));
    secrets.push(("the administrator's password", server.admin_login().password));
    secrets
}

fn search(server: &Server, secrets: &[(&str, String)]) {
    let log = server.log();
    for line in ["\"level\":\"TRACE\"", "sqlx::query", "h2::", "\"message\":\"request\""] {
        assert!(log.contains(line), "the log has no {line}: is it at trace level at all?");
    }
    for (what, secret) in secrets {
        for form in forms(secret) {
            if let Some(line) = log.lines().find(|line| line.contains(&form)) {
                panic!("the log shows a secret ({what}) as {form}:\n{line}");
            }
        }
    }
    for marker in ["PRIVATE KEY", PRIVATE_KEY, "AWS4-HMAC", "Signature=", "Basic ", "Bearer ey"] {
        assert!(!log.contains(marker), "the log holds `{marker}`");
    }
}

fn start(builder: ServerBuilder) -> Server {
    builder.args(["--log", "trace"]).start()
}

#[test]
fn no_secret_in_a_trace_on_sqlite_and_a_folder() {
    let server = start(Server::builder());
    let secrets = live(&server);
    search(&server, &secrets);
}

#[test]
fn no_secret_in_a_trace_on_postgresql_and_s3() {
    let (postgres, s3) = (Postgres::start(), S3::start());
    let database = postgres.url().replace("cove:cove@", "cove:the-password-of-the-database@");
    let server = start(Server::builder().database(&database).s3(&s3, "secrets"));
    let mut secrets = live(&server);
    secrets.push(("password of the database", "the-password-of-the-database".to_owned()));
    secrets.push(("secret key of S3", S3::SECRET_KEY.to_owned()));
    for key in postgres.query("select private_key from signing_keys").lines() {
        secrets.push(("private key", key.to_owned()));
    }
    for hash in postgres.query("select password from accounts where password is not null").lines() {
        secrets.push(("hash of a password", hash.to_owned()));
    }
    search(&server, &secrets);
}
