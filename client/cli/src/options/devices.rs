//! Devices: `--device` and its rules, limits of disks, `--ulimit`, `--gpus`.

use std::collections::BTreeMap;

use cove_container::config::{DeviceMapping, DeviceRequest, ThrottleDevice, Ulimit, WeightDevice};

use super::mount::csv;
use super::sizes::{int, size};
use super::{OptionError, ValueError};

/// `path[:path in the container][:rwm]`.
pub fn device(text: &str) -> Result<DeviceMapping, OptionError> {
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, permissions) = match parts.as_slice() {
        ["", ..] => return Err(OptionError::DeviceFormat(text.to_owned())),
        [path] => (*path, clean(path), "rwm"),
        [path, mode] if is_mode(mode) => (*path, clean(path), *mode),
        [path, inside] => (*path, clean(inside), "rwm"),
        [_, _, mode] if !is_mode(mode) => return Err(OptionError::DeviceMode((*mode).to_owned())),
        [path, inside, mode] => (*path, (*inside).to_owned(), *mode),
        _ => return Err(OptionError::DeviceFormat(text.to_owned())),
    };
    if !container.starts_with('/') {
        let given = if parts.len() > 1 && !is_mode(parts[1]) { parts[1] } else { parts[0] };
        return Err(OptionError::DevicePath(given.to_owned()));
    }
    // Without a place in the container of its own, the path is tidied on both sides.
    let host = if parts.len() == 1 || is_mode(parts[1]) { clean(host) } else { host.to_owned() };
    Ok(DeviceMapping { path_on_host: host, path_in_container: container, cgroup_permissions: permissions.to_owned() })
}

/// Some of `r`, `w` and `m`, each once.
fn is_mode(text: &str) -> bool {
    let once = |letter: char| text.matches(letter).count() == 1;
    !text.is_empty() && text.chars().all(|letter| matches!(letter, 'r' | 'w' | 'm') && once(letter))
}

/// A path without `.`, `..` and double separators.
pub fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// `a|b|c MAJOR:MINOR rwm`, the numbers perhaps `*`.
pub fn device_rule(text: &str) -> Result<String, ValueError> {
    let number = |text: &str| text == "*" || !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    let fits = |kind: &str, numbers: &str, access: &str| {
        matches!(kind, "a" | "b" | "c")
            && numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor))
            && (1..=3).contains(&access.len())
            && access.chars().all(|letter| matches!(letter, 'r' | 'w' | 'm'))
    };
    match text.split(' ').collect::<Vec<_>>().as_slice() {
        [kind, numbers, access] if fits(kind, numbers, access) => Ok(text.to_owned()),
        _ => Err(ValueError::DeviceRule(text.to_owned())),
    }
}

fn path_and_number(text: &str) -> Result<(String, &str), ValueError> {
    match text.split_once(':') {
        None | Some(("", _)) => Err(ValueError::DeviceFormat(text.to_owned())),
        Some((path, _)) if !path.starts_with("/dev/") => Err(ValueError::DevicePath(text.to_owned())),
        Some((path, number)) => Ok((path.to_owned(), number)),
    }
}

/// `/dev/…:WEIGHT`.
pub fn weight_device(text: &str) -> Result<WeightDevice, ValueError> {
    let (path, number) = path_and_number(text)?;
    match number.parse() {
        Ok(weight @ (0 | 10..=1000)) => Ok(WeightDevice { path, weight }),
        _ => Err(ValueError::Weight(text.to_owned())),
    }
}

/// `/dev/…:SIZE`.
pub fn bytes_of_device(text: &str) -> Result<ThrottleDevice, ValueError> {
    let (path, number) = path_and_number(text)?;
    let rate = size(number).ok().and_then(|rate| u64::try_from(rate).ok());
    rate.map(|rate| ThrottleDevice { path, rate }).ok_or_else(|| ValueError::Rate(text.to_owned()))
}

/// `/dev/…:NUMBER`.
pub fn operations_of_device(text: &str) -> Result<ThrottleDevice, ValueError> {
    let (path, number) = path_and_number(text)?;
    match number.starts_with(|letter: char| letter.is_ascii_digit()).then(|| number.parse()) {
        Some(Ok(rate)) => Ok(ThrottleDevice { path, rate }),
        _ => Err(ValueError::Operations(text.to_owned())),
    }
}

/// `NAME=SOFT[:HARD]`.
pub fn ulimit(text: &str) -> Result<Ulimit, ValueError> {
    const KNOWN: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let (name, limits) = text.split_once('=').ok_or_else(|| ValueError::Ulimit(text.to_owned()))?;
    if !KNOWN.contains(&name) {
        return Err(ValueError::UlimitKind(name.to_owned()));
    }
    let decimal = |number: &str| match number.strip_prefix('-').unwrap_or(number) {
        // These are read as decimal, whatever they begin with.
        digits if digits.len() > 1 && digits.starts_with('0') => int(digits.trim_start_matches('0')),
        _ => int(number),
    };
    let parts: Vec<&str> = limits.split(':').collect();
    let (soft, hard) = match parts.as_slice() {
        [both] => (decimal(both)?, decimal(both)?),
        [soft, hard] => (decimal(soft)?, decimal(hard)?),
        _ => return Err(ValueError::UlimitValues(limits.to_owned())),
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(ValueError::UlimitOrder { soft, hard });
    }
    Ok(Ulimit { name: name.to_owned(), hard, soft })
}

/// `all`, a number, or fields such as `device=0,capabilities=utility`.
pub fn gpus(text: &str) -> Result<DeviceRequest, ValueError> {
    let count = |text: &str| match text {
        "all" => Ok(-1),
        _ => text.parse::<i64>().map_err(|_| ValueError::GpuCount(text.to_owned())),
    };
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let mut request = DeviceRequest { capabilities: vec![vec!["gpu".to_owned()]], ..DeviceRequest::default() };
    let mut seen: Vec<String> = Vec::new();
    for field in csv(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, value),
            None => ("count", field.as_str()),
        };
        if seen.iter().any(|before| before == key) {
            return Err(ValueError::GpuTwice(key.to_owned()));
        }
        seen.push(key.to_owned());
        match key {
            "count" => request.count = count(value)?,
            "driver" => request.driver = value.to_owned(),
            "device" => request.device_ids = list(value),
            "capabilities" => request.capabilities = vec![[list(value), vec!["gpu".to_owned()]].concat()],
            "options" => request.options = pairs(&csv(value)?),
            _ => return Err(ValueError::UnexpectedKey { key: key.to_owned(), field: field.clone() }),
        }
    }
    if request.device_ids.is_empty() && !seen.iter().any(|key| key == "count") {
        request.count = 1;
    }
    Ok(request)
}

/// `NAME[=value]` each; the last of several counts.
pub fn pairs(texts: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    texts.iter().map(pair).collect()
}
