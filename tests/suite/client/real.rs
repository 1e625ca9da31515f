//! Images of real sizes: five combinations of maker, registry and way back.

use std::path::Path;

use cove_tests::clients::{Client, Cove, Docker, Podman, Skopeo};
use cove_tests::{
    Distribution, Image, Makers, Registry, Scratch, Server, debian, large_files, many_files, nasty_image,
};

use crate::pushed::Pushed;

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
    let many = with_layer(&many_files(&folder.join("many.tar"), 21_000, 4));
    let pushed = world.push("umoci", &many, &world.alice, "alice/many-by-umoci");
    assert!(pushed.tree().len() > 20_000);
    pushed.comes_back_to_cove(&world.cove, &world.docker);
    let pushed = world.push("buildah", &many, &world.distribution.registry(), "somebody/many-by-buildah");
    pushed.comes_back_to_cove(&world.cove, &world.docker);
    pushed.comes_back_to(&world.docker, &world.podman, &world.skopeo);

    // Four and five: a large file, by skopeo and by podman.
    let large = with_layer(&large_files(&folder.join("large.tar"), 1, 150_000_000));
    let pushed = world.push("skopeo", &large, &world.alice, "alice/large-by-skopeo");
    pushed.comes_back_to_cove(&world.cove, &world.docker);
    let pushed = world.push("podman", &large, &world.alice, "alice/large-by-podman");
    pushed.comes_back_to_cove(&world.cove, &world.docker);
    world.cove.words(["system", "prune", "-a", "-f"]).ok();
    assert_eq!(world.cove.content(), [""; 0], "what is left in a store without images");
    world.server.check();
}
