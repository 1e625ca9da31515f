//! What profiles may say here, for the command `features` (runtime-spec, features-linux.md, "seccomp").

use oci_spec::runtime::Arch;
use serde::Serialize;

use super::architecture::Architecture;

/// `linux.seccomp` of the features.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    /// Always: nothing has to be built in.
    pub enabled: bool,
    /// SCMP_ACT_…
    pub actions: &'static [&'static str],
    /// SCMP_CMP_…
    pub operators: &'static [&'static str],
    /// SCMP_ARCH_…
    pub archs: Vec<Arch>,
    /// SECCOMP_FILTER_FLAG_…
    pub known_flags: &'static [&'static str],
    /// Those that the running kernel takes; not asked, every kernel that runs this has them.
    pub supported_flags: &'static [&'static str],
}

/// SECCOMP_FILTER_FLAG_…, all since Linux 5.19.
const FLAGS: &[&str] = &[
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// What profiles may say.
pub fn features() -> Features {
    Features {
        enabled: true,
        actions: &[
            "SCMP_ACT_ALLOW",
            "SCMP_ACT_ERRNO",
            "SCMP_ACT_KILL",
            "SCMP_ACT_KILL_PROCESS",
            "SCMP_ACT_KILL_THREAD",
            "SCMP_ACT_LOG",
            "SCMP_ACT_NOTIFY",
            "SCMP_ACT_TRACE",
            "SCMP_ACT_TRAP",
        ],
        operators: &[
            "SCMP_CMP_EQ",
            "SCMP_CMP_GE",
            "SCMP_CMP_GT",
            "SCMP_CMP_LE",
            "SCMP_CMP_LT",
            "SCMP_CMP_MASKED_EQ",
            "SCMP_CMP_NE",
        ],
        archs: std::iter::once(Arch::ScmpArchNative).chain(Architecture::all()).collect(),
        known_flags: FLAGS,
        supported_flags: FLAGS,
    }
}
