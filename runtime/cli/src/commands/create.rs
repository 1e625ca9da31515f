//! `create` and `run`.

use std::os::fd::RawFd;
use std::path::PathBuf;

use cove_launcher::{ConsoleSocket, Container, CreateOptions, Relay, Signals, attend};
use lexopt::{Arg, Parser, ValueExt};

use crate::Failed;
use crate::arguments::Global;
use crate::commands::needed;
use crate::gate;
use crate::log::Log;

/// What only `run` knows.
#[derive(Default)]
struct RunOptions {
    detach: bool,
    keep: bool,
}

/// What only `create` knows, from monitors: see [`gate`].
type Gate = Option<RawFd>;

fn parse(global: &Global, mut parser: Parser, runs: bool) -> Result<(CreateOptions, RunOptions, Gate), Failed> {
    let mut options = CreateOptions {
        id: String::new(),
        bundle: PathBuf::from("."),
        console_socket: None,
        console_size: None,
        pid_file: None,
        pidfd_socket: None,
        no_pivot: false,
        no_new_keyring: false,
        preserve_fds: 0,
        listen_fds: 0,
        systemd_cgroup: global.systemd_cgroup,
    };
    let mut more = RunOptions::default();
    let mut gate = None;
    let mut id = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("bundle") | Arg::Short('b') => options.bundle = parser.value()?.into(),
            Arg::Long("console-socket") => options.console_socket = some_path(&mut parser)?.map(ConsoleSocket::At),
            Arg::Long("pid-file") => options.pid_file = some_path(&mut parser)?,
            Arg::Long("pidfd-socket") => options.pidfd_socket = some_path(&mut parser)?,
            Arg::Long("no-pivot") => options.no_pivot = true,
            Arg::Long("no-new-keyring") => options.no_new_keyring = true,
            Arg::Long("preserve-fds") => options.preserve_fds = parser.value()?.parse()?,
            Arg::Long("gate") if !runs => gate = Some(parser.value()?.parse()?),
            Arg::Long("detach") | Arg::Short('d') if runs => more.detach = true,
            Arg::Long("keep") if runs => more.keep = true,
            // Processes whose parents have ended go to whoever is above; for one container that changes nothing.
            Arg::Long("no-subreaper") if runs => {}
            Arg::Value(value) if id.is_none() => id = Some(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    options.id = needed(id)?;
    options.listen_fds = listen_fds();
    Ok((options, more, gate))
}

/// Relative paths begin where we were called, not in the bundle.
pub(super) fn some_path(parser: &mut Parser) -> Result<Option<PathBuf>, Failed> {
    let path = PathBuf::from(parser.value()?);
    if path.as_os_str().is_empty() { Ok(None) } else { Ok(Some(std::path::absolute(path)?)) }
}

/// Sockets that systemd has opened are passed on.
fn listen_fds() -> u32 {
    std::env::var("LISTEN_FDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

pub(super) fn create(global: &Global, parser: Parser, log: &Log) -> Result<u8, Failed> {
    let (options, _, gate) = parse(global, parser, false)?;
    cove_launcher::ensure_sealed()?;
    if let Some(gate) = gate
        && !gate::opens(gate)?
    {
        return Ok(1);
    }
    let created = cove_launcher::create(&global.root, &options)?;
    for warning in &created.warnings {
        log.warning(warning);
    }
    Ok(0)
}

pub(super) fn run(global: &Global, parser: Parser, log: &Log) -> Result<u8, Failed> {
    let (mut options, more, _) = parse(global, parser, true)?;
    cove_launcher::ensure_sealed()?;
    let mut relay = None;
    if !more.detach && options.console_socket.is_none() {
        let (here, socket) = Relay::new()?;
        options.console_socket = Some(ConsoleSocket::IfWanted(socket));
        options.console_size = Relay::size();
        relay = Some(here);
    }
    let signals = if more.detach { None } else { Some(Signals::hold()?) };
    let created = cove_launcher::run(&global.root, &options)?;
    for warning in &created.warnings {
        log.warning(warning);
    }
    let Some(signals) = signals else { return Ok(0) };
    relay = relay.filter(|_| created.record.process.as_ref().is_some_and(|process| process.terminal));
    let attended = relay.as_mut().map_or(Ok(()), Relay::begin);
    let attended = attended.and_then(|()| attend(created.pid(), created.process(), &signals, relay.as_mut()));
    drop(relay);
    // Also if nobody could stay with it: nobody would end it any more.
    if !more.keep {
        for warning in Container::find(&global.root, &options.id)?.delete(true)? {
            log.warning(&warning);
        }
    }
    Ok(attended?)
}
