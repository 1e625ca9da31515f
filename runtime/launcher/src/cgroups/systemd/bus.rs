//! The calls to systemd, over the socket of a D-Bus.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::message::{self, Call, Kind, Message, PREAMBLE, Value, Writer};
use crate::cgroups::error::words;

/// The socket of the system's bus.
const SYSTEM: &str = "/run/dbus/system_bus_socket";
/// How long systemd may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: Call<'static> = Call {
    destination: SYSTEMD,
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "",
    signature: "",
};
const BUS: Call<'static> = Call {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "",
    signature: "",
};
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// What systemd or the way to it has against a call.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The bus cannot be reached.
    #[error(
        "unable to connect to D-Bus: dial unix {}: {}\nis systemd running? without it, leave `--systemd-cgroup` out",
        path.display(), words(source)
    )]
    Connect {
        /// Its socket.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Nothing says where the user's bus is.
    #[error(
        "unable to connect to D-Bus: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR names a socket\n\
         log in with a session of systemd (`loginctl enable-linger`), or leave `--systemd-cgroup` out"
    )]
    NoAddress,
    /// The bus does not let us in.
    #[error("unable to connect to D-Bus: authentication failed: {0}")]
    Rejected(String),
    /// Reading or writing failed.
    #[error("unable to talk to D-Bus: {}", words(.0))]
    Io(#[from] io::Error),
    /// A message that is none.
    #[error("unable to talk to D-Bus: a message cannot be read: {0}")]
    Message(&'static str),
    /// systemd refuses.
    #[error("{call} {unit}: {text} ({name})")]
    Refused {
        /// The method.
        call: &'static str,
        /// The unit.
        unit: String,
        /// The name of the error.
        name: String,
        /// What systemd says.
        text: String,
    },
    /// The job for a unit did not succeed.
    #[error("{call} {unit}: the job ended with `{result}`\n`systemctl status {unit}` and the journal tell more")]
    Job {
        /// The method.
        call: &'static str,
        /// The unit.
        unit: String,
        /// systemd's word for it.
        result: String,
    },
    /// Nothing came for half a minute.
    #[error("Timeout waiting for systemd to answer {0}")]
    Timeout(&'static str),
}

/// A connection.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
    /// Jobs that are done, with their results: they may be so before we know that they are ours.
    jobs: Vec<(String, String)>,
}

impl Bus {
    /// Connects to the system's bus or to the user's.
    pub(super) fn connect(user: bool, socket: Option<&Path>) -> Result<Bus, BusError> {
        let path = match socket {
            Some(path) => path.to_owned(),
            None if user => user_socket(|name| std::env::var(name).ok()).ok_or(BusError::NoAddress)?,
            None => PathBuf::from(SYSTEM),
        };
        let stream = UnixStream::connect(&path).map_err(|source| BusError::Connect { path, source })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut bus = Bus { stream, serial: 0, jobs: Vec::new() };
        bus.authenticate()?;
        bus.call("Hello", &BUS, "", "", Writer::default())?;
        Ok(bus)
    }

    /// Lets the bus look at who is on the other end of the socket. Our own id would be wrong in a user namespace.
    fn authenticate(&mut self) -> Result<(), BusError> {
        self.stream.write_all(b"\0AUTH EXTERNAL\r\n")?;
        let asked = self.line()?;
        if !asked.starts_with("DATA") {
            return Err(BusError::Rejected(asked));
        }
        self.stream.write_all(b"DATA\r\n")?;
        let answer = self.line()?;
        if !answer.starts_with("OK") {
            return Err(BusError::Rejected(answer));
        }
        Ok(self.stream.write_all(b"BEGIN\r\n")?)
    }

    fn line(&mut self) -> Result<String, BusError> {
        let mut line = Vec::new();
        // Nothing may be read of what follows.
        while !line.ends_with(b"\r\n") && line.len() < 4096 {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            line.extend(byte);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// The cgroup of systemd itself.
    pub(super) fn control_group(&mut self) -> Result<String, BusError> {
        let properties = Call { interface: "org.freedesktop.DBus.Properties", ..MANAGER };
        let mut body = Writer::default();
        body.text(MANAGER.interface);
        body.text("ControlGroup");
        let answer = self.call("Get", &properties, "ss", "ControlGroup", body)?;
        let mut reader = answer.reader();
        match reader.signature()?.as_str() {
            "s" => reader.text(),
            _ => Err(BusError::Message("the property has another type")),
        }
    }

    /// Starts a unit and waits until it has begun.
    pub(super) fn start_transient_unit(
        &mut self,
        unit: &str,
        properties: &[(&'static str, Value)],
    ) -> Result<(), BusError> {
        self.watch_jobs()?;
        let mut body = Writer::default();
        body.text(unit);
        body.text("replace");
        body.properties(properties);
        body.no_units();
        self.job("StartTransientUnit", "ssa(sv)a(sa(sv))", unit, body)
    }

    /// Stops a unit and waits until it has ended. One that is not there has.
    pub(super) fn stop_unit(&mut self, unit: &str) -> Result<(), BusError> {
        self.watch_jobs()?;
        let mut body = Writer::default();
        body.text(unit);
        body.text("replace");
        let stopped = match self.job("StopUnit", "ss", unit, body) {
            Err(BusError::Refused { name, .. }) if name == NO_SUCH_UNIT => Ok(()),
            result => result,
        };
        // A unit that failed stays, and would be in the way of the next one of its name.
        let mut body = Writer::default();
        body.text(unit);
        let reset = self.call("ResetFailedUnit", &MANAGER, "s", unit, body);
        match (stopped, reset) {
            (Err(error), _) => Err(error),
            (Ok(()), Ok(_) | Err(BusError::Refused { .. })) => Ok(()),
            (Ok(()), Err(error)) => Err(error),
        }
    }

    /// Changes properties of a unit, until the next start of the machine.
    pub(super) fn set_unit_properties(
        &mut self,
        unit: &str,
        properties: &[(&'static str, Value)],
    ) -> Result<(), BusError> {
        let mut body = Writer::default();
        body.text(unit);
        body.flag(true);
        body.properties(properties);
        self.call("SetUnitProperties", &MANAGER, "sba(sv)", unit, body).map(drop)
    }

    /// systemd tells of the ends of jobs to those who ask it to.
    fn watch_jobs(&mut self) -> Result<(), BusError> {
        let mut rule = Writer::default();
        rule.text("type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'");
        self.call("AddMatch", &BUS, "s", "", rule)?;
        match self.call("Subscribe", &MANAGER, "", "", Writer::default()) {
            // Somebody else on this connection has asked already, says an old systemd.
            Ok(_) | Err(BusError::Refused { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes a call that begins a job, and waits for its end.
    fn job(&mut self, call: &'static str, signature: &str, unit: &str, body: Writer) -> Result<(), BusError> {
        let job = self.call(call, &MANAGER, signature, unit, body)?.reader().text()?;
        let begun = Instant::now();
        loop {
            if let Some((_, result)) = self.jobs.iter().find(|(done, _)| *done == job) {
                return match result.as_str() {
                    "done" => Ok(()),
                    result => Err(BusError::Job { call, unit: unit.to_owned(), result: result.to_owned() }),
                };
            }
            if begun.elapsed() > PATIENCE {
                return Err(BusError::Timeout(call));
            }
            self.receive(call)?;
        }
    }

    fn call(
        &mut self,
        member: &'static str,
        to: &Call<'static>,
        signature: &str,
        unit: &str,
        body: Writer,
    ) -> Result<Message, BusError> {
        self.serial += 1;
        let bytes = message::call(&Call { member, signature, ..*to }, self.serial, body);
        self.stream.write_all(&bytes)?;
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let Some(message) = self.receive(member)? else { continue };
            if message.reply_to != self.serial {
                continue;
            }
            if message.kind == Kind::Error {
                let text = if message.signature.starts_with('s') { message.reader().text()? } else { String::new() };
                return Err(BusError::Refused { call: member, unit: unit.to_owned(), name: message.error, text });
            }
            return Ok(message);
        }
        Err(BusError::Timeout(member))
    }

    /// Receives a message. Ends of jobs are kept, and are `None`.
    fn receive(&mut self, call: &'static str) -> Result<Option<Message>, BusError> {
        let mut preamble = [0; PREAMBLE];
        let mut read = |bytes: &mut [u8]| match self.stream.read_exact(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(BusError::Timeout(call)),
            result => Ok(result?),
        };
        read(&mut preamble)?;
        let mut bytes = vec![0; message::whole_length(&preamble)?.max(PREAMBLE)];
        bytes[..PREAMBLE].copy_from_slice(&preamble);
        read(&mut bytes[PREAMBLE..])?;
        let message = Message::parse(bytes)?;
        if message.kind == Kind::Signal && message.member == "JobRemoved" && message.signature == "uoss" {
            let mut reader = message.reader();
            reader.number()?;
            let (job, _unit, result) = (reader.text()?, reader.text()?, reader.text()?);
            self.jobs.push((job, result));
            return Ok(None);
        }
        Ok(Some(message))
    }
}

/// The socket of the user's bus, from the environment.
pub(super) fn user_socket(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let address = variable("DBUS_SESSION_BUS_ADDRESS").unwrap_or_default();
    for one in address.split(';') {
        let keys = one.strip_prefix("unix:").unwrap_or_default().split(',');
        if let Some(path) = keys.filter_map(|key| key.strip_prefix("path=")).next() {
            return Some(PathBuf::from(path));
        }
    }
    variable("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()).map(|folder| Path::new(&folder).join("bus"))
}
