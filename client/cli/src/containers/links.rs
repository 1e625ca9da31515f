//! `--link`: from names to containers and back.

use cove_container::check::CheckError;
use cove_container::config::NetworkMode;
use cove_container::links::{self, Link};
use cove_container::{Container, Record};

use crate::context::Context;
use crate::error::Error;
use crate::options::OptionError;

/// Docker's words.
const TO_HOST: &str = "host type networking can't be used with links. This would result in undefined behavior";

/// Links as a record keeps them: to containers that are there, by their ids.
pub fn kept(context: &Context, asked: &[String]) -> Result<Vec<String>, Error> {
    let containers = context.containers();
    let mut kept: Vec<Link> = Vec::new();
    for text in asked {
        let (name, alias) = links::parse(text);
        let mut other = containers.find(name).and_then(|found| found.record()).map_err(|error| match error {
            cove_container::Error::NoSuchContainer(_) => Error::NoLinked(name.to_owned()),
            other => other.into(),
        })?;
        // One that is in the network of another has that one's address.
        while let NetworkMode::Container(next) = &other.host_config.network_mode {
            other = containers.find(next)?.record()?;
        }
        if other.host_config.network_mode == NetworkMode::Host {
            return Err(OptionError::from(CheckError::Conflict(TO_HOST)).into());
        }
        // Of two with one alias docker takes the first.
        if kept.iter().all(|link| link.alias != alias) {
            kept.push(Link { id: other.id, alias: alias.to_owned() });
        }
    }
    Ok(kept.iter().map(Link::kept).collect())
}

/// Links as docker shows them: `/name:/of/alias`.
pub fn shown(context: &Context, record: &Record) -> Vec<String> {
    let containers = context.containers();
    let show = |link: Link| {
        let other = containers.get(&link.id)?.record().ok()?;
        Some(format!("/{}:/{}/{}", other.name, record.name, link.alias))
    };
    links::links(record).filter_map(show).collect()
}

/// `rm --link OF/ALIAS`: the container stays, its link goes.
pub fn remove(context: &Context, name: &str) -> Result<(), Error> {
    let missing = || cove_container::Error::NoSuchContainer(name.to_owned()).into();
    let Some((of, alias)) = name.trim_start_matches('/').split_once('/') else {
        context.containers().find(name)?;
        return Err(Error::DefaultName);
    };
    let container = context.containers().find(of).map_err(|_| -> Error { missing() })?;
    let _lock = container.lock_exclusive()?;
    let mut record = container.record()?;
    let goes: Vec<String> = links::links(&record).filter(|link| link.alias == alias).map(|link| link.kept()).collect();
    if goes.is_empty() {
        return Err(missing());
    }
    record.host_config.links.retain(|link| !goes.contains(link));
    container.write_record(&record)?;
    super::ask(&container, &cove_container::protocol::Message::Reload).map(drop)
}

/// The environment that links have given a container that runs.
pub fn environment(container: &Container, record: &Record) -> Vec<String> {
    if record.host_config.links.is_empty() {
        return Vec::new();
    }
    let text = std::fs::read(container.run_folder().join("links.json")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}
