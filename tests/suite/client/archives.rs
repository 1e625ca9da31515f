//! Archives: what docker has saved cove loads, and the other way round; in every form and compression.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cove_tests::clients::{Client, Cove, Docker};
use cove_tests::{Cmd, Image, Scratch, Server, Tree, debian, nasty_image, sha256_of_file};
use serde_json::json;

use crate::pair::Pair;

/// The issue's main sentence: an image that docker has saved goes through cove, a registry and another store, and
/// docker has the same image again.
#[test]
fn a_debian_image_goes_from_docker_through_cove_and_back() {
    let server = Server::start();
    let alice = server.add_user("alice");
    let name = format!("{}/alice/debian:bookworm", server.address());
    let (docker, one, other) = (Docker::new(), Cove::new(), Cove::new());
    one.login(&server.address(), &alice);
    other.login(&server.address(), &alice);
    let addition = Scratch::new("addition");
    addition.folder("srv/app");
    addition.write("srv/app/data", b"one more layer");
    Cmd::new("tar").arg("-cf").arg(addition.join("app.tar")).arg("-C").arg(addition.path()).arg("srv").ok();
    let image = Image::from_layers(&[&debian(), &addition.join("app.tar")]);
    let id = docker.load(&image, &name);

    let archive = addition.join("saved.tar");
    docker.command().args(["save", "-o"]).arg(&archive).arg(&name).ok();
    docker.forget(&name);
    let printed = one.words(["load", "-i"]).arg(&archive).ok();
    assert!(printed.ends_with(&format!("Loaded image: {name}")), "{printed}");
    let pushed = one.push_loaded(&name);
    assert_eq!(server.as_user(&alice).pull("alice/debian", "bookworm").digest, pushed);
    let printed = other.words(["pull", &name]).limit(Duration::from_secs(600)).ok();
    assert!(printed.contains(&format!("Digest: {pushed}")), "{printed}");
    assert_eq!(other.id(&name), id);
    let tree = Tree::of_layers(image.layers());
    other.with_tree(&name, |path| Tree::read(path).assert_is(&tree, "a Debian file system"));

    let archive = addition.join("saved-by-cove.tar");
    other.words(["save", "-o"]).arg(&archive).arg(&name).ok();
    let printed = docker.command().args(["load", "-i"]).arg(&archive).ok();
    assert!(printed.ends_with(&format!("Loaded image: {name}")), "{printed}");
    assert_eq!(docker.id(&name), id);
    let layers = |printed: String| -> Vec<String> { serde_json::from_str(&printed).unwrap() };
    let listed = docker.command().args(["image", "inspect", "--format", "{{json .RootFS.Layers}}", &name]).ok();
    let expected: Vec<_> = image.layers().iter().map(|layer| sha256_of_file(layer)).collect();
    assert_eq!(layers(listed), expected);
    server.check();
}

/// Several names in one archive, to a file and to standard output; loaded from a file and from standard input.
#[test]
fn several_images_in_one_archive() {
    let pair = Pair::start();
    let (one, two) = ("first/image:1", "second/image:2");
    let ids = [pair.docker.load(&Image::new(2, 5_000), one), pair.docker.load(&Image::new(1, 5_000), two)];
    pair.docker.command().args(["tag", one, "first/image:again"]).ok();
    let folder = Scratch::new("archives");
    let archive = folder.join("both.tar");
    pair.docker.command().args(["save", "-o"]).arg(&archive).args([one, "first/image:again", two]).ok();
    for name in [one, "first/image:again", two] {
        pair.docker.forget(name);
    }
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().filter(|line| line.starts_with("Loaded")).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let (docker, cove) = pair.both(&["load", "-i", &archive.display().to_string()]);
    assert_eq!(sorted(&docker.stdout), sorted(&cove.stdout), "{docker}\n{cove}");
    assert_eq!([pair.cove.id(one), pair.cove.id(two)], ids);
    assert_eq!(pair.cove.id("first/image:again"), ids[0]);

    // The other way, through standard output and input.
    let script = "\"$0\" save first/image:1 first/image:again second/image:2 >\"$1\"";
    let saved = folder.join("saved-by-cove.tar");
    let words = ["-c", script].map(str::to_owned).into_iter().chain([Cove::program().display().to_string()]);
    pair.cove.run_as("sh", words).arg(&saved).ok();
    for name in [one, "first/image:again", two] {
        pair.docker.forget(name);
    }
    let printed = pair.docker.command().args(["load"]).input(fs::read(&saved).unwrap()).ok();
    assert_eq!(sorted(&printed).len(), 3, "{printed}");
    assert_eq!(
        [pair.docker.id(one), pair.docker.id(two), pair.docker.id("first/image:again")],
        [&*ids[0], &*ids[1], &*ids[0]]
    );

    // By id: no name comes back.
    let archive = folder.join("by-id.tar");
    pair.cove.words(["save", "-o"]).arg(&archive).arg(&ids[1]).ok();
    pair.cove.words(["rmi", "-f", &ids[1]]).ok();
    pair.docker.command().args(["rmi", "-f", &ids[1]]).ok();
    let (docker, cove) = pair.both(&["load", "-i", &archive.display().to_string()]);
    assert_eq!(sorted(&docker.stdout), sorted(&cove.stdout), "{docker}\n{cove}");
    assert_eq!(cove.stdout.trim(), format!("Loaded image ID: {}", ids[1]));
    pair.same(&["images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]);
}

#[test]
fn compressed_archives_from_a_file_and_from_standard_input() {
    let cove = Cove::new();
    let image = Image::new(2, 50_000);
    let (archive, id) = image.docker_archive("compressed:1");
    let folder = Scratch::new("archives");
    for (program, ending) in [("gzip", "gz"), ("xz", "xz"), ("bzip2", "bz2"), ("zstd", "zst")] {
        let packed = folder.join(format!("image.tar.{ending}"));
        Cmd::new("sh").args(["-c", &format!("{program} -c <\"$0\" >\"$1\"")]).arg(&archive).arg(&packed).ok();
        let printed = cove.words(["load"]).input(fs::read(&packed).unwrap()).ok();
        assert_eq!(printed, "Loaded image: compressed:1", "from standard input, {ending}");
        assert_eq!(cove.id("compressed:1"), id);
        cove.forget("compressed:1");
        assert_eq!(
            cove.words(["load", "-q", "-i"]).arg(&packed).ok(),
            "Loaded image: compressed:1",
            "from a file, {ending}"
        );
        cove.forget("compressed:1");
    }
}

/// Archives as docker made them at various times.
#[test]
fn archives_of_every_age() {
    let folder = Scratch::new("archives");
    let layer = |name: &str| {
        let path = folder.write(name, format!("the content of {name}"));
        let tar = path.with_extension("tar");
        Cmd::new("tar").arg("-cf").arg(&tar).arg("-C").arg(folder.path()).arg(name).ok();
        tar
    };
    // The same layer twice, as every image has that was built with an empty step.
    let (one, two) = (layer("one"), layer("two"));
    let image = Image::from_layers(&[&one, &two, &one]);
    let (_, id) = image.docker_archive("aged:1");
    let config = image.docker_archive("aged:1").0.with_file_name(format!("{}.json", &id[7..]));
    let tree = Tree::of_layers(image.layers());
    for (what, archive) in [
        ("docker 1.10", old_archive(&folder, &image, &config)),
        ("docker 25", new_archive(&folder, &image, &config)),
        ("OCI archive by skopeo", image.oci_archive()),
    ] {
        let cove = Cove::new();
        let printed = cove.words(["load", "-i"]).arg(&archive).ok();
        assert!(printed.contains("Loaded image"), "{what}: {printed}");
        let name = cove.words(["images", "-q", "--no-trunc"]).ok();
        assert_eq!(name, id, "{what}");
        cove.with_tree(&id, |path| Tree::read(path).assert_is(&tree, what));
        if what != "OCI archive by skopeo" {
            assert_eq!(cove.id("aged:1"), id, "{what}");
        }
    }
}

/// As docker before 25 made them: a folder a layer, a link in place of a layer that is there already, manifest.json
/// at the end.
fn old_archive(folder: &Scratch, image: &Image, config: &Path) -> PathBuf {
    let root = folder.folder("old");
    let ids = ["1", "2", "3"].map(|digit| digit.repeat(64));
    for (number, id) in ids.iter().enumerate() {
        let layer = folder.folder(&format!("old/{id}"));
        fs::write(layer.join("VERSION"), "1.0").unwrap();
        fs::write(layer.join("json"), json!({ "id": id }).to_string()).unwrap();
        if number == 2 {
            std::os::unix::fs::symlink(format!("../{}/layer.tar", ids[0]), layer.join("layer.tar")).unwrap();
        } else {
            fs::copy(&image.layers()[number], layer.join("layer.tar")).unwrap();
        }
    }
    let config_name = config.file_name().unwrap().to_string_lossy().into_owned();
    fs::copy(config, root.join(&config_name)).unwrap();
    let layers = ids.each_ref().map(|id| format!("{id}/layer.tar"));
    let manifest = json!([{ "Config": config_name, "RepoTags": ["aged:1"], "Layers": layers }]);
    fs::write(root.join("manifest.json"), manifest.to_string()).unwrap();
    fs::write(root.join("repositories"), json!({ "aged": { "1": ids[2] } }).to_string()).unwrap();
    let archive = folder.join("old.tar");
    // The link comes before what it leads to, as it may.
    let members = [&*ids[2], &ids[0], &ids[1], &config_name, "repositories", "manifest.json"];
    Cmd::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&root).args(members).ok();
    archive
}

/// As docker from 25 on makes them: an OCI layout with uncompressed layers, and manifest.json beside it.
fn new_archive(folder: &Scratch, image: &Image, config: &Path) -> PathBuf {
    let root = folder.folder("new");
    let blobs = folder.folder("new/blobs/sha256");
    let store = |path: &Path| {
        let digest = sha256_of_file(path);
        fs::copy(path, blobs.join(&digest[7..])).unwrap();
        (digest, fs::metadata(path).unwrap().len())
    };
    let (config_digest, config_size) = store(config);
    let layers: Vec<_> = image.layers().iter().map(|layer| store(layer)).collect();
    let paths: Vec<_> = layers.iter().map(|(digest, _)| format!("blobs/sha256/{}", &digest[7..])).collect();
    let media_type = "application/vnd.oci.image.layer.v1.tar";
    let layers: Vec<_> = layers
        .iter()
        .map(|(digest, size)| json!({ "mediaType": media_type, "digest": digest, "size": size }))
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": cove_tests::media_type::MANIFEST,
        "config": { "mediaType": cove_tests::media_type::CONFIG, "digest": config_digest, "size": config_size },
        "layers": layers,
    });
    let manifest = folder.write("manifest", manifest.to_string());
    let (digest, size) = store(&manifest);
    let annotations =
        json!({ "io.containerd.image.name": "docker.io/library/aged:1", "org.opencontainers.image.ref.name": "1" });
    let entry = json!({ "mediaType": cove_tests::media_type::MANIFEST, "digest": digest, "size": size, "annotations": annotations });
    let index = json!({ "schemaVersion": 2, "mediaType": cove_tests::media_type::INDEX, "manifests": [entry] });
    fs::write(root.join("index.json"), index.to_string()).unwrap();
    fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let names =
        json!([{ "Config": format!("blobs/sha256/{}", &config_digest[7..]), "RepoTags": ["aged:1"], "Layers": paths }]);
    fs::write(root.join("manifest.json"), names.to_string()).unwrap();
    let archive = folder.join("new.tar");
    let members = ["blobs", "index.json", "manifest.json", "oci-layout"];
    Cmd::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&root).args(members).ok();
    archive
}

#[test]
fn import_with_changes_and_a_message() {
    let pair = Pair::start();
    let image = nasty_image();
    let tar = image.layers()[0].display().to_string();
    let words =
        ["import", "--change", "CMD [\"/bin/sh\"]", "-c", "ENV A=b", "--message", "brought in", &tar, "imported:1"];
    let (docker, cove) = pair.both(&words);
    assert!(docker.succeeded() && cove.succeeded(), "{docker}\n{cove}");
    assert!(cove.stdout.starts_with("sha256:") && cove.stdout.trim().len() == 71, "{cove}");
    for format in [
        "{{json .Config.Cmd}} {{json .Config.Env}}",
        "{{.Comment}}|{{.Author}}",
        "{{json .RootFS}}",
        "{{json .RepoTags}}",
        "{{.Architecture}} {{.Os}}",
    ] {
        pair.same(&["image", "inspect", "--format", format, "imported:1"]);
    }
    let piped = pair.cove.words(["import", "-", "piped"]).input(fs::read(&tar).unwrap()).ok();
    assert_eq!(pair.cove.id("piped"), piped);
    let tree = Tree::of_layers(&image.layers()[..1]);
    pair.cove.with_tree("piped", |path| Tree::read(path).assert_is(&tree, "imported from standard input"));
}

/// To a terminal nothing is written that would spoil it.
#[test]
fn save_to_a_terminal_is_refused() {
    let cove = Cove::new();
    cove.load(&Image::new(1, 1_000), "image:1");
    let line = format!("{} save image:1", Cove::program().display());
    let finished = cove.run_as("script", ["-q", "-e", "-c", &line, "/dev/null"]).run();
    assert_eq!(finished.code, Some(1), "{finished}");
    assert!(finished.stdout.contains("terminal"), "{finished}");
}
