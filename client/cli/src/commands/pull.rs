//! `cove pull`

use cove_container::events::Event;
use cove_engine::{ReceiveOptions, Store};
use cove_oci::{Digest, ManifestReference, Platform, Reference};
use cove_remote::{Access, Client};
use cove_transfer::{CopyOptions, Kind, Placed, Platforms, copy};

use crate::arguments::{ProgressStyle, Pull};
use crate::context::Context;
use crate::error::Error;
use crate::progress::{Direction, Reporter};

/// Blobs that travel at once where nothing is configured.
pub const BLOBS_AT_ONCE: usize = 8;

/// Downloads an image, or with `-a` all of a repository.
pub fn run(context: &Context, arguments: &Pull) -> Result<(), Error> {
    let reference = context.reference(&arguments.image)?;
    if arguments.all_tags && !reference.is_bare() {
        return Err(Error::Options("tag can't be used with --all-tags/-a"));
    }
    if !arguments.all_tags && reference.is_bare() && !arguments.quiet {
        context.printer.line("Using default tag: latest")?;
    }
    let named = pull_as_asked(context, arguments, &reference)?;
    Ok(context.printer.line(named.to_string())?)
}

/// For `run` and `create`: everything that is said goes to stderr.
pub fn for_container(context: &Context, name: &str, platform: Option<Platform>, quiet: bool) -> Result<(), Error> {
    let context = context.beside();
    let arguments = Pull {
        image: name.to_owned(),
        platform,
        quiet,
        all_tags: false,
        all_platforms: false,
        disable_content_trust: true,
        progress: ProgressStyle::Auto,
    };
    let reference = context.reference(name)?;
    pull_as_asked(&context, &arguments, &reference).map(drop)
}

/// Downloads what is asked for and tells what is new. The name that stands for it.
fn pull_as_asked(context: &Context, arguments: &Pull, reference: &Reference) -> Result<Reference, Error> {
    let store = context.store()?;
    let client = context.client()?;
    context.network(async {
        let mut is_newer = false;
        if arguments.all_tags {
            let tags = client.repository(reference, Access::Pull).tags().await;
            let tags = tags.map_err(|error| refused(reference, error.on(cove_transfer::Side::Source)))?;
            for tag in tags {
                is_newer |= pull(context, arguments, &store, &client, &reference.with_tag(tag)).await?;
            }
        } else {
            is_newer = pull(context, arguments, &store, &client, &reference.clone().or_latest()).await?;
        }
        let named = if arguments.all_tags { reference.clone() } else { reference.clone().or_latest() };
        if !arguments.quiet {
            let status = if is_newer { "Downloaded newer image for" } else { "Image is up to date for" };
            context.printer.line(format!("Status: {status} {}", named.familiar()))?;
        }
        Ok(named)
    })
}

/// Downloads one image. Whether anything is new.
async fn pull(
    context: &Context,
    arguments: &Pull,
    store: &Store,
    client: &Client,
    reference: &Reference,
) -> Result<bool, Error> {
    let printer = &context.printer;
    let wanted = reference.manifest_reference();
    let before = known_as(context, store, reference);
    let reporter = Reporter::start(printer.clone(), arguments.progress, arguments.quiet, Direction::Pull);
    let shown = match &wanted {
        ManifestReference::Digest(digest) => format!("{}@{digest}", reference.full_repository()),
        ManifestReference::Tag(tag) => tag.to_string(),
    };
    let heading = format!("{shown}: Pulling from {}", reference.repository());
    // As docker: nothing is said of an image that is not there.
    if !arguments.quiet {
        reporter.head(heading);
    }
    let platform = arguments.platform.clone().unwrap_or_else(Platform::host);
    let platforms = if arguments.all_platforms { Platforms::All } else { Platforms::One(platform.clone()) };
    let blobs_at_once = client.limits(reference.registry()).downloads.unwrap_or(BLOBS_AT_ONCE);
    let options = CopyOptions { platforms, blobs_at_once };
    let source = client.repository(reference, Access::Pull).with_progress(reporter.shared());
    let receive = ReceiveOptions {
        platform: Some(platform),
        all_platforms: arguments.all_platforms,
        unpack: store.unpack_options(),
        ..ReceiveOptions::default()
    };
    // A target is for one attempt.
    let attempt = async || {
        let target = store.receive(Some(reference), receive.clone());
        copy(&source, &wanted, &target, &wanted, &options, &reporter).await
    };
    let mut copied = attempt().await;
    // A mirror that gives what is damaged does not keep anybody from the image.
    if copied.as_ref().is_err_and(|error| error.kind() == Kind::Corrupt) && source.distrust_mirrors() {
        printer.note("A mirror gave content that is damaged: the registry itself is asked.");
        copied = attempt().await;
    }
    if copied.is_ok() {
        reporter.print_heading();
    }
    reporter.finish();
    let copied = copied.map_err(|error| refused(reference, error))?;
    if !arguments.quiet {
        printer.line(format!("Digest: {}", copied.root.digest))?;
    }
    context.tell(&Event::of_image("pull", &reference.familiar(), &reference.familiar_repository()));
    warn_of_platform(context, arguments, store, reference);
    let was_stored = copied.blobs.values().any(|placed| matches!(placed, Placed::Stored(_)));
    Ok(!copied.was_up_to_date() && (was_stored || before != known_as(context, store, reference)))
}

/// An image that is no index is taken whatever it is for; whoever wanted another platform is told, in docker's words.
fn warn_of_platform(context: &Context, arguments: &Pull, store: &Store, reference: &Reference) {
    let Some(wanted) = &arguments.platform else { return };
    let found = context.defaults().ok().and_then(|defaults| store.find(&reference.to_string(), &defaults).ok());
    let Some(actual) = found.map(|found| found.image.config().platform()) else { return };
    if !wanted.is(&actual) {
        let name = reference.familiar();
        context.printer.note(format!(
            "WARNING: image with reference {name} was found but does not match the specified platform: wanted {wanted}, actual: {actual}"
        ));
    }
}

/// The image that a name stands for now.
fn known_as(context: &Context, store: &Store, reference: &Reference) -> Option<Digest> {
    let found = store.find(&reference.to_string(), &context.defaults().ok()?).ok()?;
    Some(found.image.id().clone())
}

fn refused(reference: &Reference, source: cove_transfer::Error) -> Error {
    Error::Pull { name: Box::new(reference.clone()), source }
}
