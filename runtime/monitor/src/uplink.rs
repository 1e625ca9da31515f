//! `pasta`: the way out of the network namespace that an ordinary user's containers share.

use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cove_container::shared::SharedPlace;
use cove_network::resolver::HostResolver;
use rustix::process::{Pid, Signal};

/// An address of the namespace at which the machine's own server of names answers.
pub(crate) const FORWARDER: &str = "169.254.1.1";
/// How long it may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts to start one that has died.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether the machine's first server listens where nobody but the machine itself can ask it.
pub(crate) fn needs_forwarder(host: &HostResolver) -> bool {
    let mut servers = host.servers.iter().map(|server| server.address).filter(IpAddr::is_ipv4);
    servers.next().is_some_and(|server| server.is_loopback())
}

/// The process, if it runs.
#[derive(Debug)]
pub(crate) struct Uplink {
    namespace: PathBuf,
    /// It writes its number here as soon as it passes packets on.
    ready: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    last: Option<Instant>,
}

impl Uplink {
    pub(crate) fn new(place: &SharedPlace) -> Self {
        let [namespace, ready, log] = ["network", "pasta.pid", "pasta.log"].map(|name| place.file(name));
        let uplink = Self { namespace, ready, log, child: None, last: None };
        uplink.end_stray();
        uplink
    }

    /// That of a holder that was killed: it would keep a namespace that nobody can reach any more.
    fn end_stray(&self) {
        let number = std::fs::read_to_string(&self.ready).ok();
        let number = number.and_then(|text| Pid::from_raw(text.trim().parse().ok()?));
        let Some(number) = number else { return };
        let name = std::fs::read_to_string(format!("/proc/{}/comm", number.as_raw_nonzero())).unwrap_or_default();
        if name.starts_with("pasta") || name.starts_with("passt") {
            let _ = rustix::process::kill_process(number, Signal::KILL);
        }
    }

    pub(crate) fn process(&self) -> Option<Pid> {
        self.child.as_ref().and_then(|child| Pid::from_raw(i32::try_from(child.id()).ok()?))
    }

    fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Starts it if it does not run; otherwise says why it cannot be had.
    pub(crate) fn raise(&mut self) -> Result<(), String> {
        if self.runs() {
            return Ok(());
        }
        self.last = Some(Instant::now());
        let _ = std::fs::remove_file(&self.ready);
        let log = std::fs::File::create(&self.log).map_err(|error| format!("{}: {error}", self.log.display()))?;
        let mut command = Command::new("pasta");
        // No ports either way: monitors pass those on, and what listens on the machine's loopback device is not for containers.
        command.args(["--foreground", "--config-net", "--ipv4-only", "--no-map-gw"]);
        command.args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"]);
        // Only where it is needed: pasta takes answers of that server for its own, whoever has asked it.
        if needs_forwarder(&HostResolver::read()) {
            command.args(["--dns-forward", FORWARDER]);
        }
        command.arg("--pid").arg(&self.ready).arg("--netns").arg(&self.namespace);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(
                    "`pasta` is not installed, which containers of an ordinary user need to reach the network\n\
                    have root install the package `passt`, or use `--network host` or `--network none`"
                        .to_owned(),
                );
            }
            Err(error) => return Err(format!("`pasta` cannot be run: {error}")),
        };
        self.child = Some(child);
        let begun = Instant::now();
        while !std::fs::read_to_string(&self.ready).is_ok_and(|text| text.ends_with('\n')) {
            if !self.runs() || begun.elapsed() > PATIENCE {
                self.end();
                return Err(self.reason());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// What it has said, without its lines about the system's log.
    fn reason(&self) -> String {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let said: Vec<&str> = said.lines().filter(|line| !line.contains("syslog") && !line.is_empty()).collect();
        format!(
            "`pasta` could not begin: {}\nsee that `/dev/net/tun` may be opened by everybody, or use `--network host` or \
             `--network none`",
            said.join("; ")
        )
    }

    /// Starts it again if it has died.
    pub(crate) fn mend(&mut self) {
        if !self.runs() && self.last.is_none_or(|last| last.elapsed() >= PAUSE) {
            let _ = self.raise();
        }
    }

    pub(crate) fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_file(&self.ready);
    }
}
