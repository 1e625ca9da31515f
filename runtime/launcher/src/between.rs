//! A process between, for a process in a user namespace that exists: somebody has to be in it to make what shall belong
//! to it.

use rustix::process::{Pid, WaitOptions};

use crate::Error;
use crate::channel::{Channel, Message};
use crate::error::Failure;
use crate::syscalls::{Clone, clone, end};
use crate::user_namespace::pidfd;

/// Clones a process that calls `enter` and clones again, into these new namespaces, a child of this one. The process
/// between has ended then. `ours` and `theirs` are the ends of the channel between this process and the new one.
pub(crate) fn clone_through(
    ours: &Channel,
    theirs: &Channel,
    flags: u64,
    enter: impl FnOnce() -> Result<(), Failure>,
) -> Result<Clone, Error> {
    let Clone::Parent(between, _) = clone(0, None).map_err(Error::system("error making a process"))? else {
        let flags = flags | libc::CLONE_PARENT as u64;
        let made = enter().and_then(|()| clone(flags, None).map_err(Failure::at("error making the process")));
        let (message, status) = match made {
            Ok(Clone::Child) => return Ok(Clone::Child),
            Ok(Clone::Parent(pid, _)) => (Message::Process(pid.as_raw_nonzero().get()), 0),
            Err(failure) => (Message::Failed(failure.into_text()), 1),
        };
        let _ = theirs.send(&message);
        end(status)
    };
    // It says all that it says before it ends.
    let _ = rustix::process::waitpid(Some(between), WaitOptions::empty());
    match ours.received().map_err(Error::system("hear of the process"))? {
        Some(Message::Process(number)) => {
            let pid = Pid::from_raw(number).ok_or_else(|| Error::Start("it has no number".to_owned()))?;
            Ok(Clone::Parent(pid, pidfd(pid)?))
        }
        Some(Message::Failed(text)) => Err(Error::Start(text)),
        _ => Err(Error::Start("the process between has ended".to_owned())),
    }
}
