//! Entering a user namespace, where an ordinary user is root of their own store.
//!
//! A process with threads cannot enter one, so `cove` executes itself twice more, each time as its first act:
//! *outside* starts *entering* and waits; *entering*, a single thread, makes the namespaces and waits in turn;
//! *outside* maps the user's own id and their subordinate ids with `newuidmap` and `newgidmap` (user_namespaces(7));
//! *entering* becomes *inside* by executing itself, and does the work as root of the namespace. *Outside* stays to
//! forward signals, to run what must not run inside, and to end as *inside* ended.
//!
//! Containers need a namespace that outlives the command, and all of a user's need the same one
//! ([`cove_container::shared`]). While a process holds such a namespace *entering* goes into it instead of making one.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use cove_container::shared::{Shared, SharedPlace};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, getegid, geteuid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithRawSiginfo;

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
    Joining { namespace: i32 },
    Inside { user: u32, ids: Ids },
}

fn stage() -> Option<Stage> {
    let text = std::env::var(VARIABLE).ok()?;
    match text.split(':').collect::<Vec<_>>().as_slice() {
        ["entering", socket] => socket.parse().ok().map(|socket| Stage::Entering { socket }),
        ["joining", namespace] => namespace.parse().ok().map(|namespace| Stage::Joining { namespace }),
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
        // A namespace that the user made, with `unshare --map-root-user` for instance.
        _ if geteuid().is_root() && mapped_ids() == 1 => Place::Inside(Ids::One),
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

/// The namespace that the containers of a user share.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The run folder of the user's store.
    pub run: &'a Path,
    /// `cove-runtime`: it holds the namespace if nobody does yet. `None`: a namespace that nobody holds is not needed.
    pub holder: Option<PathBuf>,
}

/// Whether this process is in a namespace that was made by `cove`: for this command, or for the user's containers.
pub fn is_own() -> bool {
    matches!(stage(), Some(Stage::Inside { .. }))
}

/// Lines of the map of user ids: first id inside, first id outside, count (user_namespaces(7)).
fn id_map() -> Vec<[u64; 3]> {
    let text = fs_err::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let numbers = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map_while(|number| number.parse().ok());
        Some([numbers.next()?, numbers.next()?, numbers.next()?])
    };
    text.lines().filter_map(numbers).collect()
}

/// How many ids there are.
fn mapped_ids() -> u64 {
    id_map().iter().map(|[_, _, count]| count).sum()
}

/// Who root of this namespace is outside of it.
pub(crate) fn mapped_user() -> u32 {
    let root = id_map().into_iter().find(|[inside, _, _]| *inside == 0);
    root.and_then(|[_, outside, _]| u32::try_from(outside).ok()).unwrap_or(0)
}

/// Goes on inside a namespace if this process is run by an ordinary user: then the answer is how the process inside
/// has ended. `None`: this process is where it should be, and does the work itself.
///
/// To be called before any thread is started. `prepare` may add to the command that will be the inner process (a
/// descriptor that it shall inherit); what it returns is given to `serve` once that process runs, in a thread.
pub fn enter_if_needed<S: Send + 'static>(
    wanted: &Wanted<'_>,
    prepare: impl FnOnce(&mut Command) -> io::Result<S>,
    serve: impl FnOnce(S) + Send + 'static,
) -> Result<Option<ExitStatus>, Error> {
    match stage() {
        Some(Stage::Entering { socket }) => return Err(enter(socket)),
        Some(Stage::Joining { namespace }) => return Err(join(namespace)),
        Some(Stage::Inside { .. }) | None => {}
    }
    if place() != Place::Outside {
        return Ok(None);
    }
    stay_outside(wanted, prepare, serve).map(Some)
}

fn failed(reason: impl ToString, advice: &'static str) -> Error {
    Error::UserNamespace { reason: reason.to_string(), advice }
}

const BROKEN: &str = "run the command again; as root no namespace is needed";

/// The outer process.
fn stay_outside<S: Send + 'static>(
    wanted: &Wanted<'_>,
    prepare: impl FnOnce(&mut Command) -> io::Result<S>,
    serve: impl FnOnce(S) + Send + 'static,
) -> Result<ExitStatus, Error> {
    let broken = |error: io::Error| failed(error, BROKEN);
    // The namespace stays as long as we are connected, and the process inside does not outlive us.
    let shared = shared(wanted)?;
    let mut command = itself();
    let served = prepare(&mut command).map_err(broken)?;
    let mut child = match &shared {
        None => match begin(&mut command)? {
            Begun::Inside(child) => child,
            Begun::Ended(status) => return Ok(status),
        },
        Some(shared) => {
            let namespace = rustix::io::dup(shared.user()).map_err(|error| failed(error, BROKEN))?;
            command.env(VARIABLE, format!("joining:{}", namespace.as_raw_fd())).spawn().map_err(broken)?
        }
    };
    drop(command);
    std::thread::spawn(move || serve(served));
    let pid = child.id();
    std::thread::spawn(move || forward_signals(pid));
    child.wait().map_err(broken)
}

/// Connects to the holder of the namespace that the user's containers share; with none there, one is started if that is
/// wanted.
fn shared(wanted: &Wanted<'_>) -> Result<Option<Shared>, Error> {
    let place = SharedPlace::of(wanted.run);
    let unusable = |error: cove_container::Error| failed(error, BROKEN);
    let Some(holder) = &wanted.holder else {
        if !wanted.run.join("namespaces").is_dir() {
            return Ok(None);
        }
        let _lock = place.lock().map_err(unusable)?;
        return place.connect().map_err(unusable);
    };
    crate::Places { root: wanted.run.to_owned(), run: wanted.run.to_owned() }.make_run()?;
    place.make().map_err(unusable)?;
    let _lock = place.lock().map_err(unusable)?;
    if let Some(shared) = place.connect().map_err(unusable)? {
        return Ok(Some(shared));
    }
    let listener = place.listen().map_err(unusable)?;
    let mut command = Command::new(holder);
    command.arg("namespaces").arg(wanted.run).stdin(Stdio::from(listener)).stdout(Stdio::null());
    if let Err(error) = fs_err::metadata(holder) {
        return Err(failed(error, "put `cove-runtime` beside `cove`, or say with `COVE_RUNTIME` where it is"));
    }
    // Containers of a holder that was killed run on: the new one goes where they are.
    let begun = match place.survivor("user") {
        Some(namespace) => {
            let namespace = rustix::io::dup(&namespace).map_err(|error| failed(error, BROKEN))?;
            let joining = command.env(VARIABLE, format!("joining:{}", namespace.as_raw_fd())).spawn();
            Begun::Inside(joining.map_err(|error| failed(error, BROKEN))?)
        }
        None => begin(&mut command)?,
    };
    drop(command);
    let ended = || failed("the process that holds the user's namespaces has ended", BROKEN);
    match begun {
        Begun::Inside(_) => place.connect().map_err(unusable)?.ok_or_else(ended).map(Some),
        Begun::Ended(_) => Err(ended()),
    }
}

/// What became of a process that was to enter a namespace of its own.
enum Begun {
    Inside(Child),
    /// It could not, and has said why on stderr.
    Ended(ExitStatus),
}

/// Starts a process that makes a user namespace as its first act, and maps the user's ids into it.
fn begin(command: &mut Command) -> Result<Begun, Error> {
    let broken = |error: io::Error| failed(error, BROKEN);
    let mut wants_many = true;
    loop {
        let (mut ours, theirs) = UnixStream::pair().map_err(broken)?;
        fcntl_setfd(&theirs, FdFlags::empty()).map_err(|error| failed(error, BROKEN))?;
        command.env(VARIABLE, format!("entering:{}", theirs.as_raw_fd()));
        let mut child = command.spawn().map_err(broken)?;
        drop(theirs);

        let mut ready = [0];
        if ours.read_exact(&mut ready).is_err() {
            return child.wait().map(Begun::Ended).map_err(broken);
        }
        let mapped = if wants_many { map_many(child.id()) } else { Ok(false) };
        let ids = match mapped {
            Ok(true) => MANY,
            Ok(false) => ONE,
            Err(Unmapped { reason, half }) => {
                tracing::warn!(
                    "only your own user id can be used ({reason}): files of other owners in images will belong to \
                     you; install `uidmap` and have root run \
                     `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`"
                );
                wants_many = false;
                if half {
                    // A map can be written once: this namespace can have no other one.
                    child.kill().map_err(broken)?;
                    child.wait().map_err(broken)?;
                    continue;
                }
                ONE
            }
        };
        ours.write_all(&[ids]).map_err(broken)?;
        return Ok(Begun::Inside(child));
    }
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
    drop(outer);
    go_inside(user, ids)
}

/// Executes this program again, as the inner process.
fn go_inside(user: u32, ids: &str) -> Error {
    // The outer process may be killed in a way that it cannot forward.
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return failed(error, BROKEN);
    }
    failed(itself().env(VARIABLE, format!("inside:{user}:{ids}")).exec(), BROKEN)
}

/// The process that goes into a namespace that is there. Comes back only if it could not.
#[allow(unsafe_code)]
fn join(namespace: i32) -> Error {
    // SAFETY: the outer process left this descriptor open for us alone and named it in the variable.
    let namespace = unsafe { OwnedFd::from_raw_fd(namespace) };
    let user = geteuid().as_raw();
    use std::os::fd::AsFd;
    if let Err(error) = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::User)) {
        return failed(error, BROKEN);
    }
    // SAFETY: this flag only makes a namespace; there is one thread.
    if let Err(error) = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) } {
        return failed(error, BROKEN);
    }
    drop(namespace);
    go_inside(user, if mapped_ids() > 1 { "many" } else { "one" })
}

/// The user's own id becomes root's, nothing else.
fn map_one(user: u32, group: u32) -> io::Result<()> {
    // A group can be mapped without privilege only by who cannot drop groups any more (user_namespaces(7)).
    fs_err::write("/proc/self/setgroups", "deny")?;
    fs_err::write("/proc/self/uid_map", format!("0 {user} 1\n"))?;
    fs_err::write("/proc/self/gid_map", format!("0 {group} 1\n"))
}

/// Why a user's subordinate ids cannot be used.
#[derive(Debug)]
struct Unmapped {
    /// In a few words.
    reason: String,
    /// Whether the user ids are mapped nonetheless, and only the groups are not.
    half: bool,
}

/// The user's own id becomes root's, their subordinate ids those from 1 on. Nothing is begun that cannot be finished as
/// far as can be seen.
fn map_many(pid: u32) -> Result<bool, Unmapped> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let names = [user.to_string(), user_name(user).unwrap_or_default()];
    let read = |list: &str| fs_err::read_to_string(list).unwrap_or_default();
    let early = |reason| Unmapped { reason, half: false };
    let mut commands = Vec::new();
    for (program, list, own) in [("newuidmap", "/etc/subuid", user), ("newgidmap", "/etc/subgid", group)] {
        let map = id_arguments(own, &subordinate(&read(list), &names));
        let map = map.ok_or_else(|| early(format!("`{list}` has no ids for you")))?;
        let path = found(program).ok_or_else(|| early(format!("`{program}` is not installed")))?;
        let mut command = Command::new(path);
        command.arg(pid.to_string()).args(map);
        commands.push((program, command));
    }
    for (number, (program, mut command)) in commands.into_iter().enumerate() {
        let late = |reason| Unmapped { reason, half: number > 0 };
        let output = command.output().map_err(|error| late(format!("`{program}` cannot be run: {error}")))?;
        if !output.status.success() {
            return Err(late(format!("`{program}`: {}", String::from_utf8_lossy(&output.stderr).trim())));
        }
    }
    Ok(true)
}

/// What the programs are told: the own id as root, and these ranges from 1 on, as many as there are numbers for. `None`
/// without ranges.
fn id_arguments(own: u32, ranges: &[(u32, u32)]) -> Option<Vec<String>> {
    let mut numbers = vec![0, own, 1];
    let mut inside = 1_u32;
    for (start, count) in ranges {
        // The highest number is no id.
        let count = (*count).min(u32::MAX - inside).min(u32::MAX - start);
        if count > 0 {
            numbers.extend([inside, *start, count]);
            inside += count;
        }
    }
    (inside > 1).then(|| numbers.iter().map(ToString::to_string).collect())
}

/// The name of a user, from the file that lists local ones.
fn user_name(user: u32) -> Option<String> {
    let list = fs_err::read_to_string("/etc/passwd").ok()?;
    let line = list.lines().find(|line| line.split(':').nth(2) == Some(user.to_string().as_str()));
    let local = line.and_then(|line| line.split(':').next()).map(str::to_owned);
    // Users of a directory service are not in the file.
    local.or_else(|| std::env::var("USER").ok())
}

/// Ranges of ids in the text of a file of lines `NAME:START:COUNT`, subuid(5).
fn subordinate(text: &str, names: &[String]) -> Vec<(u32, u32)> {
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

/// Signals that are passed on: all that a program can catch and that mean no fault of its own.
const FORWARDED: [i32; 13] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGCONT,
    libc::SIGIO,
    libc::SIGPROF,
    libc::SIGVTALRM,
    libc::SIGXCPU,
    libc::SIGXFSZ,
];

/// Passes signals on. What a terminal sends reaches the inner process by itself, for it is of the same group; here it is
/// only outlived.
fn forward_signals(pid: u32) {
    let Ok(mut signals) = SignalsInfo::<WithRawSiginfo>::new(FORWARDED) else { return };
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    for info in signals.forever() {
        let by_kernel = info.si_code == libc::SI_KERNEL;
        if let Some(signal) = Signal::from_named_raw(info.si_signo).filter(|_| !by_kernel) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_ids_never_go_beyond_the_last_id() {
        let names = ["1000".to_owned(), "me".to_owned()];
        let text = "you:1:5\nme:100000:65536\n1000:4294901760:65536\n:7:7\nme:9:0\nme:x:1\n";
        let ranges = subordinate(text, &names);
        assert_eq!(ranges, [(100_000, 65_536), (4_294_901_760, 65_536)]);
        let arguments = |ranges: &[(u32, u32)]| id_arguments(1000, ranges).map(|numbers| numbers.join(" "));
        assert_eq!(
            arguments(&ranges).as_deref(),
            Some("0 1000 1 1 100000 65536 65537 4294901760 65535"),
            "the last number is no id"
        );
        let large = [(100, u32::MAX), (5, 7)];
        assert_eq!(arguments(&large).as_deref(), Some("0 1000 1 1 100 4294967195 4294967196 5 7"));
        assert_eq!(arguments(&[(1, u32::MAX), (1, u32::MAX), (1, 9)]).as_deref(), Some("0 1000 1 1 1 4294967294"));
        assert_eq!(arguments(&[]), None);
    }
}
