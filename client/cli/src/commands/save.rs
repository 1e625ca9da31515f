//! `cove save`

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cove_engine::{Found, Saved, Store};
use cove_oci::{Reference, ReferenceDefaults};
use fs_err as fs;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Save;
use crate::context::Context;
use crate::error::Error;

/// Writes images into a tar archive.
pub fn run(context: &Context, arguments: &Save) -> Result<(), Error> {
    if arguments.output.is_none() && context.printer.terminals().out {
        return Err(Error::Options("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
    }
    let (store, defaults) = (context.store()?, context.defaults()?);
    let mut images: Vec<Saved> = Vec::new();
    for name in &arguments.images {
        for found in named(&store, name, &defaults)? {
            let image = match &arguments.platform {
                Some(platform) => store.for_platform(&found, name, platform)?,
                None => found.image,
            };
            // An image that was asked for by its id is saved without a name.
            let reference = found.reference.filter(|reference| reference.tag().is_some());
            // An image under several names is written once, with all of them.
            match images.iter_mut().find(|known| known.image.id() == image.id()) {
                Some(known) => known.names.extend(reference.filter(|name| !known.names.contains(name))),
                None => {
                    let (names, is_whole) = (reference.into_iter().collect(), arguments.platform.is_none());
                    images.push(Saved { image, names, is_whole });
                }
            }
        }
    }
    match &arguments.output {
        // As for docker, `-` is the name of a file here.
        Some(path) => into_file(path, |out| Ok(store.save(&images, out)?)),
        None => Ok(store.save(&images, io::stdout().lock())?),
    }
}

/// The images that a name means: a name without a tag means every tag of the repository, as for docker.
fn named(store: &Store, name: &str, defaults: &ReferenceDefaults) -> Result<Vec<Found>, Error> {
    if let Ok(reference) = Reference::parse(name, defaults)
        && reference.is_bare()
    {
        let mut found = Vec::new();
        for image in store.images()? {
            let tags = image.tags().iter().filter(|tag| tag.full_repository() == reference.full_repository());
            found.extend(tags.map(|tag| Found { image: image.clone(), reference: Some(tag.clone()) }));
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(vec![store.find(name, defaults)?])
}

/// Writes a file beside the wanted one and renames it, so that nobody finds half an archive.
pub(super) fn into_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<(), Error>) -> Result<(), Error> {
    // Devices and pipes are written to as they are.
    if path.exists() && !path.is_file() {
        let mut file = fs::OpenOptions::new().write(true).open(path)?;
        return write(&mut file);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A name that nobody can guess, made anew and never through a link, with mode 0600 as docker's.
    let file = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .tempfile_in(folder)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", folder.display())))?;
    remove_when_interrupted(file.path().to_owned())?;
    // What fails is told with the name that was asked for.
    write(&mut fs::File::from_parts(file.as_file().try_clone()?, path))?;
    file.persist(path)
        .map_err(|error| io::Error::new(error.error.kind(), format!("{}: {}", path.display(), error.error)))?;
    Ok(())
}

/// Ctrl-C and a request to end leave no half archive behind.
fn remove_when_interrupted(path: PathBuf) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let number = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => 2,
                _ = terminate.recv() => 15,
            }
        });
        let _ = fs::remove_file(path);
        std::process::exit(128 + number)
    })?;
    Ok(())
}
