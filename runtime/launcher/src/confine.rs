//! Confines this process as `config.json` says: the one way for the container's first process and for those that `exec`
//! adds, so that the two cannot differ.

use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use oci_spec::runtime::{IOPriorityClass, LinuxPersonality, LinuxPersonalityDomain, PosixRlimitType};
use oci_spec::runtime::{LinuxSchedulerFlag, LinuxSchedulerPolicy, Scheduler};
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit};

use crate::capabilities::Sets;
use crate::config::Process;
use crate::error::{Failure, plain};
use crate::proc::Proc;
use crate::seccomp::Filter;
use crate::syscalls::{self, SchedulerAttributes};

/// How a process is confined.
#[derive(Debug)]
pub(crate) struct Confinement<'a> {
    pub(crate) process: &'a Process,
    pub(crate) capabilities: Sets,
    pub(crate) filter: Option<&'a Filter>,
    pub(crate) personality: Option<&'a LinuxPersonality>,
    /// The container's name, for its keyring; none where it shares the caller's.
    pub(crate) keyring: Option<&'a str>,
    pub(crate) limits: Limits,
}

/// Who sets rlimits and the like, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limits {
    /// Who makes the process, from outside of the user namespace that it is in.
    OfParent,
    /// The process, while it has the caller's rights.
    Early,
    /// The process, when it has done everything that they could hinder.
    Late,
}

/// What is left to do for a process that is confined: `execve`.
#[derive(Debug)]
pub(crate) struct Ready<'a> {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    late_filter: Option<&'a Filter>,
    /// What it shall have, if it still has CAP_SYS_ADMIN to load the filter.
    gives_up_admin: Option<Sets>,
}

/// Sets limits of a process: of this one, or of one in a user namespace, which may not do that itself.
pub(crate) fn limit(process: &Process, whom: Option<Pid>, proc: &Proc) -> io::Result<()> {
    for limit in &process.rlimits {
        let wanted = |value: u64| (value != u64::MAX).then_some(value);
        let (current, maximum) = (wanted(limit.soft()), wanted(limit.hard()));
        let failed = |error: Errno| {
            let error = plain(&error.into());
            let advice = "Raising a limit needs CAP_SYS_RESOURCE; ask for one that is not above the present one.";
            io::Error::other(format!("error setting rlimit type {}: {error}\n{advice}", limit.typ()))
        };
        rustix::process::prlimit(whom, resource(limit.typ()), Rlimit { current, maximum }).map_err(failed)?;
    }
    if let Some(score) = process.oom_score_adj {
        let number = match whom {
            Some(pid) => pid.as_raw_nonzero().to_string(),
            None => proc.own()?,
        };
        let path = format!("{number}/oom_score_adj");
        let text = score.to_string();
        // What it is already need not be allowed.
        if proc.read(&path).is_ok_and(|now| now.trim() == text) {
            return Ok(());
        }
        proc.write(&path, text.as_bytes()).map_err(|error| {
            let advice = "Going below the present value needs CAP_SYS_RESOURCE.";
            io::Error::other(format!("failed to set oom_score_adj to {score}: {}\n{advice}", plain(&error)))
        })?;
    }
    Ok(())
}

impl<'a> Confinement<'a> {
    /// What is done with the host's view of the system still at hand: labels, limits, scheduling.
    pub(crate) fn begin(&self, proc: &Proc) -> Result<(), Failure> {
        if let Some(name) = self.keyring {
            let name = CString::new(format!("_ses.{name}")).map_err(Failure::at("the name of a keyring"))?;
            match syscalls::join_session_keyring(&name) {
                // A kernel without keys, or a filter around us that forbids them.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {}
                joined => joined.map_err(Failure::at("unable to join session keyring"))?,
            }
        }
        self.label(proc)?;
        if self.limits == Limits::Early {
            limit(self.process, None, proc).map_err(Failure::init)?;
        }
        if let Some(scheduler) = &self.process.scheduler {
            syscalls::set_scheduler(attributes(scheduler)).map_err(Failure::at("error setting scheduler"))?;
        }
        if let Some(priority) = self.process.io_priority {
            let class = match priority.class() {
                IOPriorityClass::IoprioClassRt => 1,
                IOPriorityClass::IoprioClassBe => 2,
                IOPriorityClass::IoprioClassIdle => 3,
            };
            let level = i32::try_from(priority.priority()).ok().filter(|level| (0..8).contains(level));
            let level = level.ok_or_else(|| Failure::init("ioPriority.priority must be 0 to 7"))?;
            syscalls::io_priority(class << 13 | level).map_err(Failure::at("failed to set io priority"))?;
        }
        if let Some(personality) = self.personality {
            let domain = match personality.domain() {
                LinuxPersonalityDomain::PerLinux => 0,
                LinuxPersonalityDomain::PerLinux32 => 8,
            };
            syscalls::personality(domain).map_err(Failure::at("error setting personality"))?;
        }
        Ok(())
    }

    /// Labels that count from `execve` on.
    fn label(&self, proc: &Proc) -> Result<(), Failure> {
        let given = |label: &'a Option<String>| label.as_deref().filter(|label| !label.is_empty());
        let write = |file: &str, text: &str| proc.write(&format!("{}/attr/{file}", proc.own()?), text.as_bytes());
        if let Some(profile) = given(&self.process.apparmor_profile) {
            let failed = |error: io::Error| {
                let advice = "Is AppArmor in this kernel, and the profile loaded?";
                Failure::init(format_args!("unable to apply apparmor profile {profile:?}: {}\n{advice}", plain(&error)))
            };
            // Its own file where there is one: with several security modules the plain one is the first module's.
            let text = format!("exec {profile}");
            let own = write("apparmor/exec", &text);
            if own.is_err() {
                // Without AppArmor the file is there all the same, for others.
                let enabled = Path::new("/sys/kernel/security/apparmor").exists();
                if !enabled {
                    return Err(failed(own.err().unwrap_or_else(|| io::ErrorKind::Unsupported.into())));
                }
                write("exec", &text).map_err(failed)?;
            }
        }
        if let Some(label) = given(&self.process.selinux_label) {
            write("exec", label).map_err(|error| {
                let advice = "Is SELinux in this kernel?";
                Failure::init(format_args!("unable to set process label {label:?}: {}\n{advice}", plain(&error)))
            })?;
        }
        Ok(())
    }

    /// Inside of the container: becomes its user with no more rights than it shall have, and finds the program.
    /// `pass_on` gets the descriptor at which the filter asks.
    pub(crate) fn finish(
        &self,
        proc: &Proc,
        pass_on: impl FnOnce(OwnedFd) -> Result<(), Failure>,
    ) -> Result<Ready<'a>, Failure> {
        let process = self.process;
        if self.limits == Limits::Late {
            limit(process, None, proc).map_err(Failure::init)?;
        }
        let mut late_filter = self.filter;
        if let Some(filter) = self.filter.filter(|filter| filter.notifies()) {
            // Who answers must be told while there is somebody to tell them, and at once: what follows may be asked about.
            if process.no_new_privileges {
                no_new_privileges()?;
            }
            if let Some(file) = filter.load().map_err(Failure::at("unable to init seccomp"))? {
                pass_on(file)?;
            }
            late_filter = None;
        }
        self.capabilities.bound().map_err(Failure::at("unable to drop bounding caps"))?;
        rustix::thread::set_keep_capabilities(true).map_err(Failure::at("unable to set keep caps"))?;
        rustix::process::umask(Mode::from_raw_mode(process.user.umask().unwrap_or(0o022) & 0o777));
        let early = rustix::process::chdir(&process.cwd);
        own_streams(process.user.uid());
        self.become_user()?;
        // A folder that only its user may enter (a network file system, say).
        early.or_else(|_| rustix::process::chdir(&process.cwd)).map_err(|error| {
            let (cwd, error) = (&process.cwd, plain(&error.into()));
            Failure::Step(format!(
                "error during container init: chdir to cwd ({cwd:?}) set in config.json failed: {error}"
            ))
        })?;
        // Without no_new_privs only who has CAP_SYS_ADMIN may load a filter, and it is loaded last of all.
        let keeps_admin = late_filter.is_some() && !process.no_new_privileges;
        self.capabilities.take(keeps_admin).map_err(Failure::at("unable to apply caps"))?;
        rustix::thread::set_keep_capabilities(false).map_err(Failure::at("unable to clear keep caps"))?;
        stay_inside()?;
        if process.no_new_privileges {
            no_new_privileges()?;
        }
        let environment = environment(process)?;
        let path = find_program(&process.args[0], &environment)?;
        let strings = |texts: Vec<OsString>| {
            let strings = texts.into_iter().map(|text| CString::new(text.into_vec()));
            strings.collect::<Result<Vec<_>, _>>().map_err(Failure::at("an argument"))
        };
        Ok(Ready {
            path,
            arguments: strings(process.args.iter().map(OsString::from).collect())?,
            environment: strings(environment)?,
            late_filter,
            gives_up_admin: keeps_admin.then_some(self.capabilities),
        })
    }

    fn become_user(&self) -> Result<(), Failure> {
        let user = &self.process.user;
        let groups: Vec<rustix::process::Gid> =
            user.additional_gids().iter().flatten().map(|gid| rustix::process::Gid::from_raw(*gid)).collect();
        match rustix::thread::set_thread_groups(&groups) {
            // A user namespace of an ordinary user, where groups cannot be changed; none are asked for but the own one.
            Err(Errno::PERM) if groups.iter().all(|group| group.as_raw() == user.gid()) => {}
            set => set.map_err(Failure::at("unable to set supplementary groups"))?,
        }
        let gid = rustix::process::Gid::from_raw(user.gid());
        let failed = |what: &str, number: u32, error: Errno| {
            let advice = "Is it mapped in the container's user namespace?";
            Failure::init(format_args!("cannot set {what} {number}: {}\n{advice}", plain(&error.into())))
        };
        let set = rustix::thread::set_thread_res_gid(gid, gid, gid);
        set.map_err(|error| failed("gid", user.gid(), error))?;
        let uid = rustix::process::Uid::from_raw(user.uid());
        let set = rustix::thread::set_thread_res_uid(uid, uid, uid);
        set.map_err(|error| failed("uid", user.uid(), error))
    }
}

impl Ready<'_> {
    /// Becomes the container's program. Descriptors after the standard ones and so many more are closed by that.
    pub(crate) fn execute(self, preserved: u32) -> Failure {
        if let Err(error) = syscalls::close_on_exec_from(preserved.saturating_add(3)) {
            return Failure::at("close descriptors")(error);
        }
        syscalls::reset_signals();
        // As close to the program as can be: a profile need not allow anything else of ours.
        if let Some(filter) = self.late_filter
            && let Err(error) = self.load(filter)
        {
            return Failure::at("unable to init seccomp")(error);
        }
        let error = syscalls::execve(&self.path, &self.arguments, &self.environment);
        Failure::Program(format!("exec {}: {}", self.path.to_string_lossy(), plain(&error)))
    }
}

impl Ready<'_> {
    fn load(&self, filter: &Filter) -> io::Result<()> {
        let Some(capabilities) = self.gives_up_admin else { return filter.load().map(drop) };
        capabilities.take_admin()?;
        filter.load()?;
        capabilities.give_up_admin()
    }
}

fn no_new_privileges() -> Result<(), Failure> {
    rustix::thread::set_no_new_privs(true).map_err(Failure::at("unable to set no_new_privs"))
}

/// Pipes and files that are its input and output belong to the user, so that it can open `/dev/stdout` again.
fn own_streams(uid: u32) {
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    for stream in streams {
        let Ok(found) = rustix::fs::fstat(stream) else { continue };
        // Not what others use as well.
        let is_null = found.st_rdev == rustix::fs::makedev(1, 3);
        if found.st_uid != uid && !is_null {
            // A file system may have no owners, or the owner no number here.
            let _ = rustix::fs::fchown(stream, Some(rustix::fs::Uid::from_raw(uid)), None);
        }
    }
}

/// The working folder could be one of the host's that somebody left open (CVE-2024-21626).
fn stay_inside() -> Result<(), Failure> {
    let inside = rustix::process::getcwd(Vec::new()).is_ok_and(|path| path.as_bytes().starts_with(b"/"));
    let text = "current working directory is outside of container mount namespace root -- possible container breakout detected";
    if inside { Ok(()) } else { Err(Failure::init(text)) }
}

/// The container's environment, in the order given; of two values of one name the last counts. HOME is the user's where
/// it is not given.
fn environment(process: &Process) -> Result<Vec<OsString>, Failure> {
    let name = |entry: &String| entry.split('=').next().unwrap_or_default().to_owned();
    let mut entries: Vec<OsString> = Vec::with_capacity(process.env.len() + 1);
    for (at, entry) in process.env.iter().enumerate() {
        if !entry.contains('=') || entry.starts_with('=') {
            let text = format!("invalid environment variable: {entry:?} is not NAME=value");
            return Err(Failure::init(text));
        }
        if !process.env[at + 1..].iter().any(|later| name(later) == name(entry)) {
            entries.push(entry.into());
        }
    }
    if !process.env.iter().any(|entry| entry.starts_with("HOME=")) {
        let mut home = OsString::from("HOME=");
        home.push(home_of(process.user.uid()).unwrap_or_else(|| "/".into()));
        entries.push(home);
    }
    Ok(entries)
}

/// The image writes this file: no more than this is read of it, and a pipe is not waited for.
const LONGEST_PASSWD: u64 = 1024 * 1024;

fn home_of(uid: u32) -> Option<OsString> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::openat2(CWD, c"/etc/passwd", flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS).ok()?;
    if FileType::from_raw_mode(rustix::fs::fstat(&file).ok()?.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut text = Vec::new();
    std::fs::File::from(file).take(LONGEST_PASSWD).read_to_end(&mut text).ok()?;
    let wanted = uid.to_string();
    let lines = text.split(|byte| *byte == b'\n');
    lines.map(|line| line.split(|byte| *byte == b':').collect::<Vec<_>>()).find_map(|fields| {
        let home = fields.get(5).filter(|_| fields[2] == wanted.as_bytes())?;
        (!home.is_empty()).then(|| OsStr::from_bytes(home).to_owned())
    })
}

/// Where a program is: as a shell finds it, and with the words of Go's os/exec, which callers of runtimes look for.
fn find_program(name: &str, environment: &[OsString]) -> Result<CString, Failure> {
    let failed = |why: &str| Failure::Step(format!("exec: {name:?}: {why}"));
    let string = |path: &[u8]| CString::new(path).map_err(Failure::at("a path"));
    if name.is_empty() {
        return Err(failed("executable file not found in $PATH"));
    }
    if name.contains('/') {
        return match is_program(Path::new(name)) {
            Ok(()) => string(name.as_bytes()),
            // podman looks for the last two words, docker for the first three.
            Err(error) if error.raw_os_error() == Some(libc::EISDIR) => {
                Err(failed("is a directory: permission denied"))
            }
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => Err(failed(&plain(&error))),
            Err(error) => Err(failed(&format!("stat {name}: {}", plain(&error)))),
        };
    }
    let path = environment.iter().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="));
    let folders = path.unwrap_or_default().split(|byte| *byte == b':').filter(|_| path.is_some());
    for folder in folders {
        let folder = if folder.is_empty() { &b"."[..] } else { folder };
        let candidate = Path::new(OsStr::from_bytes(folder)).join(name);
        if is_program(&candidate).is_ok() {
            return string(candidate.as_os_str().as_bytes());
        }
    }
    Err(failed("executable file not found in $PATH"))
}

fn is_program(path: &Path) -> io::Result<()> {
    let found = rustix::fs::stat(path)?;
    if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR.into());
    }
    Ok(rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?)
}

fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    }
}

/// linux/sched.h.
fn attributes(scheduler: &Scheduler) -> SchedulerAttributes {
    let flag = |flag: &LinuxSchedulerFlag| match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    };
    SchedulerAttributes {
        policy: match scheduler.policy() {
            LinuxSchedulerPolicy::SchedOther => 0,
            LinuxSchedulerPolicy::SchedFifo => 1,
            LinuxSchedulerPolicy::SchedRr => 2,
            LinuxSchedulerPolicy::SchedBatch => 3,
            LinuxSchedulerPolicy::SchedIso => 4,
            LinuxSchedulerPolicy::SchedIdle => 5,
            LinuxSchedulerPolicy::SchedDeadline => 6,
        },
        flags: scheduler.flags().iter().flatten().fold(0, |all, one| all | flag(one)),
        nice: scheduler.nice().unwrap_or(0),
        priority: scheduler.priority().and_then(|priority| u32::try_from(priority).ok()).unwrap_or(0),
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
        ..SchedulerAttributes::default()
    }
}
