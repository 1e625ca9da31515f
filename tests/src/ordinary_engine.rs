//! The engine of an ordinary user: nothing of it needs root, and when the test is over nothing of it is left.

use std::path::PathBuf;
use std::time::Duration;

use crate::{Cmd, Ordinary, busybox_image, debian, wait_until};

/// A user with a store, and an image in it.
pub struct OrdinaryEngine {
    user: Ordinary,
}

impl OrdinaryEngine {
    /// A user with subordinate ids and an image of busybox, called `box`.
    pub fn new() -> Self {
        Self::of(Ordinary::new(true))
    }

    /// The same for this user.
    pub fn of(user: Ordinary) -> Self {
        let engine = Self { user: user.with_containers() };
        let image = busybox_image();
        let archive = engine.user.given(&image.docker_archive("box:latest").0);
        engine.words(["load", "-q", "-i"]).arg(archive).ok();
        engine
    }

    /// A user with subordinate ids and a Debian image, called `debian`.
    pub fn with_debian() -> Self {
        let engine = Self { user: Ordinary::new(true).with_containers() };
        let archive = engine.user.given(&debian());
        engine.words(["import"]).arg(&archive).arg("debian:latest").limit(Duration::from_secs(300)).ok();
        std::fs::remove_file(archive).expect("remove the archive");
        engine
    }

    /// The user.
    pub fn user(&self) -> &Ordinary {
        &self.user
    }

    /// A command line of cove.
    pub fn words<const N: usize>(&self, words: [&str; N]) -> Cmd {
        self.user.cove(words)
    }

    /// The status of a container in `ps -a`: `Up 3 seconds`.
    pub fn status(&self, name: &str) -> String {
        let filter = format!("name=^{name}$");
        self.words(["ps", "-a", "--filter", &filter, "--format", "{{.Status}}"]).ok()
    }

    /// Waits until a container's status begins so.
    pub fn wait_for_status(&self, name: &str, status: &str) {
        let what = format!("{name} is {status}");
        wait_until(&what, Duration::from_secs(30), || self.status(name).starts_with(status));
    }

    /// The user's processes whose command line has this text: their numbers.
    pub fn processes(&self, text: &str) -> Vec<String> {
        let folder = self.user.folder().display().to_string();
        let all = Cmd::new("ps").args(["-u", &Ordinary::ID.to_string(), "-o", "pid=,stat=,args="]).run().stdout;
        let own = all.lines().filter(|line| line.contains(&folder) && line.contains(text));
        let lines = own.map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
        lines.filter(|words| !words[1].starts_with('Z')).map(|words| words[0].to_owned()).collect()
    }

    /// What is left of containers: folders, and processes that belong to none.
    pub fn leftovers(&self) -> Vec<String> {
        let folders = [self.user.session().join("cove/containers"), self.user.store().join("containers")];
        let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
        let mut left: Vec<String> = entries.map(|entry| entry.path().display().to_string()).collect();
        let socket = self.user.session().join("cove/namespaces/socket");
        left.extend(socket.exists().then(|| socket.display().to_string()));
        left.extend(self.processes("").into_iter().map(|pid| format!("process {pid}")));
        left
    }

    /// Waits until nothing is left: the namespaces stay for a moment behind the last command.
    pub fn wait_until_nothing_is_left(&self) {
        let what = format!("nothing is left in {}", self.user.folder().display());
        wait_until(&what, Duration::from_secs(20), || self.leftovers().is_empty());
    }

    /// A file of this text in the user's home.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.user.home().join(name);
        std::fs::write(&path, text).expect("write a file");
        std::os::unix::fs::chown(&path, Some(Ordinary::ID), Some(Ordinary::ID)).expect("give a file away");
        path
    }
}

impl Default for OrdinaryEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for OrdinaryEngine {
    fn drop(&mut self) {
        let all = self.words(["ps", "-aq", "--no-trunc"]).run().stdout;
        let names: Vec<&str> = all.lines().collect();
        if !names.is_empty() {
            let _ = self.words(["rm", "-f", "-v"]).args(names).run();
        }
        for pid in self.processes("") {
            let _ = Cmd::new("kill").args(["-9", &pid]).run();
        }
    }
}
