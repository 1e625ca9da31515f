//! docker: its client, and a daemon of our own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Client, Pulled};
use crate::{Cmd, Dockerd, Finished, Image, Index, Login, Scratch};

/// `docker`, with its own credentials, speaking to a private daemon.
pub struct Docker {
    daemon: Arc<Dockerd>,
    folder: Scratch,
}

impl Docker {
    /// One with a new daemon, not logged in anywhere.
    pub fn new() -> Self {
        Self { daemon: Arc::new(Dockerd::start()), folder: Scratch::new("docker") }
    }

    /// Another user of the same daemon, not logged in anywhere.
    pub fn beside(&self) -> Self {
        Self { daemon: self.daemon.clone(), folder: Scratch::new("docker") }
    }

    /// A command line.
    pub fn command(&self) -> Cmd {
        let command = Cmd::new("docker").env("HOME", self.folder.path()).env("DOCKER_CONFIG", self.folder.path());
        command.args(["--host", &self.daemon.host()])
    }

    /// The folder of the daemon's images.
    pub fn data(&self) -> PathBuf {
        self.daemon.data()
    }

    /// The folder of its configuration: `config.json` is in it.
    pub fn configuration(&self) -> &Path {
        self.folder.path()
    }

    /// Makes the image in the daemon under a name and returns its id.
    pub fn load(&self, image: &Image, name: &str) -> String {
        let (archive, id) = image.docker_archive(name);
        self.command().args(["load", "-q", "-i"]).arg(archive).ok();
        assert_eq!(self.id(name), id, "docker made another image than it was given");
        id
    }

    /// The id of an image, which is the digest of its configuration.
    pub fn id(&self, name: &str) -> String {
        self.command().args(["image", "inspect", "--format", "{{.Id}}", name]).ok()
    }

    /// Pushes what the daemon has under this name and returns the manifest's digest.
    pub fn push_loaded(&self, name: &str) -> String {
        let printed = self.command().args(["push", name]).ok();
        let digest = printed.lines().rev().find_map(|line| line.split_once("digest: ")?.1.split(' ').next());
        digest.unwrap_or_else(|| panic!("docker push printed no digest: {printed}")).to_owned()
    }

    /// Removes an image from the daemon.
    pub fn forget(&self, name: &str) {
        self.command().args(["image", "rm", "-f", name]).ok();
    }
}

impl Default for Docker {
    fn default() -> Self {
        Self::new()
    }
}

impl Client for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn try_login(&self, registry: &str, login: &Login) -> Finished {
        let command = self.command().args(["login", "-u", &login.user, "--password-stdin", registry]);
        command.input(&login.password).run()
    }

    fn logout(&self, registry: &str) {
        self.command().args(["logout", registry]).ok();
    }

    fn push(&self, image: &Image, reference: &str) -> String {
        self.load(image, reference);
        let digest = self.push_loaded(reference);
        self.forget(reference);
        digest
    }

    fn push_index(&self, index: &Index, reference: &str) -> String {
        let names: Vec<_> = (0..index.images.len()).map(|number| format!("{reference}-part-{number}")).collect();
        for (image, name) in index.images.iter().zip(&names) {
            self.push(image, name);
        }
        self.command().args(["manifest", "create", "--insecure", reference]).args(&names).ok();
        let printed = self.command().args(["manifest", "push", "--purge", "--insecure", reference]).ok();
        printed.lines().last().unwrap_or_default().to_owned()
    }

    fn try_pull(&self, reference: &str) -> Result<Pulled, String> {
        let finished = self.command().args(["pull", reference]).run();
        if !finished.succeeded() {
            return Err(finished.to_string());
        }
        let digest = finished.stdout.lines().find_map(|line| line.strip_prefix("Digest: "));
        let manifest = digest.unwrap_or_else(|| panic!("docker pull printed no digest: {finished}")).to_owned();
        let config = self.id(reference);
        self.forget(reference);
        Ok(Pulled { manifest, config })
    }

    fn copy(&self, from: &str, to: &str) -> String {
        self.command().args(["pull", from]).ok();
        self.command().args(["tag", from, to]).ok();
        let digest = self.push_loaded(to);
        self.forget(from);
        self.forget(to);
        digest
    }

    fn copies_exactly(&self) -> bool {
        false
    }
}
