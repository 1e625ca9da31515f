//! What is pulled and pushed: an image of five layers, and the same with one of them changed.

use std::fs;
use std::path::PathBuf;

use cove_tests::clients::Docker;
use cove_tests::{Distribution, Image, Noise, Scratch, debian, large_files, many_files};

/// The images, as archives and in a registry.
pub struct Content {
    /// Both, one after the other.
    pub references: [String; 2],
    /// The first one as docker saves it; whoever loads it gives it this name.
    pub archive: PathBuf,
    /// Its name in the archive.
    pub name: &'static str,
    /// The layers of the first, uncompressed.
    pub layers: Vec<PathBuf>,
    /// Where the compressed layers of the first one are.
    pub urls: Vec<String>,
    /// Bytes of the layers, compressed by docker.
    pub compressed: u64,
    /// Bytes of the layers.
    pub uncompressed: u64,
    _image: Image,
}

impl Content {
    /// Makes both and has docker push them.
    pub fn publish(registry: &Distribution) -> Self {
        let folder = Scratch::new("bench-content");
        let many = many_files(&folder.join("many.tar"), 20_000, 1);
        let large = large_files(&folder.join("large.tar"), 2, 40_000_000);
        let programs = [many_files(&folder.join("one.tar"), 2_000, 2), many_files(&folder.join("two.tar"), 2_000, 3)];
        let settings = many_files(&folder.join("settings.tar"), 10, Noise::bytes(1)[0].into());
        let debian = debian();
        let image = |program: &PathBuf| Image::from_layers(&[&debian, &many, &large, program, &settings]);
        let (first, second) = (image(&programs[0]), image(&programs[1]));
        let docker = Docker::new();
        let references = ["1", "2"].map(|tag| format!("{}/bench/image:{tag}", registry.address()));
        for (image, reference) in [(&first, &references[0]), (&second, &references[1])] {
            docker.load(image, reference);
            docker.push_loaded(reference);
        }
        let manifest = registry.registry().manifest("bench/image", "1").expect(200).json();
        let layers = manifest["layers"].as_array().expect("layers");
        let digests = layers.iter().map(|layer| layer["digest"].as_str().expect("a digest"));
        let name = "bench/image:1";
        let (archive, _) = first.docker_archive(name);
        Self {
            urls: digests
                .map(|digest| format!("http://{}/v2/bench/image/blobs/{digest}", registry.address()))
                .collect(),
            compressed: layers.iter().filter_map(|layer| layer["size"].as_u64()).sum(),
            uncompressed: first.layers().iter().map(|layer| fs::metadata(layer).expect("a layer").len()).sum(),
            layers: first.layers().to_vec(),
            references,
            archive,
            name,
            _image: first,
        }
    }

    /// In words.
    pub fn description(&self) -> String {
        let mb = |bytes: u64| bytes / 1_000_000;
        format!(
            "an image of {} layers (a Debian with a compiler, 20,000 small files, two large ones, 2,000 files, 10 files): \
             {} MB, {} MB as docker compresses them",
            self.layers.len(),
            mb(self.uncompressed),
            mb(self.compressed),
        )
    }
}
