//! cove: the client under test, each with a store and credentials of its own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{Client, Pulled};
use crate::{Cmd, Finished, Image, Index, Login, Registry, Scratch, build_folder};

/// `cove`, with its own store, run folder and credentials.
pub struct Cove {
    folder: Scratch,
    /// Where its store is: in the folder, unless a test has put it on a disk of its own.
    root: PathBuf,
}

impl Cove {
    /// One that is not logged in anywhere and has no images.
    pub fn new() -> Self {
        let folder = Scratch::new("cove");
        let root = folder.join("root");
        Self { folder, root }
    }

    /// One whose store is in this folder.
    pub fn with_root(root: &Path) -> Self {
        Self { folder: Scratch::new("cove"), root: root.to_owned() }
    }

    /// The program, which `tests/run` has built.
    pub fn program() -> PathBuf {
        let path = build_folder().join("cove");
        assert!(path.exists(), "{} is not there: run `cargo build` or `tests/run`", path.display());
        path
    }

    /// A command line.
    pub fn command(&self) -> Cmd {
        self.run_as::<&str>(Self::program(), [])
    }

    /// The command line of another program that sees what cove sees.
    pub fn run_as<S: AsRef<OsStr>>(&self, program: impl AsRef<OsStr>, words: impl IntoIterator<Item = S>) -> Cmd {
        Cmd::new(program)
            .args(words)
            .env("HOME", self.folder.path())
            .env("DOCKER_CONFIG", self.configuration())
            .env("XDG_RUNTIME_DIR", self.folder.join("session"))
            .env("COVE_ROOT", &self.root)
            .env("COVE_RUN", self.folder.join("run"))
    }

    /// A command line of these words.
    pub fn words<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Cmd {
        self.command().args(words)
    }

    /// The folder of docker's configuration: `config.json` is in it.
    pub fn configuration(&self) -> PathBuf {
        self.folder.folder("docker")
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A folder for what a test wants to keep as long as this client.
    pub fn scratch(&self) -> &Scratch {
        &self.folder
    }

    /// Loads the image under a name and returns its id.
    pub fn load(&self, image: &Image, name: &str) -> String {
        let (archive, id) = image.docker_archive(name);
        self.words(["load", "-q", "-i"]).arg(archive).ok();
        assert_eq!(self.id(name), id, "cove made another image than it was given");
        id
    }

    /// The id of an image, which is the digest of its configuration.
    pub fn id(&self, name: &str) -> String {
        self.inspect(name, "{{.Id}}")
    }

    /// What `image inspect` says in a format.
    pub fn inspect(&self, name: &str, format: &str) -> String {
        self.words(["image", "inspect", "--format", format, name]).ok()
    }

    /// Pushes what the store has under this name and returns the manifest's digest.
    pub fn push_loaded(&self, name: &str) -> String {
        let printed = self.words(["push", name]).ok();
        let digest = printed.lines().rev().find_map(|line| line.split_once("digest: ")?.1.split(' ').next());
        digest.unwrap_or_else(|| panic!("cove push printed no digest: {printed}")).to_owned()
    }

    /// Removes an image from the store.
    pub fn forget(&self, name: &str) {
        self.words(["image", "rm", "-f", name]).ok();
    }

    /// Mounts an image's tree, lends it to `look`, and takes it away again.
    pub fn with_tree<T>(&self, name: &str, look: impl FnOnce(&Path) -> T) -> T {
        let path = PathBuf::from(self.words(["image", "mount", name]).ok());
        let seen = look(&path);
        self.words(["image", "unmount", name]).ok();
        seen
    }

    /// The files of the store below the folders that hold content or work in progress, each relative to the store.
    /// What is left of them when every image is gone is a leak.
    pub fn content(&self) -> Vec<String> {
        let folders = [
            "blobs",
            "partial",
            "layers",
            "staging",
            "trash",
            "uploads",
            "images",
            "references",
            "leases",
            "compressed",
        ];
        let mut found = Vec::new();
        for folder in folders {
            collect(&self.root, &self.root.join(folder), &mut found);
        }
        found.sort();
        found
    }
}

/// Adds every file below a folder, and every folder two levels down or less (those of layers, also if empty).
fn collect(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(root, &path, found);
        } else {
            found.push(path.strip_prefix(root).expect("it lies below").to_string_lossy().into_owned());
        }
    }
}

impl Default for Cove {
    fn default() -> Self {
        Self::new()
    }
}

impl Client for Cove {
    fn name(&self) -> &'static str {
        "cove"
    }

    fn try_login(&self, registry: &str, login: &Login) -> Finished {
        self.words(["login", "-u", &login.user, "--password-stdin", registry]).input(&login.password).run()
    }

    fn logout(&self, registry: &str) {
        self.words(["logout", registry]).ok();
    }

    fn push(&self, image: &Image, reference: &str) -> String {
        self.load(image, reference);
        let digest = self.push_loaded(reference);
        self.forget(reference);
        digest
    }

    fn push_index(&self, index: &Index, reference: &str) -> String {
        self.words(["load", "-q", "-i"]).arg(index.archive_named(reference)).ok();
        let printed = self.words(["push", "--all-platforms", reference]).ok();
        let digest = printed.lines().rev().find_map(|line| line.split_once("digest: ")?.1.split(' ').next());
        self.forget(reference);
        digest.unwrap_or_else(|| panic!("cove push printed no digest: {printed}")).to_owned()
    }

    fn try_pull(&self, reference: &str) -> Result<Pulled, String> {
        let finished = self.words(["pull", reference]).run();
        if !finished.succeeded() {
            return Err(finished.to_string());
        }
        let digest = finished.stdout.lines().find_map(|line| line.strip_prefix("Digest: "));
        let manifest = digest.unwrap_or_else(|| panic!("cove pull printed no digest: {finished}")).to_owned();
        let config = self.id(reference);
        self.forget(reference);
        Ok(Pulled { manifest, config })
    }

    fn copy(&self, from: &str, to: &str) -> String {
        self.words(["pull", "-q", from]).ok();
        self.words(["tag", from, to]).ok();
        let digest = self.push_loaded(to);
        self.forget(from);
        self.forget(to);
        digest
    }
}

/// The digests of an image's layers, uncompressed, from its configuration in a registry.
pub fn diff_ids(registry: &Registry, repository: &str, config: &str) -> Vec<String> {
    let answer = registry.get(&format!("/v2/{repository}/blobs/{config}")).expect(200).json();
    let list = answer["rootfs"]["diff_ids"].as_array().unwrap_or_else(|| panic!("no layers in {answer}")).clone();
    list.iter().map(|id| id.as_str().expect("a digest").to_owned()).collect()
}
