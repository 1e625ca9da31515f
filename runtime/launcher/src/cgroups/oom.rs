//! How often the kernel has killed for want of memory.

use super::folder::Version;
use super::{CgroupError, Cgroups};

impl Cgroups {
    /// How many processes of the container were killed because it had no memory left.
    ///
    /// # Errors
    /// A memory cgroup that cannot be read. Without one there is nothing to count.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        let hierarchy = self.hierarchies.iter().find(|hierarchy| hierarchy.has("memory")).or_else(|| self.unified());
        let Some(hierarchy) = hierarchy else { return Ok(0) };
        let Some(folder) = self.open_if_there(hierarchy)? else { return Ok(0) };
        let file = match hierarchy.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let text = folder.read_if_there(file)?.unwrap_or_default();
        Ok(text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0))
    }
}
