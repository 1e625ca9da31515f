//! `commit`: a container becomes an image.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Memory, Nowhere, pull, reference, sha256, store, tar};
use cove_engine::{CommitRequest, Image, Places, PruneFilter, RemoveOptions, Store, apply_changes};
use cove_oci::{Codec, Reference, ReferenceDefaults};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use time::OffsetDateTime;

fn defaults() -> ReferenceDefaults {
    ReferenceDefaults::default()
}

fn source() -> Memory {
    Memory::image(&[
        tar(&[("etc/", b""), ("etc/name", b"base"), ("etc/gone", b"x"), ("srv/", b"")]),
        tar(&[("srv/", b""), ("srv/page", b"hello")]),
    ])
}

/// What a container that wrote something has left.
fn upper(store: &Store, image: &Image, place: &Path) -> PathBuf {
    let upper = place.join("upper");
    store.make_upper(image, &upper).unwrap();
    upper
}

fn worked(upper: &Path) {
    std::fs::create_dir(upper.join("etc")).unwrap();
    std::fs::write(upper.join("etc/name"), "changed").unwrap();
    mknodat(CWD, upper.join("etc/gone"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    std::fs::write(upper.join("new"), "new").unwrap();
}

fn request<'a>(
    image: &'a Image,
    upper: &'a Path,
    command: &'a [String],
    name: Option<&'a Reference>,
) -> CommitRequest<'a> {
    CommitRequest {
        parent: image,
        upper,
        between: &[],
        made: Vec::new(),
        config: image.config().document().config.clone(),
        command,
        author: "me".to_owned(),
        message: "a message".to_owned(),
        created: Some(OffsetDateTime::UNIX_EPOCH),
        reference: name,
    }
}

fn command() -> Vec<String> {
    ["sh", "-c", "echo"].map(str::to_owned).to_vec()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_becomes_an_image_that_is_found_by_its_name() {
    if !is_root() {
        return;
    }
    let (_folder, store) = store();
    pull(&store, &source(), "base").await.unwrap();
    let base = store.find("base", &defaults()).unwrap().image;
    let place = tempfile::tempdir().unwrap();
    let upper = upper(&store, &base, place.path());
    worked(&upper);
    let (name, command) = (reference("made:v1"), command());
    let mut request = request(&base, &upper, &command, Some(&name));
    apply_changes(&mut request.config, &["ENV A=b".to_owned(), r#"ENTRYPOINT ["x"]"#.to_owned()]).unwrap();
    let image = store.commit(request.clone()).unwrap();
    assert_eq!(store.find("made:v1", &defaults()).unwrap().image.id(), image.id());
    assert_eq!(store.commit(request).unwrap().id(), image.id(), "the same container is the same image");

    let document = image.config().document();
    assert_eq!((document.author.as_deref(), document.created.as_deref()), (Some("me"), Some("1970-01-01T00:00:00Z")));
    assert_eq!(document.config.env, ["A=b"]);
    assert_eq!((document.config.entrypoint.as_deref(), &document.config.cmd), (Some(&["x".to_owned()][..]), &None));
    assert_eq!(document.history.len(), base.config().document().history.len() + 1);
    let last = document.history.last().unwrap();
    assert_eq!(
        (last.created_by.as_str(), last.comment.as_str(), last.author.as_str()),
        ("sh -c echo", "a message", "me")
    );
    assert!(!last.empty_layer);

    assert_eq!(image.layers().len(), 3);
    assert_eq!(image.layers()[..2], *base.layers(), "the layers below are shared");
    let layer = &image.layers()[2];
    assert_eq!(std::fs::read(layer.folder.join("etc/name")).unwrap(), b"changed");
    let gone = layer.folder.join("etc/gone").symlink_metadata().unwrap();
    assert_eq!((gone.mode() & 0o170_000, gone.rdev()), (0o020_000, 0));
    let blob = std::fs::read(store.places().root.join("blobs/sha256").join(layer.blob.digest.hex())).unwrap();
    assert_eq!((sha256(&blob), &layer.diff_id), (layer.blob.digest.clone(), &layer.blob.digest));
    assert_eq!(layer.blob.layer_codec(), Some(Codec::Identity));
    assert_eq!(store.check().unwrap(), Vec::<String>::new());

    // What it was made of may go: what they share stays.
    store.remove("base", &defaults(), RemoveOptions::default()).unwrap();
    store.prune(&PruneFilter::default()).unwrap();
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    assert_eq!(std::fs::read(image.layers()[0].folder.join("etc/name")).unwrap(), b"base");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_image_is_saved_with_the_layers_that_it_shares() {
    if !is_root() {
        return;
    }
    let (_folder, one) = store();
    pull(&one, &source(), "base").await.unwrap();
    let base = one.find("base", &defaults()).unwrap().image;
    let place = tempfile::tempdir().unwrap();
    let upper = upper(&one, &base, place.path());
    worked(&upper);
    let (name, command) = (reference("made"), command());
    let image = one.commit(request(&base, &upper, &command, Some(&name))).unwrap();
    let mut archive = Vec::new();
    one.save(&[cove_engine::Saved { image: image.clone(), names: vec![name], is_whole: true }], &mut archive).unwrap();
    let (_folder, other) = store();
    other.load(&archive[..], None, &cove_transfer::Silent).unwrap();
    let found = other.find("made", &defaults()).unwrap().image;
    assert_eq!(found.id(), image.id());
    assert_eq!(std::fs::read(found.layers()[2].folder.join("new")).unwrap(), b"new");
    // On top of a committed one.
    let second = place.path().join("second");
    other.make_upper(&found, &second).unwrap();
    std::fs::write(second.join("more"), "more").unwrap();
    let next = other.commit(request(&found, &second, &command, None)).unwrap();
    assert_eq!(next.layers().len(), 4);
    assert!(next.tags().is_empty());
    assert_eq!(other.check().unwrap(), Vec::<String>::new());
}

/// A push sends the layers below as they came and compresses the new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_committed_image_is_sealed_with_the_blobs_of_what_it_was_made_of() {
    if !is_root() {
        return;
    }
    let (_folder, store) = store();
    pull(&store, &source(), "base").await.unwrap();
    let base = store.find("base", &defaults()).unwrap().image;
    let place = tempfile::tempdir().unwrap();
    let upper = upper(&store, &base, place.path());
    worked(&upper);
    let command = command();
    let image = store.commit(request(&base, &upper, &command, None)).unwrap();
    assert!(base.is_sealed() && !image.is_sealed());
    store.seal(std::slice::from_ref(&image), None, &Nowhere, &cove_transfer::Silent).await.unwrap();
    let sealed = store.image(image.id()).unwrap().unwrap();
    assert!(sealed.is_sealed());
    let blobs = |image: &Image| image.layers().iter().map(|layer| layer.blob.clone()).collect::<Vec<_>>();
    assert_eq!(blobs(&sealed)[..2], blobs(&base)[..]);
    assert_eq!(blobs(&sealed)[2].layer_codec(), Some(Codec::Gzip));
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

/// As docker 20.10 has it: no layer, and an entry of the history that says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_has_changed_nothing_gets_no_layer() {
    if !is_root() {
        return;
    }
    let (_folder, store) = store();
    pull(&store, &source(), "base").await.unwrap();
    let base = store.find("base", &defaults()).unwrap().image;
    let place = tempfile::tempdir().unwrap();
    let upper = upper(&store, &base, place.path());
    // Copied up and not changed; a mount point of the runtime's.
    std::fs::create_dir_all(upper.join("data/volume")).unwrap();
    let command = command();
    let mut request = request(&base, &upper, &command, None);
    request.made = vec!["/data/volume".into()];
    let image = store.commit(request).unwrap();
    assert_eq!(image.layers(), base.layers());
    assert!(image.config().document().history.last().unwrap().empty_layer);
    assert_ne!(image.id(), base.id());
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roots_mode_is_kept_and_only_if_it_has_changed() {
    if !is_root() {
        return;
    }
    let (_folder, store) = store();
    let mut bottom = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o711);
    header.set_size(0);
    bottom.append_data(&mut header, "./", &b""[..]).unwrap();
    pull(&store, &Memory::image(&[bottom.into_inner().unwrap(), tar(&[("a", b"a")])]), "base").await.unwrap();
    let base = store.find("base", &defaults()).unwrap().image;
    let place = tempfile::tempdir().unwrap();
    let upper = upper(&store, &base, place.path());
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o7777;
    assert_eq!(mode(&upper), 0o711);
    let command = command();
    std::fs::write(upper.join("b"), "b").unwrap();
    let same = store.commit(request(&base, &upper, &command, None)).unwrap();
    std::fs::set_permissions(&upper, std::fs::Permissions::from_mode(0o700)).unwrap();
    let changed = store.commit(request(&base, &upper, &command, None)).unwrap();
    for (image, expected) in [(&same, 0o711), (&changed, 0o700)] {
        let next = place.path().join("next");
        store.make_upper(image, &next).unwrap();
        assert_eq!(mode(&next), expected);
        std::fs::remove_dir(next).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_gone_cannot_be_committed_upon() {
    if !is_root() {
        return;
    }
    let (_folder, store) = store();
    pull(&store, &source(), "base").await.unwrap();
    let base = store.find("base", &defaults()).unwrap().image;
    let place = tempfile::tempdir().unwrap();
    let upper = upper(&store, &base, place.path());
    store.remove("base", &defaults(), RemoveOptions::default()).unwrap();
    store.prune(&PruneFilter::default()).unwrap();
    let command = command();
    let error = store.commit(request(&base, &upper, &command, None)).unwrap_err();
    assert_eq!(error.to_string(), format!("No such image: {}", base.id()));
    assert!(store.images().unwrap().is_empty());
}

/// Removing and pruning while commits run takes nothing that they count on.
#[tokio::test(flavor = "multi_thread")]
async fn pruning_meanwhile_harms_nobody() {
    if !is_root() {
        return;
    }
    let (_folder, store) = store();
    let (mut made, mut missed) = (0, 0);
    for round in 0..30 {
        pull(&store, &source(), "base").await.unwrap();
        let base = store.find("base", &defaults()).unwrap().image;
        let place = tempfile::tempdir().unwrap();
        let upper = upper(&store, &base, place.path());
        worked(&upper);
        std::fs::write(upper.join("round"), vec![round; 100_000]).unwrap();
        let other = store.clone();
        let pruning = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(u64::from(round) * 2));
            other.remove("base", &defaults(), RemoveOptions::default()).unwrap();
            other.prune(&PruneFilter::default()).unwrap();
        });
        let (name, command) = (reference("made"), command());
        let committed = store.commit(request(&base, &upper, &command, Some(&name)));
        pruning.join().unwrap();
        match committed {
            Ok(image) => {
                made += 1;
                assert_eq!(std::fs::read(image.layers()[1].folder.join("srv/page")).unwrap(), b"hello");
                store.remove("made", &defaults(), RemoveOptions::default()).unwrap();
            }
            // It was gone before the commit began.
            Err(cove_engine::Error::NoSuchImage(_)) => missed += 1,
            Err(error) => panic!("round {round}: {error}"),
        }
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
    }
    assert!(made > 5, "{made} made, {missed} missed");
}

const KILLED: &str = "COVE_TEST_KILLED_COMMIT";

/// Not a test of its own: the process that is killed.
#[tokio::test(flavor = "multi_thread")]
async fn killed() {
    let Some(folder) = std::env::var_os(KILLED) else { return };
    let folder = Path::new(&folder);
    let store = Store::open(Places::under(folder)).unwrap();
    let base = store.find("base", &defaults()).unwrap().image;
    let (name, command, upper) = (reference("made"), command(), folder.join("upper"));
    store.commit(request(&base, &upper, &command, Some(&name))).unwrap();
}

/// Killed at every call of each kind that makes something last or visible.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_commit_leaves_the_whole_image_or_none() {
    if !is_root() {
        return;
    }
    let (mut whole, mut none) = (0, 0);
    for call in ["rename", "renameat2", "linkat", "syncfs", "fsync", "unlink"] {
        for nth in 1.. {
            let (folder, store) = store();
            pull(&store, &source(), "base").await.unwrap();
            let base = store.find("base", &defaults()).unwrap().image;
            let upper = upper(&store, &base, folder.path());
            worked(&upper);
            let traced = Command::new("strace")
                .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")])
                .args(["-e", &format!("inject={call}:signal=KILL:when={nth}")])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", "killed"])
                .env(KILLED, folder.path())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            // Where processes may not be watched, the records' own tests have to do.
            let Ok(status) = traced else { return };
            let store = Store::open(store.places().clone()).unwrap();
            match store.find("made", &defaults()) {
                Ok(found) => {
                    whole += 1;
                    assert_eq!(std::fs::read(found.image.layers()[2].folder.join("new")).unwrap(), b"new");
                }
                Err(_) => {
                    none += 1;
                    assert_eq!(store.images().unwrap().len(), 1, "killed at {call} {nth}");
                }
            }
            store.prune_partial().unwrap();
            assert_eq!(store.check().unwrap(), Vec::<String>::new(), "killed at {call} {nth}");
            // Nothing of it is in the way of the next try, and all of it goes in the end.
            let (name, command) = (reference("made"), command());
            store.commit(request(&base, &upper, &command, Some(&name))).unwrap();
            for name in ["made", "base"] {
                store.remove(name, &defaults(), RemoveOptions::default()).unwrap();
            }
            store.prune(&PruneFilter::default()).unwrap();
            store.prune_partial().unwrap();
            for part in ["layers", "blobs/sha256", "images", "references", "staging", "partial", "trash", "leases"] {
                let left: Vec<_> = std::fs::read_dir(store.places().root.join(part)).unwrap().collect();
                assert!(left.is_empty(), "killed at {call} {nth}, {part}: {left:?}");
            }
            if status.success() {
                break;
            }
        }
    }
    assert!(whole > 6 && none > 6, "{whole} whole, {none} none");
}
