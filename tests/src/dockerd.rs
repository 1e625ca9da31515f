//! A dockerd of one's own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Cmd, Containerd, Process, Scratch};

/// A private docker daemon, with its own containerd, socket and folders. It makes no networks and no rules
/// unless it is asked to.
///
/// It keeps images in docker's own store, not in containerd's: that is what most installed daemons do, and
/// containerd's way of pulling is tested by `ctr`.
pub struct Dockerd {
    // In the order in which they must go.
    process: Process,
    _containerd: Containerd,
    folder: Scratch,
}

/// No networks and no rules.
const WITHOUT_NETWORK: [&str; 5] =
    ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"];

impl Dockerd {
    /// Starts it.
    pub fn start() -> Self {
        Self::start_with(&WITHOUT_NETWORK)
    }

    /// Starts it with docker's bridge and its rules. Call it in a network namespace of your own.
    pub fn with_network() -> Self {
        Self::start_with(&[])
    }

    /// Starts it with another runtime, which `docker run --runtime NAME` takes.
    pub fn with_runtime(name: &str, program: &Path) -> Self {
        let runtime = format!("{name}={}", program.display());
        Self::start_with(&[&["--add-runtime", runtime.as_str()], &WITHOUT_NETWORK[..]].concat())
    }

    fn start_with(words: &[&str]) -> Self {
        let containerd = Containerd::start();
        let folder = Scratch::new("dockerd");
        let configuration = folder.write("daemon.json", r#"{ "features": { "containerd-snapshotter": false } }"#);
        let process = Cmd::new("dockerd")
            .arg("--config-file")
            .arg(configuration)
            .args(["--host", &format!("unix://{}", folder.join("sock").display())])
            .arg("--data-root")
            .arg(folder.folder("data"))
            .arg("--exec-root")
            .arg(folder.folder("exec"))
            .arg("--pidfile")
            .arg(folder.join("pid"))
            .arg("--containerd")
            .arg(containerd.socket())
            .args(["--default-runtime=runc", "--group=", "--log-level=warn"])
            .args(words)
            .start(&folder.join("log"));
        let mut dockerd = Self { process, _containerd: containerd, folder };
        let info = Cmd::new("docker").args(["--host", &dockerd.host(), "info"]);
        dockerd.process.wait_ready(Duration::from_secs(60), || info.run().succeeded());
        dockerd
    }

    /// The folder of its images.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What `docker --host` takes.
    pub fn host(&self) -> String {
        format!("unix://{}", self.folder.join("sock").display())
    }
}
