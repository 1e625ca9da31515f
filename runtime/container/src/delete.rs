//! Deleting trees of files that an image made: as deep as they like, with two open folders at most.
//!
//! What cannot be deleted is passed over, so that one such file does not keep everything else.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, openat, openat2, statat, unlinkat};
use rustix::io::Errno;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Deletes a file or a folder with everything in it. How many bytes that gave back, and what went wrong first.
pub fn delete(path: &Path) -> (u64, io::Result<()>) {
    let mut deletion = Deletion { bytes: 0, failed: None };
    loop {
        match deletion.run(path) {
            // Another process deletes it too, and has taken the folder away that we were in: from the top, then.
            Err(Errno::NOENT) => {}
            Err(error) => break deletion.failed(error),
            Ok(()) => break,
        }
    }
    let result = match deletion.failed {
        Some(error) => Err(io::Error::new(error.kind(), format!("cannot delete `{}`: {error}", path.display()))),
        None => Ok(()),
    };
    (deletion.bytes, result)
}

struct Deletion {
    bytes: u64,
    failed: Option<io::Error>,
}

/// A folder on the way down, and the folders in it that are left.
struct Level {
    name: CString,
    folders: Vec<CString>,
}

impl Deletion {
    fn run(&mut self, path: &Path) -> Result<(), Errno> {
        let mut here = match openat(CWD, path, FOLDER, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOTDIR | Errno::LOOP) => return self.file(CWD, path),
            // Another process deletes it too.
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut levels = vec![Level { name: CString::default(), folders: self.clear(&here)? }];
        while let Some(level) = levels.last_mut() {
            if let Some(name) = level.folders.pop() {
                // What is mounted there is not ours to delete.
                match openat2(&here, &name, FOLDER, Mode::empty(), ResolveFlags::NO_XDEV) {
                    Ok(folder) => {
                        here = folder;
                        let folders = self.clear(&here).unwrap_or_else(|error| {
                            self.tolerate(Err(error));
                            Vec::new()
                        });
                        levels.push(Level { name, folders });
                    }
                    Err(Errno::NOENT) => {}
                    Err(error) => self.failed(error),
                }
            } else if let Some(level) = levels.pop()
                && !levels.is_empty()
            {
                // Nobody moves what lies in the trash: this is the folder that we came from.
                here = openat(&here, "..", FOLDER, Mode::empty())?;
                self.tolerate(unlinkat(&here, &level.name, AtFlags::REMOVEDIR));
            }
        }
        self.tolerate(unlinkat(CWD, path, AtFlags::REMOVEDIR));
        Ok(())
    }

    /// Deletes what is no folder in a folder; the folders are left.
    fn clear(&mut self, folder: &OwnedFd) -> Result<Vec<CString>, Errno> {
        let mut folders = Vec::new();
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                folders.push(name.to_owned());
                continue;
            }
            match self.file(folder, name) {
                // A file system that does not tell kinds in its lists.
                Err(Errno::ISDIR) => folders.push(name.to_owned()),
                deleted => self.tolerate(deleted),
            }
        }
        Ok(folders)
    }

    fn file(&mut self, folder: impl std::os::fd::AsFd, name: impl rustix::path::Arg + Copy) -> Result<(), Errno> {
        let found = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        unlinkat(folder, name, AtFlags::empty())?;
        // Its bytes go with its last name.
        if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile && found.st_nlink < 2 {
            self.bytes += u64::try_from(found.st_size).unwrap_or_default();
        }
        Ok(())
    }

    fn tolerate(&mut self, result: Result<(), Errno>) {
        match result {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => self.failed(error),
        }
    }

    fn failed(&mut self, error: impl Into<io::Error>) {
        let error = error.into();
        self.failed.get_or_insert(error);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rustix::fs::mkdirat;

    use super::*;

    #[test]
    fn trees_deeper_than_there_are_descriptors_are_deleted() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("deep");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("file"), b"12345").unwrap();
        std::fs::hard_link(path.join("file"), path.join("again")).unwrap();
        let mut here = openat(CWD, &path, FOLDER, Mode::empty()).unwrap();
        // More than any usual limit of open files, and a path far longer than the kernel takes.
        for _ in 0..5000 {
            mkdirat(&here, "folder", Mode::from_raw_mode(0o700)).unwrap();
            mkdirat(&here, "beside", Mode::from_raw_mode(0o700)).unwrap();
            here = openat(&here, "folder", FOLDER, Mode::empty()).unwrap();
        }
        drop(here);
        let (bytes, result) = delete(&path);
        result.unwrap();
        assert_eq!(bytes, 5);
        assert!(!path.exists());
        delete(&path).1.unwrap();
    }

    #[test]
    fn two_that_delete_one_tree_both_succeed() {
        let place = tempfile::tempdir().unwrap();
        for _ in 0..20 {
            let path = place.path().join("tree");
            for folder in 0..20 {
                std::fs::create_dir_all(path.join(format!("{folder}/a/b/c"))).unwrap();
                std::fs::write(path.join(format!("{folder}/a/file")), b"").unwrap();
            }
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| delete(&path).1.unwrap());
                }
            });
            assert!(!path.exists());
        }
    }

    #[test]
    fn what_cannot_be_deleted_keeps_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let (tree, outside) = (place.path().join("tree"), place.path().join("outside"));
        std::fs::create_dir_all(tree.join("a/b/c")).unwrap();
        std::fs::create_dir_all(tree.join("x/y")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("kept"), b"").unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("link")).unwrap();
        let mounted = rustix::mount::mount_bind(&outside, tree.join("a/b/c"));
        let (_, result) = delete(&tree);
        assert!(outside.join("kept").is_file(), "neither links nor mounts are followed");
        if mounted.is_ok() {
            // A folder that something is mounted on is busy.
            assert!(result.unwrap_err().to_string().contains("cannot delete"));
            assert!(tree.join("a/b/c").is_dir() && !tree.join("x").exists());
            rustix::mount::unmount(tree.join("a/b/c"), rustix::mount::UnmountFlags::DETACH).unwrap();
        }
        delete(&tree).1.unwrap();
        assert!(!tree.exists());
    }
}
