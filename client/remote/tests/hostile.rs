//! Registries that lie, leak, break off and lead astray.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::response::Response;
use common::{Fake, Memory, Seen, Steps, broken, client, digest, noise, password, read, reply, repository, tag};
use cove_oci::{Descriptor, ManifestReference, media_type};
use cove_remote::{Access, Credential, NoCredentials};
use cove_transfer::{Kind, Placed, Side, Silent, Source, Step, Target};

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

fn layer(seed: u64, length: usize) -> (Descriptor, Vec<u8>) {
    let bytes = noise(seed, length);
    (Descriptor::new(media_type::OCI_LAYER, digest(&bytes), length as u64), bytes)
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

fn manifest() -> (Descriptor, String) {
    let (config, _) = layer(1, 10);
    let json = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[]}}"#,
        media_type::OCI_MANIFEST,
        serde_json::to_string(&config).unwrap()
    );
    (Descriptor::new(media_type::OCI_MANIFEST, digest(json.as_bytes()), json.len() as u64), json)
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

/// Answers a range as it should be answered.
fn ranged(seen: &Seen, bytes: &[u8]) -> Response {
    let Some(range) = seen.header("range") else { return reply(200, &[], bytes.to_vec()) };
    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let first: usize = first.parse().unwrap();
    let last = last.parse().unwrap_or(bytes.len() - 1).min(bytes.len() - 1);
    let content_range = format!("bytes {first}-{last}/{}", bytes.len());
    reply(206, &[("content-range", &content_range)], bytes[first..=last].to_vec())
}

#[tokio::test]
async fn downloads_go_on_where_they_broke_off() {
    let (blob, bytes) = layer(4, 300_000);
    let content = bytes.clone();
    // Each connection gives 100,000 bytes at most.
    let registry = Fake::start(move |seen, _| {
        let whole = ranged(seen, &content);
        let (parts, _) = whole.into_parts();
        let first: usize = seen.header("range").map_or(0, |range| range[6..range.len() - 1].parse().unwrap());
        let some = &content[first..(first + 100_000).min(content.len())];
        let mut response = Response::from_parts(parts, broken(some));
        response.headers_mut().insert("content-length", (content.len() - first).to_string().parse().unwrap());
        response
    })
    .await;
    let client = client(Arc::new(NoCredentials));
    let steps = Arc::new(Steps::default());
    let source = repository(&client, &registry.name, "app", Access::Pull).with_progress(steps.clone());
    assert_eq!(read(&source, &blob, 0).await.unwrap(), bytes);
    let ranges: Vec<_> =
        registry.seen().iter().filter(|s| s.method == "GET").map(|s| s.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, [None, Some("bytes=100000-".to_owned()), Some("bytes=200000-".to_owned())]);
    assert!(steps.0.lock().unwrap().iter().any(|step| matches!(step, Step::Retrying { .. })));
    assert_eq!(read(&source, &blob, 250_000).await.unwrap(), bytes[250_000..]);
}

#[tokio::test]
async fn servers_without_ranges_are_read_again_and_skipped() {
    let (blob, bytes) = layer(5, 200_000);
    let content = bytes.clone();
    let registry = Fake::start(move |seen, _| {
        let gets_less = seen.header("range").is_none();
        let body = if gets_less { broken(&content[..150_000]) } else { content.clone().into() };
        reply(200, &[("content-length", "200000")], body)
    })
    .await;
    let client = client(Arc::new(NoCredentials));
    let source = repository(&client, &registry.name, "app", Access::Pull);
    assert_eq!(read(&source, &blob, 0).await.unwrap(), bytes);
    assert_eq!(read(&source, &blob, 199_999).await.unwrap(), bytes[199_999..]);
}

#[tokio::test]
async fn ranges_that_are_others_are_errors() {
    let (blob, bytes) = layer(6, 1000);
    for content_range in
        ["bytes 0-999/1000", "bytes 500-998/1000", "bytes 500-999/999", "bytes 501-999/1000", "500-999", "", "bytes x"]
    {
        let content = bytes.clone();
        let registry =
            Fake::start(move |_, _| reply(206, &[("content-range", content_range)], content[500..].to_vec())).await;
        let client = client(Arc::new(NoCredentials));
        let source = repository(&client, &registry.name, "app", Access::Pull);
        assert!(read(&source, &blob, 500).await.is_err(), "{content_range}");
    }
}

#[tokio::test]
async fn what_never_comes_is_given_up() {
    let (blob, bytes) = layer(7, 100_000);
    let content = bytes.clone();
    // The same 50,000 bytes and no more, at once or by standing still.
    for stalls in [false, true] {
        let content = content.clone();
        let registry = Fake::start(move |seen, _| {
            let some = if seen.header("range").is_some() { &[][..] } else { &content[..50_000] };
            let chunk = futures_util::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::copy_from_slice(some))]);
            let wait = futures_util::stream::once(async move {
                tokio::time::sleep(if stalls { Duration::from_secs(60) } else { Duration::from_millis(20) }).await;
                Err(std::io::Error::other("broken off"))
            });
            let body = axum::body::Body::from_stream(futures_util::StreamExt::chain(chunk, wait));
            match seen.header("range") {
                Some(_) => reply(206, &[("content-range", "bytes 50000-99999/100000")], body),
                None => reply(200, &[("content-length", "100000")], body),
            }
        })
        .await;
        let client = client(Arc::new(NoCredentials));
        let source = repository(&client, &registry.name, "app", Access::Pull);
        let error = common::within(20, read(&source, &blob, 0)).await.unwrap_err();
        assert_eq!((error.kind(), error.side()), (Kind::Unreachable, Side::Source), "{error}");
        assert!(error.to_string().contains("broke off"), "{error}");
        assert!(registry.count("GET", "blobs") <= 6);
    }
    // Of another size than its descriptor says, or compressed on the way.
    for (name, value) in [("content-length", "99999"), ("content-encoding", "gzip")] {
        let registry = Fake::start(move |_, _| reply(200, &[(name, value)], noise(1, 99_999))).await;
        let client = client(Arc::new(NoCredentials));
        let source = repository(&client, &registry.name, "app", Access::Pull);
        assert!(read(&source, &blob, 0).await.is_err(), "{name}");
    }
}

#[tokio::test]
async fn busy_servers_are_asked_again_when_they_say() {
    let (descriptor, json) = manifest();
    for status in [408, 425, 429, 500, 502, 503, 504] {
        let json = json.clone();
        let registry = Fake::start(move |seen, _| match seen.header("x-none") {
            _ if rand_once(seen) => reply(status, &[("retry-after", "0")], ""),
            _ => reply(200, &[("content-type", media_type::OCI_MANIFEST)], json.clone()),
        })
        .await;
        FIRST.lock().unwrap().clear();
        let client = client(Arc::new(NoCredentials));
        let source = repository(&client, &registry.name, "app", Access::Pull);
        assert!(source.manifest(&descriptor).await.is_ok(), "{status}");
    }
    // A second, because it says so; an hour, never.
    let registry = Fake::start(|_, number| match number {
        0..=1 => reply(429, &[("retry-after", "1")], ""),
        _ => reply(404, &[], ""),
    })
    .await;
    let client = client(Arc::new(NoCredentials));
    let began = Instant::now();
    let source = repository(&client, &registry.name, "app", Access::Pull);
    assert_eq!(source.resolve(&tag("x")).await.unwrap_err().kind(), Kind::NotFound);
    assert!(began.elapsed() >= Duration::from_secs(1));
    let registry = Fake::start(|_, _| {
        let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"enough"}]}"#;
        reply(429, &[("retry-after", "3600")], body)
    })
    .await;
    let source = repository(&client, &registry.name, "app", Access::Pull);
    let (blob, _) = layer(1, 10);
    let error = read(&source, &blob, 0).await.err().unwrap();
    assert_eq!(error.kind(), Kind::RateLimited);
    for part in ["/v2/app/blobs/", "429", "TOOMANYREQUESTS", "enough", "3600 s"] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    assert_eq!(registry.count("GET", "blobs"), 1);
}

static FIRST: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// True for the first request of a kind to a path.
fn rand_once(seen: &Seen) -> bool {
    let key = format!("{} {}", seen.method, seen.uri);
    let mut first = FIRST.lock().unwrap();
    let is_new = !first.contains(&key);
    first.push(key);
    is_new
}

#[tokio::test]
async fn a_check_that_fails_is_not_a_missing_blob() {
    let registry = Fake::start(|seen, _| match seen.method.as_str() {
        "HEAD" => reply(500, &[], ""),
        _ => reply(202, &[("location", "/upload")], ""),
    })
    .await;
    let client = client(Arc::new(NoCredentials));
    let memory = Memory::default();
    let blob = memory.add_blob(media_type::OCI_LAYER, noise(8, 100));
    let target = repository(&client, &registry.name, "app", Access::Push);
    let error = target.put_blob(&blob, &memory, &Silent).await.unwrap_err();
    assert_eq!(error.side(), Side::Target);
    assert_eq!(registry.count("POST", ""), 0);
    assert!(memory.opened.lock().unwrap().is_empty());
}

#[tokio::test]
async fn uploads_go_on_within_the_command() {
    // The first PATCH is answered with 502 though 1,500,000 bytes were kept; then it goes on from there.
    let kept = Arc::new(Mutex::new(Vec::new()));
    let stored = kept.clone();
    let registry = Fake::start(move |seen, _| {
        let mut kept = kept.lock().unwrap();
        let range = |length: usize| format!("0-{}", length.saturating_sub(1));
        match seen.method.as_str() {
            "HEAD" => reply(404, &[], ""),
            "POST" => reply(202, &[("location", "/upload/1?s=1")], ""),
            "GET" => reply(204, &[("location", "/upload/2?s=2"), ("range", &range(kept.len()))], ""),
            "PATCH" if kept.is_empty() => {
                kept.extend_from_slice(&seen.body[..1_500_000]);
                reply(502, &[], "")
            }
            "PATCH" => {
                assert_eq!(seen.header("content-range"), Some("1500000-2999999"));
                kept.extend_from_slice(&seen.body);
                reply(202, &[("location", "/upload/3?s=3"), ("range", &range(kept.len()))], "")
            }
            _ => reply(201, &[], ""),
        }
    })
    .await;
    let client = client(Arc::new(NoCredentials));
    let memory = Memory::default();
    let blob = memory.add_blob(media_type::OCI_LAYER, noise(9, 3_000_000));
    let target = repository(&client, &registry.name, "app", Access::Push);
    assert_eq!(target.put_blob(&blob, &memory, &Silent).await.unwrap(), Placed::Stored(3_000_000));
    assert_eq!(*stored.lock().unwrap(), noise(9, 3_000_000));
    assert_eq!(*memory.opened.lock().unwrap(), [0, 1_500_000]);
    assert!(registry.seen().last().unwrap().uri.to_string().starts_with("/upload/3?s=3&digest=sha256"));
}

#[tokio::test]
async fn a_registry_that_forgets_uploads_is_given_up() {
    // It takes everything, and then knows nothing of it; or keeps a little, and loses it again.
    for status in [404, 502] {
        let registry = Fake::start(move |seen, _| match seen.method.as_str() {
            "HEAD" => reply(404, &[], ""),
            "PUT" => reply(status, &[], ""),
            "GET" => reply(204, &[("location", "/upload"), ("range", "0-99")], ""),
            _ => reply(202, &[("location", "/upload")], ""),
        })
        .await;
        let client = client(Arc::new(NoCredentials));
        let memory = Memory::default();
        for size in [1000, 2_000_000] {
            let blob = memory.add_blob(media_type::OCI_LAYER, noise(13, size));
            let target = repository(&client, &registry.name, "app", Access::Push);
            let error = common::within(20, target.put_blob(&blob, &memory, &Silent)).await.unwrap_err();
            assert_eq!(error.side(), Side::Target, "{error}");
        }
        assert!(registry.seen().len() < 60, "{}", registry.seen().len());
    }
}

/// A body that comes at so many bytes per second.
fn slowly(bytes: Vec<u8>, rate: usize) -> axum::body::Body {
    use futures_util::StreamExt;
    let chunks: Vec<_> = bytes.chunks(rate / 20).map(bytes::Bytes::copy_from_slice).collect();
    let paced = futures_util::stream::iter(chunks).then(|chunk| async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok::<_, std::io::Error>(chunk)
    });
    axum::body::Body::from_stream(paced)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_ranges_where_each_connection_is_slow() {
    let (blob, bytes) = layer(14, 80 * 1024 * 1024);
    let content = Arc::new(bytes.clone());
    let registry = Fake::start(move |seen, _| {
        let rate = 8 * 1024 * 1024;
        let Some(range) = seen.header("range") else { return reply(200, &[], slowly(content.to_vec(), rate)) };
        let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let first: usize = first.parse().unwrap();
        let last = last.parse().unwrap_or(content.len() - 1);
        let content_range = format!("bytes {first}-{last}/{}", content.len());
        reply(206, &[("content-range", &content_range)], slowly(content[first..=last].to_vec(), rate))
    })
    .await;
    let client = client(Arc::new(NoCredentials));
    let source = repository(&client, &registry.name, "app", Access::Pull);
    let began = Instant::now();
    assert!(read(&source, &blob, 0).await.unwrap() == bytes);
    let took = began.elapsed();
    let ranges = registry.seen().iter().filter(|seen| seen.header("range").is_some()).count();
    // One connection alone would take ten seconds.
    assert!(ranges >= 8 && took < Duration::from_millis(8500), "{ranges} ranges, {took:?}");
}

#[tokio::test]
async fn smaller_chunks_where_large_ones_are_refused() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let stored = kept.clone();
    let registry = Fake::start(move |seen, _| {
        let mut kept = kept.lock().unwrap();
        match seen.method.as_str() {
            "HEAD" => reply(404, &[], ""),
            "PATCH" if seen.body.len() > 5_000_000 => reply(413, &[], ""),
            "PATCH" => {
                kept.extend_from_slice(&seen.body);
                reply(202, &[("location", "/upload"), ("range", &format!("0-{}", kept.len() - 1))], "")
            }
            "GET" => reply(204, &[("location", "/upload"), ("range", "0-0")], ""),
            "PUT" => reply(201, &[], ""),
            _ => reply(202, &[("location", "/upload"), ("oci-chunk-min-length", "1000000")], ""),
        }
    })
    .await;
    let client = client(Arc::new(NoCredentials));
    let memory = Memory::default();
    let blob = memory.add_blob(media_type::OCI_LAYER, noise(10, 9_000_000));
    let target = repository(&client, &registry.name, "app", Access::Push);
    target.put_blob(&blob, &memory, &Silent).await.unwrap();
    assert!(*stored.lock().unwrap() == noise(10, 9_000_000));
    // Wrong bytes are seen in chunks, too.
    let mut wrong = noise(11, 9_000_000);
    let blob = memory.add_blob(media_type::OCI_LAYER, wrong.clone());
    wrong[8_999_999] ^= 1;
    memory.blobs.lock().unwrap().insert(blob.digest.clone(), wrong.into());
    stored.lock().unwrap().clear();
    let error = target.put_blob(&blob, &memory, &Silent).await.unwrap_err();
    assert_eq!((error.side(), error.kind()), (Side::Source, Kind::Corrupt));
    assert_eq!(registry.count("DELETE", "/upload"), 1);
}

#[tokio::test]
async fn a_stored_manifest_is_the_one_that_was_sent() {
    let (_, json) = manifest();
    let parsed = cove_oci::Manifest::parse(json.into_bytes(), None).unwrap();
    for (stated, fine) in [(parsed.descriptor().digest.to_string(), true), (digest(b"x").to_string(), false)] {
        let registry = Fake::start(move |_, _| reply(201, &[("docker-content-digest", &stated)], "")).await;
        let client = client(Arc::new(NoCredentials));
        let target = repository(&client, &registry.name, "app", Access::Push);
        assert_eq!(target.put_manifest(&parsed, Some(&tag("x"))).await.is_ok(), fine);
    }
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
