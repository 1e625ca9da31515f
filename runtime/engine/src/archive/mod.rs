//! Archives of images: what `docker save` writes, and OCI layouts in a tar.
//!
//! Reading takes an archive apart into a folder and gives a [`Layout`], a source of copies like a registry. Writing is
//! a target, [`Writer`], whose archive is both kinds at once. What an old archive does not have, a manifest, is made
//! from its configuration and layers as they are; compressing them is for whoever pushes.

mod parse;
mod read;
mod write;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use cove_oci::{Descriptor, Digest, ImageConfig, Manifest, ManifestReference, Platform, Reference, Verifier};
use cove_transfer::{ByteStream, Kind, Side, Source};

use crate::Error;
use crate::send::stream_file;

pub(crate) use parse::{NewManifest, is_raw};
pub(crate) use read::decompressed;
pub use read::read;
pub use write::Writer;

/// Deepest nesting of indexes that is looked into.
const DEPTH_LIMIT: u8 = 8;

/// An image of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// Its manifest or index.
    pub root: Descriptor,
    /// What the archive calls it, in full. May be empty.
    pub names: Vec<Reference>,
}

/// The contents of an archive, in a folder that belongs to whoever had it read.
#[derive(Debug)]
pub struct Layout {
    images: Vec<Archived>,
    contents: HashMap<Digest, Content>,
}

/// A file of an archive.
#[derive(Debug, Clone)]
struct Content {
    path: PathBuf,
    digest: Digest,
    size: u64,
}

impl Layout {
    /// The images in the archive's order.
    pub fn images(&self) -> &[Archived] {
        &self.images
    }

    /// The platforms of the images at or below a manifest that are here with all of their blobs, in the index's order.
    pub fn platforms(&self, root: &Descriptor) -> Result<Vec<Platform>, Error> {
        self.platforms_below(root, 0, &mut HashSet::new())
    }

    /// `seen` are the manifests that were looked into: an index may list one any number of times.
    fn platforms_below(
        &self,
        root: &Descriptor,
        depth: u8,
        seen: &mut HashSet<Digest>,
    ) -> Result<Vec<Platform>, Error> {
        let manifest = Manifest::parse(self.get(&root.digest)?, Some(&root.media_type))?;
        if let Some(config) = manifest.config() {
            let known = root.platform.clone();
            let platform = known.map_or_else(|| Ok(ImageConfig::parse(self.get(&config.digest)?)?.platform()), Ok);
            return platform.map(|platform| vec![platform]);
        }
        let mut platforms = Vec::new();
        for child in manifest.children().filter(|child| !child.is_attestation() && depth < DEPTH_LIMIT) {
            if seen.insert(child.digest.clone()) && self.is_complete(child, depth + 1) {
                platforms.extend(self.platforms_below(child, depth + 1, seen)?);
            }
        }
        Ok(platforms)
    }

    /// Whether a manifest is here with all of its blobs; of an index it is enough that it is here itself.
    fn is_complete(&self, manifest: &Descriptor, depth: u8) -> bool {
        let read = || Manifest::parse(self.get(&manifest.digest).ok()?, Some(&manifest.media_type)).ok();
        let has = |blob: &Descriptor| self.contents.contains_key(&blob.digest);
        // What cannot be read is not left out in silence: whoever reads it next says why.
        depth < DEPTH_LIMIT && has(manifest) && read().is_none_or(|manifest| manifest.blobs().all(has))
    }

    /// A small content as a whole, verified.
    fn get(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let content = self.contents.get(digest).ok_or_else(|| Error::MissingBlob(digest.clone()))?;
        let bytes = content.bytes()?;
        let mut verifier = Verifier::new(digest, bytes.len() as u64);
        verifier.update(&bytes)?;
        verifier.finish()?;
        Ok(bytes)
    }
}

impl Content {
    /// Manifests, configurations and lists are small; what is not small is none of them.
    fn bytes(&self) -> Result<Vec<u8>, Error> {
        const LIMIT: u64 = 16 * 1024 * 1024;
        if self.size > LIMIT {
            return Err(Error::Archive(format!("`{}` of the archive is too large for what it should be", self.digest)));
        }
        Ok(fs_err::read(&self.path)?)
    }
}

impl Source for Layout {
    async fn resolve(&self, reference: &ManifestReference) -> Result<Descriptor, cove_transfer::Error> {
        let roots = self.images.iter().map(|image| &image.root);
        let found = match reference {
            ManifestReference::Digest(digest) => roots.into_iter().find(|root| root.digest == *digest).cloned(),
            ManifestReference::Tag(_) => None,
        };
        let missing = || format!("the archive has no image `{reference}`");
        found.ok_or_else(|| cove_transfer::Error::new(Side::Source, Kind::NotFound, missing()))
    }

    async fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest, cove_transfer::Error> {
        let manifest =
            self.get(&descriptor.digest).and_then(|bytes| Ok(Manifest::parse(bytes, Some(&descriptor.media_type))?));
        manifest.map_err(|error| error.on(Side::Source).about(&descriptor.digest))
    }

    fn offers(&self, child: &Descriptor) -> bool {
        self.is_complete(child, 0)
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, cove_transfer::Error> {
        let content = self.contents.get(&blob.digest).ok_or_else(|| Error::MissingBlob(blob.digest.clone()));
        let content = content.map_err(|error| error.on(Side::Source))?;
        stream_file(content.path.clone(), offset, &blob.digest)
    }

    fn file(&self, blob: &Digest) -> Option<PathBuf> {
        self.contents.get(blob).map(|content| content.path.clone())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use cove_oci::{Algorithm, Codec};
    use cove_transfer::{CopyOptions, Platforms, Silent, copy};

    use super::*;

    /// A tar with these files and symbolic links, in this order.
    fn tar(entries: &[(&str, Result<&[u8], &str>)]) -> Vec<u8> {
        let mut builder = ::tar::Builder::new(Vec::new());
        for (name, content) in entries {
            let mut header = ::tar::Header::new_gnu();
            header.set_mode(0o644);
            match content {
                Ok(bytes) => {
                    header.set_size(bytes.len() as u64);
                    builder.append_data(&mut header, name, *bytes).unwrap();
                }
                Err(target) => {
                    header.set_entry_type(::tar::EntryType::Symlink);
                    header.set_size(0);
                    builder.append_link(&mut header, name, target).unwrap();
                }
            }
        }
        builder.into_inner().unwrap()
    }

    fn hex(bytes: &[u8]) -> String {
        Digest::of(Algorithm::Sha256, bytes).hex().to_owned()
    }

    /// What docker wrote before version 25: folders with layers, one a link into another, the list last.
    fn old_archive() -> Vec<u8> {
        let layer = tar(&[("a", Ok(b"a"))]);
        let other = tar(&[("b", Ok(b"b"))]);
        let config = format!(
            r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["sha256:{0}","sha256:{1}","sha256:{0}"]}}}}"#,
            hex(&layer),
            hex(&other)
        );
        let list = r#"[{"Config":"config.json","RepoTags":["app:v1","app:latest"],"Layers":["one/layer.tar","two/layer.tar","three/layer.tar"]}]"#;
        tar(&[
            ("three/layer.tar", Err("../one/layer.tar")),
            ("one/VERSION", Ok(b"1.0")),
            ("one/layer.tar", Ok(&layer)),
            ("two/layer.tar", Ok(&other)),
            ("config.json", Ok(config.as_bytes())),
            ("manifest.json", Ok(list.as_bytes())),
        ])
    }

    fn read_whole(archive: &[u8]) -> Result<(Layout, tempfile::TempDir), Error> {
        let folder = tempfile::tempdir().unwrap();
        read(archive, folder.path()).map(|layout| (layout, folder))
    }

    fn written(layout: &Layout) -> Vec<u8> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(async {
            let writer = Writer::new(Vec::new()).unwrap();
            for image in layout.images() {
                writer.name(image.names.clone()).await;
                let root = ManifestReference::Digest(image.root.digest.clone());
                let options = CopyOptions { platforms: Platforms::One(Platform::host()), blobs_at_once: 4 };
                copy(layout, &root, &writer, &root, &options, &Silent).await.unwrap();
            }
            writer.finish().unwrap()
        })
    }

    #[test]
    fn an_old_archive_becomes_a_new_one_with_the_same_image() {
        let (old, _folder) = read_whole(&old_archive()).unwrap();
        let [image] = old.images() else { panic!("{:?}", old.images()) };
        assert_eq!(image.names.iter().map(Reference::familiar).collect::<Vec<_>>(), ["app:v1", "app:latest"]);
        let manifest = Manifest::parse(old.get(&image.root.digest).unwrap(), None).unwrap();
        assert_eq!(manifest.layers().len(), 3);
        assert_eq!(manifest.layers()[0], manifest.layers()[2]);
        assert!(manifest.layers().iter().all(|layer| layer.layer_codec() == Some(Codec::Identity)));

        let archive = written(&old);
        assert_eq!(archive, written(&old), "the same image is the same archive");
        let (new, _folder) = read_whole(&archive).unwrap();
        assert_eq!(new.images(), old.images());
        // Readers that know docker's list only find the same.
        let without = |name: &str| {
            let mut list = Vec::new();
            for entry in ::tar::Archive::new(&archive[..]).entries().unwrap() {
                let mut entry = entry.unwrap();
                let path = entry.path().unwrap().to_string_lossy().into_owned();
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
                if path != name && !path.ends_with('/') {
                    list.push((path, bytes));
                }
            }
            let entries: Vec<(&str, Result<&[u8], &str>)> =
                list.iter().map(|(path, bytes)| (path.as_str(), Ok(bytes.as_slice()))).collect();
            tar(&entries)
        };
        for name in ["index.json", "manifest.json"] {
            let (partial, _folder) = read_whole(&without(name)).unwrap();
            assert_eq!(partial.images(), old.images(), "without {name}");
        }
        assert!(read_whole(&without("repositories")).is_ok());
    }

    #[test]
    fn compression_is_undone() {
        let archive = old_archive();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&archive).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&archive).unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(&archive).unwrap();
        let zstd = zstd::stream::encode_all(&archive[..], 1).unwrap();
        let (plain, _folder) = read_whole(&archive).unwrap();
        for packed in [gzip.finish().unwrap(), xz.finish().unwrap(), bzip2.finish().unwrap(), zstd] {
            assert_eq!(read_whole(&packed).unwrap().0.images(), plain.images());
        }
    }

    #[test]
    fn hostile_archives_are_refused() {
        let mut escaping = tar(&[("aaaaaaa/x", Ok(b"x"))]);
        escaping[..9].copy_from_slice(b"../../e/x");
        // The checksum of the changed header.
        escaping[148..156].fill(b' ');
        let sum: u32 = escaping[..512].iter().map(|byte| u32::from(*byte)).sum();
        escaping[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let wrong_name = tar(&[(&format!("blobs/sha256/{}", hex(b"x")), Ok(b"y")), ("manifest.json", Ok(b"[]"))]);
        let missing = tar(&[("manifest.json", Ok(br#"[{"Config":"nothing.json","Layers":[]}]"#))]);
        let link_out = tar(&[("a/layer.tar", Err("../../etc/passwd"))]);
        let circle = tar(&[("a", Err("b")), ("b", Err("a")), ("manifest.json", Ok(br#"[{"Config":"a"}]"#))]);
        let no_list = tar(&[("etc/passwd", Ok(b"root"))]);
        for (what, archive) in [
            ("a name that leads out", escaping),
            ("a digest that is not the content's", wrong_name),
            ("a missing configuration", missing),
            ("a link that leads out", link_out),
            ("links in a circle", circle),
            ("a root file system", no_list),
            ("no archive", b"nonsense".repeat(200)),
            ("a list that is none", tar(&[("manifest.json", Ok(b"{"))])),
        ] {
            assert!(read_whole(&archive).is_err(), "{what} must be refused");
        }
        let archive = old_archive();
        assert!(read_whole(&archive[..archive.len() / 2]).is_err(), "half an archive must be refused");
    }
    #[test]
    fn compression_is_seen_in_pieces_of_one_byte() {
        struct Dripping<'a>(&'a [u8]);
        impl std::io::Read for Dripping<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let count = buffer.len().min(self.0.len()).min(1);
                buffer[..count].copy_from_slice(&self.0[..count]);
                self.0 = &self.0[count..];
                Ok(count)
            }
        }
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&old_archive()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(Dripping(&xz.finish().unwrap()), folder.path()).unwrap().images().len(), 1);
    }

    #[test]
    fn archives_cannot_become_endless() {
        // Nothing but zeros, which deflate packs a thousand times smaller: refused before it fills the disk.
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![0; 1 << 20];
        for _ in 0..1100 {
            gzip.write_all(&zeros).unwrap();
        }
        let bomb = gzip.finish().unwrap();
        let error = std::io::copy(&mut decompressed(&bomb[..]).unwrap(), &mut std::io::sink()).unwrap_err();
        assert!(error.to_string().contains("1000 times as large"), "{error}");
        // xz with a dictionary of 512 MiB.
        let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
        options.dict_size(512 << 20);
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options);
        let stream = liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32).unwrap();
        let mut xz = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        xz.write_all(b"x").unwrap();
        let large = xz.finish().unwrap();
        assert!(std::io::read_to_string(decompressed(&large[..]).unwrap()).is_err());
        // A sparse file of a TiB in two blocks.
        let mut header = ::tar::Header::new_gnu();
        header.set_entry_type(::tar::EntryType::GNUSparse);
        header.set_mode(0o644);
        header.set_path("layer.tar").unwrap();
        header.set_size(512);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(1 << 32);
        gnu.sparse[0].set_offset((1 << 32) - 512);
        gnu.sparse[0].set_length(512);
        header.set_cksum();
        let mut sparse = header.as_bytes().to_vec();
        sparse.extend_from_slice(&[b'x'; 512]);
        sparse.extend_from_slice(&[0; 1024]);
        let error = read_whole(&sparse).unwrap_err().to_string();
        assert!(error.contains("sparse"), "{error}");
    }

    #[test]
    fn long_chains_of_links_and_long_lists_take_no_longer_than_they_are_long() {
        let mut entries = vec![("manifest.json".to_owned(), Ok(br#"[{"Config":"config.json"}]"#.to_vec()))];
        let config = br#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}"#;
        entries.push(("config.json".to_owned(), Ok(config.to_vec())));
        // The last one first: each pass over all of them finds one.
        for number in 0..10_000 {
            entries.push((format!("link-{number}"), Err(format!("link-{}", number + 1))));
        }
        entries.push(("link-10000".to_owned(), Err("config.json".to_owned())));
        let borrowed: Vec<(&str, Result<&[u8], &str>)> =
            entries.iter().map(|(name, content)| (name.as_str(), content.as_deref().map_err(String::as_str))).collect();
        let chain = tar(&borrowed);
        let started = std::time::Instant::now();
        read_whole(&chain).unwrap();
        // One manifest, listed again and again under names.
        let blob = |bytes: &[u8]| (format!("blobs/sha256/{}", hex(bytes)), bytes.to_vec());
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{}","size":{}}},"layers":[],"annotations":{{"padding":"{}"}}}}"#,
            hex(config),
            config.len(),
            "x".repeat(1 << 20)
        );
        let listed: Vec<String> = (0..2000)
            .map(|number| {
                format!(
                    r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{}","size":{},"annotations":{{"io.containerd.image.name":"docker.io/library/app:{number}"}}}}"#,
                    hex(manifest.as_bytes()),
                    manifest.len()
                )
            })
            .collect();
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, listed.join(","));
        let blobs = [blob(config), blob(manifest.as_bytes()), ("index.json".to_owned(), index.into_bytes())];
        let blobs: Vec<(&str, Result<&[u8], &str>)> =
            blobs.iter().map(|(name, bytes)| (name.as_str(), Ok(bytes.as_slice()))).collect();
        let (layout, _folder) = read_whole(&tar(&blobs)).unwrap();
        assert_eq!(layout.images().len(), 1);
        assert_eq!(layout.images()[0].names.len(), 2000);
        assert!(started.elapsed().as_secs() < 8, "{:?}", started.elapsed());
    }
}
