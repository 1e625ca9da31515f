//! Load, save, import and sealing.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use common::{Memory, Nowhere, noise, pull, reference, sha256, store, tar};
use cove_engine::{Image, ImportOptions, Loaded, RemoveOptions, Saved, Store};
use cove_oci::{Codec, Digest, Manifest, Platform, ReferenceDefaults};
use cove_transfer::{CopyOptions, Platforms, Silent, copy};

fn defaults() -> ReferenceDefaults {
    ReferenceDefaults::default()
}

/// What docker before 25 wrote: folders for layers, the same layer once more as a link, `manifest.json` last.
fn old_archive(layers: &[Vec<u8>], names: &[&str]) -> (Digest, Vec<u8>) {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| sha256(layer)).collect();
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = config.to_string().into_bytes();
    let id = sha256(&config);
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8], link: Option<&str>| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        match link {
            None => {
                header.set_size(bytes.len() as u64);
                builder.append_data(&mut header, name, bytes).unwrap();
            }
            Some(target) => {
                header.set_size(0);
                header.set_entry_type(tar::EntryType::Symlink);
                builder.append_link(&mut header, name, target).unwrap();
            }
        }
    };
    let mut paths: Vec<String> = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        let path = format!("layer{at}/layer.tar");
        add(&format!("layer{at}/VERSION"), b"1.0", None);
        let first = layers.iter().position(|other| other == layer).unwrap();
        match first == at {
            true => add(&path, layer, None),
            false => add(&path, b"", Some(&format!("../layer{first}/layer.tar"))),
        }
        paths.push(path);
    }
    let config_name = format!("{}.json", id.hex());
    add(&config_name, &config, None);
    let list = serde_json::json!([{"Config": config_name, "RepoTags": names, "Layers": paths}]);
    add("manifest.json", list.to_string().as_bytes(), None);
    (id, builder.into_inner().unwrap())
}

fn layers() -> Vec<Vec<u8>> {
    let text: Vec<u8> = "the quick brown fox jumps over the lazy dog\n".repeat(80_000).into_bytes();
    let base = tar(&[("etc/", b""), ("etc/name", b"base"), ("text", &text), ("noise", &noise(3, 1_200_000))]);
    let top = tar(&[("srv/", b""), ("srv/page", b"hello")]);
    vec![base.clone(), top, base]
}

async fn seal(
    store: &Store,
    image: &Image,
    codec: Option<Codec>,
    target: &impl cove_transfer::Target,
    progress: &dyn cove_transfer::Progress,
) -> Manifest {
    store.seal(std::slice::from_ref(image), codec, target, progress).await.unwrap().manifests.remove(0)
}

/// All of an image, with its names.
fn saved_as(image: &Image) -> Saved {
    Saved { image: image.clone(), names: image.tags().to_vec(), is_whole: true }
}

async fn seal_into(from: &Store, name: &str, to: &Store, codec: Codec) -> Manifest {
    let image = from.find(name, &defaults()).unwrap().image;
    let target = to.receive(Some(&reference(name)), cove_engine::ReceiveOptions::default());
    let notes = common::Notes::default();
    let manifest = seal(from, &image, Some(codec), &Nowhere, &notes).await;
    let root = cove_oci::ManifestReference::Digest(manifest.descriptor().digest);
    let options = CopyOptions { platforms: Platforms::All, blobs_at_once: 4 };
    copy(&from.send(&image).unwrap(), &root, &target, &root, &options, &Silent).await.unwrap();
    manifest
}

#[tokio::test(flavor = "multi_thread")]
async fn old_archives_are_loaded_sealed_sent_saved_and_loaded_again() {
    let (_folder, store) = store();
    let (id, archive) = old_archive(&layers(), &["team/app:v1", "team/app:v2"]);
    let loaded = store.load(&*archive, None, &Silent).unwrap();
    assert_eq!(loaded, [Loaded::Named(reference("team/app:v1")), Loaded::Named(reference("team/app:v2"))]);
    let image = store.find("team/app:v2", &defaults()).unwrap().image;
    assert_eq!(image.id(), &id);
    assert!(!image.is_sealed());
    assert_eq!(std::fs::read(image.layers()[0].folder.join("etc/name")).unwrap(), b"base");
    assert!(store.check().unwrap().is_empty());

    let (_other_folder, other) = common::store();
    let manifest = seal_into(&store, "team/app:v1", &other, Codec::Gzip).await;
    let sealed = store.find("team/app:v1", &defaults()).unwrap().image;
    assert!(sealed.is_sealed());
    assert_eq!(sealed.manifest().bytes(), manifest.bytes());
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    let pulled = other.find("team/app:v1", &defaults()).unwrap().image;
    assert_eq!(pulled.id(), &id);
    assert_eq!(std::fs::read(pulled.layers()[1].folder.join("srv/page")).unwrap(), b"hello");
    // What was compressed is gone in its uncompressed form.
    let raw = sha256(&layers()[0]);
    assert!(!store.places().root.join("blobs/sha256").join(raw.hex()).exists());

    let mut saved = Vec::new();
    store.save(&[saved_as(&sealed)], &mut saved).unwrap();
    let mut again = Vec::new();
    store.save(&[saved_as(&sealed)], &mut again).unwrap();
    assert_eq!(sha256(&saved), sha256(&again));
    let (_third_folder, third) = common::store();
    let loaded = third.load(&*saved, None, &Silent).unwrap();
    assert_eq!(loaded.len(), 2);
    let image = third.find("team/app:v2", &defaults()).unwrap().image;
    assert_eq!((image.id(), image.manifest().bytes()), (&id, manifest.bytes()));
    assert_eq!(third.check().unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn sealing_gives_the_same_everywhere_and_every_tool_reads_it() {
    for codec in [Codec::Gzip, Codec::Zstd] {
        let mut manifests = Vec::new();
        for _ in 0..2 {
            let (_folder, store) = store();
            store.load(&*old_archive(&layers(), &["app:v1"]).1, None, &Silent).unwrap();
            let manifest = seal_into(&store, "app:v1", &common::store().1, codec).await;
            for (layer, tar) in manifest.layers().iter().zip(layers()) {
                assert_eq!(layer.layer_codec(), Some(codec));
                let path = store.places().root.join("blobs/sha256").join(layer.digest.hex());
                if codec == Codec::Gzip {
                    let file = std::fs::File::open(&path).unwrap();
                    let output = Command::new("gzip").arg("-dc").stdin(Stdio::from(file)).output().unwrap();
                    assert_eq!(sha256(&output.stdout), sha256(&tar));
                    let mut decoded = Vec::new();
                    let file = std::fs::File::open(&path).unwrap();
                    flate2::read::MultiGzDecoder::new(file).read_to_end(&mut decoded).unwrap();
                    assert_eq!(sha256(&decoded), sha256(&tar));
                } else {
                    let decoded = zstd::decode_all(std::fs::File::open(&path).unwrap()).unwrap();
                    assert_eq!(sha256(&decoded), sha256(&tar));
                }
            }
            manifests.push(manifest.bytes().to_vec());
        }
        assert_eq!(manifests[0], manifests[1]);
    }
}

#[test]
fn archives_are_read_in_every_compression() {
    let (id, archive) = old_archive(&layers()[1..2], &[]);
    for tool in ["cat", "gzip -c", "xz -c", "bzip2 -c", "zstd -c"] {
        let mut words = tool.split(' ');
        let child = Command::new(words.next().unwrap())
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = child else { continue };
        let (mut input, bytes) = (child.stdin.take().unwrap(), archive.clone());
        let writer = std::thread::spawn(move || input.write_all(&bytes));
        let (_folder, store) = store();
        let loaded = store.load(child.stdout.take().unwrap(), None, &Silent).unwrap();
        assert_eq!(loaded, [Loaded::Id(id.clone())], "{tool}");
        writer.join().unwrap().unwrap();
        child.wait().unwrap();
        let image = store.find(id.hex(), &defaults()).unwrap().image;
        assert!(image.is_dangling());
    }
}

#[test]
fn archives_that_lie_are_refused_and_leave_nothing() {
    let (_, good) = old_archive(&layers()[1..2], &["app:v1"]);
    let at = good.windows(5).position(|window| window == b"hello").unwrap();
    let mut wrong = good.clone();
    wrong[at] ^= 1;
    let cases = [wrong, good[..good.len() / 2].to_vec(), b"this is no archive".to_vec(), Vec::new()];
    for bad in cases {
        let (_folder, store) = store();
        assert!(store.load(&*bad, None, &Silent).is_err());
        assert!(store.images().unwrap().is_empty());
        store.prune(&cove_engine::PruneFilter::default()).unwrap();
        store.prune_partial().unwrap();
        for folder in ["layers", "blobs/sha256", "staging", "partial", "trash", "leases"] {
            let left: Vec<_> = std::fs::read_dir(store.places().root.join(folder)).unwrap().collect();
            assert!(left.is_empty(), "{folder}: {left:?}");
        }
    }
}

#[test]
fn a_root_file_system_is_imported() {
    let (_folder, store) = store();
    let rootfs = common::gzip(&tar(&[("etc/", b""), ("etc/name", b"base")]));
    let options = ImportOptions {
        changes: vec!["CMD [\"sh\"]".to_owned(), "ENV A=b".to_owned()],
        message: "from a tar".to_owned(),
        reference: Some(reference("rootfs:v1")),
        platform: Platform::host(),
    };
    let id = store.import(&*rootfs, options).unwrap();
    let image = store.find("rootfs:v1", &defaults()).unwrap().image;
    assert_eq!(image.id(), &id);
    let document = image.config().document();
    assert_eq!(document.config.env, ["A=b"]);
    assert_eq!(document.history[0].comment, "from a tar");
    assert_eq!(std::fs::read(image.layers()[0].folder.join("etc/name")).unwrap(), b"base");
    let usage = store.usage().unwrap();
    assert_eq!((usage.images, usage.images_size), (1, image.size()));
    store.remove("rootfs:v1", &defaults(), RemoveOptions::default()).unwrap();
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pulled_image_is_sent_and_saved_as_it_came() {
    let (_folder, store) = store();
    let source = Memory::image(&layers());
    pull(&store, &source, "app:v1").await.unwrap();
    let image = store.find("app:v1", &defaults()).unwrap().image;
    let manifest = seal(&store, &image, Some(Codec::Zstd), &Nowhere, &Silent).await;
    assert_eq!(manifest.bytes(), source.manifest().bytes());
    let mut saved = Vec::new();
    store.save(&[saved_as(&image)], &mut saved).unwrap();
    let (_other_folder, other) = common::store();
    other.load(&*saved, None, &Silent).unwrap();
    let image = other.find("app:v1", &defaults()).unwrap().image;
    assert_eq!(image.manifest().bytes(), source.manifest().bytes());
    assert!(image.is_sealed());
}

/// Two images of one tar: the second takes the compressed layer of the first, unless another codec is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_compressed_already_is_taken_unless_another_codec_is_asked_for() {
    let (_folder, store) = store();
    let rootfs = tar(&[("etc/", b""), ("noise", &noise(5, 50_000))]);
    let mut layers = Vec::new();
    for (name, asked) in
        [("one:v1", None), ("two:v1", None), ("three:v1", Some(Codec::Zstd)), ("four:v1", Some(Codec::Gzip))]
    {
        let options = ImportOptions {
            changes: Vec::new(),
            message: name.to_owned(),
            reference: Some(reference(name)),
            platform: Platform::host(),
        };
        let rootfs = rootfs.clone();
        let importing = store.clone();
        tokio::task::spawn_blocking(move || importing.import(&*rootfs, options).unwrap()).await.unwrap();
        let image = store.find(name, &defaults()).unwrap().image;
        layers.push(seal(&store, &image, asked, &Nowhere, &Silent).await.layers()[0].clone());
    }
    assert_eq!(layers[0].layer_codec(), Some(Codec::Gzip));
    assert_eq!(layers[1], layers[0]);
    assert_eq!(layers[2].layer_codec(), Some(Codec::Zstd));
    assert_eq!(layers[3], layers[0]);
}
