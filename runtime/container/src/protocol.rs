//! What commands and monitors say to each other: messages over a socket of sequenced packets, so that each arrives whole.
//!
//! A message is one byte that says what it is, and its content: JSON, or bytes of a stream. Who starts a monitor gives it
//! one end of a pair of sockets as its standard input; everybody else connects to the socket in the run folder.

use std::borrow::Cow;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, recvmsg, sendmsg, socket_with, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longest content of a message: what one read of a pipe gives.
pub const MAX_CONTENT: usize = 64 * 1024;

/// Asks for the container's streams from now on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// What this client sends is the container's input.
    pub stdin: bool,
    /// Standard output, or everything that a terminal shows.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// The container waits rather than that this client loses anything. Else one that is slow is cut off.
    pub lossless: bool,
    /// Rows and columns of the client's terminal.
    pub size: Option<(u16, u16)>,
}

/// Asks for a further process, which is described in its folder ([`crate::Container::describe_exec`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Its id.
    pub id: String,
    /// Program and arguments as events name them.
    pub words: String,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// What of its streams this client wants; `None`: it runs in the background.
    pub attach: Option<Attach>,
}

/// A command as docker's events name it: the program, a space, its arguments.
pub fn exec_words(command: &[String]) -> String {
    let (program, rest) = command.split_first().map_or(("", &[][..]), |(program, rest)| (program.as_str(), rest));
    format!("{program} {}", rest.join(" "))
}

/// Asks the container to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The signal's number.
    pub signal: i32,
    /// Seconds until SIGKILL; `None`: never.
    pub seconds: Option<u32>,
}

/// How a container's process has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Its status, or 128 + the signal's number.
    pub code: i32,
}

/// Why a container could not begin, or why something cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// In words.
    pub text: String,
    /// The exit status of a `run` that fails so: 125, 126 or 127.
    pub code: u8,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// To the monitor, first of all: the container is there, start it, and send me these streams from the first byte on.
    Begin(Option<Attach>),
    /// To the monitor: send me the streams.
    Attach(Attach),
    /// To the monitor: run this in the container. From now on this connection is about that process alone.
    Exec(Exec),
    /// To the monitor: bytes for the container's input.
    Input(&'a [u8]),
    /// To the monitor: no more input comes.
    InputEnd,
    /// To the monitor: the terminal has so many rows and columns.
    Resize(u16, u16),
    /// To the monitor: send the container's process this signal.
    Signal(i32),
    /// To the monitor: end the container.
    Stop(Stop),
    /// To the monitor: let all processes stand still.
    Pause,
    /// To the monitor: let them go on.
    Unpause,
    /// To the monitor: tell me when the container has ended.
    Wait,
    /// To the monitor: the record has changed, read it again.
    Reload,
    /// From the monitor: something that the user should know of a start; then comes that it runs.
    Warning(Cow<'a, str>),
    /// From the monitor: the container runs.
    Started,
    /// From the monitor: standard output.
    Output(&'a [u8]),
    /// From the monitor: standard error.
    ErrorOutput(&'a [u8]),
    /// From the monitor: the container has ended.
    Ended(Ended),
    /// From the monitor: done.
    Done,
    /// From the monitor: it cannot be done.
    Refused(Refusal),
}

impl Message<'_> {
    fn kind(&self) -> u8 {
        match self {
            Message::Begin(_) => b'b',
            Message::Attach(_) => b'a',
            Message::Exec(_) => b'x',
            Message::Input(_) => b'i',
            Message::InputEnd => b'e',
            Message::Resize(..) => b'z',
            Message::Signal(_) => b's',
            Message::Stop(_) => b't',
            Message::Pause => b'p',
            Message::Unpause => b'u',
            Message::Wait => b'w',
            Message::Reload => b'r',
            Message::Warning(_) => b'W',
            Message::Started => b'S',
            Message::Output(_) => b'O',
            Message::ErrorOutput(_) => b'X',
            Message::Ended(_) => b'E',
            Message::Done => b'D',
            Message::Refused(_) => b'N',
        }
    }

    fn content(&self) -> io::Result<Cow<'_, [u8]>> {
        fn json<T: Serialize>(value: &T) -> io::Result<Cow<'static, [u8]>> {
            Ok(serde_json::to_vec(value)?.into())
        }
        match self {
            Message::Begin(attach) => json(attach),
            Message::Attach(attach) => json(attach),
            Message::Exec(exec) => json(exec),
            Message::Resize(rows, columns) => json(&(rows, columns)),
            Message::Signal(number) => json(number),
            Message::Stop(stop) => json(stop),
            Message::Ended(ended) => json(ended),
            Message::Refused(refusal) => json(refusal),
            Message::Warning(text) => Ok(text.as_bytes().into()),
            Message::Input(bytes) | Message::Output(bytes) | Message::ErrorOutput(bytes) => Ok((*bytes).into()),
            Message::InputEnd
            | Message::Pause
            | Message::Unpause
            | Message::Wait
            | Message::Reload
            | Message::Started
            | Message::Done => Ok([].as_slice().into()),
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn parse(packet: &[u8]) -> io::Result<Message<'_>> {
        fn json<T: DeserializeOwned>(content: &[u8]) -> io::Result<T> {
            Ok(serde_json::from_slice(content)?)
        }
        let unknown = || io::Error::new(io::ErrorKind::InvalidData, "a message that nobody knows");
        let (kind, content) = packet.split_first().ok_or_else(unknown)?;
        Ok(match kind {
            b'b' => Message::Begin(json(content)?),
            b'a' => Message::Attach(json(content)?),
            b'x' => Message::Exec(json(content)?),
            b'i' => Message::Input(content),
            b'e' => Message::InputEnd,
            b'z' => {
                let (rows, columns) = json(content)?;
                Message::Resize(rows, columns)
            }
            b's' => Message::Signal(json(content)?),
            b't' => Message::Stop(json(content)?),
            b'p' => Message::Pause,
            b'u' => Message::Unpause,
            b'w' => Message::Wait,
            b'r' => Message::Reload,
            b'W' => Message::Warning(String::from_utf8_lossy(content)),
            b'S' => Message::Started,
            b'O' => Message::Output(content),
            b'X' => Message::ErrorOutput(content),
            b'E' => Message::Ended(json(content)?),
            b'D' => Message::Done,
            b'N' => Message::Refused(json(content)?),
            _ => return Err(unknown()),
        })
    }
}

/// Where a socket is. Its address has room for 107 bytes of a path only (unix(7)): a longer one is said by the descriptor
/// of its folder.
#[derive(Debug)]
pub struct SocketPlace {
    path: PathBuf,
    _folder: Option<OwnedFd>,
}

impl SocketPlace {
    /// Of a path of any length, whose folder is there.
    ///
    /// # Errors
    /// It is not.
    pub fn of(path: &Path) -> io::Result<Self> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if path.as_os_str().len() < 100 {
            return Ok(Self { path: path.to_owned(), _folder: None });
        }
        let folder = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        // By our own number: other processes that are told the path go through us.
        let by = format!("/proc/{}/fd/{}", std::process::id(), folder.as_raw_fd());
        Ok(Self { path: Path::new(&by).join(name), _folder: Some(folder) })
    }

    /// The path, as long as this lives.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// One end of a connection.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
}

impl Connection {
    /// Over a socket that is connected.
    pub fn over(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Two ends. The second is for a process that is about to be started.
    ///
    /// # Errors
    /// The system has no more sockets.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self { socket: ours }, theirs))
    }

    /// To the monitor that listens at `path`; `None` if none does.
    ///
    /// # Errors
    /// A path that is too long for a socket.
    pub fn to(path: &Path) -> io::Result<Option<Self>> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let place = match SocketPlace::of(path) {
            Err(error) if crate::error::is_absent(&error) => return Ok(None),
            place => place?,
        };
        match connect(&socket, &SocketAddrUnix::new(place.path())?) {
            Ok(()) => Ok(Some(Self { socket })),
            Err(Errno::NOENT | Errno::CONNREFUSED | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a message; waits while the other side is slow.
    ///
    /// # Errors
    /// The other side is gone.
    pub fn send(&self, message: &Message<'_>) -> io::Result<()> {
        self.send_with(message, SendFlags::NOSIGNAL)
    }

    /// Sends a message if that is possible at once; `false` if not.
    ///
    /// # Errors
    /// The other side is gone.
    pub fn try_send(&self, message: &Message<'_>) -> io::Result<bool> {
        match self.send_with(message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn send_with(&self, message: &Message<'_>, flags: SendFlags) -> io::Result<()> {
        let (kind, content) = ([message.kind()], message.content()?);
        let pieces = [IoSlice::new(&kind), IoSlice::new(&content)];
        loop {
            match sendmsg(&self.socket, &pieces, &mut SendAncillaryBuffer::default(), flags) {
                Err(Errno::INTR) => {}
                sent => return Ok(sent.map(|_| ())?),
            }
        }
    }

    /// Waits for a message; `None` when the other side is gone. `buffer` has room for [`MAX_CONTENT`] and one byte.
    ///
    /// # Errors
    /// A message that nobody knows, or one that is too long.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<Message<'a>>> {
        self.receive_with(buffer, RecvFlags::empty())
    }

    /// Waits for a message, but no longer than that: [`io::ErrorKind::TimedOut`].
    ///
    /// # Errors
    /// As [`Connection::receive`].
    pub fn receive_within<'a>(&self, buffer: &'a mut [u8], time: Duration) -> io::Result<Option<Message<'a>>> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            match poll(&mut [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN)], Some(&left)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => return self.receive_with(buffer, RecvFlags::DONTWAIT),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A message, if there is one: [`io::ErrorKind::WouldBlock`] if not.
    ///
    /// # Errors
    /// As [`Connection::receive`].
    pub fn try_receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<Message<'a>>> {
        self.receive_with(buffer, RecvFlags::DONTWAIT)
    }

    fn receive_with<'a>(&self, buffer: &'a mut [u8], flags: RecvFlags) -> io::Result<Option<Message<'a>>> {
        let length = loop {
            let mut ancillary = RecvAncillaryBuffer::default();
            match recvmsg(&self.socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags) {
                // The other side has gone without hearing everything, which is told once. What it has said last comes after that.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                received => {
                    let received = received?;
                    if received.flags.contains(rustix::net::ReturnFlags::TRUNC) {
                        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message that is too long"));
                    }
                    break received.bytes;
                }
            }
        };
        if length == 0 {
            return Ok(None);
        }
        Message::parse(&buffer[..length]).map(Some)
    }
}

impl From<Connection> for OwnedFd {
    fn from(connection: Connection) -> OwnedFd {
        connection.socket
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::{Attach, Connection, Ended, Exec, MAX_CONTENT, Message, Refusal, SocketPlace, Stop};

    #[test]
    fn what_is_sent_arrives() {
        let (ours, theirs) = Connection::pair().expect("sockets");
        let theirs = Connection::over(theirs);
        let attach = Attach { stdin: true, stdout: true, size: Some((24, 80)), ..Attach::default() };
        let long = vec![7; MAX_CONTENT];
        let messages = [
            Message::Begin(Some(attach)),
            Message::Begin(None),
            Message::Attach(attach),
            Message::Exec(Exec { id: "0a".to_owned(), words: "ls ".to_owned(), terminal: true, attach: Some(attach) }),
            Message::Input(b"ls\n"),
            Message::InputEnd,
            Message::Resize(1, 65535),
            Message::Signal(15),
            Message::Stop(Stop { signal: 15, seconds: None }),
            Message::Pause,
            Message::Unpause,
            Message::Wait,
            Message::Reload,
            Message::Warning("beware".into()),
            Message::Started,
            Message::Output(&long),
            Message::ErrorOutput(b""),
            Message::Ended(Ended { code: 137 }),
            Message::Done,
            Message::Refused(Refusal { text: "no".to_owned(), code: 127 }),
        ];
        let mut buffer = vec![0; MAX_CONTENT + 1];
        for message in &messages {
            ours.send(message).expect("sent");
            assert_eq!(theirs.receive(&mut buffer).expect("a message").as_ref(), Some(message));
        }
        let waited = theirs.receive_within(&mut buffer, std::time::Duration::from_millis(1));
        assert_eq!(waited.expect_err("nothing yet").kind(), std::io::ErrorKind::TimedOut);
        assert_eq!(theirs.try_receive(&mut buffer).expect_err("nothing yet").kind(), std::io::ErrorKind::WouldBlock);
        drop(ours);
        assert_eq!(theirs.receive(&mut buffer).expect("an end"), None);
    }

    #[test]
    fn a_client_that_does_not_read_is_noticed() {
        let (ours, _theirs) = Connection::pair().expect("sockets");
        let bytes = vec![1; MAX_CONTENT];
        let sent = (0..1000).take_while(|_| ours.try_send(&Message::Output(&bytes)).expect("the other end is there"));
        assert!(sent.count() < 100);
    }

    #[test]
    fn a_socket_may_lie_deep() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = folder.path().join("x".repeat(120));
        std::fs::create_dir(&deep).expect("a folder");
        let path = deep.join("socket");
        assert!(Connection::to(&path).expect("nobody listens").is_none());
        let place = SocketPlace::of(&path).expect("a place");
        let socket = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::SEQPACKET, None);
        let socket = socket.expect("a socket");
        let address = rustix::net::SocketAddrUnix::new(place.path()).expect("it is short enough");
        rustix::net::bind(&socket, &address).and_then(|()| rustix::net::listen(&socket, 1)).expect("a listener");
        assert!(path.exists());
        assert!(Connection::to(&path).expect("it listens").is_some());
        assert!(Connection::to(&deep.join("missing/socket")).expect("nobody listens").is_none());
    }

    #[test]
    fn the_last_word_of_who_did_not_hear_everything_arrives() {
        let (ours, theirs) = Connection::pair().expect("sockets");
        let theirs = Connection::over(theirs);
        theirs.send(&Message::Input(b"unheard")).expect("sent");
        ours.send(&Message::Done).expect("sent");
        drop(ours);
        let mut buffer = [0; 64];
        assert_eq!(theirs.receive(&mut buffer).expect("a message"), Some(Message::Done));
        assert_eq!(theirs.receive(&mut buffer).expect("the end"), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for packet in [&b""[..], b"?", b"a", b"a{", b"z[1]", b"z[1,65536]", b"s\"x\"", b"t{}", b"Enull"] {
            assert!(Message::parse(packet).is_err(), "{packet:?}");
        }
    }
}
