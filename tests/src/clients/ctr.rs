//! `ctr`, containerd's own client, which resolves, pulls and pushes as containerd does for Kubernetes and docker.

use std::fs;
use std::sync::Mutex;

use super::{Client, Pulled, config_of, parts};
use crate::{Cmd, Containerd, Finished, Image, Index, Login, Scratch, sha256};

/// `ctr` with a containerd of its own.
pub struct Ctr {
    containerd: Containerd,
    folder: Scratch,
    has_hosts_toml: bool,
    // ctr has no login: each command gets the credentials.
    login: Mutex<Option<Login>>,
}

impl Ctr {
    /// One that is told `--plain-http`.
    pub fn plain_http() -> Self {
        Self::new(false)
    }

    /// One that finds each registry in a `hosts.toml`.
    pub fn with_hosts_toml() -> Self {
        Self::new(true)
    }

    fn new(has_hosts_toml: bool) -> Self {
        Self { containerd: Containerd::start(), folder: Scratch::new("ctr"), has_hosts_toml, login: Mutex::new(None) }
    }

    /// A command line.
    pub fn command(&self) -> Cmd {
        Cmd::new("ctr").arg("--address").arg(self.containerd.socket()).args(["--namespace", "tests"])
    }

    /// `ctr images VERB` with what it takes to reach a registry.
    pub fn transfer(&self, verb: &str, reference: &str) -> Cmd {
        let (registry, _, _) = parts(reference);
        let mut command = self.command().args(["images", verb]);
        if self.has_hosts_toml {
            let hosts = self.folder.join("hosts");
            let host = hosts.join(registry);
            let text = format!(
                "server = \"http://{registry}\"\n[host.\"http://{registry}\"]\ncapabilities = [\"pull\", \"resolve\", \"push\"]\n"
            );
            fs::create_dir_all(&host).expect("make the folder of hosts.toml");
            fs::write(host.join("hosts.toml"), text).expect("write hosts.toml");
            command = command.arg("--hosts-dir").arg(hosts);
        } else {
            command = command.arg("--plain-http");
        }
        let login = self.login.lock().expect("no panic with it").clone();
        login.into_iter().fold(command, |command, login| command.args(["--user", &login.pair()]))
    }

    fn import_and_push(&self, archive: &std::path::Path, reference: &str) -> String {
        let name = "local/imported:latest";
        self.command().args(["images", "import", "--all-platforms", "--base-name", "local/imported"]).arg(archive).ok();
        self.transfer("push", reference).args([reference, name]).ok();
        let digest = self.digest(name);
        self.forget(name);
        digest
    }

    fn digest(&self, name: &str) -> String {
        let list = self.command().args(["images", "ls", &format!("name=={name}")]).ok();
        let digest = list.split_whitespace().find(|word| word.starts_with("sha256:"));
        digest.unwrap_or_else(|| panic!("ctr has no {name}: {list}")).to_owned()
    }

    fn content(&self, digest: &str) -> Vec<u8> {
        // Manifests are text.
        self.command().args(["content", "get", digest]).run().ok_exactly().into_bytes()
    }

    fn forget(&self, name: &str) {
        self.command().args(["images", "rm", "--sync", name]).ok();
    }
}

impl Client for Ctr {
    fn name(&self) -> &'static str {
        if self.has_hosts_toml { "ctr-hosts" } else { "ctr" }
    }

    fn try_login(&self, _registry: &str, login: &Login) -> Finished {
        *self.login.lock().expect("no panic with it") = Some(login.clone());
        Cmd::new("true").run()
    }

    fn logout(&self, _registry: &str) {
        *self.login.lock().expect("no panic with it") = None;
    }

    fn push(&self, image: &Image, reference: &str) -> String {
        self.import_and_push(&image.oci_archive(), reference)
    }

    fn push_index(&self, index: &Index, reference: &str) -> String {
        self.import_and_push(&index.oci_archive(), reference)
    }

    fn try_pull(&self, reference: &str) -> Result<Pulled, String> {
        let finished = self.transfer("pull", reference).arg(reference).run();
        if !finished.succeeded() {
            return Err(finished.to_string());
        }
        let manifest = self.content(&self.digest(reference));
        let config = config_of(&manifest, &|digest| self.content(digest));
        self.forget(reference);
        Ok(Pulled { manifest: sha256(&manifest), config })
    }

    fn copy(&self, from: &str, to: &str) -> String {
        self.transfer("pull", from).args(["--all-platforms", from]).ok();
        self.transfer("push", to).args([to, from]).ok();
        let digest = self.digest(from);
        self.forget(from);
        digest
    }
}
