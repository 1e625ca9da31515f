//! `cove push`

use std::sync::Arc;

use cove_engine::{Image, Store};
use cove_oci::{Codec, Reference};
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
    let (mut found, mut has_others) = (Vec::new(), false);
    for image in store.images()? {
        has_others |= image.tags().iter().any(|tag| tag.full_repository() == reference.full_repository());
        let tags: Vec<Reference> = image.tags().iter().filter(|tag| fits(tag)).cloned().collect();
        found.extend(tags.into_iter().map(|tag| (image.clone(), tag)));
    }
    if found.is_empty() && has_others {
        return Err(Error::NoSuchTag { name: wanted.familiar() });
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
    if let Some(platform) = arguments.platform.as_ref().filter(|platform| !platform.is(&image.config().platform())) {
        let found = Box::new(image.config().platform());
        return Err(Error::WrongPlatform { wanted: Box::new(platform.clone()), found });
    }
    let failed = |source| Error::Push { name: Box::new(name.clone()), source };
    let reporter = Reporter::start(context.printer.clone(), arguments.progress, arguments.quiet, Direction::Push);
    for layer in image.layers() {
        // Known by its DiffID while it is compressed, by its blob while it travels; shown by its DiffID.
        reporter.add(&layer.diff_id, &layer.diff_id, layer.size);
        reporter.also_known_as(&layer.diff_id, &layer.blob.digest);
    }
    let target = client.repository(name, Access::Push).with_journal(Arc::new(store.clone()));
    let wanted = name.manifest_reference();
    if image.is_sealed() {
        let differs = |codec: &Codec| image.layers().iter().any(|layer| layer.blob.layer_codec() != Some(*codec));
        if arguments.compression.as_ref().is_some_and(differs) {
            context.printer.note(
                "The image is compressed already and is sent as it is: --compression is for layers that were never compressed.",
            );
        }
    } else {
        // Layers are sent as soon as they are compressed; the copy then finds them there.
        store.seal(image, arguments.compression, &target, &reporter).await.map_err(failed)?;
    }
    // Sealing has given it another manifest.
    let sealed = store.image(image.id())?;
    let image = sealed.as_ref().unwrap_or(image);
    for layer in image.layers() {
        reporter.also_known_as(&layer.diff_id, &layer.blob.digest);
    }
    let index = if arguments.all_platforms { store.send_index(name)? } else { None };
    let platforms = if index.is_some() { Platforms::All } else { Platforms::One(image.config().platform()) };
    let source = index.map_or_else(|| store.send(image), Ok)?;
    let blobs_at_once = client.limits(name.registry()).uploads.unwrap_or(BLOBS_AT_ONCE);
    let options = CopyOptions { platforms, blobs_at_once };
    // A source of the store stands for one image or index, whatever it is asked for.
    let copied = copy(&source, &wanted, &target, &wanted, &options, &reporter).await;
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
