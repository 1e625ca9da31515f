//! The servers that are compared: each with its own folder, filled with the same content, and how much memory
//! they take.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cove_tests::benchmarks::{Watch, children};
use cove_tests::{Cmd, Login, Process, Registry, Scratch, free_port, tool};

use crate::content::{Content, REPOSITORY};

const PASSWORD: &str = "a-password-for-the-benchmark";

/// Which program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `cove-server`, at this path.
    Cove(PathBuf),
    /// distribution's `registry`.
    Distribution,
    /// nginx, with the answers as files.
    Nginx,
}

/// A server that is to be started, and its name in the table.
#[derive(Clone, Debug)]
pub struct Entrant {
    pub name: String,
    pub kind: Kind,
}

impl Entrant {
    /// The program's version.
    pub fn version(&self) -> String {
        match &self.kind {
            Kind::Cove(program) => Cmd::new(program).arg("--version").ok(),
            Kind::Distribution => {
                let printed = Cmd::new(tool("registry")).arg("--version").ok();
                let version = printed.split_whitespace().find(|word| word.starts_with(['3', 'v'])).unwrap_or(&printed);
                let version = version.split('+').next().unwrap_or(version); // what the build adds says nothing
                format!("distribution {}", version.trim_start_matches('v'))
            }
            Kind::Nginx => Cmd::new("nginx").arg("-v").run().stderr.trim().replace("nginx version: ", ""),
        }
    }

    /// Starts the server over an empty folder and fills it.
    pub fn start(&self, content: &Content) -> Peer {
        let folder = Scratch::new("bench");
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let command = match &self.kind {
            Kind::Cove(program) => Cmd::new(program)
                .env("COVE_DATA", folder.join("data"))
                .env("COVE_LISTEN", &address)
                .env("COVE_ADMIN_PASSWORD", PASSWORD),
            Kind::Distribution => {
                let configuration = folder.write("config.yml", distribution(&address, &folder.folder("data")));
                // As its container image has it: without, it looks for a collector of traces.
                let command = Cmd::new(tool("registry")).env("OTEL_TRACES_EXPORTER", "none");
                command.arg("serve").arg(configuration)
            }
            Kind::Nginx => {
                let root = folder.folder("root");
                content.write_files(&root);
                let configuration = folder.write("nginx.conf", nginx(&address, folder.path()));
                Cmd::new("nginx").arg("-p").arg(folder.path()).arg("-c").arg(configuration)
            }
        };
        let mut process = command.start(&folder.join("log"));
        process.wait_ready(Duration::from_secs(30), || std::net::TcpStream::connect(&address).is_ok());
        let login = matches!(self.kind, Kind::Cove(_)).then(|| Login::new("admin", PASSWORD));
        let peer = Peer {
            name: self.name.clone(),
            pushes: self.kind != Kind::Nginx,
            process,
            address: address.parse().expect("an address"),
            login,
            _folder: folder,
        };
        if peer.pushes {
            content.push(&peer.registry());
        }
        peer
    }
}

/// A server that runs.
pub struct Peer {
    pub name: String,
    /// Whether anything can be pushed to it.
    pub pushes: bool,
    pub address: SocketAddr,
    process: Process,
    login: Option<Login>,
    _folder: Scratch,
}

impl Peer {
    fn registry(&self) -> Registry {
        let anonymous = Registry::anonymous(&self.address.to_string());
        match self.token() {
            Some(token) => anonymous.with_token(&token),
            None => anonymous,
        }
    }

    fn token(&self) -> Option<String> {
        let login = self.login.as_ref()?;
        let registry = Registry::with_login(&self.address.to_string(), login);
        Some(registry.token(&format!("repository:{REPOSITORY}:pull,push")))
    }

    /// The line with the token that a client sends, fresh, or nothing.
    pub fn authorization(&self) -> String {
        self.token().map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"))
    }

    /// The processor time that it has taken so far. Told beside the figures, because other programs that run
    /// meanwhile disturb it less.
    pub fn processor_time(&self) -> Duration {
        Duration::from_millis(10 * ticks(self.process.id()))
    }

    /// Watches the memory from now on.
    pub fn watch(&self) -> Watch {
        Watch::of(self.process.id())
    }
}

/// Hundredths of a second (USER_HZ, which is 100 everywhere) that a process and those that it has started took.
fn ticks(id: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // Behind the name in parentheses, which may hold anything, utime and stime are fields 12 and 13.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
    let own: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    own + children(id).into_iter().map(ticks).sum::<u64>()
}

/// The configuration in its container image, on another address and folder.
fn distribution(address: &str, folder: &Path) -> String {
    format!(
        "version: 0.1
log:
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: {}
http:
  addr: {address}
  headers:
    X-Content-Type-Options: [nosniff]
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
",
        folder.display()
    )
}

/// As Debian has it, as far as it touches static files, without a limit of requests per connection.
fn nginx(address: &str, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "daemon off;
worker_processes auto;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 768; }}
http {{
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    default_type application/octet-stream;
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen {address}; root {folder}/root; }}
}}
"
    )
}
