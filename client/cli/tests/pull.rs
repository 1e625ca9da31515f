//! Pulls from a registry that the test plays itself: what is printed where stdout is no terminal, and what becomes of a
//! mirror that gives damaged content.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use common::{Home, tar};
use cove_oci::{Algorithm, Digest};

/// Answers GET and HEAD with what lies at a path, and remembers what it was asked.
struct Registry {
    name: String,
    asked: Arc<Mutex<Vec<String>>>,
}

/// By path: media type and content.
type Contents = HashMap<String, (&'static str, Vec<u8>)>;

impl Registry {
    fn start(contents: Contents) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = listener.local_addr().unwrap().to_string();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = asked.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let _ = answer(connection, &contents, &log);
            }
        });
        Registry { name, asked }
    }

    fn was_asked(&self, part: &str) -> bool {
        self.asked.lock().unwrap().iter().any(|line| line.contains(part))
    }
}

fn answer(mut connection: TcpStream, contents: &Contents, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(connection.try_clone()?).lines();
    // Whoever begins with TLS sends no text, and tries again without.
    let Some(Ok(first)) = lines.next() else { return Ok(()) };
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    log.lock().unwrap().push(first.clone());
    let path = first.split([' ', '?']).nth(1).unwrap_or_default();
    let head = match contents.get(path) {
        Some((kind, content)) => {
            let digest = Digest::of(Algorithm::Sha256, content);
            let length = content.len();
            format!("200 OK\r\nContent-Type: {kind}\r\nDocker-Content-Digest: {digest}\r\nContent-Length: {length}")
        }
        None => "404 Not Found\r\nContent-Length: 0".to_owned(),
    };
    write!(connection, "HTTP/1.1 {head}\r\nConnection: close\r\n\r\n")?;
    match contents.get(path) {
        Some((_, content)) if first.starts_with("GET") => connection.write_all(content),
        _ => Ok(()),
    }
}

/// An image `app:1` of one layer; also the digest of its manifest and that of its layer.
fn image() -> (Contents, Digest, Digest) {
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    let digest = |content: &[u8]| Digest::of(Algorithm::Sha256, content);
    let layer = tar("hello", b"hi\n");
    let architecture = cove_oci::Platform::host().architecture;
    let config = format!(
        r#"{{"architecture":"{architecture}","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        digest(&layer)
    );
    let descriptor = |kind: &str, content: &[u8]| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{}","size":{}}}"#,
            digest(content),
            content.len()
        )
    };
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}]}}"#,
        descriptor("config.v1+json", config.as_bytes()),
        descriptor("layer.v1.tar", &layer)
    );
    let (of_manifest, of_layer) = (digest(manifest.as_bytes()), digest(&layer));
    let blob = |content: &[u8]| format!("/v2/app/blobs/{}", digest(content));
    let bytes = "application/octet-stream";
    let contents = Contents::from([
        (blob(&layer), (bytes, layer)),
        (blob(config.as_bytes()), (bytes, config.into_bytes())),
        ("/v2/app/manifests/1".to_owned(), (MANIFEST, manifest.clone().into_bytes())),
        (format!("/v2/app/manifests/{of_manifest}"), (MANIFEST, manifest.into_bytes())),
    ]);
    (contents, of_manifest, of_layer)
}

#[test]
fn scripts_read_dockers_lines() {
    let (contents, digest, layer) = image();
    let registry = Registry::start(contents);
    let home = Home::new();
    let name = format!("{}/app:1", registry.name);
    let id = &layer.hex()[..12];
    let statuses = ["Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"];
    let lines: String = statuses.map(|status| format!("{id}: {status}\n")).concat();
    let end = |status: &str, name: &str| format!("Digest: {digest}\nStatus: {status} for {name}\n{name}\n");
    assert_eq!(
        home.ok(&["pull", &name]),
        format!("1: Pulling from app\n{lines}{}", end("Downloaded newer image", &name))
    );
    let by_digest = format!("{}/app@{digest}", registry.name);
    assert_eq!(
        home.ok(&["pull", &by_digest]).lines().next(),
        Some(format!("{by_digest}: Pulling from app").as_str()),
        "the whole name, as docker"
    );
}

#[test]
fn a_mirror_that_gives_damaged_content_does_not_keep_anybody_from_the_image() {
    let (contents, _, layer) = image();
    let mut damaged = contents.clone();
    let (_, content) = damaged.get_mut(&format!("/v2/app/blobs/{layer}")).unwrap();
    content[600] ^= 1;
    let (registry, mirror) = (Registry::start(contents), Registry::start(damaged));
    let home = Home::new();
    let text = format!("[registry.\"{}\"]\nmirrors = [\"http://{}\"]\n", registry.name, mirror.name);
    home.file("cove.toml", text.as_bytes());
    let ended = home.run(&["pull", &format!("{}/app:1", registry.name)]);
    assert_eq!(ended.status, 0, "{ended:?}");
    assert!(ended.error.contains("A mirror gave content that is damaged"), "{ended:?}");
    assert!(mirror.was_asked(layer.hex()) && registry.was_asked(layer.hex()));
}
