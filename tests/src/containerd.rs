//! A containerd of one's own.

use std::path::PathBuf;
use std::time::Duration;

use crate::{Cmd, Process, Scratch};

/// A private containerd, with its own root, state and socket.
pub struct Containerd {
    _process: Process,
    folder: Scratch,
}

impl Containerd {
    /// Starts it.
    pub fn start() -> Self {
        let folder = Scratch::new("containerd");
        // No CRI: it would want a network configuration, and nothing here is a Kubernetes node.
        let configuration = format!(
            r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
[grpc]
  address = "{socket}"
"#,
            root = folder.folder("root").display(),
            state = folder.folder("state").display(),
            socket = folder.join("sock").display(),
        );
        let configuration = folder.write("config.toml", configuration);
        let mut process = Cmd::new("containerd")
            .args(["--log-level", "warn"])
            .arg("--config")
            .arg(configuration)
            .start(&folder.join("log"));
        let socket = folder.join("sock");
        process.wait_ready(Duration::from_secs(60), || {
            socket.exists() && Cmd::new("ctr").arg("--address").arg(&socket).args(["version"]).run().succeeded()
        });
        Self { _process: process, folder }
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("sock")
    }
}
