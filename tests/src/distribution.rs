//! distribution's registry as Debian has it, to be talked to beside `cove-server`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Cmd, Process, Registry, Scratch, free_port};

/// A `docker-registry` on a free port of 127.0.0.1, open to everybody, with a temporary folder.
pub struct Distribution {
    process: Process,
    port: u16,
    folder: Scratch,
}

impl Distribution {
    /// Debian's.
    pub fn start() -> Self {
        Self::start_program(Path::new("docker-registry"))
    }

    /// Another program of the same kind.
    pub fn start_program(program: &Path) -> Self {
        let folder = Scratch::new("distribution");
        let port = free_port();
        let configuration = format!(
            "version: 0.1
log:
  level: error
  accesslog:
    disabled: true
storage:
  cache:
    blobdescriptor: inmemory
  delete:
    enabled: true
  filesystem:
    rootdirectory: {}
http:
  addr: 127.0.0.1:{port}
",
            folder.folder("data").display()
        );
        let configuration = folder.write("config.yml", configuration);
        // Newer ones look for a collector of traces unless told that there is none.
        let command = Cmd::new(program).env("OTEL_TRACES_EXPORTER", "none").arg("serve").arg(configuration);
        let mut process = command.start(&folder.join("log"));
        let address = format!("127.0.0.1:{port}");
        process.wait_ready(Duration::from_secs(30), || std::net::TcpStream::connect(&address).is_ok());
        Self { process, port, folder }
    }

    /// `HOST:PORT`, as it stands before an image's name.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The registry, spoken to plainly.
    pub fn registry(&self) -> Registry {
        Registry::anonymous(&self.address())
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its folder of blobs.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}
