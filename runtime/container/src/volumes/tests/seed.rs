//! Volumes filled with what the image has. Needs root, for overlayfs and owners.

use std::ffi::CString;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, makedev, mknodat, setxattr, utimensat};

use super::*;
use crate::config::{MountDetails, MountKind};

/// When things were changed in the image.
const LONG_AGO: i64 = 978_307_200;

/// An image of two layers: `/data` is in both.
fn image(place: &Place) -> Vec<PathBuf> {
    let (lower, upper) = (place.path("lower"), place.path("upper"));
    let data = upper.join("data");
    std::fs::create_dir_all(lower.join("data/sub")).unwrap();
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(lower.join("data/below"), b"below").unwrap();
    std::fs::write(lower.join("data/gone"), b"").unwrap();
    mknodat(CWD, data.join("gone"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    std::fs::write(data.join("f"), b"hi\n").unwrap();
    std::fs::hard_link(data.join("f"), data.join("hard")).unwrap();
    symlink("f", data.join("link")).unwrap();
    mknodat(CWD, data.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    mknodat(CWD, data.join("dev"), FileType::CharacterDevice, Mode::from_raw_mode(0o644), makedev(1, 3)).unwrap();
    setxattr(data.join("f"), "user.x", b"y", XattrFlags::empty()).unwrap();
    setxattr(&data, "trusted.d", b"y", XattrFlags::empty()).unwrap();
    chown(data.join("f"), Some(7), Some(8)).unwrap();
    std::fs::set_permissions(data.join("f"), std::fs::Permissions::from_mode(0o4755)).unwrap();
    chown(&data, Some(5), Some(6)).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o1751)).unwrap();
    symlink("/data", upper.join("absolute")).unwrap();
    symlink("../../../../../../../../etc", upper.join("escape")).unwrap();
    std::fs::create_dir(lower.join("etc")).unwrap();
    std::fs::write(lower.join("etc/of-the-image"), b"").unwrap();
    std::fs::write(upper.join("file"), b"").unwrap();
    let long_ago = Timespec { tv_sec: LONG_AGO, tv_nsec: 5 };
    let times = Timestamps { last_access: long_ago, last_modification: long_ago };
    for path in [data.join("f"), lower.join("data/sub"), data] {
        utimensat(CWD, &path, &times, rustix::fs::AtFlags::empty()).unwrap();
    }
    vec![lower, upper]
}

fn asked(volume: &Volume, destination: &str) -> MountPoint {
    MountPoint {
        kind: MountKind::Volume,
        name: volume.name().to_owned(),
        destination: destination.to_owned(),
        details: MountDetails { seeded: true, ..MountDetails::default() },
        ..MountPoint::default()
    }
}

fn seed(place: &Place, layers: &[PathBuf], mounts: Vec<MountPoint>) -> Result<(), Error> {
    place.volumes.seed(&Record { layers: layers.to_vec(), ..record("seeded", mounts) })
}

const WHOLE: [&str; 7] = ["below", "dev", "f", "hard", "link", "pipe", "sub"];

#[test]
fn a_volume_gets_what_the_image_has_with_all_that_is_known_of_it() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let layers = image(&place);
    let volume = place.volume("data");
    seed(&place, &layers, vec![asked(&volume, "/data")]).unwrap();
    let data = volume.data();
    assert_eq!(names(&data), WHOLE);
    let found = |name: &str| std::fs::symlink_metadata(data.join(name)).unwrap();
    let root = found("");
    assert_eq!((root.uid(), root.gid(), root.mode() & 0o7777), (5, 6, 0o1751));
    assert_eq!((root.mtime(), root.mtime_nsec()), (LONG_AGO, 5));
    let file = found("f");
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (7, 8, 0o4755));
    assert_eq!((file.mtime(), file.nlink(), file.ino()), (LONG_AGO, 2, found("hard").ino()));
    assert_eq!(std::fs::read(data.join("f")).unwrap(), b"hi\n");
    assert_eq!(std::fs::read(data.join("below")).unwrap(), b"below");
    assert_eq!(std::fs::read_link(data.join("link")).unwrap(), Path::new("f"));
    assert!(found("pipe").file_type().is_fifo());
    assert_eq!((found("dev").file_type().is_char_device(), found("dev").rdev()), (true, makedev(1, 3)));
    assert_eq!(found("sub").mtime(), LONG_AGO);
    let xattr = |path: &Path, name: &str| {
        let mut value = [0; 8];
        let length = rustix::fs::getxattr(path, name, &mut value[..]).unwrap();
        value[..length].to_vec()
    };
    assert_eq!(xattr(&data.join("f"), "user.x"), b"y");
    assert_eq!(xattr(&data, "trusted.d"), b"y");
    assert_eq!(names(&place.path("lib/volumes/data")), ["_data", "content.lock", "volume.json"]);
    assert_eq!(names(&layers[1].join("data")).len(), 6, "the image stays as it is");
}

#[test]
fn only_an_empty_volume_that_wants_it_is_filled() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let layers = image(&place);
    let (used, plain, absent) = (place.volume("used"), place.volume("plain"), place.volume("absent"));
    std::fs::write(used.data().join("mine"), b"").unwrap();
    let no_copy = MountPoint { details: MountDetails::default(), ..asked(&plain, "/data") };
    seed(&place, &layers, vec![asked(&used, "/data"), no_copy, asked(&absent, "/nowhere/deep")]).unwrap();
    assert_eq!(names(&used.data()), ["mine"]);
    assert_eq!(names(&plain.data()).len() + names(&absent.data()).len(), 0);
    // One layer, or none, is an image too.
    let one = place.volume("one");
    seed(&place, &layers[1..], vec![asked(&one, "/data")]).unwrap();
    assert_eq!(names(&one.data()), ["dev", "f", "hard", "link", "pipe"]);
    seed(&place, &[], vec![asked(&absent, "/data")]).unwrap();
    assert_eq!(names(&absent.data()).len(), 0);
    let error = seed(&place, &layers, vec![asked(&absent, "/file")]).unwrap_err().to_string();
    assert_eq!(error, "cannot mount volume over existing file, file exists /file");
}

#[test]
fn links_of_the_image_lead_nowhere_but_into_it() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let layers = image(&place);
    let (absolute, escape) = (place.volume("absolute"), place.volume("escape"));
    seed(&place, &layers, vec![asked(&absolute, "/absolute"), asked(&escape, "/escape")]).unwrap();
    assert_eq!(names(&absolute.data()), WHOLE);
    assert_eq!(names(&escape.data()), ["of-the-image"]);
}

#[test]
fn whoever_has_the_empty_volume_already_sees_what_it_is_filled_with() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let layers = image(&place);
    let volume = place.volume("data");
    // As a bind mount of a running container holds it.
    let held = std::fs::File::open(volume.data()).unwrap();
    seed(&place, &layers, vec![asked(&volume, "/data")]).unwrap();
    let seen: Vec<CString> = rustix::fs::Dir::read_from(&held)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_owned())
        .filter(|name| !name.to_bytes().starts_with(b"."))
        .collect();
    assert_eq!(seen.len(), WHOLE.len());
}

#[test]
fn what_a_kill_has_left_is_put_right_before_the_volume_is_used() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let layers = image(&place);
    let volume = place.volume("data");
    let beside = |name: &str| place.path("lib/volumes/data").join(name);
    // In the middle of the copy.
    std::fs::create_dir_all(beside("seed.new/half")).unwrap();
    volume.prepare().unwrap();
    assert_eq!(names(&volume.data()).len(), 0);
    std::fs::create_dir_all(beside("seed.new/half")).unwrap();
    seed(&place, &layers, vec![asked(&volume, "/data")]).unwrap();
    assert_eq!(names(&volume.data()), WHOLE);
    // In the middle of moving it: what is not there yet follows, and what somebody has made there stays.
    std::fs::create_dir(beside("seed.ready")).unwrap();
    std::fs::write(beside("seed.ready/late"), b"late").unwrap();
    std::fs::write(beside("seed.ready/below"), b"of the image").unwrap();
    std::fs::set_permissions(beside("seed.ready"), std::fs::Permissions::from_mode(0o700)).unwrap();
    volume.prepare().unwrap();
    assert_eq!(std::fs::read(volume.data().join("late")).unwrap(), b"late");
    assert_eq!(std::fs::read(volume.data().join("below")).unwrap(), b"below");
    assert_eq!(std::fs::metadata(volume.data()).unwrap().mode() & 0o777, 0o700);
    assert!(!beside("seed.ready").exists());
}

/// Not a test of its own: what the one below kills.
#[test]
fn fills_a_volume_for_another_test() {
    let Some(folder) = std::env::var_os("COVE_TEST_SEED") else { return };
    let folder = PathBuf::from(folder);
    let volumes = Volumes::new(&folder.join("lib"));
    let volume = volumes.find("data").unwrap();
    let layers = vec![folder.join("lower"), folder.join("upper")];
    volumes.seed(&Record { layers, ..record("seeded", vec![asked(&volume, "/many")]) }).unwrap();
}

#[test]
fn a_volume_is_filled_whole_or_not_at_all_whenever_its_command_is_killed() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let layers = [place.path("lower"), place.path("upper")];
    std::fs::create_dir_all(&layers[1]).unwrap();
    const FOLDERS: usize = 10;
    for folder in 0..FOLDERS {
        let path = layers[0].join(format!("many/{folder}"));
        std::fs::create_dir_all(&path).unwrap();
        for file in 0..20 {
            std::fs::write(path.join(file.to_string()), vec![b'x'; 3000]).unwrap();
        }
    }
    let program = std::env::current_exe().unwrap();
    let mut ends = [0; 3];
    for round in 0..12 {
        let volume = place.volume("data");
        let mut child = Command::new(&program)
            .args(["volumes::tests::seed::fills_a_volume_for_another_test", "--exact", "--test-threads=1"])
            .env("COVE_TEST_SEED", place.folder.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Somewhere in between: earlier and later in turn.
        std::thread::sleep(std::time::Duration::from_millis(2 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let folder = place.path("lib/volumes/data");
        ends[if folder.join("seed.ready").exists() {
            1
        } else if folder.join("seed.new").exists() {
            0
        } else {
            2
        }] += 1;
        volume.prepare().unwrap();
        let count = names(&volume.data()).len();
        assert!(count == 0 || count == FOLDERS, "{count} in round {round}");
        seed(&place, &layers, vec![asked(&volume, "/many")]).unwrap();
        for folder in 0..FOLDERS {
            assert_eq!(names(&volume.data().join(folder.to_string())).len(), 20);
        }
        place.volumes.remove(&volume, &place.containers).unwrap();
    }
    assert!(ends[0] > 0, "some were killed in the middle of the copy: {ends:?}");
}

#[test]
fn two_that_fill_one_volume_fill_it_once() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let layers = image(&place);
    for _ in 0..10 {
        let volume = place.volume("data");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| seed(&place, &layers, vec![asked(&volume, "/data")]).unwrap());
            }
        });
        assert_eq!(names(&volume.data()), WHOLE);
        place.volumes.remove(&volume, &place.containers).unwrap();
    }
}

#[test]
fn trees_deeper_than_there_are_descriptors_are_copied() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let (lower, upper) = (place.path("lower"), place.path("upper"));
    std::fs::create_dir_all(lower.join("deep")).unwrap();
    std::fs::create_dir_all(&upper).unwrap();
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    let mut here = rustix::fs::open(lower.join("deep"), flags, Mode::empty()).unwrap();
    for _ in 0..2000 {
        rustix::fs::mkdirat(&here, "folder", Mode::from_raw_mode(0o755)).unwrap();
        here = rustix::fs::openat(&here, "folder", flags, Mode::empty()).unwrap();
    }
    mknodat(&here, "end", FileType::RegularFile, Mode::from_raw_mode(0o600), 0).unwrap();
    let volume = place.volume("data");
    seed(&place, &[lower.clone(), upper], vec![asked(&volume, "/deep")]).unwrap();
    let mut here = rustix::fs::open(volume.data(), flags, Mode::empty()).unwrap();
    for _ in 0..2000 {
        here = rustix::fs::openat(&here, "folder", flags, Mode::empty()).unwrap();
    }
    assert!(rustix::fs::statat(&here, "end", rustix::fs::AtFlags::empty()).is_ok());
    crate::delete(&lower).1.unwrap();
    place.volumes.remove(&volume, &place.containers).unwrap();
}
