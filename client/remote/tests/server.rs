//! Against the workspace's own server: tokens, push, pull, mount, resumption, login.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;

use common::{Cove, Fake, Journal, Memory, PASSWORD, Steps, client, noise, password, read, reply, repository, tag};
use cove_oci::{ManifestReference, media_type};
use cove_remote::{Access, Credential, Login, NoCredentials};
use cove_transfer::{CopyOptions, Kind, Placed, Platforms, Silent, Source, Step, Target, UploadJournal, copy};

fn everything() -> CopyOptions {
    CopyOptions { platforms: Platforms::All, blobs_at_once: 8 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_travels_there_across_and_back() {
    let cove = Cove::start().await;
    let client = client(cove.admin());
    let (memory, root) = Memory::with_index(1, &[100, 70_000, 3_000_000, 0]);
    let from = ManifestReference::Digest(root.digest.clone());
    let first = repository(&client, &cove.name, "team/first", Access::Push);
    let pushed = copy(&memory, &from, &first, &tag("v1"), &everything(), &Silent).await.unwrap();
    assert!(pushed.blobs.values().all(|placed| !matches!(placed, Placed::Mounted(_))));
    // Again: one HEAD, nothing is read.
    let again = copy(&memory, &from, &first, &tag("v1"), &everything(), &Silent).await.unwrap();
    assert!(again.was_up_to_date());
    // Within the registry: everything is mounted.
    let source = repository(&client, &cove.name, "team/first", Access::Pull);
    let second = repository(&client, &cove.name, "team/second", Access::Push);
    let copied = copy(&source, &tag("v1"), &second, &tag("v2"), &everything(), &Silent).await.unwrap();
    let mounted = Placed::Mounted("team/first".parse().unwrap());
    assert!(copied.blobs.values().all(|placed| *placed == mounted), "{:?}", copied.blobs);
    // And back.
    let back = Memory::default();
    let source = repository(&client, &cove.name, "team/second", Access::Pull);
    let pulled = copy(&source, &tag("v2"), &back, &tag("x"), &everything(), &Silent).await.unwrap();
    assert_eq!(pulled.root.digest, root.digest);
    assert_eq!(*back.blobs.lock().unwrap(), *memory.blobs.lock().unwrap());
    assert_eq!(source.tags().await.unwrap(), ["v2".parse().unwrap()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_within_one_registry_do_not_wait_for_each_other() {
    let cove = Cove::start().await;
    let client = client(cove.admin());
    let (memory, root) = Memory::with_index(2, &[1_500_000; 12]);
    let from = ManifestReference::Digest(root.digest.clone());
    let first = repository(&client, &cove.name, "a", Access::Push);
    copy(&memory, &from, &first, &tag("v1"), &everything(), &Silent).await.unwrap();
    // A source that hides where its blobs are, so that nothing can be mounted.
    struct Hidden(cove_remote::Repository);
    impl Source for Hidden {
        async fn resolve(&self, r: &ManifestReference) -> Result<cove_oci::Descriptor, cove_transfer::Error> {
            self.0.resolve(r).await
        }
        async fn manifest(&self, d: &cove_oci::Descriptor) -> Result<cove_oci::Manifest, cove_transfer::Error> {
            self.0.manifest(d).await
        }
        async fn blob(
            &self,
            b: &cove_oci::Descriptor,
            offset: u64,
        ) -> Result<cove_transfer::ByteStream, cove_transfer::Error> {
            self.0.blob(b, offset).await
        }
    }
    let source = Hidden(repository(&client, &cove.name, "a", Access::Pull));
    let options = CopyOptions { blobs_at_once: 24, ..everything() };
    let target = repository(&client, &cove.name, "b", Access::Push);
    let copied = common::within(60, copy(&source, &tag("v1"), &target, &tag("v1"), &options, &Silent)).await.unwrap();
    assert_eq!(copied.blobs.len(), 26);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_flipped_bit_of_a_source_is_the_sources_fault() {
    let cove = Cove::start().await;
    let client = client(cove.admin());
    for size in [1000, 3_000_000] {
        let memory = Memory::default();
        let blob = memory.add_blob(media_type::OCI_LAYER, noise(3, size));
        let mut wrong = noise(3, size);
        wrong[size / 2] ^= 1;
        memory.blobs.lock().unwrap().insert(blob.digest.clone(), wrong.into());
        let target = repository(&client, &cove.name, "team/app", Access::Push);
        let error = target.put_blob(&blob, &memory, &Silent).await.unwrap_err();
        assert_eq!((error.side(), error.kind()), (cove_transfer::Side::Source, Kind::Corrupt), "{error}");
        // Nothing is left: neither the blob nor the upload.
        let source = repository(&client, &cove.name, "team/app", Access::Pull);
        assert_eq!(read(&source, &blob, 0).await.unwrap_err().kind(), Kind::NotFound);
        let short = memory.blobs.lock().unwrap().get(&blob.digest).unwrap().slice(1..);
        memory.blobs.lock().unwrap().insert(blob.digest.clone(), short);
        let error = target.put_blob(&blob, &memory, &Silent).await.unwrap_err();
        assert_eq!(error.side(), cove_transfer::Side::Source, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_upload_goes_on_in_the_next_command() {
    let cove = Cove::start().await;
    let client = client(cove.admin());
    let memory = Memory::default();
    let blob = memory.add_blob(media_type::OCI_LAYER, noise(4, 4_000_000));
    let journal = Arc::new(Journal::default());
    // The source fails after a while: the command ends.
    struct Failing<'a>(&'a Memory);
    impl Source for Failing<'_> {
        async fn resolve(&self, r: &ManifestReference) -> Result<cove_oci::Descriptor, cove_transfer::Error> {
            self.0.resolve(r).await
        }
        async fn manifest(&self, d: &cove_oci::Descriptor) -> Result<cove_oci::Manifest, cove_transfer::Error> {
            self.0.manifest(d).await
        }
        async fn blob(
            &self,
            b: &cove_oci::Descriptor,
            offset: u64,
        ) -> Result<cove_transfer::ByteStream, cove_transfer::Error> {
            use futures_util::StreamExt;
            let some = self.0.blob(b, offset).await?.take(40);
            let pause = futures_util::stream::once(async {
                tokio::time::sleep(std::time::Duration::from_millis(300)).await;
                Err(cove_transfer::Error::new(cove_transfer::Side::Source, Kind::Other, "power cut"))
            });
            Ok(some.chain(pause).boxed())
        }
    }
    let target = repository(&client, &cove.name, "team/app", Access::Push).with_journal(journal.clone());
    let error = target.put_blob(&blob, &Failing(&memory), &Silent).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Other);
    assert!(journal.0.lock().unwrap().contains_key(&blob.digest));
    // The server notices that the stream ended; then the next command asks.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let client = common::client(cove.admin());
    let target = repository(&client, &cove.name, "team/app", Access::Push).with_journal(journal.clone());
    let steps = Steps::default();
    let Placed::Stored(sent) = target.put_blob(&blob, &memory, &steps).await.unwrap() else { panic!() };
    assert!(sent < blob.size, "{sent} bytes were sent");
    assert!(steps.0.lock().unwrap().contains(&Step::Resumed(blob.size - sent)));
    assert!(journal.0.lock().unwrap().is_empty());
    let source = repository(&client, &cove.name, "team/app", Access::Pull);
    assert_eq!(read(&source, &blob, 0).await.unwrap(), noise(4, 4_000_000));
    // What the registry has forgotten begins anew.
    let other = memory.add_blob(media_type::OCI_LAYER, noise(5, 2_000_000));
    let stale = format!("http://{}/v2/team/app/blobs/uploads/{}", cove.name, "0".repeat(32));
    journal.remember(target.origin(), &other.digest, &stale);
    assert_eq!(target.put_blob(&other, &memory, &Silent).await.unwrap(), Placed::Stored(2_000_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn login_gives_a_token_that_works_instead_of_the_password() {
    let cove = Cove::start().await;
    let anonymous = client(Arc::new(NoCredentials));
    let login = Login { username: "admin".into(), password: PASSWORD.into() };
    let logged_in = anonymous.login(&cove.name, &login).await.unwrap();
    let token = logged_in.identity_token.clone().unwrap();
    let wrong = Login { password: "wrong".into(), ..login.clone() };
    let error = anonymous.login(&cove.name, &wrong).await.unwrap_err();
    assert!(matches!(error, cove_remote::Error::Login { .. }), "{error}");
    assert!(!format!("{login:?} {logged_in:?} {error:?}").contains(&token));
    let credential = Credential::IdentityToken { username: Some("admin".into()), token };
    let client = client(Arc::new(common::One(cove.name.clone(), credential)));
    let (memory, root) = Memory::with_index(6, &[1000]);
    let target = repository(&client, &cove.name, "team/app", Access::Push);
    let from = ManifestReference::Digest(root.digest);
    copy(&memory, &from, &target, &tag("v1"), &everything(), &Silent).await.unwrap();
    // Nobody else sees it, and nobody can tell whether it is there.
    let source = repository(&anonymous, &cove.name, "team/app", Access::Pull);
    assert!(matches!(source.resolve(&tag("v1")).await.unwrap_err().kind(), Kind::Unauthorized | Kind::NotFound));
    let bad = common::client(password(&cove.name, "admin", "wrong"));
    let source = repository(&bad, &cove.name, "team/app", Access::Pull);
    let error = source.resolve(&tag("v1")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthorized);
    assert!(error.to_string().contains("cove login"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_is_asked_first_and_left_when_it_fails() {
    let cove = Cove::start().await;
    let memory = Memory::default();
    let layer = memory.add_blob(media_type::OCI_LAYER, noise(7, 100_000));
    let direct = client(cove.admin());
    repository(&direct, &cove.name, "team/app", Access::Push).put_blob(&layer, &memory, &Silent).await.unwrap();
    for status in [404, 500, 401, 302] {
        let mirror = Fake::start(move |_, _| reply(status, &[("location", "http://169.254.169.254/")], "")).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cove.toml");
        let text = format!("[registry.\"{}\"]\nmirrors = [\"http://{}\"]\n", cove.name, mirror.name);
        std::fs::write(&file, text).unwrap();
        let paths = cove_remote::ConfigPaths { cove: vec![file], ..Default::default() };
        let client = common::client_with(cove.admin(), paths);
        let source = repository(&client, &cove.name, "team/app", Access::Pull);
        assert_eq!(read(&source, &layer, 0).await.unwrap().len(), 100_000, "{status}");
        let seen = mirror.seen();
        assert!(!seen.is_empty(), "{status}");
        assert!(seen.iter().all(|seen| seen.header("authorization").is_none()), "{seen:?}");
        assert!(seen.iter().any(|seen| seen.query().contains("ns=")), "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_checked_and_a_wrong_one_is_no_reason_to_speak_in_the_clear() {
    let authority = cove_tests::Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key, file] = ["certificate.pem", "key.pem", "cove.toml"].map(|name| folder.path().join(name));
    authority.issue(&certificate, &key);
    let tls = cove_server::listen::Tls::open(&certificate, &key).unwrap();
    let cove = Cove::start_with(Some(tls)).await;
    let (memory, root) = Memory::with_index(8, &[3_000_000, 1000]);
    let from = ManifestReference::Digest(root.digest);
    for (trusted, insecure, fine) in [(true, false, true), (false, false, false), (false, true, true)] {
        let mut text = format!("[registry.\"{}\"]\ninsecure = {insecure}\n", cove.name);
        if trusted {
            text.push_str(&format!("ca = \"{}\"\n", authority.certificate().display()));
        }
        std::fs::write(&file, text).unwrap();
        let paths = cove_remote::ConfigPaths { cove: vec![file.clone()], ..Default::default() };
        let client = common::client_with(cove.admin(), paths);
        let target = repository(&client, &cove.name, &format!("app{insecure}"), Access::Push);
        let began = std::time::Instant::now();
        let copied = copy(&memory, &from, &target, &tag("v1"), &everything(), &Silent).await;
        assert_eq!(copied.is_ok(), fine, "{copied:?}");
        if let Err(error) = copied {
            assert!(error.to_string().contains("certs.d"), "{error}");
            assert!(began.elapsed() < std::time::Duration::from_millis(500), "it is not tried again");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_shows_what_one_may_see() {
    let cove = Cove::start().await;
    let (memory, root) = Memory::with_index(1, &[10]);
    let admin = client(cove.admin());
    let from = ManifestReference::Digest(root.digest.clone());
    let target = repository(&admin, &cove.name, "team/private", Access::Push);
    copy(&memory, &from, &target, &tag("v1"), &everything(), &Silent).await.unwrap();
    let found = admin.search(&cove.name, "private", 5).await.unwrap();
    assert_eq!(found.iter().map(|found| found.name.as_str()).collect::<Vec<_>>(), ["team/private"]);
    let anonymous = client(Arc::new(NoCredentials)).search(&cove.name, "private", 5).await.unwrap();
    assert!(anonymous.is_empty(), "{anonymous:?}");
}
