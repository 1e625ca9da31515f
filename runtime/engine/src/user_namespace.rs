//! Entering a user namespace, where an ordinary user is root of their own store.
//!
//! A process with threads cannot enter one, so `cove` executes itself twice more, each time as its first act:
//! *outside* starts *entering* and waits; *entering*, a single thread, makes the namespaces and waits in turn;
//! *outside* maps the user's own id and their subordinate ids with `newuidmap` and `newgidmap` (user_namespaces(7));
//! *entering* becomes *inside* by executing itself, and does the work as root of the namespace. *Outside* stays to
//! forward signals, to run what must not run inside, and to end as *inside* ended.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, getegid, geteuid};
use rustix::thread::UnshareFlags;

use crate::Error;

/// Tells a process which of the three it is. Not for users.
const VARIABLE: &str = "COVE_USER_NAMESPACE";
/// What the outer process answers when many ids are mapped.
const MANY: u8 = b'm';
/// What it answers when only one is.
const ONE: u8 = b'o';

/// Which ids exist inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// The user's own and their subordinate ones: files can have any owner.
    Many,
    /// Only the user's own: every file belongs to them.
    One,
}

/// Where this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Run by root: no namespace is needed.
    Root,
    /// Run by an ordinary user, not inside yet.
    Outside,
    /// Root of a namespace of an ordinary user.
    Inside(Ids),
}

/// What [`VARIABLE`] says.
enum Stage {
    Entering { socket: i32 },
    Inside { user: u32, ids: Ids },
}

fn stage() -> Option<Stage> {
    let text = std::env::var(VARIABLE).ok()?;
    match text.split(':').collect::<Vec<_>>().as_slice() {
        ["entering", socket] => socket.parse().ok().map(|socket| Stage::Entering { socket }),
        // Only who is root can be inside: a variable that somebody set by hand changes nothing.
        ["inside", user, ids] if geteuid().is_root() => {
            let ids = if *ids == "many" { Ids::Many } else { Ids::One };
            user.parse().ok().map(|user| Stage::Inside { user, ids })
        }
        _ => None,
    }
}

/// Where this process is. Inside of other people's namespaces, as in a container, root is root.
pub fn place() -> Place {
    match stage() {
        Some(Stage::Inside { ids, .. }) => Place::Inside(ids),
        _ if geteuid().is_root() => Place::Root,
        _ => Place::Outside,
    }
}

/// The user who started the command, as seen from outside: 0 for root.
pub fn outer_user() -> u32 {
    match stage() {
        Some(Stage::Inside { user, .. }) => user,
        _ => geteuid().as_raw(),
    }
}

/// Goes on inside a namespace if this process is run by an ordinary user: then the answer is how the process inside
/// has ended. `None`: this process is where it should be, and does the work itself.
///
/// To be called before any thread is started. `prepare` may add to the command that will be the inner process (a
/// descriptor that it shall inherit); what it returns is given to `serve` once that process runs, in a thread.
pub fn enter_if_needed<S: Send + 'static>(
    prepare: impl FnOnce(&mut Command) -> io::Result<S>,
    serve: impl FnOnce(S) + Send + 'static,
) -> Result<Option<ExitStatus>, Error> {
    if let Some(Stage::Entering { socket }) = stage() {
        return Err(enter(socket));
    }
    if place() != Place::Outside {
        return Ok(None);
    }
    stay_outside(prepare, serve).map(Some)
}

fn failed(reason: impl ToString, advice: &'static str) -> Error {
    Error::UserNamespace { reason: reason.to_string(), advice }
}

const BROKEN: &str = "run the command again; as root no namespace is needed";

/// The outer process.
fn stay_outside<S: Send + 'static>(
    prepare: impl FnOnce(&mut Command) -> io::Result<S>,
    serve: impl FnOnce(S) + Send + 'static,
) -> Result<ExitStatus, Error> {
    let broken = |error: io::Error| failed(error, BROKEN);
    let (mut ours, theirs) = UnixStream::pair().map_err(broken)?;
    fcntl_setfd(&theirs, FdFlags::empty()).map_err(|error| failed(error, BROKEN))?;
    let mut command = itself();
    command.env(VARIABLE, format!("entering:{}", theirs.as_raw_fd()));
    let served = prepare(&mut command).map_err(broken)?;
    let mut child = command.spawn().map_err(broken)?;
    drop((theirs, command));

    let mut ready = [0];
    if ours.read_exact(&mut ready).is_err() {
        // It has said on stderr why it could not enter.
        return child.wait().map_err(broken);
    }
    let ids = match map_many(child.id()) {
        Ok(()) => MANY,
        Err(reason) => {
            tracing::warn!(
                "only your own user id can be used ({reason}): files of other owners in images will belong to you; \
                 install `uidmap` and have root run `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`"
            );
            ONE
        }
    };
    ours.write_all(&[ids]).map_err(broken)?;
    drop(ours);
    std::thread::spawn(move || serve(served));
    let pid = child.id();
    std::thread::spawn(move || forward_signals(pid));
    child.wait().map_err(broken)
}

/// This program again, with the same arguments.
fn itself() -> Command {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| OsString::from("cove"));
    let mut command = Command::new("/proc/self/exe");
    command.arg0(name).args(arguments);
    command
}

/// The process that enters. Comes back only if it could not.
#[allow(unsafe_code)]
fn enter(socket: i32) -> Error {
    // SAFETY: the outer process left this descriptor open for us alone and named it in the variable; nothing else of
    // this process has taken it, for this is the first thing that it does.
    let mut outer = UnixStream::from(unsafe { OwnedFd::from_raw_fd(socket) });
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    // SAFETY: this flag only makes namespaces; no descriptor table is taken apart, and there is one thread.
    let unshared = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) };
    if let Err(error) = unshared {
        return failed(
            error,
            "have root allow user namespaces (`sysctl user.max_user_namespaces`, `kernel.unprivileged_userns_clone`, \
             `kernel.apparmor_restrict_unprivileged_userns`), or run it as root",
        );
    }
    let mut answer = [0];
    if let Err(error) = outer.write_all(b"r").and_then(|()| outer.read_exact(&mut answer)) {
        return failed(error, BROKEN);
    }
    let ids = match answer {
        [MANY] => "many",
        _ => match map_one(user, group) {
            Ok(()) => "one",
            Err(error) => return failed(error, BROKEN),
        },
    };
    // The outer process may be killed in a way that it cannot forward.
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return failed(error, BROKEN);
    }
    drop(outer);
    failed(itself().env(VARIABLE, format!("inside:{user}:{ids}")).exec(), BROKEN)
}

/// The user's own id becomes root's, nothing else.
fn map_one(user: u32, group: u32) -> io::Result<()> {
    // A group can be mapped without privilege only by who cannot drop groups any more (user_namespaces(7)).
    fs_err::write("/proc/self/setgroups", "deny")?;
    fs_err::write("/proc/self/uid_map", format!("0 {user} 1\n"))?;
    fs_err::write("/proc/self/gid_map", format!("0 {group} 1\n"))
}

/// The user's own id becomes root's, their subordinate ids those from 1 on. Why not, in a few words.
fn map_many(pid: u32) -> Result<(), String> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let names = [user.to_string(), user_name(user).unwrap_or_default()];
    for (program, list, own) in [("newuidmap", "/etc/subuid", user), ("newgidmap", "/etc/subgid", group)] {
        let ranges = subordinate(list, &names);
        if ranges.is_empty() {
            return Err(format!("`{list}` has no ids for you"));
        }
        let mut command = Command::new(found(program).ok_or_else(|| format!("`{program}` is not installed"))?);
        command.args([pid.to_string(), "0".to_owned(), own.to_string(), "1".to_owned()]);
        let mut inside = 1_u32;
        for (start, count) in ranges {
            // What the last ids would be called inside is no id any more.
            let count = count.min(u32::MAX - inside);
            if count > 0 {
                command.args([inside.to_string(), start.to_string(), count.to_string()]);
                inside += count;
            }
        }
        let output = command.output().map_err(|error| format!("`{program}` cannot be run: {error}"))?;
        if !output.status.success() {
            return Err(format!("`{program}`: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
    }
    Ok(())
}

/// The name of a user, from the file that lists local ones.
fn user_name(user: u32) -> Option<String> {
    let list = fs_err::read_to_string("/etc/passwd").ok()?;
    let line = list.lines().find(|line| line.split(':').nth(2) == Some(user.to_string().as_str()));
    let local = line.and_then(|line| line.split(':').next()).map(str::to_owned);
    // Users of a directory service are not in the file.
    local.or_else(|| std::env::var("USER").ok())
}

/// Ranges of ids in a file of lines `NAME:START:COUNT`, subuid(5).
fn subordinate(list: &str, names: &[String]) -> Vec<(u32, u32)> {
    let text = fs_err::read_to_string(list).unwrap_or_default();
    let range = |line: &str| {
        let mut parts = line.trim().split(':');
        let name = parts.next().filter(|name| !name.is_empty() && names.iter().any(|own| own == name));
        name.and(Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?)))
    };
    text.lines().filter_map(range).filter(|(_, count)| *count > 0).collect()
}

/// Where a program is; the folders of system programs too, which are not on every user's path.
fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/bin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Passes on what asks to end. What a terminal sends (interrupt, quit) reaches the inner process by itself, for it is
/// of the same group; here it is only outlived.
fn forward_signals(pid: u32) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    runtime.block_on(async {
        let (Ok(mut terminate), Ok(mut hang_up), Ok(mut interrupt), Ok(mut quit)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::hangup()),
            signal(SignalKind::interrupt()),
            signal(SignalKind::quit()),
        ) else {
            return;
        };
        loop {
            let forwarded = tokio::select! {
                _ = terminate.recv() => Some(Signal::TERM),
                _ = hang_up.recv() => Some(Signal::HUP),
                _ = interrupt.recv() => None,
                _ = quit.recv() => None,
            };
            if let Some(signal) = forwarded {
                let _ = rustix::process::kill_process(pid, signal);
            }
        }
    });
}
