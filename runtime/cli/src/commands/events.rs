//! `events`: what a container uses, once or again and again.

use std::time::Duration;

use cove_launcher::{Container, Error, Status};
use lexopt::{Arg, Parser, ValueExt};
use serde::Serialize;

use crate::arguments::Global;
use crate::commands::needed;
use crate::{Failed, output};

/// A line, as runc writes it: containerd and dockerd read it.
#[derive(Serialize)]
struct Event<'a, T> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<T>,
}

pub(super) fn events(global: &Global, mut parser: Parser) -> Result<u8, Failed> {
    let (mut once, mut interval, mut id) = (false, Duration::from_secs(5), None);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("stats") => once = true,
            Arg::Long("interval") => interval = duration(&parser.value()?.string()?)?,
            Arg::Value(value) if id.is_none() => id = Some(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let id = needed(id)?;
    let container = Container::find(&global.root, &id)?;
    let mut killed = container.record().cgroups.oom_kills().unwrap_or(0);
    loop {
        let stats = match container.stats() {
            Err(Error::NotRunning) if !once => return Ok(0),
            stats => stats?,
        };
        output::print(&serde_json::to_string(&Event { kind: "stats", id: &id, data: Some(stats) })?);
        if once {
            return Ok(0);
        }
        std::thread::sleep(interval);
        let now = container.record().cgroups.oom_kills().unwrap_or(killed);
        for _ in killed..now {
            output::print(&serde_json::to_string(&Event { kind: "oom", id: &id, data: None::<()> })?);
        }
        killed = now;
        if container.status()? == Status::Stopped {
            return Ok(0);
        }
    }
}

/// `5s`, `500ms`, `1m`.
fn duration(text: &str) -> Result<Duration, Failed> {
    let wrong = || Failed::from(format!("--interval must be a time above 0 such as 5s, not {text:?}"));
    let at = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..at].parse().map_err(|_| wrong())?;
    let unit = match &text[at..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let time = number.checked_mul(unit).map(Duration::from_millis).ok_or_else(wrong)?;
    if time.is_zero() { Err(wrong()) } else { Ok(time) }
}
