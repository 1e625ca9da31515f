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

use crate::archive::{NewManifest, Writer, decompressed, read};
use crate::catalogue::Catalogue;
use crate::image::Image;
use crate::lease::Staging;
use crate::send::stream_file;
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

impl Store {
    /// Loads the images of an archive, in its order. Blocks; may be called from anywhere but async code.
    pub fn load(&self, archive: impl Read + Send, progress: &dyn Progress) -> Result<Vec<Loaded>, Error> {
        let staging = self.staging()?;
        let layout = read(archive, staging.path())?;
        wait(|| async {
            let mut loaded = Vec::new();
            for image in layout.images() {
                let platform = layout.platform(&image.root, &Platform::host());
                let (first, others) = match image.names.split_first() {
                    Some((first, others)) => (Some(first), others),
                    None => (None, &[][..]),
                };
                let id = self.take(&layout, &image.root, first, platform, progress).await?;
                let stored = self.image(&id)?.ok_or_else(|| Error::NoSuchImage(id.to_string()))?;
                for name in others {
                    self.tag(&stored, name)?;
                }
                loaded.extend(image.names.iter().cloned().map(Loaded::Named));
                if image.names.is_empty() {
                    loaded.push(Loaded::Id(id));
                }
            }
            Ok(loaded)
        })
    }

    /// Copies one image into the store; gives its id.
    async fn take<S: Source>(
        &self,
        source: &S,
        root: &Descriptor,
        name: Option<&Reference>,
        platform: Platform,
        progress: &dyn Progress,
    ) -> Result<Digest, Error> {
        let options = ReceiveOptions {
            from_registry: false,
            platform: Some(platform.clone()),
            unpack: self.unpack_options(),
            ..ReceiveOptions::default()
        };
        let receiver = self.receive(name, options);
        let root = ManifestReference::Digest(root.digest.clone());
        let copying = CopyOptions { platforms: Platforms::One(platform), blobs_at_once: BLOBS_AT_ONCE };
        let copied = copy(source, &root, &receiver, &root, &copying, progress).await?;
        if let Some(config) = copied.images.first().and_then(Manifest::config) {
            return Ok(config.digest.clone());
        }
        // Nothing was read, for the name stands for this image already.
        let name = name.map(ToString::to_string).unwrap_or_default();
        Ok(self.find(&name, &cove_oci::ReferenceDefaults::default())?.image.id().clone())
    }

    /// Writes images, each with these names, into one archive that is docker's and an OCI layout. Blocks; may be
    /// called from anywhere but async code.
    pub fn save(&self, images: &[(Image, Vec<Reference>)], mut out: impl Write) -> Result<(), Error> {
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

    async fn write_archive(&self, images: &[(Image, Vec<Reference>)], out: Pieces) -> Result<(), Error> {
        let writer = Writer::new(BufWriter::with_capacity(PIECE, out))?;
        for (image, names) in images {
            let sender = self.send(image)?;
            let root = ManifestReference::Digest(image.manifest().descriptor().digest);
            writer.name(names.clone()).await;
            let copying = CopyOptions { platforms: Platforms::All, blobs_at_once: 1 };
            copy(&sender, &root, &writer, &root, &copying, &Silent).await?;
        }
        Ok(writer.finish()?.flush()?)
    }

    /// Makes an image of one layer from the tar of a root file system, compressed or not; gives its id. Blocks; may
    /// be called from anywhere but async code.
    pub fn import(&self, tar: impl Read, options: ImportOptions) -> Result<Digest, Error> {
        let mut config = RunConfig::default();
        for change in &options.changes {
            changes::apply(&mut config, change)?;
        }
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
        let made = Made { manifest: Manifest::parse(manifest, None)?, config, layer: path };
        let root = made.manifest.descriptor();
        wait(|| self.take(&made, &root, options.reference.as_ref(), options.platform.clone(), &Silent))
    }

    fn staging(&self) -> Result<Staging, Error> {
        let _lock = self.lock()?;
        Staging::make(&self.places)
    }

    /// What the images take.
    pub fn usage(&self) -> Result<Usage, Error> {
        let catalogue = Catalogue::read(&self.places)?;
        let layers = catalogue.images.iter().flat_map(|image| &image.layers);
        let layers: std::collections::HashMap<&str, u64> =
            layers.map(|layer| (layer.folder.as_str(), layer.bytes)).collect();
        let images_size = layers.values().sum();
        let blobs_size = catalogue.blobs().values().map(|blob| blob.size).sum();
        Ok(Usage { images: catalogue.images.len(), images_size, blobs_size, reclaimable: images_size })
    }
}

/// What the images of the store take, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many images there are.
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

/// An image that was made here.
struct Made {
    manifest: Manifest,
    config: Vec<u8>,
    layer: PathBuf,
}

impl Source for Made {
    async fn resolve(&self, _reference: &ManifestReference) -> Result<Descriptor, TransferError> {
        Ok(self.manifest.descriptor())
    }

    async fn manifest(&self, _descriptor: &Descriptor) -> Result<Manifest, TransferError> {
        Ok(self.manifest.clone())
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, TransferError> {
        if self.file(&blob.digest).is_some() {
            return stream_file(self.layer.clone(), offset, &blob.digest);
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.config.len());
        let rest = Bytes::copy_from_slice(&self.config[start..]);
        Ok(Box::pin(stream::iter([Ok(rest)])))
    }

    fn file(&self, blob: &Digest) -> Option<PathBuf> {
        let is_layer = self.manifest.layers().iter().any(|layer| layer.digest == *blob);
        is_layer.then(|| self.layer.clone())
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
