//! The loop: it waits for what happens first, a client, output, the end of a process or of a delay.

use std::path::Path;
use std::time::{Duration, Instant};

use cove_container::cgroups::oom_kills;
use cove_container::events::{Event, Events};
use cove_container::log::{Log, Stream};
use cove_container::protocol::{Connection, Ended, MAX_CONTENT, Message, Refusal, Stop};
use cove_container::{Alive, Container, Containers, Durability, Record, State, Status, Volumes, boot_id};
use cove_launcher::Signals;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};
use time::OffsetDateTime;

use crate::Error;
use crate::clients::{Awaited, Client};
use crate::listener::Listener;
use crate::network::Places;
use crate::restart::Restarts;
use crate::setup::{Setup, Started};
use crate::streams::Streams;

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
}

/// What can be ready.
#[derive(Debug, Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Client(usize),
    Output(Stream),
    Input,
    Questions,
    Port(usize),
}

impl Monitor {
    /// Takes the container's lock, and everything that it needs for life.
    pub(crate) fn new(places: &Places<'_>, container: Container) -> Result<Self, Error> {
        container.make_run_folder()?;
        let alive = container.take_alive()?.ok_or_else(|| Error::Running(container.id().clone()))?;
        let signals = Signals::hold().map_err(|error| Error::Runtime { text: error.to_string(), code: 125 })?;
        let record = container.record()?;
        let before = container.written_state()?;
        let listener = Listener::at(&container.socket())?;
        let log = crate::setup::open_log(&container, &record)?;
        let setup = Setup::new(places, &container, &record)?;
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
            ends_for_good: false,
            buffer: vec![0; MAX_CONTENT + 1],
        })
    }

    /// Starts the container and stays until it has ended for good.
    pub(crate) fn run(mut self, root: &Path, run: &Path, starter: Connection) -> Result<(), Error> {
        self.clients.push(Client::new(starter));
        // Whoever starts it has said first what they want to see: nothing of the output may be lost. What else they have
        // said waits until there is a process.
        self.hear(0, 1);
        self.state.restart_count = 0;
        if let Err(error) = self.start() {
            let refusal = Refusal { text: error.to_string(), code: error.exit_code() };
            self.state.exit_code = i32::from(refusal.code);
            self.state.error.clone_from(&refusal.text);
            self.leave(root, run, Some(&refusal));
            return Err(error);
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
        let started = self.setup.start(&self.container, &self.record, size)?;
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
            self.setup.clean_up();
            return Err(error);
        }
        self.phase = Phase::Running(Running { started, since: Instant::now(), kill_at: None });
        self.tell("start", &[]);
        Ok(())
    }

    /// Writes down what has happened, for `events`.
    fn tell(&self, action: &str, more: &[(&str, &str)]) {
        self.events.tell(&Event::of_container(&self.record, action, more));
    }

    /// Waits for something and deals with it.
    fn turn(&mut self) -> Result<(), Error> {
        for source in self.wait()? {
            match source {
                Source::Signals => self.signal()?,
                Source::Listener => self.clients.extend(self.listener.accept().map(Client::new)),
                Source::Client(index) => {
                    self.clients[index].flush();
                    self.hear(index, usize::MAX);
                }
                Source::Output(stream) => self.output(stream),
                Source::Questions => self.answer(),
                Source::Port(index) => self.setup.network().begin_to_pass_on(index),
                Source::Input => {
                    if let Some(streams) = self.streams() {
                        streams.write_input();
                    }
                }
            }
        }
        self.forget_the_gone();
        self.deadlines()?;
        if let Phase::Draining { streams, until, .. } = &self.phase {
            let late = Instant::now() >= *until;
            if (streams.is_drained() || late) && !self.clients.iter().any(Client::holds_up) {
                self.ended();
            }
        }
        Ok(())
    }

    fn wait(&self) -> Result<Vec<Source>, Error> {
        use std::os::fd::AsFd;
        let mut sources = vec![Source::Signals, Source::Listener];
        let mut files = vec![
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN),
        ];
        let streams = match &self.phase {
            Phase::Running(running) => Some(&running.started.streams),
            Phase::Draining { streams, .. } => Some(streams),
            Phase::Waiting(_) | Phase::Over => None,
        };
        let takes_input = streams.is_none_or(Streams::takes_input);
        for (index, client) in self.clients.iter().enumerate() {
            let mut wanted = PollFlags::empty();
            wanted.set(PollFlags::IN, takes_input || !client.attached.is_some_and(|attached| attached.stdin));
            wanted.set(PollFlags::OUT, client.has_backlog());
            sources.push(Source::Client(index));
            files.push(PollFd::from_borrowed_fd(client.connection.as_fd(), wanted));
        }
        if let Some(streams) = streams {
            if !self.clients.iter().any(Client::holds_up) {
                for (stream, file) in streams.outputs() {
                    sources.push(Source::Output(stream));
                    files.push(PollFd::from_borrowed_fd(file, PollFlags::IN));
                }
            }
            if let Some(file) = streams.blocked_input() {
                sources.push(Source::Input);
                files.push(PollFd::from_borrowed_fd(file, PollFlags::OUT));
            }
        }
        let network = self.setup.network_ref();
        if let Some((file, _)) = network.questions() {
            sources.push(Source::Questions);
            files.push(PollFd::from_borrowed_fd(file, PollFlags::IN));
        }
        for (index, file) in network.idle_ports() {
            sources.push(Source::Port(index));
            files.push(PollFd::from_borrowed_fd(file, PollFlags::IN));
        }
        let timeout = self.next_deadline().map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
        });
        match poll(&mut files, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Error::system("wait")(error)),
        }
        let ready = sources.iter().zip(&files).filter(|(_, file)| !file.revents().is_empty());
        Ok(ready.map(|(source, _)| *source).collect())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let own = match &self.phase {
            Phase::Running(running) => running.kill_at,
            Phase::Draining { until, .. } => Some(*until),
            Phase::Waiting(until) => Some(*until),
            Phase::Over => None,
        };
        let questions = self.setup.network_ref().questions().and_then(|(_, deadline)| deadline);
        own.into_iter().chain(questions).min()
    }

    fn answer(&mut self) {
        if let Some(resolver) = self.setup.network().resolver() {
            resolver.ready();
        }
    }

    fn deadlines(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if self.setup.network_ref().questions().and_then(|(_, deadline)| deadline).is_some_and(|at| at <= now) {
            self.answer();
        }
        match &mut self.phase {
            Phase::Running(running) if running.kill_at.is_some_and(|at| at <= now) => {
                running.kill_at = None;
                self.kill(Signal::KILL);
            }
            Phase::Waiting(until) if *until <= now => {
                self.state.restart_count += 1;
                if let Err(error) = self.start() {
                    self.state.exit_code = i32::from(error.exit_code());
                    self.state.error = error.to_string();
                    self.phase = Phase::Over;
                }
            }
            Phase::Running(_) | Phase::Draining { .. } | Phase::Waiting(_) | Phase::Over => {}
        }
        Ok(())
    }

    fn streams(&mut self) -> Option<&mut Streams> {
        match &mut self.phase {
            Phase::Running(running) => Some(&mut running.started.streams),
            Phase::Draining { streams, .. } => Some(streams),
            Phase::Waiting(_) | Phase::Over => None,
        }
    }

    /// One piece of output goes into the log and to whoever watches.
    fn output(&mut self, stream: Stream) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = self.streams().and_then(|streams| streams.read(stream, &mut buffer[..MAX_CONTENT]));
        if let Some(length) = read {
            if let Some(log) = &mut self.log {
                log.write(stream, &buffer[..length]);
            }
            for client in &mut self.clients {
                client.output(stream, &buffer[..length]);
            }
        }
        self.buffer = buffer;
    }

    /// A signal to the monitor itself: a child has ended, or the machine goes down.
    fn signal(&mut self) -> Result<(), Error> {
        let number = self.signals.next().map_err(Error::system("read a signal"))?;
        if number == libc::SIGTERM || number == libc::SIGINT {
            let seconds = self.record.config.stop_timeout.and_then(|seconds| u32::try_from(seconds).ok());
            self.stop(&Stop { signal: self.stop_signal(), seconds: Some(seconds.unwrap_or(10)) });
        }
        // Whatever the signal was: several ends may be told of by one.
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let signal = status.terminating_signal().map(|signal| 128 + signal);
                    self.child_ended(pid, status.exit_status().or(signal).unwrap_or(255));
                }
                Ok(None) | Err(Errno::CHILD) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::system("wait for a process")(error)),
            }
        }
    }

    fn stop_signal(&self) -> i32 {
        let name = &self.record.config.stop_signal;
        cove_launcher::signal(name).map_or(libc::SIGTERM, Signal::as_raw)
    }

    fn child_ended(&mut self, pid: Pid, code: i32) {
        self.setup.network().process_ended(pid);
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Running(running) if running.started.pid == pid => {
                // Before its cgroup goes.
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
        self.setup.clean_up();
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
        if self.container.is_removed_at_end() {
            self.tell_the_end(code, |client| client.waits_for == Some(Awaited::End));
            self.setup.unmount();
            // Whoever hears that it could not be started holds the lock until then.
            let lock = if refusal.is_some() { Ok(None) } else { self.container.lock_exclusive().map(Some) };
            let containers = Containers::new(root, run);
            if lock.is_ok() && containers.remove(&self.container).is_ok() {
                self.tell("destroy", &[]);
                // As `rm -v`: what cannot be removed is for `volume prune`.
                let _ = Volumes::new(root).remove_anonymous(&self.record, &containers);
            }
        }
        // Before anybody hears of the end: they may start it again at once.
        let Self { alive, mut clients, .. } = self;
        drop(alive);
        for client in &mut clients {
            client.flush();
            match (refusal, client.waits_for) {
                (Some(refusal), _) => client.say(&Message::Refused(refusal.clone())),
                (None, Some(Awaited::Stopped)) => client.say(&Message::Done),
                (None, _) => client.say(&Message::Ended(Ended { code })),
            }
        }
    }

    fn forget_the_gone(&mut self) {
        let mut input_is_over = false;
        let stdin_once = self.record.config.stdin_once;
        self.clients.retain(|client| {
            let typed = client.attached.is_some_and(|attached| attached.stdin);
            input_is_over |= client.is_gone() && typed && stdin_once;
            !client.is_gone()
        });
        if input_is_over && let Some(streams) = self.streams() {
            streams.end_input();
        }
    }

    /// Hears what a client has said, as many messages at most.
    fn hear(&mut self, index: usize, most: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for _ in 0..most {
            let takes_input = self.streams().is_none_or(|streams| streams.takes_input());
            let Some(client) = self.clients.get_mut(index).filter(|client| !client.is_gone()) else { break };
            if !takes_input && client.attached.is_some_and(|attached| attached.stdin) {
                break;
            }
            match client.connection.try_receive(&mut buffer) {
                Ok(Some(message)) => self.heard(index, message),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Ok(None) | Err(_) => client.leave(),
            }
        }
        self.buffer = buffer;
    }

    fn heard(&mut self, index: usize, message: Message<'_>) {
        let answer = match message {
            Message::Attach(attach) => {
                self.clients[index].attached = Some(attach);
                if let (Some((rows, columns)), Some(streams)) = (attach.size, self.streams()) {
                    streams.resize(rows, columns);
                }
                return;
            }
            Message::Input(bytes) => {
                if let Some(streams) = self.streams() {
                    streams.input(bytes);
                }
                return;
            }
            Message::InputEnd => {
                if self.record.config.stdin_once
                    && let Some(streams) = self.streams()
                {
                    streams.end_input();
                }
                return;
            }
            Message::Resize(rows, columns) => {
                if let Some(streams) = self.streams() {
                    streams.resize(rows, columns);
                }
                return;
            }
            Message::Wait => {
                self.clients[index].waits_for = Some(Awaited::End);
                return;
            }
            Message::Stop(stop) => {
                self.clients[index].waits_for = Some(Awaited::Stopped);
                self.state.stopped_by_user = true;
                return self.stop(&stop);
            }
            Message::Signal(number) => self.signal_asked(number),
            Message::Pause => self.pause(true),
            Message::Unpause => self.pause(false),
            Message::Reload => self.container.record().map(|record| self.record = record).map_err(Error::from),
            // What only monitors say.
            Message::Started
            | Message::Output(_)
            | Message::ErrorOutput(_)
            | Message::Ended(_)
            | Message::Done
            | Message::Refused(_) => return self.clients[index].leave(),
        };
        match answer {
            Ok(()) => self.clients[index].say(&Message::Done),
            Err(error) => {
                let refusal = Refusal { text: error.to_string(), code: 1 };
                self.clients[index].say(&Message::Refused(refusal));
            }
        }
    }

    fn kill(&mut self, signal: Signal) {
        if let Phase::Running(running) = &self.phase {
            // It is our child: until we have collected it the number is its own.
            let _ = rustix::process::kill_process(running.started.pid, signal);
            self.tell("kill", &[("signal", &signal.as_raw().to_string())]);
        }
    }

    /// Ends it: by a signal first, by SIGKILL later.
    fn stop(&mut self, stop: &Stop) {
        self.ends_for_good = true;
        match &mut self.phase {
            Phase::Running(running) => {
                // Behind SIGKILL another one changes nothing, but would be told of.
                let seconds = stop.seconds.filter(|_| stop.signal != libc::SIGKILL);
                running.kill_at = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
                if let Some(signal) = cove_launcher::signal(&stop.signal.to_string()) {
                    self.kill(signal);
                }
                self.thaw();
            }
            Phase::Waiting(_) => self.phase = Phase::Over,
            Phase::Draining { .. } | Phase::Over => {}
        }
    }

    /// `kill`, and what `--sig-proxy` passes on. Docker takes every signal for the wish to end it, unless it has a stop
    /// signal of its own.
    fn signal_asked(&mut self, number: i32) -> Result<(), Error> {
        let signal = cove_launcher::signal(&number.to_string());
        let (Phase::Running(_), Some(signal)) = (&self.phase, signal) else {
            return Err(Error::NotRunning(self.container.id().clone()));
        };
        let is_end = self.record.config.stop_signal.is_empty()
            || signal == Signal::KILL
            || signal.as_raw() == self.stop_signal();
        self.ends_for_good |= is_end;
        self.state.stopped_by_user = true;
        self.kill(signal);
        if is_end {
            self.thaw();
        }
        Ok(())
    }

    /// Processes that stand still hear no signal.
    fn thaw(&mut self) {
        if self.state.status == Status::Paused && self.setup.resume().is_ok() {
            self.state.status = Status::Running;
            let _ = self.container.write_state(&self.state, Durability::Passing);
        }
    }

    fn pause(&mut self, pause: bool) -> Result<(), Error> {
        let id = self.container.id();
        if !matches!(self.phase, Phase::Running(_)) {
            return Err(Error::NotRunning(id.clone()));
        }
        match (pause, self.state.status == Status::Paused) {
            (true, true) => return Err(Error::Paused(format!("Container {id} is already paused"))),
            (false, false) => return Err(Error::Paused(format!("Container {id} is not paused"))),
            (true, false) => self.setup.pause()?,
            (false, true) => self.setup.resume()?,
        }
        self.tell(if pause { "pause" } else { "unpause" }, &[]);
        self.state.status = if pause { Status::Paused } else { Status::Running };
        Ok(self.container.write_state(&self.state, Durability::Passing)?)
    }
}
