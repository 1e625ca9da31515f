//! Cgroups that nobody else knows of: a runtime that was killed while it made a container has written nothing down yet.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// The parent of all containers' cgroups, where nobody asks for another one.
pub const PARENT: &str = "/cove";

/// How often it is looked whether killed processes have gone, a millisecond after the other.
const LOOKS: u32 = 1000;

/// How often the kernel has killed in a container's cgroup for want of memory, as long as that is there.
pub fn oom_kills(parent: &str, id: &str) -> u64 {
    let parent = if parent.is_empty() { PARENT } else { parent };
    let inside = Path::new(parent.trim_start_matches('/')).join(id);
    // Version 1, then version 2.
    let files = [("/sys/fs/cgroup/memory", "memory.oom_control"), ("/sys/fs/cgroup", "memory.events")];
    let texts = files.map(|(hierarchy, file)| std::fs::read_to_string(Path::new(hierarchy).join(&inside).join(file)));
    let mut lines = texts.iter().flatten().flat_map(|text| text.lines());
    lines.find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

/// Ends what is left in the cgroups of a container, and removes them.
pub(crate) fn clear(parent: &str, id: &str) {
    let parent = if parent.is_empty() { PARENT } else { parent };
    let inside = Path::new(parent.trim_start_matches('/')).join(id);
    let mounts = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(mounts).into_iter().flatten().flatten().map(|entry| entry.path());
    let found: Vec<PathBuf> = std::iter::once(mounts.to_owned())
        .chain(hierarchies)
        .map(|hierarchy| hierarchy.join(&inside))
        .filter(|cgroup| cgroup.is_dir())
        .collect();
    for cgroup in &found {
        for _ in 0..LOOKS {
            let processes = processes(cgroup);
            if processes.is_empty() {
                break;
            }
            for pid in processes {
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = std::fs::remove_dir(cgroup);
    }
}

fn processes(cgroup: &Path) -> Vec<Pid> {
    let text = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect()
}
