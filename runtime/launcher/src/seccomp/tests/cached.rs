//! The cache: kept programs are used, and only those that can be trusted.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::profiles::{DOCKER, DOCKER_ALL};
use crate::seccomp::{Filter, SeccompError, cached};

/// Removed when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cove-seccomp-{name}-{}", std::process::id()));
        let _none_left = fs::remove_dir_all(&path);
        Self(path)
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _not_made = fs::remove_dir_all(&self.0);
    }
}

fn take(text: &str, folder: &Folder) -> Filter {
    cached(text, &folder.0).unwrap()
}

fn file_number(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap())
}

#[test]
fn the_second_use_does_not_compile() {
    let folder = Folder::new("second");
    let first = take(DOCKER, &folder);
    let [file] = &folder.files()[..] else { panic!("one file") };
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&folder.0).unwrap().permissions().mode() & 0o777, 0o700);
    let number = file_number(file);
    assert_eq!(take(DOCKER, &folder), first);
    assert_eq!(file_number(file), number, "not written again");
    // Another profile is another file, and what was asked for is what comes.
    let all = take(DOCKER_ALL, &folder);
    assert_ne!(all, first);
    assert_eq!(folder.files().len(), 2);
}

/// Whatever is done to the file, the right program comes out, and a right file is there again.
#[test]
fn a_file_that_is_not_right_is_not_used() {
    let folder = Folder::new("damage");
    let right = take(DOCKER, &folder);
    let [file] = &folder.files()[..] else { panic!("one file") };
    let bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    let mut flipped = bytes.clone();
    flipped[middle] ^= 1;
    let longer = [&bytes[..], &[0; 8]].concat();
    let cases = [&bytes[..0], &bytes[..3], &bytes[..middle], &bytes[..bytes.len() - 1], &flipped, &longer];
    for damaged in cases {
        fs::write(file, damaged).unwrap();
        assert_eq!(take(DOCKER, &folder), right);
        assert_eq!(fs::read(file).unwrap(), bytes, "mended");
    }
    // Another profile's program under this name.
    let other = take(DOCKER_ALL, &folder);
    let second = folder.files().into_iter().find(|one| one != file).unwrap();
    fs::copy(&second, file).unwrap();
    assert_ne!(take(DOCKER, &folder), other);
    assert_eq!(fs::read(file).unwrap(), bytes);
    // A link, a folder, a pipe.
    fs::remove_file(file).unwrap();
    std::os::unix::fs::symlink(&second, file).unwrap();
    assert_eq!(take(DOCKER, &folder), right);
    assert!(fs::symlink_metadata(file).unwrap().is_file());
    fs::remove_file(file).unwrap();
    fs::create_dir(file).unwrap();
    assert_eq!(take(DOCKER, &folder), right);
    fs::remove_dir(file).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, file, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert_eq!(take(DOCKER, &folder), right);
    assert!(fs::symlink_metadata(file).unwrap().is_file());
    assert_eq!(folder.files().len(), 2, "no new file is left lying");
}

/// A sound file that somebody else could have written: its program is passed over, and a file of our own replaces it.
#[test]
fn a_file_of_others_is_not_used() {
    let folder = Folder::new("owner");
    let right = take(DOCKER, &folder);
    let [file] = &folder.files()[..] else { panic!("one file") };
    for mode in [0o620, 0o602] {
        let number = file_number(file);
        fs::set_permissions(file, Permissions::from_mode(mode)).unwrap();
        assert_eq!(take(DOCKER, &folder), right);
        assert_ne!(file_number(file), number, "{mode:o}");
    }
    if rustix::process::geteuid().is_root() {
        let number = file_number(file);
        chown(file, Some(1), None).unwrap();
        assert_eq!(take(DOCKER, &folder), right);
        assert_ne!(file_number(file), number);
    }
}

#[test]
fn without_a_place_to_keep_it_the_filter_comes_all_the_same() {
    let nowhere = Path::new("/proc/self/fd/none/such");
    assert!(cached(DOCKER, nowhere).unwrap().instructions() > 1);
    assert!(matches!(cached("{", nowhere), Err(SeccompError::Json(_))));
}
