//! `cove ps`

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use cove_container::config::NetworkMode;
use cove_container::{Container, HealthStatus, Record, State, Status};
use cove_network::{Endpoint, Networks};
use time::OffsetDateTime;

use crate::arguments::Ps;
use crate::commands::volume::list::is_part;
use crate::containers::{disk_usage, put_right};
use crate::context::Context;
use crate::error::Error;
use crate::filter::{Filter, FilterError};
use crate::format::{Column, LABELS, List, Row, go_quote, row};
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

const FILTERS: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

/// Docker's `--format raw`.
const RAW: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n\
    state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\n\
    ports: {{- pad .Ports 1 0}}{{println}}";

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
    let wants_size = arguments.size
        || arguments.format.as_deref().is_some_and(|format| {
            format.contains(".Size") || format.split("{{").any(|action| action.trim_start().starts_with("json .}}"))
        });
    let sizes = if wants_size { Some(image_sizes(context)?) } else { None };
    let rows: Vec<Row> = listed.iter().map(|found| found.row(now, full, sizes.as_ref())).collect();
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
    let format = arguments.format.as_deref().filter(|format| !format.is_empty());
    if format.is_some() && arguments.quiet {
        context.printer.note("WARNING: Ignoring custom format, because both --format and --quiet are set.");
    }
    let format = match (format, arguments.quiet) {
        (Some("raw"), true) => Some("container_id: {{.ID}}"),
        (Some("raw"), false) => Some(RAW),
        (_, true) => None,
        (format, false) => format,
    };
    let only = arguments.quiet.then_some("ID");
    Ok(list.print(&context.printer, format, only, full, &rows)?)
}

/// Bytes of images' files, by id.
type ImageSizes = BTreeMap<String, u64>;

fn image_sizes(context: &Context) -> Result<ImageSizes, Error> {
    Ok(context.store()?.images()?.iter().map(|image| (image.id().to_string(), image.size())).collect())
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

    fn row(&self, now: OffsetDateTime, full: bool, sizes: Option<&ImageSizes>) -> Row {
        let (record, config) = (&self.record, &self.record.config);
        let quoted = |word: String| if word.contains(' ') { format!("'{word}'") } else { word };
        let command = record.arguments().into_iter().map(quoted).collect::<Vec<_>>().join(" ");
        let command = if full { command } else { shortened(&command, 20) };
        let id = if full { record.id.as_str() } else { record.id.short() };
        let labels: Vec<String> = config.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mounts = record.mounts.iter().map(|mount| match mount.name.is_empty() {
            true => mount.source.clone(),
            false => mount.name.clone(),
        });
        let mounts: Vec<String> = mounts.map(|name| if full { name } else { shortened(&name, 15) }).collect();
        let volumes = record.mounts.iter().filter(|mount| !mount.name.is_empty()).count();
        let mut fields = row([
            ("Command", go_quote(&command)),
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
            ("Size", sizes.map_or_else(|| "0B".to_owned(), |sizes| self.size(sizes))),
            ("State", self.state.status.to_string()),
            ("Status", status(&self.state, now)),
        ]);
        // What `{{.Label "name"}}` reads.
        fields.insert(
            LABELS.to_owned(),
            config.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        );
        fields
    }

    fn image(&self, full: bool) -> String {
        let name = &self.record.config.image;
        // Of an image that was named by its id the beginning says enough.
        match name.strip_prefix("sha256:") {
            Some(digits) if !full => digits.chars().take(12).collect(),
            _ => name.clone(),
        }
    }

    /// Of its own files, and with those of its image.
    fn size(&self, images: &ImageSizes) -> String {
        let own = disk_usage(&self.container.changes());
        let image = images.get(&self.record.image).copied().unwrap_or(0);
        match own + image {
            0 => human_size(own),
            all => format!("{} (virtual {})", human_size(own), human_size(all)),
        }
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
        Status::Running => match state.health.as_ref().map(|health| health.status) {
            None => format!("Up {}", up()),
            Some(HealthStatus::Starting) => format!("Up {} (health: starting)", up()),
            Some(health) => format!("Up {} ({})", up(), health.as_str()),
        },
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
    // Container's port, where it is reached, protocol.
    let mut all: Vec<(u16, Option<SocketAddr>, String)> = endpoint
        .ports
        .iter()
        .map(|it| (it.container_port, Some(SocketAddr::new(it.host, it.host_port)), it.protocol.to_string()))
        .collect();
    for port in exposed {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let number = number.parse().unwrap_or(0);
        if !all.iter().any(|(known, _, other)| *known == number && other == protocol) {
            all.push((number, None, protocol.to_owned()));
        }
    }
    all.sort();
    shown_ports(&all)
}

/// Ports in docker's order: those reached by the same number first, neighbours as one range, then all others.
fn shown_ports(all: &[(u16, Option<SocketAddr>, String)]) -> String {
    let mut ranges: Vec<(Option<IpAddr>, &str, u16, u16)> = Vec::new();
    let mut mapped = Vec::new();
    for (port, host, protocol) in all {
        match host {
            Some(host) if host.port() != *port => mapped.push(format!("{host}->{port}/{protocol}")),
            host => {
                let address = host.map(|host| host.ip());
                match ranges.iter_mut().rev().find(|range| (range.0, range.1) == (address, protocol.as_str())) {
                    Some(range) if range.3.checked_add(1) == Some(*port) => range.3 = *port,
                    _ => ranges.push((address, protocol, *port, *port)),
                }
            }
        }
    }
    let range = |(address, protocol, first, last): &(Option<IpAddr>, &str, u16, u16)| {
        let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
        match address {
            Some(IpAddr::V6(address)) => format!("[{address}]:{ports}->{ports}/{protocol}"),
            Some(address) => format!("{address}:{ports}->{ports}/{protocol}"),
            None => format!("{ports}/{protocol}"),
        }
    };
    ranges.iter().map(range).chain(mapped).collect::<Vec<_>>().join(", ")
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
                "health" if !HEALTH.contains(&filter.value.to_ascii_lowercase().as_str()) => {
                    let text = format!("Unrecognised filter value for health: {}", filter.value);
                    return Err(Error::Refused(text));
                }
                "is-task" => drop(filter.boolean()?),
                "publish" | "expose" if !is_range(&filter.value) => return Err(bad_port(filter)),
                // Of nothing.
                "" => continue,
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

const HEALTH: [&str; 4] = ["starting", "healthy", "unhealthy", "none"];

const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

impl Listed {
    fn is_called(&self, name: &str) -> bool {
        self.record.name == name.trim_start_matches('/') || self.record.id.as_str().starts_with(name)
    }

    fn fits(&self, filter: &str, value: &str) -> bool {
        let (record, config) = (&self.record, &self.record.config);
        match filter {
            "id" => record.id.as_str().starts_with(value),
            // Names have a slash before them for docker.
            "name" => is_part(&value.replacen("/?", "", 1).replacen('/', "", 1), &record.name),
            "label" => {
                let (name, wanted) = label(value);
                config.labels.get(&name).is_some_and(|found| wanted.is_none_or(|wanted| wanted == *found))
            }
            "health" => {
                let own = self.state.health.as_ref().map_or("none", |health| health.status.as_str());
                own.eq_ignore_ascii_case(value)
            }
            "status" => self.state.status.as_str() == value,
            "exited" => self.state.status == Status::Exited && value.parse() == Ok(self.state.exit_code),
            "ancestor" => {
                let image = record.image.trim_start_matches("sha256:");
                config.image == value
                    || config.image == format!("{value}:latest")
                    || format!("{}:latest", config.image) == value
                    || image.starts_with(value.trim_start_matches("sha256:"))
            }
            // There are no tasks here, and one way of isolation.
            "is-task" => matches!(crate::filter::go_bool(value), Some(false)),
            "isolation" => true,
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

/// Whether a filter names a port or a range of them.
fn is_range(text: &str) -> bool {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    matches!(protocol, "tcp" | "udp" | "sctp") && [first, last].iter().all(|port| port.parse::<u16>().is_ok())
}

fn bad_port(filter: &Filter) -> Error {
    FilterError::Number { name: filter.name.clone(), value: filter.value.clone() }.into()
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
