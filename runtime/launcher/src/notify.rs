//! Hands the descriptor at which a seccomp filter asks to whoever answers (runtime-spec, config-linux.md, "listenerPath").

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};

use serde_json::value::RawValue;

use crate::Error;
use crate::config::{Config, OCI_VERSION};
use crate::console::send;
use crate::state::{Record, State, Status};

/// runtime-spec, config-linux.md, "containerprocess state".
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'a str,
    fds: [&'a str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<String>,
    state: State<'a>,
}

/// What a profile says about whoever answers.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listener {
    listener_path: Option<String>,
    listener_metadata: Option<String>,
}

/// Sends it to the profile's listener.
pub(crate) fn pass_on(file: &OwnedFd, config: &Config, record: &Record) -> Result<(), Error> {
    pass_on_for(
        file,
        config.seccomp.as_deref().map(RawValue::get),
        record,
        record.init.pid().map_or(0, |pid| pid.as_raw_nonzero().get()),
    )
}

/// The same for a process that joins the container.
pub(crate) fn pass_on_for(file: &OwnedFd, profile: Option<&str>, record: &Record, pid: i32) -> Result<(), Error> {
    let listener: Listener = profile.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let Some(path) = given(listener.listener_path) else {
        return Err(Error::Config("the seccomp profile uses SCMP_ACT_NOTIFY and has no listenerPath".to_owned()));
    };
    let state = ProcessState {
        oci_version: OCI_VERSION,
        fds: ["seccompFd"],
        pid,
        metadata: given(listener.listener_metadata),
        state: record.state(Status::Creating),
    };
    let bytes = serde_json::to_vec(&state).map_err(|error| Error::Config(error.to_string()))?;
    let pass = || send(UnixStream::connect(&path)?, &bytes, &[file.as_fd()]);
    pass().map_err(Error::file("reach the seccomp listener", &path))
}
