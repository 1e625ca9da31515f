//! Which OCI runtimes the tests run: ours, and Debian's runc, which proves the tests.

use std::path::{Path, PathBuf};

use crate::{Cmd, build_folder};

/// The runtime under test: `COVE_TEST_RUNTIME` if that is set, or else what `runtime/build` has built.
pub fn runtime_program() -> PathBuf {
    if let Some(path) = std::env::var_os("COVE_TEST_RUNTIME") {
        return path.into();
    }
    let program = build_folder().parent().expect("target/debug has a parent").join("runtime/cove-runtime");
    assert!(program.exists(), "{} is not there: run `runtime/build`", program.display());
    program
}

/// Ours once more, built to fail where it is told to (`COVE_LAUNCHER_FAIL_AT`); none if another one is under test.
pub fn failing_runtime_program() -> Option<PathBuf> {
    let ours = std::env::var_os("COVE_TEST_RUNTIME").is_none();
    ours.then(|| runtime_program().with_file_name("cove-runtime-that-fails"))
}

/// Debian's runc.
pub fn runc_program() -> PathBuf {
    PathBuf::from(Cmd::new("sh").args(["-c", "command -v runc"]).ok())
}

/// What a runtime calls itself: the first line of `--version`.
pub fn runtime_version(program: &Path) -> String {
    Cmd::new(program).arg("--version").ok().lines().next().unwrap_or_default().to_owned()
}
