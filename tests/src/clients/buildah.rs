//! buildah. It runs nothing either.

use super::{Client, Containers, Pulled};
use crate::{Cmd, Finished, Image, Index, Login};

/// buildah, with its own credentials and its own storage.
pub struct Buildah(Containers);

impl Buildah {
    /// One that is not logged in anywhere and has no images.
    pub fn new() -> Self {
        Self(Containers::new("buildah"))
    }

    /// A command line, without the word that turns TLS off.
    pub fn command(&self) -> Cmd {
        self.0.command("buildah")
    }
}

impl Default for Buildah {
    fn default() -> Self {
        Self::new()
    }
}

impl Client for Buildah {
    fn name(&self) -> &'static str {
        "buildah"
    }

    fn try_login(&self, registry: &str, login: &Login) -> Finished {
        self.0.login("buildah", registry, login)
    }

    fn logout(&self, registry: &str) {
        self.command().args(["logout", registry]).ok();
    }

    fn push(&self, image: &Image, reference: &str) -> String {
        self.0.build_and_push(self.command().arg("build").arg("--layers"), "buildah", image, reference)
    }

    fn push_index(&self, index: &Index, reference: &str) -> String {
        self.0.push_index("buildah", index, reference)
    }

    fn try_pull(&self, reference: &str) -> Result<Pulled, String> {
        let finished = self.command().args(["pull", "-q", "--tls-verify=false", reference]).run();
        if !finished.succeeded() {
            return Err(finished.to_string());
        }
        let found = self
            .command()
            .args(["inspect", "--type", "image", "--format", "{{.FromImageDigest}} {{.FromImageID}}", reference])
            .ok();
        self.command().args(["rmi", "-f", reference]).ok();
        let (manifest, id) = found.split_once(' ').unwrap_or_else(|| panic!("buildah inspect printed {found}"));
        Ok(Pulled { manifest: manifest.to_owned(), config: format!("sha256:{id}") })
    }

    fn copy(&self, from: &str, to: &str) -> String {
        self.0.copy("buildah", from, to)
    }

    fn copies_exactly(&self) -> bool {
        false
    }
}
