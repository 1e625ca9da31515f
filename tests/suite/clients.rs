//! Every client against one server as it comes (SQLite and a folder): each pushes, each pulls what each other
//! pushed, copies and deletes; then what people do beside that: logging in and out, public repositories, lists.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use cove_tests::clients::{self, Client, Crane, Ctr, Curl, Docker, Podman, Skopeo};
use cove_tests::{Artifact, Cmd, Image, Index, Login, Noise, Registry, Scratch, Served, Server, media_type, sha256};

/// A server, a user and all clients, logged in as that user.
struct Cove {
    server: Server,
    alice: Login,
    clients: Vec<Box<dyn Client>>,
}

impl Cove {
    fn start() -> Self {
        Self::with(clients::all())
    }

    fn with(clients: Vec<Box<dyn Client>>) -> Self {
        let server = Server::start();
        let alice = server.add_user("alice");
        for client in &clients {
            client.login(&server.address(), &alice);
        }
        Self { server, alice, clients }
    }

    fn registry(&self) -> Registry {
        self.server.as_user(&self.alice)
    }

    /// The complete reference of the tag `1` in one of alice's repositories.
    fn reference(&self, repository: &str) -> String {
        self.tagged(repository, "1")
    }

    fn tagged(&self, repository: &str, tag: &str) -> String {
        format!("{}/alice/{repository}:{tag}", self.server.address())
    }

    /// Fetches by plain HTTP, with every byte checked.
    fn served(&self, repository: &str) -> Served {
        self.registry().pull(&format!("alice/{repository}"), "1")
    }

    /// Lets every client push what `push` makes, and everyone pull from the `pulls` clients that come after it.
    fn everyone_pulls(&self, what: &str, pulls: usize, push: impl Fn(&dyn Client, &str) -> String) {
        let name = |client: &dyn Client| format!("{what}-by-{}", client.name());
        let mut all_served = Vec::new();
        for client in &self.clients {
            let digest = push(&**client, &self.reference(&name(&**client)));
            let served = self.served(&name(&**client));
            assert_eq!(served.digest, digest, "the digest of {what}, as {} says and as served", client.name());
            all_served.push(served);
        }
        for (position, puller) in self.clients.iter().enumerate() {
            for step in 1..=pulls {
                let from = (position + step) % self.clients.len();
                let pusher = name(&*self.clients[from]);
                let pulled = puller.pull(&self.reference(&pusher));
                let served = &all_served[from];
                assert_eq!(pulled.config, served.config, "the configuration of {pusher}, pulled by {}", puller.name());
                assert!(
                    [&served.digest, &served.image].contains(&&pulled.manifest),
                    "the manifest of {pusher}, pulled by {}: {} and not {}",
                    puller.name(),
                    pulled.manifest,
                    served.digest
                );
            }
        }
    }
}

#[test]
fn everyone_pulls_an_image_of_one_layer() {
    let cove = Cove::start();
    cove.everyone_pulls("one", cove.clients.len(), |client, reference| client.push(&Image::new(1, 100_000), reference));
    cove.server.check();
}

#[test]
fn everyone_pulls_an_image_of_thirty_layers() {
    let cove = Cove::start();
    cove.everyone_pulls("thirty", cove.clients.len(), |client, reference| {
        let digest = client.push(&Image::new(30, 10_000), reference);
        let (_, path) = reference.split_once('/').expect("a registry");
        let repository = path.trim_end_matches(":1");
        let manifest = cove.registry().manifest(repository, "1").expect(200).json();
        let layers = manifest["layers"].as_array().map(Vec::len);
        assert_eq!(layers, Some(30), "layers that {} pushed", client.name());
        digest
    });
    cove.server.check();
}

#[test]
fn everyone_pulls_an_image_with_a_layer_of_200_mb() {
    let cove = Cove::start();
    cove.everyone_pulls("large", 2, |client, reference| client.push(&Image::new(1, 200_000_000), reference));
    cove.server.check();
}

#[test]
fn everyone_pulls_a_multi_platform_image() {
    let cove = Cove::start();
    cove.everyone_pulls("index", cove.clients.len(), |client, reference| client.push_index(&Index::new(), reference));
    for client in &cove.clients {
        let index = cove.served(&format!("index-by-{}", client.name()));
        let expected = [media_type::INDEX, media_type::DOCKER_LIST];
        assert!(expected.contains(&&*index.media_type), "{} pushed {}", client.name(), index.media_type);
    }
}

#[test]
fn an_index_of_an_index() {
    // docker, podman, buildah and skopeo do not know what to do with one.
    let cove = Cove::with(vec![Box::new(Crane::new()), Box::new(Ctr::plain_http()), Box::new(Curl::new())]);
    cove.everyone_pulls("nested", 3, |client, reference| client.push_index(&Index::nested(), reference));
    for client in &cove.clients {
        let from = format!("nested-by-{}", client.name());
        let outer = cove.registry().manifest(&format!("alice/{from}"), "1").expect(200).json();
        assert_eq!(outer["manifests"][0]["mediaType"], media_type::INDEX);
        if client.name() != "curl" {
            let to = format!("nested-copy-by-{}", client.name());
            client.copy(&cove.reference(&from), &cove.reference(&to));
            assert_eq!(cove.served(&to), cove.served(&from));
        }
    }
}

#[test]
fn everyone_copies_and_whoever_can_deletes() {
    let cove = Cove::start();
    let count = cove.clients.len();
    for client in &cove.clients {
        let image = Image::new(2, 10_000);
        client.push(&image, &cove.reference(&format!("original-by-{}", client.name())));
    }
    for (position, client) in cove.clients.iter().enumerate() {
        // Something that another client has pushed.
        let from = format!("original-by-{}", cove.clients[(position + 1) % count].name());
        let to = format!("copy-by-{}", client.name());
        let digest = client.copy(&cove.reference(&from), &cove.reference(&to));
        let (original, copy) = (cove.served(&from), cove.served(&to));
        assert_eq!(copy.digest, digest, "the copy's digest, as {} says and as served", client.name());
        assert_eq!(copy.config, original.config, "{} has copied another image", client.name());
        if client.copies_exactly() {
            assert_eq!(copy, original, "{} has not copied to the byte", client.name());
        }
    }
    let mut deleted = 0;
    for client in &cove.clients {
        let name = format!("copy-by-{}", client.name());
        let copy = cove.served(&name);
        let has_delete = client.delete(&cove.reference(&name));
        let status = cove.registry().manifest(&format!("alice/{name}"), "1").status;
        assert_eq!(status, if has_delete { 404 } else { 200 }, "after {} deleted the manifest", client.name());
        if has_delete {
            deleted += 1;
            cove.registry().manifest(&format!("alice/{name}"), &copy.digest).expect(404);
            assert_eq!(cove.registry().tags(&format!("alice/{name}")), [""; 0], "tags after the delete");
            for puller in &cove.clients {
                puller.pull_fails(&cove.reference(&name));
            }
        }
    }
    assert_eq!(deleted, 3, "skopeo, crane and curl can delete");
    cove.server.check();
}

#[test]
fn artifacts_about_an_image() {
    let cove = Cove::with(vec![Box::new(Crane::new()), Box::new(Skopeo::new())]);
    let registry = cove.registry();
    let (crane, skopeo) = (&cove.clients[0], &cove.clients[1]);
    crane.push(&Image::new(1, 10_000), &cove.reference("image"));
    let image = cove.served("image");
    let referrers = |repository: &str, digest: &str, query: &str| -> Vec<String> {
        let answer = registry.get(&format!("/v2/alice/{repository}/referrers/{digest}{query}")).expect(200);
        assert_eq!(answer.header("Content-Type"), media_type::INDEX);
        let manifests = answer.json()["manifests"].as_array().expect("a list").clone();
        manifests.iter().map(|entry| entry["digest"].as_str().expect("a digest").to_owned()).collect()
    };
    assert_eq!(referrers("image", &image.digest, ""), [""; 0]);

    let signature = Artifact::new("application/vnd.example.signature", Some(&image));
    let bill = Artifact::new("application/vnd.example.sbom", Some(&image));
    let alone = Artifact::new("application/vnd.example.alone", None);
    for artifact in [&signature, &bill, &alone] {
        artifact.push(&registry, "alice/image");
        let served = registry.pull("alice/image", &artifact.digest());
        assert_eq!(served.bytes, artifact.manifest);
    }
    let mut expected = [signature.digest(), bill.digest()];
    expected.sort();
    let mut found = referrers("image", &image.digest, "");
    found.sort();
    assert_eq!(found, expected);
    let query = format!("?artifactType={}", bill.artifact_type);
    assert_eq!(referrers("image", &image.digest, &query), [bill.digest()]);
    let filtered = registry.get(&format!("/v2/alice/image/referrers/{}{query}", image.digest));
    assert_eq!(filtered.header("OCI-Filters-Applied"), "artifactType");
    let entry = &filtered.json()["manifests"][0];
    assert_eq!(entry["artifactType"], *bill.artifact_type);
    assert_eq!(entry["annotations"]["org.example.purpose"], "test");

    // Copies keep the subject, and so a copied artifact is found from the copied image.
    let by_digest = |repository: &str, digest: &str| format!("{}/alice/{repository}@{digest}", cove.server.address());
    crane.copy(&cove.reference("image"), &cove.reference("copy"));
    crane.copy(&by_digest("image", &bill.digest()), &cove.tagged("copy", "bill"));
    assert_eq!(referrers("copy", &image.digest, ""), [bill.digest()]);
    skopeo.copy(&by_digest("image", &signature.digest()), &cove.tagged("copy", "signature"));
    assert_eq!(
        referrers("copy", &image.digest, &format!("?artifactType={}", signature.artifact_type)),
        [signature.digest()]
    );

    // Gone at once, and the image stays.
    registry.delete(&format!("/v2/alice/image/manifests/{}", bill.digest())).expect(202);
    assert_eq!(referrers("image", &image.digest, ""), [signature.digest()]);
    assert_eq!(cove.served("image"), image);
}

/// The main job: an ordinary image of several hundred MB goes through four clients and stays the same.
#[test]
fn a_debian_image_goes_through_docker_podman_skopeo_and_crane() {
    let server = Server::start();
    let alice = server.add_user("alice");
    let registry = server.as_user(&alice);
    let address = server.address();
    let name = |repository: &str| format!("{address}/alice/{repository}:bookworm");

    let docker = Docker::new();
    let podman = Podman::new();
    let skopeo = Skopeo::new();
    let crane = Crane::new();
    for client in [&docker as &dyn Client, &podman, &skopeo, &crane] {
        client.login(&address, &alice);
    }

    let debian = cove_tests::debian();
    let size = fs::metadata(&debian).expect("the tar is there").len();
    assert!(size > 300_000_000, "the image shall be several hundred MB, and is {size} bytes");
    let addition = Scratch::new("addition");
    addition.folder("srv/app");
    addition.write("srv/app/data", Noise::bytes(5_000_000));
    Cmd::new("tar").arg("-cf").arg(addition.join("app.tar")).arg("-C").arg(addition.path()).arg("srv").ok();
    let image = Image::from_layers(&[&debian, &addition.join("app.tar")]);

    let id = docker.load(&image, &name("debian"));
    let pushed = docker.push_loaded(&name("debian"));
    let served = registry.pull("alice/debian", "bookworm");
    assert_eq!((&served.digest, &served.config), (&pushed, &id), "what docker has pushed");

    podman.command().args(["pull", "-q", "--tls-verify=false", &name("debian")]).ok();
    let mounted = PathBuf::from(podman.command().args(["image", "mount", &name("debian")]).ok());
    assert!(fs::read_to_string(mounted.join("etc/debian_version")).is_ok_and(|version| version.starts_with("12")));
    assert_eq!(fs::metadata(mounted.join("srv/app/data")).expect("the second layer").len(), 5_000_000);
    podman.command().args(["image", "umount", &name("debian")]).ok();
    let pulled = podman.pull(&name("debian"));
    assert_eq!((&pulled.manifest, &pulled.config), (&served.digest, &served.config), "what podman has pulled");

    assert_eq!(skopeo.copy(&name("debian"), &name("by-skopeo")), served.digest, "what skopeo has copied");
    assert_eq!(crane.copy(&name("by-skopeo"), &name("by-crane")), served.digest, "what crane has copied");
    for copy in ["alice/by-skopeo", "alice/by-crane"] {
        assert_eq!(registry.pull(copy, "bookworm"), served, "{copy} is not the same to the byte");
    }
    docker.forget(&name("debian"));
    let back = docker.pull(&name("by-crane"));
    assert_eq!((back.manifest, back.config), (served.digest, id), "what docker has pulled in the end");
    server.check();
}

#[test]
fn a_wrong_password_is_refused_with_a_message() {
    let cove = Cove::with(Vec::new());
    let wrong = Login::new("alice", "not-her-password");
    let clients: [Box<dyn Client>; 4] =
        [Box::new(Docker::new()), Box::new(Podman::new()), Box::new(Skopeo::new()), Box::new(Curl::new())];
    for client in clients {
        let printed = client.try_login(&cove.server.address(), &wrong).fails();
        let says_so = ["unauthorized", "invalid username/password", "401"].iter().any(|word| printed.contains(word));
        assert!(says_so, "{} prints on a wrong password: {printed}", client.name());
    }
    let answer = cove.server.as_user(&wrong).get("/v2/").expect(401);
    assert_eq!(answer.code(), "UNAUTHORIZED");
    // A name that nobody has is answered the same way.
    let nobody = cove.server.as_user(&Login::new("nobody-at-all", "x")).get("/v2/").expect(401);
    assert_eq!(nobody.message(), answer.message());
}

#[test]
fn nobody_pushes_into_the_repositories_of_another() {
    let cove = Cove::start();
    cove.server.add_user("bob");
    let address = cove.server.address();
    let refused = cove.registry().post("/v2/bob/image/blobs/uploads/", &[], b"").expect(403);
    assert_eq!(refused.code(), "DENIED");

    let docker = Docker::new();
    docker.login(&address, &cove.alice);
    let name = format!("{address}/bob/image:1");
    docker.load(&Image::new(1, 1000), &name);
    let printed = docker.command().args(["push", &name]).fails();
    assert!(printed.contains("denied"), "docker prints on a refused push: {printed}");

    let image = Image::new(1, 1000);
    let skopeo = Skopeo::new();
    skopeo.login(&address, &cove.alice);
    let printed =
        skopeo.try_copy(&format!("oci:{}:latest", image.layout().display()), &format!("docker://{name}")).fails();
    assert!(printed.contains("denied"), "skopeo prints on a refused push: {printed}");
    cove.server.as_admin().get("/v2/bob/image/tags/list").expect(404);
}

#[test]
fn anybody_pulls_what_is_public_and_nobody_else_what_is_private() {
    let cove = Cove::with(vec![Box::new(Crane::new())]);
    for name in ["open", "closed"] {
        cove.clients[0].push(&Image::new(2, 10_000), &cove.reference(name));
    }
    cove.server.admin(["repo", "set", "alice/open", "--public"]);
    let open = cove.served("open");
    let strangers = clients::all();
    for client in &strangers {
        let pulled = client.pull(&cove.reference("open"));
        assert_eq!(pulled.config, open.config, "what {} has pulled without a login", client.name());
        client.pull_fails(&cove.reference("closed"));
        client.pull_fails(&cove.reference("absent"));
    }
    // Reading is all that they may.
    let anonymous = cove.server.as_anonymous();
    anonymous.post("/v2/alice/open/blobs/uploads/", &[], b"").expect(401);
    anonymous.delete("/v2/alice/open/manifests/1").expect(401);

    // Another user may no more than that, with a login.
    let bob = cove.server.add_user("bob");
    for client in &strangers {
        client.login(&cove.server.address(), &bob);
        client.pull(&cove.reference("open"));
        client.pull_fails(&cove.reference("closed"));
    }
    cove.server.admin(["grant", "bob", "alice/closed", "pull"]);
    let closed = cove.served("closed");
    for client in &strangers {
        assert_eq!(client.pull(&cove.reference("closed")).config, closed.config, "pulled by {}", client.name());
    }
    cove.server.admin(["repo", "set", "alice/open", "--private"]);
    for client in &strangers {
        client.pull_fails(&cove.reference("open"));
    }
}

#[test]
fn after_logout_nothing_private_is_pulled() {
    let cove = Cove::start();
    cove.clients[0].push(&Image::new(1, 1000), &cove.reference("image"));
    for client in &cove.clients {
        client.pull(&cove.reference("image"));
        client.logout(&cove.server.address());
        client.pull_fails(&cove.reference("image"));
        client.login(&cove.server.address(), &cove.alice);
        client.pull(&cove.reference("image"));
    }
}

#[test]
fn a_token_is_as_good_as_the_password_until_it_is_revoked() {
    let cove = Cove::with(Vec::new());
    let address = cove.server.address();
    let writing = cove.server.admin(["token", "create", "alice", "--name", "writing"]);
    let reading =
        cove.server.admin(["token", "create", "alice", "--name", "reading", "--scope", "repository:alice/image:pull"]);
    for client in clients::all() {
        let name = cove.reference(&format!("image-by-{}", client.name()));
        client.login(&address, &Login::new("alice", &writing));
        let pushed = client.push(&Image::new(1, 1000), &name);
        assert_eq!(pushed, cove.served(&format!("image-by-{}", client.name())).digest);
    }
    let crane = Crane::new();
    crane.login(&address, &Login::new("alice", &writing));
    crane.push(&Image::new(1, 1000), &cove.reference("image"));

    let reader = Podman::new();
    reader.login(&address, &Login::new("alice", &reading));
    reader.pull(&cove.reference("image"));
    reader.pull_fails(&cove.reference("image-by-docker"));
    let with_reading = cove.server.as_user(&Login::new("alice", &reading));
    with_reading.post("/v2/alice/image/blobs/uploads/", &[], b"").expect(403);

    let list = cove.server.admin(["token", "list", "alice"]);
    let line = list.lines().find(|line| line.contains("reading")).unwrap_or_else(|| panic!("no token in {list}"));
    let id = line.split_whitespace().next().expect("a line has words");
    cove.server.admin(["token", "revoke", id]);
    reader.pull_fails(&cove.reference("image"));
    crane.pull(&cove.reference("image"));
}

#[test]
fn lists_of_tags_and_repositories() {
    let server = Server::start();
    let alice = server.add_user("alice");
    let address = server.address();
    let (skopeo, crane) = (Skopeo::new(), Crane::new());
    let image = Image::new(1, 1000);
    for client in [&skopeo as &dyn Client, &crane] {
        client.login(&address, &alice);
    }
    let tags: Vec<String> = (0..25).map(|number| format!("v{number:02}")).collect();
    for tag in &tags {
        skopeo.push(&image, &format!("{address}/alice/deep/er/image:{tag}"));
    }
    crane.push(&image, &format!("{address}/alice/other:1"));
    let printed = skopeo
        .command()
        .args(["list-tags", "--tls-verify=false"])
        .arg(format!("docker://{address}/alice/deep/er/image"))
        .ok();
    let listed: serde_json::Value = serde_json::from_str(&printed).expect("skopeo prints JSON");
    assert_eq!(listed["Tags"], serde_json::json!(tags));
    let printed = crane.command().args(["ls", &format!("{address}/alice/deep/er/image")]).ok();
    assert_eq!(printed.lines().collect::<Vec<_>>(), tags);

    // Pages, as the specification wants them.
    let registry = server.as_user(&alice);
    let mut pages = Vec::new();
    let mut next = Some("/v2/alice/deep/er/image/tags/list?n=10".to_owned());
    while let Some(path) = next {
        let answer = registry.get(&path).expect(200);
        let page: Vec<String> = serde_json::from_value(answer.json()["tags"].clone()).expect("a list of tags");
        pages.push(page);
        next = answer.find_header("Link").map(|link| {
            let (url, relation) = link.split_once(">;").unwrap_or_else(|| panic!("not a link: {link}"));
            assert_eq!(relation.trim(), r#"rel="next""#);
            url.trim_start_matches('<').to_owned()
        });
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
    assert_eq!(pages.concat(), tags);

    let catalog = |client: &Crane| client.command().args(["catalog", &address]).ok();
    assert_eq!(catalog(&crane).lines().collect::<Vec<_>>(), ["alice/deep/er/image", "alice/other"]);
    let bob = server.add_user("bob");
    let other_crane = Crane::new();
    other_crane.login(&address, &bob);
    assert_eq!(catalog(&other_crane), "", "a catalogue shows only what its reader may see");

    // A tag that is deleted by its name leaves the others alone.
    registry.delete("/v2/alice/deep/er/image/manifests/v03").expect(202);
    let printed = crane.command().args(["ls", &format!("{address}/alice/deep/er/image")]).ok();
    assert_eq!(printed.lines().count(), 24);
    assert!(!printed.contains("v03"), "{printed}");
    registry.pull("alice/deep/er/image", "v04");
}

#[test]
fn whole_repositories_are_copied_by_crane_and_skopeo() {
    let server = Server::start();
    let alice = server.add_user("alice");
    let address = server.address();
    let registry = server.as_user(&alice);
    let (skopeo, crane) = (Skopeo::new(), Crane::new());
    for client in [&skopeo as &dyn Client, &crane] {
        client.login(&address, &alice);
    }
    for tag in ["a", "b"] {
        crane.push(&Image::new(2, 10_000), &format!("{address}/alice/many:{tag}"));
    }
    crane.push_index(&Index::new(), &format!("{address}/alice/many:index"));
    crane
        .command()
        .args(["copy", "--all-tags"])
        .args(["many", "by-crane"].map(|name| format!("{address}/alice/{name}")))
        .ok();

    let folder = Scratch::new("sync");
    let sync = || skopeo.command().args(["sync", "--all", "--src-tls-verify=false", "--dest-tls-verify=false"]);
    let many = format!("{address}/alice/many");
    sync().args(["--src", "docker", "--dest", "dir", &many]).arg(folder.path()).ok();
    sync().args(["--src", "dir", "--dest", "docker"]).arg(folder.path()).arg(format!("{address}/alice/synced")).ok();
    for tag in ["a", "b", "index"] {
        let original = registry.pull("alice/many", tag);
        assert_eq!(registry.pull("alice/by-crane", tag), original, "copied by crane");
        assert_eq!(registry.pull("alice/synced/many", tag), original, "synced by skopeo");
        let raw = skopeo.command().args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{many}:{tag}")]);
        assert_eq!(sha256(raw.run().ok_exactly()), original.digest, "skopeo inspect --raw");
    }
}

#[test]
fn known_layers_are_mounted_and_not_sent_again() {
    let server = Server::start();
    let alice = server.add_user("alice");
    let address = server.address();
    let registry = server.as_user(&alice);
    let docker = Docker::new();
    docker.login(&address, &alice);
    let name = |repository: &str| format!("{address}/alice/{repository}:1");
    docker.load(&Image::new(3, 100_000), &name("first"));
    docker.push_loaded(&name("first"));
    docker.command().args(["tag", &name("first"), &name("second")]).ok();
    let printed = docker.command().args(["push", &name("second")]).ok();
    assert_eq!(printed.matches("Mounted from alice/first").count(), 3, "docker printed: {printed}");
    assert_eq!(registry.pull("alice/second", "1"), registry.pull("alice/first", "1"));

    let crane = Crane::new();
    crane.login(&address, &alice);
    let copied = crane.command().args(["copy", &name("first"), &name("third")]).run();
    let printed = copied.printed();
    assert!(copied.succeeded(), "{copied}");
    assert_eq!(printed.matches("mounted blob").count(), 4, "crane printed: {printed}");
    assert_eq!(registry.pull("alice/third", "1"), registry.pull("alice/first", "1"));

    // Only what one may read can be mounted: to bob the blob is not there, and he is asked to send it.
    let bob = server.add_user("bob");
    let digest =
        registry.manifest("alice/first", "1").json()["layers"][0]["digest"].as_str().expect("a layer").to_owned();
    for query in [format!("mount={digest}&from=alice/first"), format!("mount={digest}")] {
        let answer = server.as_user(&bob).post(&format!("/v2/bob/image/blobs/uploads/?{query}"), &[], b"");
        answer.expect(202);
    }
    server.as_user(&bob).head(&format!("/v2/bob/image/blobs/{digest}")).expect(404);
}

#[test]
fn a_pushed_blob_is_what_a_file_was() {
    // The plainest way of all: one file, put there and got back by curl.
    let server = Server::start();
    let alice = server.add_user("alice");
    let folder = Scratch::new("file");
    let path = folder.join("file");
    std::io::copy(&mut Noise::new(50_000_000), &mut File::create(&path).expect("make a file")).expect("write a file");
    let digest = cove_tests::sha256_of_file(&path);
    let registry = server.as_user(&alice);
    registry.push_blob_file("alice/files", &path, &digest);
    let back = folder.join("back");
    let url = format!("{}/v2/alice/files/blobs/{digest}", server.url());
    let curl = || Cmd::new("curl").args(["-fsS", "-u", &alice.pair()]);
    curl().arg("-o").arg(&back).arg(&url).ok();
    same_file(&path, &back);
    // A broken download goes on where it was.
    File::options().write(true).open(&back).and_then(|file| file.set_len(20_000_000)).expect("cut the file");
    curl().args(["-C", "-", "-o"]).arg(&back).arg(&url).ok();
    same_file(&path, &back);
}

fn same_file(one: &Path, other: &Path) {
    Cmd::new("cmp").arg(one).arg(other).ok();
}
