//! `--publish` and `--expose`: `[address:][port of the host:]port of the container[/protocol]`, ports perhaps ranges.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cove_container::config::{Empty, PortBinding, PortMap};

use super::{OptionError, ValueError};

/// Ports that something listens on.
pub type Exposed = BTreeMap<String, Empty>;

/// Reads all values of `--publish` and `--expose`.
pub fn ports(publish: &[String], expose: &[String]) -> Result<(Exposed, PortMap), OptionError> {
    let (mut exposed, mut bindings) = (Exposed::new(), PortMap::new());
    for text in publish {
        for (port, binding) in published(&short_form(text)?)? {
            exposed.insert(port.clone(), Empty {});
            bindings.entry(port).or_default().get_or_insert_default().push(binding);
        }
    }
    for text in expose {
        exposed.extend(exposed_ports(text)?.into_iter().map(|port| (port, Empty {})));
    }
    Ok((exposed, bindings))
}

/// `published=…,target=…,protocol=…` as the short form.
fn short_form(text: &str) -> Result<String, OptionError> {
    if !text.contains('=') {
        return Ok(text.to_owned());
    }
    let (mut published, mut target, mut protocol) = ("", "", "tcp");
    for field in text.split(',') {
        match field.split_once('=') {
            None | Some(("", _)) => return Err(OptionError::PublishField(field.to_owned())),
            Some(("published", value)) => published = value,
            Some(("target", value)) => target = value,
            Some(("protocol", value)) => protocol = value,
            Some(_) => {}
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

fn published(text: &str) -> Result<Vec<(String, PortBinding)>, OptionError> {
    let (rest, container) = text.rsplit_once(':').unwrap_or(("", text));
    // An IPv6 address has colons of its own, with or without brackets.
    let (address, host) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (container, protocol) = match container.split_once('/') {
        Some((port, protocol)) if !protocol.is_empty() => (port, protocol.to_ascii_lowercase()),
        Some((port, _)) => (port, "tcp".to_owned()),
        None => (container, "tcp".to_owned()),
    };
    let address = match address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(inner) => inner,
        None => address,
    };
    if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        return Err(OptionError::PortAddress(address.to_owned()));
    }
    if container.is_empty() {
        return Err(OptionError::NoPort(text.to_owned()));
    }
    let (first, last) = range(container).map_err(|_| OptionError::ContainerPort(container.to_owned()))?;
    let on_host = match host {
        "" => None,
        host => Some(range(host).map_err(|_| OptionError::HostPort(host.to_owned()))?),
    };
    if let Some((host_first, host_last)) = on_host
        && last - first != host_last - host_first
        && first != last
    {
        return Err(OptionError::PortRanges { container: container.to_owned(), host: host.to_owned() });
    }
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(OptionError::Protocol(protocol));
    }
    let binding = |at: u16| {
        let host_port = match on_host {
            None => String::new(),
            // One port of the container: any of the range will do.
            Some((host_first, host_last)) if first == last && host_first != host_last => {
                format!("{host_first}-{host_last}")
            }
            Some((host_first, _)) => (u32::from(host_first) + u32::from(at - first)).to_string(),
        };
        (format!("{at}/{protocol}"), PortBinding { host_ip: address.to_owned(), host_port })
    };
    Ok((first..=last).map(binding).collect())
}

fn exposed_ports(text: &str) -> Result<Vec<String>, OptionError> {
    if text.contains(':') {
        return Err(OptionError::Expose(text.to_owned()));
    }
    let (port, protocol) = match text.split_once('/') {
        Some((port, protocol)) if !protocol.is_empty() => (port, protocol),
        Some((port, _)) => (port, "tcp"),
        None => (text, "tcp"),
    };
    let (first, last) =
        range(port).map_err(|error| OptionError::ExposeRange { text: text.to_owned(), reason: error })?;
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(OptionError::Protocol(protocol));
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// `80` or `80-90`.
fn range(text: &str) -> Result<(u16, u16), String> {
    if text.is_empty() {
        return Err("empty string specified for ports".to_owned());
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| port_number(text).map_err(|error| error.to_string());
    let (first, last) = (number(first)?, number(last)?);
    if last < first { Err(format!("invalid range specified for port: {text}")) } else { Ok((first, last)) }
}

fn port_number(text: &str) -> Result<u16, ValueError> {
    let wrong = |reason| ValueError::Number { reader: "ParseUint", text: text.to_owned(), reason };
    if text.is_empty() || !text.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(wrong("invalid syntax"));
    }
    text.parse().map_err(|_| wrong("value out of range"))
}
