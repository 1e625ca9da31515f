//! `cove push`

use std::sync::Arc;

use cove_container::events::Event;
use cove_engine::{Found, Image, Store};
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
    if arguments.all_platforms && arguments.platform.is_some() {
        return Err(Error::Options("--platform can't be used with --all-platforms"));
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
            context.tell(&Event::of_image("push", &name.familiar(), &name.familiar_repository()));
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
    let found = Found { image: image.clone(), reference: Some(name.clone()) };
    let chosen = match &arguments.platform {
        Some(platform) => store.for_platform(&found, &name.familiar(), platform)?,
        None => image.clone(),
    };
    let is_whole = arguments.all_platforms && store.send_index(name)?.is_some();
    let images = if is_whole { store.images_of(name)? } else { vec![chosen.clone()] };
    let failed = |source| Error::Push { name: Box::new(name.clone()), source };
    let reporter = Reporter::start(context.printer.clone(), arguments.progress, arguments.quiet, Direction::Push);
    for layer in images.iter().flat_map(Image::layers) {
        // Known by its DiffID while it is compressed, by its blob while it travels; shown by its DiffID.
        reporter.add(&layer.diff_id, &layer.diff_id, layer.size);
        reporter.also_known_as(&layer.diff_id, &layer.blob.digest);
    }
    let target = client.repository(name, Access::Push).with_journal(Arc::new(store.clone()));
    let wanted = name.manifest_reference();
    if is_compressed_otherwise(&images, arguments.compression) {
        context.printer.note(
            "The image is compressed already and is sent as it is: --compression is for layers that were never compressed.",
        );
    }
    // Layers are sent as soon as they are compressed; the copy then finds them there.
    let sealed = store.seal(&images, arguments.compression, &target, &reporter).await.map_err(failed)?;
    if sealed.dropped > 0 {
        context.printer.note(left_out(sealed.dropped));
    }
    // Sealing has given them other manifests.
    let images: Vec<Image> = images.iter().map(|image| current(store, image)).collect::<Result<_, _>>()?;
    for layer in images.iter().flat_map(Image::layers) {
        reporter.also_known_as(&layer.diff_id, &layer.blob.digest);
    }
    let index = if is_whole { store.send_index(name)? } else { None };
    let main = images.first().unwrap_or(&chosen);
    let platforms = if index.is_some() { Platforms::All } else { Platforms::One(main.config().platform()) };
    let source = index.map_or_else(|| store.send(main), Ok)?;
    let blobs_at_once = client.limits(name.registry()).uploads.unwrap_or(BLOBS_AT_ONCE);
    let options = CopyOptions { platforms, blobs_at_once };
    // A source of the store stands for one image or index, whatever it is asked for.
    let copied = copy(&source, &wanted, &target, &wanted, &options, &reporter).await;
    if copied.as_ref().is_ok_and(Copied::was_up_to_date) {
        // The manifest is there, so nobody asked for the layers.
        let layers = images.iter().flat_map(Image::layers);
        layers.for_each(|layer| reporter.step(&layer.blob, Step::Existed));
    }
    reporter.finish();
    let copied = copied.map_err(failed)?;
    // An image that only belongs to what the name stands for has no names of its own.
    if main.id() == image.id() {
        store.record_digest(image, name, &copied.root)?;
    }
    if !arguments.quiet {
        let tag = name.tag().map(ToString::to_string).unwrap_or_default();
        context.printer.line(format!("{tag}: digest: {} size: {}", copied.root.digest, copied.root.size))?;
    }
    Ok(())
}

/// What sealing has cost.
fn left_out(attestations: usize) -> String {
    let what = match attestations {
        1 => "an attestation".to_owned(),
        count => format!("{count} attestations"),
    };
    format!("Left out of the index: {what} of uncompressed images, which are pushed compressed, under other digests.")
}

/// An image as it is now.
fn current(store: &Store, image: &Image) -> Result<Image, Error> {
    Ok(store.image(image.id())?.unwrap_or_else(|| image.clone()))
}

/// Whether images that are not compressed anew have layers in another form than the one that was asked for.
fn is_compressed_otherwise(images: &[Image], wanted: Option<Codec>) -> bool {
    let sealed = images.iter().filter(|image| image.is_sealed());
    let mut layers = sealed.flat_map(Image::layers);
    wanted.is_some_and(|wanted| layers.any(|layer| layer.blob.layer_codec() != Some(wanted)))
}
