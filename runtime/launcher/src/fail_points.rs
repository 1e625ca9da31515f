//! Failures on demand, for the tests of what a failed start leaves behind. Only in a build with the feature `fail-points`.

use crate::error::Failure;

/// Where one can be had, in the order in which they are passed.
pub const FAIL_POINTS: [&str; 11] = [
    "folder",
    "cgroups",
    "rootfs",
    "clone",
    "namespaces",
    "limits",
    "mounts",
    "root",
    "confined",
    "record",
    "pid-file",
];

/// Fails if the environment says so (`COVE_LAUNCHER_FAIL_AT`).
#[cfg(feature = "fail-points")]
pub(crate) fn fail_point(name: &str) -> Result<(), Failure> {
    match std::env::var_os("COVE_LAUNCHER_FAIL_AT") {
        Some(wanted) if wanted == name => Err(Failure::init(format_args!("failing at {name}, as was asked"))),
        _ => Ok(()),
    }
}

/// Nothing, in every other build.
#[cfg(not(feature = "fail-points"))]
#[inline]
pub(crate) fn fail_point(_name: &str) -> Result<(), Failure> {
    Ok(())
}
