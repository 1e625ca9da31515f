//! Images made from nothing.
//!
//! An [`Image`] is a list of layer tars. Each client wants it in its own form: a build context, a docker archive,
//! an OCI layout or an OCI archive; the forms are made when they are asked for.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::digest::{sha256, sha256_of_file};
use crate::registry::{Registry, Served, media_type};
use crate::{Cmd, Scratch};

/// Bytes that do not compress, different in every call and every run, so that no client and no cache has them.
#[derive(Debug)]
pub struct Noise {
    state: u64,
    left: u64,
}

impl Noise {
    /// So many bytes.
    pub fn new(length: u64) -> Self {
        static CALLS: AtomicU64 = AtomicU64::new(1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_nanos();
        let seed = u64::try_from(now & u128::from(u64::MAX)).expect("masked");
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        Self { state: (seed ^ call.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1, left: length }
    }

    /// So many bytes, at once.
    pub fn bytes(length: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        Self::new(length).read_to_end(&mut bytes).expect("noise never fails");
        bytes
    }
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        for chunk in buffer[..count].chunks_mut(8) {
            // xorshift64*
            self.state ^= self.state >> 12;
            self.state ^= self.state << 25;
            self.state ^= self.state >> 27;
            let word = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// An image for one platform.
#[derive(Debug)]
pub struct Image {
    folder: Scratch,
    layers: Vec<PathBuf>,
    architecture: String,
}

impl Image {
    /// An image with so many layers, each with a file of so many bytes of noise.
    pub fn new(layers: usize, bytes: u64) -> Self {
        Self::for_architecture("amd64", layers, bytes)
    }

    /// The same for `linux/ARCHITECTURE`.
    pub fn for_architecture(architecture: &str, layers: usize, bytes: u64) -> Self {
        let folder = Scratch::new("image");
        let layers = (0..layers).map(|number| {
            let path = folder.join(format!("layer-{number}.tar"));
            write_tar(&path, &format!("file-{number}"), bytes)
                .unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
            path
        });
        let layers = layers.collect();
        Self { folder, layers, architecture: architecture.to_owned() }
    }

    /// An image whose layers are these uncompressed tars.
    pub fn from_layers(tars: &[&Path]) -> Self {
        let folder = Scratch::new("image");
        let layers = tars.iter().enumerate().map(|(number, tar)| {
            let path = folder.join(format!("layer-{number}.tar"));
            fs::copy(tar, &path).unwrap_or_else(|error| panic!("copy {}: {error}", tar.display()));
            path
        });
        let layers = layers.collect();
        Self { folder, layers, architecture: "amd64".to_owned() }
    }

    /// A folder with a Dockerfile that makes this image, one instruction a layer.
    pub fn build_context(&self) -> &Path {
        let lines = self.layers.iter().map(|layer| format!("ADD {} /\n", file_name(layer)));
        self.folder.write("Dockerfile", format!("FROM scratch\n{}CMD [\"/file-0\"]\n", lines.collect::<String>()));
        self.folder.path()
    }

    /// A docker archive, as `docker load` reads it, with the image under the name `tag`; and the image's id.
    pub fn docker_archive(&self, tag: &str) -> (PathBuf, String) {
        let config = self.config();
        let config_name = format!("{}.json", sha256(&config).trim_start_matches("sha256:"));
        let layers: Vec<_> = self.layers.iter().map(|layer| file_name(layer)).collect();
        let manifest = json!([{ "Config": config_name, "RepoTags": [tag], "Layers": layers }]).to_string();
        self.folder.write(&config_name, &config);
        self.folder.write("manifest.json", manifest);
        let archive = self.folder.join("docker-archive.tar");
        let members = layers.into_iter().chain([config_name, "manifest.json".to_owned()]);
        Cmd::new("tar").arg("-cf").arg(&archive).arg("-C").arg(self.folder.path()).args(members).ok();
        (archive, sha256(&config))
    }

    /// An OCI layout folder with this image as `latest`.
    pub fn layout(&self) -> PathBuf {
        let path = self.folder.join("layout");
        if !path.exists() {
            let layout = Layout::new(&path);
            let manifest = self.write_to(&layout);
            layout.finish(manifest);
        }
        path
    }

    /// An OCI archive with this image as `latest`.
    pub fn oci_archive(&self) -> PathBuf {
        archive_of(&self.layout())
    }

    /// The uncompressed layers, the lowest first.
    pub fn layers(&self) -> &[PathBuf] {
        &self.layers
    }

    fn config(&self) -> Vec<u8> {
        let diff_ids: Vec<_> = self.layers.iter().map(|layer| sha256_of_file(layer)).collect();
        let history: Vec<_> =
            self.layers.iter().map(|layer| json!({ "created_by": format!("ADD {}", file_name(layer)) })).collect();
        let config = json!({
            "created": "2026-01-01T00:00:00Z",
            "architecture": self.architecture,
            "os": "linux",
            "config": { "Cmd": ["/file-0"], "Env": ["PATH=/usr/bin:/bin"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": history,
        });
        config.to_string().into_bytes()
    }

    fn write_to(&self, layout: &Layout) -> Value {
        let layers: Vec<_> = self.layers.iter().map(|layer| layout.add_layer(layer)).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::MANIFEST,
            "config": layout.add(media_type::CONFIG, &self.config()),
            "layers": layers,
        });
        let mut descriptor = layout.add(media_type::MANIFEST, manifest.to_string().as_bytes());
        descriptor["platform"] = json!({ "os": "linux", "architecture": self.architecture });
        descriptor
    }
}

/// A multi-platform image: an index of images, the first of them for linux/amd64.
#[derive(Debug)]
pub struct Index {
    folder: Scratch,
    /// The images.
    pub images: Vec<Image>,
    nested: bool,
}

impl Index {
    /// An index of an image for linux/amd64 and one for linux/arm64, each of two small layers.
    pub fn new() -> Self {
        let images = ["amd64", "arm64"].map(|architecture| Image::for_architecture(architecture, 2, 10_000));
        Self { folder: Scratch::new("index"), images: images.into(), nested: false }
    }

    /// An index of such an index.
    pub fn nested() -> Self {
        Self { nested: true, ..Self::new() }
    }

    /// An OCI layout folder with this index as `latest`.
    pub fn layout(&self) -> PathBuf {
        let path = self.folder.join("layout");
        if !path.exists() {
            let layout = Layout::new(&path);
            let manifests: Vec<_> = self.images.iter().map(|image| image.write_to(&layout)).collect();
            let mut index = layout.add_index(&manifests);
            if self.nested {
                index = layout.add_index(&[index]);
            }
            layout.finish(index);
        }
        path
    }

    /// An OCI archive with this index as `latest`.
    pub fn oci_archive(&self) -> PathBuf {
        archive_of(&self.layout())
    }

    /// An archive as docker saves it when it keeps images in containerd's store: an OCI layout that says the whole name.
    pub fn archive_named(&self, reference: &str) -> PathBuf {
        let index = self.layout().join("index.json");
        let text = fs::read_to_string(&index).expect("read the layout's index");
        let mut value: Value = serde_json::from_str(&text).expect("it is JSON");
        value["manifests"][0]["annotations"]["io.containerd.image.name"] = reference.into();
        fs::write(&index, value.to_string()).expect("write the layout's index");
        archive_of(&self.layout())
    }
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

/// Something that is not an image: one blob of its own type, perhaps about another manifest.
#[derive(Debug)]
pub struct Artifact {
    /// Its type, as filters name it.
    pub artifact_type: String,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    content: Vec<u8>,
}

impl Artifact {
    /// An artifact of a type, with new content, about `subject`.
    pub fn new(artifact_type: &str, subject: Option<&Served>) -> Self {
        let content = Noise::bytes(1000);
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::MANIFEST,
            "artifactType": artifact_type,
            "config": descriptor(media_type::EMPTY, b"{}"),
            "layers": [descriptor("application/octet-stream", &content)],
            "annotations": { "org.example.purpose": "test" },
        });
        if let Some(subject) = subject {
            manifest["subject"] = descriptor(&subject.media_type, &subject.bytes);
        }
        Self { artifact_type: artifact_type.to_owned(), manifest: manifest.to_string().into_bytes(), content }
    }

    /// The manifest's digest.
    pub fn digest(&self) -> String {
        sha256(&self.manifest)
    }

    /// Pushes it by plain calls, under its digest.
    pub fn push(&self, registry: &Registry, repository: &str) {
        registry.push_blob(repository, b"{}");
        registry.push_blob(repository, &self.content);
        registry.push_manifest(repository, &self.digest(), media_type::MANIFEST, &self.manifest);
    }
}

/// An OCI layout folder in the making.
struct Layout<'a>(&'a Path);

impl<'a> Layout<'a> {
    fn new(path: &'a Path) -> Self {
        fs::create_dir_all(path.join("blobs/sha256"))
            .unwrap_or_else(|error| panic!("make {}: {error}", path.display()));
        Self(path)
    }

    fn add(&self, media_type: &str, bytes: &[u8]) -> Value {
        self.write(&format!("blobs/{}", sha256(bytes).replace(':', "/")), bytes);
        descriptor(media_type, bytes)
    }

    fn add_layer(&self, tar: &Path) -> Value {
        let temporary = self.0.join("layer");
        let pack = || -> io::Result<u64> {
            // Noise does not compress, so no time is spent on trying; gzip it is all the same.
            let mut gzip = GzEncoder::new(File::create(&temporary)?, Compression::none());
            io::copy(&mut File::open(tar)?, &mut gzip)?;
            gzip.finish()?;
            Ok(fs::metadata(&temporary)?.len())
        };
        let size = pack().unwrap_or_else(|error| panic!("pack {}: {error}", tar.display()));
        let digest = sha256_of_file(&temporary);
        fs::rename(&temporary, self.0.join(format!("blobs/{}", digest.replace(':', "/")))).expect("rename in a folder");
        json!({ "mediaType": media_type::LAYER, "digest": digest, "size": size })
    }

    fn add_index(&self, manifests: &[Value]) -> Value {
        let index = json!({ "schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": manifests });
        self.add(media_type::INDEX, index.to_string().as_bytes())
    }

    fn finish(&self, mut root: Value) {
        root["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
        let index = json!({ "schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": [root] });
        self.write("index.json", index.to_string().as_bytes());
        self.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": sha256(bytes), "size": bytes.len() })
}

fn archive_of(layout: &Path) -> PathBuf {
    let archive = layout.with_extension("tar");
    Cmd::new("tar").arg("-cf").arg(&archive).arg("-C").arg(layout).arg(".").ok();
    archive
}

fn write_tar(path: &Path, member: &str, length: u64) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(length);
    header.set_mode(0o644);
    let mut tar = tar::Builder::new(File::create(path)?);
    tar.append_data(&mut header, member, Noise::new(length))?;
    tar.finish()
}

fn file_name(path: &Path) -> String {
    path.file_name().expect("a file has a name").to_string_lossy().into_owned()
}
