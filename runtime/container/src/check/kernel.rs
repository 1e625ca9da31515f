//! What the kernel of this machine can do, asked only when an option needs it.

use std::path::PathBuf;

use rustix::fs::CWD;

/// Which cgroups there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupVersion {
    /// A hierarchy for each controller.
    One,
    /// One hierarchy.
    Two,
}

/// The kernel of this machine.
#[derive(Debug, Clone)]
pub struct Kernel {
    sys: PathBuf,
    proc: PathBuf,
}

impl Kernel {
    /// The kernel that runs this.
    pub fn read() -> Self {
        Self { sys: "/sys".into(), proc: "/proc".into() }
    }

    /// One whose `/sys` and `/proc` are elsewhere.
    pub fn at(sys: PathBuf, proc: PathBuf) -> Self {
        Self { sys, proc }
    }

    /// Which cgroups there are.
    pub fn cgroup_version(&self) -> CgroupVersion {
        match self.has_cgroup_file("cgroup.controllers") {
            true => CgroupVersion::Two,
            false => CgroupVersion::One,
        }
    }

    /// Processors that work: `0-3,7`.
    pub fn cpus(&self) -> String {
        self.line("devices/system/cpu/online")
    }

    /// Memory nodes that there are: `0`.
    pub fn memory_nodes(&self) -> String {
        self.line("devices/system/node/online")
    }

    /// Whether swap is counted.
    pub fn counts_swap(&self) -> bool {
        match self.cgroup_version() {
            CgroupVersion::One => self.has_cgroup_file("memory/memory.memsw.limit_in_bytes"),
            CgroupVersion::Two => self.in_own_cgroup("memory.swap.max"),
        }
    }

    /// Whether a share of the disks can be given.
    pub fn weighs_disks(&self) -> bool {
        match self.cgroup_version() {
            CgroupVersion::One => self.has_cgroup_file("blkio/blkio.weight"),
            CgroupVersion::Two => self.in_own_cgroup("io.weight") || self.in_own_cgroup("io.bfq.weight"),
        }
    }

    /// Whether a share of one disk can be given.
    pub fn weighs_one_disk(&self) -> bool {
        match self.cgroup_version() {
            CgroupVersion::One => self.has_cgroup_file("blkio/blkio.weight_device"),
            CgroupVersion::Two => self.weighs_disks(),
        }
    }

    fn line(&self, path: &str) -> String {
        let text = std::fs::read_to_string(self.sys.join(path)).unwrap_or_default();
        let text = text.trim();
        // A kernel without this has one of each.
        if text.is_empty() { "0".to_owned() } else { text.to_owned() }
    }

    fn has_cgroup_file(&self, path: &str) -> bool {
        rustix::fs::accessat(
            CWD,
            self.sys.join("fs/cgroup").join(path),
            rustix::fs::Access::EXISTS,
            rustix::fs::AtFlags::empty(),
        )
        .is_ok()
    }

    /// In version 2 the root has no limits: any other cgroup shows what there is.
    fn in_own_cgroup(&self, file: &str) -> bool {
        let text = std::fs::read_to_string(self.proc.join("self/cgroup")).unwrap_or_default();
        let own = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        own.is_empty() || self.has_cgroup_file(&format!("{own}/{file}"))
    }
}
