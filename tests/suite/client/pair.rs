//! docker and cove side by side: the same words to both, against the same server.

use std::collections::BTreeSet;

use cove_tests::clients::{Client, Cove, Docker};
use cove_tests::{Finished, Image, Login, Server};

/// A server, and a user of it who has docker and cove.
pub struct Pair {
    pub server: Server,
    pub alice: Login,
    pub docker: Docker,
    pub cove: Cove,
}

impl Pair {
    /// Both are logged in.
    pub fn start() -> Self {
        let server = Server::start();
        let alice = server.add_user("alice");
        let (docker, cove) = (Docker::new(), Cove::new());
        docker.login(&server.address(), &alice);
        cove.login(&server.address(), &alice);
        Self { server, alice, docker, cove }
    }

    /// A whole name in alice's repositories.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/alice/{rest}", self.server.address())
    }

    /// Has docker push an image under a name and forget it, and returns its id.
    pub fn publish(&self, image: &Image, name: &str) -> String {
        let id = self.docker.load(image, name);
        self.docker.push_loaded(name);
        self.docker.forget(name);
        id
    }

    /// What both do with these words.
    pub fn both(&self, words: &[&str]) -> (Finished, Finished) {
        (self.docker.command().args(words).run(), self.cove.words(words).run())
    }

    /// Both must do the same with these words: exit code and standard output, without the lines of progress.
    pub fn same(&self, words: &[&str]) -> String {
        let (docker, cove) = self.both(words);
        assert_eq!(docker.code, cove.code, "exit codes\n{docker}\n{cove}");
        let (mut left, mut right) = (told(&docker.stdout), told(&cove.stdout));
        if words.iter().any(|word| ["images", "ls", "list"].contains(word)) {
            // docker shows the names of images of the same age in any order.
            left.sort();
            right.sort();
        }
        for lines in [&mut left, &mut right] {
            // docker does not count the compressed layers, which it does not keep.
            lines.retain(|line| !line.starts_with("Total reclaimed space: "));
        }
        assert_eq!(left, right, "docker on the left, cove on the right\n{docker}\n{cove}");
        assert_eq!(layers(&docker), layers(&cove), "lines of layers\n{docker}\n{cove}");
        cove.stdout
    }

    /// Both must fail with the same exit code, and cove must say these words.
    pub fn both_fail(&self, words: &[&str], says: &[&str]) {
        let (docker, cove) = self.both(words);
        assert!(!docker.succeeded(), "docker was to fail\n{docker}");
        assert_eq!(docker.code, cove.code, "exit codes\n{docker}\n{cove}");
        assert_eq!(docker.stdout.trim(), cove.stdout.trim(), "standard output\n{docker}\n{cove}");
        for word in says {
            let printed = cove.stderr.to_lowercase();
            assert!(printed.contains(&word.to_lowercase()), "cove does not say `{word}`\n{docker}\n{cove}");
        }
    }
}

/// The lines that are not a layer's.
pub fn told(text: &str) -> Vec<&str> {
    text.lines().filter(|line| layer_line(line).is_none()).collect()
}

/// How the layers ended, wherever that was printed.
fn layers(finished: &Finished) -> BTreeSet<String> {
    let ends = ["Pull complete", "Already exists", "Pushed", "Layer already exists", "Mounted from"];
    let printed = finished.printed();
    let lines = printed
        .lines()
        .filter(|line| layer_line(line).is_some_and(|what| ends.iter().any(|end| what.starts_with(end))));
    lines.map(str::to_owned).collect()
}

/// What a line says of a layer, if it begins with the short id of one.
fn layer_line(line: &str) -> Option<&str> {
    let (id, what) = line.split_once(": ")?;
    (id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(what)
}
