//! `exec`.

use std::path::PathBuf;

use cove_launcher::cgroups::Below;
use cove_launcher::{Asked, ConsoleSocket, Container, ExecOptions, Process, Relay, Signals, attend, capability_named};
use lexopt::{Arg, Parser, ValueExt};
use oci_spec::runtime::{Capability, User};

use crate::Failed;
use crate::arguments::Global;
use crate::commands::create::some_path;
use crate::commands::needed;
use crate::log::Log;

/// What is said about the process on the command line.
#[derive(Default)]
struct Words {
    id: Option<String>,
    arguments: Vec<String>,
    cwd: Option<PathBuf>,
    env: Vec<String>,
    terminal: bool,
    user: Option<String>,
    groups: Vec<u32>,
    process: Option<PathBuf>,
    detach: bool,
    pid_file: Option<PathBuf>,
    console_socket: Option<PathBuf>,
    label: Option<String>,
    profile: Option<String>,
    no_new_privileges: bool,
    capabilities: Vec<String>,
    preserve_fds: u32,
    ignore_paused: bool,
    cgroups: Vec<Below>,
    pidfd_socket: Option<PathBuf>,
}

impl Words {
    fn parse(mut parser: Parser) -> Result<Self, Failed> {
        let mut words = Self::default();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("console-socket") => words.console_socket = some_path(&mut parser)?,
                Arg::Long("cwd") => words.cwd = Some(parser.value()?.into()),
                Arg::Long("env") | Arg::Short('e') => words.env.push(parser.value()?.string()?),
                Arg::Long("tty") | Arg::Short('t') => words.terminal = true,
                Arg::Long("user") | Arg::Short('u') => words.user = Some(parser.value()?.string()?),
                Arg::Long("additional-gids") | Arg::Short('g') => words.groups.push(parser.value()?.parse()?),
                Arg::Long("process") | Arg::Short('p') => words.process = some_path(&mut parser)?,
                Arg::Long("detach") | Arg::Short('d') => words.detach = true,
                Arg::Long("pid-file") => words.pid_file = some_path(&mut parser)?,
                Arg::Long("process-label") => words.label = Some(parser.value()?.string()?),
                Arg::Long("apparmor") => words.profile = Some(parser.value()?.string()?),
                Arg::Long("no-new-privs") => words.no_new_privileges = true,
                Arg::Long("cap") | Arg::Short('c') => words.capabilities.push(parser.value()?.string()?),
                Arg::Long("preserve-fds") => words.preserve_fds = parser.value()?.parse()?,
                Arg::Long("cgroup") => words.cgroups.push(parse_cgroup(&parser.value()?.string()?)?),
                Arg::Long("pidfd-socket") => words.pidfd_socket = some_path(&mut parser)?,
                Arg::Long("ignore-paused") => words.ignore_paused = true,
                // Accepted by runc, without effect there as well.
                Arg::Long("no-subreaper") => {}
                Arg::Value(value) => {
                    words.id = Some(value.string()?);
                    let rest = parser.raw_args()?;
                    words.arguments = rest.map(|word| word.string()).collect::<Result<_, _>>()?;
                }
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(words)
    }

    /// The process that is to run: a file, or the container's own with what is said here.
    fn process(&self, container: &Container) -> Result<Process, Failed> {
        if let Some(path) = &self.process {
            let text =
                std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            return Ok(serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?);
        }
        let own = container.record().process.clone();
        let mut process = own.ok_or("the container has no process whose settings could be used: give --process")?;
        let arguments = self.arguments.strip_prefix(&["--".to_owned()][..]).unwrap_or(&self.arguments);
        if arguments.is_empty() {
            return Err("a command is needed, or --process".into());
        }
        process.args = arguments.to_vec();
        process.terminal = self.terminal;
        process.console_size = None;
        process.env.extend(self.env.iter().cloned());
        if let Some(cwd) = &self.cwd {
            process.cwd = cwd.clone();
        }
        if self.label.is_some() {
            process.selinux_label = self.label.clone();
        }
        if self.profile.is_some() {
            process.apparmor_profile = self.profile.clone();
        }
        process.no_new_privileges |= self.no_new_privileges;
        if let Some(user) = &self.user {
            // What else is said of the container's user stays.
            let user = parse_user(user)?;
            process.user.set_uid(user.uid()).set_gid(user.gid());
        }
        if !self.groups.is_empty() {
            process.user.set_additional_gids(Some(self.groups.clone()));
        }
        if !self.capabilities.is_empty() {
            process.capabilities = Some(with(process.capabilities.unwrap_or_default(), &self.capabilities));
        }
        Ok(process)
    }
}

/// `[CONTROLLER[,CONTROLLER…]:]PATH`, below the container's cgroup.
fn parse_cgroup(text: &str) -> Result<Below, Failed> {
    let (names, path) = text.split_once(':').map_or(("", text), |(names, path)| (names, path));
    let controllers: Vec<String> = names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if path.split('/').any(|part| part == "..") {
        return Err(format!("bad sub cgroup path: {path}").into());
    }
    Ok(Below { controllers, path: path.into() })
}

/// `UID[:GID]`, numbers of 32 bits.
fn parse_user(text: &str) -> Result<User, Failed> {
    let number = |text: &str, what: &str| -> Result<u32, Failed> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<u32>().ok().filter(|number| digits && *number != u32::MAX);
        number
            .ok_or_else(|| format!("parsing {text:?} as a numeric {what} failed: 0 to 4294967294 are possible").into())
    };
    let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
    let mut user = User::default();
    user.set_uid(number(uid, "uid")?);
    user.set_gid(gid.map_or(Ok(0), |gid| number(gid, "gid"))?);
    Ok(user)
}

/// More capabilities, in all sets but the ambient one: a program gets those only if it was made to.
fn with(mut asked: Asked, names: &[String]) -> Asked {
    for name in names {
        let Some(capability) = capability_named(name) else {
            asked.unknown.push(name.clone());
            continue;
        };
        let sets = &mut asked.sets;
        let add = |set: &Option<std::collections::HashSet<Capability>>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(capability);
            Some(set)
        };
        let (bounding, effective, permitted) = (add(sets.bounding()), add(sets.effective()), add(sets.permitted()));
        sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    }
    asked
}

pub(super) fn exec(global: &Global, parser: Parser, log: &Log) -> Result<u8, Failed> {
    // runc's, so that callers can tell it from the process' own.
    run(global, parser, log).map_err(|failed| failed.with_code(255))
}

fn run(global: &Global, parser: Parser, log: &Log) -> Result<u8, Failed> {
    let words = Words::parse(parser)?;
    cove_launcher::ensure_sealed()?;
    let container = Container::find(&global.root, &needed(words.id.clone())?)?;
    let mut options = ExecOptions {
        process: words.process(&container)?,
        console_socket: words.console_socket.clone().map(ConsoleSocket::At),
        pid_file: words.pid_file.clone(),
        ignore_paused: words.ignore_paused,
        preserve_fds: words.preserve_fds,
        cgroups: words.cgroups.clone(),
        pidfd_socket: words.pidfd_socket.clone(),
    };
    let mut relay = None;
    if !words.detach && options.process.terminal && options.console_socket.is_none() {
        let (here, socket) = Relay::new()?;
        options.console_socket = Some(ConsoleSocket::Connected(socket));
        options.process.console_size = Relay::size().map(|(rows, columns)| cove_launcher::console_size(rows, columns));
        relay = Some(here);
    }
    let signals = if words.detach { None } else { Some(Signals::hold()?) };
    let added = cove_launcher::exec(&global.root, &container, &options)?;
    for warning in &added.warnings {
        log.warning(warning);
    }
    match signals {
        None => Ok(0),
        Some(signals) => {
            use std::os::fd::AsFd;
            if let Some(relay) = &mut relay {
                relay.begin()?;
            }
            Ok(attend(added.pid, added.process.as_fd(), &signals, relay.as_mut())?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse_user;

    #[test]
    fn users_are_numbers_of_32_bits() {
        let parsed = |text| parse_user(text).ok().map(|user| (user.uid(), user.gid()));
        assert_eq!(parsed("1000"), Some((1000, 0)));
        assert_eq!(parsed("0:5"), Some((0, 5)));
        assert_eq!(parsed("4294967294:1"), Some((4_294_967_294, 1)));
        for wrong in [
            "",
            ":",
            "1:",
            ":1",
            "-1",
            "+1",
            "0x0",
            "4294967295",
            "4294967296",
            "18446744073709551616",
            "root",
            "1 ",
            "1:2:3",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
