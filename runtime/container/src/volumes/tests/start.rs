//! What a container's runtime is told.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::config::{MountDetails, MountKind, Propagation};
use crate::volumes::start::mount_of;

fn bind(source: &Path) -> MountPoint {
    MountPoint {
        source: source.to_str().unwrap().to_owned(),
        destination: "/x".to_owned(),
        writable: true,
        propagation: Some(Propagation::Rprivate),
        kind: MountKind::Bind,
        ..MountPoint::default()
    }
}

#[test]
fn folders_that_dash_v_names_are_made_and_those_of_mount_are_not() {
    let place = Place::new();
    let missing = place.path("missing/deep");
    let error = place.volumes.binds(&[bind(&missing)]).unwrap_err().to_string();
    let words = format!("bind source path does not exist: {}", missing.display());
    assert_eq!(error, format!("invalid mount config for type \"bind\": {words}"));
    let made = MountDetails { creates_source: true, ..MountDetails::default() };
    let found = place.volumes.binds(&[MountPoint { details: made.clone(), ..bind(&missing) }]).unwrap();
    assert_eq!(std::fs::metadata(&missing).unwrap().permissions().mode() & 0o777, 0o755);
    assert!(found[0].is_recursive && found[0].is_writable);
    assert_eq!((found[0].source.as_path(), found[0].destination.as_path()), (missing.as_path(), Path::new("/x")));

    // A file is mounted as it is; nothing can be made below one.
    let file = place.path("file");
    std::fs::write(&file, b"").unwrap();
    assert!(place.volumes.binds(&[MountPoint { details: made.clone(), ..bind(&file) }]).is_ok());
    let below = MountPoint { details: made, ..bind(&file.join("below")) };
    let error = place.volumes.binds(&[below]).unwrap_err().to_string();
    assert!(error.starts_with(&format!("error while creating mount source path '{}'", file.join("below").display())));
    let alone = MountDetails { non_recursive: true, ..MountDetails::default() };
    assert!(!place.volumes.binds(&[MountPoint { details: alone, ..bind(&file) }]).unwrap()[0].is_recursive);
}

#[test]
fn a_volume_is_shown_without_propagation_and_a_folder_of_it_without_links() {
    let place = Place::new();
    let volume = place.volume("data");
    std::fs::create_dir_all(volume.data().join("a/b")).unwrap();
    std::os::unix::fs::symlink("/etc", volume.data().join("link")).unwrap();
    // A container could turn this one to the host after it was looked at.
    std::os::unix::fs::symlink("a", volume.data().join("inner")).unwrap();
    let asked = |subpath: &str| MountPoint {
        kind: MountKind::Volume,
        name: "data".to_owned(),
        destination: "x/".to_owned(),
        details: MountDetails { subpath: subpath.to_owned(), ..MountDetails::default() },
        ..MountPoint::default()
    };
    let found = place.volumes.binds(&[asked("")]).unwrap();
    assert_eq!((found[0].source.clone(), found[0].propagation, found[0].is_writable), (volume.data(), None, false));
    assert_eq!(found[0].destination, Path::new("/x"));
    assert_eq!(place.volumes.binds(&[asked("a/b")]).unwrap()[0].source, volume.data().join("a/b"));
    for subpath in ["link", "link/passwd", "inner", "inner/b", "absent"] {
        assert!(matches!(place.volumes.binds(&[asked(subpath)]), Err(Error::Subpath { .. })), "{subpath}");
    }
    place.volumes.remove(&volume, &place.containers).unwrap();
    assert_eq!(place.volumes.binds(&[asked("")]).unwrap_err().to_string(), "get data: no such volume");
    let memory = MountPoint { kind: MountKind::Tmpfs, ..asked("") };
    assert_eq!(place.volumes.binds(&[memory]).unwrap(), []);
}

#[test]
fn propagation_that_the_host_does_not_give_is_refused() {
    let table = "\
22 27 0:21 / / rw,relatime - ext4 /dev/vda rw
23 22 0:21 / /shared rw shared:5 - ext4 /dev/vda rw
24 22 0:21 / /slave\\040of rw master:5 - ext4 /dev/vda rw
25 23 0:21 / /shared/over rw - ext4 /dev/vda rw
26 23 0:21 / /shared/over rw shared:7 master:5 - ext4 /dev/vda rw
";
    let found = |path: &str| mount_of(Path::new(path), table).unwrap();
    assert_eq!(found("/shared2"), ("/".to_owned(), false, false));
    assert_eq!(found("/shared/a"), ("/shared".to_owned(), true, false));
    assert_eq!(found("/slave of/a"), ("/slave of".to_owned(), false, true));
    assert_eq!(found("/shared/over"), ("/shared/over".to_owned(), true, true));

    let place = Place::new();
    let path = place.path("folder");
    std::fs::create_dir(&path).unwrap();
    let resolved = std::fs::canonicalize(&path).unwrap();
    let own = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let (at, is_shared, is_slave) = mount_of(&resolved, &own).unwrap();
    for (propagation, words, is_given) in [
        (Propagation::Rprivate, "", true),
        (Propagation::Shared, "shared", is_shared),
        (Propagation::Rslave, "shared or slave", is_shared || is_slave),
    ] {
        let asked = MountPoint { propagation: Some(propagation), ..bind(&path) };
        match place.volumes.binds(&[asked]) {
            Ok(found) => assert!(is_given && found[0].propagation == Some(propagation)),
            Err(error) => {
                assert!(!is_given);
                let words = format!("path {} is mounted on {at} but it is not a {words} mount", resolved.display());
                assert_eq!(error.to_string(), words);
            }
        }
    }
}
