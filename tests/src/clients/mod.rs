//! The clients that people use, behind one trait, so that a test can have each pull what each other pushed.
//!
//! Every client has its own folder for credentials, configuration and images; nothing of the machine's is read or
//! written.

mod buildah;
mod cove;
mod crane;
mod ctr;
mod curl;
mod docker;
mod podman;
mod skopeo;

use std::path::Path;

use serde_json::Value;

use crate::{Cmd, Finished, Image, Index, Login, Scratch};

pub use buildah::Buildah;
pub use cove::{Cove, diff_ids};
pub use crane::Crane;
pub use ctr::Ctr;
pub use curl::Curl;
pub use docker::Docker;
pub use podman::Podman;
pub use skopeo::Skopeo;

/// What a client says it has after a pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The digest of the manifest that the reference stands for. (Of an index, podman and buildah remember the
    /// digest of the image that they have picked from it.)
    pub manifest: String,
    /// The digest of the image's configuration, which names the uncompressed layers; of an index, that of the
    /// image for linux/amd64.
    pub config: String,
}

/// A client of registries. References are complete: `127.0.0.1:PORT/repository:tag`, or `…@digest`.
pub trait Client: Send + Sync {
    /// Its name, usable in repository names.
    fn name(&self) -> &'static str;

    /// Logs in and returns what came of it.
    fn try_login(&self, registry: &str, login: &Login) -> Finished;

    /// Forgets the credentials for a registry.
    fn logout(&self, registry: &str);

    /// Makes the image, in whichever way this client makes images, pushes it, and returns the manifest's digest
    /// as this client reports it.
    fn push(&self, image: &Image, reference: &str) -> String;

    /// Pushes a multi-platform image, made in this client's way, and returns the index's digest.
    fn push_index(&self, index: &Index, reference: &str) -> String;

    /// Pulls into an empty place and tells what has arrived, or everything that the client printed.
    fn try_pull(&self, reference: &str) -> Result<Pulled, String>;

    /// Copies an image from one reference to another and returns the digest of the copy's manifest.
    fn copy(&self, from: &str, to: &str) -> String;

    /// Whether a copy is the same to the byte. Clients that unpack an image and push it anew make a new manifest.
    fn copies_exactly(&self) -> bool {
        true
    }

    /// Deletes the manifest in the registry. False if the client has no command for that.
    fn delete(&self, _reference: &str) -> bool {
        false
    }

    /// Logs in, which must work.
    fn login(&self, registry: &str, login: &Login) {
        self.try_login(registry, login).ok();
    }

    /// Pulls, which must work.
    fn pull(&self, reference: &str) -> Pulled {
        self.try_pull(reference).unwrap_or_else(|printed| panic!("{} cannot pull {reference}: {printed}", self.name()))
    }

    /// Pulls, which must fail, and returns what the client printed.
    fn pull_fails(&self, reference: &str) -> String {
        match self.try_pull(reference) {
            Ok(pulled) => panic!("{} could pull {reference}: {pulled:?}", self.name()),
            Err(printed) => printed,
        }
    }
}

/// One of each.
pub fn all() -> Vec<Box<dyn Client>> {
    vec![
        Box::new(Docker::new()),
        Box::new(Podman::new()),
        Box::new(Buildah::new()),
        Box::new(Skopeo::new()),
        Box::new(Crane::new()),
        Box::new(Ctr::plain_http()),
        Box::new(Ctr::with_hosts_toml()),
        Box::new(Curl::new()),
        Box::new(Cove::new()),
    ]
}

/// Takes `registry/repository:tag` or `registry/repository@digest` apart.
fn parts(reference: &str) -> (&str, &str, &str) {
    let (registry, rest) = reference.split_once('/').unwrap_or_else(|| panic!("no registry in {reference}"));
    let (repository, tag) = rest.split_once('@').or_else(|| rest.rsplit_once(':')).unwrap_or((rest, "latest"));
    (registry, repository, tag)
}

/// The digest of the configuration of an image or, for an index, of its first image. `get` returns the manifest
/// with a digest.
fn config_of(manifest: &[u8], get: &dyn Fn(&str) -> Vec<u8>) -> String {
    let manifest: Value = serde_json::from_slice(manifest).expect("a manifest is JSON");
    if let Some(config) = manifest["config"]["digest"].as_str() {
        return config.to_owned();
    }
    let child = manifest["manifests"][0]["digest"].as_str();
    child.map(|digest| config_of(&get(digest), get)).unwrap_or_default()
}

/// The hexadecimal part of a digest.
fn hex(digest: &str) -> &str {
    digest.rsplit(':').next().unwrap_or(digest)
}

/// Settings that podman, buildah and skopeo share.
struct Containers {
    folder: Scratch,
}

impl Containers {
    fn new(label: &str) -> Self {
        let folder = Scratch::new(label);
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
            folder.folder("storage").display(),
            folder.folder("run").display(),
        );
        let engine = format!(
            "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nlock_type = \"file\"\n\
             runtime = \"runc\"\ntmp_dir = \"{}\"\n",
            folder.folder("libpod").display(),
        );
        folder.write("storage.conf", storage);
        folder.write("containers.conf", engine);
        folder.write("registries.conf", "");
        folder.write("auth.json", "{}");
        folder.folder("home");
        Self { folder }
    }

    fn command(&self, program: &str) -> Cmd {
        Cmd::new(program)
            .env("HOME", self.folder.join("home"))
            .env("XDG_RUNTIME_DIR", self.folder.join("run"))
            .env("REGISTRY_AUTH_FILE", self.folder.join("auth.json"))
            .env("CONTAINERS_STORAGE_CONF", self.folder.join("storage.conf"))
            .env("CONTAINERS_CONF", self.folder.join("containers.conf"))
            .env("CONTAINERS_REGISTRIES_CONF", self.folder.join("registries.conf"))
    }

    fn login(&self, program: &str, registry: &str, login: &Login) -> Finished {
        let command = self.command(program).args([
            "login",
            "--tls-verify=false",
            "-u",
            &login.user,
            "--password-stdin",
            registry,
        ]);
        command.input(&login.password).run()
    }

    /// Builds the image and gives it the name, pushes it and forgets it.
    fn build_and_push(&self, build: Cmd, program: &str, image: &Image, reference: &str) -> String {
        build.args(["-q", "-t", reference]).arg(image.build_context()).ok();
        let digest = self.push(program, &["push"], reference, reference);
        self.command(program).args(["rmi", "-f", reference]).ok();
        digest
    }

    fn push(&self, program: &str, words: &[&str], from: &str, to: &str) -> String {
        let digest = self.folder.join("digest");
        let command = self.command(program).args(words).arg("--tls-verify=false").arg("--digestfile").arg(&digest);
        command.args([from, &format!("docker://{to}")]).ok();
        read_text(&digest)
    }

    fn push_index(&self, program: &str, index: &Index, reference: &str) -> String {
        let list = "localhost/list:latest";
        self.command(program).args(["manifest", "create", list]).ok();
        for image in &index.images {
            self.command(program)
                .args(["manifest", "add", list, &format!("oci:{}:latest", image.layout().display())])
                .ok();
        }
        let digest = self.push(program, &["manifest", "push", "--all"], list, reference);
        self.command(program).args(["rmi", "-f", list]).ok();
        digest
    }

    /// Pulls, gives the image another name, pushes that and forgets both.
    fn copy(&self, program: &str, from: &str, to: &str) -> String {
        self.command(program).args(["pull", "-q", "--tls-verify=false", from]).ok();
        self.command(program).args(["tag", from, to]).ok();
        let digest = self.push(program, &["push"], to, to);
        self.command(program).args(["rmi", "-f", from, to]).ok();
        digest
    }
}

fn read_text(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    text.trim().to_owned()
}
