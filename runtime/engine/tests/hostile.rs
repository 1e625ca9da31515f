//! Images that are made to hang, to fill the memory or to replace what is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use common::{Memory, gzip, noise, pull, pull_with, sha256, store, tar};
use cove_engine::unpack::OneId;
use cove_engine::{ReceiveOptions, Store};
use cove_oci::{Descriptor, ReferenceDefaults, media_type};
use cove_transfer::{Error, Silent};

/// Pulls, and fails instead of hanging.
async fn refusal(store: &Store, source: &Memory, all_platforms: bool) -> String {
    let options = ReceiveOptions { all_platforms, ..ReceiveOptions::default() };
    let pulling = pull_with(store, source, "app", options, &Silent);
    let pulled: Result<_, Error> = tokio::time::timeout(Duration::from_secs(20), pulling).await.expect("it hangs");
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    assert!(store.images().unwrap().is_empty());
    pulled.unwrap_err().to_string()
}

/// A manifest of any blobs.
fn manifest_of(memory: &mut Memory, config: &Descriptor, layers: &[Descriptor]) -> Descriptor {
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": layers,
    });
    let manifest = memory.add(media_type::OCI_MANIFEST, manifest.to_string().into_bytes());
    memory.root = Some(manifest.clone());
    manifest
}

#[tokio::test(flavor = "multi_thread")]
async fn configurations_that_are_too_large_are_refused_before_anything_waits_for_them() {
    for layers in [vec![], vec![tar(&[("a", b"a")])]] {
        let mut memory = Memory::default();
        let diff_ids: Vec<_> = layers.iter().map(|layer| sha256(layer)).collect();
        let config = serde_json::json!({
            "os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "padding": "x".repeat(9 << 20),
        });
        let config = memory.add(media_type::OCI_CONFIG, config.to_string().into_bytes());
        let layers: Vec<_> = layers.iter().map(|layer| memory.add(media_type::OCI_LAYER_GZIP, gzip(layer))).collect();
        manifest_of(&mut memory, &config, &layers);
        let (_folder, store) = store();
        let error = refusal(&store, &memory, false).await;
        assert!(error.contains("more than 8 MiB"), "{error}");
        assert!(memory.asked().is_empty(), "nothing of it was fetched");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_configuration_and_layer_is_refused() {
    let mut memory = Memory::image(&[tar(&[("a", b"a")])]);
    let (config, layer) =
        (memory.manifest().config().unwrap().clone(), memory.manifest().layers().first().unwrap().clone());
    let good = memory.root.clone().unwrap();
    let as_layer = Descriptor { media_type: media_type::OCI_LAYER.to_owned(), ..config.clone() };
    let as_config = Descriptor { media_type: media_type::OCI_CONFIG.to_owned(), ..layer.clone() };
    let of_itself = manifest_of(&mut memory, &config, std::slice::from_ref(&as_layer));
    let of_the_other = manifest_of(&mut memory, &as_config, &[layer]);
    for (root, all_platforms) in [
        (of_itself.clone(), false),
        (memory.index_of(&[good.clone(), of_itself]), true),
        (memory.index_of(&[good, of_the_other]), true),
    ] {
        memory.root = Some(root);
        let (_folder, store) = store();
        let error = refusal(&store, &memory, all_platforms).await;
        assert!(error.contains("a configuration and a layer at the same time"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_that_contradict_each_other_are_refused() {
    let mut memory = Memory::image(&[tar(&[("a", b"a")])]);
    let (config, layer) =
        (memory.manifest().config().unwrap().clone(), memory.manifest().layers().first().unwrap().clone());
    let good = memory.root.clone().unwrap();
    let larger = Descriptor { size: layer.size + 1, ..layer.clone() };
    let twice = manifest_of(&mut memory, &config, &[layer, larger.clone()]);
    let wrong = manifest_of(&mut memory, &config, &[larger]);
    let (_folder, store) = store();
    memory.root = Some(twice);
    let error = refusal(&store, &memory, false).await;
    assert!(error.contains("should have"), "{error}");
    // A blob that is there has the size that it has, whatever another manifest says.
    memory.root = Some(good);
    pull(&store, &memory, "good").await.unwrap();
    memory.root = Some(wrong);
    let error = pull(&store, &memory, "wrong").await.unwrap_err().to_string();
    assert!(error.contains("should have"), "{error}");
    assert_eq!(store.images().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_record_names_is_not_written_again() {
    let memory = Memory::image(&[tar(&[("a", &noise(1, 1000))])]);
    let (_folder, store) = store();
    pull(&store, &memory, "app").await.unwrap();
    let path = store.places().root.join("blobs/sha256").join(memory.root.clone().unwrap().digest.hex());
    let before = std::fs::metadata(&path).unwrap().ino();
    pull(&store, &memory, "again").await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().ino(), before);
    // Something else of its name is replaced.
    std::fs::write(&path, b"torn").unwrap();
    store.remove("app", &ReferenceDefaults::default(), cove_engine::RemoveOptions::default()).unwrap();
    let left = std::fs::read_dir(path.parent().unwrap()).unwrap();
    let left = left.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".new-"));
    assert_eq!(left.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_were_unpacked_with_one_id_are_not_used_with_many() {
    let memory = Memory::image(&[tar(&[("a", b"a")])]);
    let (_folder, store) = store();
    let mut options = ReceiveOptions::default();
    options.unpack.rootless = Some(OneId);
    pull_with(&store, &memory, "app", options.clone(), &Silent).await.unwrap();
    let folder = || store.find("app", &ReferenceDefaults::default()).unwrap().image.layers()[0].folder.clone();
    let first = folder();
    assert!(pull_with(&store, &memory, "app", options.clone(), &Silent).await.unwrap().was_up_to_date());
    options.unpack.rootless = None;
    assert!(!pull_with(&store, &memory, "app", options, &Silent).await.unwrap().was_up_to_date());
    assert_ne!(folder(), first);
    assert!(!first.exists());
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

const HUNGRY: &str = "COVE_TEST_HUNGRY_IMAGE";

/// Each layer implies folders whose names together are a thousand times as large as it.
fn hungry() -> Memory {
    let layer = |number: u32| {
        let mut builder = tar::Builder::new(Vec::new());
        for chain in 0..20 {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(0o644);
            header.set_size(0);
            let path = format!("{number}-{chain}/{}x", "abc/".repeat(980));
            builder.append_data(&mut header, path, &b""[..]).unwrap();
        }
        builder.into_inner().unwrap()
    };
    Memory::image(&(0..9).map(layer).collect::<Vec<_>>())
}

/// Not a test of its own: a process whose memory is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn pulls_a_hungry_image() {
    let Some(folder) = std::env::var_os(HUNGRY) else { return };
    let store = Store::open(cove_engine::Places::under(folder.as_ref())).unwrap();
    let error = pull(&store, &hungry(), "app").await.unwrap_err().to_string();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("peak{peak}\nerror {error}");
}

#[test]
fn all_layers_of_a_copy_share_one_budget_of_memory() {
    let folder = tempfile::tempdir().unwrap();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "pulls_a_hungry_image", "--nocapture"])
        .env(HUNGRY, folder.path())
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{output}");
    assert!(output.contains("more bytes in names of folders and links"), "{output}");
    let peak = output.lines().find_map(|line| line.strip_prefix("peak")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").trim().parse().unwrap();
    assert!(peak < 256 * 1024, "{peak} kB");
}
