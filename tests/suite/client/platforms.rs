//! Images of several platforms under one name: from archives into registries and back, one at a time or all.

use std::fs;
use std::path::PathBuf;

use cove_tests::clients::{Client, Cove, Skopeo};
use cove_tests::{Cmd, Distribution, Index, Scratch, Server, media_type, sha256, sha256_of_file};
use serde_json::{Value, json};

use crate::pair::Pair;

/// The digest of the index in a layout.
fn digest_of(index: &Index) -> String {
    let text = fs::read_to_string(index.layout().join("index.json")).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    value["manifests"][0]["digest"].as_str().unwrap().to_owned()
}

/// The digests of the images that the index in a layout lists.
fn children_of(index: &Index) -> Vec<String> {
    let path = index.layout().join("blobs").join(digest_of(index).replace(':', "/"));
    let value: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let children = value["manifests"].as_array().unwrap();
    children.iter().map(|child| child["digest"].as_str().unwrap().to_owned()).collect()
}

/// The digest that a push tells.
fn pushed(printed: &str) -> &str {
    printed.lines().find_map(|line| line.split_once("digest: ")?.1.split(' ').next()).unwrap()
}

fn architecture(cove: &Cove, name: &str) -> String {
    cove.inspect(name, "{{.Architecture}}")
}

/// One row a name, whatever the index has.
fn rows(cove: &Cove) -> Vec<String> {
    let printed = cove.words(["images", "-a", "--format", "{{.Repository}}:{{.Tag}}"]).ok();
    printed.lines().map(str::to_owned).collect()
}

#[test]
fn an_index_goes_through_archives_and_registries_unchanged() {
    let pair = Pair::start();
    let index = Index::new();
    let digest = digest_of(&index);
    let name = pair.name("index:1");
    let printed = pair.cove.words(["load", "-i"]).arg(index.archive_named(&name)).ok();
    assert_eq!(printed, format!("Loaded image: {name}"));
    assert_eq!(rows(&pair.cove), [name.as_str()]);
    let printed = pair.cove.words(["push", "--all-platforms", &name]).ok();
    assert_eq!(pushed(&printed), digest);
    assert_eq!(
        pair.server.as_user(&pair.alice).manifest("alice/index", "1").expect(200).header("docker-content-digest"),
        digest
    );
    let skopeo = Skopeo::new();
    skopeo.login(&pair.server.address(), &pair.alice);
    assert_eq!(skopeo.pull(&name).manifest, digest);

    // The tag alone, as a push without further words sends it.
    let printed = pair.cove.words(["push", &name]).ok();
    assert_eq!(pushed(&printed), children_of(&index)[0]);
    pair.cove.words(["push", "--all-platforms", &name]).ok();

    // Pulled, saved, loaded, and pushed under another name, the index is still the same.
    let (other, third) = (Cove::new(), Cove::new());
    for cove in [&other, &third] {
        cove.login(&pair.server.address(), &pair.alice);
    }
    other.words(["pull", "-q", "--all-platforms", &name]).ok();
    assert_eq!(rows(&other), [name.as_str()]);
    let archive = other.scratch().join("saved.tar");
    other.words(["save", "-o"]).arg(&archive).arg(&name).ok();
    third.words(["load", "-q", "-i"]).arg(&archive).ok();
    let again = pair.name("again:1");
    third.words(["tag", &name, &again]).ok();
    assert_eq!(pushed(&third.words(["push", "--all-platforms", &again]).ok()), digest);
    // Docker reads that archive too, and takes the image for this machine.
    pair.docker.command().args(["load", "-q", "-i"]).arg(&archive).ok();
    assert_eq!(pair.docker.id(&name), third.id(&name));
    pair.server.check();
    for cove in [&other, &third] {
        cove.words(["rmi", &name]).ok();
    }
    third.words(["rmi", &again]).ok();
    for cove in [&other, &third] {
        cove.words(["system", "prune", "-f"]).ok();
        assert_eq!(cove.content(), [""; 0]);
    }
}

/// What is there of other platforms is no image without a name.
#[test]
fn images_of_other_platforms_belong_to_the_name() {
    let cove = Cove::new();
    let index = Index::new();
    cove.words(["load", "-q", "-i"]).arg(index.archive_named("docker.io/library/multi:1")).ok();
    assert_eq!(rows(&cove), ["multi:1"]);
    for words in [&["images", "-q", "--filter", "dangling=true"][..], &["image", "prune", "-f"]] {
        let printed = cove.words(words).ok();
        assert!(!printed.contains("eleted") && !printed.contains("sha256"), "{printed}");
    }
    assert_eq!(
        cove.words(["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]).ok().lines().next(),
        Some("Images 1")
    );
    let arm = cove
        .words(["image", "inspect", "--platform", "linux/arm64", "--format", "{{.Id}} {{.RepoTags}}", "multi:1"])
        .ok();
    let (arm, tags) = arm.split_once(' ').unwrap();
    assert_eq!(tags, "[multi:1]");
    assert_eq!(cove.inspect(arm, "{{.Architecture}}"), "arm64");
    let refused = cove.words(["rmi", "-f", arm]).fails();
    assert!(refused.contains("conflict: unable to delete") && refused.contains("multi:1"), "{refused}");
    cove.words(["rmi", "multi:1"]).ok();
    assert_eq!(cove.content(), [""; 0]);
}

#[test]
fn one_platform_at_a_time() {
    let server = Server::start();
    let alice = server.add_user("alice");
    let cove = Cove::new();
    cove.login(&server.address(), &alice);
    let name = format!("{}/alice/multi:1", server.address());
    let index = Index::new();
    let archive = index.archive_named(&name);
    let children = children_of(&index);
    let words =
        format!("image with reference {name} was found but does not provide the specified platform (linux/s390x)");

    let refused = cove.words(["load", "--platform", "linux/s390x", "-i"]).arg(&archive).fails();
    assert!(refused.contains(&words) && refused.contains("linux/amd64, linux/arm64"), "{refused}");
    assert_eq!(cove.content(), [""; 0]);
    cove.words(["load", "-q", "--platform", "linux/arm64", "-i"]).arg(&archive).ok();
    assert_eq!(architecture(&cove, &name), "arm64");
    let missing = cove.words(["push", "--platform", "linux/amd64", &name]).fails();
    assert!(missing.contains("does not provide the specified platform (linux/amd64)"), "{missing}");
    cove.words(["rmi", &name]).ok();

    cove.words(["load", "-q", "-i"]).arg(&archive).ok();
    for words in [
        &["push", "--platform", "linux/s390x"][..],
        &["image", "inspect", "--platform", "linux/s390x"],
        &["history", "--platform", "linux/s390x"],
        &["rmi", "--platform", "linux/s390x"],
        &["save", "-o", "/dev/null", "--platform", "linux/s390x"],
    ] {
        let finished = cove.words(words).arg(&name).run();
        assert_eq!(finished.code, Some(1), "{finished}");
        assert!(finished.stderr.contains("does not provide the specified platform (linux/s390x)"), "{finished}");
    }
    let both = cove.words(["push", "--platform", "linux/arm64", "--all-platforms", &name]).fails();
    assert!(both.contains("can't be used"), "{both}");
    let printed = cove.words(["push", "--platform", "linux/arm64", &name]).ok();
    assert_eq!(pushed(&printed), children[1]);
    assert_eq!(server.as_user(&alice).pull("alice/multi", "1").digest, children[1]);
    assert_eq!(rows(&cove), [name.as_str()], "a push of another platform gives it no row");
    let history = |platform: &str| cove.words(["history", "-q", "--no-trunc", "--platform", platform, &name]).ok();
    let (amd, arm) = (history("linux/amd64"), history("linux/arm64"));
    assert_eq!(amd.lines().next(), Some(&*cove.id(&name)));
    assert_ne!(amd, arm);

    let saved = cove.scratch().join("arm64.tar");
    cove.words(["save", "--platform", "linux/arm64", "-o"]).arg(&saved).arg(&name).ok();
    let other = Cove::new();
    other.words(["load", "-q", "-i"]).arg(&saved).ok();
    assert_eq!(architecture(&other, &name), "arm64");

    let printed = cove.words(["rmi", "--platform", "linux/amd64", &name]).ok();
    assert!(printed.starts_with("Deleted: sha256:") && !printed.contains("Untagged"), "{printed}");
    assert_eq!(architecture(&cove, &name), "arm64");
    let missing = cove.words(["push", "--all-platforms", &format!("{}/alice/other:1", server.address())]).fails();
    assert!(missing.contains("does not exist locally"), "{missing}");
    let printed = cove.words(["rmi", "--platform", "linux/arm64", &name]).ok();
    assert!(printed.contains(&format!("Untagged: {name}")), "{printed}");
    assert_eq!(cove.content(), [""; 0]);
}

/// An archive that lacks an image of its index, and a registry that wants all that an index lists.
#[test]
fn a_sparse_index_needs_the_rest_in_the_registry() {
    let distribution = Distribution::start();
    let name = format!("{}/somebody/sparse:1", distribution.address());
    let index = Index::new();
    let children = children_of(&index);
    let archive = index.archive_named(&name);
    let lost = children[1].replace(':', "/");
    let list = Cmd::new("tar").arg("-tf").arg(&archive).ok();
    let member = list.lines().find(|line| line.ends_with(&lost)).unwrap();
    Cmd::new("tar").arg("--delete").arg("-f").arg(&archive).arg(member).ok();
    let cove = Cove::new();
    cove.words(["load", "-q", "-i"]).arg(&archive).ok();
    assert_eq!(architecture(&cove, &name), "amd64");
    let refused = cove.words(["push", "--all-platforms", &name]).fails();
    for word in ["missing content", "linux/arm64", &children[1], "cove pull --all-platforms", "--platform"] {
        assert!(refused.contains(word), "`{word}` is not in: {refused}");
    }
    assert_eq!(pushed(&cove.words(["push", &name]).ok()), children[0]);

    // Somebody else has pushed it: the index can follow.
    Skopeo::new().push_index(&index, &format!("{}/somebody/sparse:all", distribution.address()));
    assert_eq!(pushed(&cove.words(["push", "--all-platforms", &name]).ok()), digest_of(&index));
}

/// docker from 25 on saves layers as they are; several platforms, and an attestation for each.
#[test]
fn an_index_of_uncompressed_images_is_pushed_as_one_of_compressed_images() {
    let pair = Pair::start();
    let skopeo = Skopeo::new();
    skopeo.login(&pair.server.address(), &pair.alice);
    let name = pair.name("raw:1");
    let folder = Scratch::new("raw");
    let archive = raw_archive(&folder, &Index::new(), &name);
    let mut digests = Vec::new();
    for number in 1..3 {
        let cove = Cove::new();
        cove.login(&pair.server.address(), &pair.alice);
        cove.words(["load", "-q", "-i"]).arg(&archive).ok();
        let to = pair.name(&format!("raw:{number}"));
        cove.words(["tag", &name, &to]).run();
        let finished = cove.words(["push", "--all-platforms", &to]).run();
        assert!(finished.succeeded(), "{finished}");
        assert!(finished.stderr.contains("2 attestations"), "{finished}");
        let digest = pushed(&finished.stdout).to_owned();
        let served = pair.server.as_user(&pair.alice).manifest("alice/raw", &number.to_string()).expect(200);
        assert_eq!(served.header("docker-content-digest"), digest);
        let children = served.json()["manifests"].as_array().unwrap().clone();
        let platforms: Vec<_> =
            children.iter().map(|child| child["platform"]["architecture"].as_str().unwrap().to_owned()).collect();
        assert_eq!(platforms, ["amd64", "arm64"]);
        assert_eq!(children[0]["annotations"]["for"], "amd64");
        assert_eq!(skopeo.pull(&to).config, cove.id(&to));
        digests.push(digest);
        // Once sealed it stays what it is.
        assert_eq!(pushed(&cove.words(["push", "--all-platforms", &to]).ok()), digests[0]);
        assert_eq!(cove.words(["images", "--filter", "dangling=true", "-q"]).ok(), "");
    }
    assert_eq!(digests[0], digests[1]);
    pair.docker.command().args(["pull", "-q", &name]).ok();
    pair.server.check();
}

/// An archive with an index of images whose layers are not compressed.
fn raw_archive(folder: &Scratch, index: &Index, name: &str) -> PathBuf {
    let root = folder.folder("raw");
    let blobs = folder.folder("raw/blobs/sha256");
    let put = |media_type: &str, bytes: &[u8]| {
        let digest = sha256(bytes);
        fs::write(blobs.join(&digest[7..]), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    };
    let mut entries = Vec::new();
    let mut attestations = Vec::new();
    for (image, architecture) in index.images.iter().zip(["amd64", "arm64"]) {
        let diff_ids: Vec<_> = image.layers().iter().map(|layer| sha256_of_file(layer)).collect();
        let layers: Vec<_> = image
            .layers()
            .iter()
            .map(|layer| put("application/vnd.oci.image.layer.v1.tar", &fs::read(layer).unwrap()))
            .collect();
        let config = json!({ "architecture": architecture, "os": "linux", "config": {}, "rootfs": { "type": "layers", "diff_ids": diff_ids } });
        let config = put(media_type::CONFIG, config.to_string().as_bytes());
        let manifest = |config: &Value, layers: &[Value]| {
            json!({ "schemaVersion": 2, "mediaType": media_type::MANIFEST, "config": config, "layers": layers })
                .to_string()
        };
        let mut entry = put(media_type::MANIFEST, manifest(&config, &layers).as_bytes());
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        entry["annotations"] = json!({ "for": architecture });
        let statement = put("application/vnd.in-toto+json", architecture.as_bytes());
        let config = put(media_type::CONFIG, br#"{"architecture":"unknown","os":"unknown"}"#);
        let mut attestation = put(media_type::MANIFEST, manifest(&config, &[statement]).as_bytes());
        attestation["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
        attestation["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": entry["digest"] });
        entries.push(entry);
        attestations.push(attestation);
    }
    entries.extend(attestations);
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": entries });
    let mut index = put(media_type::INDEX, index.to_string().as_bytes());
    index["annotations"] = json!({ "io.containerd.image.name": name });
    let list = json!({ "schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": [index] });
    fs::write(root.join("index.json"), list.to_string()).unwrap();
    fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let archive = folder.join("raw.tar");
    Cmd::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&root).arg(".").ok();
    archive
}
