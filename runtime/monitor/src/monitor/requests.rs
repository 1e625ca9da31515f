//! What clients ask for: they watch and type, wait, stop, signal and pause.

use std::time::{Duration, Instant};

use cove_container::protocol::{Message, Refusal, Stop};
use cove_container::{Durability, Status};
use rustix::process::Signal;

use super::{Monitor, Phase};
use crate::Error;
use crate::clients::Awaited;

impl Monitor {
    /// Hears what a client has said.
    pub(super) fn hear(&mut self, index: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            let takes_input = self.streams().is_none_or(|streams| streams.takes_input());
            let Some(client) = self.clients.get_mut(index).filter(|client| !client.is_gone()) else { break };
            // The rest is for its process.
            if client.exec.is_some() {
                break;
            }
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
            Message::Exec(exec) => {
                self.clients[index].exec = Some(exec);
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
                self.tell("resize", &[("height", &rows.to_string()), ("width", &columns.to_string())]);
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
            Message::Pause => {
                self.clients[index].asks_pause = true;
                return;
            }
            Message::Unpause => self.pause(false),
            Message::Reload => self.reload(),
            // What only monitors say, and what comes before there is one.
            Message::Begin(_)
            | Message::Warning(_)
            | Message::Started
            | Message::Output(_)
            | Message::ErrorOutput(_)
            | Message::Ended(_)
            | Message::Done
            | Message::Refused(_) => return self.clients[index].leave(),
        };
        self.answer_client(index, answer);
    }

    fn answer_client(&mut self, index: usize, answer: Result<(), Error>) {
        match answer {
            Ok(()) => self.clients[index].say(&Message::Done),
            Err(error) => {
                let refusal = Refusal { text: error.to_string(), code: 1 };
                self.clients[index].say(&Message::Refused(refusal));
            }
        }
    }

    /// Pauses for whoever has asked for it, unless a process is just being made: the runtime would wait for the frozen cgroup,
    /// and whoever asked for the process for both.
    pub(super) fn pause_if_asked(&mut self) {
        while !self.execs.begins()
            && let Some(index) = self.clients.iter().position(|client| client.asks_pause)
        {
            self.clients[index].asks_pause = false;
            let answer = self.pause(true);
            self.answer_client(index, answer);
        }
    }

    /// The record has changed: its name, its limits or its links.
    fn reload(&mut self) -> Result<(), Error> {
        let record = self.container.record()?;
        if record.name != self.record.name {
            self.setup.rename(&record.name)?;
        }
        self.record = record;
        Ok(())
    }

    pub(super) fn kill(&mut self, signal: Signal) {
        if let Phase::Running(running) = &mut self.phase {
            running.is_killed |= signal == Signal::KILL;
            // It is our child: until we have collected it the number is its own.
            let _ = rustix::process::kill_process(running.started.pid, signal);
            self.tell("kill", &[("signal", &signal.as_raw().to_string())]);
        }
    }

    /// Ends it: by a signal first, by SIGKILL later.
    pub(super) fn stop(&mut self, stop: &Stop) {
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
    pub(super) fn thaw(&mut self) {
        if self.state.status == Status::Paused && self.setup.resume().is_ok() {
            self.state.status = Status::Running;
            self.resume_checks();
            let _ = self.container.write_state(&self.state, Durability::Passing);
        }
    }

    fn pause(&mut self, pause: bool) -> Result<(), Error> {
        let id = self.container.id();
        match &self.phase {
            Phase::Running(running) if !(pause && running.is_killed) => {}
            _ => return Err(Error::NotRunning(id.clone())),
        }
        match (pause, self.state.status == Status::Paused) {
            _ if cove_launcher::is_rootless() => {
                let text =
                    "an ordinary user has no cgroup here that could be frozen\nrun it as root, or stop the container";
                return Err(Error::Paused(format!("Cannot pause container {id}: {text}")));
            }
            (true, true) => return Err(Error::Paused(format!("Container {id} is already paused"))),
            (false, false) => return Err(Error::Paused(format!("Container {id} is not paused"))),
            (true, false) => {
                // What stands still cannot be killed at once.
                self.stop_checks();
                if let Err(error) = self.setup.pause() {
                    self.resume_checks();
                    return Err(error);
                }
            }
            (false, true) => {
                self.setup.resume()?;
                self.resume_checks();
            }
        }
        self.tell(if pause { "pause" } else { "unpause" }, &[]);
        self.state.status = if pause { Status::Paused } else { Status::Running };
        Ok(self.container.write_state(&self.state, Durability::Passing)?)
    }
}
