//! Which runtime a container is made with, and asking it.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use cove_container::{Container, Record};

use crate::error::Error;

/// Where `cove-runtime` is: beside `cove`, or where `COVE_RUNTIME` says.
pub fn own_runtime() -> Result<PathBuf, Error> {
    if let Some(given) = std::env::var_os("COVE_RUNTIME").filter(|given| !given.is_empty()) {
        return Ok(given.into());
    }
    let own = std::env::current_exe().map_err(Error::Io)?;
    Ok(own.with_file_name("cove-runtime"))
}

/// What a container's runtime answers to a command and its options. `None`: it does not know the container, which has just
/// ended.
pub fn ask_runtime<S: AsRef<OsStr>>(
    container: &Container,
    record: &Record,
    words: impl IntoIterator<Item = S>,
) -> Result<Option<Vec<u8>>, Error> {
    let host = &record.host_config;
    let runtime = if host.has_own_runtime() { own_runtime()? } else { PathBuf::from(&host.runtime) };
    let mut command = Command::new(&runtime);
    command.arg("--root").arg(container.run_folder().join("runtime")).args(words).arg(container.id().as_str());
    let output = command.stdin(Stdio::null()).output().map_err(|source| Error::NoRuntime { path: runtime, source })?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(Some(output.stdout)),
        // The words are an interface: ours and runc's.
        false if said.contains("does not exist") => Ok(None),
        false => Err(Error::Refused(said.trim().to_owned())),
    }
}
