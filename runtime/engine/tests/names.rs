//! Finding, naming and removing images, in docker's words; leases and broken records.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Memory, noise, pull, reference, sha256, store, tar};
use cove_engine::{Error, LabelFilter, PruneFilter, RemoveOptions, Removed, Store};
use cove_oci::{ReferenceDefaults, chain_ids};

fn defaults() -> ReferenceDefaults {
    ReferenceDefaults::default()
}

fn image(salt: &str) -> Memory {
    let mut memory = Memory::default();
    let base = tar(&[("base", b"base")]);
    let top = tar(&[("salt", salt.as_bytes())]);
    let layers = [&base, &top].map(|tar| (sha256(tar), common::gzip(tar)));
    memory.manifest_of(&layers, "linux/amd64", salt);
    memory
}

fn remove(store: &Store, name: &str, force: bool) -> Result<Vec<Removed>, Error> {
    let removed = store.remove(name, &defaults(), RemoveOptions { force });
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    removed
}

fn blobs(store: &Store) -> usize {
    std::fs::read_dir(store.places().root.join("blobs/sha256")).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_found_by_name_id_and_the_beginning_of_it() {
    let (_folder, store) = store();
    for number in 0..20 {
        pull(&store, &image(&number.to_string()), &format!("app:{number}")).await.unwrap();
    }
    let found = store.find("app:3", &defaults()).unwrap();
    assert_eq!(found.reference, Some(reference("app:3")));
    let id = found.image.id().clone();
    for name in [id.hex(), id.as_str(), &id.hex()[..12], &id.as_str()[..19]] {
        let found = store.find(name, &defaults()).unwrap();
        assert_eq!((found.image.id(), found.reference), (&id, None), "{name}");
    }
    let digest = found.image.digests()[0].digest().unwrap().clone();
    assert_eq!(store.find(&format!("app@{digest}"), &defaults()).unwrap().image.id(), &id);
    assert_eq!(store.find(&format!("app:other@{digest}"), &defaults()).unwrap().image.id(), &id);
    // Sixteen first digits and twenty images: two begin alike.
    let ids: Vec<String> = store.images().unwrap().iter().map(|image| image.id().hex().to_owned()).collect();
    let twice = ids.iter().find(|id| ids.iter().filter(|other| other[..1] == id[..1]).count() > 1).unwrap();
    let error = store.find(&twice[..1], &defaults()).unwrap_err();
    assert_eq!(error.to_string(), format!("multiple IDs found with provided prefix: {}", &twice[..1]));
    let error = store.find("nothing", &defaults()).unwrap_err();
    assert_eq!(error.to_string(), "No such image: nothing:latest");
    // A name that looks like the beginning of an id is a name first.
    store.tag(&found.image, &reference("abc")).unwrap();
    assert_eq!(store.find("abc", &defaults()).unwrap().image.id(), &id);
    let with_digest = format!("app@{digest}").parse().unwrap();
    let error = store.tag(&found.image, &with_digest).unwrap_err();
    assert_eq!(error.to_string(), "refusing to create a tag with a digest reference");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moves_leaves_an_image_without_one() {
    let (_folder, store) = store();
    pull(&store, &image("old"), "app").await.unwrap();
    let old = store.find("app", &defaults()).unwrap().image;
    pull(&store, &image("new"), "app").await.unwrap();
    let new = store.find("app", &defaults()).unwrap().image;
    assert_ne!(old.id(), new.id());
    let old = store.image(old.id()).unwrap().unwrap();
    assert!(old.is_dangling());
    let pruned = store.prune(&PruneFilter::default()).unwrap();
    assert!(pruned.removed.contains(&Removed::Deleted(old.id().clone())));
    assert!(pruned.bytes > 0);
    assert_eq!(store.images().unwrap().len(), 1);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    // The layer that both had is still there.
    assert_eq!(std::fs::read(new.layers()[0].folder.join("base")).unwrap(), b"base");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_images_are_removed_as_docker_does() {
    let (_folder, store) = store();
    let source = image("one");
    pull(&store, &source, "app:v1").await.unwrap();
    let found = store.find("app:v1", &defaults()).unwrap().image;
    let digest = found.digests()[0].clone();
    let id = found.id().clone();
    let deleted = || {
        let diff_ids = found.config().diff_ids();
        let layers = chain_ids(diff_ids).into_iter().rev();
        std::iter::once(id.clone()).chain(layers).map(Removed::Deleted).collect::<Vec<_>>()
    };

    // A second name: only that goes.
    store.tag(&found, &reference("other/app:v2")).unwrap();
    assert_eq!(remove(&store, "other/app:v2", false).unwrap(), [Removed::Untagged(reference("other/app:v2"))]);
    // By id, with names in two repositories.
    store.tag(&found, &reference("other/app:v2")).unwrap();
    let error = remove(&store, &id.hex()[..12], false).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
            &id.hex()[..12]
        )
    );
    let removed = remove(&store, id.hex(), true).unwrap();
    assert_eq!(removed.len(), 3 + 3);
    assert_eq!(removed[3..], deleted());
    assert_eq!(blobs(&store), 0);

    // The last name: its digest goes with it, and the image.
    pull(&store, &source, "app:v1").await.unwrap();
    let mut expected = vec![Removed::Untagged(reference("app:v1")), Removed::Untagged(digest)];
    expected.extend(deleted());
    assert_eq!(remove(&store, "app:v1", false).unwrap(), expected);
    assert_eq!(blobs(&store), 0);
    assert_eq!(std::fs::read_dir(store.places().root.join("layers")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(store.places().root.join("origins")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_keeps_to_its_filters() {
    let (_folder, store) = store();
    pull(&store, &image("a"), "app:a").await.unwrap();
    pull(&store, &image("b"), "app:b").await.unwrap();
    let label = |value: &str| vec![LabelFilter { name: "salt".to_owned(), value: Some(value.to_owned()) }];
    let long_ago = time::OffsetDateTime::UNIX_EPOCH;
    for (filter, left) in [
        (PruneFilter::default(), 2),
        (PruneFilter { all: true, until: Some(long_ago), ..PruneFilter::default() }, 2),
        (PruneFilter { all: true, labels: label("c"), ..PruneFilter::default() }, 2),
        (PruneFilter { all: true, labels: label("a"), ..PruneFilter::default() }, 1),
        (PruneFilter { all: true, without_labels: label("b"), ..PruneFilter::default() }, 1),
        (PruneFilter { all: true, ..PruneFilter::default() }, 0),
    ] {
        store.prune(&filter).unwrap();
        assert_eq!(store.images().unwrap().len(), left, "{filter:?}");
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
    }
    assert_eq!(blobs(&store), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_counts_on_is_not_removed() {
    let (_folder, store) = store();
    pull(&store, &image("a"), "app").await.unwrap();
    let found = store.find("app", &defaults()).unwrap().image;
    let sender = store.send(&found).unwrap();
    let before = blobs(&store);
    remove(&store, "app", false).unwrap();
    assert_eq!(blobs(&store), before);
    drop(sender);
    store.prune(&PruneFilter::default()).unwrap();
    assert_eq!(blobs(&store), 0);

    // A pull that found a layer here gets its image, whatever is removed meanwhile.
    pull(&store, &image("a"), "app").await.unwrap();
    let mut layers = vec![tar(&[("base", b"base")])];
    layers.push(tar(&[("slow", &noise(5, 400_000))]));
    let mut slow = Memory::image(&layers);
    slow.faults.pause = Some(std::time::Duration::from_millis(15));
    let removing = async {
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        remove(&store, "app", false).unwrap();
        store.prune_partial().unwrap();
    };
    let (pulled, ()) = tokio::join!(pull(&store, &slow, "slow"), removing);
    pulled.unwrap();
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    let base = slow.manifest().layers()[0].digest.clone();
    assert!(slow.asked().iter().all(|(digest, _)| *digest != base));
    let image = store.find("slow", &defaults()).unwrap().image;
    assert_eq!(std::fs::read(image.layers()[0].folder.join("base")).unwrap(), b"base");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_record_is_told_of_and_harms_nobody_else() {
    let (_folder, store) = store();
    pull(&store, &image("a"), "app:a").await.unwrap();
    pull(&store, &image("b"), "app:b").await.unwrap();
    let broken = store.find("app:a", &defaults()).unwrap().image;
    let path = store.places().root.join("images").join(format!("{}.json", broken.id().hex()));
    let good = std::fs::read(&path).unwrap();
    for wrong in [&b""[..], b"{", &good[..good.len() / 2], br#"{"id":1}"#] {
        std::fs::write(&path, wrong).unwrap();
        assert_eq!(store.images().unwrap().len(), 1);
        store.find("app:b", &defaults()).unwrap();
        let error = store.find(broken.id().hex(), &defaults()).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        let told: Vec<String> = store.broken().unwrap().iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|error| error.contains(path.to_str().unwrap())), "{told:?}");
        // What the record named is not taken for unused.
        store.prune(&PruneFilter::default()).unwrap();
        assert!(broken.layers()[1].folder.exists());
    }
    std::fs::write(&path, good).unwrap();
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    assert_eq!(store.images().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_mounted_read_only() {
    let (_folder, store) = store();
    pull(&store, &image("a"), "app").await.unwrap();
    let found = store.find("app", &defaults()).unwrap().image;
    let folder = match store.mount(&found) {
        Ok(folder) => folder,
        // Refused clearly, where the kernel does not allow it.
        Err(error @ Error::Mount { .. }) => return assert!(error.to_string().contains("cannot mount the image")),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(std::fs::read(folder.join("base")).unwrap(), b"base");
    assert_eq!(std::fs::read(folder.join("salt")).unwrap(), b"a");
    assert!(std::fs::write(folder.join("base"), b"x").is_err());
    store.unmount(&found).unwrap();
    assert!(!folder.exists());
    store.unmount(&found).unwrap();

    // The same layer twice.
    let (once, between) = (tar(&[("file", b"a"), ("other", b"a")]), tar(&[("file", b"b"), ("new", b"b")]));
    pull(&store, &Memory::image(&[once.clone(), between, once]), "twice").await.unwrap();
    let twice = store.find("twice", &defaults()).unwrap().image;
    assert_eq!((twice.layers().len(), twice.layer_folders().len()), (3, 2));
    let folder = store.mount(&twice).unwrap();
    assert_eq!(std::fs::read(folder.join("file")).unwrap(), b"a");
    assert_eq!(std::fs::read(folder.join("new")).unwrap(), b"b");
    store.unmount(&twice).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_in_the_place_of_a_digest_removes_the_image() {
    let (_folder, store) = store();
    pull(&store, &image("one"), "app").await.unwrap();
    let id = store.find("app", &defaults()).unwrap().image.id().clone();
    let removed = remove(&store, &format!("app@{id}"), false).unwrap();
    assert!(removed.contains(&Removed::Untagged(reference("app"))), "{removed:?}");
    assert!(removed.contains(&Removed::Deleted(id)));
    assert!(store.images().unwrap().is_empty());
    assert_eq!(blobs(&store), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_several_pruned_images_had_are_told_of_once() {
    let (_folder, store) = store();
    for number in 0..3 {
        pull(&store, &image(&number.to_string()), &format!("app:{number}")).await.unwrap();
    }
    store.find("app:0", &defaults()).unwrap();
    let pruned = store.prune(&PruneFilter { all: true, ..PruneFilter::default() }).unwrap();
    let deleted = pruned.removed.iter().filter(|removed| matches!(removed, Removed::Deleted(_))).count();
    // Three images, a layer of each and the one that they share.
    assert_eq!(deleted, 7, "{:?}", pruned.removed);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    assert_eq!(blobs(&store), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_unfinished_pushes_left_is_pruned() {
    use cove_transfer::{Origin, UploadJournal};
    let (_folder, store) = store();
    let to = Origin { registry: "localhost:5000".parse().unwrap(), repository: "app".parse().unwrap() };
    let blob = sha256(b"");
    store.remember(&to, &blob, "https://localhost:5000/v2/app/blobs/uploads/1");
    assert!(UploadJournal::find(&store, &to, &blob).is_some());
    let torn = store.places().root.join("origins/.new-torn");
    let fresh = store.places().root.join("origins/.new-fresh");
    for path in [&torn, &fresh] {
        std::fs::write(path, b"").unwrap();
    }
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    std::fs::File::open(&torn).unwrap().set_modified(long_ago).unwrap();
    store.prune_partial().unwrap();
    assert!(UploadJournal::find(&store, &to, &blob).is_none());
    assert!(!torn.exists() && fresh.exists());
}

const COUNTED: &str = "COVE_TEST_COUNTED_PRUNE";

/// Not a test of its own: the process whose system calls are counted.
#[test]
fn prunes_what_it_is_told_to() {
    let Some(folder) = std::env::var_os(COUNTED) else { return };
    let store = Store::open(cove_engine::Places::under(folder.as_ref())).unwrap();
    store.prune(&PruneFilter { all: true, ..PruneFilter::default() }).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_of_a_prune_grows_with_the_images_and_not_faster() {
    let mut counts = Vec::new();
    for images in [0, 12, 24] {
        let (folder, store) = store();
        for number in 0..images {
            pull(&store, &image(&number.to_string()), &format!("app:{number}")).await.unwrap();
        }
        let log = folder.path().join("log");
        let traced = std::process::Command::new("strace")
            .args(["-f", "-qq", "-e", "trace=openat", "-o"])
            .arg(&log)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "prunes_what_it_is_told_to"])
            .env(COUNTED, folder.path())
            .output();
        if !traced.is_ok_and(|traced| traced.status.success()) {
            return;
        }
        assert!(store.images().unwrap().is_empty());
        counts.push(std::fs::read_to_string(log).unwrap().lines().count());
    }
    let (once, twice) = (counts[1] - counts[0], counts[2] - counts[0]);
    assert!(twice <= once * 23 / 10, "{counts:?}");
}
