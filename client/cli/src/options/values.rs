//! What one option may say. Each function reads a value, or tells in docker's words why it cannot be.

use std::net::IpAddr;
use std::str::FromStr;

use super::ValueError;
pub use super::devices::{bytes_of_device, device_rule, gpus, operations_of_device, ulimit, weight_device};
pub use super::durations::duration;
pub use super::mount::mount;
pub use super::network::network;
pub use super::sizes::{cpus, int, size, uint, uint16};
use crate::filter::go_bool;

/// A stream that `--attach` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// Standard input.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl FromStr for Attached {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.to_ascii_lowercase().as_str() {
            "stdin" => Ok(Self::Stdin),
            "stdout" => Ok(Self::Stdout),
            "stderr" => Ok(Self::Stderr),
            _ => Err(ValueError::Stream),
        }
    }
}

/// Yes or no.
pub fn boolean(text: &str) -> Result<bool, ValueError> {
    let wrong = || ValueError::Number { reader: "ParseBool", text: text.to_owned(), reason: "invalid syntax" };
    go_bool(text).ok_or_else(wrong)
}

/// A size, or -1 for no limit.
pub fn swap_size(text: &str) -> Result<i64, ValueError> {
    if text == "-1" { Ok(-1) } else { size(text) }
}

/// `NAME=value`, or `NAME` for what it is here. A name that is not set here stays as it is: it takes away the image's.
pub fn environment(text: &str) -> Result<String, ValueError> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    if name.is_empty() {
        return Err(ValueError::Environment(text.to_owned()));
    }
    Ok(match (value, std::env::var_os(name)) {
        (None, Some(here)) => format!("{name}={}", here.to_string_lossy()),
        _ => text.to_owned(),
    })
}

/// `NAME[=value]`.
pub fn label(text: &str) -> Result<String, ValueError> {
    let name = text.split('=').next().unwrap_or_default().trim_start_matches([' ', '\t']);
    if name.is_empty() {
        return Err(ValueError::EmptyLabel(text.to_owned()));
    }
    if name.contains([' ', '\t']) {
        return Err(ValueError::LabelWithSpaces(name.to_owned()));
    }
    Ok(text.to_owned())
}

/// `NAME=value` of a setting that namespaces have.
pub fn sysctl(text: &str) -> Result<String, ValueError> {
    const KNOWN: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    match text.split_once('=') {
        Some((name, _)) if KNOWN.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.") => {
            Ok(text.to_owned())
        }
        _ => Err(ValueError::Sysctl(text.to_owned())),
    }
}

/// `NAME[:ALIAS]`.
pub fn link(text: &str) -> Result<String, ValueError> {
    match text.matches(':').count() {
        0 if text.is_empty() => Err(ValueError::EmptyLink),
        0 | 1 => Ok(text.to_owned()),
        _ => Err(ValueError::Link(text.to_owned())),
    }
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`, the address perhaps in brackets, or `host-gateway`; what is kept is `NAME:ADDRESS`.
pub fn extra_host(text: &str) -> Result<String, ValueError> {
    let wrong = || ValueError::ExtraHost(text.to_owned());
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(wrong)?;
    if name.is_empty() || name.contains(':') {
        return Err(wrong());
    }
    let bare = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let address = bare.filter(|inner| !inner.is_empty()).unwrap_or(address);
    if address != "host-gateway" && address.trim().parse::<IpAddr>().is_err() {
        return Err(ValueError::ExtraHostAddress(address.to_owned()));
    }
    Ok(format!("{name}:{address}"))
}

/// An address.
pub fn name_server(text: &str) -> Result<String, ValueError> {
    let address: IpAddr = text.trim().parse().map_err(|_| ValueError::Address(text.to_owned()))?;
    Ok(address.to_string())
}

/// A domain, or `.` for none.
pub fn search_domain(text: &str) -> Result<String, ValueError> {
    let domain = text.trim_matches(' ');
    if domain == "." {
        return Ok(domain.to_owned());
    }
    let wrong = || ValueError::Domain(domain.to_owned());
    let bare = domain.trim_end();
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    let is_part = |part: &str| {
        let letters = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
        !part.is_empty() && part.chars().all(letters) && !part.starts_with('-') && !part.ends_with('-')
    };
    let has_letter = domain.chars().any(|letter| letter.is_ascii_alphabetic());
    if !has_letter || bare.len() >= 255 || !bare.split('.').all(is_part) {
        return Err(wrong());
    }
    Ok(bare.to_owned())
}
