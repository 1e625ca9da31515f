//! Images by every maker, through two registries, and back by everyone.

use cove_tests::clients::{Client, Cove, Podman, Skopeo};
use cove_tests::{Distribution, MAKERS, Makers, Server, Tree, nastier_image, nasty_image};

use crate::pushed::Pushed;

/// A nasty image by every maker, through every registry: everyone pulls the same configuration and layers; the tree
/// that cove makes is GNU tar's; what cove pushes is what it has pulled.
#[test]
fn a_nasty_image_by_every_maker_through_every_registry_to_everyone() {
    let server = Server::start();
    let alice = server.add_user("alice");
    let distribution = Distribution::start();
    let makers = Makers::new();
    let (docker, podman, skopeo, cove) = (makers.docker.beside(), Podman::new(), Skopeo::new(), Cove::new());
    makers.login(&server.address(), &alice);
    for client in [&docker as &dyn Client, &podman, &skopeo, &cove] {
        client.login(&server.address(), &alice);
    }
    let base = nasty_image();
    for maker in MAKERS {
        for (registry, user) in [(server.as_user(&alice), "alice"), (distribution.registry(), "somebody")] {
            let repository = format!("{user}/nasty-by-{maker}");
            makers.push(maker, &base, &format!("{}/{repository}:1", registry.address()));
            let pushed = Pushed::read(&registry, &repository);
            is_nasty(&pushed.tree(), maker);
            pushed.comes_back_to(&docker, &podman, &skopeo);
            pushed.comes_back_to_cove(&cove, &docker);
        }
    }
    server.check();
}

/// The image still has what it was made for. (podman and buildah leave extended attributes of users out of the
/// layers that they make themselves, but not of those below.)
fn is_nasty(tree: &Tree, maker: &str) {
    assert!(tree.len() > 100, "{maker}: {} entries", tree.len());
    assert!(tree.with_attribute("security.capability") >= 1, "{maker}: no capability is left");
    assert!(tree.with_attribute("user.") >= 1, "{maker}: no attributes are left");
    assert!(tree.hard_links() >= 4, "{maker}: {} hard links", tree.hard_links());
    assert!(tree.devices() >= 2, "{maker}: {} devices", tree.devices());
    for gone in ["etc/removed", "gone-folder/sub", "opaque/old", "beside/old", "deep/er", "once"] {
        assert!(!tree.has(gone), "{maker}: /{gone} should be gone");
    }
    for there in ["run/through-an-absolute-link", "lib-real/through-a-link", "through/a/b/through-a-link-in-between"] {
        assert!(tree.has(there), "{maker}: /{there} should be there");
    }
    assert!(tree.has(b"hand/not-\xff-utf8\n"), "{maker}: an odd name is gone");
}

/// What docker 20.10 cannot unpack and cove can.
#[test]
fn a_nastier_image_than_others_can_unpack() {
    let distribution = Distribution::start();
    let (skopeo, cove) = (Skopeo::new(), Cove::new());
    let name = format!("{}/somebody/nastier:1", distribution.address());
    skopeo.push(&nastier_image(), &name);
    let pushed = Pushed::read(&distribution.registry(), "somebody/nastier");
    let tree = pushed.tree();
    assert!(tree.has("sparse/holes") && tree.has("data/late") && tree.has("rebeside/new") && !tree.has("rebeside/old"));
    cove.words(["pull", "-q", &name]).ok();
    cove.with_tree(&name, |path| Tree::read(path).assert_is(&tree, "the nastier image"));
    // What has holes in it takes no room for them.
    let blocks = |path: &std::path::Path| std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(path).unwrap());
    let taken = cove.with_tree(&name, |path| blocks(&path.join("sparse/holes")));
    assert!(taken * 512 < 1_000_000, "8 MB of holes take {taken} blocks");
}
