//! The listening side of a console socket: it is sent the terminal of a container.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// A socket that waits for one terminal.
pub struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Console {
    /// Listens at a path.
    pub fn listen(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap_or_else(|error| panic!("listen at {}: {error}", path.display()));
        Self { listener, path: path.to_owned() }
    }

    /// The path.
    pub fn path(&self) -> &str {
        self.path.to_str().expect("a path that is text")
    }

    /// Takes the terminal that was sent, and the name that was sent with it.
    pub fn receive(&self) -> (File, String) {
        let (stream, _) = self.listener.accept().expect("the runtime connects");
        let mut name = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(&stream, &mut [IoSliceMut::new(&mut name)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
            .expect("receive");
        let mut descriptors: Vec<OwnedFd> = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(sent) = message {
                descriptors.extend(sent);
            }
        }
        assert_eq!(descriptors.len(), 1, "one descriptor is sent");
        let name = String::from_utf8_lossy(&name[..received.bytes]).into_owned();
        (File::from(descriptors.remove(0)), name)
    }
}

/// Everything that comes from a terminal until its other side is closed.
pub fn read_terminal(terminal: &mut File) -> String {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    // Reading fails once nobody has the other side any more.
    while let Ok(count @ 1..) = terminal.read(&mut buffer) {
        text.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Presses keys.
pub fn press(terminal: &mut File, keys: &str) {
    terminal.write_all(keys.as_bytes()).expect("press keys");
}
