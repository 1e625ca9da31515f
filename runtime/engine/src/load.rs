//! `load` and `save`: copies between the store and an archive.

use std::io::{Read, Write};

use cove_oci::{ManifestReference, Platform, Reference};
use cove_transfer::{CopyOptions, Platforms, Progress, Silent, copy};
use tokio::runtime::Runtime;

use crate::archive::{self, Archived, Layout, Writer};
use crate::lease::Staging;
use crate::{Error, Image, ReceiveOptions, Store};

/// Layers of an archive that are copied at once: they come from one disk.
const BLOBS_AT_ONCE: usize = 4;

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded {
    /// Under this name.
    Named(Reference),
    /// It has no name in the archive: its id.
    Id(cove_oci::Digest),
}

impl Store {
    /// Loads every image of an archive, whatever it is compressed with. An image is there with all its names or not at
    /// all; those before one that fails stay. To be called where no async runtime is.
    pub fn load(&self, archive: impl Read, progress: &dyn Progress) -> Result<Vec<Loaded>, Error> {
        let staging = self.staging()?;
        let layout = archive::read(archive, staging.path())?;
        let runtime = runtime()?;
        let mut loaded = Vec::new();
        for image in layout.images() {
            runtime.block_on(self.take_in(&layout, image, progress, &mut loaded))?;
        }
        Ok(loaded)
    }

    /// Takes one image out of a layout and gives it all its names.
    pub(crate) async fn take_in(
        &self,
        layout: &Layout,
        archived: &Archived,
        progress: &dyn Progress,
        loaded: &mut Vec<Loaded>,
    ) -> Result<(), Error> {
        let root = ManifestReference::Digest(archived.root.digest.clone());
        let platform = layout.platform(&archived.root, &Platform::host());
        let first = archived.names.first();
        let to = first.map_or_else(|| root.clone(), Reference::manifest_reference);
        let receiver = self.receive(first, ReceiveOptions { from_registry: false, ..ReceiveOptions::default() });
        let options = CopyOptions { platforms: Platforms::One(platform.clone()), blobs_at_once: BLOBS_AT_ONCE };
        copy(layout, &root, &receiver, &to, &options, progress).await?;
        let id = layout.image_id(&archived.root, &platform)?;
        let image = self.image(&id)?.ok_or_else(|| Error::NoSuchImage(id.to_string()))?;
        for name in archived.names.iter().skip(1) {
            self.tag(&image, name)?;
        }
        match archived.names.is_empty() {
            true => loaded.push(Loaded::Id(id)),
            false => loaded.extend(archived.names.iter().cloned().map(Loaded::Named)),
        }
        Ok(())
    }

    /// Writes images, each with the names that it shall have, into one archive. To be called where no async runtime is.
    pub fn save(&self, images: &[(Image, Vec<Reference>)], out: impl Write + Send) -> Result<(), Error> {
        let runtime = runtime()?;
        let writer = Writer::new(out)?;
        for (image, names) in images {
            let source = self.send(image)?;
            let root = ManifestReference::Digest(image.manifest().descriptor().digest);
            let options = CopyOptions { platforms: Platforms::One(image.config().platform()), blobs_at_once: 1 };
            runtime.block_on(async {
                writer.name(names.clone()).await;
                copy(&source, &root, &writer, &root, &options, &Silent).await
            })?;
        }
        writer.finish()?;
        Ok(())
    }

    /// A folder of its own to work in.
    pub(crate) fn staging(&self) -> Result<Staging, Error> {
        let _lock = self.lock()?;
        Staging::make(self.places())
    }
}

/// What copies run on.
pub(crate) fn runtime() -> Result<Runtime, Error> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}
