//! `create` and `run`: from a bundle to a process that is confined and waits, or runs.
//!
//! Everything that can be known is looked at before anything is made; what is made is noted, and taken back if a later
//! step fails.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use oci_spec::runtime::LinuxNamespaceType;
use rustix::process::{Pid, Signal, WaitOptions};

use crate::between::clone_through;
use crate::capabilities::Sets;
use crate::cgroups::{Cgroups, Entrance, Request};
use crate::channel::{Channel, Message};
use crate::config::Config;
use crate::confine::{self, Confinement, Limits};
use crate::console::{ConsoleSocket, PIDFD, pidfd_socket, send};
use crate::error::{Failure, plain};
use crate::init::{self, Init, Way};
use crate::namespaces::{Namespaces, join};
use crate::proc::Proc;
use crate::process_id::ProcessId;
use crate::rootfs::RootFs;
use crate::seccomp::{self, Filter};
use crate::starter::Waiting;
use crate::state::{Folder, Record, RootFolder, Status, replace};
use crate::syscalls::{Clone, clone, held_back_end};
use crate::{Error, fail_point, hooks, notify, user_namespace};

/// What `create` and `run` are told besides `config.json`.
#[derive(Debug)]
pub struct CreateOptions {
    /// The container's name.
    pub id: String,
    /// The folder with `config.json`.
    pub bundle: PathBuf,
    /// Where the other end of the terminal is sent to.
    pub console_socket: Option<ConsoleSocket>,
    /// Rows and columns of the terminal, if `config.json` does not say.
    pub console_size: Option<(u64, u64)>,
    /// Where the number of the container's process is written.
    pub pid_file: Option<PathBuf>,
    /// Who listens here gets a descriptor of the container's process.
    pub pidfd_socket: Option<PathBuf>,
    /// Leave the root by moving it, for a root in a ramdisk.
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// How many descriptors after the standard ones the container gets.
    pub preserve_fds: u32,
    /// How many of them are sockets that systemd has opened (sd_listen_fds(3)); they come first.
    pub listen_fds: u32,
    /// Ask systemd for the cgroup.
    pub systemd_cgroup: bool,
}

/// A container that was made.
#[derive(Debug)]
pub struct Created {
    /// Where it is remembered.
    pub folder: Folder,
    /// What is remembered of it.
    pub record: Record,
    /// What was asked for and not done, and why.
    pub warnings: Vec<String>,
    pid: Pid,
    process: OwnedFd,
    pid_file: Option<PathBuf>,
    /// How it is told to start, if not by `start`.
    starting: Option<Starting>,
}

/// The process of `run`, before its program has taken over.
#[derive(Debug)]
struct Starting {
    channel: Channel,
    /// Whether it has been told.
    goes_on: bool,
}

/// How the container's process is to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// By `start`, from anybody.
    Later,
    /// By the one who makes it.
    AtOnce,
}

/// Makes a container whose process waits for `start`.
pub fn create(root: &RootFolder, options: &CreateOptions) -> Result<Created, Error> {
    make(root, options, Start::Later)
}

/// Makes a container and starts its process.
pub fn run(root: &RootFolder, options: &CreateOptions) -> Result<Created, Error> {
    let mut created = make(root, options, Start::AtOnce)?;
    match created.start() {
        Ok(()) => Ok(created),
        Err(error) => {
            created.undo();
            Err(error)
        }
    }
}

fn make(root: &RootFolder, options: &CreateOptions, start: Start) -> Result<Created, Error> {
    let bundle = std::fs::canonicalize(&options.bundle).map_err(Error::file("find the bundle", &options.bundle))?;
    // As runc does: what is relative in config.json begins there.
    rustix::process::chdir(&bundle).map_err(Error::file("enter", &bundle))?;
    let mut config = Config::read(&bundle)?;
    if let Some(process) = config.process.as_mut().filter(|_| options.listen_fds > 0) {
        process.env.extend([format!("LISTEN_FDS={}", options.listen_fds), "LISTEN_PID=1".to_owned()]);
    }
    if let (Some(process), Some((height, width))) = (config.process.as_mut(), options.console_size) {
        process.console_size.get_or_insert_with(|| console_size(height, width));
    }
    let process = config.process()?;
    let console = options.console_socket.as_ref();
    let console = console.filter(|socket| process.terminal || !matches!(socket, ConsoleSocket::IfWanted(_)));
    if console.is_some() && !process.terminal {
        return Err(Error::Config("cannot use console socket if runc will not detach or allocate tty".to_owned()));
    }
    if console.is_none() && process.terminal {
        let text = "cannot allocate tty if runc will detach without setting console socket";
        return Err(Error::Config(text.to_owned()));
    }
    let folder = root.claim(&options.id)?;
    let mut made = Made { folder: &folder, cgroups: None, process: None, pid_file: None, hooked: None };
    let result = make_in(root, options, start, &bundle, &config, &mut made);
    if result.is_err() {
        made.undo();
    }
    result
}

/// What there is already of a container that is being made.
struct Made<'a> {
    folder: &'a Folder,
    cgroups: Option<Rc<Cgroups>>,
    process: Option<(Pid, OwnedFd)>,
    pid_file: Option<PathBuf>,
    /// Once the hooks that come with the container's namespaces have been called: what they have made is taken back by others.
    hooked: Option<Record>,
}

impl Made<'_> {
    /// Takes back everything. What cannot be taken back is passed over: the first error is the one that matters.
    fn undo(&mut self) {
        if let Some((pid, process)) = self.process.take() {
            let _ = rustix::process::pidfd_send_signal(&process, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
        }
        if let Some(cgroups) = self.cgroups.take() {
            let _ = cgroups.kill(Signal::KILL.as_raw());
            let _ = cgroups.delete();
        }
        if let Some(path) = self.pid_file.take() {
            let _ = std::fs::remove_file(path);
        }
        let _ = self.folder.remove();
        if let Some(record) = self.hooked.take() {
            let after = record.hooks.as_ref().and_then(|hooks| hooks.poststop().as_ref());
            hooks::call_all(after, &record.state(Status::Stopped));
        }
    }
}

fn make_in(
    root: &RootFolder,
    options: &CreateOptions,
    start: Start,
    bundle: &Path,
    config: &Config,
    made: &mut Made<'_>,
) -> Result<Created, Error> {
    fail_point("folder")?;
    let process = config.process()?;
    let namespaces = Namespaces::open(config)?;
    if !namespaces.has_own_mounts() && config.changes_mounts() {
        let text = "mounts, masked and read-only paths need a mount namespace of the container's own";
        return Err(Error::Config(text.to_owned()));
    }
    let resources = config.linux.resources().as_ref();
    let cgroups = Rc::new(Cgroups::plan(&Request {
        id: &options.id,
        path: config.linux.cgroups_path().as_deref(),
        systemd: options.systemd_cgroup,
        rootless: user_namespace::is_rootless(),
        resources,
    })?);
    let filter = config.seccomp.as_deref().map(|profile| seccomp::cached(profile.get(), root.seccomp_cache()));
    let filter = filter.transpose().map_err(|error| Error::Config(format!("error in linux.seccomp: {error}")))?;
    let new_user_namespace = namespaces.is_new(LinuxNamespaceType::User);
    let user_namespace = config.namespace(LinuxNamespaceType::User).is_some();
    let (capabilities, mut warnings) = Sets::plan(process.capabilities.as_ref(), user_namespace);

    let root_path = root_path(config, bundle)?;
    let mut record = Record {
        id: options.id.clone(),
        init: ProcessId::of(rustix::process::getpid()).map_err(Error::system("look at /proc"))?,
        creating: true,
        bundle: bundle.to_owned(),
        rootfs: root_path.clone(),
        created: now(),
        owner: rustix::process::getuid().as_raw().to_string(),
        annotations: config.annotations.clone(),
        cgroups: Rc::clone(&cgroups),
        namespaces: namespaces.all(),
        own_namespaces: namespaces.new_ones(),
        process: config.process.clone(),
        seccomp: config.seccomp.clone(),
        hooks: config.hooks.clone(),
        new_keyring: !options.no_new_keyring,
        personality: config.linux.personality().clone(),
    };
    made.cgroups = Some(Rc::clone(&cgroups));
    // Where the new process can walk into them alone, they are made while it makes its namespaces and mounts.
    let beside = cgroups.can_come_late()
        && !user_namespace
        && namespaces.is_new(LinuxNamespaceType::Mount)
        && namespaces.joined(LinuxNamespaceType::Pid).is_none()
        && may_mount();
    let folder = made.folder;
    let mut make_cgroups = |record: &Record| -> Result<(), Error> {
        // If this process is killed, `delete` knows from it what there may be.
        folder.write(record)?;
        warnings.extend(cgroups.create(resources)?);
        Ok(fail_point("cgroups")?)
    };
    let entrance = if beside {
        None
    } else {
        make_cgroups(&record)?;
        Some(cgroups.entrance()?)
    };
    let there = entrance.as_ref().map(|_| &*cgroups);
    let rootfs = if may_mount() { Some(RootFs::prepare(config, &root_path, there, options.no_pivot)?) } else { None };
    fail_point("rootfs")?;
    let proc = Proc::open().map_err(Error::system("open /proc"))?;
    let console = options.console_socket.as_ref().filter(|_| process.terminal).map(ConsoleSocket::connect);
    let console = console.transpose()?;
    let pidfd_socket = options.pidfd_socket.as_deref().map(pidfd_socket).transpose()?;
    let (ours, theirs) = Channel::pair().map_err(Error::system("make a socket"))?;
    let waiting = (start == Start::Later).then(|| Waiting::make(made.folder)).transpose()?;

    let confinement = Confinement {
        process,
        capabilities,
        filter: filter.as_ref(),
        personality: config.linux.personality().as_ref(),
        keyring: (!options.no_new_keyring).then_some(options.id.as_str()),
        limits: if user_namespace { Limits::OfParent } else { Limits::Late },
    };
    let into = entrance.as_ref().and_then(Entrance::folder_v2).filter(|_| !user_namespace);
    let at_once = namespaces.at_once() & if beside { !(libc::CLONE_NEWNET as u64) } else { u64::MAX };
    let way = match &entrance {
        Some(entrance) => Way::Open { entrance, is_cloned_into: into.is_some() },
        None => Way::Coming,
    };
    let (pid, handle) = clone_into(&namespaces, at_once, into, (&ours, &theirs), || Init {
        config,
        root: &root_path,
        rootfs: rootfs.as_ref(),
        no_pivot: options.no_pivot,
        namespaces: &namespaces,
        cgroups: way,
        proc: &proc,
        confinement,
        console: console.as_ref(),
        channel: &theirs,
        waiting: waiting.as_ref(),
        preserved: options.preserve_fds.saturating_add(options.listen_fds),
        record: &record,
    })?;
    drop(theirs);
    made.process = Some((pid, handle.try_clone().map_err(Error::system("duplicate a descriptor"))?));
    fail_point("clone")?;
    if beside {
        make_cgroups(&record)?;
        ours.let_go_on().map_err(Error::system("reach the container's process"))?;
    }
    record.creating = false;
    record.init = ProcessId::of(pid).map_err(Error::system("look at the container's process"))?;
    if user_namespace {
        confine::limit(process, Some(pid), &proc).map_err(Failure::init)?;
    }
    if new_user_namespace {
        let maps = |maps: &Option<Vec<_>>| maps.clone().unwrap_or_default();
        let (uids, gids) = (maps(config.linux.uid_mappings()), maps(config.linux.gid_mappings()));
        user_namespace::write_maps(pid, &uids, &gids)?;
    }
    if new_user_namespace || namespaces.joined(LinuxNamespaceType::User).is_some() {
        ours.let_go_on().map_err(Error::system("reach the container's process"))?;
    }
    // Where nothing of ours must come before the program, it does not wait for us: that would cost it a wake-up.
    let goes_on = start == Start::AtOnce
        && config.hooks.is_none()
        && options.pid_file.is_none()
        && options.pidfd_socket.is_none()
        && !filter.as_ref().is_some_and(Filter::notifies);
    if goes_on {
        ours.let_go_on().map_err(Error::system("reach the container's process"))?;
    }
    accompany(&ours, config, &record, &mut made.hooked)?;
    made.folder.write(&record)?;
    fail_point("record")?;
    if start == Start::Later {
        // From here on it can be found; before, it would end with us.
        ours.send(&Message::Go).map_err(Error::system("reach the container's process"))?;
    }
    if let Some(path) = &options.pid_file {
        replace(path, pid.as_raw_nonzero().to_string().as_bytes())?;
        made.pid_file = Some(path.clone());
    }
    if let Some(socket) = &pidfd_socket {
        send(socket, PIDFD, &[handle.as_fd()]).map_err(Error::system("pass on a descriptor of the process"))?;
    }
    fail_point("pid-file")?;
    let starting = (start == Start::AtOnce).then_some(Starting { channel: ours, goes_on });
    let pid_file = made.pid_file.clone();
    Ok(Created { folder: made.folder.clone(), record, warnings, pid, process: handle, pid_file, starting })
}

/// Whether this process may open mounts of the namespace that it is in.
fn may_mount() -> bool {
    use rustix::thread::CapabilitySet;
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// A terminal's size as `config.json` has it.
pub fn console_size(rows: u64, columns: u64) -> oci_spec::runtime::Box {
    oci_spec::runtime::BoxBuilder::default().height(rows).width(columns).build().unwrap_or_default()
}

/// RFC 3339.
fn now() -> String {
    use time::format_description::well_known::Rfc3339;
    time::OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
}

/// Where the root file system is.
fn root_path(config: &Config, bundle: &Path) -> Result<PathBuf, Error> {
    let path = config.root.as_ref().map(|root| bundle.join(root.path())).unwrap_or_default();
    std::fs::canonicalize(&path)
        .map_err(|error| Error::Config(format!("invalid rootfs: {}: {}", path.display(), plain(&error))))
}

/// Clones the process that becomes the container's; in it, this does not come back.
fn clone_into<'a>(
    namespaces: &Namespaces,
    at_once: u64,
    cgroup: Option<std::os::fd::BorrowedFd<'_>>,
    (ours, theirs): (&Channel, &Channel),
    init: impl FnOnce() -> Init<'a>,
) -> Result<(Pid, OwnedFd), Error> {
    if let Some(user) = namespaces.joined(LinuxNamespaceType::User) {
        // Its namespaces must be those of the user namespace that is joined.
        let enter = || {
            join(user, LinuxNamespaceType::User).map_err(Failure::at("error joining the user namespace"))?;
            init::become_root(false)?;
            match namespaces.joined(LinuxNamespaceType::Pid) {
                Some(pid) => join(pid, LinuxNamespaceType::Pid).map_err(Failure::at("error joining the pid namespace")),
                None => Ok(()),
            }
        };
        return match clone_through(ours, theirs, at_once, enter)? {
            Clone::Parent(pid, process) => Ok((pid, process)),
            Clone::Child => init().become_container(),
        };
    }
    // Only children are in a process namespace that is joined. Back again: hooks belong to the caller's.
    let own = namespaces.joined(LinuxNamespaceType::Pid).map(|joined| {
        // Who is in it sees the new process from its first moment.
        init::hide();
        let own = std::fs::File::open("/proc/self/ns/pid").map(OwnedFd::from)?;
        join(joined, LinuxNamespaceType::Pid).map(|()| own)
    });
    let own = own.transpose().map_err(Error::system("error joining the pid namespace"))?;
    let result = clone(at_once, cgroup);
    if let Ok(Clone::Child) = result {
        init().become_container();
    }
    if let Some(own) = own {
        join(&own, LinuxNamespaceType::Pid).map_err(Error::system("error leaving the container's pid namespace"))?;
    }
    match result.map_err(Error::system("error making the container's process"))? {
        Clone::Parent(pid, process) => Ok((pid, process)),
        Clone::Child => Err(Error::Start("it came back".to_owned())),
    }
}

/// Does what the new process asks for, until only `execve` is left.
fn accompany(channel: &Channel, config: &Config, record: &Record, hooked: &mut Option<Record>) -> Result<(), Error> {
    loop {
        match hear(channel, config.hooks.is_some())? {
            Some(Message::Mounted) => {
                let state = record.state(Status::Creating);
                if let Some(hooks) = &config.hooks {
                    *hooked = Some(record.clone());
                    #[allow(deprecated)]
                    let all = [hooks.prestart().as_ref(), hooks.create_runtime().as_ref()];
                    for hooks in all {
                        hooks::call(hooks, &state).map_err(Failure::init)?;
                    }
                }
                channel.let_go_on().map_err(Error::system("reach the container's process"))?;
            }
            Some(Message::Notifications(file)) => notify::pass_on(&file, config, record)?,
            Some(Message::Ready) => return Ok(()),
            Some(Message::Failed(text)) => return Err(Error::Start(text)),
            Some(Message::Go | Message::Process(_)) => {
                return Err(Error::Start("it says what it cannot say".to_owned()));
            }
            None => {
                let text = "container init died before it was ready (is its memory limit too low?)";
                return Err(Error::Start(text.to_owned()));
            }
        }
    }
}

/// What the container's process says next. If hooks may be what keeps it silent, one that hangs can be ended by a signal
/// to us, which we hold back for the container's process.
fn hear(channel: &Channel, has_hooks: bool) -> Result<Option<Message>, Error> {
    while has_hooks && !channel.is_ready_within(hooks::GLANCE) {
        if let Some(number) = held_back_end() {
            return Err(Error::Interrupted(number));
        }
    }
    channel.receive().map_err(Error::system("hear of the container's process"))
}

impl Created {
    /// Lets the process of `run` go on, and waits until the container's program has taken over.
    fn start(&mut self) -> Result<(), Error> {
        let Some(Starting { channel, goes_on }) = self.starting.take() else { return Ok(()) };
        if !goes_on {
            channel.send(&Message::Go).map_err(Error::system("reach the container's process"))?;
        }
        match hear(&channel, self.record.hooks.is_some())? {
            // Its end has closed: `execve` was successful.
            None => self.record.after_start(),
            Some(Message::Failed(text)) => Err(Error::Start(text)),
            Some(_) => Err(Error::Start("it says what it cannot say".to_owned())),
        }
    }

    /// The number of the container's process.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// A descriptor of the container's process.
    pub fn process(&self) -> std::os::fd::BorrowedFd<'_> {
        self.process.as_fd()
    }

    fn undo(&mut self) {
        let process = self.process.try_clone().ok().map(|process| (self.pid, process));
        Made {
            folder: &self.folder,
            cgroups: Some(Rc::clone(&self.record.cgroups)),
            process,
            pid_file: self.pid_file.take(),
            hooked: Some(self.record.clone()),
        }
        .undo();
    }
}

/// The filter of a container that exists, for a process that joins it.
pub(crate) fn filter_of(root: &RootFolder, record: &Record) -> Result<Option<Filter>, Error> {
    let filter = record.seccomp.as_deref().map(|profile| seccomp::cached(profile.get(), root.seccomp_cache()));
    filter.transpose().map_err(|error| Error::Config(format!("error in the container's seccomp profile: {error}")))
}
