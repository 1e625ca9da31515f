//! A container's life from its start to its end: what is known of it, and what is written down and told.
//!
//! [`turn`] waits for what happens, [`requests`] does what clients ask for.

mod execs;
mod requests;
mod told;
mod turn;

use std::path::Path;
use std::time::{Duration, Instant};

use cove_container::cgroups::oom_kills;
use cove_container::events::{Event, Events};
use cove_container::log::{Log, Stream};
use cove_container::protocol::{Attach, Connection, Ended, MAX_CONTENT, Message, Refusal};
use cove_container::{Alive, Container, Containers, Durability, Record, Restarts, State, Status, Volumes, boot_id};
use cove_launcher::Signals;
use rustix::process::{Pid, Signal};
use time::OffsetDateTime;

use self::execs::Execs;
use crate::Error;
use crate::clients::{Awaited, Client};
use crate::health::Checks;
use crate::listener::Listener;
use crate::network::Places;
use crate::setup::{Setup, Started};
use crate::shared::Home;
use crate::streams::Streams;

/// A monitor before us that is at its last acts has given up its lock by then.
const LAST_ACTS: Duration = Duration::from_secs(5);

/// Whoever keeps a pipe of the container open after its end is not waited for longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A container and everything that is known of it.
pub(crate) struct Monitor {
    container: Container,
    record: Record,
    state: State,
    alive: Alive,
    listener: Listener,
    signals: Signals,
    clients: Vec<Client>,
    log: Option<Log>,
    events: Events,
    setup: Setup,
    phase: Phase,
    restarts: Restarts,
    execs: Execs,
    /// Health checks, if there are some, from the start on.
    checks: Option<Checks>,
    /// No restart after the next end: somebody has ended it.
    ends_for_good: bool,
    buffer: Vec<u8>,
}

/// What there is to wait for.
enum Phase {
    Running(Running),
    /// It has ended; what it has written last is still on its way.
    Draining {
        streams: Streams,
        code: i32,
        ran: Duration,
        oom_killed: bool,
        until: Instant,
    },
    /// It begins again at this moment.
    Waiting(Instant),
    Over,
}

struct Running {
    started: Started,
    since: Instant,
    /// SIGKILL follows at this moment.
    kill_at: Option<Instant>,
    /// SIGKILL was sent: it must not be frozen any more, or it would never die of it.
    is_killed: bool,
}

impl Monitor {
    /// Takes the container's lock, and everything that it needs for life.
    pub(crate) fn new(places: &Places<'_>, container: Container, home: Option<Home>) -> Result<Self, Error> {
        container.make_run_folder()?;
        let alive = take_alive(&container)?;
        let signals = Signals::hold().map_err(|error| Error::Runtime { text: error.to_string(), code: 125 })?;
        let record = container.record()?;
        let before = container.written_state()?;
        let listener = Listener::at(&container.socket())?;
        let log = crate::setup::open_log(&container, &record)?;
        let setup = Setup::new(places, &container, &record, home);
        let state = State { error: String::new(), oom_killed: false, stopped_by_user: false, ..before };
        Ok(Self {
            container,
            record,
            state,
            alive,
            listener,
            signals,
            clients: Vec::new(),
            log,
            events: Events::new(places.run),
            setup,
            phase: Phase::Over,
            restarts: Restarts::default(),
            execs: Execs::default(),
            checks: None,
            ends_for_good: false,
            buffer: vec![0; MAX_CONTENT + 1],
        })
    }

    /// Starts the container and stays until it has ended for good.
    pub(crate) fn run(
        mut self,
        root: &Path,
        run: &Path,
        starter: Connection,
        attach: Option<Attach>,
    ) -> Result<(), Error> {
        let mut client = Client::new(starter);
        // Nothing of the output may be lost. What else whoever starts it has said waits until there is a process.
        client.attached = attach;
        self.clients.push(client);
        self.state.restart_count = 0;
        if let Err(error) = self.start() {
            let refusal = Refusal { text: error.to_string(), code: error.exit_code() };
            self.state.exit_code = i32::from(refusal.code);
            self.state.error.clone_from(&refusal.text);
            self.leave(root, run, Some(&refusal));
            return Err(error);
        }
        for warning in self.setup.network().take_warnings() {
            self.clients[0].say(&Message::Warning(warning.into()));
        }
        self.clients[0].say(&Message::Started);
        while !matches!(self.phase, Phase::Over) {
            self.turn()?;
        }
        self.leave(root, run, None);
        Ok(())
    }

    fn start(&mut self) -> Result<(), Error> {
        let size = self.clients.iter().find_map(|client| client.attached?.size);
        let _ = std::fs::remove_dir_all(self.container.exec_folder(""));
        let started = match self.setup.start(&self.container, &self.record, size) {
            Ok(started) => started,
            Err(error) => {
                // What it was to run comes after its network.
                if matches!(error, Error::Runtime { .. }) {
                    self.tell_network("connect");
                    self.tell_network("disconnect");
                }
                return Err(error);
            }
        };
        self.begin_checks();
        self.state = State {
            status: Status::Running,
            pid: Some(started.pid.as_raw_nonzero().get()),
            monitor: Some(rustix::process::getpid().as_raw_nonzero().get()),
            boot: boot_id().unwrap_or_default(),
            started_at: Some(OffsetDateTime::now_utc()),
            exit_code: 0,
            ..self.state.clone()
        };
        // With a policy it must be known after a power cut that it ran.
        let has_policy = self.record.host_config.restart_policy != Default::default();
        let durability = if has_policy { Durability::Lasting } else { Durability::Passing };
        let begun = self.container.write_state(&self.state, durability).map_err(Error::from);
        if let Err(error) = begun.and_then(|()| self.setup.let_go()) {
            self.setup.clean_up(&self.record);
            return Err(error);
        }
        self.phase = Phase::Running(Running { started, since: Instant::now(), kill_at: None, is_killed: false });
        self.tell_network("connect");
        self.tell_volumes("mount");
        self.tell("start", &[]);
        Ok(())
    }

    /// Writes down what has happened, for `events`.
    fn tell(&self, action: &str, more: &[(&str, &str)]) {
        self.events.tell(&Event::of_container(&self.record, action, more));
    }

    fn streams(&mut self) -> Option<&mut Streams> {
        match &mut self.phase {
            Phase::Running(running) => Some(&mut running.started.streams),
            Phase::Draining { streams, .. } => Some(streams),
            Phase::Waiting(_) | Phase::Over => None,
        }
    }

    fn stop_signal(&self) -> i32 {
        let name = &self.record.config.stop_signal;
        cove_launcher::signal(name).map_or(libc::SIGTERM, Signal::as_raw)
    }

    fn child_ended(&mut self, pid: Pid, code: i32) {
        self.setup.network().process_ended(pid);
        let is_first = matches!(&self.phase, Phase::Running(running) if running.started.pid == pid);
        if !is_first && self.execs.child_ended(pid, code) {
            return;
        }
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Running(running) if running.started.pid == pid => {
                // Before its cgroup goes.
                self.stop_checks();
                let parent = &self.record.host_config.cgroup_parent;
                let oom_killed = oom_kills(parent, self.container.id().as_str()) > 0;
                // Ends whatever it has left behind, so that its pipes come to their end.
                self.setup.delete();
                let (ran, until) = (running.since.elapsed(), Instant::now() + PATIENCE);
                let streams = running.started.streams;
                self.phase = Phase::Draining { streams, code, ran, oom_killed, until };
            }
            other => self.phase = other,
        }
    }

    /// Everything that it has written is in the log and with those who must not miss anything.
    fn ended(&mut self) {
        let Phase::Draining { code, ran, oom_killed, .. } = std::mem::replace(&mut self.phase, Phase::Over) else {
            return;
        };
        if let Some(log) = &mut self.log {
            log.end(Stream::Stdout);
            log.end(Stream::Stderr);
        }
        self.setup.clean_up(&self.record);
        self.state = State {
            status: Status::Exited,
            pid: None,
            exit_code: code,
            oom_killed,
            finished_at: Some(OffsetDateTime::now_utc()),
            ..self.state.clone()
        };
        if oom_killed {
            self.tell("oom", &[]);
        }
        self.tell("die", &[("exitCode", &code.to_string())]);
        self.tell_network("disconnect");
        self.tell_volumes("unmount");
        let delay = if self.ends_for_good {
            None
        } else {
            let policy = &self.record.host_config.restart_policy;
            self.restarts.after(policy, code, ran, self.state.restart_count)
        };
        if let Some(delay) = delay {
            self.state.status = Status::Restarting;
            let _ = self.container.write_state(&self.state, Durability::Passing);
            self.phase = Phase::Waiting(Instant::now() + delay);
            // Who has waited for an end has seen one.
            self.tell_the_end(code, |_| true);
        }
    }

    fn tell_the_end(&mut self, code: i32, whom: impl Fn(&Client) -> bool) {
        for client in self.clients.iter_mut().filter(|client| whom(client)) {
            client.flush();
            match client.waits_for {
                Some(Awaited::Stopped) => client.say(&Message::Done),
                Some(Awaited::End) => client.say(&Message::Ended(Ended { code })),
                None if client.attached.is_some() => client.say(&Message::Ended(Ended { code })),
                None => {}
            }
            client.leave();
        }
        self.clients.retain(|client| !client.is_gone());
    }

    /// The last acts: the state is written, the lock given back, and whoever waits is told.
    fn leave(mut self, root: &Path, run: &Path, refusal: Option<&Refusal>) {
        if self.state.status != Status::Created {
            self.state.status = Status::Exited;
        }
        self.state.monitor = None;
        self.state.pid = None;
        self.listener.close();
        let code = self.state.exit_code;
        // If the disk is full the next command finds a monitor that is gone, and writes the end down.
        let _ = self.container.write_state(&self.state, Durability::Lasting);
        drop(self.log.take());
        let mut is_forgotten = false;
        if self.container.is_removed_at_end() {
            self.tell_the_end(code, |client| client.waits_for == Some(Awaited::End));
            // Who has asked for something and holds the lock hears that nobody does it any more: we wait for the lock.
            if refusal.is_none() {
                self.clients.retain(|client| client.waits_for.is_some() || client.attached.is_some());
            }
            // Whoever hears that it could not be started holds the lock until then.
            let lock = if refusal.is_some() { Ok(None) } else { self.container.lock_exclusive().map(Some) };
            let containers = Containers::new(root, run);
            if lock.is_ok() && containers.forget(&self.container).is_ok() {
                is_forgotten = true;
                // As `rm -v`: what cannot be removed is for `volume prune`.
                let volumes = Volumes::new(root);
                let _ = volumes.remove_anonymous(&self.record, &containers);
                self.events.tell_gone_volumes(&self.record, &volumes);
                self.tell("destroy", &[]);
            }
        }
        // A run in the foreground that goes with its end is let go first: nobody has asked for anything but its end.
        let hurries = self.container.is_removed_at_end()
            && self.clients.iter().all(|client| client.waits_for != Some(Awaited::Stopped));
        let places = Places { root, run };
        if !hurries {
            places.remove_unused(&self.record, false);
        }
        // Before anybody hears of the end: they may start it again at once.
        let Self { alive, mut clients, container, record, setup, execs, .. } = self;
        drop(alive);
        for client in &mut clients {
            client.flush();
            match (refusal, client.waits_for) {
                (Some(refusal), _) => client.say(&Message::Refused(refusal.clone())),
                (None, Some(Awaited::Stopped)) => client.say(&Message::Done),
                (None, _) => client.say(&Message::Ended(Ended { code })),
            }
        }
        execs.leave();
        // Nobody needs to wait for that: a file system is taken down, and files are deleted.
        drop(clients);
        setup.unmount();
        if is_forgotten {
            let _ = container.erase();
        }
        if hurries {
            places.remove_unused(&record, true);
        }
    }
}

/// Takes the container's lock, once the monitor before us has let go of it: its end is written down a little earlier.
fn take_alive(container: &Container) -> Result<Alive, Error> {
    let end = Instant::now() + LAST_ACTS;
    loop {
        if let Some(alive) = container.take_alive()? {
            return Ok(alive);
        }
        // One that goes with its end is not started again.
        let is_ending = !container.is_removed_at_end()
            && container.written_state().is_ok_and(|state| matches!(state.status, Status::Exited | Status::Created));
        if !is_ending || Instant::now() > end {
            return Err(Error::Running(container.id().clone()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
