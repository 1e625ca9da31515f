//! Everything that stands between a record and a process: the container's files, its network, its `config.json`, and
//! the runtime that makes it.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use cove_container::log::{Log, LogOptions};
use cove_container::{Container, Overlay, Record, Upper};
use rustix::fs::CWD;
use rustix::mount::{MountAttrFlags, MoveMountFlags, UnmountFlags, move_mount, unmount};
use rustix::process::Pid;

use crate::Error;
use crate::bundle;
use crate::names::NameFiles;
use crate::network::{Network, Places};
use crate::runtime::{Runtime, Stdio3};
use crate::streams::{ConsoleSocket, Streams};

/// What a container's processes need as long as they run.
pub(crate) struct Setup {
    runtime: Runtime,
    /// Where the container's files are mounted, from the first start on.
    root: PathBuf,
    is_mounted: bool,
    places: (PathBuf, PathBuf),
    network: Network,
}

/// A process that waits to be let go.
pub(crate) struct Started {
    pub(crate) pid: Pid,
    pub(crate) streams: Streams,
}

/// Our ends of the streams of a process that is being made.
enum Ours {
    Pipes(Streams),
    Console(ConsoleSocket),
}

/// The log of its output, unless it has none.
pub(crate) fn open_log(container: &Container, record: &Record) -> Result<Option<Log>, Error> {
    let log = &record.host_config.log_config;
    if log.kind == "none" {
        return Ok(None);
    }
    let options = LogOptions::parse(log.config.iter().map(|(key, value)| (key.as_str(), value.as_str())))?;
    Ok(Some(Log::open(&container.log(), &options, &Default::default())?))
}

impl Setup {
    /// Prepares the first start.
    pub(crate) fn new(places: &Places<'_>, container: &Container, record: &Record) -> Self {
        let runtime = Runtime::new(&record.host_config.runtime, container, places.run);
        let root = container.run_folder().join("rootfs");
        let places = (places.root.to_owned(), places.run.to_owned());
        Self { runtime, root, is_mounted: false, places, network: Network::default() }
    }

    /// Makes the container; its first process waits.
    pub(crate) fn start(
        &mut self,
        container: &Container,
        record: &Record,
        size: Option<(u16, u16)>,
    ) -> Result<Started, Error> {
        let made = self.make(container, record, size);
        if made.is_err() {
            self.clean_up();
        }
        made
    }

    fn make(&mut self, container: &Container, record: &Record, size: Option<(u16, u16)>) -> Result<Started, Error> {
        // Called first, ours reads and seals itself while everything else is made.
        let (ours, making) = if record.config.tty {
            let console = ConsoleSocket::at(self.runtime.bundle().join("console"))?;
            let nothing = Stdio3 { stdin: None, stdout: None, stderr: None };
            let making = self.runtime.begin(nothing, Some(console.path()))?;
            (Ours::Console(console), making)
        } else {
            let (streams, theirs) = Streams::pipes(record.config.open_stdin)?;
            (Ours::Pipes(streams), self.runtime.begin(theirs, None)?)
        };
        if !self.is_mounted {
            mount_root(container, record, &self.root)?;
            self.is_mounted = true;
        }
        let (network, namespace) = Network::set_up(&self.places(), container, record)?;
        self.network = network;
        let files = NameFiles::write(container, record, self.network.address())?;
        bundle::write(self.runtime.bundle(), &self.root, record, &namespace, &files, &self.places())?;
        let pid = self.runtime.create(making)?;
        let streams = match ours {
            Ours::Pipes(streams) => streams,
            Ours::Console(console) => Streams::terminal(console.terminal()?)?,
        };
        if let Some((rows, columns)) = size {
            streams.resize(rows, columns);
        }
        Ok(Started { pid, streams })
    }

    /// Lets the process go.
    pub(crate) fn let_go(&self) -> Result<(), Error> {
        self.runtime.start()
    }

    pub(crate) fn pause(&self) -> Result<(), Error> {
        self.runtime.pause()
    }

    pub(crate) fn resume(&self) -> Result<(), Error> {
        self.runtime.resume()
    }

    /// Ends what is left of its processes.
    pub(crate) fn delete(&self) {
        // What it cannot take away the next command finds.
        let _ = self.runtime.delete();
    }

    /// Takes back what a start has made, but for the container's files.
    pub(crate) fn clean_up(&mut self) {
        self.delete();
        let (root, run) = &self.places;
        self.network.take_down(&Places { root, run });
    }

    /// The container's network while it runs.
    pub(crate) fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    pub(crate) fn network_ref(&self) -> &Network {
        &self.network
    }

    fn places(&self) -> Places<'_> {
        Places { root: &self.places.0, run: &self.places.1 }
    }

    /// Lets go of the container's files.
    pub(crate) fn unmount(&self) {
        let _ = unmount(&self.root, UnmountFlags::DETACH);
    }
}

fn mount_root(container: &Container, record: &Record, root: &Path) -> Result<(), Error> {
    let (changes, work) = (container.changes(), container.work());
    let upper = Upper { changes: &changes, work: &work, volatile: container.is_removed_at_end() };
    let overlay = Overlay { lower: &record.layers, upper: Some(upper), user_attributes: record.user_attributes };
    let mount = overlay.mount(MountAttrFlags::empty()).map_err(Error::Overlay)?;
    let _ = std::fs::create_dir(root);
    attach(mount.as_fd(), root).map_err(Error::Overlay)
}

fn attach(mount: BorrowedFd<'_>, at: &Path) -> rustix::io::Result<()> {
    move_mount(mount, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}
