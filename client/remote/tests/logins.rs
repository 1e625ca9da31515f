//! What a login leaves behind: a token that goes back to whoever gave it, and nothing after a logout.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use common::{Fake, client, reply, repository, tag};
use cove_remote::{Access, Credential, CredentialPaths, CredentialSource, DockerConfig, Error, Login, NoCredentials};
use cove_transfer::{Kind, Source};

const TOKEN: &str = "refresh-token-5512";

fn credentials(home: &Path) -> DockerConfig {
    let helpers = Some(format!("{}:/usr/bin:/bin", home.display()).into());
    let paths = CredentialPaths { docker: home.join("config.json"), podman: Vec::new(), helpers };
    DockerConfig::load(paths).unwrap().with_tokens(home.join("cove/tokens.json"))
}

/// A token service, and how often it saw a refresh token.
async fn service() -> Fake {
    Fake::start(|_, _| reply(200, &[], format!(r#"{{"token":"t","expires_in":300,"refresh_token":"{TOKEN}"}}"#))).await
}

fn saw_the_token(fake: &Fake) -> bool {
    use base64::Engine;
    let seen = |text: &str| {
        let basic =
            text.strip_prefix("Basic ").and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok());
        basic.is_some_and(|basic| String::from_utf8_lossy(&basic).contains(TOKEN))
    };
    fake.seen().iter().any(|request| {
        String::from_utf8_lossy(&request.body).contains(TOKEN) || request.header("authorization").is_some_and(seen)
    })
}

#[tokio::test]
async fn an_identity_token_goes_back_to_the_service_that_gave_it_and_nowhere_else() {
    let home = tempfile::tempdir().unwrap();
    let (first, other) = (service().await, service().await);
    let challenge = Arc::new(Mutex::new(format!(r#"Bearer realm="http://{}/token",service="x""#, first.name)));
    let said = challenge.clone();
    let registry = Fake::start(move |seen, _| match seen.header("authorization") {
        None => reply(401, &[("www-authenticate", &said.lock().unwrap())], ""),
        Some(_) if seen.path() == "/v2/" => reply(200, &[], ""),
        Some(_) => reply(404, &[], ""),
    })
    .await;
    let login = Login { username: "alice".into(), password: "password".into() };
    let logged_in = client(Arc::new(NoCredentials)).login(&registry.name, &login).await.unwrap();
    let token = logged_in.identity_token.clone().unwrap();
    let credential = Credential::IdentityToken { username: Some("alice".into()), token };
    credentials(home.path()).store_from(&registry.name, &credential, logged_in.token_service.as_ref()).unwrap();
    let record = std::fs::read_to_string(home.path().join("cove/tokens.json")).unwrap();
    assert!(record.contains(registry.name.as_str()) && !record.contains(TOKEN), "{record}");
    let docker = std::fs::read_to_string(home.path().join("config.json")).unwrap();
    assert!(!docker.contains("realm"), "{docker}");
    let pull = async || {
        let client = client(Arc::new(credentials(home.path())));
        repository(&client, &registry.name, "app", Access::Pull).resolve(&tag("x")).await.unwrap_err()
    };
    assert_eq!(pull().await.kind(), Kind::NotFound);
    assert!(saw_the_token(&first));
    first.seen.lock().unwrap().clear();
    for changed in [
        format!(r#"Bearer realm="http://{}/token",service="x""#, other.name),
        format!(r#"Bearer realm="http://{}/token",service="y""#, first.name),
        format!(r#"Bearer realm="http://{}/other",service="x""#, first.name),
    ] {
        *challenge.lock().unwrap() = changed;
        let error = pull().await.to_string();
        assert!(error.contains(&format!("log in again with `cove login {}`", registry.name)), "{error}");
    }
    assert!(!saw_the_token(&other) && first.seen().is_empty() && other.seen().is_empty());
    // `cove login` without a password tells the same.
    let client = client(Arc::new(credentials(home.path())));
    let error = client.try_credential(&registry.name, &credential).await.unwrap_err();
    assert!(matches!(error, Error::OtherTokenService { .. }), "{error}");
    // What another program stored is bound to nothing that is known here.
    credentials(home.path()).store(&registry.name, &credential).unwrap();
    assert_eq!(pull().await.kind(), Kind::NotFound);
    let kept = credentials(home.path());
    assert_eq!(kept.token_service(&registry.name, TOKEN).unwrap(), None);
}

#[tokio::test]
async fn a_token_that_is_kept_is_tried_where_it_is_for() {
    let service =
        Fake::start(|_, _| reply(401, &[], r#"{"errors":[{"code":"UNAUTHORIZED","message":"revoked"}]}"#)).await;
    let challenge = format!(r#"Bearer realm="http://{}/token",service="x""#, service.name);
    let registry = Fake::start(move |_, _| reply(401, &[("www-authenticate", &challenge)], "")).await;
    let token = Credential::IdentityToken { username: Some("alice".into()), token: TOKEN.into() };
    let client = client(Arc::new(NoCredentials));
    let error = client.try_credential(&registry.name, &token).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthorized, "{error}");
    assert!(saw_the_token(&service) && error.to_string().contains("revoked"));
    let gone = "127.0.0.1:1".parse().unwrap();
    let error = client.try_credential(&gone, &token).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable, "{error}");
}

#[test]
fn a_helper_that_fails_does_not_keep_what_stands_in_the_file() {
    let home = tempfile::tempdir().unwrap();
    let program = home.path().join("docker-credential-broken");
    std::fs::write(&program, "#!/bin/sh\ncat > /dev/null\necho out of order\nexit 1\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let text = r#"{"auths":{"hub.example.com":{"auth":"eDp5"}},"credHelpers":{"hub.example.com":"broken"}}"#;
    std::fs::write(home.path().join("config.json"), text).unwrap();
    let error = credentials(home.path()).erase(&"hub.example.com".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("out of order"), "{error}");
    let left = std::fs::read_to_string(home.path().join("config.json")).unwrap();
    assert!(!left.contains("eDp5"), "{left}");
}

#[test]
fn dockers_variable_wins_over_the_file() {
    let home = tempfile::tempdir().unwrap();
    let text = r#"{"auths":{"a.example.com":{"auth":"ZmlsZTpw"},"b.example.com":{"auth":"ZmlsZTpw"}}}"#;
    std::fs::write(home.path().join("config.json"), text).unwrap();
    let user = |credentials: &DockerConfig, registry: &str| {
        let found = credentials.find(&registry.parse().unwrap()).unwrap();
        found.and_then(|found| found.username().map(str::to_owned)).unwrap_or_default()
    };
    let variable =
        r#"{"auths":{"a.example.com":{"auth":"dmFyaWFibGU6cA=="},"https://index.docker.io/v1/":{"auth":"aHViOnA="}}}"#;
    let with = credentials(home.path()).with_variable(variable);
    assert_eq!(user(&with, "a.example.com"), "variable");
    assert_eq!(user(&with, "b.example.com"), "file");
    assert_eq!(user(&with, "docker.io"), "hub");
    let damaged = credentials(home.path()).with_variable("{");
    assert_eq!(user(&damaged, "a.example.com"), "file");
}
