//! `cove inspect`, `cove container inspect`, `cove image inspect` and `cove network inspect`

use cove_container::Volumes;
use cove_engine::{Image, Store};
use cove_network::Networks;
use cove_oci::{Platform, ReferenceDefaults};
use serde::Serialize;

use super::network::{self, DescribedNetwork};
use super::volume;
use crate::arguments::{Inspect, InspectContainers, InspectImage, InspectNetworks};
use crate::containers::{Described, described};
use crate::context::Context;
use crate::error::Error;
use crate::inspection::{Document, Inspected, document, pretty, shown};
use crate::listing::familiar;
use crate::template::Template;

/// What docker's `inspect` can look for. Of these there are containers, images, networks and volumes.
const KINDS: [&str; 10] =
    ["config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume"];

/// Anything that can be inspected.
#[derive(Serialize)]
#[serde(untagged)]
enum Object {
    Container(Box<Described>),
    Image(Box<Document>),
    Network(Box<DescribedNetwork>),
    Volume(Box<volume::Document>),
}

/// `cove inspect`
pub fn run(context: &Context, arguments: &Inspect) -> Result<(), Error> {
    let kind = arguments.kind.as_deref().unwrap_or_default();
    if !kind.is_empty() && !KINDS.contains(&kind) {
        return Err(Error::InspectKind {
            kind: kind.to_owned(),
            known: KINDS.map(|kind| format!("{kind:?}")).join(", "),
        });
    }
    let finder = Finder::new(context, arguments.size, None);
    print(context, arguments.format.as_deref(), &arguments.names, &|name| match kind {
        "container" => finder.container(name),
        "image" => finder.image(name),
        "network" => finder.network(name),
        "volume" => finder.volume(name),
        "" => finder.anything(name),
        kind => Err(format!("Error: No such {kind}: {name}")),
    })
}

/// `cove container inspect`
pub fn run_containers(context: &Context, arguments: &InspectContainers) -> Result<(), Error> {
    let finder = Finder::new(context, arguments.size, None);
    print(context, arguments.format.as_deref(), &arguments.containers, &|name| finder.container(name))
}

/// `cove image inspect`
pub fn run_image(context: &Context, arguments: &InspectImage) -> Result<(), Error> {
    let finder = Finder::new(context, false, arguments.platform.as_ref());
    print(context, arguments.format.as_deref(), &arguments.images, &|name| finder.image(name))
}

/// `cove network inspect`
pub fn run_networks(context: &Context, arguments: &InspectNetworks) -> Result<(), Error> {
    let finder = Finder::new(context, false, None);
    print(context, arguments.format.as_deref(), &arguments.networks, &|name| finder.network(name))
}

/// Finds things; what fails is told in words.
struct Finder<'a> {
    context: &'a Context,
    sizes: bool,
    platform: Option<&'a Platform>,
    images: std::cell::OnceCell<(Store, ReferenceDefaults)>,
}

impl<'a> Finder<'a> {
    fn new(context: &'a Context, sizes: bool, platform: Option<&'a Platform>) -> Self {
        Self { context, sizes, platform, images: std::cell::OnceCell::new() }
    }

    /// Docker's order.
    fn anything(&self, name: &str) -> Result<Object, String> {
        match self.find_container(name) {
            Err(Error::Container(cove_container::Error::NoSuchContainer(_))) => {}
            found => return found.map_err(text),
        }
        match self.find_image(name) {
            Err(error) if error.is_no_such_image() => {}
            found => return found.map_err(text),
        }
        match self.find_network(name) {
            Err(cove_network::Error::NoSuchNetwork { .. }) => {}
            found => return found.map_err(|error| text(error.into())),
        }
        match self.find_volume(name) {
            Ok(Some(volume)) => Ok(volume),
            Ok(None) => Err(format!("Error: No such object: {name}")),
            Err(error) => Err(error),
        }
    }

    fn container(&self, name: &str) -> Result<Object, String> {
        self.find_container(name).map_err(text)
    }

    fn image(&self, name: &str) -> Result<Object, String> {
        self.find_image(name).map_err(|error| match error.is_no_such_image() {
            true => format!("Error response from daemon: No such image: {name}"),
            false => text(error),
        })
    }

    fn network(&self, name: &str) -> Result<Object, String> {
        self.find_network(name).map_err(|error| text(error.into()))
    }

    fn volume(&self, name: &str) -> Result<Object, String> {
        self.find_volume(name)?.ok_or_else(|| format!("Error response from daemon: get {name}: no such volume"))
    }

    fn find_container(&self, name: &str) -> Result<Object, Error> {
        let container = self.context.containers().find(name)?;
        Ok(Object::Container(Box::new(described(self.context, &container, self.sizes)?)))
    }

    fn find_image(&self, name: &str) -> Result<Object, Error> {
        if self.images.get().is_none() {
            let _ = self.images.set((self.context.store()?, self.context.defaults()?));
        }
        let Some((store, defaults)) = self.images.get() else { return Err(Error::Told) };
        let found = store.find(name, defaults)?;
        let image = match self.platform {
            Some(platform) => store.for_platform(&found, name, platform)?,
            None => found.image,
        };
        Ok(Object::Image(Box::new(describe(&image, defaults))))
    }

    fn find_network(&self, name: &str) -> Result<Object, cove_network::Error> {
        let places = self.context.places();
        let networks = Networks::of(&places.root, &places.run);
        let found = networks.find(name)?;
        Ok(Object::Network(Box::new(network::described(self.context, &networks, found)?)))
    }

    fn find_volume(&self, name: &str) -> Result<Option<Object>, String> {
        let volume = Volumes::new(&self.context.places().root).get(name);
        let volume = volume.map_err(|error| format!("Error response from daemon: {error}"))?;
        Ok(volume.map(|volume| Object::Volume(Box::new(volume::document(&volume)))))
    }
}

fn text(error: Error) -> String {
    error.text().unwrap_or_default()
}

/// Prints what is found, then what is not.
fn print(
    context: &Context,
    format: Option<&str>,
    names: &[String],
    find: &dyn Fn(&str) -> Result<Object, String>,
) -> Result<(), Error> {
    let format = format.map(str::trim).filter(|format| !format.is_empty());
    let template = format.filter(|format| *format != "json").map(Template::parse).transpose()?;
    let mut documents = Vec::new();
    let mut failures: Vec<String> = Vec::new();
    for name in names {
        match find(name) {
            Ok(found) => documents.push(found),
            Err(failure) => failures.push(failure),
        }
    }
    match (&template, format) {
        (Some(template), _) => {
            for document in &documents {
                context.printer.line(template.execute_document(document)?)?;
            }
        }
        (None, Some(_)) => context.printer.line(serde_json::to_string(&documents).map_err(std::io::Error::from)?)?,
        (None, None) => context.printer.line(pretty(&documents).map_err(std::io::Error::from)?)?,
    }
    for failure in &failures {
        context.printer.note(failure);
    }
    if failures.is_empty() { Ok(()) } else { Err(Error::Told) }
}

fn describe(image: &Image, defaults: &ReferenceDefaults) -> Document {
    let show = |names: &[cove_oci::Reference]| shown(names, |name| familiar(name, defaults));
    document(Inspected {
        config: image.config(),
        tags: show(image.tags()),
        digests: show(image.digests()),
        size: image.size(),
        folders: image.layer_folders().iter().map(|folder| folder.display().to_string()).collect(),
        last_tag: image.last_tag().map(str::to_owned),
        descriptor: None,
    })
}
