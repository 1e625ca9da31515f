//! Where the OCI runtime is that the tests are about.

use std::path::{Path, PathBuf};

use crate::Cmd;

/// The runtime under test: what `COVE_TEST_RUNTIME` names, or else the `cove-runtime` that `runtime/build` has built.
///
/// # Panics
/// If it is not there.
pub fn runtime_program() -> PathBuf {
    if let Some(program) = std::env::var_os("COVE_TEST_RUNTIME") {
        return PathBuf::from(program);
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lies in the workspace");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let versions = Cmd::new("rustc").arg("-vV").ok();
    let triple = versions.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    let program = target.join("runtime").join(triple).join("runtime/cove-runtime");
    assert!(program.exists(), "{} is not there: run `runtime/build`", program.display());
    program
}
