//! Registries that lie, leak and lead astray.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::Write;
use std::sync::{Arc, Mutex};

use axum::response::Response;
use common::{Fake, Memory, client, digest, layer, manifest, noise, password, read, reply, repository, tag};
use cove_oci::{ManifestReference, media_type};
use cove_remote::{Access, Credential, NoCredentials};
use cove_transfer::{Kind, Side, Silent, Source, Target};

const SECRET: &str = "planted-secret-7391";

fn challenge(realm: &str) -> String {
    format!(r#"Bearer realm="{realm}",service="x",scope="repository:app:pull""#)
}

fn token() -> Response {
    reply(200, &[], format!(r#"{{"token":"{SECRET}-token","expires_in":300}}"#))
}

fn refused(realm: &str) -> Response {
    reply(401, &[("www-authenticate", &challenge(realm))], "")
}

#[tokio::test]
async fn credentials_do_not_go_where_an_answer_says() {
    let witness = Fake::start(|_, _| token()).await;
    let port = witness.name.port().unwrap();
    let realms = [
        format!("http://user:hunter2@127.0.0.1:{port}/token"),
        format!("http://user@127.0.0.1:{port}/token"),
        format!("http://10.0.0.1:{port}/token"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "https://169.254.169.254/".to_owned(),
        "https://224.0.0.1/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "http://evil.invalid/token".to_owned(),
        "".to_owned(),
        "http://[".to_owned(),
    ];
    for realm in realms {
        let text = realm.clone();
        let registry = Fake::start(move |_, _| refused(&text)).await;
        let client = client(password(&registry.name, "alice", SECRET));
        let error = repository(&client, &registry.name, "app", Access::Pull).resolve(&tag("x")).await.unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(registry.seen().iter().all(|seen| seen.header("authorization").is_none()), "{realm}");
    }
    assert_eq!(witness.seen().len(), 0);
}

#[tokio::test]
async fn a_token_service_gets_the_password_and_nobody_else_does() {
    let (blob, bytes) = layer(1, 5000);
    let storage_bytes = bytes.clone();
    let storage = Fake::start(move |_, _| reply(200, &[], storage_bytes.clone())).await;
    let service = Fake::start(|_, _| token()).await;
    let realm = format!("http://{}/token?x=1", service.name);
    let location = format!("http://{}/bucket?signature={SECRET}", storage.name);
    let registry = Fake::start(move |seen, _| match seen.header("authorization") {
        Some(text) if text.starts_with("Bearer") => reply(307, &[("location", &location)], ""),
        _ => refused(&realm),
    })
    .await;
    let client = client(password(&registry.name, "alice", SECRET));
    let source = repository(&client, &registry.name, "app", Access::Pull);
    assert_eq!(read(&source, &blob, 0).await.unwrap(), bytes);
    assert_eq!(read(&source, &blob, 0).await.unwrap(), bytes);
    let asked = service.seen();
    assert_eq!(asked.len(), 1, "the token is kept");
    assert!(asked[0].header("authorization").unwrap().starts_with("Basic "));
    for part in ["x=1", "account=alice", "client_id=cove", "service=x", "scope=repository%3Aapp%3Apull"] {
        assert!(asked[0].query().contains(part), "{part}: {}", asked[0].query());
    }
    assert!(storage.seen().iter().all(|seen| seen.header("authorization").is_none()));
    assert!(registry.seen().iter().all(|seen| !seen.header("authorization").unwrap_or("").starts_with("Basic")));
}

#[tokio::test]
async fn authorisation_that_was_left_behind_stays_behind() {
    // Away and back again: whoever is between could choose what is asked for in the user's name.
    let back = Arc::new(Mutex::new(String::new()));
    let to = back.clone();
    let between = Fake::start(move |_, _| reply(302, &[("location", &to.lock().unwrap())], "")).await;
    let away = format!("http://{}/", between.name);
    let registry = Fake::start(move |seen, _| match (seen.path(), seen.header("authorization")) {
        ("/v2/private/tags/list", None) => reply(200, &[], "stolen"),
        (_, None) => reply(401, &[("www-authenticate", "Basic realm=x")], ""),
        (_, Some(_)) => reply(302, &[("location", &away)], ""),
    })
    .await;
    *back.lock().unwrap() = format!("http://{}/v2/private/tags/list", registry.name);
    let client = client(password(&registry.name, "alice", SECRET));
    let (blob, _) = layer(1, 6);
    let _ = read(&repository(&client, &registry.name, "app", Access::Pull), &blob, 0).await;
    let last = registry.seen().into_iter().find(|seen| seen.path().contains("private")).unwrap();
    assert_eq!(last.header("authorization"), None);
    assert!(between.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[tokio::test]
async fn redirects_end() {
    let registry = Fake::start(|seen, _| reply(302, &[("location", &format!("{}x", seen.path()))], "")).await;
    let client = client(Arc::new(NoCredentials));
    let error = repository(&client, &registry.name, "app", Access::Pull).resolve(&tag("x")).await.unwrap_err();
    assert!(error.to_string().contains("eleventh"), "{error}");
    assert!(registry.seen().len() <= 11 + 1, "{}", registry.seen().len()); // and one that asks for TLS
}

#[tokio::test]
async fn an_upload_elsewhere_goes_without_credentials() {
    let storage = Fake::start(|seen, _| match seen.method.as_str() {
        "PUT" => reply(201, &[], ""),
        _ => reply(202, &[], ""),
    })
    .await;
    let location = format!("http://{}/upload?state={SECRET}", storage.name);
    let registry = Fake::start(move |seen, _| match (seen.method.as_str(), seen.header("authorization")) {
        (_, None) => reply(401, &[("www-authenticate", "Basic realm=x")], ""),
        ("HEAD", _) => reply(404, &[], ""),
        _ => reply(202, &[("location", &location)], ""),
    })
    .await;
    let client = client(password(&registry.name, "alice", SECRET));
    let memory = Memory::default();
    for size in [1000, 2_000_000] {
        let blob = memory.add_blob(media_type::OCI_LAYER, noise(2, size));
        let target = repository(&client, &registry.name, "app", Access::Push);
        target.put_blob(&blob, &memory, &Silent).await.unwrap();
    }
    let seen = storage.seen();
    assert!(seen.iter().any(|seen| seen.is("PATCH", "/upload")) && seen.iter().any(|seen| seen.is("PUT", "digest=")));
    assert!(seen.iter().all(|seen| seen.header("authorization").is_none()));
    assert!(seen.iter().all(|seen| seen.query().contains("state=")), "the query of a location stays");
    // Not where it must not go.
    for location in ["http://169.254.169.254/x", "ftp://x/y", "http://a:b@127.0.0.1:1/", "http://["] {
        let registry = Fake::start(move |seen, _| match seen.method.as_str() {
            "HEAD" => reply(404, &[], ""),
            _ => reply(202, &[("location", location)], ""),
        })
        .await;
        let client = common::client(Arc::new(NoCredentials));
        let blob = memory.add_blob(media_type::OCI_LAYER, noise(3, 100));
        let target = repository(&client, &registry.name, "app", Access::Push);
        let error = target.put_blob(&blob, &memory, &Silent).await.unwrap_err();
        assert_eq!(error.side(), Side::Target, "{location}: {error}");
    }
}

#[tokio::test]
async fn one_flipped_bit_is_seen_in_every_body() {
    let (descriptor, json) = manifest();
    let stated = descriptor.digest.to_string();
    // Every bit of a manifest, with headers that say that all is well.
    for at in (0..json.len()).step_by(7) {
        let mut wrong = json.clone().into_bytes();
        wrong[at] ^= 1;
        let stated = stated.clone();
        let registry = Fake::start(move |_, _| {
            let headers = [("content-type", media_type::OCI_MANIFEST), ("docker-content-digest", stated.as_str())];
            reply(200, &headers, wrong.clone())
        })
        .await;
        let client = client(Arc::new(NoCredentials));
        let source = repository(&client, &registry.name, "app", Access::Pull);
        assert_eq!(source.manifest(&descriptor).await.unwrap_err().kind(), Kind::Corrupt, "{at}");
        let by_digest = ManifestReference::Digest(descriptor.digest.clone());
        // HEAD cannot tell; what is read in its place can.
        if let Ok(found) = source.resolve(&by_digest).await {
            assert_eq!(found.digest, descriptor.digest);
        }
    }
}

#[tokio::test]
async fn manifests_that_are_not_what_they_say() {
    let (descriptor, json) = manifest();
    let stated = descriptor.digest.to_string();
    let other = digest(b"other").to_string();
    let oci = media_type::OCI_MANIFEST;
    let ask = async |content_type: &'static str, stated: String, body: Vec<u8>| {
        let registry = Fake::start(move |_, _| {
            reply(200, &[("content-type", content_type), ("docker-content-digest", &stated)], body.clone())
        })
        .await;
        let client = client(Arc::new(NoCredentials));
        let source = repository(&client, &registry.name, "app", Access::Pull);
        let resolved = source.resolve(&ManifestReference::Digest(descriptor.digest.clone())).await;
        (resolved.map(|found| found.digest), source.manifest(&descriptor).await.map(|_| ()))
    };
    let body = || json.clone().into_bytes();
    let (resolved, read) = ask(oci, stated.clone(), body()).await;
    assert!(read.is_ok() && resolved.unwrap() == descriptor.digest);
    let (resolved, _) = ask(oci, other, body()).await;
    assert!(resolved.is_err(), "another digest than was asked for");
    for content_type in [media_type::OCI_INDEX, media_type::DOCKER_MANIFEST, "text/html", "application/json"] {
        assert!(ask(content_type, stated.clone(), body()).await.1.is_err(), "{content_type}");
    }
    let (_, read) = ask(oci, stated.clone(), vec![b' '; 5 * 1024 * 1024]).await;
    assert!(read.unwrap_err().to_string().contains("4194304"));
    let mut longer = body();
    longer.push(b' ');
    assert_eq!(ask(oci, stated.clone(), longer).await.1.unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(ask(oci, stated, body()[..50].to_vec()).await.1.unwrap_err().kind(), Kind::Corrupt);
}

#[tokio::test]
async fn tokens_are_renewed_once_and_identity_tokens_are_posted() {
    let service = Fake::start(|seen, number| match seen.method.as_str() {
        "POST" => reply(200, &[], format!(r#"{{"access_token":"t{number}","expires_in":3600}}"#)),
        _ => reply(405, &[], ""),
    })
    .await;
    let realm = format!("http://{}/token", service.name);
    // The first token is refused at its second use.
    let uses = Mutex::new(0);
    let registry = Fake::start(move |seen, _| match seen.header("authorization") {
        Some("Bearer t0") => {
            let mut uses = uses.lock().unwrap();
            *uses += 1;
            if *uses == 1 { reply(404, &[], "") } else { refused(&realm) }
        }
        Some("Bearer t1") => reply(404, &[], ""),
        _ => refused(&realm),
    })
    .await;
    let credential = Credential::IdentityToken { username: None, token: SECRET.into() };
    let client = client(Arc::new(common::One(registry.name.clone(), credential)));
    let source = repository(&client, &registry.name, "app", Access::Pull);
    for _ in 0..3 {
        assert_eq!(source.resolve(&tag("x")).await.unwrap_err().kind(), Kind::NotFound);
    }
    let asked = service.seen();
    assert_eq!(asked.len(), 2);
    let form = String::from_utf8(asked[0].body.to_vec()).unwrap();
    for part in ["grant_type=refresh_token", SECRET, "client_id=cove", "scope=repository%3Aapp%3Apull"] {
        assert!(form.contains(part), "{part}: {form}");
    }
    assert!(asked.iter().all(|asked| asked.query().is_empty()));
}

#[tokio::test]
async fn docker_hubs_kind_of_search_is_read() {
    let registry = Fake::start(|seen, _| {
        assert_eq!((seen.path(), seen.query()), ("/v1/search", "q=a+b&n=2"));
        let result = r#"{"name":"x","description":null,"star_count":3,"is_official":true}"#;
        reply(200, &[], format!(r#"{{"query":"a b","num_results":3,"results":[{result},{result},{result}]}}"#))
    })
    .await;
    let found = client(Arc::new(NoCredentials)).search(&registry.name, "a b", 2).await;
    let found = found.unwrap();
    assert_eq!((found.len(), found[0].name.as_str(), found[0].star_count), (2, "x", 3));
}

/// Collects everything that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_is_logged_or_shown() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let service = Fake::start(|_, _| token()).await;
    let storage = Fake::start(|_, _| reply(403, &[], format!("<Error>{SECRET}</Error>"))).await;
    let realm = format!("http://{}/token", service.name);
    let location = format!("http://{}/bucket?signature={SECRET}", storage.name);
    let registry = Fake::start(move |seen, _| match seen.header("authorization") {
        Some(_) => reply(307, &[("location", &location)], ""),
        None => refused(&realm),
    })
    .await;
    let (blob, _) = layer(12, 100);
    for credential in [
        Credential::Password { username: "alice".into(), password: SECRET.into() },
        Credential::IdentityToken { username: None, token: SECRET.into() },
        Credential::RegistryToken(SECRET.into()),
    ] {
        let shown = format!("{credential:?}");
        let client = client(Arc::new(common::One(registry.name.clone(), credential)));
        let source = repository(&client, &registry.name, "app", Access::Pull);
        let error = read(&source, &blob, 0).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied, "{error}");
        let shown = format!("{shown} {source:?} {error} {error:?}");
        assert!(!shown.contains(SECRET), "{shown}");
    }
    let written = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(written.contains("asking for a token"), "the log was not read");
    use base64::Engine;
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("alice:{SECRET}"));
    assert!(!written.contains(SECRET) && !written.contains(&basic), "{written}");
}
