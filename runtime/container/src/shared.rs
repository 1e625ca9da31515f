//! The namespaces that all containers of an ordinary user share: a user namespace, in which the user is root, and a network
//! namespace, in which their bridge is.
//!
//! Somebody has to hold them: a process of `cove-runtime` that listens at a socket in the run folder and gives descriptors
//! of both to who connects. As long as anybody stays connected it stays; behind the last one it goes, and the namespaces
//! with it. Who connects, or starts a holder because none is there, has the lock.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, recvmsg, sendmsg, socket_with,
};

use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::Error;
use crate::protocol::SocketPlace;

/// What the holder says first.
const HELLO: &[u8] = b"hello";
/// Asks for the way out of the network namespace.
const UPLINK: &[u8] = b"uplink";
/// The answer: it is there. Any other one says why it is not.
const READY: &[u8] = b"ready";
/// Room for any of them.
const MAX_MESSAGE: usize = 4096;
/// A holder that begins the way out answers others only after that.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the holder of a run folder's namespaces listens, and what lies beside.
#[derive(Debug, Clone)]
pub struct SharedPlace {
    folder: PathBuf,
}

/// The namespaces, which stay as long as this does.
#[derive(Debug)]
pub struct Shared {
    user: OwnedFd,
    network: OwnedFd,
    socket: OwnedFd,
}

impl SharedPlace {
    /// That of a run folder.
    pub fn of(run: &Path) -> Self {
        Self { folder: run.join("namespaces") }
    }

    /// Its folder, made if it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make(&self) -> Result<(), Error> {
        std::fs::create_dir_all(&self.folder).map_err(Error::system("make", &self.folder))
    }

    /// A file beside the socket.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn socket(&self) -> PathBuf {
        self.file("socket")
    }

    fn lock_file(&self) -> Result<File, Error> {
        let path = self.file("lock");
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        file.map_err(Error::system("open", &path))
    }

    /// Waits until nobody else connects, starts or ends a holder.
    ///
    /// # Errors
    /// A file that cannot be made.
    pub fn lock(&self) -> Result<File, Error> {
        let file = self.lock_file()?;
        loop {
            match flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(file),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::system("lock", &self.file("lock"))(error)),
            }
        }
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// A file that cannot be made.
    pub fn try_lock(&self) -> Result<Option<File>, Error> {
        let file = self.lock_file()?;
        Ok(flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok().then_some(file))
    }

    /// A socket that listens, for a holder that is about to be started. Only with the lock.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn listen(&self) -> Result<OwnedFd, Error> {
        let path = self.socket();
        // That of a holder that was killed.
        let _ = std::fs::remove_file(&path);
        let listener = || -> io::Result<OwnedFd> {
            let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
            let place = SocketPlace::of(&path)?;
            bind(&socket, &SocketAddrUnix::new(place.path())?)?;
            listen(&socket, 128)?;
            Ok(socket)
        };
        listener().map_err(Error::system("listen at", &path))
    }

    /// Nobody connects any more. Only with the lock.
    pub fn close(&self) {
        for name in ["socket", "user", "net", "network", "pasta.log"] {
            let _ = std::fs::remove_file(self.file(name));
        }
    }

    /// Writes down which namespaces these are, for who comes when the holder was killed.
    ///
    /// # Errors
    /// The disk is full.
    pub fn remember(&self, kind: &str, namespace: BorrowedFd<'_>) -> Result<(), Error> {
        let path = self.file(kind);
        let found = rustix::fs::fstat(namespace).map_err(Error::system("look at", &path))?;
        std::fs::write(&path, found.st_ino.to_string()).map_err(Error::system("write", &path))
    }

    /// The namespace (`user` or `net`) of a holder that was killed, as long as a process of a container is in it.
    pub fn survivor(&self, kind: &str) -> Option<OwnedFd> {
        let number: u64 = std::fs::read_to_string(self.file(kind)).ok()?.trim().parse().ok()?;
        let entries = std::fs::read_dir("/proc").ok()?.flatten();
        let files = entries.map(|entry| entry.path().join("ns").join(kind));
        files.filter(|path| std::fs::metadata(path).is_ok_and(|found| found.ino() == number)).find_map(|path| {
            let file = OwnedFd::from(File::open(path).ok()?);
            // The process may have gone, and its number be another's.
            rustix::fs::fstat(&file).is_ok_and(|found| found.st_ino == number).then_some(file)
        })
    }

    /// Connects to the holder; `None` if there is none. Only with the lock, or while somebody is connected who stays.
    ///
    /// # Errors
    /// A holder that says what nobody understands.
    pub fn connect(&self) -> Result<Option<Shared>, Error> {
        let path = self.socket();
        self.connected().map_err(Error::system("ask the holder of the user's namespaces at", &path))
    }

    fn connected(&self) -> io::Result<Option<Shared>> {
        let path = self.socket();
        if !path.exists() {
            return Ok(None);
        }
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let place = SocketPlace::of(&path)?;
        match connect(&socket, &SocketAddrUnix::new(place.path())?) {
            Err(Errno::NOENT | Errno::CONNREFUSED) => return Ok(None),
            result => result?,
        }
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut buffer = [0; MAX_MESSAGE];
        let received = loop {
            match recvmsg(&socket, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                // It was killed before it took the connection.
                Err(Errno::CONNRESET) => return Ok(None),
                Err(Errno::AGAIN) => {
                    let text = "`cove-runtime namespaces` does not answer: end it (`kill -9`) and try again";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                received => break received?.bytes,
            }
        };
        let mut files = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        });
        let mut files = files.next().into_iter().flatten();
        match (buffer.get(..received), files.next(), files.next()) {
            (Some(HELLO), Some(user), Some(network)) => Ok(Some(Shared { user, network, socket })),
            (Some([]), ..) => Ok(None),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl Shared {
    /// The user namespace.
    pub fn user(&self) -> BorrowedFd<'_> {
        self.user.as_fd()
    }

    /// The network namespace.
    pub fn network(&self) -> BorrowedFd<'_> {
        self.network.as_fd()
    }

    /// Waits until the network namespace has a way out; otherwise says why it has none.
    ///
    /// # Errors
    /// The holder is gone.
    pub fn uplink(&self) -> io::Result<Result<(), String>> {
        send(self.socket.as_fd(), UPLINK)?;
        let mut buffer = [0; MAX_MESSAGE];
        let answer = receive(self.socket.as_fd(), &mut buffer)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(if answer == READY { Ok(()) } else { Err(String::from_utf8_lossy(answer).into_owned()) })
    }
}

/// What a client of the holder asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The way out.
    Uplink,
    /// Nothing any more: it is gone.
    End,
}

/// The holder's side: greets a client and gives it the namespaces.
///
/// # Errors
/// The client is gone.
pub fn greet(client: BorrowedFd<'_>, user: BorrowedFd<'_>, network: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let files = [user, network];
    ancillary.push(SendAncillaryMessage::ScmRights(&files));
    sendmsg(client, &[IoSlice::new(HELLO)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The holder's side: what a client has to say.
pub fn hear(client: BorrowedFd<'_>) -> Asked {
    let mut buffer = [0; MAX_MESSAGE];
    match receive(client, &mut buffer) {
        Ok(Some(UPLINK)) => Asked::Uplink,
        // What nobody understands comes from nobody of ours.
        Ok(_) | Err(_) => Asked::End,
    }
}

/// The holder's side: answers the wish for a way out.
pub fn answer(client: BorrowedFd<'_>, answer: &Result<(), String>) {
    let text = match answer {
        Ok(()) => READY,
        Err(text) => text.as_bytes().get(..MAX_MESSAGE).unwrap_or(text.as_bytes()),
    };
    // That it is gone is seen when it is heard.
    let _ = send(client, text);
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    sendmsg(socket, &[IoSlice::new(bytes)], &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive<'a>(socket: BorrowedFd<'_>, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
    let length = loop {
        let pieces = &mut [IoSliceMut::new(buffer)];
        match recvmsg(socket, pieces, &mut RecvAncillaryBuffer::default(), RecvFlags::empty()) {
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(None),
            received => break received?.bytes,
        }
    };
    Ok(buffer.get(..length).filter(|bytes| !bytes.is_empty()))
}
