//! Where containers lie, how they are found, made and removed.
//!
//! A container has three places: its *record* lies under the root folder, or under the run folder if it goes with its end
//! (`--rm`: nothing of it needs to be synced); its *disk*, what it changes of the image, lies under the root folder; its
//! *run folder* holds sockets and locks and goes with the machine's start.

mod container;

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::is_absent;
use crate::file;
use crate::record::Record;
use crate::{Alive, ContainerId, Error, delete};

/// What the folder of a container is called while it is being made or removed.
const UNFINISHED: &str = ".unfinished-";

/// All containers of one user.
#[derive(Debug, Clone)]
pub struct Containers {
    root: PathBuf,
    run: PathBuf,
}

/// One container.
#[derive(Debug, Clone)]
pub struct Container {
    id: ContainerId,
    record: PathBuf,
    disk: PathBuf,
    run: PathBuf,
}

/// Names are given and taken away by one command at a time.
struct Names {
    folder: PathBuf,
    _lock: File,
}

impl Containers {
    /// Those below a root folder (`/var/lib/cove`) and a run folder (`/run/cove`).
    pub fn new(root: &Path, run: &Path) -> Self {
        Self { root: root.to_owned(), run: run.to_owned() }
    }

    fn lasting(&self) -> PathBuf {
        self.root.join("containers")
    }

    fn passing(&self) -> PathBuf {
        self.run.join("containers")
    }

    /// The folder of the run folders of all, made if need be: something appears in it when a container is made, and after a
    /// start of the machine when one is first started.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn run_folders(&self) -> Result<PathBuf, Error> {
        make_folder(&self.run)?;
        make_folder(&self.passing())?;
        Ok(self.passing())
    }

    fn at(&self, id: &ContainerId, removed_at_end: bool) -> Container {
        let (disk, run) = (self.lasting().join(id.as_str()), self.passing().join(id.as_str()));
        let record = if removed_at_end { run.clone() } else { disk.clone() };
        Container { id: id.clone(), record, disk, run }
    }

    /// A folder to lie below all layers of an image: with the mount points that every container has.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn base_layer(&self) -> Result<PathBuf, Error> {
        let base = self.root.join("base");
        let last = base.join("sys");
        if last.is_dir() {
            return Ok(base);
        }
        make_folder(&base)?;
        // Whoever makes it at the same time makes the same; `sys` is the last.
        for name in ["etc", "proc", "dev"] {
            make_open_folder(&base.join(name))?;
        }
        for name in ["etc/hosts", "etc/hostname", "etc/resolv.conf"] {
            let path = base.join(name);
            File::options().create(true).append(true).open(&path).map_err(Error::system("make", &path))?;
        }
        file::sync_folder(&base)?;
        make_open_folder(&last)?;
        Ok(base)
    }

    /// The container with this id, if there is one.
    pub fn get(&self, id: &ContainerId) -> Option<Container> {
        [false, true].map(|removed_at_end| self.at(id, removed_at_end)).into_iter().find(Container::exists)
    }

    /// The container that somebody means by an id, a name or the beginning of an id, in this order.
    ///
    /// # Errors
    /// There is none, or several ids begin so.
    pub fn find(&self, text: &str) -> Result<Container, Error> {
        let named = || self.by_name(text.strip_prefix('/').unwrap_or(text));
        let by_id = ContainerId::try_from(text.to_owned()).ok().and_then(|id| self.get(&id));
        if let Some(found) = by_id.or_else(named) {
            return Ok(found);
        }
        let is_beginning = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut found = Vec::new();
        if is_beginning {
            let ids = self.ids()?;
            found.extend(ids.into_iter().filter(|id| id.as_str().starts_with(text)).filter_map(|id| self.get(&id)));
        }
        match found.len() {
            0 => Err(Error::NoSuchContainer(text.to_owned())),
            1 => Ok(found.remove(0)),
            _ => Err(Error::Ambiguous(text.to_owned())),
        }
    }

    fn by_name(&self, name: &str) -> Option<Container> {
        is_name(name).then(|| holder(&self.root.join("names"), name))?.and_then(|id| self.get(&id))
    }

    /// All of them, in no order.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn all(&self) -> Result<Vec<Container>, Error> {
        Ok(self.ids()?.iter().filter_map(|id| self.get(id)).collect())
    }

    fn ids(&self) -> Result<Vec<ContainerId>, Error> {
        let mut ids = Vec::new();
        for folder in [self.lasting(), self.passing()] {
            for name in names_in(&folder)? {
                ids.extend(ContainerId::try_from(name));
            }
        }
        ids.sort();
        ids.dedup();
        Ok(ids)
    }

    /// Makes a container. With a name that somebody has it fails, without one (empty) it gets one.
    ///
    /// # Errors
    /// The name is taken; the disk is full. Then nothing of it is left.
    pub fn create(&self, mut record: Record) -> Result<Container, Error> {
        let names = self.names()?;
        if record.name.is_empty() {
            record.name = crate::names::free(|name| self.name_is_free(&names, name));
        } else if !is_name(&record.name) {
            return Err(Error::InvalidName(record.name));
        } else if let Some(id) = self.holder_of(&names, &record.name) {
            return Err(Error::NameTaken { name: record.name, id: id.to_string() });
        }
        self.sweep(&names)?;
        let container = self.at(&record.id, record.host_config.auto_remove);
        let made = container.make(&record).and_then(|()| names.give(&record.name, &record.id));
        match made {
            Ok(()) => Ok(container),
            Err(error) => {
                let _ = container.erase();
                Err(error)
            }
        }
    }

    fn names(&self) -> Result<Names, Error> {
        for folder in [&self.root, &self.run, &self.lasting(), &self.passing(), &self.root.join("names")] {
            make_folder(folder)?;
        }
        // In the root folder, for that is what is ordered: two run folders may belong to one.
        let path = self.root.join("names.lock");
        let lock = File::options().write(true).create(true).truncate(false).open(&path);
        let lock = lock.map_err(Error::system("open", &path))?;
        loop {
            match flock(&lock, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(Names { folder: self.root.join("names"), _lock: lock }),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::system("lock", &path)(error)),
            }
        }
    }

    /// Who has a name: of those that are gone it may be taken.
    fn holder_of(&self, names: &Names, name: &str) -> Option<ContainerId> {
        holder(&names.folder, name).filter(|id| self.get(id).is_some())
    }

    fn name_is_free(&self, names: &Names, name: &str) -> bool {
        self.holder_of(names, name).is_none()
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// The name is taken, or none.
    pub fn rename(&self, container: &Container, name: &str) -> Result<(), Error> {
        let name = name.strip_prefix('/').unwrap_or(name);
        if !is_name(name) {
            return Err(Error::InvalidName(name.to_owned()));
        }
        let names = self.names()?;
        let mut record = container.record()?;
        if let Some(id) = self.holder_of(&names, name) {
            return Err(Error::NameTaken { name: name.to_owned(), id: id.to_string() });
        }
        names.give(name, &record.id)?;
        let old = std::mem::replace(&mut record.name, name.to_owned());
        container.write_record(&record)?;
        names.take_away(&old, &record.id)
    }

    /// Removes a container that does not run, with everything that it has written. The caller holds its exclusive lock.
    ///
    /// # Errors
    /// A file that cannot be deleted. The container is gone for every other command nevertheless.
    pub fn remove(&self, container: &Container) -> Result<(), Error> {
        self.forget(container)?;
        container.erase()
    }

    /// The first half of [`remove`](Self::remove): nobody finds it any more, and its name is free. What is left of its files is for
    /// [`Container::erase`]; if that never comes, the next command does it.
    pub fn forget(&self, container: &Container) -> Result<(), Error> {
        let record = container.record();
        if let Ok(record) = &record {
            crate::cgroups::clear(&record.host_config.cgroup_parent, record.id.as_str());
        }
        let names = self.names()?;
        container.hide()?;
        if let Ok(record) = record {
            names.take_away(&record.name, &record.id)?;
        }
        Ok(())
    }

    /// Removes what killed commands have left. Whoever makes or hides a container holds the lock that we hold.
    fn sweep(&self, names: &Names) -> Result<(), Error> {
        for name in names_in(&names.folder)? {
            // Of those that went with a start of the machine, and links that were never put into their place.
            if self.holder_of(names, &name).is_none() {
                let _ = std::fs::remove_file(names.folder.join(name));
            }
        }
        for (folder, is_passing) in [(self.lasting(), false), (self.passing(), true)] {
            for name in names_in(&folder)? {
                let path = folder.join(&name);
                if name.starts_with(UNFINISHED) {
                    // Who has hidden it may be at the same work: then one of both finds nothing.
                    let _ = delete(&path);
                } else if let Ok(id) = ContainerId::try_from(name)
                    && self.get(&id).is_none()
                    && !(is_passing && Alive::is_held(&path.join("alive")))
                {
                    // The disk of one that went with a start of the machine, or what its monitor had here.
                    if let Some(id) = path.file_name().and_then(|name| name.to_str()) {
                        crate::cgroups::clear("", id);
                    }
                    let _ = delete(&path);
                }
            }
        }
        Ok(())
    }
}

impl Names {
    fn give(&self, name: &str, id: &ContainerId) -> Result<(), Error> {
        let (link, unfinished) = (self.folder.join(name), self.folder.join(format!("{UNFINISHED}{id}")));
        let _ = std::fs::remove_file(&unfinished);
        let made = std::os::unix::fs::symlink(id.as_str(), &unfinished);
        made.and_then(|()| std::fs::rename(&unfinished, &link)).map_err(Error::system("make", &link))
    }

    fn take_away(&self, name: &str, id: &ContainerId) -> Result<(), Error> {
        if holder(&self.folder, name).as_ref() == Some(id) {
            let link = self.folder.join(name);
            std::fs::remove_file(&link).map_err(Error::system("remove", &link))?;
        }
        Ok(())
    }
}

/// Who has or had a name: a link says so.
fn holder(folder: &Path, name: &str) -> Option<ContainerId> {
    let id = std::fs::read_link(folder.join(name)).ok()?;
    ContainerId::try_from(id.to_str()?.to_owned()).ok()
}

/// Docker's rule for names.
fn is_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    name.len() > 1 && name.len() < 250 && name.as_bytes()[0].is_ascii_alphanumeric() && name.bytes().all(is_inner)
}

fn names_in(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(Error::system("read", folder)(error)),
    };
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// Makes a folder that everybody can read.
fn make_open_folder(path: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o755).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(Error::system("make", path)(error)),
        _ => Ok(()),
    }
}

/// Makes a folder that is closed to others.
fn make_folder(path: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if is_absent(&error) => {
            DirBuilder::new().mode(0o700).recursive(true).create(path).map_err(Error::system("make", path))
        }
        made => made.map_err(Error::system("make", path)),
    }
}
