//! Everything that stands between a record and a process: the container's files, its network, its `config.json`, and
//! the runtime that makes it.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use cove_container::log::{Log, LogOptions};
use cove_container::{Container, Overlay, Record, Upper};
use rustix::fs::CWD;
use rustix::mount::{MountAttrFlags, MoveMountFlags, UnmountFlags, move_mount, unmount};
use rustix::process::Pid;

use crate::Error;
use crate::bundle;
use crate::host_mounts;
use crate::links::{self, Links};
use crate::names::NameFiles;
use crate::network::{Network, Places};
use crate::runtime::{Runtime, Stdio3};
use crate::shared::Home;
use crate::streams::{ConsoleSocket, Streams};

/// What a container's processes need as long as they run.
pub(crate) struct Setup {
    runtime: Runtime,
    /// Where the container's files are mounted, from the first start on.
    root: PathBuf,
    files: Option<OwnedFd>,
    /// The mounts of the last process. The kernel takes them down with their last holder, which shall not be the process:
    /// its end would be heard a millisecond later.
    mounts: Option<File>,
    places: (PathBuf, PathBuf),
    network: Network,
    /// What an ordinary user's containers share.
    home: Option<Home>,
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
    pub(crate) fn new(places: &Places<'_>, container: &Container, record: &Record, home: Option<Home>) -> Self {
        let runtime = Runtime::new(&record.host_config, container, places.run);
        let root = container.run_folder().join("rootfs");
        let places = (places.root.to_owned(), places.run.to_owned());
        Self { runtime, root, files: None, mounts: None, places, network: Network::default(), home }
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
            self.clean_up(record);
        }
        made
    }

    fn make(&mut self, container: &Container, record: &Record, size: Option<(u16, u16)>) -> Result<Started, Error> {
        if let Some(home) = &mut self.home {
            home.enter(&Places { root: &self.places.0, run: &self.places.1 }, container, record)?;
        }
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
        if self.files.is_none() {
            self.files = Some(mount_root(container, record, &self.root)?);
        }
        let (network, namespace) = Network::set_up(&self.places(), container, record, self.home.as_ref())?;
        self.network = network;
        let links = Links::of(&self.places(), container, record)?;
        let (address, gateway) = (self.network.address(), self.gateway(record));
        let files = NameFiles::write(container, record, address, gateway, &links)?;
        if let Some(address) = address {
            links::tell(&self.places(), container, address);
        }
        // The copies are needed until the runtime has made its own of them.
        let (binds, _copies) = host_mounts::binds(&self.places(), container, record)?;
        let facts = bundle::Known { network: &namespace, files: &files, binds, link_environment: links.environment };
        bundle::write(self.runtime.bundle(), &self.root, record, facts, &self.places())?;
        let pid = self.runtime.create(making)?;
        self.mounts = File::open(format!("/proc/{pid}/ns/mnt")).ok();
        let streams = match ours {
            Ours::Pipes(streams) => streams,
            Ours::Console(console) => Streams::terminal(console.terminal()?)?,
        };
        if let Some((rows, columns)) = size {
            streams.resize(rows, columns);
        }
        Ok(Started { pid, streams })
    }

    /// The address of this machine on the container's network, or else on the default one: only looked for where it is
    /// asked for.
    fn gateway(&self, record: &Record) -> Option<Ipv4Addr> {
        let is_asked = record.host_config.extra_hosts.iter().any(|host| host.ends_with(":host-gateway"));
        let default = || Some(self.places().networks().find("bridge").ok()?.ipv4?.gateway);
        if is_asked { self.network.gateway().or_else(default) } else { None }
    }

    /// Lets the process go.
    pub(crate) fn let_go(&self) -> Result<(), Error> {
        self.runtime.start()
    }

    /// Who makes further processes.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
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
    pub(crate) fn clean_up(&mut self, record: &Record) {
        self.delete();
        // Before anybody deletes what is in it: it is another container's.
        let _ = unmount(self.runtime.bundle().join(bundle::SHARED_MEMORY), UnmountFlags::DETACH);
        let (root, run) = &self.places;
        self.network.take_down(&Places { root, run });
        host_mounts::release(&self.places(), &record.id, record);
    }

    /// The container's network while it runs.
    pub(crate) fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    pub(crate) fn network_ref(&self) -> &Network {
        &self.network
    }

    /// Others find it by this name from now on.
    pub(crate) fn rename(&mut self, name: &str) -> Result<(), Error> {
        let (root, run) = &self.places;
        self.network.rename(&Places { root, run }, name)
    }

    /// The root folder and the run folder of everything.
    pub(crate) fn folders(&self) -> (&Path, &Path) {
        (&self.places.0, &self.places.1)
    }

    fn places(&self) -> Places<'_> {
        Places { root: &self.places.0, run: &self.places.1 }
    }

    /// Lets go of the container's files.
    pub(crate) fn unmount(mut self) {
        drop(self.mounts.take());
        if let Some(files) = self.files.take() {
            // The folder may have another name by now.
            let _ = unmount(format!("/proc/self/fd/{}", files.as_raw_fd()), UnmountFlags::DETACH);
        }
    }
}

fn mount_root(container: &Container, record: &Record, root: &Path) -> Result<OwnedFd, Error> {
    let (changes, work) = (container.changes(), container.work());
    let upper = Upper { changes: &changes, work: &work, volatile: container.is_removed_at_end() };
    let overlay = Overlay { lower: &record.layers, upper: Some(upper), user_attributes: record.user_attributes };
    let mount = overlay.mount(MountAttrFlags::empty()).map_err(Error::Overlay)?;
    let _ = std::fs::create_dir(root);
    attach(mount.as_fd(), root).map_err(Error::Overlay)?;
    Ok(mount)
}

fn attach(mount: BorrowedFd<'_>, at: &Path) -> rustix::io::Result<()> {
    move_mount(mount, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}
