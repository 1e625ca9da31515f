//! A session that ends with all of its processes does not take containers along.

use std::fs;
use std::path::{Path, PathBuf};

use cove_tests::{Cmd, CoveEngine};

/// A cgroup of a session, in each hierarchy in which systemd keeps its books.
struct Session {
    folders: Vec<PathBuf>,
}

impl Session {
    fn new(name: &str) -> Self {
        let base = Path::new("/sys/fs/cgroup");
        let places = match base.join("cgroup.controllers").exists() {
            true => vec![base.to_owned()],
            false => ["unified", "systemd"].map(|hierarchy| base.join(hierarchy)).to_vec(),
        };
        let folders: Vec<PathBuf> =
            places.iter().filter(|place| place.is_dir()).map(|place| place.join(format!("cove-test-{name}"))).collect();
        assert!(!folders.is_empty(), "a hierarchy to be in");
        for folder in &folders {
            fs::create_dir(folder).unwrap();
        }
        Self { folders }
    }

    /// The same command, called in the session.
    fn within(&self, command: Cmd) -> Cmd {
        let joins: String =
            self.folders.iter().map(|folder| format!("echo 0 > {}/cgroup.procs; ", folder.display())).collect();
        command.wrapped("sh", &["-c", &format!("{joins} exec \"$@\""), "sh"])
    }

    /// Ends everything that is in it, as systemd does. How many there were.
    fn end(&self) -> usize {
        let mut ended = 0;
        for folder in &self.folders {
            for process in fs::read_to_string(folder.join("cgroup.procs")).unwrap().lines() {
                Cmd::new("kill").args(["-9", process]).run();
                ended += 1;
            }
        }
        ended
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end();
        for folder in &self.folders {
            let gone = || fs::remove_dir(folder).is_ok();
            cove_tests::wait_until("the session is over", std::time::Duration::from_secs(10), gone);
        }
    }
}

#[test]
fn a_session_that_ends_takes_no_container_along() {
    let engine = CoveEngine::new();
    let session = Session::new(&std::process::id().to_string());
    let made = session.within(engine.run(["-d", "--name", "one", "-p", "127.0.0.1::80", "box", "sleep", "1000"])).ok();
    assert_eq!(session.end(), 0, "nothing of ours is in the session");
    assert_eq!(engine.words(["exec", "one", "echo", "alive"]).ok(), "alive");
    let monitor = Cmd::new("pgrep").args(["-f", &format!("monitor .* {made}$")]).ok();
    let cgroups = fs::read_to_string(format!("/proc/{monitor}/cgroup")).unwrap();
    let held = cgroups.lines().filter(|line| line.starts_with("0::") || line.contains(":name=systemd:"));
    assert!(held.clone().count() > 0 && held.clone().all(|line| line.ends_with(":/cove/monitors")), "{cgroups}");
    // It still does what it is for.
    engine.words(["stop", "-t", "0", "one"]).ok();
    assert_eq!(engine.words(["logs", "one"]).run().code, Some(0));
    engine.words(["rm", "one"]).ok();
    assert_eq!(engine.leftovers(&[made]), Vec::<String>::new());
}
