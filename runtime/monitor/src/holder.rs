//! The holder of the namespaces that an ordinary user's containers share ([`cove_container::shared`]), and of the way out
//! of their network: `pasta`, which passes what leaves the namespace on as connections of the user.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use cove_container::shared::{Asked, SharedPlace, answer, greet, hear};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{Pid, Signal, WaitOptions, getegid, geteuid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::uplink::Uplink;
use crate::{Error, process};

/// Names the descriptor over which the ids are settled with who has started us: as `cove` does it for itself.
const VARIABLE: &str = "COVE_USER_NAMESPACE";
/// How long it stays behind the last one: one command mostly follows another.
const LINGER: Duration = Duration::from_secs(1);

/// Makes the namespaces and holds them for whoever connects to the socket that is standard input.
///
/// # Errors
/// They could not be made: then the reason was printed nowhere yet.
pub fn hold(run: &Path) -> Result<(), Error> {
    enter()?;
    let listener = process::take_stdin()?;
    process::leave_caller()?;
    // SAFETY: this process has one thread.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.map_err(Error::system("make a mount namespace"))?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(Error::system("keep mounts to ourselves"))?;
    let place = SharedPlace::of(run);
    let user = File::open("/proc/self/ns/user").map_err(Error::system("open the user namespace"))?;
    let survivor = place.survivor("net");
    let was_there = survivor.is_some();
    let network = survivor.map_or_else(network, Ok)?;
    place.remember("user", user.as_fd())?;
    place.remember("net", network.as_fd())?;
    // For pasta, which may not look at our descriptors.
    let path = place.file("network");
    let made = File::create(&path).map_err(Error::system("make a mount point"));
    made.and_then(|_| mount_bind(descriptor(&network), &path).map_err(Error::system("mount a network namespace")))?;
    let uplink = Uplink::new(&place);
    let (clients, empty_since) = (Vec::new(), Instant::now());
    Holder { place, listener, user: user.into(), network, uplink, was_there, clients, empty_since }.run()
}

/// Goes into a user namespace: its own, or that of a holder that was killed.
fn enter() -> Result<(), Error> {
    let missing = || Error::system("enter a user namespace")(std::io::Error::from(std::io::ErrorKind::InvalidInput));
    let text = std::env::var(VARIABLE).unwrap_or_default();
    let (how, number) = text.split_once(':').ok_or_else(missing)?;
    let number: i32 = number.parse().map_err(|_| missing())?;
    // SAFETY: who has started us left this descriptor open for us alone.
    let file = unsafe { OwnedFd::from_raw_fd(number) };
    match how {
        "entering" => make(UnixStream::from(file)),
        "joining" => move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::User))
            .map_err(Error::system("enter the user namespace")),
        _ => Err(missing()),
    }
}

/// Makes a user namespace. Who has started us maps the user's subordinate ids into it, if there are any.
fn make(mut outer: UnixStream) -> Result<(), Error> {
    let (owner, group) = (geteuid().as_raw(), getegid().as_raw());
    // SAFETY: this process has one thread.
    let unshared = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) };
    unshared.map_err(|source| Error::UserNamespace(source.into()))?;
    let mut many = [0];
    let settled = outer.write_all(b"r").and_then(|()| outer.read_exact(&mut many));
    settled.map_err(Error::system("settle the user's ids"))?;
    if many != *b"m" {
        let map = || {
            // A group can be mapped without privilege only by who cannot drop groups any more (user_namespaces(7)).
            std::fs::write("/proc/self/setgroups", "deny")?;
            std::fs::write("/proc/self/uid_map", format!("0 {owner} 1\n"))?;
            std::fs::write("/proc/self/gid_map", format!("0 {group} 1\n"))
        };
        map().map_err(Error::system("map the user's id"))?;
    }
    Ok(())
}

/// A new network namespace. Another process makes it: from a new one there is no way back to the machine's.
fn network() -> Result<OwnedFd, Error> {
    let (read, write) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(Error::system("make a pipe"))?;
    let child = process::helper(&write, |write| {
        // SAFETY: this process has one thread.
        if unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.is_ok() {
            let _ = rustix::io::write(&write, b"r");
            // Until it is killed.
            rustix::event::pause();
        }
    });
    drop(write);
    let failed = || Error::system("make a network namespace");
    let child = child.ok_or_else(|| failed()(std::io::Error::last_os_error()))?;
    let path = format!("/proc/{}/ns/net", child.as_raw_nonzero());
    let opened = match rustix::io::read(&read, &mut [0_u8; 1][..]) {
        Ok(1) => File::open(path),
        _ => Err(std::io::ErrorKind::PermissionDenied.into()),
    };
    let _ = rustix::process::kill_process(child, Signal::KILL);
    let _ = rustix::process::waitpid(Some(child), WaitOptions::empty());
    Ok(opened.map_err(failed())?.into())
}

fn descriptor(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

struct Client {
    socket: OwnedFd,
    /// Whether it counts on the way out.
    wants_uplink: bool,
}

struct Holder {
    place: SharedPlace,
    listener: OwnedFd,
    user: OwnedFd,
    network: OwnedFd,
    uplink: Uplink,
    /// The network was there before: of its containers nobody is our client.
    was_there: bool,
    clients: Vec<Client>,
    empty_since: Instant,
}

impl Holder {
    fn run(mut self) -> Result<(), Error> {
        loop {
            let ready = self.wait()?;
            if ready.first() == Some(&true) {
                self.accept();
            }
            let mut index = 0;
            // Those that were just taken have said nothing yet.
            for is_ready in ready.into_iter().skip(1) {
                if is_ready && !self.hear(index) {
                    self.clients.remove(index);
                } else {
                    index += 1;
                }
            }
            // Containers that run need it again.
            if self.wants_uplink() {
                self.uplink.mend();
            }
            if !self.clients.is_empty() {
                self.empty_since = Instant::now();
            } else if self.empty_since.elapsed() >= LINGER && self.may_go() {
                return Ok(());
            }
        }
    }

    /// Waits for something; which of the listener and the clients have something to say.
    fn wait(&self) -> Result<Vec<bool>, Error> {
        // Nobody tells of a way out that breaks, nor of a process that a dead monitor has left.
        let looks = self.clients.is_empty() || self.wants_uplink();
        self.look(looks.then_some(Timespec { tv_sec: 1, tv_nsec: 0 }))
    }

    /// The same, for so long at most.
    fn look(&self, timeout: Option<Timespec>) -> Result<Vec<bool>, Error> {
        let clients = self.clients.iter().map(|client| client.socket.as_fd());
        let files: Vec<BorrowedFd<'_>> = std::iter::once(self.listener.as_fd()).chain(clients).collect();
        let mut files: Vec<PollFd<'_>> =
            files.iter().map(|file| PollFd::from_borrowed_fd(*file, PollFlags::IN)).collect();
        match poll(&mut files, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(files.iter().map(|file| !file.revents().is_empty()).collect()),
            Err(error) => Err(Error::system("wait")(error)),
        }
    }

    fn wants_uplink(&self) -> bool {
        self.was_there || self.clients.iter().any(|client| client.wants_uplink)
    }

    fn accept(&mut self) {
        let Ok(socket) = accept_with(&self.listener, SocketFlags::CLOEXEC) else { return };
        if greet(socket.as_fd(), self.user.as_fd(), self.network.as_fd()).is_ok() {
            self.clients.push(Client { socket, wants_uplink: false });
        }
    }

    /// Whether the client is still there.
    fn hear(&mut self, index: usize) -> bool {
        let Some(client) = self.clients.get_mut(index) else { return false };
        match hear(client.socket.as_fd()) {
            Asked::Uplink => {
                let result = self.uplink.raise();
                client.wants_uplink |= result.is_ok();
                answer(client.socket.as_fd(), &result);
                true
            }
            Asked::End => false,
        }
    }

    /// Whether nobody needs the namespaces; then nobody finds them any more.
    fn may_go(&mut self) -> bool {
        let Ok(Some(_lock)) = self.place.try_lock() else { return false };
        // With the lock held nobody is about to connect; who has done so already is seen here.
        if !self.look(Some(Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready == [false])
            || self.has_left_overs()
        {
            return false;
        }
        self.place.close();
        self.uplink.end();
        true
    }

    /// Whether containers of monitors that were killed run on: the next command ends them, in this namespace.
    fn has_left_overs(&self) -> bool {
        let own = std::fs::metadata("/proc/self/ns/user").map(|found| found.ino()).ok();
        let others = std::fs::read_dir("/proc").into_iter().flatten().flatten().filter(|entry| {
            let number = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()).and_then(Pid::from_raw);
            number.is_some_and(|number| number != rustix::process::getpid() && Some(number) != self.uplink.process())
        });
        own.is_some()
            && others
                .map(|entry| std::fs::metadata(entry.path().join("ns/user")).map(|found| found.ino()).ok())
                .any(|found| found == own)
    }
}
