//! crane.

use super::{Client, Pulled, config_of, hex};
use crate::registry::read;
use crate::{Cmd, Finished, Image, Index, Login, Scratch, sha256, tool};

/// crane, with its own credentials.
pub struct Crane {
    folder: Scratch,
}

impl Crane {
    /// One that is not logged in anywhere.
    pub fn new() -> Self {
        Self { folder: Scratch::new("crane") }
    }

    /// A command line.
    pub fn command(&self) -> Cmd {
        Cmd::new(tool("crane")).env("HOME", self.folder.path()).env("DOCKER_CONFIG", self.folder.path())
    }

    fn digest(&self, reference: &str) -> String {
        self.command().args(["digest", reference]).ok()
    }
}

impl Default for Crane {
    fn default() -> Self {
        Self::new()
    }
}

impl Client for Crane {
    fn name(&self) -> &'static str {
        "crane"
    }

    fn try_login(&self, registry: &str, login: &Login) -> Finished {
        let command = self.command().args(["auth", "login", registry, "-u", &login.user, "--password-stdin"]);
        command.input(&login.password).run()
    }

    fn logout(&self, registry: &str) {
        self.command().args(["auth", "logout", registry]).ok();
    }

    fn push(&self, image: &Image, reference: &str) -> String {
        let printed = self.command().arg("push").arg(image.layout()).arg(reference).ok();
        printed.rsplit('@').next().unwrap_or_default().to_owned()
    }

    fn push_index(&self, index: &Index, reference: &str) -> String {
        let printed = self.command().arg("push").arg(index.layout()).arg(reference).ok();
        printed.rsplit('@').next().unwrap_or_default().to_owned()
    }

    fn try_pull(&self, reference: &str) -> Result<Pulled, String> {
        let folder = Scratch::new("crane-pull");
        let finished = self.command().args(["pull", "--format=oci", reference]).arg(folder.path()).run();
        if !finished.succeeded() {
            return Err(finished.to_string());
        }
        let blob = |digest: &str| read(&folder.join("blobs/sha256").join(hex(digest)));
        let root: serde_json::Value =
            serde_json::from_slice(&read(&folder.join("index.json"))).expect("a layout's index is JSON");
        let manifest = root["manifests"][0]["digest"].as_str().expect("the layout has a manifest").to_owned();
        let config = config_of(&blob(&manifest), &blob);
        for digest in [&manifest, &config] {
            assert_eq!(sha256(blob(digest)), **digest, "what crane pulled");
        }
        Ok(Pulled { manifest, config })
    }

    fn copy(&self, from: &str, to: &str) -> String {
        self.command().args(["copy", from, to]).ok();
        self.digest(to)
    }

    fn delete(&self, reference: &str) -> bool {
        let (registry, repository, _) = super::parts(reference);
        let digest = self.digest(reference);
        self.command().args(["delete", &format!("{registry}/{repository}@{digest}")]).ok();
        true
    }
}
