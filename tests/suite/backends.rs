//! The server on PostgreSQL, with a folder and with S3, and two servers on one state.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

use cove_tests::clients::{Client, Crane, Docker, Podman, Skopeo};
use cove_tests::{
    Conformance, Image, Index, Login, Noise, Postgres, Registry, S3, Server, ServerBuilder, add_query, media_type,
    sha256,
};

/// Two clients push and pull an image of thirty layers, one with a layer of 200 MB and a multi-platform one.
fn two_clients(server: &Server) {
    let alice = server.add_user("alice");
    let address = server.address();
    let registry = server.as_user(&alice);
    let (docker, skopeo) = (Docker::new(), Skopeo::new());
    for client in [&docker as &dyn Client, &skopeo] {
        client.login(&address, &alice);
    }
    for (what, layers, bytes) in [("thirty", 30, 10_000), ("large", 1, 200_000_000)] {
        for (pusher, puller) in [(&docker as &dyn Client, &skopeo as &dyn Client), (&skopeo, &docker)] {
            let repository = format!("alice/{what}-by-{}", pusher.name());
            let reference = format!("{address}/{repository}:1");
            let digest = pusher.push(&Image::new(layers, bytes), &reference);
            let served = registry.pull(&repository, "1");
            assert_eq!(served.digest, digest, "what {} has pushed", pusher.name());
            let pulled = puller.pull(&reference);
            assert_eq!(
                (&pulled.manifest, &pulled.config),
                (&served.digest, &served.config),
                "what {} has pulled",
                puller.name()
            );
        }
    }
    skopeo.push_index(&Index::new(), &format!("{address}/alice/index:1"));
    let served = registry.pull("alice/index", "1");
    assert_eq!(docker.pull(&format!("{address}/alice/index:1")).manifest, served.digest);

    // Copied by mounting, deleted at once.
    let copy = skopeo.copy(&format!("{address}/alice/large-by-docker:1"), &format!("{address}/alice/copy:1"));
    assert_eq!(registry.pull("alice/copy", "1").digest, copy);
    skopeo.delete(&format!("{address}/alice/copy:1"));
    registry.manifest("alice/copy", "1").expect(404);
    docker.pull_fails(&format!("{address}/alice/copy:1"));
    registry.pull("alice/large-by-docker", "1");
    server.check();
}

#[test]
fn clients_on_postgresql_and_a_folder() {
    let postgres = Postgres::start();
    let mut server = Server::builder().database(&postgres.url()).start();
    two_clients(&server);
    server.restart();
    server.as_admin().pull("alice/large-by-skopeo", "1");
}

#[test]
fn clients_on_postgresql_and_s3() {
    let (postgres, s3) = (Postgres::start(), S3::start());
    let mut server = Server::builder().database(&postgres.url()).s3(&s3, "cove").start();
    two_clients(&server);
    server.restart();
    server.as_admin().pull("alice/large-by-skopeo", "1");
    let objects = s3.objects().join("cove").read_dir().expect("the bucket's folder").count();
    assert!(objects > 0, "the blobs are in the bucket");
}

#[test]
fn the_server_conforms_on_postgresql_and_s3() {
    let (postgres, s3) = (Postgres::start(), S3::start());
    let server = Server::builder().database(&postgres.url()).s3(&s3, "cove").start();
    Conformance::run(&server, false).expect_all_passed(&["Sparse Manifests: Disabled"]);
    server.check();
}

/// Two servers on one PostgreSQL and one bucket.
struct Pair {
    one: Server,
    other: Server,
    alice: Login,
    // Dropped last.
    _postgres: Postgres,
    _s3: S3,
}

impl Pair {
    fn start() -> Self {
        let (postgres, s3) = (Postgres::start(), S3::start());
        let settings: ServerBuilder = Server::builder().database(&postgres.url()).s3(&s3, "cove");
        // At the same moment: which of them makes the tables is left to chance.
        let other = std::thread::spawn({
            let settings = settings.clone();
            move || settings.start()
        });
        let one = settings.start();
        let other = other.join().expect("the other server starts as well");
        let alice = one.add_user("alice");
        Self { one, other, alice, _postgres: postgres, _s3: s3 }
    }

    fn registries(&self) -> (Registry, Registry) {
        (self.one.as_user(&self.alice), self.other.as_user(&self.alice))
    }
}

#[test]
fn an_upload_begun_on_one_server_ends_on_the_other() {
    let pair = Pair::start();
    let (one, other) = pair.registries();
    let content = Noise::bytes(30_000_000);
    let digest = sha256(&content);
    let (first, rest) = content.split_at(11_000_001);

    let location = one.begin_upload("alice/image");
    assert!(location.starts_with('/'), "a location that holds on every server is relative: {location}");
    let patched = one.patch(&location, &[("Content-Type", "application/octet-stream")], first).expect(202);
    assert_eq!(patched.header("Range"), "0-11000000");

    let status = other.get(&patched.header("Location")).expect(204);
    assert_eq!(status.header("Range"), "0-11000000");
    let range = format!("{}-{}", first.len(), content.len() - 1);
    let patched = other.patch(&status.header("Location"), &[("Content-Range", &range)], rest).expect(202);
    assert_eq!(patched.header("Range"), format!("0-{}", content.len() - 1));
    let put = other.put(&add_query(&patched.header("Location"), &format!("digest={digest}")), &[], b"").expect(201);
    assert_eq!(put.header("Docker-Content-Digest"), digest);

    for registry in [&one, &other] {
        registry.check_blob("alice/image", &digest, content.len() as u64);
        // The upload is over on both.
        registry.get(&location).expect(404);
    }
    pair.one.check();
}

#[test]
fn an_upload_may_change_the_server_with_every_chunk() {
    let pair = Pair::start();
    let (one, other) = pair.registries();
    let content = Noise::bytes(1_000_000);
    let mut location = other.begin_upload("alice/image");
    for (number, chunk) in content.chunks(100_000).enumerate() {
        let registry = if number % 2 == 0 { &one } else { &other };
        let range = format!("{}-{}", number * 100_000, number * 100_000 + chunk.len() - 1);
        let answer = registry.patch(&location, &[("Content-Range", &range)], chunk).expect(202);
        location = answer.header("Location");
        // The same chunk again is out of order, on either server.
        for registry in [&one, &other] {
            let refused = registry.patch(&location, &[("Content-Range", &range)], chunk).expect(416);
            assert_eq!(refused.header("Range"), format!("0-{}", number * 100_000 + chunk.len() - 1));
        }
    }
    let digest = sha256(&content);
    one.put(&add_query(&location, &format!("digest={digest}")), &[], b"").expect(201);
    other.check_blob("alice/image", &digest, content.len() as u64);
}

#[test]
fn what_one_server_does_the_other_shows_at_once() {
    let pair = Pair::start();
    let (one, other) = pair.registries();
    let crane = Crane::new();
    crane.login(&pair.one.address(), &pair.alice);
    crane.login(&pair.other.address(), &pair.alice);

    for round in 0..20 {
        let (here, there) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let image = crane.push(&Image::new(2, 1000), &format!("{}/alice/image:1", here.address()));
        let served = there.pull("alice/image", "1");
        assert_eq!(served.digest, image, "round {round}: the tag moved on one server and not on the other");
        assert_eq!(there.tags("alice/image"), ["1"]);
        here.delete(&format!("/v2/alice/image/manifests/{image}")).expect(202);
        there.manifest("alice/image", "1").expect(404);
        there.manifest("alice/image", &image).expect(404);
        assert_eq!(there.tags("alice/image"), [""; 0]);
        let blob = here.push_blob("alice/image", &Noise::bytes(100));
        there.check_blob("alice/image", &blob, 100);
        here.delete(&format!("/v2/alice/image/blobs/{blob}")).expect(202);
        there.head(&format!("/v2/alice/image/blobs/{blob}")).expect(404);
    }

    // Accounts and rights too, whichever server's administrator sets them.
    let bob = pair.other.add_user("bob");
    pair.one.as_user(&bob).get("/v2/").expect(200);
    let manifest = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media_type::INDEX);
    one.push_manifest("alice/shared", "1", media_type::INDEX, manifest.as_bytes());
    let bob_there = pair.other.as_user(&bob);
    bob_there.manifest("alice/shared", "1").expect(404);
    pair.one.admin(["grant", "bob", "alice/shared", "pull"]);
    bob_there.manifest("alice/shared", "1").expect(200);
    pair.one.admin(["revoke", "bob", "alice/shared"]);
    bob_there.manifest("alice/shared", "1").expect(404);
    pair.one.admin(["user", "disable", "bob"]);
    bob_there.get("/v2/").expect(401);
}

#[test]
fn a_token_of_one_server_is_good_on_the_other() {
    let mut pair = Pair::start();
    let (one, other) = pair.registries();
    let manifest = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media_type::INDEX);
    one.push_manifest("alice/image", "1", media_type::INDEX, manifest.as_bytes());
    let token = one.token("repository:alice/image:pull");
    let with_token = pair.other.as_anonymous().with_token(&token);
    with_token.manifest("alice/image", "1").expect(200);
    with_token.delete("/v2/alice/image/manifests/1").expect(401);
    // New keys sign new tokens; the old ones stay good until they end, on both, and after a restart as well.
    pair.one.admin(["key", "rotate"]);
    let newer = pair.one.as_anonymous().with_token(&other.token("repository:alice/image:pull"));
    newer.manifest("alice/image", "1").expect(200);
    with_token.manifest("alice/image", "1").expect(200);
    pair.other.restart();
    with_token.manifest("alice/image", "1").expect(200);
    pair.other.as_anonymous().get("/v2/").expect(401);
}

#[test]
fn one_server_goes_and_its_clients_go_on_with_the_other() {
    let mut pair = Pair::start();
    let (one, other) = pair.registries();
    let content = Noise::bytes(5_000_000);
    let location = one.begin_upload("alice/image");
    let patched = one.patch(&location, &[], &content[..2_000_000]).expect(202);
    pair.one.kill9();
    let status = other.get(&patched.header("Location")).expect(204);
    assert_eq!(status.header("Range"), "0-1999999", "what was acknowledged is there");
    let patched = other.patch(&status.header("Location"), &[], &content[2_000_000..]).expect(202);
    let digest = sha256(&content);
    other.put(&add_query(&patched.header("Location"), &format!("digest={digest}")), &[], b"").expect(201);
    pair.one.start_again();
    pair.one.as_user(&pair.alice).check_blob("alice/image", &digest, content.len() as u64);

    let podman = Podman::new();
    podman.login(&pair.other.address(), &pair.alice);
    podman.push(&Image::new(3, 10_000), &format!("{}/alice/other:1", pair.other.address()));
    pair.one.as_user(&pair.alice).pull("alice/other", "1");
    pair.other.check();
}
