//! What holds when the client is killed, its machine loses power, or several work on one store: nothing that is
//! wrong can be seen, nothing that is useless stays, and what has arrived is not fetched again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "client_crash/power.rs"]
mod power;
#[path = "client_crash/pull.rs"]
mod pull;
#[path = "client_crash/push.rs"]
mod push;
#[path = "client_crash/together.rs"]
mod together;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use cove_tests::clients::{Client, Cove, Curl};
use cove_tests::{Asked, Image, Process, Proxy, Server, Tree};

/// A server with one image that anybody may pull.
struct World {
    server: Server,
    repository: &'static str,
    id: String,
    digest: String,
    tree: Tree,
}

impl World {
    fn with(image: &Image) -> Self {
        let server = Server::start();
        let alice = server.add_user("alice");
        let curl = Curl::new();
        curl.login(&server.address(), &alice);
        let digest = curl.push(image, &format!("{}/alice/image:1", server.address()));
        server.admin(["repo", "set", "alice/image", "--public"]);
        let id = server.as_user(&alice).pull("alice/image", "1").config;
        Self { server, repository: "alice/image", id, digest, tree: Tree::of_layers(image.layers()) }
    }

    /// Somebody with a store of their own, at the end of a line that carries so many bytes per second.
    fn puller(&self, cove: Cove, bytes_per_second: u64) -> Puller<'_> {
        let proxy = Proxy::start(&self.server.address(), bytes_per_second);
        let name = format!("{}/{}:1", proxy.address(), self.repository);
        Puller { world: self, cove, proxy, name }
    }
}

struct Puller<'a> {
    world: &'a World,
    cove: Cove,
    proxy: Proxy,
    name: String,
}

impl Puller<'_> {
    /// Starts a pull and leaves it running.
    fn start(&self) -> Process {
        self.cove.words(["pull", &self.name]).start(&self.cove.scratch().join("log"))
    }

    /// Every image that can be seen is the right one; whether there is one.
    fn sees_only_what_is_right(&self) -> bool {
        let ids = self.cove.words(["images", "-a", "-q", "--no-trunc"]).ok();
        if ids.is_empty() {
            return false;
        }
        assert_eq!(ids, self.world.id, "images after a crash");
        self.is_right();
        true
    }

    /// The image is there, and is what was pushed.
    fn is_right(&self) {
        assert_eq!(self.cove.id(&self.name), self.world.id);
        self.cove.with_tree(&self.name, |path| Tree::read(path).assert_is(&self.world.tree, &self.name));
        let archive = self.cove.scratch().join("archive.tar");
        self.cove.words(["save", "-o"]).arg(&archive).arg(&self.name).ok();
        fs::remove_file(archive).unwrap();
    }

    /// Pulls to the end, which must work, and returns what was asked for on the way.
    fn pull(&self) -> Vec<Asked> {
        self.proxy.take();
        let printed = self.cove.words(["pull", &self.name]).limit(Duration::from_secs(300)).ok();
        assert!(printed.contains(&format!("Digest: {}", self.world.digest)), "{printed}");
        self.proxy.take()
    }

    /// Nothing of work in progress is there after a prune, and nothing at all when the image is gone.
    fn leaves_nothing(&self) {
        self.cove.words(["system", "prune", "-f"]).ok();
        let leftovers = ["partial/", "staging/", "trash/", "leases/"];
        let content = self.cove.content();
        let left: Vec<_> =
            content.iter().filter(|path| leftovers.iter().any(|folder| path.starts_with(folder))).collect();
        assert!(left.is_empty(), "left after `system prune`: {left:?}");
        self.cove.words(["rmi", &self.name]).ok();
        self.cove.words(["system", "prune", "-f"]).ok();
        assert_eq!(self.cove.content(), [""; 0], "left in a store without images");
    }

    /// The lengths of what has arrived of blobs, by the hexadecimal part of their digests.
    fn partial(&self) -> BTreeMap<String, u64> {
        lengths(&self.cove.root().join("partial"))
    }

    /// The blobs that are complete, likewise.
    fn blobs(&self) -> BTreeMap<String, u64> {
        lengths(&self.cove.root().join("blobs/sha256"))
    }
}

fn lengths(folder: &Path) -> BTreeMap<String, u64> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = files.filter_map(|file| Some((file.file_name().into_string().ok()?, file.metadata().ok()?.len())));
    // What stands beside the bytes, such as checksums, has another name than a digest.
    let hex = |name: &str| name.trim_start_matches("sha256:").trim_start_matches("sha256-").to_owned();
    files.map(|(name, length)| (hex(&name), length)).filter(|(name, _)| name.len() == 64).collect()
}
