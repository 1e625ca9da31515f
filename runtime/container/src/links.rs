//! `--link`: what a container learns of another one, as docker tells it: lines of its hosts file and variables of its
//! environment.
//!
//! `HostConfig.Links` of a record names the other container by its id, so that it may be called otherwise later:
//! `<id>:<alias>`.

use crate::{ContainerId, Record};

/// One link of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The other container.
    pub id: ContainerId,
    /// What it is called here.
    pub alias: String,
}

/// The links of a container.
pub fn links(record: &Record) -> impl Iterator<Item = Link> + '_ {
    record.host_config.links.iter().filter_map(|text| {
        let (id, alias) = text.split_once(':')?;
        Some(Link { id: ContainerId::try_from(id.to_owned()).ok()?, alias: alias.to_owned() })
    })
}

/// Name and alias in `NAME[:ALIAS]`, or in docker's `/name:/of/alias`, as `inspect` shows it.
pub fn parse(text: &str) -> (&str, &str) {
    match text.split_once(':') {
        Some((name, alias)) => match name.strip_prefix('/') {
            Some(name) => (name, alias.rsplit('/').next().unwrap_or(alias)),
            None => (name, alias),
        },
        None => (text, text),
    }
}

impl Link {
    /// As a record keeps it.
    pub fn kept(&self) -> String {
        format!("{}:{}", self.id, self.alias)
    }

    /// The names of the other container in the hosts file: its alias first, by which the line is found again.
    pub fn hosts_names(&self, other: &Record) -> String {
        let mut names = format!("{} {}", self.alias, other.config.hostname);
        if self.alias != other.name {
            names.push(' ');
            names.push_str(&other.name);
        }
        names
    }

    /// The variables: of the other container, which has this address, in the environment of `own`.
    pub fn environment(&self, own: &Record, other: &Record, address: &str) -> Vec<String> {
        let alias = self.alias.to_uppercase().replace('-', "_");
        let ports = ports(other);
        let mut lines = Vec::new();
        let first = ports.iter().min_by_key(|port| (port.number, port.protocol != "tcp"));
        if let Some(port) = first {
            lines.push(format!("{alias}_PORT={}", port.url(address)));
        }
        // Ports in a row are told of as a row, too.
        let mut at = 0;
        while let Some(port) = ports.get(at) {
            let last = end_of_row(&ports, at);
            if last > at + 1 {
                let (name, end) = (format!("{alias}_PORT_{}", port.name()), &ports[last]);
                lines.push(format!("{name}_START={}", port.url(address)));
                lines.push(format!("{name}_ADDR={address}"));
                lines.push(format!("{name}_PROTO={}", port.protocol));
                lines.push(format!("{name}_PORT_START={}", port.number));
                lines.push(format!("{name}_END={}", end.url(address)));
                lines.push(format!("{name}_PORT_END={}", end.number));
                at = last + 1;
            } else {
                at += 1;
            }
        }
        for port in &ports {
            let name = format!("{alias}_PORT_{}", port.name());
            lines.push(format!("{name}={}", port.url(address)));
            lines.push(format!("{name}_ADDR={address}"));
            lines.push(format!("{name}_PORT={}", port.number));
            lines.push(format!("{name}_PROTO={}", port.protocol));
        }
        lines.push(format!("{alias}_NAME=/{}/{}", own.name, self.alias));
        let told = other.config.env.iter().filter_map(|line| line.split_once('='));
        let told = told.filter(|(name, _)| !matches!(*name, "HOME" | "PATH"));
        lines.extend(told.map(|(name, value)| format!("{alias}_ENV_{name}={value}")));
        lines
    }
}

/// A port that something listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Port {
    number: u16,
    protocol: String,
}

impl Port {
    fn name(&self) -> String {
        format!("{}_{}", self.number, self.protocol.to_uppercase())
    }

    fn url(&self, address: &str) -> String {
        format!("{}://{address}:{}", self.protocol, self.number)
    }
}

/// The ports that a container exposes, those of tcp first.
fn ports(record: &Record) -> Vec<Port> {
    let read = |text: &String| {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        Some(Port { number: number.parse().ok()?, protocol: protocol.to_owned() })
    };
    let mut ports: Vec<Port> = record.config.exposed_ports.keys().filter_map(read).collect();
    ports.sort_by(|one, other| {
        let key = |port: &Port| (port.protocol != "tcp", port.protocol.clone(), port.number);
        key(one).cmp(&key(other))
    });
    ports
}

/// The last port of the row that begins at a place.
fn end_of_row(ports: &[Port], begin: usize) -> usize {
    let mut last = begin;
    while ports.get(last + 1).is_some_and(|next| u32::from(next.number) <= u32::from(ports[last].number) + 1) {
        last += 1;
    }
    last
}

/// The hosts file after the other container has got another address: in the lines that begin with this alias.
pub fn with_address(hosts: &str, alias: &str, address: &str) -> String {
    let changed = |line: &str| match line.split_once('\t') {
        Some((_, names)) if names.split(' ').next() == Some(alias) => format!("{address}\t{names}\n"),
        _ => format!("{line}\n"),
    };
    hosts.lines().map(changed).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn record(name: &str, ports: &[&str], env: &[&str]) -> Record {
        let config = serde_json::json!({
            "Hostname": format!("{name}-host"),
            "Env": env,
            "ExposedPorts": ports.iter().map(|port| ((*port).to_owned(), serde_json::json!({}))).collect::<serde_json::Map<_, _>>(),
        });
        serde_json::from_value(serde_json::json!({
            "id": "a".repeat(64), "name": name, "created": "2026-01-01T00:00:00Z", "image": "", "platform": "linux/amd64",
            "layers": [], "user_attributes": false, "root": { "user": 0, "group": 0, "mode": 0o755 }, "mounts": [],
            "config": config, "host_config": {},
        }))
        .unwrap()
    }

    fn link(alias: &str) -> Link {
        Link { id: ContainerId::try_from("b".repeat(64)).unwrap(), alias: alias.to_owned() }
    }

    #[test]
    fn what_is_asked_for_is_read_as_docker_does() {
        assert_eq!(parse("db"), ("db", "db"));
        assert_eq!(parse("wordpressdb:mysql"), ("wordpressdb", "mysql"));
        assert_eq!(parse("/db:/web/mysql"), ("db", "mysql"));
        let mut own = record("web", &[], &[]);
        own.host_config.links = vec![link("my").kept(), "nonsense".to_owned()];
        assert_eq!(links(&own).collect::<Vec<_>>(), [link("my")]);
    }

    #[test]
    fn variables_are_dockers() {
        let own = record("web", &[], &[]);
        let db = record("db", &["3306/tcp", "53/udp"], &["PATH=/bin", "HOME=/", "ROOT_PASSWORD=a=b", "flag"]);
        let expected = [
            "MY_DB_PORT=udp://172.17.0.2:53",
            "MY_DB_PORT_3306_TCP=tcp://172.17.0.2:3306",
            "MY_DB_PORT_3306_TCP_ADDR=172.17.0.2",
            "MY_DB_PORT_3306_TCP_PORT=3306",
            "MY_DB_PORT_3306_TCP_PROTO=tcp",
            "MY_DB_PORT_53_UDP=udp://172.17.0.2:53",
            "MY_DB_PORT_53_UDP_ADDR=172.17.0.2",
            "MY_DB_PORT_53_UDP_PORT=53",
            "MY_DB_PORT_53_UDP_PROTO=udp",
            "MY_DB_NAME=/web/my-db",
            "MY_DB_ENV_ROOT_PASSWORD=a=b",
        ];
        assert_eq!(link("my-db").environment(&own, &db, "172.17.0.2"), expected);
        assert_eq!(link("x").environment(&own, &record("db", &[], &[]), "1.2.3.4"), ["X_NAME=/web/x"]);
    }

    #[test]
    fn ports_in_a_row_are_a_row() {
        let db = record("db", &["80/tcp", "81/tcp", "82/tcp", "90/tcp"], &[]);
        let lines = link("x").environment(&record("web", &[], &[]), &db, "1.2.3.4");
        let row = [
            "X_PORT=tcp://1.2.3.4:80",
            "X_PORT_80_TCP_START=tcp://1.2.3.4:80",
            "X_PORT_80_TCP_ADDR=1.2.3.4",
            "X_PORT_80_TCP_PROTO=tcp",
            "X_PORT_80_TCP_PORT_START=80",
            "X_PORT_80_TCP_END=tcp://1.2.3.4:82",
            "X_PORT_80_TCP_PORT_END=82",
            "X_PORT_80_TCP=tcp://1.2.3.4:80",
        ];
        assert_eq!(lines[..row.len()], row);
        assert!(lines.contains(&"X_PORT_90_TCP_PORT=90".to_owned()));
    }

    #[test]
    fn the_hosts_file_follows_an_address() {
        let db = record("db", &[], &[]);
        assert_eq!(link("my").hosts_names(&db), "my db-host db");
        assert_eq!(link("db").hosts_names(&db), "db db-host");
        let before = "127.0.0.1\tlocalhost\n172.17.0.2\tmy db-host db\n172.17.0.3\tmyself my\n";
        let after = "127.0.0.1\tlocalhost\n172.17.0.9\tmy db-host db\n172.17.0.3\tmyself my\n";
        assert_eq!(with_address(before, "my", "172.17.0.9"), after);
    }
}
