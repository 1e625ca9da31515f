//! `cove volume …`

pub(super) mod list;
mod prune;

use std::collections::BTreeMap;
use std::io;

use cove_container::Volume;
use cove_container::events::Event;
use cove_container::volumes::{self, Wanted};
use serde::Serialize;

use crate::arguments::{CreateVolume, InspectVolumes, RemoveVolumes, VolumeCommand};
use crate::context::Context;
use crate::error::Error;
use crate::inspection::pretty;
use crate::template::Template;
use crate::units::rfc3339_seconds;

/// Runs one of them.
pub fn run(context: &Context, command: VolumeCommand) -> Result<(), Error> {
    match command {
        VolumeCommand::Create(arguments) => create(context, &arguments),
        VolumeCommand::Inspect(arguments) => inspect(context, &arguments),
        VolumeCommand::Ls(arguments) => list::run(context, &arguments),
        VolumeCommand::Prune(arguments) => prune::run(context, &arguments),
        VolumeCommand::Rm(arguments) => remove(context, &arguments),
    }
}

fn create(context: &Context, arguments: &CreateVolume) -> Result<(), Error> {
    let name = match (&arguments.name, &arguments.volume) {
        (Some(_), Some(_)) => {
            return Err(Error::Options(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
            ));
        }
        (name, volume) => volume.as_ref().or(name.as_ref()).cloned(),
    };
    let wanted = Wanted {
        name: name.filter(|name| !name.is_empty()),
        driver: arguments.driver.clone().unwrap_or_default(),
        labels: pairs(&arguments.label),
        options: pairs(&arguments.opt),
    };
    let volume = context.volumes().create(wanted)?;
    context.tell(&Event::of_volume("create", volume.name(), &volume.record().driver));
    Ok(context.printer.line(volume.name())?)
}

/// `name=value`, or a name without value.
fn pairs(texts: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    texts.iter().map(pair).collect()
}

/// Docker's description of a volume, its fields in docker's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Document {
    created_at: String,
    driver: String,
    labels: Option<BTreeMap<String, String>>,
    mountpoint: String,
    name: String,
    options: Option<BTreeMap<String, String>>,
    scope: String,
}

/// Docker's description of a volume.
pub fn document(volume: &Volume) -> Document {
    let record = volume.record();
    // Where docker writes `null` for what was never given, so do we.
    let given = |map: &BTreeMap<String, String>| Some(map.clone()).filter(|map| !map.is_empty());
    Document {
        created_at: rfc3339_seconds(record.created),
        driver: record.driver.clone(),
        labels: given(&record.labels),
        mountpoint: volume.data().display().to_string(),
        name: record.name.clone(),
        options: given(&record.options),
        scope: record.scope.clone(),
    }
}

/// Prints what is found, then what is not.
fn inspect(context: &Context, arguments: &InspectVolumes) -> Result<(), Error> {
    let format = arguments.format.as_deref().map(str::trim).filter(|format| !format.is_empty());
    let template = format.filter(|format| *format != "json").map(Template::parse).transpose()?;
    let volumes = context.volumes();
    let (mut documents, mut failures) = (Vec::new(), Vec::new());
    for name in &arguments.volumes {
        match volumes.find(name) {
            Ok(volume) => documents.push(document(&volume)),
            Err(error) => failures.push(Error::from(error)),
        }
    }
    match (&template, format) {
        (Some(template), _) => {
            for document in &documents {
                context.printer.line(template.execute_document(document)?)?;
            }
        }
        (None, Some(_)) => context.printer.line(serde_json::to_string(&documents).map_err(io::Error::from)?)?,
        (None, None) => context.printer.line(pretty(&documents).map_err(io::Error::from)?)?,
    }
    told(context, &failures)
}

/// Removes volumes. Every name is tried; what failed is told at the end, as docker does it.
fn remove(context: &Context, arguments: &RemoveVolumes) -> Result<(), Error> {
    let (volumes, containers) = (context.volumes(), context.containers());
    let mut failures = Vec::new();
    for name in &arguments.volumes {
        let removed = volumes.find(name).and_then(|volume| {
            volumes.remove(&volume, &containers)?;
            context.tell(&Event::of_volume("destroy", volume.name(), &volume.record().driver));
            Ok(())
        });
        match removed {
            Ok(()) => context.printer.line(name)?,
            // What `-f` is to remove may be gone already.
            Err(volumes::Error::NoSuchVolume(_)) if arguments.force => context.printer.line(name)?,
            Err(error) => failures.push(Error::from(error)),
        }
    }
    told(context, &failures)
}

fn told(context: &Context, failures: &[Error]) -> Result<(), Error> {
    for text in failures.iter().filter_map(Error::text) {
        context.printer.note(text);
    }
    if failures.is_empty() { Ok(()) } else { Err(Error::Told) }
}
