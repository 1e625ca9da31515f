//! Further processes in the container: what `exec` asks for, and health checks. The runtime makes each and ends; then it is
//! our child, and goes on also when whoever has asked for it is gone.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use cove_container::log::Stream;
use cove_container::protocol::{self, Ended, MAX_CONTENT, Message, Refusal};
use cove_container::spec::{Further, further_process};
use cove_container::{ContainerId, Durability, Health, Status};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};

use super::{Monitor, Phase};
use crate::Error;
use crate::clients::Client;
use crate::health::{Checks, Due};
use crate::runtime::{ExecCall, Stdio3};
use crate::streams::{ConsoleSocket, Streams};

/// Who keeps a pipe of a process open after its end is not waited for longer, as with docker.
const PATIENCE: Duration = Duration::from_secs(2);

/// The status of a process that was ended with its container.
const KILLED: i32 = 137;

/// All of them.
#[derive(Default)]
pub(super) struct Execs {
    all: Vec<Exec>,
    /// Ends of processes that are not known yet: whoever ends at once may be seen to end before the runtime that has made
    /// it.
    early: Vec<(Pid, i32)>,
}

/// One of them.
struct Exec {
    id: String,
    /// Whoever watches and types.
    client: Option<Client>,
    /// Whether it is a health check.
    is_check: bool,
    /// It is to be killed as soon as it runs.
    is_unwanted: bool,
    streams: Streams,
    stage: Stage,
}

enum Stage {
    /// The runtime makes it.
    Begins(Option<(ExecCall, Option<ConsoleSocket>)>),
    Runs(Pid),
    /// It has ended with this status; its output may not be over.
    Ended(i32, Instant),
    /// It could not begin.
    Failed(Refusal),
    Over,
}

/// What of a further process can be ready.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ready {
    Client,
    Output(Stream),
    Input,
}

impl Execs {
    /// The container is over before they have said everything: whoever watches hears of the end.
    pub(super) fn leave(self) {
        for mut client in self.all.into_iter().filter_map(|exec| exec.client) {
            client.flush();
            client.say(&Message::Ended(Ended { code: KILLED }));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether the runtime makes one at the moment.
    pub(super) fn begins(&self) -> bool {
        self.all.iter().any(|exec| matches!(exec.stage, Stage::Begins(_)))
    }

    /// What there is to wait for.
    pub(super) fn sources(&self) -> impl Iterator<Item = (usize, Ready, PollFd<'_>)> {
        self.all.iter().enumerate().flat_map(|(index, exec)| {
            let mut sources = Vec::new();
            if let Some(client) = &exec.client {
                let mut wanted = PollFlags::empty();
                wanted.set(PollFlags::IN, exec.streams.takes_input() && !matches!(exec.stage, Stage::Begins(_)));
                let is_at_end = matches!(exec.stage, Stage::Ended(..));
                wanted.set(PollFlags::OUT, client.has_backlog() || is_at_end && client.keeps_the_end());
                sources.push((index, Ready::Client, PollFd::from_borrowed_fd(client.connection.as_fd(), wanted)));
            }
            let holds_up = exec.client.as_ref().is_some_and(Client::holds_up);
            // What the runtime itself writes there while it begins is said in its log, too.
            if matches!(exec.stage, Stage::Runs(_) | Stage::Ended(..)) && !holds_up {
                for (stream, file) in exec.streams.outputs() {
                    sources.push((index, Ready::Output(stream), PollFd::from_borrowed_fd(file, PollFlags::IN)));
                }
            }
            if let Some(file) = exec.streams.blocked_input() {
                sources.push((index, Ready::Input, PollFd::from_borrowed_fd(file, PollFlags::OUT)));
            }
            sources
        })
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let until = |exec: &Exec| match exec.stage {
            // Where its client is waited for longer, that wakes us.
            Stage::Ended(_, until) => Some(until).filter(|_| !exec.is_held_up()),
            _ => None,
        };
        self.all.iter().filter_map(until).min()
    }

    /// A child has ended; whether it was one of these or may become one.
    pub(super) fn child_ended(&mut self, pid: Pid, code: i32) -> bool {
        let Some(exec) = self.all.iter_mut().find(|exec| exec.is(pid)) else {
            let begins = self.begins();
            if begins {
                self.early.push((pid, code));
            }
            return begins;
        };
        if let Stage::Begins(call) = &mut exec.stage {
            exec.stage = match call.take().map(|(call, console)| exec.streams.begun(call, console, code)) {
                Some(Ok(pid)) => Stage::Runs(pid),
                Some(Err(error)) => Stage::Failed(Refusal { text: error.to_string(), code: error.exit_code() }),
                None => Stage::Over,
            };
            if matches!(exec.stage, Stage::Runs(_))
                && let Some(client) = &mut exec.client
            {
                client.say(&Message::Started);
            }
            if let Stage::Runs(pid) = exec.stage
                && exec.is_unwanted
            {
                let _ = kill_process(pid, Signal::KILL);
            }
            if let Stage::Runs(pid) = exec.stage
                && let Some((_, code)) = self.early.iter().find(|(early, _)| *early == pid)
            {
                exec.stage = Stage::Ended(*code, Instant::now() + PATIENCE);
            }
        } else {
            exec.stage = Stage::Ended(code, Instant::now() + PATIENCE);
        }
        if !self.begins() {
            self.early.clear();
        }
        true
    }

    fn kill(&mut self, id: &str) {
        let Some(exec) = self.all.iter_mut().find(|exec| exec.id == id) else { return };
        match exec.stage {
            // It is our child: until we have collected it the number is its own.
            Stage::Runs(pid) => drop(kill_process(pid, Signal::KILL)),
            Stage::Begins(_) => exec.is_unwanted = true,
            Stage::Ended(..) | Stage::Failed(_) | Stage::Over => {}
        }
    }
}

impl Exec {
    fn new(id: String, client: Option<Client>, streams: Streams, stage: Stage) -> Self {
        Self { id, client, is_check: false, is_unwanted: false, streams, stage }
    }

    /// Whether it, or the runtime that makes it, has this number.
    fn is(&self, pid: Pid) -> bool {
        match &self.stage {
            Stage::Begins(call) => call.as_ref().is_some_and(|(call, _)| call.child() == pid),
            Stage::Runs(own) => *own == pid,
            Stage::Ended(..) | Stage::Failed(_) | Stage::Over => false,
        }
    }

    /// Whether its client must hear everything and has no room for the end.
    fn is_held_up(&self) -> bool {
        self.client.as_ref().is_some_and(Client::keeps_the_end)
    }

    /// Hears what its client has said.
    fn hear(&mut self, buffer: &mut [u8]) {
        let Some(client) = &mut self.client else { return };
        client.flush();
        while !client.is_gone() && self.streams.takes_input() {
            match client.connection.try_receive(buffer) {
                Ok(Some(Message::Input(bytes))) => self.streams.input(bytes),
                Ok(Some(Message::InputEnd)) => self.streams.end_input(),
                Ok(Some(Message::Resize(rows, columns))) => self.streams.resize(rows, columns),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) => client.leave(),
            }
        }
    }
}

impl Streams {
    /// The runtime has come back.
    fn begun(&mut self, call: ExecCall, console: Option<ConsoleSocket>, code: i32) -> Result<Pid, Error> {
        let pid = call.finish(code)?;
        if let Some(console) = console {
            let size = self.size();
            *self = Self::terminal(console.terminal()?)?;
            if let Some((rows, columns)) = size {
                self.resize(rows, columns);
            }
        }
        Ok(pid)
    }
}

impl Monitor {
    /// Begins what clients have asked for. From now on they are no clients of the container.
    pub(super) fn begin_execs(&mut self) {
        while let Some(index) = self.clients.iter().position(|client| client.exec.is_some()) {
            let mut client = self.clients.remove(index);
            let Some(asked) = client.exec.take() else { continue };
            client.attached = asked.attach;
            match self.may_exec().and_then(|()| self.begin_exec(&asked)) {
                Ok((streams, stage)) => {
                    self.execs.all.push(Exec::new(asked.id, Some(client), streams, stage));
                }
                Err(error) => {
                    let _ = std::fs::remove_dir_all(self.container.exec_folder(&asked.id));
                    let code = if matches!(error, Error::Runtime { .. }) { error.exit_code() } else { 1 };
                    client.say(&Message::Refused(Refusal { text: error.to_string(), code }));
                }
            }
        }
    }

    fn may_exec(&self) -> Result<(), Error> {
        match (&self.phase, self.state.status) {
            (Phase::Running(_), Status::Paused) => {
                let text = format!("Container {} is paused, unpause the container before exec", self.container.id());
                Err(Error::Paused(text))
            }
            (Phase::Running(_), _) => Ok(()),
            _ => Err(Error::NotRunning(self.container.id().clone())),
        }
    }

    fn begin_exec(&self, asked: &protocol::Exec) -> Result<(Streams, Stage), Error> {
        self.tell(&format!("exec_create: {}", asked.words), &[("execID", &asked.id)]);
        let folder = self.container.exec_folder(&asked.id);
        let made = self.make_exec(&folder, asked);
        match &made {
            Ok(_) => self.tell(&format!("exec_start: {}", asked.words), &[("execID", &asked.id)]),
            Err(_) => drop(std::fs::remove_dir_all(&folder)),
        }
        made
    }

    fn make_exec(&self, folder: &Path, asked: &protocol::Exec) -> Result<(Streams, Stage), Error> {
        let runtime = self.setup.runtime();
        if asked.terminal {
            let console = ConsoleSocket::at(folder.join("console"))?;
            let nothing = Stdio3 { stdin: None, stdout: None, stderr: None };
            let call = runtime.exec(folder, nothing, Some(console.path()))?;
            let streams = Streams::of_size(asked.attach.and_then(|attach| attach.size));
            return Ok((streams, Stage::Begins(Some((call, Some(console))))));
        }
        let (streams, theirs) = match asked.attach {
            Some(attach) => Streams::pipes(attach.stdin)?,
            None => (Streams::default(), Stdio3 { stdin: None, stdout: None, stderr: None }),
        };
        Ok((streams, Stage::Begins(Some((runtime.exec(folder, theirs, None)?, None)))))
    }

    /// Something of a further process is ready.
    pub(super) fn exec_ready(&mut self, index: usize, ready: Ready) {
        let Some(exec) = self.execs.all.get_mut(index) else { return };
        match ready {
            Ready::Client => exec.hear(&mut self.buffer),
            Ready::Input => exec.streams.write_input(),
            Ready::Output(stream) => {
                if let Some(length) = exec.streams.read(stream, &mut self.buffer[..MAX_CONTENT]) {
                    let bytes = &self.buffer[..length];
                    if let Some(client) = &mut exec.client {
                        client.output(stream, bytes);
                    }
                    if exec.is_check
                        && let Some(checks) = &mut self.checks
                    {
                        checks.output(&exec.id, bytes);
                    }
                }
            }
        }
    }

    /// Lets go of clients that are gone, and of processes that have ended.
    pub(super) fn end_execs(&mut self) {
        let now = Instant::now();
        for exec in &mut self.execs.all {
            if exec.client.as_ref().is_some_and(Client::is_gone) {
                exec.client = None;
                exec.streams.end_input();
            }
        }
        let is_over = |exec: &mut Exec| match exec.stage {
            Stage::Ended(_, until) => (exec.streams.is_drained() || now >= until) && !exec.is_held_up(),
            Stage::Failed(_) | Stage::Over => true,
            Stage::Begins(_) | Stage::Runs(_) => false,
        };
        let over: Vec<Exec> = self.execs.all.extract_if(.., is_over).collect();
        for exec in over {
            self.exec_over(exec);
        }
    }

    fn exec_over(&mut self, mut exec: Exec) {
        let _ = std::fs::remove_dir_all(self.container.exec_folder(&exec.id));
        let (said, ended) = match exec.stage {
            Stage::Ended(code, _) => {
                self.tell("exec_die", &[("execID", &exec.id), ("exitCode", &code.to_string())]);
                (Message::Ended(Ended { code }), Ok(code))
            }
            Stage::Failed(refusal) => {
                let text = refusal.text.clone();
                (Message::Refused(refusal), Err(text))
            }
            Stage::Begins(_) | Stage::Runs(_) | Stage::Over => return,
        };
        if let Some(client) = &mut exec.client {
            client.flush();
            client.say(&said);
        }
        if exec.is_check {
            self.checked(&exec.id, ended);
        }
    }

    /// Health checks begin with the container.
    pub(super) fn begin_checks(&mut self) {
        self.checks = Checks::of(&self.record.config, Instant::now());
        self.state.health = self.checks.as_ref().map(|_| Health::starting(self.state.health.take()));
    }

    /// Nobody looks while it is paused or has ended.
    pub(super) fn stop_checks(&mut self) {
        let Some(checks) = self.checks.as_mut().filter(|checks| !checks.is_off()) else { return };
        if let Some(probe) = checks.stop() {
            self.execs.kill(&probe);
        }
        self.state.health = self.state.health.take().map(Health::not_looked_at);
    }

    /// They go on when it does.
    pub(super) fn resume_checks(&mut self) {
        if let (Some(checks), Some(health)) = (&mut self.checks, &self.state.health) {
            checks.wait(Instant::now(), health.status);
        }
    }

    /// Does what is due of the health checks.
    pub(super) fn check_health(&mut self, now: Instant) {
        let Some(checks) = &mut self.checks else { return };
        match checks.due(now) {
            Due::Nothing => {}
            Due::Kill(id) => self.execs.kill(&id),
            Due::Probe => {
                let command = checks.command.clone();
                let Ok(id) = ContainerId::random().map(|id| id.to_string()) else { return };
                checks.begin(id.clone(), now);
                if let Err(error) = self.begin_check(&id, command) {
                    self.checked(&id, Err(error.to_string()));
                }
            }
        }
    }

    fn begin_check(&mut self, id: &str, command: Vec<String>) -> Result<(), Error> {
        let Phase::Running(running) = &self.phase else { return Err(Error::NotRunning(self.container.id().clone())) };
        let root = format!("/proc/{}/root", running.started.pid.as_raw_nonzero());
        let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let root = root.map_err(Error::system("open the container's root"))?;
        let words = protocol::exec_words(&command);
        let link_environment = self.container.link_environment();
        let further = Further { command, link_environment, ..Further::default() };
        let process = further_process(&self.record, root.as_fd(), &further)?;
        self.container.describe_exec(id, &process)?;
        let attach = protocol::Attach { stdout: true, stderr: true, ..protocol::Attach::default() };
        let asked = protocol::Exec { id: id.to_owned(), words, terminal: false, attach: Some(attach) };
        let (streams, stage) = self.begin_exec(&asked)?;
        self.execs.all.push(Exec { is_check: true, ..Exec::new(asked.id, None, streams, stage) });
        Ok(())
    }

    /// A health check is over.
    fn checked(&mut self, id: &str, ended: Result<i32, String>) {
        let Some(checks) = &mut self.checks else { return };
        let Some((result, forgiven)) = checks.over(id, ended) else { return };
        let Some(health) = &mut self.state.health else { return };
        let has_changed = health.take(result, checks.retries, forgiven);
        let status = health.status;
        checks.wait(Instant::now(), status);
        // If the disk is full, `ps` tells what was before.
        let _ = self.container.write_state(&self.state, Durability::Passing);
        if has_changed {
            self.tell(&format!("health_status: {}", status.as_str()), &[]);
        }
    }
}
