//! `cove system watch`: starts what is to run from the machine's start on, then waits for monitors to die.
//!
//! It asks the kernel only: inotify tells of containers that are started, a descriptor of each monitor's process of its
//! end. Nothing depends on it but restarts, so it may be killed and started again at any time.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use cove_container::events::Event;
use cove_container::{Container, ContainerId, Record, Restarts, State, Status, Volumes, starts_with_machine};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use super::notify::notify;
use crate::commands::container::start;
use crate::containers::put_right;
use crate::context::Context;
use crate::error::Error;

/// What a monitor gets beyond its container's stop timeout to end.
const PATIENCE: Duration = Duration::from_secs(15);
/// Docker's stop timeout.
const STOP_TIMEOUT: i64 = 10;

/// Starts containers by their policies and watches over them until it is asked to end.
pub fn watch(context: &Context) -> Result<(), Error> {
    let folder = context.containers().run_folders()?;
    let _lock = only_one(context)?;
    let (read, write) = UnixStream::pair()?;
    let signals = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGCHLD];
    let mut signals = SignalDelivery::with_pipe(read, write, SignalOnly, signals)?;
    let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(std::io::Error::from)?;
    inotify::add_watch(&inotify, &folder, WatchFlags::CREATE | WatchFlags::ONLYDIR).map_err(std::io::Error::from)?;
    let mut watch =
        Watch { context, inotify, folders: HashMap::new(), monitors: BTreeMap::new(), restarts: HashMap::new() };
    watch.begin()?;
    notify("READY=1");
    loop {
        watch.wait(signals.get_read())?;
        collect_children();
        if signals.pending().any(|number| number == libc::SIGTERM || number == libc::SIGINT) {
            return watch.end(&mut signals);
        }
        watch.turn()?;
    }
}

/// Two of them would start a container twice.
fn only_one(context: &Context) -> Result<File, Error> {
    let path = context.places().run.join("watch.lock");
    let file = fs_err::File::create(&path)?.into_parts().0;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(Error::Watched),
        Err(error) => Err(std::io::Error::from(error).into()),
    }
}

/// Monitors are our children, and end long after their start.
fn collect_children() {
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
}

struct Watch<'a> {
    context: &'a Context,
    inotify: OwnedFd,
    /// Run folders in which a monitor's socket would be seen.
    folders: HashMap<ContainerId, i32>,
    /// Monitors that live, as processes.
    monitors: BTreeMap<ContainerId, OwnedFd>,
    /// Containers whose monitors have died.
    restarts: HashMap<ContainerId, Again>,
}

/// The restarts of a container whose monitor dies.
#[derive(Default)]
struct Again {
    row: Restarts,
    count: u32,
    /// When it is started next.
    due: Option<Instant>,
    /// The end that this is for: after another one somebody else has started it meanwhile.
    ended: Option<time::OffsetDateTime>,
}

impl Watch<'_> {
    /// What a start of the machine, or the time without us, has left is put right; what is to run is started, oldest
    /// first: who counts on another container was made after it.
    fn begin(&mut self) -> Result<(), Error> {
        let mut found: Vec<(Record, Container)> = Vec::new();
        for container in self.context.containers().all()? {
            match container.record() {
                Ok(record) => found.push((record, container)),
                Err(error) => self.say(container.id().short(), &error.to_string()),
            }
        }
        found.sort_by_key(|(record, _)| record.created);
        for (record, container) in found {
            if let Err(error) = self.begin_with(&record, &container) {
                self.fail(&record.name, &error);
            }
        }
        Ok(())
    }

    fn begin_with(&mut self, record: &Record, container: &Container) -> Result<(), Error> {
        let Some(state) = self.put_right(container)? else { return Ok(()) };
        if state.status == Status::Exited && container.is_removed_at_end() {
            return self.remove(record, container);
        }
        if starts_with_machine(&record.host_config.restart_policy, &state) {
            self.start(record, container)?;
        }
        self.look(container)
    }

    /// None: it went with its end.
    fn put_right(&self, container: &Container) -> Result<Option<State>, Error> {
        match put_right(self.context, container) {
            Err(Error::Container(cove_container::Error::NoSuchContainer(_))) => Ok(None),
            state => state.map(Some),
        }
    }

    fn start(&mut self, record: &Record, container: &Container) -> Result<(), Error> {
        start::start(self.context, container)?;
        self.say(&record.name, "started");
        self.look(container)
    }

    /// Sees to a container: its monitor is watched, or what is left of one is put right.
    fn look(&mut self, container: &Container) -> Result<(), Error> {
        let id = container.id();
        if !self.folders.contains_key(id)
            && let Ok(number) = inotify::add_watch(
                &self.inotify,
                container.run_folder(),
                WatchFlags::CREATE | WatchFlags::ONLYDIR | WatchFlags::DELETE_SELF,
            )
        {
            self.folders.insert(id.clone(), number);
        }
        if self.monitors.contains_key(id) {
            return Ok(());
        }
        while let Some(pid) = container.monitor() {
            let process = pidfd_open(pid, PidfdFlags::empty());
            // Its number may have become another process's.
            if container.monitor() != Some(pid) {
                continue;
            }
            self.monitors.insert(id.clone(), process.map_err(std::io::Error::from)?);
            return Ok(());
        }
        let (state, is_lost) = container.state()?;
        if is_lost { self.lost(container, &state) } else { Ok(()) }
    }

    /// A monitor has died.
    fn lost(&mut self, container: &Container, before: &State) -> Result<(), Error> {
        let record = container.record()?;
        let Some(state) = self.put_right(container)? else {
            self.say(&record.name, "its monitor has died: removed");
            return Ok(());
        };
        // Somebody was quicker, and has started it again.
        if state.status != Status::Exited {
            return self.look(container);
        }
        let ran = before
            .started_at
            .map_or(Duration::ZERO, |at| Duration::try_from(time::OffsetDateTime::now_utc() - at).unwrap_or_default());
        let policy = &record.host_config.restart_policy;
        let again = self.restarts.entry(container.id().clone()).or_default();
        let delay = again.row.after(policy, state.exit_code, ran, again.count);
        let delay = delay.filter(|_| starts_with_machine(policy, &state));
        again.due = delay.map(|delay| Instant::now() + delay);
        again.ended = state.finished_at;
        again.count += 1;
        let what = if again.due.is_some() { "its monitor has died: starts again" } else { "its monitor has died" };
        self.say(&record.name, what);
        Ok(())
    }

    fn remove(&mut self, record: &Record, container: &Container) -> Result<(), Error> {
        let containers = self.context.containers();
        {
            let _lock = container.lock_exclusive()?;
            containers.remove(container)?;
        }
        self.context.tell(&Event::of_container(record, "destroy", &[]));
        Ok(Volumes::new(&self.context.places().root).remove_anonymous(record, &containers)?)
    }

    /// Waits until something happens, or a container is to be started again.
    fn wait(&self, signals: &UnixStream) -> Result<(), Error> {
        let mut files = vec![PollFd::new(signals, PollFlags::IN), PollFd::new(&self.inotify, PollFlags::IN)];
        files.extend(self.monitors.values().map(|process| PollFd::new(process, PollFlags::IN)));
        let due = self.restarts.values().filter_map(|again| again.due).min();
        match poll(&mut files, due.map(until).as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(std::io::Error::from(error).into()),
        }
    }

    /// Deals with everything that has happened.
    fn turn(&mut self) -> Result<(), Error> {
        let ended: Vec<ContainerId> =
            self.monitors.iter().filter(|(_, process)| is_over(process)).map(|(id, _)| id.clone()).collect();
        for id in &ended {
            self.monitors.remove(id);
        }
        let containers = self.context.containers();
        let seen = if self.has_news() { containers.all()? } else { Vec::new() };
        for container in seen.into_iter().chain(ended.iter().filter_map(|id| containers.get(id))) {
            self.tried(&container, |watch| watch.look(&container));
        }
        let now = Instant::now();
        let due: Vec<(ContainerId, Option<time::OffsetDateTime>)> = self
            .restarts
            .iter_mut()
            .filter_map(|(id, again)| again.due.take_if(|due| *due <= now).map(|_| (id.clone(), again.ended)))
            .collect();
        for (container, ended) in due.iter().filter_map(|(id, ended)| Some((containers.get(id)?, ended))) {
            self.tried(&container, |watch| {
                let (state, _) = container.state()?;
                let is_that_end = state.status == Status::Exited && state.finished_at == *ended;
                if is_that_end { watch.start(&container.record()?, &container) } else { Ok(()) }
            });
        }
        self.restarts.retain(|id, _| containers.get(id).is_some());
        Ok(())
    }

    /// Whether a container or a monitor has come; what has been told is read.
    fn has_news(&mut self) -> bool {
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(self.inotify.as_fd(), &mut space);
        let (mut news, mut gone) = (false, Vec::new());
        while let Ok(event) = reader.next() {
            if event.events().intersects(inotify::ReadFlags::IGNORED | inotify::ReadFlags::DELETE_SELF) {
                gone.push(event.wd());
            } else {
                // A folder appears in the folder of all, a socket in one of them; an overflow may have swallowed both.
                let is_folder = event.events().contains(inotify::ReadFlags::ISDIR);
                let is_socket = event.file_name().is_some_and(|name| name.to_bytes() == b"socket");
                news |= is_folder || is_socket || event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW);
            }
        }
        self.folders.retain(|_, number| !gone.contains(number));
        news
    }

    /// Stops all containers and waits for their monitors.
    fn end(&mut self, signals: &mut SignalDelivery<UnixStream, SignalOnly>) -> Result<(), Error> {
        let containers = self.context.containers();
        // Those that have begun just now, too.
        for container in containers.all()? {
            self.tried(&container, |watch| watch.look(&container));
        }
        let mut running: Vec<(Record, ContainerId)> = Vec::new();
        for id in self.monitors.keys() {
            running.extend(containers.get(id).and_then(|container| Some((container.record().ok()?, id.clone()))));
        }
        let longest =
            running.iter().map(|(record, _)| record.config.stop_timeout.unwrap_or(STOP_TIMEOUT).max(STOP_TIMEOUT));
        let longest = longest.max().and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
        let patience = Duration::from_secs(longest) + PATIENCE;
        notify(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", patience.as_micros()));
        // Newest first: who counts on another container hears it before that one.
        running.sort_by_key(|(record, _)| std::cmp::Reverse(record.created));
        for (_, id) in &running {
            if let Some(process) = self.monitors.get(id) {
                let _ = pidfd_send_signal(process, Signal::TERM);
            }
        }
        self.restarts.clear();
        let deadline = Instant::now() + patience;
        while !self.monitors.is_empty() && Instant::now() < deadline {
            let mut files = vec![PollFd::new(signals.get_read(), PollFlags::IN)];
            files.extend(self.monitors.values().map(|process| PollFd::new(process, PollFlags::IN)));
            match poll(&mut files, Some(&until(deadline))) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(std::io::Error::from(error).into()),
            }
            collect_children();
            self.monitors.retain(|_, process| !is_over(process));
            if signals.pending().any(|number| number == libc::SIGTERM || number == libc::SIGINT) {
                break;
            }
        }
        for (record, _) in running.iter().filter(|(_, id)| self.monitors.contains_key(id)) {
            self.say(&record.name, "still runs");
        }
        Ok(())
    }

    /// One container that makes trouble does not keep the others from being watched; one that is gone makes none.
    fn tried(&mut self, container: &Container, work: impl FnOnce(&mut Self) -> Result<(), Error>) {
        if let Err(error) = work(self)
            && let Ok(record) = container.record()
        {
            self.fail(&record.name, &error);
        }
    }

    fn fail(&self, name: &str, error: &Error) {
        if let Some(text) = error.text() {
            self.say(name, &text);
        }
    }

    fn say(&self, name: &str, what: &str) {
        self.context.printer.note(format!("{name}: {what}"));
    }
}

fn is_over(process: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(1)
}

fn until(moment: Instant) -> Timespec {
    let left = moment.saturating_duration_since(Instant::now());
    Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(left.subsec_nanos()) }
}
