//! Pulling: what is good gets in, what is bad does not, and what broke off goes on.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Faults, Memory, Notes, gzip, noise, pull, pull_with, reference, sha256, store, tar};
use cove_engine::{PruneFilter, ReceiveOptions};
use cove_oci::{Descriptor, ReferenceDefaults, media_type};
use cove_transfer::{Kind, Platforms, Step};

fn three_layers() -> Memory {
    Memory::image(&[
        tar(&[("etc/", b""), ("etc/name", b"base"), ("big", &noise(1, 3_000_000))]),
        tar(&[("bin/", b""), ("bin/tool", &noise(2, 1_500_000))]),
        tar(&[("srv/", b""), ("srv/page", b"hello")]),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_in_whole() {
    let (_folder, store) = store();
    let source = three_layers();
    let copied = pull(&store, &source, "hub.test/team/app:v1").await.unwrap();
    assert!(!copied.was_up_to_date());
    let image = store.find("hub.test/team/app:v1", &ReferenceDefaults::default()).unwrap().image;
    let manifest = source.manifest();
    assert_eq!(image.id(), &manifest.config().unwrap().digest);
    assert_eq!(image.manifest().bytes(), manifest.bytes());
    assert_eq!(image.tags(), [reference("hub.test/team/app:v1")]);
    assert_eq!(image.digests(), [reference("hub.test/team/app").with_digest(manifest.descriptor().digest)]);
    assert_eq!(std::fs::read(image.layers()[0].folder.join("etc/name")).unwrap(), b"base");
    assert_eq!(std::fs::read(image.layers()[1].folder.join("bin/tool")).unwrap(), noise(2, 1_500_000));
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    // A blob is sent as it came.
    let blob = std::fs::read(store.places().root.join("blobs/sha256").join(manifest.layers()[0].digest.hex()));
    assert_eq!(blob.unwrap(), source.content[&manifest.layers()[0].digest]);
    for folder in ["partial", "staging", "leases", "trash"] {
        let left: Vec<_> = std::fs::read_dir(store.places().root.join(folder)).unwrap().collect();
        assert!(left.is_empty(), "{folder}: {left:?}");
    }
    source.asked();
    assert!(pull(&store, &source, "hub.test/team/app:v1").await.unwrap().was_up_to_date());
    assert!(source.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_off_goes_on_where_it_was() {
    let (_folder, store) = store();
    let mut source = three_layers();
    let first = source.manifest().layers()[0].clone();
    // Only the largest layer is long enough to break off.
    source.faults = Faults { break_after: Some(1_900_000), ..Faults::default() };
    let error = pull(&store, &source, "app").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable);
    assert!(store.images().unwrap().is_empty());
    source.asked();
    source.faults = Faults::default();
    let notes = Notes::default();
    pull_with(&store, &source, "app", ReceiveOptions::default(), &notes).await.unwrap();
    assert!(source.asked().contains(&(first.digest.clone(), 1_900_000)));
    let told = notes.0.into_inner().unwrap();
    assert!(told.contains(&(first.digest, Step::Resumed(1_900_000))));
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_file_that_is_damaged_is_cut_or_fetched_anew() {
    let (_folder, store) = store();
    let mut source = three_layers();
    let first = source.manifest().layers()[0].clone();
    for (at, expected) in [(1_100_000_u64, 1 << 20), (100, 0), (2_200_000, 0)] {
        source.faults = Faults { break_after: Some(2_300_000), ..Faults::default() };
        pull(&store, &source, "app").await.unwrap_err();
        let path = store.places().root.join("partial").join(first.digest.hex());
        let mut bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 2_300_000);
        bytes[usize::try_from(at).unwrap()] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        source.asked();
        source.faults = Faults::default();
        pull(&store, &source, "app").await.unwrap();
        let asked = source.asked();
        // Behind the last whole MiB there is no checksum: the digest finds it, and everything comes anew.
        assert!(asked.contains(&(first.digest.clone(), expected)), "{at}: {asked:?}");
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
        store.remove("app", &ReferenceDefaults::default(), Default::default()).unwrap();
        store.prune(&PruneFilter::default()).unwrap();
        assert_eq!(std::fs::read_dir(store.places().root.join("blobs/sha256")).unwrap().count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_of_every_class_are_refused() {
    let source = three_layers();
    let manifest = source.manifest();
    let mut wrong = vec![source.root.clone().unwrap().digest];
    wrong.extend(manifest.blobs().map(|blob| blob.digest.clone()));
    for digest in wrong {
        let (_folder, store) = store();
        let mut bad = source.clone();
        bad.faults.flip = Some(digest.clone());
        let error = pull(&store, &bad, "app").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
        assert!(store.images().unwrap().is_empty());
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
        pull(&store, &source, "app").await.unwrap();
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_must_be_what_the_configuration_says() {
    let (_folder, store) = store();
    let (one, other) = (tar(&[("a", b"1")]), tar(&[("a", b"2")]));
    let mut source = Memory::default();
    source.manifest_of(&[(sha256(&one), gzip(&other))], "linux/amd64", "");
    let error = pull(&store, &source, "app").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.to_string().contains(sha256(&other).hex()), "{error}");
    // Also where the layer with that DiffID is known: nobody checks what is not unpacked, unless we do.
    let mut good = Memory::default();
    good.manifest_of(&[(sha256(&one), gzip(&one))], "linux/amd64", "good");
    pull(&store, &good, "good").await.unwrap();
    let error = pull(&store, &source, "app").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert_eq!(store.images().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_are_there_are_neither_fetched_nor_unpacked_again() {
    let (_folder, store) = store();
    let (base, top) = (tar(&[("base", &noise(1, 500_000))]), tar(&[("top", b"2")]));
    let first = Memory::image(std::slice::from_ref(&base));
    pull(&store, &first, "app:1").await.unwrap();
    let second = Memory::image(&[base.clone(), top.clone(), top]);
    pull(&store, &second, "app:2").await.unwrap();
    let base_blob = first.manifest().layers()[0].digest.clone();
    assert!(second.asked().iter().all(|(digest, _)| *digest != base_blob));
    let image = store.find("app:2", &ReferenceDefaults::default()).unwrap().image;
    assert_eq!(image.layers()[1].folder, image.layers()[2].folder);
    assert_eq!(std::fs::read_dir(store.places().root.join("layers")).unwrap().count(), 2);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_fetch_everything_once() {
    let (_folder, store) = store();
    let mut source = three_layers();
    source.faults.pause = Some(Duration::from_millis(1));
    let total: u64 = source.manifest().blobs().map(|blob| blob.size).sum();
    let other = cove_engine::Store::open(store.places().clone()).unwrap();
    let (one, two, three) =
        tokio::join!(pull(&store, &source, "app"), pull(&other, &source, "app"), pull(&other, &source, "copy"));
    for pulled in [one, two, three] {
        pulled.unwrap();
    }
    assert_eq!(source.sent.load(std::sync::atomic::Ordering::Relaxed), total);
    // Two images that share a layer.
    let extra = tar(&[("extra", b"x")]);
    let base = tar(&[("base", &noise(9, 900_000))]);
    let mut one = Memory::image(&[base.clone(), extra]);
    let mut two = Memory::image(&[base]);
    (one.faults.pause, two.faults.pause) = (Some(Duration::from_millis(2)), Some(Duration::from_millis(2)));
    let (first, second) = tokio::join!(pull(&store, &one, "one"), pull(&other, &two, "two"));
    for pulled in [first, second] {
        pulled.unwrap();
    }
    let layer = two.manifest().layers()[0].digest.clone();
    let asked = one.asked().into_iter().chain(two.asked()).filter(|(digest, _)| *digest == layer).count();
    assert_eq!(asked, 1);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_gives_one_image_or_all() {
    let (_folder, store) = store();
    let mut source = Memory::default();
    let layer = |text: &str| {
        let tar = tar(&[("arch", text.as_bytes())]);
        (sha256(&tar), gzip(&tar))
    };
    let mut amd64 = source.manifest_of(&[layer("amd64")], "linux/amd64", "");
    amd64.platform = Some("linux/amd64".parse().unwrap());
    let mut arm64 = source.manifest_of(&[layer("arm64")], "linux/arm64", "");
    arm64.platform = Some("linux/arm64".parse().unwrap());
    let statement = source.add("application/vnd.in-toto+json", b"{}".to_vec());
    let config = source.add(media_type::OCI_CONFIG, br#"{"architecture":"unknown","os":"unknown"}"#.to_vec());
    let attestation = serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": config, "layers": [statement]});
    let mut attestation = source.add(media_type::OCI_MANIFEST, attestation.to_string().into_bytes());
    attestation.annotations =
        Some([("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned())].into());
    let index = source.index_of(&[amd64.clone(), arm64, attestation.clone()]);

    let arm = ReceiveOptions { platform: Some("linux/arm64".parse().unwrap()), ..ReceiveOptions::default() };
    pull_with(&store, &source, "app", arm, &Notes::default()).await.unwrap();
    let image = store.find("app", &ReferenceDefaults::default()).unwrap().image;
    assert_eq!(image.config().platform().architecture, "arm64");
    assert_eq!(image.digests()[0].digest(), Some(&index.digest));

    let all = ReceiveOptions {
        all_platforms: true,
        platform: Some("linux/amd64".parse().unwrap()),
        ..ReceiveOptions::default()
    };
    pull_with(&store, &source, "app", all, &Notes::default()).await.unwrap();
    let image = store.find("app", &ReferenceDefaults::default()).unwrap().image;
    assert_eq!(image.config().platform().architecture, "amd64");
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    // All of it can be sent on.
    let sender = store.send_index(&reference("app")).unwrap().unwrap();
    let (_other_folder, other) = common::store();
    let all = ReceiveOptions { all_platforms: true, ..ReceiveOptions::default() };
    let receiver = other.receive(Some(&reference("app")), all);
    let to = reference("app").manifest_reference();
    let options = cove_transfer::CopyOptions { platforms: Platforms::All, blobs_at_once: 4 };
    cove_transfer::copy(&sender, &to, &receiver, &to, &options, &cove_transfer::Silent).await.unwrap();
    assert_eq!(other.images().unwrap().len(), 1, "the other one belongs to the name");
    assert_eq!(other.images_of(&reference("app")).unwrap().len(), 2);
    assert_eq!(other.check().unwrap(), Vec::<String>::new());
    drop(sender);
    // Everything goes with the names.
    store.prune(&PruneFilter { all: true, ..PruneFilter::default() }).unwrap();
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(store.places().root.join("blobs/sha256")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_and_strange_layers_are_refused_before_anything_is_fetched() {
    let (_folder, store) = store();
    for (config_type, layer_type) in [
        ("application/vnd.oci.empty.v1+json", "application/x-tar"),
        (media_type::OCI_CONFIG, "application/vnd.oci.image.layer.v1.tar+bzip2"),
    ] {
        let mut source = Memory::default();
        let config: Descriptor = source.add(config_type, b"{}".to_vec());
        let layer = source.add(layer_type, b"x".to_vec());
        let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": config, "layers": [layer]});
        source.root = Some(source.add(media_type::OCI_MANIFEST, manifest.to_string().into_bytes()));
        let error = pull(&store, &source, "app").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported, "{error}");
        assert!(source.asked().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_what_has_arrived_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mount = |arguments: &[&str]| {
        let done = std::process::Command::new(arguments[0])
            .args(&arguments[1..])
            .arg(folder.path())
            .stderr(std::process::Stdio::null())
            .status();
        done.is_ok_and(|status| status.success())
    };
    if !mount(&["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs"]) {
        return; // Only root can.
    }
    let store = cove_engine::Store::open(cove_engine::Places::under(folder.path())).unwrap();
    let error = pull(&store, &three_layers(), "app").await.unwrap_err();
    assert_eq!(error.kind(), Kind::NoSpace, "{error}");
    assert!(error.to_string().contains("make room"), "{error}");
    assert!(store.images().unwrap().is_empty());
    assert!(mount(&["mount", "-o", "remount,size=32m"]));
    let source = three_layers();
    let notes = Notes::default();
    pull_with(&store, &source, "app", ReceiveOptions::default(), &notes).await.unwrap();
    assert!(notes.0.lock().unwrap().iter().any(|(_, step)| matches!(step, Step::Resumed(_))));
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    assert!(mount(&["umount", "-l"]));
}
