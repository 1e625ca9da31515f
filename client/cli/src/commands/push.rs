//! `cove push`

use cove_engine::{Image, Store};
use cove_oci::Reference;
use cove_remote::{Access, Client};
use cove_transfer::{Copied, CopyOptions, Platforms, Progress, Step, copy};

use super::pull::BLOBS_AT_ONCE;
use crate::arguments::Push;
use crate::context::Context;
use crate::error::Error;
use crate::progress::{Direction, Reporter};

/// Uploads an image, or with `-a` every tag of a repository.
pub fn run(context: &Context, arguments: &Push) -> Result<(), Error> {
    let reference = context.reference(&arguments.image)?;
    if reference.digest().is_some() {
        return Err(Error::Options("cannot push a digest reference"));
    }
    if arguments.all_tags && !reference.is_bare() {
        return Err(Error::Options("tag can't be used with --all-tags/-a"));
    }
    if !arguments.all_tags && reference.is_bare() && !arguments.quiet {
        context.printer.line("Using default tag: latest")?;
    }
    let store = context.store()?;
    if !arguments.quiet {
        context.printer.line(format!("The push refers to repository [{}]", reference.full_repository()))?;
    }
    let images = named(&store, &reference, arguments.all_tags)?;
    let client = context.client()?;
    context.network(async {
        for (image, name) in &images {
            push(context, arguments, &store, &client, image, name).await?;
        }
        if arguments.quiet {
            let named = if arguments.all_tags { reference.clone() } else { reference.clone().or_latest() };
            context.printer.line(named.to_string())?;
        }
        Ok(())
    })
}

/// The images of the store that stand for the name.
fn named(store: &Store, reference: &Reference, all_tags: bool) -> Result<Vec<(Image, Reference)>, Error> {
    let wanted = reference.clone().or_latest();
    let fits = |tag: &Reference| match all_tags {
        true => tag.full_repository() == reference.full_repository(),
        false => *tag == wanted,
    };
    let mut found = Vec::new();
    for image in store.images()? {
        let tags: Vec<Reference> = image.tags().iter().filter(|tag| fits(tag)).cloned().collect();
        found.extend(tags.into_iter().map(|tag| (image.clone(), tag)));
    }
    if found.is_empty() {
        return Err(Error::NothingToPush { name: reference.familiar_repository() });
    }
    found.sort_by(|(_, one), (_, other)| one.cmp(other));
    Ok(found)
}

async fn push(
    context: &Context,
    arguments: &Push,
    store: &Store,
    client: &Client,
    image: &Image,
    name: &Reference,
) -> Result<(), Error> {
    let failed = |source| Error::Push { name: Box::new(name.clone()), source };
    let reporter = Reporter::start(context.printer.clone(), arguments.progress, arguments.quiet, Direction::Push);
    for layer in image.layers() {
        // Known by its DiffID while it is compressed, by its blob while it travels; shown by its DiffID.
        reporter.add(&layer.diff_id, &layer.diff_id, layer.size);
        reporter.also_known_as(&layer.diff_id, &layer.blob.digest);
    }
    let target = client.repository(name, Access::Push);
    let wanted = name.manifest_reference();
    let platforms = match (&arguments.platform, arguments.all_platforms) {
        (_, true) => Platforms::All,
        (Some(platform), false) => Platforms::One(platform.clone()),
        (None, false) => Platforms::One(image.config().platform()),
    };
    let options = CopyOptions { platforms, blobs_at_once: BLOBS_AT_ONCE };
    let manifest = match image.is_sealed() {
        true => image.manifest().clone(),
        // Layers are sent as soon as they are compressed, the manifest when all are.
        false => return Err(Error::Options("this build cannot compress layers yet")),
    };
    let source = store.send(image)?;
    let root = cove_oci::ManifestReference::Digest(manifest.descriptor().digest);
    let copied = copy(&source, &root, &target, &wanted, &options, &reporter).await;
    if copied.as_ref().is_ok_and(Copied::was_up_to_date) {
        // The manifest is there, so nobody asked for the layers.
        image.layers().iter().for_each(|layer| reporter.step(&layer.blob, Step::Existed));
    }
    reporter.finish();
    let copied = copied.map_err(failed)?;
    store.record_digest(image, name, &copied.root)?;
    if !arguments.quiet {
        let tag = name.tag().map(ToString::to_string).unwrap_or_default();
        context.printer.line(format!("{tag}: digest: {} size: {}", copied.root.digest, copied.root.size))?;
    }
    Ok(())
}
