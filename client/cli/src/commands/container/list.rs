//! `cove ps`

use std::cmp::Reverse;
use std::collections::BTreeMap;

use cove_container::config::NetworkMode;
use cove_container::{Container, Record, State, Status};
use cove_network::{Binding, Endpoint, Networks};
use time::OffsetDateTime;

use crate::arguments::Ps;
use crate::containers::{disk_usage, put_right};
use crate::context::Context;
use crate::error::Error;
use crate::filter::{Filter, FilterError};
use crate::format::{Column, List, Row, row};
use crate::listing::label;
use crate::units::{ago, go_time, human_duration, human_size};

/// The fields of a container in docker's templates.
const COLUMNS: &[Column] = &[
    Column { name: "Command", title: "COMMAND" },
    Column { name: "CreatedAt", title: "CREATED AT" },
    Column { name: "ID", title: "CONTAINER ID" },
    Column { name: "Image", title: "IMAGE" },
    Column { name: "Labels", title: "LABELS" },
    Column { name: "LocalVolumes", title: "LOCAL VOLUMES" },
    Column { name: "Mounts", title: "MOUNTS" },
    Column { name: "Names", title: "NAMES" },
    Column { name: "Networks", title: "NETWORKS" },
    Column { name: "Ports", title: "PORTS" },
    Column { name: "RunningFor", title: "CREATED" },
    Column { name: "Size", title: "SIZE" },
    Column { name: "State", title: "STATE" },
    Column { name: "Status", title: "STATUS" },
];

const FILTERS: [&str; 13] = [
    "ancestor", "before", "exited", "expose", "health", "id", "label", "name", "network", "publish", "since", "status",
    "volume",
];

/// A container as lists see it.
struct Listed {
    record: Record,
    state: State,
    endpoint: Option<Endpoint>,
    container: Container,
}

/// Lists containers, the newest first.
pub fn run(context: &Context, arguments: &Ps) -> Result<(), Error> {
    let now = OffsetDateTime::now_utc();
    let mut listed = all(context)?;
    let choice = Choice::read(&arguments.filter, &listed)?;
    let last = if arguments.latest { 1 } else { arguments.last.unwrap_or(-1) };
    let all = arguments.all || last > 0 || choice.asks_for_states();
    listed.retain(|found| (all || found.is_running()) && choice.fits(found));
    listed.sort_by_key(|found| Reverse(found.record.created));
    if let Ok(last @ 1..) = usize::try_from(last) {
        listed.truncate(last);
    }
    let full = arguments.no_trunc;
    let wants_size = arguments.size || arguments.format.as_deref().is_some_and(|format| format.contains(".Size"));
    let rows: Vec<Row> = listed.iter().map(|found| found.row(now, full, wants_size)).collect();
    let mut usual = vec![
        ("ID", false),
        ("Image", true),
        ("Command", true),
        ("RunningFor", false),
        ("Status", false),
        ("Ports", true),
        ("Names", false),
    ];
    if arguments.size {
        usual.push(("Size", false));
    }
    let list = List { columns: COLUMNS, usual };
    let only = arguments.quiet.then_some("ID");
    Ok(list.print(&context.printer, arguments.format.as_deref(), only, full, &rows)?)
}

/// All containers. One whose record is damaged is told of; one that goes in this moment is left out.
fn all(context: &Context) -> Result<Vec<Listed>, Error> {
    let places = context.places();
    let networks = Networks::of(&places.root, &places.run);
    let mut endpoints = BTreeMap::new();
    for endpoint in networks.endpoints("bridge").unwrap_or_default() {
        endpoints.insert(endpoint.container.clone(), endpoint);
    }
    let mut listed = Vec::new();
    for container in context.containers().all()? {
        let found = container.record().map_err(Error::from).and_then(|record| {
            let state = put_right(context, &container)?;
            let endpoint = endpoints.remove(container.id().as_str()).filter(|_| state.status.is_running());
            Ok(Listed { record, state, endpoint, container: container.clone() })
        });
        match found {
            Ok(found) => listed.push(found),
            Err(Error::Container(cove_container::Error::NoSuchContainer(_))) => {}
            Err(error) => context.printer.note(format!("WARNING: a container cannot be listed: {error}")),
        }
    }
    Ok(listed)
}

impl Listed {
    fn is_running(&self) -> bool {
        self.state.status.is_running() || self.state.status == Status::Restarting
    }

    fn row(&self, now: OffsetDateTime, full: bool, wants_size: bool) -> Row {
        let (record, config) = (&self.record, &self.record.config);
        let command = record.arguments().join(" ");
        let command = if full { command } else { shortened(&command, 20) };
        let id = if full { record.id.as_str() } else { record.id.short() };
        let labels: Vec<String> = config.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mounts = record.mounts.iter().map(|mount| match mount.name.is_empty() {
            true => mount.source.clone(),
            false => mount.name.clone(),
        });
        let mounts: Vec<String> = mounts.map(|name| if full { name } else { shortened(&name, 15) }).collect();
        let volumes = record.mounts.iter().filter(|mount| !mount.name.is_empty()).count();
        row([
            ("Command", format!("\"{command}\"")),
            ("CreatedAt", go_time(record.created)),
            ("ID", id.to_owned()),
            ("Image", self.image(full)),
            ("Labels", labels.join(",")),
            ("LocalVolumes", volumes.to_string()),
            ("Mounts", mounts.join(",")),
            ("Names", record.name.clone()),
            ("Networks", network_name(record).to_owned()),
            ("Ports", ports(config.exposed_ports.keys(), self.endpoint.as_ref())),
            ("RunningFor", ago(Some(record.created), now)),
            ("Size", if wants_size { self.size() } else { "0B".to_owned() }),
            ("State", self.state.status.to_string()),
            ("Status", status(&self.state, now)),
        ])
    }

    fn image(&self, full: bool) -> String {
        let name = &self.record.config.image;
        // Of an image that was named by its id the beginning says enough.
        match name.strip_prefix("sha256:") {
            Some(digits) if !full => digits.chars().take(12).collect(),
            _ => name.clone(),
        }
    }

    fn size(&self) -> String {
        human_size(disk_usage(&self.container.changes()))
    }
}

/// As docker shortens: the last character that is shown stands for the rest.
fn shortened(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

/// The network that a container is in, as `docker ps` names it.
fn network_name(record: &Record) -> &str {
    match &record.host_config.network_mode {
        NetworkMode::Default => "bridge",
        NetworkMode::None => "none",
        NetworkMode::Host => "host",
        NetworkMode::Named(name) => name,
        NetworkMode::Container(_) => "",
    }
}

/// `Up 5 minutes`, `Exited (0) 2 hours ago`.
fn status(state: &State, now: OffsetDateTime) -> String {
    let up = || {
        let since = state.started_at.map_or(now, |started| started);
        human_duration((now - since).try_into().unwrap_or_default())
    };
    let ended = || state.finished_at.map_or_else(String::new, |ended| format!(" {}", ago(Some(ended), now)));
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Running => format!("Up {}", up()),
        Status::Paused => format!("Up {} (Paused)", up()),
        Status::Restarting => format!("Restarting ({}){}", state.exit_code, ended()),
        Status::Exited => format!("Exited ({}){}", state.exit_code, ended()),
        Status::Removing => "Removal In Progress".to_owned(),
        Status::Dead => "Dead".to_owned(),
    }
}

/// `0.0.0.0:8080->80/tcp, 443/tcp`
fn ports<'a>(exposed: impl Iterator<Item = &'a String>, endpoint: Option<&Endpoint>) -> String {
    let Some(endpoint) = endpoint else { return String::new() };
    let inner = |binding: &Binding| format!("{}/{}", binding.container_port, binding.protocol);
    let mut texts: Vec<(u16, String)> = Vec::new();
    for binding in &endpoint.ports {
        let text = format!("{}->{}", std::net::SocketAddr::new(binding.host, binding.host_port), inner(binding));
        texts.push((binding.container_port, text));
    }
    let published: Vec<String> = endpoint.ports.iter().map(inner).collect();
    for port in exposed.filter(|port| !published.contains(port)) {
        texts.push((port.split('/').next().and_then(|number| number.parse().ok()).unwrap_or(0), port.clone()));
    }
    texts.sort();
    texts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(", ")
}

/// The conditions of `--filter`: of one name any, of several names all must fit.
#[derive(Default)]
struct Choice<'a> {
    filters: Vec<(&'a str, Vec<&'a str>)>,
    before: Option<OffsetDateTime>,
    since: Option<OffsetDateTime>,
}

impl<'a> Choice<'a> {
    fn read(filters: &'a [Filter], listed: &[Listed]) -> Result<Self, Error> {
        Filter::check(filters, &FILTERS)?;
        let mut choice = Choice::default();
        for filter in filters {
            let created = || {
                let found = listed.iter().find(|found| found.is_called(&filter.value));
                let missing = || cove_container::Error::NoSuchContainer(filter.value.clone());
                found.map(|found| found.record.created).ok_or_else(missing)
            };
            match filter.name.as_str() {
                "before" => {
                    let limit = created()?;
                    choice.before = Some(choice.before.map_or(limit, |other| other.min(limit)));
                }
                "since" => choice.since = choice.since.max(Some(created()?)),
                "exited" => drop(filter.number()?),
                "status" if !STATES.contains(&filter.value.as_str()) => {
                    let bad =
                        FilterError::Unknown { name: format!("status={}", filter.value), known: STATES.join(", ") };
                    return Err(bad.into());
                }
                _ => {}
            }
            match choice.filters.iter_mut().find(|(name, _)| *name == filter.name) {
                Some((_, values)) => values.push(&filter.value),
                None => choice.filters.push((&filter.name, vec![&filter.value])),
            }
        }
        Ok(choice)
    }

    /// Whether containers that do not run are wanted.
    fn asks_for_states(&self) -> bool {
        self.filters.iter().any(|(name, _)| matches!(*name, "status" | "exited"))
    }

    fn fits(&self, found: &Listed) -> bool {
        let earlier = self.before.is_none_or(|before| found.record.created < before);
        let later = self.since.is_none_or(|since| found.record.created > since);
        earlier
            && later
            && self.filters.iter().all(|(name, values)| match *name {
                // All labels must be there, as with docker.
                "label" => values.iter().all(|value| found.fits("label", value)),
                "before" | "since" => true,
                name => values.iter().any(|value| found.fits(name, value)),
            })
    }
}

const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

impl Listed {
    fn is_called(&self, name: &str) -> bool {
        self.record.name == name.trim_start_matches('/') || self.record.id.as_str().starts_with(name)
    }

    fn fits(&self, filter: &str, value: &str) -> bool {
        let (record, config) = (&self.record, &self.record.config);
        match filter {
            "id" => record.id.as_str().starts_with(value),
            "name" => record.name.contains(value.trim_start_matches('/')) || value == format!("^/?{}$", record.name),
            "label" => {
                let (name, wanted) = label(value);
                config.labels.get(&name).is_some_and(|found| wanted.is_none_or(|wanted| wanted == *found))
            }
            "status" => self.state.status.as_str() == value,
            "exited" => self.state.status == Status::Exited && value.parse() == Ok(self.state.exit_code),
            "ancestor" => {
                let image = record.image.trim_start_matches("sha256:");
                config.image == value
                    || config.image == format!("{value}:latest")
                    || image.starts_with(value.trim_start_matches("sha256:"))
            }
            "network" => network_name(record) == value,
            "volume" => {
                record.mounts.iter().any(|mount| [&mount.name, &mount.destination].contains(&&value.to_owned()))
            }
            "expose" => config.exposed_ports.keys().any(|port| is_port(port, value)),
            "publish" => {
                let ports = self.endpoint.iter().flat_map(|endpoint| &endpoint.ports);
                ports.into_iter().any(|binding| is_port(&format!("{}/{}", binding.host_port, binding.protocol), value))
            }
            _ => false,
        }
    }
}

/// `80/tcp` is meant by `80`, `80/tcp` and `80-90`.
fn is_port(port: &str, wanted: &str) -> bool {
    let (wanted, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let (number, own) = port.split_once('/').unwrap_or((port, "tcp"));
    let (first, last) = wanted.split_once('-').unwrap_or((wanted, wanted));
    let number = number.parse::<u16>().ok();
    let within = |first: Result<u16, _>, last: Result<u16, _>| Some((first.ok()?, last.ok()?));
    own == protocol
        && within(first.parse(), last.parse())
            .is_some_and(|(first, last)| number.is_some_and(|number| (first..=last).contains(&number)))
}

#[cfg(test)]
mod tests {
    use super::{is_port, shortened};

    #[test]
    fn ports_and_ranges() {
        assert!(is_port("80/tcp", "80") && is_port("80/tcp", "80/tcp") && is_port("85/tcp", "80-90"));
        assert!(!is_port("80/udp", "80") && !is_port("8/tcp", "80") && !is_port("80/tcp", "x"));
    }

    #[test]
    fn long_words_end_with_an_ellipsis() {
        assert_eq!(shortened("sleep 300", 20), "sleep 300");
        assert_eq!(shortened("sh -c 'while true; do date; done'", 20), "sh -c 'while true; …");
    }
}
