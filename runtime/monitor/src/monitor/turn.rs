//! The loop: it waits for what happens first, a client, output, the end of a process or of a delay.

use std::time::Instant;

use cove_container::log::Stream;
use cove_container::protocol::{MAX_CONTENT, Stop};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, WaitOptions};

use super::execs::Ready;
use super::{Monitor, Phase};
use crate::Error;
use crate::clients::{Awaited, Client};
use crate::health::Checks;
use crate::streams::Streams;

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
    Exec(usize, Ready),
}

impl Monitor {
    /// Waits for something and deals with it.
    pub(super) fn turn(&mut self) -> Result<(), Error> {
        for source in self.wait()? {
            match source {
                Source::Signals => self.signal()?,
                Source::Listener => self.clients.extend(self.listener.accept().map(Client::new)),
                Source::Client(index) => {
                    self.clients[index].flush();
                    self.hear(index);
                }
                Source::Output(stream) => self.output(stream),
                Source::Questions => self.answer(),
                Source::Port(index) => self.setup.network().begin_to_pass_on(index),
                Source::Exec(index, ready) => self.exec_ready(index, ready),
                Source::Input => {
                    if let Some(streams) = self.streams() {
                        streams.write_input();
                    }
                }
            }
        }
        self.pause_if_asked();
        self.begin_execs();
        self.forget_the_gone();
        self.deadlines()?;
        self.end_execs();
        if let Phase::Draining { streams, until, .. } = &self.phase {
            let late = Instant::now() >= *until;
            let is_drained = streams.is_drained() && self.execs.is_empty();
            if (is_drained && !self.clients.iter().any(Client::keeps_the_end)) || (late && !self.is_held_up()) {
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
            let is_at_end = matches!(self.phase, Phase::Draining { .. });
            wanted.set(PollFlags::OUT, client.has_backlog() || is_at_end && client.keeps_the_end());
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
        for (index, ready, file) in self.execs.sources() {
            sources.push(Source::Exec(index, ready));
            files.push(file);
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

    /// Whether the end waits for a client however late it is: who reads slowly gets everything, unless somebody waits for the
    /// end that they hold up.
    fn is_held_up(&self) -> bool {
        let is_awaited = self.clients.iter().any(|client| client.waits_for == Some(Awaited::Stopped));
        !is_awaited && self.clients.iter().any(Client::keeps_the_end)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let own = match &self.phase {
            Phase::Running(running) => running.kill_at,
            // Where a client is waited for longer, it wakes us.
            Phase::Draining { until, .. } => Some(*until).filter(|_| !self.is_held_up()),
            Phase::Waiting(until) => Some(*until),
            Phase::Over => None,
        };
        let questions = self.setup.network_ref().questions().and_then(|(_, deadline)| deadline);
        let checks = self.checks.as_ref().and_then(Checks::deadline);
        own.into_iter().chain(questions).chain(self.execs.deadline()).chain(checks).min()
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
        self.check_health(now);
        match &mut self.phase {
            Phase::Running(running) if running.kill_at.is_some_and(|at| at <= now) => {
                running.kill_at = None;
                self.kill(Signal::KILL);
                // It may have been paused meanwhile.
                self.thaw();
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
}
