//! One container: its files, its locks and its state.

use std::path::{Path, PathBuf};

use rustix::process::Pid;
use time::OffsetDateTime;

use super::{Container, UNFINISHED, make_folder};
use crate::error::is_absent;
use crate::file::{self, Durability};
use crate::record::Record;
use crate::state::{State, Status};
use crate::{Alive, ContainerId, Error, Health, Operation, boot_id, delete};

impl Container {
    /// What it is called for good.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Whether it goes with its end.
    pub fn is_removed_at_end(&self) -> bool {
        self.record == self.run
    }

    pub(super) fn exists(&self) -> bool {
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

    pub(super) fn make(&self, record: &Record) -> Result<(), Error> {
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
    pub(super) fn hide(&self) -> Result<(), Error> {
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
