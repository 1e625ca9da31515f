//! Which OCI runtimes the tests run: ours, and Debian's runc, which proves the tests.

use std::path::{Path, PathBuf};

use crate::{Cmd, build_folder};

/// The runtime under test: `COVE_TEST_RUNTIME` if that is set, or else what `runtime/build` has built.
pub fn runtime_program() -> PathBuf {
    if let Some(path) = std::env::var_os("COVE_TEST_RUNTIME") {
        return path.into();
    }
    let folder = build_folder().parent().expect("target/debug has a parent").join("runtime");
    let built = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut built = built.map(|triple| triple.path().join("runtime/cove-runtime")).filter(|program| program.exists());
    built.next().unwrap_or_else(|| panic!("no cove-runtime under {}: run `runtime/build`", folder.display()))
}

/// Debian's runc.
pub fn runc_program() -> PathBuf {
    PathBuf::from(Cmd::new("sh").args(["-c", "command -v runc"]).ok())
}

/// What a runtime calls itself: the first line of `--version`.
pub fn runtime_version(program: &Path) -> String {
    Cmd::new(program).arg("--version").ok().lines().next().unwrap_or_default().to_owned()
}
