//! Where containers lie, how they are found, made and removed.
//!
//! A container has three places: its *record* lies under the root folder, or under the run folder if it goes with its end
//! (`--rm`: nothing of it needs to be synced); its *disk*, what it changes of the image, lies under the root folder; its
//! *run folder* holds sockets and locks and goes with the machine's start.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::process::Pid;
use time::OffsetDateTime;

use crate::error::is_absent;
use crate::file::{self, Durability};
use crate::record::Record;
use crate::state::{State, Status};
use crate::{Alive, ContainerId, Error, Health, Operation, boot_id, delete};

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

impl Container {
    /// What it is called for good.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Whether it goes with its end.
    pub fn is_removed_at_end(&self) -> bool {
        self.record == self.run
    }

    fn exists(&self) -> bool {
        self.record.join("record.json").exists()
    }

    /// Folder of its record, its log and what is mounted into it: docker's `/var/lib/docker/containers/ID`.
    pub fn folder(&self) -> &Path {
        &self.record
    }

    /// Folder of its sockets and locks. Goes with the machine's start; [`Container::make_run_folder`] makes it again.
    pub fn run_folder(&self) -> &Path {
        &self.run
    }

    /// What it has changed of its image.
    pub fn changes(&self) -> PathBuf {
        self.disk.join("upper")
    }

    /// For overlayfs's own work.
    pub fn work(&self) -> PathBuf {
        self.disk.join("work")
    }

    /// Where its monitor listens.
    pub fn socket(&self) -> PathBuf {
        self.run.join("socket")
    }

    /// Where its processes' output is kept.
    pub fn log(&self) -> PathBuf {
        self.record.join(format!("{}-json.log", self.id))
    }

    fn alive(&self) -> PathBuf {
        self.run.join("alive")
    }

    fn operation(&self) -> PathBuf {
        self.run.join("operation")
    }

    /// Makes the run folder, if the machine was started anew.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make_run_folder(&self) -> Result<(), Error> {
        make_folder(&self.run)
    }

    /// For a commit that lets it stand still meanwhile: waits for another one.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn lock_commit(&self) -> Result<Operation, Error> {
        self.make_run_folder()?;
        Operation::exclusive(&self.run.join("commit"))
    }

    /// The folder of a further process while that runs.
    pub fn exec_folder(&self, exec: &str) -> PathBuf {
        self.run.join("execs").join(exec)
    }

    /// The further processes that run.
    pub fn execs(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.run.join("execs")).into_iter().flatten().flatten();
        let mut ids: Vec<String> = entries
            .filter(|entry| entry.path().join("pid").exists())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        ids.sort();
        ids
    }

    /// Where the variables stand that links give to it while it runs.
    pub fn links(&self) -> PathBuf {
        self.run.join("links.json")
    }

    /// The variables that links have given to it, `NAME=value` each; none if it has no links or does not run.
    pub fn link_environment(&self) -> Vec<String> {
        let text = std::fs::read(self.links()).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Makes the folder of a further process and describes that there for the runtime.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn describe_exec(&self, exec: &str, process: &crate::spec::Process) -> Result<(), Error> {
        let folder = self.exec_folder(exec);
        make_folder(&folder)?;
        let path = folder.join("process.json");
        let text = serde_json::to_vec(process).map_err(Error::system("write", &path))?;
        std::fs::write(&path, text).map_err(Error::system("write", &path))
    }

    /// What it was made to be.
    ///
    /// # Errors
    /// It is gone, or its record is damaged.
    pub fn record(&self) -> Result<Record, Error> {
        let record = file::read_json(&self.record.join("record.json"))?;
        record.ok_or_else(|| Error::NoSuchContainer(self.id.to_string()))
    }

    /// Changes what it was made to be. The caller holds a lock that keeps others from it.
    ///
    /// # Errors
    /// The disk is full.
    pub fn write_record(&self, record: &Record) -> Result<(), Error> {
        file::write_json(&self.record.join("record.json"), record, self.durability())
    }

    fn durability(&self) -> Durability {
        if self.is_removed_at_end() { Durability::Passing } else { Durability::Lasting }
    }

    /// What was written down last of what it does. Whether that is still so, [`Container::state`] tells.
    ///
    /// # Errors
    /// A file that is damaged.
    pub fn written_state(&self) -> Result<State, Error> {
        if let Some(state) = file::read_json(&self.run.join("state.json"))? {
            return Ok(state);
        }
        Ok(file::read_json(&self.record.join("state.json"))?.unwrap_or_else(State::created))
    }

    /// What it does. If its monitor has died, that it has ended by that; `true` stands for this: it must be put right.
    ///
    /// # Errors
    /// A file that is damaged.
    pub fn state(&self) -> Result<(State, bool), Error> {
        loop {
            let state = self.written_state()?;
            if !matches!(state.status, Status::Running | Status::Paused | Status::Restarting) || self.has_monitor() {
                return Ok((state, false));
            }
            // It may have ended in between: written first, let go then.
            if self.written_state()? != state {
                continue;
            }
            return Ok((lost(state), true));
        }
    }

    /// Writes down what it does: its monitor, or whoever holds its exclusive lock while there is none.
    ///
    /// First into the run folder, which is in memory and what everybody reads until the machine's next start; then beside
    /// the record. A disk that is full keeps only the second from being written: what a container does is known
    /// nevertheless, and lost only with a start of the machine before it is written again.
    ///
    /// # Errors
    /// Neither could be written.
    pub fn write_state(&self, state: &State, durability: Durability) -> Result<(), Error> {
        let passing = self.make_run_folder();
        let passing = passing.and_then(|()| file::write_json(&self.run.join("state.json"), state, Durability::Passing));
        if self.is_removed_at_end() {
            return passing;
        }
        let lasting = file::write_json(&self.record.join("state.json"), state, durability);
        if passing.is_ok() { Ok(()) } else { lasting }
    }

    /// Whether a monitor is there.
    pub fn has_monitor(&self) -> bool {
        Alive::is_held(&self.alive())
    }

    /// Its monitor's process, if one is there and can be seen from here. Not for the monitor itself.
    pub fn monitor(&self) -> Option<Pid> {
        Alive::holder(&self.alive())
    }

    /// For its monitor: taken once and held for life.
    ///
    /// # Errors
    /// A file that cannot be made.
    pub fn take_alive(&self) -> Result<Option<Alive>, Error> {
        Alive::take(&self.alive())
    }

    /// For commands that read its files.
    ///
    /// # Errors
    /// It is gone.
    pub fn lock_shared(&self) -> Result<Operation, Error> {
        self.locked(Operation::shared)
    }

    /// For commands that start it or remove it.
    ///
    /// # Errors
    /// It is gone.
    pub fn lock_exclusive(&self) -> Result<Operation, Error> {
        self.locked(Operation::exclusive)
    }

    fn locked(&self, lock: impl Fn(&Path) -> Result<Operation, Error>) -> Result<Operation, Error> {
        if !self.exists() {
            return Err(Error::NoSuchContainer(self.id.to_string()));
        }
        self.make_run_folder()?;
        let lock = match lock(&self.operation()) {
            Err(_) if !self.exists() => return Err(Error::NoSuchContainer(self.id.to_string())),
            lock => lock?,
        };
        // Who had the lock before us may have removed it.
        if self.exists() {
            return Ok(lock);
        }
        // And the folder with it, which we have made again.
        let _ = delete(&self.run);
        Err(Error::NoSuchContainer(self.id.to_string()))
    }

    fn make(&self, record: &Record) -> Result<(), Error> {
        make_folder(&self.run)?;
        let unfinished = self.unfinished(&self.record);
        let is_separate = self.is_removed_at_end();
        let disk = if is_separate { self.disk.clone() } else { unfinished.clone() };
        make_folder(&disk)?;
        for folder in ["upper", "work"] {
            make_folder(&disk.join(folder))?;
        }
        record.root.apply(&disk.join("upper"))?;
        if is_separate {
            return self.write_record(record);
        }
        file::write_json(&unfinished.join("record.json"), record, Durability::Lasting)?;
        std::fs::rename(&unfinished, &self.record).map_err(Error::system("make", &self.record))?;
        file::sync_folder(self.record.parent().unwrap_or(Path::new("/")))
    }

    /// Takes it out of everybody's sight in one step.
    fn hide(&self) -> Result<(), Error> {
        let hidden = self.unfinished(&self.record);
        let _ = delete(&hidden);
        match std::fs::rename(&self.record, &hidden) {
            Err(error) if !is_absent(&error) => Err(Error::system("remove", &self.record)(error)),
            _ if self.is_removed_at_end() => Ok(()),
            _ => file::sync_folder(self.record.parent().unwrap_or(Path::new("/"))),
        }
    }

    /// Deletes the files of a container that was [forgotten](Containers::forget).
    pub fn erase(&self) -> Result<(), Error> {
        let mut failed = None;
        let mut delete = |folder: &Path| {
            if let Err(error) = delete(folder).1 {
                failed.get_or_insert(Error::system("delete", folder)(error));
            }
        };
        delete(&self.unfinished(&self.record));
        if !self.is_removed_at_end() {
            delete(&self.record);
        }
        delete(&self.disk);
        // Whoever waits for the lock in it may make a file in this moment: not where it is deleted.
        let hidden = self.unfinished(&self.run);
        delete(&hidden);
        let _ = std::fs::rename(&self.run, &hidden);
        delete(&hidden);
        failed.map_or(Ok(()), Err)
    }

    fn unfinished(&self, folder: &Path) -> PathBuf {
        folder.with_file_name(format!("{UNFINISHED}{}", self.id))
    }
}

/// What is true of a container whose monitor has died: the pipes of its processes are gone, so they are as good as dead.
fn lost(state: State) -> State {
    let rebooted = boot_id().is_ok_and(|boot| boot != state.boot);
    let why = if rebooted { "the machine was started anew" } else { "its monitor has died" };
    State {
        health: state.health.map(Health::not_looked_at),
        status: Status::Exited,
        pid: None,
        monitor: None,
        exit_code: if rebooted { 255 } else { 137 },
        error: why.to_owned(),
        finished_at: Some(OffsetDateTime::now_utc()),
        ..state
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
