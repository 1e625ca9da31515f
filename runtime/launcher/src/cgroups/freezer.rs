//! Stops all processes of a container at once, lets them go on, and signals all of them.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::folder::{Folder, Version};
use super::{CgroupError, Cgroups};

/// How long processes may take to freeze: those that wait for a disk do so only afterwards.
const PATIENCE: Duration = Duration::from_secs(2);
/// After how long a freeze of version 1 that does not come to an end is begun again. It can miss processes that are made
/// meanwhile.
const AGAIN: Duration = Duration::from_millis(100);

impl Cgroups {
    /// Stops all processes, and those to come, until [`Cgroups::thaw`].
    ///
    /// # Errors
    /// No freezer; processes that do not stop within two seconds, which are thawed again then.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        let (folder, version) = self.freezer()?.ok_or(CgroupError::NoFreezer)?;
        freeze(&folder, version)
    }

    /// Lets all processes go on.
    ///
    /// # Errors
    /// No freezer, or one that may not be written.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        let (folder, version) = self.freezer()?.ok_or(CgroupError::NoFreezer)?;
        thaw(&folder, version)
    }

    /// Whether the processes are stopped, by us or by a cgroup above. Whoever joins would be too.
    ///
    /// # Errors
    /// A freezer that cannot be read.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        match self.freezer()? {
            None => Ok(false),
            Some((folder, Version::V1)) => {
                Ok(folder.read_if_there("freezer.state")?.is_some_and(|state| !state.starts_with("THAWED")))
            }
            Some((folder, Version::V2)) => {
                let asked = folder.read_if_there("cgroup.freeze")?.is_some_and(|state| state.trim() == "1");
                Ok(asked || folder.read_if_there("cgroup.events")?.is_some_and(|text| is_all_frozen(&text)))
            }
        }
    }

    /// Sends a signal to every process of the container, and gives to how many. None escapes by forking.
    ///
    /// # Errors
    /// A process that may not be signalled, cgroups that cannot be read.
    pub fn kill(&self, signal: i32) -> Result<usize, CgroupError> {
        let mut killed = HashSet::new();
        if let Some(hierarchy) = self.unified().filter(|_| signal == libc::SIGKILL)
            && let Some(folder) = self.open_if_there(hierarchy)?
        {
            let processes = folder.all_processes();
            // Linux 5.14 and later: it also reaches what is frozen.
            if folder.try_write("cgroup.kill", "1").is_ok() {
                killed.extend(processes.unwrap_or_default());
                if self.is_unified() {
                    return Ok(killed.len());
                }
            }
        }
        let Some(hierarchy) = self.of_processes() else { return Ok(0) };
        let Some(folder) = self.open_if_there(hierarchy)? else { return Ok(killed.len()) };
        match self.freezer()? {
            Some((freezer, version)) => {
                let was_frozen = self.is_frozen()?;
                // One that does not freeze can still be signalled.
                let is_frozen = was_frozen || freeze(&freezer, version).is_ok();
                let result = signal_all(&folder, signal, is_frozen, &mut killed);
                // The frozen die when they are thawed. Who paused the container wants it to stay so for other signals.
                if !was_frozen || signal == libc::SIGKILL {
                    thaw(&freezer, version)?;
                }
                result?;
            }
            None => signal_all(&folder, signal, false, &mut killed)?,
        }
        Ok(killed.len())
    }

    /// The cgroup that freezes: the one of version 1 where there is one, since that is where the processes are counted.
    fn freezer(&self) -> Result<Option<(Folder, Version)>, CgroupError> {
        let v1 = self.hierarchies.iter().find(|hierarchy| hierarchy.has("freezer"));
        let Some(hierarchy) = v1.or_else(|| self.unified()) else { return Ok(None) };
        Ok(self.open_if_there(hierarchy)?.map(|folder| (folder, hierarchy.version)))
    }
}

fn is_all_frozen(events: &str) -> bool {
    events.lines().any(|line| line == "frozen 1")
}

fn freeze(folder: &Folder, version: Version) -> Result<(), CgroupError> {
    let begun = Instant::now();
    let mut pause = Duration::from_micros(50);
    loop {
        let round = Instant::now();
        match version {
            Version::V1 => folder.write("freezer.state", "FROZEN")?,
            Version::V2 => folder.write("cgroup.freeze", "1")?,
        }
        while version == Version::V2 || round.elapsed() < AGAIN {
            let is_frozen = match version {
                Version::V1 => folder.read("freezer.state")?.starts_with("FROZEN"),
                Version::V2 => is_all_frozen(&folder.read("cgroup.events")?),
            };
            if is_frozen {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                thaw(folder, version)?;
                return Err(CgroupError::FreezeTimeout { path: folder.path().to_owned(), seconds: PATIENCE.as_secs() });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        }
        thaw(folder, version)?;
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn thaw(folder: &Folder, version: Version) -> Result<(), CgroupError> {
    match version {
        Version::V1 => folder.write("freezer.state", "THAWED"),
        Version::V2 => folder.write("cgroup.freeze", "0"),
    }
}

/// Signals all processes; where they are not frozen, again those that were made meanwhile.
fn signal_all(folder: &Folder, signal: i32, is_frozen: bool, done: &mut HashSet<i32>) -> Result<(), CgroupError> {
    let rounds = if is_frozen { 1 } else { 10 };
    for _ in 0..rounds {
        let new: Vec<i32> =
            folder.all_processes()?.into_iter().filter(|process| is_frozen || !done.contains(process)).collect();
        if new.is_empty() {
            break;
        }
        for process in new {
            match send(process, signal) {
                Err(source) if source.raw_os_error() != Some(libc::ESRCH) => {
                    return Err(CgroupError::Signal { process, source });
                }
                _ => done.insert(process),
            };
        }
    }
    Ok(())
}

/// `kill(2)` with any signal; real-time ones have no name.
#[allow(unsafe_code)]
fn send(process: i32, signal: i32) -> std::io::Result<()> {
    // SAFETY: it only takes numbers. `process` is positive (`Folder::processes`), so it means one process.
    match unsafe { libc::kill(process, signal) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
