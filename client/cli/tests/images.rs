//! Commands about images, on a store that each test fills by `import` and `load`: no network.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod common;

use common::{Home, tar};

/// A store with one image under two names, and another one.
fn filled() -> (Home, String, String) {
    let home = Home::new();
    let archive = home.file("a.tar", &tar("hello", b"hi\n"));
    let file = archive.to_str().unwrap();
    let one = home.ok(&["import", file, "foo:bar"]).trim().to_owned();
    let other =
        home.ok(&["import", "-c", "CMD [\"sh\"]", "-c", "LABEL a=b", "-m", "hello", file, "reg.example:5000/x/y:v1"]);
    home.ok(&["tag", "foo:bar", "baz"]);
    (home, one, other.trim().to_owned())
}

fn short(id: &str) -> String {
    id.trim_start_matches("sha256:")[..12].to_owned()
}

#[test]
fn images_are_listed_in_dockers_table() {
    let (home, one, other) = filled();
    let table = home.ok(&["images"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    );
    assert_eq!(lines.len(), 4, "{table}");
    assert!(
        lines[1..]
            .iter()
            .any(|line| line.starts_with("reg.example:5000/x/y   v1        ") && line.contains(&short(&other)))
    );
    assert!(
        lines[1..].iter().any(|line| line.starts_with("baz                    latest    ") && line.ends_with("3B")),
        "{table}"
    );
    assert_eq!(home.ok(&["image", "ls"]), home.ok(&["images"]));
    assert_eq!(home.ok(&["images", "-q", "--no-trunc", "foo"]), format!("{one}\n"));
    assert_eq!(home.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}", "-f", "reference=ba*"]), "baz:latest\n");
    assert_eq!(home.ok(&["images", "-q", "-f", "label=a=b"]), format!("{}\n", short(&other)));
    assert_eq!(home.ok(&["images", "-q", "nosuch"]), "");
    assert_eq!(home.ok(&["images", ""]), home.ok(&["images"]), "an empty pattern is none");
    let json: serde_json::Value = serde_json::from_str(home.ok(&["images", "foo", "--format=json"]).trim()).unwrap();
    assert_eq!(
        (json["Repository"].as_str(), json["Size"].as_str(), json["Digest"].as_str()),
        (Some("foo"), Some("3B"), Some("<none>"))
    );
    let ended = home.run(&["images", "-f", "dangling=maybe"]);
    assert_eq!(ended.status, 1);
}

#[test]
fn inspect_describes_images_as_docker_does() {
    let (home, one, other) = filled();
    let json: serde_json::Value = serde_json::from_str(&home.ok(&["inspect", "foo:bar", &short(&other)])).unwrap();
    assert_eq!(json[0]["Id"], one.as_str());
    assert_eq!(json[0]["RepoTags"], serde_json::json!(["baz:latest", "foo:bar"]));
    assert_eq!(json[1]["Config"]["Cmd"], serde_json::json!(["sh"]));
    assert_eq!(json[1]["Config"]["Labels"]["a"], "b");
    assert_eq!(json[1]["Comment"], "hello");
    assert_eq!(home.ok(&["inspect", "-f", "{{index .RepoTags 0}} {{.Os}}", "foo:bar"]), "baz:latest linux\n");
    assert_eq!(home.ok(&["image", "inspect", "--format", "{{.Id}}", "baz"]), format!("{one}\n"));
    let ended = home.run(&["inspect", "nosuch"]);
    assert_eq!(
        (ended.status, ended.out.as_str(), ended.error.as_str()),
        (1, "[]\n", "Error: No such object: nosuch\n")
    );
    let ended = home.run(&["inspect", "--type", "container", "foo:bar"]);
    assert_eq!(ended.error, "Error response from daemon: No such container: foo:bar\n");
    let ended = home.run(&["inspect", "-f", "{{.Foo}}", "foo:bar"]);
    assert_eq!(ended.status, 1);
    assert!(ended.error.starts_with("template parsing error: template: "), "{ended:?}");
}

#[test]
fn rmi_says_what_became_of_names_and_images() {
    let (home, one, other) = filled();
    let ended = home.run(&["rmi", &short(&one)]);
    assert_eq!(ended.status, 1);
    assert_eq!(
        ended.error,
        format!(
            "Error response from daemon: conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories\n",
            short(&one)
        )
    );
    assert_eq!(home.ok(&["rmi", "baz"]), "Untagged: baz:latest\n");
    assert_eq!(home.ok(&["rmi", "foo:bar"]).lines().next(), Some("Untagged: foo:bar"));
    let removed = home.ok(&["rmi", "-f", &short(&other)]);
    assert!(
        removed.starts_with("Untagged: reg.example:5000/x/y:v1\n") && removed.contains(&format!("Deleted: {other}\n")),
        "{removed}"
    );
    let ended = home.run(&["rmi", "nosuch"]);
    assert_eq!(
        (ended.status, ended.error.lines().next()),
        (1, Some("Error response from daemon: No such image: nosuch:latest"))
    );
    assert_eq!(home.run(&["rmi", "-f", "nosuch"]).status, 0, "what is to be gone is gone");
}

#[test]
fn history_shows_the_newest_step_first() {
    let (home, one, _) = filled();
    let table = home.ok(&["history", "foo:bar"]);
    assert!(table.starts_with("IMAGE          CREATED"), "{table}");
    assert!(table.lines().nth(1).unwrap().starts_with(&short(&one)), "{table}");
    assert_eq!(home.ok(&["history", "-q", "--no-trunc", "foo:bar"]), format!("{one}\n"));
    assert!(home.ok(&["history", "-H=false", "foo:bar"]).contains("CREATED AT"));
}

#[test]
fn what_is_saved_can_be_loaded() {
    let (home, one, _) = filled();
    let archive = home.path().join("images.tar");
    let file = archive.to_str().unwrap();
    assert_eq!(home.ok(&["save", "-o", file, "foo:bar", "baz"]), "");
    home.ok(&["rmi", "foo:bar", "baz"]);
    let loaded = home.ok(&["load", "-i", file]);
    let mut lines: Vec<&str> = loaded.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["Loaded image: baz:latest", "Loaded image: foo:bar"]);
    assert_eq!(home.ok(&["inspect", "-f", "{{.Id}}", "baz"]).trim(), one);
    // By id an image has no name; from stdin it is loaded as from a file.
    let by_id = home.command(&["save", &one]).output().unwrap();
    let other = Home::new();
    let ended = other.run_with(&["load"], &by_id.stdout);
    assert_eq!(ended.out, format!("Loaded image ID: {one}\n"), "{ended:?}");
    let ended = home.run(&["load", "-i", "nosuch"]);
    assert_eq!((ended.status, ended.error.as_str()), (1, "open nosuch: no such file or directory\n"));
    assert_eq!(home.run(&["save", "nosuch"]).status, 1);
}

#[test]
fn prune_asks_and_tells() {
    let (home, one, _) = filled();
    home.ok(&["import", home.file("b.tar", &tar("x", b"y")).to_str().unwrap(), "foo:bar"]);
    home.ok(&["rmi", "baz"]);
    let ended = home.run(&["image", "prune"]);
    assert_eq!(ended.out, "WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] ");
    assert_eq!(home.ok(&["images", "-q", "-f", "dangling=true"]).lines().count(), 0, "{one}: gone with its last name");
    let ended = home.run_with(&["image", "prune", "-a"], b"y\n");
    assert!(ended.out.contains("Deleted Images:\n") && ended.out.contains("\nTotal reclaimed space: "), "{ended:?}");
    assert_eq!(home.ok(&["images", "-q"]), "");
    assert_eq!(home.ok(&["system", "prune", "-f"]), "Total reclaimed space: 0B\n");
    assert_eq!(
        home.ok(&["system", "df"]).lines().next(),
        Some("TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE")
    );
}

#[test]
fn shells_complete_the_names_of_images() {
    let (home, _, _) = filled();
    let mut command = home.command(&["--", "cove", "rmi", "ba"]);
    command.env("COVE_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "2").env("_CLAP_IFS", "\n");
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "baz:latest");
}

#[test]
fn a_default_registry_of_ones_own_is_left_out() {
    let (home, _, _) = filled();
    home.file("cove.toml", b"default-registry = \"reg.example:5000\"\n");
    assert_eq!(home.ok(&["images", "--format", "{{.Repository}}", "x/y"]), "x/y\n");
    assert_eq!(home.ok(&["images", "--format", "{{.Repository}}", "docker.io/foo"]), "docker.io/foo\n");
    home.ok(&["tag", "docker.io/foo:bar", "mine"]);
    assert!(home.ok(&["inspect", "-f", "{{.RepoTags}}", "mine"]).contains("mine:latest"));
}

#[test]
fn what_is_not_there_cannot_be_pushed() {
    let home = Home::new();
    let ended = home.run(&["push", "nosuch"]);
    assert_eq!(ended.status, 1);
    assert_eq!(ended.out, "Using default tag: latest\nThe push refers to repository [docker.io/library/nosuch]\n");
    assert_eq!(ended.error, "An image does not exist locally with the tag: nosuch\n");
    let (home, _, _) = filled();
    assert_eq!(home.run(&["push", "foo:other"]).error, "tag does not exist: foo:other\n");
}

#[test]
fn an_archive_is_its_owners_alone_and_leaves_nothing_beside_it() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let (home, _, _) = filled();
    let folder = home.path().join("out");
    std::fs::create_dir(&folder).unwrap();
    // Where a link waits, the archive takes its place; what it leads to stays.
    let other = home.file("other", b"precious");
    std::os::unix::fs::symlink(&other, folder.join("a.tar")).unwrap();
    home.ok(&["save", "-o", folder.join("a.tar").to_str().unwrap(), "baz"]);
    assert_eq!(std::fs::read(&other).unwrap(), b"precious");
    let written = std::fs::symlink_metadata(folder.join("a.tar")).unwrap();
    assert!(written.is_file() && written.permissions().mode() & 0o777 == 0o600 && written.size() > 1000);
    // As for docker, `-` is a name like any other.
    let mut command = home.command(&["save", "-o", "-", "baz"]);
    let output = command.current_dir(&folder).output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let mut names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["-", "a.tar"]);
}

#[test]
fn disk_usage_says_what_images_share() {
    let (home, one, other) = filled();
    let verbose = home.ok(&["system", "df", "-v"]);
    for (line, title) in [
        ("Images space usage:", "REPOSITORY"),
        (
            "Containers space usage:",
            "CONTAINER ID   IMAGE     COMMAND   LOCAL VOLUMES   SIZE      CREATED   STATUS    NAMES",
        ),
        ("Local Volumes space usage:", "VOLUME NAME   LINKS     SIZE"),
        ("Build cache usage: 0B", "CACHE ID   CACHE TYPE   SIZE      CREATED   LAST USED   USAGE     SHARED"),
    ] {
        assert!(verbose.contains(&format!("{line}\n\n{title}")), "{line}: {verbose}");
    }
    // Both have the layer of the same archive.
    for id in [&one, &other] {
        let row = verbose.lines().find(|line| line.contains(&short(id))).unwrap();
        let words: Vec<&str> = row.split_whitespace().rev().take(4).collect();
        assert_eq!(words, ["0", "0B", "3B", "3B"], "{row}");
    }
    home.ok(&["rmi", "reg.example:5000/x/y:v1"]);
    let verbose = home.ok(&["system", "df", "-v"]);
    let row = verbose.lines().find(|line| line.contains(&short(&one))).unwrap();
    assert!(row.split_whitespace().rev().take(4).eq(["0", "3B", "0B", "3B"]), "{row}");
}

#[test]
fn an_image_whose_record_is_damaged_is_told_of() {
    let (home, _, _) = filled();
    let before = home.ok(&["images", "-q", "--no-trunc"]).lines().map(str::to_owned).collect::<Vec<_>>();
    let id = before[0].strip_prefix("sha256:").unwrap();
    let record = home.path().join("root/images").join(format!("{id}.json"));
    std::fs::write(&record, b"{").unwrap();
    let ended = home.run(&["images", "-q", "--no-trunc"]);
    assert!(
        ended.error.contains(&format!("WARNING: an image cannot be listed: the record `{}`", record.display())),
        "{ended:?}"
    );
    assert!(!ended.out.contains(id), "{ended:?}");
}
