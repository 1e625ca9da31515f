//! An image that has been pushed, and how it comes back.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use cove_tests::clients::{Client, Cove, Docker, Podman, Skopeo, diff_ids};
use cove_tests::{Registry, Scratch, Tree, sha256_of_file};
use flate2::read::MultiGzDecoder;

/// An image in a registry, and what is to come back from there.
pub struct Pushed {
    pub reference: String,
    /// The registry, as the user sees it who has pushed the image.
    pub registry: Registry,
    pub repository: String,
    pub config: String,
    pub manifest: String,
    pub diff_ids: Vec<String>,
}

impl Pushed {
    /// What is there as tag 1 of a repository.
    pub fn read(registry: &Registry, repository: &str) -> Self {
        let served = registry.pull(repository, "1");
        Self {
            reference: format!("{}/{repository}:1", registry.address()),
            registry: registry.clone(),
            repository: repository.to_owned(),
            diff_ids: diff_ids(registry, repository, &served.config),
            config: served.config,
            manifest: served.digest,
        }
    }

    /// What cove pushes it again as.
    pub fn copy_reference(&self) -> String {
        format!("{}/{}-copy:1", self.registry.address(), self.repository)
    }

    /// The layers, fetched by plain calls and uncompressed, in a folder.
    pub fn layers(&self, folder: &Scratch) -> Vec<PathBuf> {
        let manifest = self.registry.manifest(&self.repository, "1").expect(200).json();
        let layers = manifest["layers"].as_array().unwrap().clone();
        let fetch = |(number, layer): (usize, &serde_json::Value)| {
            let path = folder.join(format!("{number}.tar"));
            let digest = layer["digest"].as_str().unwrap();
            let blob = self.registry.get(&format!("/v2/{}/blobs/{digest}", self.repository)).expect(200).body;
            if layer["mediaType"].as_str().unwrap().ends_with("gzip") {
                io::copy(&mut MultiGzDecoder::new(&*blob), &mut File::create(&path).unwrap()).unwrap();
            } else {
                fs::write(&path, &blob).unwrap();
            }
            assert_eq!(sha256_of_file(&path), self.diff_ids[number], "layer {number} of {}", self.reference);
            path
        };
        layers.iter().enumerate().map(fetch).collect()
    }

    /// What GNU tar makes of it.
    pub fn tree(&self) -> Tree {
        let folder = Scratch::new("layers");
        Tree::of_layers(&self.layers(&folder))
    }

    /// Pulls it by docker, podman and skopeo, which must agree about what it is.
    pub fn comes_back_to(&self, docker: &Docker, podman: &Podman, skopeo: &Skopeo) {
        let what = |client: &dyn Client| format!("{} pulled by {}", self.reference, client.name());
        docker.command().args(["pull", "-q", &self.reference]).ok();
        assert_eq!(docker.id(&self.reference), self.config, "{}", what(docker));
        let list = docker.command().args(["image", "inspect", "--format", "{{json .RootFS.Layers}}", &self.reference]);
        let list: Vec<String> = serde_json::from_str(&list.ok()).unwrap();
        assert_eq!(list, self.diff_ids, "{}", what(docker));
        docker.forget(&self.reference);

        podman.command().args(["pull", "-q", "--tls-verify=false", &self.reference]).ok();
        let inspect =
            |format: &str| podman.command().args(["image", "inspect", "--format", format, &self.reference]).ok();
        assert_eq!(format!("sha256:{}", inspect("{{.Id}}")), self.config, "{}", what(podman));
        let list: Vec<String> = serde_json::from_str(&inspect("{{json .RootFS.Layers}}")).unwrap();
        assert_eq!(list, self.diff_ids, "{}", what(podman));
        podman.command().args(["rmi", "-f", &self.reference]).ok();

        let pulled = skopeo.pull(&self.reference);
        assert_eq!((pulled.manifest, pulled.config), (self.manifest.clone(), self.config.clone()), "{}", what(skopeo));
    }

    /// Pulls it by cove, looks at every file, pushes it to another repository, and gives it to docker in an archive.
    pub fn comes_back_to_cove(&self, cove: &Cove, docker: &Docker) {
        let what = &self.reference;
        let printed = cove.words(["pull", &self.reference]).ok();
        assert!(printed.contains(&format!("Digest: {}", self.manifest)), "{what}: cove pull printed {printed}");
        assert_eq!(cove.id(what), self.config, "{what}");
        let list: Vec<String> = serde_json::from_str(&cove.inspect(what, "{{json .RootFS.Layers}}")).unwrap();
        assert_eq!(list, self.diff_ids, "{what}");
        let tree = self.tree();
        cove.with_tree(what, |path| Tree::read(path).assert_is(&tree, what));

        let copy = self.copy_reference();
        cove.words(["tag", what, &copy]).ok();
        assert_eq!(cove.push_loaded(&copy), self.manifest, "pushed again by cove: {what}");
        let served = self.registry.pull(&format!("{}-copy", self.repository), "1");
        assert_eq!((served.digest, served.config), (self.manifest.clone(), self.config.clone()), "{what}");

        let archive = cove.scratch().join("archive.tar");
        cove.words(["save", "-o"]).arg(&archive).arg(what).ok();
        docker.command().args(["load", "-q", "-i"]).arg(&archive).ok();
        assert_eq!(docker.id(what), self.config, "saved by cove and loaded by docker: {what}");
        docker.forget(what);
        cove.words(["rmi", what, &copy]).ok();
    }
}
