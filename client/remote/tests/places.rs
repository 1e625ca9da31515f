//! Who answers for a registry: mirrors, and other hosts that the configuration moves it to. Whose credentials they get,
//! and what becomes of those that fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;

use axum::response::Response;
use common::{Fake, client, client_with, layer, manifest, password, read, reply, repository, tag};
use cove_oci::media_type;
use cove_remote::{Access, ConfigPaths, Error, Login, NoCredentials};
use cove_transfer::{Kind, Source};

const SECRET: &str = "planted-secret-2218";

/// Asks for a password before everything, and then has the manifest.
fn guarded(seen: &common::Seen) -> Response {
    match seen.header("authorization") {
        None => reply(401, &[("www-authenticate", "Basic realm=x")], ""),
        Some(_) => with_manifest(),
    }
}

fn with_manifest() -> Response {
    let (descriptor, json) = manifest();
    let digest = descriptor.digest.to_string();
    let headers = [("content-type", media_type::OCI_MANIFEST), ("docker-content-digest", digest.as_str())];
    reply(200, &headers, json)
}

fn is_without_credentials(fake: &Fake) -> bool {
    fake.seen().iter().all(|seen| seen.header("authorization").is_none())
}

/// Files of configuration, gone with it.
struct Etc {
    paths: ConfigPaths,
    _folder: tempfile::TempDir,
}

impl Etc {
    fn cove(text: &str) -> Self {
        Etc::new("cove.toml", text)
    }

    fn new(name: &str, text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        let paths = ConfigPaths {
            cove: vec![folder.path().join("cove.toml")],
            registries_conf: vec![folder.path().join("registries.conf")],
            hosts: vec![folder.path().join("certs.d")],
            ..ConfigPaths::default()
        };
        Etc { paths, _folder: folder }
    }
}

#[tokio::test]
async fn a_registry_that_was_moved_does_not_take_its_credentials_along() {
    let elsewhere = Fake::start(|seen, _| guarded(seen)).await;
    let registry = Fake::start(|seen, _| guarded(seen)).await;
    let (named, moved) = (&registry.name, &elsewhere.name);
    let conf = format!("[[registry]]\nprefix = \"{named}\"\nlocation = \"{moved}\"\n");
    let toml = format!("server = \"http://{moved}\"\n");
    for etc in [Etc::new("registries.conf", &conf), Etc::new(&format!("certs.d/{named}/hosts.toml"), &toml)] {
        let of_the_first = client_with(password(named, "alice", SECRET), etc.paths.clone());
        let refused = repository(&of_the_first, named, "app", Access::Pull).resolve(&tag("x")).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Unauthorized);
        assert!(refused.to_string().contains(&format!("cove login {moved}")), "{refused}");
        assert!(!elsewhere.seen().is_empty() && is_without_credentials(&elsewhere));
        // It has credentials of its own.
        let of_the_other = client_with(password(moved, "bob", SECRET), etc.paths.clone());
        repository(&of_the_other, named, "app", Access::Pull).resolve(&tag("x")).await.unwrap();
        assert!(registry.seen().is_empty());
        // And a login is for whom it names.
        elsewhere.seen.lock().unwrap().clear();
        let login = Login { username: "alice".into(), password: SECRET.into() };
        of_the_first.login(named, &login).await.unwrap();
        assert!(elsewhere.seen().is_empty() && !is_without_credentials(&registry));
        registry.seen.lock().unwrap().clear();
    }
}

#[tokio::test]
async fn only_the_host_itself_says_how_to_log_in() {
    let service = Fake::start(|_, _| reply(200, &[], r#"{"token":"t"}"#)).await;
    let challenge = format!(r#"Bearer realm="http://{}/token",service="x""#, service.name);
    let stranger = Fake::start(move |_, _| reply(401, &[("www-authenticate", &challenge)], "")).await;
    let away = format!("http://{}/v2/", stranger.name);
    let registry = Fake::start(move |_, _| reply(307, &[("location", &away)], "")).await;
    let login = Login { username: "alice".into(), password: SECRET.into() };
    let refused = client(Arc::new(NoCredentials)).login(&registry.name, &login).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unauthorized, "{refused}");
    assert!(service.seen().is_empty() && is_without_credentials(&stranger));
}

#[tokio::test]
async fn a_mirror_that_fails_is_left_alone_by_the_next_tag_too() {
    let mirror = Fake::start(|_, _| reply(503, &[], "")).await;
    let registry = Fake::start(|_, _| with_manifest()).await;
    let etc = Etc::cove(&format!("[registry.\"{}\"]\nmirrors = [\"http://{}\"]\n", registry.name, mirror.name));
    let client = client_with(Arc::new(NoCredentials), etc.paths.clone());
    for name in ["a", "b", "c"] {
        // Each tag of `pull -a` is a repository of its own.
        let source = client.repository(&common::reference(&registry.name, &format!("app:{name}")), Access::Pull);
        source.resolve(&tag(name)).await.unwrap();
    }
    assert_eq!(mirror.count("HEAD", "manifests"), 1);
    // Another repository may be served well.
    repository(&client, &registry.name, "other", Access::Pull).resolve(&tag("a")).await.unwrap();
    assert_eq!(mirror.count("HEAD", "manifests"), 2);
}

#[tokio::test]
async fn a_mirror_can_be_distrusted() {
    let (blob, bytes) = layer(1, 1000);
    let mirror = Fake::start(|_, _| reply(200, &[], vec![0; 1000])).await;
    let content = bytes.clone();
    let registry = Fake::start(move |_, _| reply(200, &[], content.clone())).await;
    let etc = Etc::cove(&format!("[registry.\"{}\"]\nmirrors = [\"http://{}\"]\n", registry.name, mirror.name));
    let client = client_with(Arc::new(NoCredentials), etc.paths.clone());
    let source = repository(&client, &registry.name, "app", Access::Pull);
    assert_ne!(read(&source, &blob, 0).await.unwrap(), bytes, "a blob is verified by whoever stores it");
    assert!(source.distrust_mirrors(), "there is somebody else to ask");
    assert_eq!(read(&source, &blob, 0).await.unwrap(), bytes);
    assert!(!source.distrust_mirrors(), "and nobody after that");
}

#[tokio::test]
async fn lists_and_answers_end() {
    let loops = Fake::start(|seen, _| {
        let next = if seen.query().contains("last=a") { "b" } else { "a" };
        reply(200, &[("link", &format!("<list?last={next}>; rel=next"))], r#"{"tags":["x"]}"#)
    })
    .await;
    let source = repository(&client(Arc::new(NoCredentials)), &loops.name, "app", Access::Pull);
    let error = common::within(20, source.tags()).await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }) && error.to_string().contains("where it was before"), "{error}");
    assert!(loops.count("GET", "tags/list") <= 4);
    let many = Fake::start(|_, _| {
        let tags: Vec<String> = (0..100_001).map(|number| format!("\"t{number}\"")).collect();
        reply(200, &[], format!("{{\"tags\":[{}]}}", tags.join(",")))
    })
    .await;
    let source = repository(&client(Arc::new(NoCredentials)), &many.name, "app", Access::Pull);
    assert!(source.tags().await.unwrap_err().to_string().contains("more than 100000 tags"));
    // A byte now and then, for ever.
    let trickle = Fake::start(|_, _| {
        let bytes = futures_util::stream::unfold((), async |()| {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            Some((Ok::<_, std::io::Error>(bytes::Bytes::from_static(b" ")), ()))
        });
        reply(200, &[], axum::body::Body::from_stream(bytes))
    })
    .await;
    let registries = cove_remote::Registries::load(&ConfigPaths::default()).unwrap();
    let whole = std::time::Duration::from_millis(300);
    let patience = cove_remote::Patience { attempts: 1, whole, ..common::quick() };
    let client =
        cove_remote::Client::with_patience(registries, Arc::new(NoCredentials), "cove/test", patience).unwrap();
    let source = repository(&client, &trickle.name, "app", Access::Pull);
    let error = common::within(5, source.tags()).await.unwrap_err();
    assert!(error.to_string().contains("was not complete"), "{error}");
}
