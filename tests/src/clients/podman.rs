//! podman. It builds, pushes and pulls; it runs nothing.

use std::path::PathBuf;

use super::{Client, Containers, Pulled};
use crate::{Cmd, Finished, Image, Index, Login};

/// podman, with its own credentials and its own storage.
pub struct Podman(Containers);

impl Podman {
    /// One that is not logged in anywhere and has no images.
    pub fn new() -> Self {
        Self(Containers::new("podman"))
    }

    /// The folder of its images.
    pub fn data(&self) -> PathBuf {
        self.0.folder.join("storage")
    }

    /// A command line, without the word that turns TLS off.
    pub fn command(&self) -> Cmd {
        self.0.command("podman")
    }
}

impl Default for Podman {
    fn default() -> Self {
        Self::new()
    }
}

impl Client for Podman {
    fn name(&self) -> &'static str {
        "podman"
    }

    fn try_login(&self, registry: &str, login: &Login) -> Finished {
        self.0.login("podman", registry, login)
    }

    fn logout(&self, registry: &str) {
        self.command().args(["logout", registry]).ok();
    }

    fn push(&self, image: &Image, reference: &str) -> String {
        self.0.build_and_push(self.command().arg("build"), "podman", image, reference)
    }

    fn push_index(&self, index: &Index, reference: &str) -> String {
        self.0.push_index("podman", index, reference)
    }

    fn try_pull(&self, reference: &str) -> Result<Pulled, String> {
        let finished = self.command().args(["pull", "-q", "--tls-verify=false", reference]).run();
        if !finished.succeeded() {
            return Err(finished.to_string());
        }
        let found = self.command().args(["image", "inspect", "--format", "{{.Digest}} {{.Id}}", reference]).ok();
        self.command().args(["rmi", "-f", reference]).ok();
        let (manifest, id) = found.split_once(' ').unwrap_or_else(|| panic!("podman inspect printed {found}"));
        Ok(Pulled { manifest: manifest.to_owned(), config: format!("sha256:{id}") })
    }

    fn copy(&self, from: &str, to: &str) -> String {
        self.0.copy("podman", from, to)
    }

    fn copies_exactly(&self) -> bool {
        false
    }
}
