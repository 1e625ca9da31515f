//! Images of real sizes: five combinations of maker, registry and way back.

use std::fs::File;
use std::path::{Path, PathBuf};

use cove_tests::clients::{Client, Cove, Docker, Podman, Skopeo};
use cove_tests::{Dice, Distribution, Image, Makers, Noise, Registry, Scratch, Server, debian, nasty_image};

use crate::pushed::Pushed;

/// A layer of 21,000 small files in 300 folders.
fn many_files(folder: &Scratch) -> PathBuf {
    let path = folder.join("many.tar");
    let mut tar = tar::Builder::new(File::create(&path).unwrap());
    let mut dice = Dice::new(4);
    for number in 0..21_000 {
        let content = format!("file {number}\n").repeat(dice.within(0..400) as usize);
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_500_000_000 + number);
        let name = format!("many/{:03}/{number}", number % 300);
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    tar.finish().unwrap();
    path
}

/// A layer of one file of 150 MB, half of which compresses.
fn large_file(folder: &Scratch) -> PathBuf {
    let path = folder.join("large.tar");
    let mut header = tar::Header::new_gnu();
    header.set_size(150_000_000);
    header.set_mode(0o600);
    let content = std::io::Read::chain(Noise::new(75_000_000), std::io::Read::take(std::io::repeat(b'x'), 75_000_000));
    let mut tar = tar::Builder::new(File::create(&path).unwrap());
    tar.append_data(&mut header, "large/file", content).unwrap();
    tar.finish().unwrap();
    path
}

/// An image on top of which the makers can work, with this layer.
fn with_layer(layer: &Path) -> Image {
    Image::from_layers(&[&nasty_image().layers()[0], layer])
}

struct World {
    server: Server,
    distribution: Distribution,
    makers: Makers,
    docker: Docker,
    podman: Podman,
    skopeo: Skopeo,
    cove: Cove,
    alice: Registry,
}

impl World {
    fn start() -> Self {
        let server = Server::start();
        let login = server.add_user("alice");
        let makers = Makers::new();
        let (docker, podman, skopeo, cove) = (makers.docker.beside(), Podman::new(), Skopeo::new(), Cove::new());
        makers.login(&server.address(), &login);
        for client in [&docker as &dyn Client, &podman, &skopeo, &cove] {
            client.login(&server.address(), &login);
        }
        let alice = server.as_user(&login);
        Self { server, distribution: Distribution::start(), makers, docker, podman, skopeo, cove, alice }
    }

    fn push(&self, maker: &str, image: &Image, registry: &Registry, repository: &str) -> Pushed {
        self.makers.push(maker, image, &format!("{}/{repository}:1", registry.address()));
        Pushed::read(registry, repository)
    }
}

#[test]
fn debian_by_docker_and_many_files_and_a_large_one_by_others() {
    let world = World::start();
    let folder = Scratch::new("real");

    // The first: a Debian by docker, through distribution's registry, back to podman.
    let name = format!("{}/somebody/debian:1", world.distribution.address());
    world.docker.load(&Image::from_layers(&[&debian()]), &name);
    world.docker.push_loaded(&name);
    world.docker.forget(&name);
    let pushed = Pushed::read(&world.distribution.registry(), "somebody/debian");
    pushed.comes_back_to_cove(&world.cove, &world.docker);
    let pulled = world.podman.pull(&pushed.copy_reference());
    assert_eq!((pulled.manifest, pulled.config), (pushed.manifest.clone(), pushed.config.clone()));

    // Two and three: many files, by umoci and by buildah.
    let many = with_layer(&many_files(&folder));
    let pushed = world.push("umoci", &many, &world.alice, "alice/many-by-umoci");
    assert!(pushed.tree().len() > 20_000);
    pushed.comes_back_to_cove(&world.cove, &world.docker);
    let pushed = world.push("buildah", &many, &world.distribution.registry(), "somebody/many-by-buildah");
    pushed.comes_back_to_cove(&world.cove, &world.docker);
    pushed.comes_back_to(&world.docker, &world.podman, &world.skopeo);

    // Four and five: a large file, by skopeo and by podman.
    let large = with_layer(&large_file(&folder));
    let pushed = world.push("skopeo", &large, &world.alice, "alice/large-by-skopeo");
    pushed.comes_back_to_cove(&world.cove, &world.docker);
    let pushed = world.push("podman", &large, &world.alice, "alice/large-by-podman");
    pushed.comes_back_to_cove(&world.cove, &world.docker);
    world.cove.words(["system", "prune", "-a", "-f"]).ok();
    assert_eq!(world.cove.content(), [""; 0], "what is left in a store without images");
    world.server.check();
}
