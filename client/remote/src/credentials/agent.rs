//! Credential helpers for a process inside a user namespace.
//!
//! Without root, `cove` works inside a user namespace, where it is root of its own store. Helpers must not: they look
//! for a user's keyring, D-Bus session or files, and would see another user id. So the outer process makes a pair of
//! connected sockets, keeps one end and serves it ([`AgentServer`]), and lets the inner process inherit the other,
//! whose descriptor [`AGENT_VARIABLE`] names. Nothing else can connect: the socket has no name.
//!
//! Protocol: a request and an answer in turn, each a length (four bytes, big endian, at most 1 MiB) and that much JSON:
//! `{"helper":"pass","verb":"get","input":"hub.example.com"}`, answered by `{"succeeded":true,"output":"…"}` or
//! `{"missing":"…"}` where the program cannot be run, `{"silent_for":120}` where it does not end. The other end closes when it has no more to ask.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::CredentialError;
use super::helper::{ANSWER_LIMIT, Answer, HelperName, Here, Runner, Verb};

/// Names the descriptor of the agent's socket: a number, as in `COVE_CREDENTIAL_AGENT=3`.
pub const AGENT_VARIABLE: &str = "COVE_CREDENTIAL_AGENT";

#[derive(Serialize, Deserialize)]
struct Request {
    helper: String,
    verb: Verb,
    input: String,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Reply {
    Ended(Answer),
    Missing { missing: String },
    Silent { silent_for: u64 },
}

/// The outer process's end.
pub struct AgentServer {
    socket: UnixStream,
    helpers: Here,
}

impl AgentServer {
    /// Makes the pair. The second part is for the inner process: it is inherited by programs that this process
    /// starts until it is dropped, so drop it as soon as the inner process runs, else [`AgentServer::serve`] does
    /// not see its end.
    pub fn new() -> io::Result<(Self, OwnedFd)> {
        let (outer, inner) = UnixStream::pair()?;
        let inner = OwnedFd::from(inner);
        let flags = fcntl_getfd(&inner)?;
        fcntl_setfd(&inner, flags.difference(FdFlags::CLOEXEC))?;
        Ok((AgentServer { socket: outer, helpers: Here::default() }, inner))
    }

    /// Looks for helpers in these folders, written as `PATH` is, instead of in `PATH`.
    #[must_use]
    pub fn searching(mut self, folders: OsString) -> Self {
        self.helpers.search = Some(folders);
        self
    }

    /// Runs helpers for the other end until it closes.
    pub fn serve(mut self) -> io::Result<()> {
        while let Some(request) = receive::<Request>(&mut self.socket)? {
            let ran = HelperName::parse(&request.helper)
                .and_then(|helper| self.helpers.run(&helper, request.verb, &request.input));
            let reply = match ran {
                Ok(answer) => Reply::Ended(answer),
                Err(CredentialError::HelperMissing { source, .. }) => Reply::Missing { missing: source.to_string() },
                Err(CredentialError::HelperSilent { seconds, .. }) => Reply::Silent { silent_for: seconds },
                Err(error) => Reply::Missing { missing: error.to_string() },
            };
            send(&mut self.socket, &reply)?;
        }
        Ok(())
    }
}

/// The inner process's end: runs helpers through the outer process.
pub struct Agent {
    // One request at a time; whoever asks waits for its answer.
    socket: Mutex<UnixStream>,
}

impl Agent {
    /// Talks to the server at the other end of this socket.
    pub fn new(socket: UnixStream) -> Self {
        Agent { socket: Mutex::new(socket) }
    }

    /// The agent whose socket this process inherited, if [`AGENT_VARIABLE`] names one.
    pub(super) fn of_this_process() -> Result<Option<Arc<Self>>, CredentialError> {
        static AGENT: OnceLock<Option<Arc<Agent>>> = OnceLock::new();
        if let Some(agent) = AGENT.get() {
            return Ok(agent.clone());
        }
        let Some(value) = std::env::var_os(AGENT_VARIABLE) else { return Ok(None) };
        let bad = || CredentialError::Agent(io::Error::other(format!("{AGENT_VARIABLE} does not name a socket")));
        let number: i32 =
            value.to_str().and_then(|value| value.parse().ok()).filter(|number| *number > 2).ok_or_else(bad)?;
        let kind = std::fs::read_link(format!("/proc/self/fd/{number}")).map_err(|_| bad())?;
        if !kind.to_string_lossy().starts_with("socket:") {
            return Err(bad());
        }
        Ok(AGENT.get_or_init(|| Some(Arc::new(Agent::new(inherited(number))))).clone())
    }
}

/// Takes over the descriptor.
#[allow(unsafe_code)]
fn inherited(number: i32) -> UnixStream {
    // SAFETY: the variable is the outer process's word that it left this socket open for us and for nobody else; it
    // was just seen to be an open socket. It is taken once in the life of this process (a `OnceLock`), so it has one
    // owner. This is the other half of entering a user namespace, where DESIGN permits `unsafe`: no safe function
    // adopts a descriptor that was inherited under a number.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    // Programs that we start have no business with it.
    let _ = fcntl_getfd(&socket).and_then(|flags| fcntl_setfd(&socket, flags.union(FdFlags::CLOEXEC)));
    UnixStream::from(socket)
}

impl Runner for Agent {
    fn run(&self, helper: &HelperName, verb: Verb, input: &str) -> Result<Answer, CredentialError> {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let request = Request { helper: helper.as_str().to_owned(), verb, input: input.to_owned() };
        send(&mut socket, &request).map_err(CredentialError::Agent)?;
        match receive::<Reply>(&mut socket).map_err(CredentialError::Agent)? {
            Some(Reply::Ended(answer)) => Ok(answer),
            Some(Reply::Missing { missing }) => Err(CredentialError::HelperMissing {
                helper: helper.as_str().to_owned(),
                source: io::Error::other(missing),
            }),
            Some(Reply::Silent { silent_for }) => Err(CredentialError::HelperSilent {
                helper: helper.as_str().to_owned(),
                verb: verb.as_str(),
                seconds: silent_for,
            }),
            None => Err(CredentialError::Agent(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

fn send(socket: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let length = u32::try_from(text.len()).ok().filter(|length| u64::from(*length) <= FRAME_LIMIT);
    let length = length.ok_or_else(|| io::Error::other("the message is too long"))?;
    socket.write_all(&[&length.to_be_bytes(), text.as_slice()].concat())
}

/// A message is at most an answer with every byte escaped, and a little around it.
const FRAME_LIMIT: u64 = 6 * ANSWER_LIMIT + 1024;

/// The next message; `None` if the other end closed between two.
fn receive<T: DeserializeOwned>(socket: &mut UnixStream) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match socket.read(&mut length)? {
        0 => return Ok(None),
        read => socket.read_exact(&mut length[read..])?,
    }
    let length = u64::from(u32::from_be_bytes(length));
    if length > FRAME_LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
    }
    let mut text = Vec::new();
    socket.take(length).read_to_end(&mut text)?;
    if (text.len() as u64) < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // serde_json's message might quote a secret.
    let bad = |_| io::Error::new(io::ErrorKind::InvalidData, "the message is not what it should be");
    serde_json::from_slice(&text).map(Some).map_err(bad)
}
