//! `update`: other limits, as flags or as the JSON of `linux.resources`.

use std::io::Read;

use cove_launcher::Container;
use lexopt::{Arg, Parser, ValueExt};
use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

use crate::Failed;
use crate::arguments::Global;
use crate::commands::needed;

/// A flag, and where in the resources it belongs.
const FLAGS: [(&str, [&str; 2]); 14] = [
    ("blkio-weight", ["blockIO", "weight"]),
    ("cpu-period", ["cpu", "period"]),
    ("cpu-quota", ["cpu", "quota"]),
    ("cpu-burst", ["cpu", "burst"]),
    ("cpu-share", ["cpu", "shares"]),
    ("cpu-rt-period", ["cpu", "realtimePeriod"]),
    ("cpu-rt-runtime", ["cpu", "realtimeRuntime"]),
    ("cpuset-cpus", ["cpu", "cpus"]),
    ("cpuset-mems", ["cpu", "mems"]),
    ("cpu-idle", ["cpu", "idle"]),
    ("memory", ["memory", "limit"]),
    ("memory-reservation", ["memory", "reservation"]),
    ("memory-swap", ["memory", "swap"]),
    ("pids-limit", ["pids", "limit"]),
];

pub(super) fn update(global: &Global, mut parser: Parser) -> Result<u8, Failed> {
    let (mut id, mut file) = (None, None);
    let mut resources = Map::new();
    while let Some(argument) = parser.next()? {
        let name = match argument {
            Arg::Long("resources") | Arg::Short('r') => {
                file = Some(parser.value()?.string()?);
                continue;
            }
            // The kernel has given up limits of its own memory.
            Arg::Long("kernel-memory" | "kernel-memory-tcp") => {
                drop(parser.value()?);
                continue;
            }
            Arg::Long(name) => name.to_owned(),
            Arg::Value(value) if id.is_none() => {
                id = Some(value.string()?);
                continue;
            }
            other => return Err(other.unexpected().into()),
        };
        let flag = FLAGS.iter().find(|(flag, _)| *flag == name);
        let (_, [group, field]) = flag.ok_or_else(|| format!("invalid option '--{name}'"))?;
        let value = parser.value()?.string()?;
        let value = if field.len() == 4 && (*field == "cpus" || *field == "mems") {
            Value::String(value)
        } else {
            number(&name, &value)?
        };
        let group = resources.entry(*group).or_insert_with(|| json!({}));
        group[*field] = value;
    }
    let container = Container::find(&global.root, &needed(id)?)?;
    let text = match file {
        Some(file) => read(&file)?,
        None => serde_json::to_string(&resources)?,
    };
    let resources: LinuxResources = serde_json::from_str(&text)?;
    container.update(&resources)?;
    Ok(0)
}

/// A number of bytes may have a unit: 64m.
fn number(name: &str, text: &str) -> Result<Value, Failed> {
    let wrong = || Failed::from(format!("invalid value for {name}: {text:?}"));
    let at = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let unit = match text[at..].to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1_i64 << 40,
        _ => return Err(wrong()),
    };
    let number: i64 = text[..at].parse().map_err(|_| wrong())?;
    Ok(Value::from(number.checked_mul(unit).ok_or_else(wrong)?))
}

fn read(file: &str) -> Result<String, Failed> {
    let mut text = String::new();
    if file == "-" {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {file}: {error}"))?;
    }
    Ok(text)
}
