//! Images from archives and into them: `load`, `save` and `import`, each a copy like a pull or a push.

use std::future::Future;
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};

use bytes::Bytes;
use cove_oci::{
    Algorithm, Descriptor, Digest, Hasher, History, ImageConfig, ImageDocument, Manifest, ManifestReference, Platform,
    Reference, Rootfs, RunConfig, media_type,
};
use cove_transfer::{ByteStream, CopyOptions, Error as TransferError, Platforms, Progress, Silent, Source, copy};
use futures_util::stream;

use crate::archive::{Archived, Layout, NewManifest, Writer, decompressed, read};
use crate::catalogue::Catalogue;
use crate::image::Image;
use crate::index::{is_index, listed};
use crate::lease::Staging;
use crate::send::{Sender, stream_file};
use crate::store::{Store, now};
use crate::{Error, ReceiveOptions, changes};

/// How many blobs are worked on at once. More than there are cores gains nothing: nobody waits for a network.
const BLOBS_AT_ONCE: usize = 4;
/// How much is handed over at once to whoever writes an archive out.
const PIECE: usize = 256 * 1024;

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded {
    /// It has this name now.
    Named(Reference),
    /// It has no name.
    Id(Digest),
}

/// What an imported image will be.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Instructions of a Dockerfile that say how to run it.
    pub changes: Vec<String>,
    /// What its history says.
    pub message: String,
    /// Its name.
    pub reference: Option<Reference>,
    /// The platform that it is for.
    pub platform: Platform,
}

/// An image to be saved.
#[derive(Debug, Clone)]
pub struct Saved {
    /// The image.
    pub image: Image,
    /// The names that it gets in the archive. May be empty.
    pub names: Vec<Reference>,
    /// Whether the index that the names stand for is saved, with everything of it that is here.
    pub is_whole: bool,
}

impl Store {
    /// Loads the images of an archive, in its order: all that it has of an index, or only the one for `platform`.
    /// Blocks; may be called from anywhere but async code.
    pub fn load(
        &self,
        archive: impl Read + Send,
        platform: Option<&Platform>,
        progress: &dyn Progress,
    ) -> Result<Vec<Loaded>, Error> {
        let staging = self.staging()?;
        let layout = read(archive, staging.path())?;
        // Before anything is stored: an archive is loaded whole or not at all.
        for image in layout.images() {
            check_platform(&layout, image, platform)?;
        }
        wait(|| async {
            let mut loaded = Vec::new();
            for image in layout.images() {
                let (first, others) = match image.names.split_first() {
                    Some((first, others)) => (Some(first), others),
                    None => (None, &[][..]),
                };
                let id = self.take(&layout, &image.root, first, platform, progress).await?;
                for (first, name) in first.iter().flat_map(|first| others.iter().map(move |name| (first, name))) {
                    self.tag_as(first, name)?;
                }
                loaded.extend(image.names.iter().cloned().map(Loaded::Named));
                if image.names.is_empty() {
                    loaded.push(Loaded::Id(id));
                }
            }
            Ok(loaded)
        })
    }

    /// Copies one image into the store, or all images of an index that the source has; gives the id of the main one.
    async fn take<S: Source>(
        &self,
        source: &S,
        root: &Descriptor,
        name: Option<&Reference>,
        platform: Option<&Platform>,
        progress: &dyn Progress,
    ) -> Result<Digest, Error> {
        let wanted = platform.cloned().unwrap_or_else(Platform::host);
        let platforms = if platform.is_some() { Platforms::One(wanted.clone()) } else { Platforms::All };
        let options = ReceiveOptions {
            from_registry: false,
            all_platforms: platform.is_none(),
            platform: Some(wanted),
            unpack: self.unpack_options(),
        };
        let receiver = self.receive(name, options);
        let root = ManifestReference::Digest(root.digest.clone());
        let copying = CopyOptions { platforms, blobs_at_once: BLOBS_AT_ONCE };
        let copied = copy(source, &root, &receiver, &root, &copying, progress).await?;
        if let Some(id) = receiver.main() {
            return Ok(id);
        }
        // Nothing was read, for the name stands for this image already.
        let name = name.map_or_else(|| copied.root.digest.to_string(), ToString::to_string);
        Ok(self.find(&name, &cove_oci::ReferenceDefaults::default())?.image.id().clone())
    }

    /// Writes images into one archive that is docker's and an OCI layout. Blocks; may be called from anywhere but
    /// async code.
    pub fn save(&self, images: &[Saved], mut out: impl Write) -> Result<(), Error> {
        // Whoever gets the archive need not be able to change threads: it is written here and made elsewhere.
        std::thread::scope(|scope| {
            let (pieces, made) = sync_channel::<Vec<u8>>(8);
            let making = scope.spawn(move || wait_here(self.write_archive(images, Pieces(pieces))));
            let mut written = Ok(());
            for piece in made {
                written = out.write_all(&piece);
                if written.is_err() {
                    break;
                }
            }
            // Leaving the loop has closed the channel: who still writes into it stops.
            let made = making.join().map_err(|_| io::Error::other("writing the archive was cut off"))?;
            written?;
            made?;
            Ok(out.flush()?)
        })
    }

    async fn write_archive(&self, images: &[Saved], out: Pieces) -> Result<(), Error> {
        let writer = Writer::new(BufWriter::with_capacity(PIECE, out))?;
        let copying = CopyOptions { platforms: Platforms::All, blobs_at_once: 1 };
        for saved in images {
            for (sender, names) in self.senders(saved)? {
                writer.name(names).await;
                let root = ManifestReference::Digest(sender.root().digest.clone());
                copy(&sender, &root, &writer, &root, &copying, &Silent).await?;
            }
        }
        Ok(writer.finish()?.flush()?)
    }

    /// What is written for an image: names that stand for the same are written once.
    fn senders(&self, saved: &Saved) -> Result<Vec<(Sender, Vec<Reference>)>, Error> {
        let mut senders: Vec<(Sender, Vec<Reference>)> = Vec::new();
        let mut add = |sender: Sender, name: Option<&Reference>| match senders
            .iter_mut()
            .find(|(known, _)| known.root() == sender.root())
        {
            Some((_, names)) => names.extend(name.cloned()),
            None => senders.push((sender, name.cloned().into_iter().collect())),
        };
        for name in &saved.names {
            let index = if saved.is_whole { self.send_saved_index(name)? } else { None };
            add(index.map_or_else(|| self.send(&saved.image), Ok)?, Some(name));
        }
        if saved.names.is_empty() {
            let index = if saved.is_whole { self.send_unnamed_index(&saved.image)? } else { None };
            add(index.map_or_else(|| self.send(&saved.image), Ok)?, None);
        }
        Ok(senders)
    }

    /// Makes an image of one layer from the tar of a root file system, compressed or not; gives its id. Blocks; may
    /// be called from anywhere but async code.
    pub fn import(&self, tar: impl Read, options: ImportOptions) -> Result<Digest, Error> {
        let mut config = RunConfig::default();
        changes::apply_changes(&mut config, &options.changes)?;
        let staging = self.staging()?;
        let path = staging.path().join("layer.tar");
        let layer = spool(decompressed(tar)?, &path)?;
        let created = Some(now());
        let history = History { created: created.clone(), comment: options.message.clone(), ..History::default() };
        let document = ImageDocument {
            created,
            architecture: options.platform.architecture.clone(),
            variant: options.platform.variant.clone(),
            os: options.platform.os.clone(),
            config,
            rootfs: Rootfs { kind: "layers".to_owned(), diff_ids: vec![layer.digest.clone()] },
            history: vec![history],
            comment: options.message,
            ..ImageDocument::default()
        };
        let config = ImageConfig::write(&document)?.bytes().to_vec();
        let digest = Digest::of(Algorithm::Sha256, &config);
        let config_blob = Descriptor::new(media_type::OCI_CONFIG, digest, config.len() as u64);
        let manifest = NewManifest::bytes(&config_blob, std::slice::from_ref(&layer))?;
        let layer = Some((layer.digest, path));
        let made = Made { manifest: Manifest::parse(manifest, None)?, config, layer, store: self.clone() };
        self.take_made(&made, options.reference.as_ref())
    }

    /// Takes an image that was made here into the store, with all that a pull does for one.
    pub(crate) fn take_made(&self, made: &Made, name: Option<&Reference>) -> Result<Digest, Error> {
        let root = made.manifest.descriptor();
        wait(|| self.take(made, &root, name, None, &Silent))
    }

    fn staging(&self) -> Result<Staging, Error> {
        let _lock = self.lock()?;
        Staging::make(&self.places)
    }

    /// What the images take.
    pub fn usage(&self) -> Result<Usage, Error> {
        let catalogue = Catalogue::read(&self.places)?;
        let images = catalogue.images.iter().filter(|image| catalogue.is_shown(&image.id)).count();
        let layers = catalogue.images.iter().flat_map(|image| &image.layers);
        let layers: std::collections::HashMap<&str, u64> =
            layers.map(|layer| (layer.folder.as_str(), layer.bytes)).collect();
        let images_size = layers.values().sum();
        let blobs_size = catalogue.blobs().values().map(|blob| blob.size).sum();
        Ok(Usage { images, images_size, blobs_size, reclaimable: images_size })
    }
}

/// What the images of the store take, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many images there are; an index counts once.
    pub images: usize,
    /// Their files; what several share counts once.
    pub images_size: u64,
    /// Their blobs, which are kept to be pushed.
    pub blobs_size: u64,
    /// What would be free of the files if all images that no container uses were removed.
    pub reclaimable: u64,
}

/// Runs async work to its end, also where a runtime is near: in a thread of its own.
fn wait<T: Send, F: Future<Output = Result<T, Error>>>(work: impl FnOnce() -> F + Send) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| wait_here(work()));
        thread.join().map_err(|_| io::Error::other("the work was cut off"))?
    })
}

fn wait_here<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(work)
}

/// Whether an archive has an image for this platform, or for any.
fn check_platform(layout: &Layout, image: &Archived, wanted: Option<&Platform>) -> Result<(), Error> {
    if wanted.is_none() && !is_index(&image.root) {
        return Ok(());
    }
    let platforms = layout.platforms(&image.root)?;
    let name = image.names.first().map_or_else(|| image.root.digest.to_string(), Reference::familiar);
    match wanted {
        // Docker's first words.
        Some(wanted) if !platforms.iter().any(|platform| wanted.is(platform)) => Err(Error::Archive(format!(
            "image with reference {name} was found but does not provide the specified platform ({wanted}): \
             the archive has it for {}",
            if platforms.is_empty() { "none".to_owned() } else { listed(&platforms) }
        ))),
        None if platforms.is_empty() => Err(Error::Archive(format!(
            "the archive has none of the images that {name} lists: save it again where they are"
        ))),
        _ => Ok(()),
    }
}

/// Writes a tar to a file and says what it is as a layer.
fn spool(mut tar: impl Read, path: &std::path::Path) -> Result<Descriptor, Error> {
    let mut file = fs_err::File::create_new(path)?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let (mut buffer, mut size) = (vec![0; PIECE], 0);
    loop {
        let count = match tar.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count])?;
        size += count as u64;
    }
    Ok(Descriptor::new(media_type::OCI_LAYER, hasher.finish(), size))
}

/// An image that was made here, and its new layer if it has one. The store has the others.
pub(crate) struct Made {
    pub(crate) manifest: Manifest,
    pub(crate) config: Vec<u8>,
    pub(crate) layer: Option<(Digest, PathBuf)>,
    pub(crate) store: Store,
}

impl Source for Made {
    async fn resolve(&self, _reference: &ManifestReference) -> Result<Descriptor, TransferError> {
        Ok(self.manifest.descriptor())
    }

    async fn manifest(&self, _descriptor: &Descriptor) -> Result<Manifest, TransferError> {
        Ok(self.manifest.clone())
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, TransferError> {
        if let Some(path) = self.file(&blob.digest) {
            return stream_file(path, offset, &blob.digest);
        }
        if self.manifest.config().is_none_or(|config| config.digest != blob.digest) {
            return stream_file(self.store.places.blob(&blob.digest), offset, &blob.digest);
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.config.len());
        let rest = Bytes::copy_from_slice(&self.config[start..]);
        Ok(Box::pin(stream::iter([Ok(rest)])))
    }

    fn file(&self, blob: &Digest) -> Option<PathBuf> {
        self.layer.as_ref().filter(|(digest, _)| digest == blob).map(|(_, path)| path.clone())
    }
}

/// Hands what is written to another thread.
struct Pieces(SyncSender<Vec<u8>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
