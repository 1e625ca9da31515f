//! skopeo.

use super::{Client, Containers, Pulled, config_of, hex, read_text};
use crate::registry::read;
use crate::{Cmd, Finished, Image, Index, Login, Scratch, sha256};

/// skopeo, with its own credentials.
pub struct Skopeo(Containers);

impl Skopeo {
    /// One that is not logged in anywhere.
    pub fn new() -> Self {
        Self(Containers::new("skopeo"))
    }

    /// A command line, without the words that turn TLS off.
    pub fn command(&self) -> Cmd {
        self.0.command("skopeo")
    }

    /// Copies everything from one place to another, each with its transport before it.
    pub fn try_copy(&self, from: &str, to: &str) -> Finished {
        let digest = self.0.folder.join("digest");
        let command = self.command().args(["copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false"]);
        command.arg("--digestfile").arg(digest).args([from, to]).run()
    }

    fn copy_from(&self, from: &str, to: &str) -> String {
        self.try_copy(from, to).ok();
        read_text(&self.0.folder.join("digest"))
    }
}

impl Default for Skopeo {
    fn default() -> Self {
        Self::new()
    }
}

impl Client for Skopeo {
    fn name(&self) -> &'static str {
        "skopeo"
    }

    fn try_login(&self, registry: &str, login: &Login) -> Finished {
        self.0.login("skopeo", registry, login)
    }

    fn logout(&self, registry: &str) {
        self.command().args(["logout", registry]).ok();
    }

    fn push(&self, image: &Image, reference: &str) -> String {
        self.copy_from(&format!("oci:{}:latest", image.layout().display()), &format!("docker://{reference}"))
    }

    fn push_index(&self, index: &Index, reference: &str) -> String {
        self.copy_from(&format!("oci:{}:latest", index.layout().display()), &format!("docker://{reference}"))
    }

    fn try_pull(&self, reference: &str) -> Result<Pulled, String> {
        // The form `dir` keeps the manifest as it came, whatever its type.
        let folder = Scratch::new("skopeo-pull");
        let finished = self.try_copy(&format!("docker://{reference}"), &format!("dir:{}", folder.path().display()));
        if !finished.succeeded() {
            return Err(finished.to_string());
        }
        let manifest = read(&folder.join("manifest.json"));
        let config = config_of(&manifest, &|digest| read(&folder.join(format!("{}.manifest.json", hex(digest)))));
        assert_eq!(sha256(read(&folder.join(hex(&config)))), config, "the configuration that skopeo pulled");
        Ok(Pulled { manifest: sha256(&manifest), config })
    }

    fn copy(&self, from: &str, to: &str) -> String {
        self.copy_from(&format!("docker://{from}"), &format!("docker://{to}"))
    }

    fn delete(&self, reference: &str) -> bool {
        self.command().args(["delete", "--tls-verify=false", &format!("docker://{reference}")]).ok();
        true
    }
}
