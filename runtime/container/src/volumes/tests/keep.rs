//! Making, finding and removing volumes.

use std::os::unix::fs::PermissionsExt;
use std::sync::Barrier;

use super::*;
use crate::config::{MountDetails, MountKind};

fn point(volume: &Volume) -> MountPoint {
    MountPoint { kind: MountKind::Volume, name: volume.name().to_owned(), ..MountPoint::default() }
}

#[test]
fn a_volume_is_what_it_was_made_to_be() {
    let place = Place::new();
    let wanted = Wanted { labels: map([("a", "b"), ("c", "")]), ..named("data") };
    let volume = place.volumes.create(wanted).unwrap();
    assert_eq!(place.volumes.find("data").unwrap(), volume);
    assert_eq!(volume.data(), place.path("lib/volumes/data/_data"));
    assert_eq!(volume.record().labels, map([("a", "b"), ("c", "")]));
    assert!(!volume.record().anonymous);
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(volume.data()), 0o755);
    assert_eq!(mode(place.path("lib/volumes")), 0o700, "other users of the host do not get in");

    // The same name again is the same volume, whatever else is asked for.
    std::fs::write(volume.data().join("kept"), b"").unwrap();
    let options = map([("type", "tmpfs"), ("device", "tmpfs")]);
    assert_eq!(place.volumes.create(Wanted { options, ..named("data") }).unwrap(), volume);
    assert_eq!(names(&volume.data()), ["kept"]);

    let anonymous = place.volumes.create(Wanted::default()).unwrap();
    assert!(anonymous.record().anonymous && ContainerId::try_from(anonymous.name().to_owned()).is_ok());
    let (all, broken) = place.volumes.all().unwrap();
    assert_eq!((all.len(), broken.len()), (2, 0));
    std::fs::write(place.path("lib/volumes/data/volume.json"), b"{").unwrap();
    let (all, broken) = place.volumes.all().unwrap();
    assert_eq!((all.len(), broken.len()), (1, 1), "one that is damaged hides no others");
}

#[test]
fn what_cannot_be_is_refused_in_dockers_words() {
    let place = Place::new();
    let told = |wanted| place.volumes.create(wanted).unwrap_err().to_string();
    let invalid = |name: &str| {
        format!(
            "create {name}: {name:?} includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        )
    };
    for name in ["a b", "_a", "..", "/abs", "aÄ", "a/b", ".unfinished-a", "a\0b"] {
        assert_eq!(told(named(name)), invalid(name));
        assert_eq!(place.volumes.find(name).unwrap_err().to_string(), format!("get {name}: no such volume"));
    }
    let short = "create x: volume name is too short, names should be at least two alphanumeric characters";
    assert_eq!(told(named("x")), short);
    assert!(told(named(&"a".repeat(300))).starts_with("create aaa"));
    let driver = |name: &str, driver: &str| Wanted { driver: driver.to_owned(), ..named(name) };
    assert_eq!(
        told(driver("yy", "nodriver")),
        "create yy: error looking up volume plugin nodriver: plugin \"nodriver\" not found"
    );
    assert!(place.volumes.create(driver("yy", "local")).is_ok());
    for (options, words) in [
        (map([("bogus", "1")]), "invalid option: \"bogus\""),
        (map([("type", "tmpfs")]), "missing required option: \"device\""),
        (map([("o", "size")]), "missing required option: \"device\""),
        (map([("device", "/x")]), "missing required option: \"type\""),
        (map([("size", "1G")]), "quota size requested but no quota support"),
    ] {
        assert_eq!(told(Wanted { options, ..named("zz") }), format!("create zz: {words}"));
        assert!(place.volumes.get("zz").unwrap().is_none());
    }
    let options = map([("device", "/x"), ("type", "")]);
    assert!(place.volumes.create(Wanted { options, ..named("zz") }).is_ok());
}

#[test]
fn a_volume_that_a_container_has_stays() {
    let place = Place::new();
    let volume = place.volume("data");
    std::fs::write(volume.data().join("file"), b"12345").unwrap();
    let one = place.container("one", vec![point(&volume)]);
    let other = place.container("other", vec![point(&volume), point(&volume)]);
    let error = place.volumes.remove(&volume, &place.containers).unwrap_err().to_string();
    let mut ids = [one.id().to_string(), other.id().to_string()];
    ids.sort();
    assert_eq!(error, format!("remove data: volume is in use - [{}]", ids.join(", ")));
    place.containers.remove(&one).unwrap();

    // Nobody knows what a container has whose record is damaged.
    let path = other.folder().join("record.json");
    let written = std::fs::read(&path).unwrap();
    std::fs::write(&path, b"{").unwrap();
    assert!(place.volumes.remove(&volume, &place.containers).unwrap_err().to_string().contains("damaged"));
    std::fs::write(&path, written).unwrap();

    place.containers.remove(&other).unwrap();
    assert_eq!(place.volumes.remove(&volume, &place.containers).unwrap(), 5);
    assert_eq!(names(&place.path("lib/volumes")), [".lock"]);
    let error = place.volumes.remove(&volume, &place.containers).unwrap_err().to_string();
    assert_eq!(error, "get data: no such volume");
}

#[test]
fn volumes_without_a_name_go_with_their_container() {
    let place = Place::new();
    let (data, shared) = (place.volume("data"), place.volumes.create(Wanted::default()).unwrap());
    let own = place.volumes.create(Wanted::default()).unwrap();
    let anonymous = |volume: &Volume| MountPoint {
        details: MountDetails { anonymous: true, ..MountDetails::default() },
        ..point(volume)
    };
    let mounts = vec![point(&data), anonymous(&own), anonymous(&shared)];
    let container = place.container("one", mounts);
    place.container("other", vec![anonymous(&shared)]);
    let record = container.record().unwrap();
    assert!(record.mounts[1].details.anonymous, "the record keeps it");
    assert!(!serde_json::to_string(&record.mounts).unwrap().contains("anonymous"), "`inspect` does not show it");
    place.containers.remove(&container).unwrap();
    place.volumes.remove_anonymous(&record, &place.containers).unwrap();
    let left: Vec<String> = place.volumes.all().unwrap().0.iter().map(|volume| volume.name().to_owned()).collect();
    assert_eq!(left.len(), 2);
    assert!(left.contains(&"data".to_owned()) && left.contains(&shared.name().to_owned()));
}

#[test]
fn what_a_killed_command_left_is_swept() {
    let place = Place::new();
    place.volume("data");
    std::fs::create_dir_all(place.path("lib/volumes/.unfinished-other/_data/deep")).unwrap();
    assert!(place.volumes.all().unwrap().0.iter().all(|volume| volume.name() == "data"));
    place.volume("third");
    assert_eq!(names(&place.path("lib/volumes")), [".lock", "data", "third"]);
}

#[test]
fn a_held_volume_cannot_be_removed() {
    let place = Place::new();
    let (volume, hold) = place.volumes.create_held(named("data")).unwrap();
    std::thread::scope(|scope| {
        let removing = scope.spawn(|| place.volumes.remove(&volume, &place.containers));
        // The remover waits for the record that is about to be written.
        place.container("one", vec![point(&volume)]);
        drop(hold);
        assert!(matches!(removing.join().unwrap(), Err(Error::InUse { .. })));
    });
    assert!(volume.data().is_dir());
}

#[test]
fn what_is_left_of_a_removed_volume_is_never_taken_for_the_next_of_its_name() {
    let place = Place::new();
    let first = place.volumes.hide(&place.volume("data")).unwrap();
    let second = place.volume("data");
    assert!(!first.exists(), "whoever makes a volume sweeps");
    assert_ne!(place.volumes.hide(&second).unwrap(), first);
}

#[test]
fn racing_commands_agree_about_one_volume() {
    let place = Place::new();
    let (makers, removers, rounds) = (3, 3, 40);
    let barrier = Barrier::new(makers + removers);
    std::thread::scope(|scope| {
        for _ in 0..removers {
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..rounds {
                    let removed =
                        place.volumes.find("data").and_then(|volume| place.volumes.remove(&volume, &place.containers));
                    assert!(
                        matches!(removed, Ok(_) | Err(Error::NoSuchVolume(_) | Error::InUse { .. })),
                        "{removed:?}"
                    );
                }
            });
        }
        for maker in 0..makers {
            let (place, barrier) = (&place, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for round in 0..rounds {
                    let (volume, hold) = place.volumes.create_held(named("data")).unwrap();
                    let container = place.container(&format!("c{maker}-{round}"), vec![point(&volume)]);
                    drop(hold);
                    // As long as a record names it, it is there.
                    // Many files, so that it takes a while to delete them: another one is made meanwhile.
                    for file in 0..30 {
                        let folder = volume.data().join(format!("{maker}/{file}"));
                        std::fs::create_dir_all(&folder).unwrap();
                        std::fs::write(folder.join("file"), b"x").unwrap();
                    }
                    place.containers.remove(&container).unwrap();
                }
            });
        }
    });
    if let Some(volume) = place.volumes.get("data").unwrap() {
        place.volumes.remove(&volume, &place.containers).unwrap();
    }
    assert_eq!(names(&place.path("lib/volumes")), [".lock"]);
}

#[test]
fn a_volume_with_options_is_mounted_for_all_and_taken_away_with_the_last() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let options = map([("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,uid=7,ro,noexec")]);
    let volume = place.volumes.create(Wanted { options, ..named("memory") }).unwrap();
    volume.mount().unwrap();
    volume.mount().unwrap();
    let mounted = || {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.lines().filter(|line| line.contains(&*volume.data().to_string_lossy())).map(str::to_owned).collect()
    };
    let lines: Vec<String> = mounted();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("noexec") && lines[0].contains("size=1024k") && lines[0].contains(" ro,"), "{lines:?}");
    let container = place.container("one", vec![point(&volume)]);
    let mounts = container.record().unwrap().mounts;
    place.volumes.release(container.id(), &mounts, &place.containers).unwrap();
    assert_eq!(mounted().len(), 0);
    volume.mount().unwrap();
    place.containers.remove(&container).unwrap();
    place.volumes.remove(&volume, &place.containers).unwrap();
    assert_eq!(mounted().len(), 0);

    let device = place.path("folder");
    std::fs::create_dir(&device).unwrap();
    std::fs::write(device.join("kept"), b"").unwrap();
    let options = map([("type", "none"), ("device", device.to_str().unwrap()), ("o", "bind")]);
    let volume = place.volumes.create(Wanted { options, ..named("bound") }).unwrap();
    volume.mount().unwrap();
    assert_eq!(names(&volume.data()), ["kept"]);
    place.volumes.remove(&volume, &place.containers).unwrap();
    assert_eq!(names(&device), ["kept"], "what was bound is not the volume's to delete");

    let options = map([("type", "none"), ("device", "/nowhere/at/all"), ("o", "bind")]);
    let volume = place.volumes.create(Wanted { options, ..named("absent") }).unwrap();
    let data = volume.data();
    assert_eq!(
        volume.mount().unwrap_err().to_string(),
        format!(
            "failed to mount local volume: mount /nowhere/at/all:{}, flags: 0x1000: no such file or directory",
            data.display()
        )
    );
}
