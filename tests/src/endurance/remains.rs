//! What an engine has left on the machine when all of its containers are gone: nothing, if all is well.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Cmd, CoveEngine, wait_until};

/// Everything of an engine on this machine that is neither an image nor a folder that is always there.
///
/// Its containers are made with [`Remains::parent`] for `--cgroup-parent`: then their cgroups are told from those of
/// other tests, also where nobody has learned the container's id.
pub struct Remains<'a> {
    engine: &'a CoveEngine,
    parent: String,
    /// Files of the store that hold content, before the first container.
    content: Vec<String>,
}

impl<'a> Remains<'a> {
    /// Remembers what there is now.
    pub fn of(engine: &'a CoveEngine) -> Self {
        let scratch = engine.cove().scratch().path();
        let name = scratch.file_name().expect("a folder has a name").to_string_lossy().into_owned();
        Self { engine, parent: format!("/cove-tests-{name}"), content: engine.cove().content() }
    }

    /// The cgroup that containers are to lie in.
    pub fn parent(&self) -> &str {
        &self.parent
    }

    /// Waits until nothing is left: a monitor has its last acts to do after its container's end.
    ///
    /// # Panics
    /// If something is left for good.
    pub fn assert_none(&self) {
        let mut found = Vec::new();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while std::time::Instant::now() < until {
            found = self.found();
            if found.is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("{} things are left:\n{}", found.len(), found.join("\n"));
    }

    /// What is there now.
    pub fn found(&self) -> Vec<String> {
        let mut found = Vec::new();
        let scratch = self.engine.cove().scratch();
        let root = self.engine.cove().root();
        for folder in ["containers", "names", "volumes"].map(|name| root.join(name)) {
            found.extend(entries(&folder).iter().filter(|path| !is_lock(path)).map(|path| told("file", path)));
        }
        let run = scratch.join("run");
        found.extend(entries(&run.join("containers")).iter().map(|path| told("file", path)));
        for network in entries(&run.join("networks")).iter().filter(|path| path.is_dir()) {
            found.extend(entries(network).iter().filter(|path| !is_lock(path)).map(|path| told("lease", path)));
        }
        for process in self.processes() {
            let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            found.push(format!("process {process} {}", String::from_utf8_lossy(&line).replace('\0', " ")));
        }
        for cgroup in self.cgroups() {
            found.extend(entries(&cgroup).iter().filter(|path| path.is_dir()).map(|path| told("cgroup", path)));
        }
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").expect("the list of mounts");
        let place = scratch.path().display().to_string();
        found.extend(mounts.lines().filter(|line| line.contains(&place)).map(|line| format!("mount {line}")));
        // The bridge itself stays: the tests' network namespace takes it along.
        let links = Cmd::new("ip").args(["-o", "link", "show", "type", "veth"]).ok();
        found.extend(links.lines().map(|line| format!("link {line}")));
        let rules = Cmd::new("nft").args(["list", "ruleset"]).ok();
        found.extend(rules.lines().filter(|line| line.contains("elements =")).map(|line| format!("rule {line}")));
        let content = self.engine.cove().content();
        let more = content
            .iter()
            .filter(|path| !self.content.contains(path) && ![".lock", ".root"].iter().any(|lock| path.ends_with(lock)));
        found.extend(more.map(|path| format!("content {path}")));
        let less = self.content.iter().filter(|path| !content.contains(path));
        found.extend(less.map(|path| format!("content that is gone: {path}")));
        found
    }

    /// The numbers of all processes that belong to this engine: commands, monitors, runtimes and what containers run.
    pub fn processes(&self) -> Vec<i32> {
        let place = self.engine.cove().scratch().path().display().to_string();
        let inside = format!("{}/", self.parent);
        let numbers = entries(Path::new("/proc"));
        let numbers = numbers.iter().filter_map(|path| path.file_name()?.to_str()?.parse::<i32>().ok());
        let own = std::process::id().cast_signed();
        numbers
            .filter(|number| *number != own)
            .filter(|number| {
                let holds = |name: &str, text: &str| {
                    let bytes = fs::read(format!("/proc/{number}/{name}")).unwrap_or_default();
                    memchr::memmem::find(&bytes, text.as_bytes()).is_some()
                };
                holds("environ", &place) || holds("cmdline", &place) || holds("cgroup", &inside)
            })
            .collect()
    }

    /// Takes the cgroups away, in which no process is any more.
    pub fn remove_cgroups(&self) {
        for cgroup in self.cgroups() {
            for inside in entries(&cgroup).iter().filter(|path| path.is_dir()) {
                let _ = fs::remove_dir(inside);
            }
            let _ = fs::remove_dir(cgroup);
        }
    }

    /// The parent's folders, one for each hierarchy that it is in.
    fn cgroups(&self) -> Vec<PathBuf> {
        let root = PathBuf::from("/sys/fs/cgroup");
        let mut hierarchies = entries(&root);
        hierarchies.push(root);
        hierarchies
            .into_iter()
            .map(|path| path.join(self.parent.trim_start_matches('/')))
            .filter(|path| path.is_dir())
            .collect()
    }
}

impl Drop for Remains<'_> {
    fn drop(&mut self) {
        let all = self.engine.words(["ps", "-aq", "--no-trunc"]).run().stdout;
        let names: Vec<&str> = all.lines().collect();
        if !names.is_empty() {
            let _ = self.engine.words(["rm", "-f", "-v"]).args(names).run();
        }
        if std::thread::panicking() {
            for process in self.processes() {
                let _ = Cmd::new("kill").args(["-9", &process.to_string()]).run();
            }
            let gone = || self.processes().is_empty();
            if !gone() {
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
        } else {
            wait_until("its processes are gone", std::time::Duration::from_secs(20), || self.processes().is_empty());
        }
        self.remove_cgroups();
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn told(what: &str, path: &Path) -> String {
    format!("{what} {}", path.display())
}

fn is_lock(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("lock"))
}
