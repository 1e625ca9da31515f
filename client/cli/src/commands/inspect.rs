//! `cove inspect` and `cove image inspect`

use cove_engine::Image;
use cove_oci::{Platform, ReferenceDefaults};

use crate::arguments::{Inspect, InspectImage};
use crate::context::Context;
use crate::error::Error;
use crate::inspection::{Document, Inspected, document, pretty, shown};
use crate::listing::familiar;
use crate::template::Template;

/// What docker's `inspect` can look for. Of these there are only images so far.
const KINDS: [&str; 10] =
    ["config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume"];

/// `cove inspect`
pub fn run(context: &Context, arguments: &Inspect) -> Result<(), Error> {
    let kind = arguments.kind.as_deref().unwrap_or_default();
    if !kind.is_empty() && !KINDS.contains(&kind) {
        return Err(Error::InspectKind {
            kind: kind.to_owned(),
            known: KINDS.map(|kind| format!("{kind:?}")).join(", "),
        });
    }
    let missing = |name: &str| match kind {
        "" => format!("Error: No such object: {name}"),
        "image" => format!("Error response from daemon: No such image: {name}"),
        kind => format!("Error: No such {kind}: {name}"),
    };
    let wanted = if matches!(kind, "" | "image") { arguments.names.as_slice() } else { &[] };
    let absent = if wanted.is_empty() { arguments.names.as_slice() } else { &[] };
    print(context, arguments.format.as_deref(), None, wanted, absent, &missing)
}

/// `cove image inspect`
pub fn run_image(context: &Context, arguments: &InspectImage) -> Result<(), Error> {
    let missing = |name: &str| format!("Error response from daemon: No such image: {name}");
    let platform = arguments.platform.as_ref();
    print(context, arguments.format.as_deref(), platform, &arguments.images, &[], &missing)
}

/// Prints what is found, then what is not.
fn print(
    context: &Context,
    format: Option<&str>,
    platform: Option<&Platform>,
    names: &[String],
    absent: &[String],
    missing: &dyn Fn(&str) -> String,
) -> Result<(), Error> {
    let format = format.map(str::trim).filter(|format| !format.is_empty());
    let template = format.filter(|format| *format != "json").map(Template::parse).transpose()?;
    let (store, defaults) = (context.store()?, context.defaults()?);
    let mut documents = Vec::new();
    let mut failures: Vec<String> = Vec::new();
    for name in names {
        let found = store.find(name, &defaults).and_then(|found| match platform {
            Some(platform) => store.for_platform(&found, name, platform),
            None => Ok(found.image),
        });
        match found {
            Ok(image) => documents.push(describe(&image, &defaults)),
            Err(error) => {
                let error = Error::from(error);
                failures.push(if error.is_no_such_image() { missing(name) } else { error.text().unwrap_or_default() });
            }
        }
    }
    failures.extend(absent.iter().map(|name| missing(name)));
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
