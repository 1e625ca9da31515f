//! `import`: an image of one layer from the tar of a root file system.

use std::io::{self, Read};

use cove_oci::{
    Algorithm, Descriptor, Digest, Hasher, History, ImageConfig, ImageDocument, Manifest, Platform, Reference, Rootfs,
    media_type,
};
use cove_transfer::Silent;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::archive::{self, Archived, Layout, NewManifest};
use crate::load::runtime;
use crate::{Error, Store, changes};

/// How to import.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Instructions in a Dockerfile's words.
    pub changes: Vec<String>,
    /// What the image's history says.
    pub message: String,
    /// What the image shall be called.
    pub reference: Option<Reference>,
    /// What the image is for.
    pub platform: Platform,
}

impl Store {
    /// Makes an image of a tar, whatever it is compressed with, and returns its id. To be called where no async
    /// runtime is.
    pub fn import(&self, tar: impl Read, options: ImportOptions) -> Result<Digest, Error> {
        let mut document = ImageDocument::default();
        for change in &options.changes {
            changes::apply(&mut document.config, change)?;
        }
        let staging = self.staging()?;
        let path = staging.path().join("layer");
        let mut file = fs_err::File::create_new(&path)?;
        let mut hashing = Hashing { inner: archive::decompressed(tar)?, hasher: Hasher::new(Algorithm::Sha256) };
        let size = io::copy(&mut hashing, &mut file)?;
        let diff_id = hashing.hasher.finish();
        let layer = Descriptor::new(media_type::OCI_LAYER, diff_id.clone(), size);
        let mut layout = Layout::default();
        layout.add_file(&layer, path);

        let now = OffsetDateTime::now_utc().format(&Rfc3339).map_err(io::Error::other)?;
        document.created = Some(now.clone());
        document.os = options.platform.os;
        document.architecture = options.platform.architecture;
        document.variant = options.platform.variant;
        document.comment.clone_from(&options.message);
        document.rootfs = Rootfs { kind: "layers".to_owned(), diff_ids: vec![diff_id] };
        document.history = vec![History { created: Some(now), comment: options.message, ..History::default() }];
        let config = ImageConfig::write(&document)?;
        let config = layout.add(media_type::OCI_CONFIG, config.bytes(), staging.path())?;
        let manifest = Manifest::parse(NewManifest::bytes(&config, &[layer])?, None)?;
        let root = layout.add(manifest.media_type(), manifest.bytes(), staging.path())?;
        let archived = Archived { root, names: options.reference.into_iter().collect() };
        runtime()?.block_on(self.take_in(&layout, &archived, &Silent, &mut Vec::new()))?;
        Ok(config.digest)
    }
}

struct Hashing<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
