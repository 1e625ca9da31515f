//! Uploads that an earlier command left, and mounts that come to nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;

use common::{Fake, Journal, Memory, client, noise, password, reply, repository};
use cove_oci::{Descriptor, media_type};
use cove_remote::{Access, NoCredentials};
use cove_transfer::{Origin, Placed, Silent, Target};

const SIZE: usize = 2_000_000;

/// A blob, and the journal of an earlier command that began to send it to `/old`.
fn left_behind(registry: &Fake) -> (Memory, Descriptor, Arc<Journal>) {
    let memory = Memory::default();
    let blob = memory.add_blob(media_type::OCI_LAYER, noise(1, SIZE));
    let journal = Arc::new(Journal::default());
    journal.0.lock().unwrap().insert(blob.digest.clone(), format!("http://{}/old", registry.name));
    (memory, blob, journal)
}

#[tokio::test]
async fn a_mount_that_is_none_does_not_cost_the_upload_that_was_begun_before() {
    let registry = Fake::start(|seen, _| match (seen.method.as_str(), seen.path()) {
        ("HEAD", _) => reply(404, &[], ""),
        ("POST", _) => reply(202, &[("location", "/new")], ""),
        ("GET", "/old") => reply(204, &[("range", "0-999999"), ("location", "/old")], ""),
        ("PATCH", _) => reply(202, &[], ""),
        ("DELETE", _) => reply(204, &[], ""),
        _ => reply(201, &[], ""),
    })
    .await;
    let (mut memory, blob, journal) = left_behind(&registry);
    memory.origins = vec![Origin { registry: registry.name.clone(), repository: "other".parse().unwrap() }];
    let client = client(Arc::new(NoCredentials));
    let target = repository(&client, &registry.name, "app", Access::Push).with_journal(journal.clone());
    let placed = target.put_blob(&blob, &memory, &Silent).await.unwrap();
    assert_eq!(placed, Placed::Stored(1_000_000), "the rest went to the earlier upload");
    assert_eq!((registry.count("DELETE", "/new"), registry.count("PATCH", "/old")), (1, 1));
    assert!(journal.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_upload_that_cannot_be_asked_for_is_begun_anew() {
    for status in [500, 503] {
        let registry = Fake::start(move |seen, _| match (seen.method.as_str(), seen.path()) {
            ("HEAD", _) => reply(404, &[], ""),
            ("POST", _) => reply(202, &[("location", "/new")], ""),
            ("GET", "/old") => reply(status, &[("retry-after", "0")], ""),
            ("PATCH", _) => reply(202, &[], ""),
            _ => reply(201, &[], ""),
        })
        .await;
        let (memory, blob, journal) = left_behind(&registry);
        let client = client(Arc::new(NoCredentials));
        let target = repository(&client, &registry.name, "app", Access::Push).with_journal(journal.clone());
        assert_eq!(target.put_blob(&blob, &memory, &Silent).await.unwrap(), Placed::Stored(SIZE as u64));
        assert!(registry.count("GET", "/old") > 1, "it was waited for");
        assert!(journal.0.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_upload_that_ends_badly_is_not_taken_up_again_and_again() {
    for status in [400, 409, 422] {
        let registry = Fake::start(move |seen, _| match (seen.method.as_str(), seen.path()) {
            ("HEAD", _) => reply(404, &[], ""),
            ("POST", _) => reply(202, &[("location", "/new")], ""),
            ("GET", "/old") => reply(204, &[("range", "0-1999999")], ""),
            ("PUT", "/old") => reply(status, &[], ""),
            ("PATCH", _) => reply(202, &[], ""),
            ("DELETE", _) => reply(204, &[], ""),
            _ => reply(201, &[], ""),
        })
        .await;
        let (memory, blob, journal) = left_behind(&registry);
        let client = client(Arc::new(NoCredentials));
        let target = repository(&client, &registry.name, "app", Access::Push).with_journal(journal.clone());
        target.put_blob(&blob, &memory, &Silent).await.unwrap_or_else(|error| panic!("{status}: {error}"));
        assert_eq!(registry.count("PATCH", "/new"), 1);
        assert!(journal.0.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_token_service_that_refuses_the_other_repository_does_not_stop_a_push() {
    let service = Fake::start(|seen, _| match seen.query().matches("scope=").count() {
        2.. => reply(401, &[], r#"{"details":"access to the resource is denied"}"#),
        _ => reply(200, &[], r#"{"token":"t","expires_in":300}"#),
    })
    .await;
    let challenge = format!(r#"Bearer realm="http://{}/token",service="x""#, service.name);
    let registry = Fake::start(move |seen, _| match (seen.method.as_str(), seen.header("authorization")) {
        (_, None) => reply(401, &[("www-authenticate", &challenge)], ""),
        ("HEAD", _) => reply(404, &[], ""),
        ("POST", _) => reply(202, &[("location", "/new")], ""),
        _ => reply(201, &[], ""),
    })
    .await;
    let (mut memory, blob, _) = left_behind(&registry);
    memory.origins = vec![Origin { registry: registry.name.clone(), repository: "other".parse().unwrap() }];
    let client = client(password(&registry.name, "alice", "password"));
    let target = repository(&client, &registry.name, "app", Access::Push);
    assert_eq!(target.put_blob(&blob, &memory, &Silent).await.unwrap(), Placed::Stored(SIZE as u64));
    assert_eq!(registry.count("POST", "mount="), 0, "without a token it was never asked for");
}
