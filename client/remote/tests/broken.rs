//! Transfers that break off, stall and are refused, and how they go on.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::response::Response;
use common::{
    Fake, Memory, Seen, Steps, broken, client, client_with, digest, layer, manifest, noise, read, reply, repository,
    tag,
};
use cove_oci::media_type;
use cove_remote::{Access, ConfigPaths, NoCredentials};
use cove_transfer::{Kind, Placed, Side, Silent, Source, Step, Target};

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
    for status in [400, 403, 405, 409, 451, 500, 503] {
        let registry = Fake::start(move |seen, _| match seen.method.as_str() {
            "HEAD" => reply(status, &[], ""),
            _ => reply(202, &[("location", "/upload")], ""),
        })
        .await;
        let client = client(Arc::new(NoCredentials));
        let memory = Memory::default();
        let blob = memory.add_blob(media_type::OCI_LAYER, noise(8, 100));
        let target = repository(&client, &registry.name, "app", Access::Push);
        let error = target.put_blob(&blob, &memory, &Silent).await.unwrap_err();
        assert_eq!(error.side(), Side::Target, "{status}");
        assert_eq!(registry.count("POST", ""), 0, "{status}");
        assert!(memory.opened.lock().unwrap().is_empty(), "{status}");
    }
}

#[tokio::test]
async fn it_is_tried_as_often_as_is_configured() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cove.toml");
    let registry = Fake::start(|_, _| reply(503, &[], "")).await;
    for (text, tries) in [("", 4), ("[limits]\nattempts = 2\n", 2)] {
        std::fs::write(&file, text).unwrap();
        let paths = ConfigPaths { cove: vec![file.clone()], ..ConfigPaths::default() };
        let client = client_with(Arc::new(NoCredentials), paths);
        let before = registry.count("HEAD", "");
        let source = repository(&client, &registry.name, "app", Access::Pull);
        assert!(source.resolve(&tag("x")).await.is_err());
        assert_eq!(registry.count("HEAD", "") - before, tries, "{text}");
    }
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
async fn a_server_without_tls_is_told_of_as_one() {
    let server = Fake::start(|_, _| reply(200, &[], b"a file".to_vec())).await;
    let client = client(Arc::new(NoCredentials));
    let error = client.open(&format!("https://{}/file", server.name)).await.err().unwrap();
    let text = error.to_string();
    assert!(text.contains("server gave HTTP response to HTTPS client; "), "{text}");
    assert!(text.contains("insecure-registries") && !text.contains("certificate"), "{text}");
    assert!(client.open(&format!("http://{}/file", server.name)).await.is_ok());
}
