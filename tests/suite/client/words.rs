//! What scripts read: the same lines and exit codes as docker's, for the same actions against the same server.

use cove_tests::clients::Client;
use cove_tests::{Image, Login, Scratch};

use crate::pair::{Pair, told};

#[test]
fn pull_and_lists_of_images() {
    let pair = Pair::start();
    let (latest, other) = (pair.name("image"), pair.name("image:other"));
    let id = pair.publish(&Image::new(3, 20_000), &format!("{latest}:latest"));
    pair.publish(&Image::new(1, 5_000), &other);

    let printed = pair.same(&["pull", &latest]);
    assert!(told(&printed).contains(&"Using default tag: latest"), "{printed}");
    let printed = pair.same(&["pull", &latest]);
    assert!(printed.contains(&format!("Status: Image is up to date for {latest}:latest")), "{printed}");
    assert_eq!(pair.same(&["pull", "-q", &other]).trim(), other);
    pair.same(&["image", "pull", "--quiet", &latest]);

    for words in [
        &["images"][..],
        &["image", "ls"],
        &["image", "list"],
        &["images", "-a"],
        &["images", "-q"],
        &["images", "--quiet", "--no-trunc"],
        &["images", "--no-trunc"],
        &["images", "--digests"],
        &["images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"],
        &["images", "--format", "table {{.ID}}\t{{.Repository}}\t{{.Size}}"],
        &["images", "--format={{.Repository}}@{{.Digest}}"],
        &["images", "--filter", "dangling=true"],
        &["images", "-f", "dangling=false", "-q"],
        &["images", "--filter", "reference=*:nothing"],
        &["images", &latest],
        &["images", &other],
        &["images", "nothing-has-this-name"],
    ] {
        pair.same(words);
    }
    // By digest, and then without a tag.
    let digest = pair.cove.inspect(&latest, "{{index .RepoDigests 0}}");
    pair.same(&["rmi", &latest]);
    pair.same(&["pull", &digest]);
    pair.same(&["images", "--digests"]);
    pair.same(&["images", "--format", "{{.Repository}} {{.Tag}} {{.ID}}"]);
    assert_eq!(pair.cove.id(&digest), id);
}

#[test]
fn inspect_and_history() {
    let pair = Pair::start();
    let name = pair.name("image:1");
    let id = pair.publish(&Image::new(3, 20_000), &name);
    pair.same(&["pull", "-q", &name]);
    for format in [
        "{{.Id}}",
        "{{json .RepoTags}}",
        "{{json .RepoDigests}}",
        "{{.Created}}",
        "{{.Architecture}}/{{.Os}}",
        "{{json .Config.Cmd}} {{json .Config.Env}} {{json .Config.Entrypoint}} {{json .Config.Labels}}",
        "{{json .RootFS}}",
        "{{.RootFS.Type}} {{len .RootFS.Layers}}",
        "{{range .RootFS.Layers}}{{.}}\n{{end}}",
        "{{index .RepoTags 0}}",
        "{{.Author}}|{{.Comment}}",
        "{{.Size}}",
        "{{.Config.WorkingDir}}|{{.Config.User}}",
    ] {
        pair.same(&["image", "inspect", "--format", format, &name]);
        pair.same(&["inspect", "-f", format, &id[7..19]]);
    }
    pair.both_fail(&["image", "inspect", "--format", "{{.NoSuchField}}", &name], &["NoSuchField"]);
    pair.both_fail(&["image", "inspect", "nothing-has-this-name"], &["No such image: nothing-has-this-name"]);
    let whole: serde_json::Value = serde_json::from_str(&pair.cove.words(["image", "inspect", &name]).ok()).unwrap();
    assert_eq!(whole[0]["Id"], *id);

    pair.same(&["history", &name]);
    pair.same(&["image", "history", "-q", &name]);
    pair.same(&["history", "--no-trunc", &name]);
    pair.same(&["history", "--human=false", "--format", "{{.ID}} {{.CreatedAt}} {{.CreatedBy}} {{.Size}}", &name]);
    pair.both_fail(&["history", "nothing-has-this-name"], &["nothing-has-this-name"]);
}

#[test]
fn tag_rmi_and_what_a_moved_tag_leaves() {
    let pair = Pair::start();
    let name = pair.name("image:1");
    let first = pair.publish(&Image::new(2, 10_000), &name);
    pair.same(&["pull", "-q", &name]);
    pair.same(&["tag", &name, "local"]);
    pair.same(&["image", "tag", "local:latest", "group/local:2"]);
    pair.same(&["tag", &first[7..15], "by-prefix"]);
    pair.same(&["images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]);
    pair.both_fail(&["tag", "nothing-has-this-name", "x"], &["nothing-has-this-name"]);
    pair.both_fail(&["tag", "local", "UPPER:case"], &["lowercase"]);

    // The tag moves, and the old image stays without a name.
    pair.publish(&Image::new(1, 10_000), &name);
    for name in ["local", "group/local:2", "by-prefix"] {
        pair.same(&["rmi", name]);
    }
    pair.same(&["pull", &name]);
    pair.same(&["images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]);
    let dangling = pair.same(&["images", "-q", "--no-trunc", "--filter", "dangling=true"]);
    assert_eq!(dangling.trim(), first);
    pair.same(&["rmi", &first]);
    pair.same(&["images", "-a", "-q"]);

    // By id: with several names only with force.
    let id = pair.cove.id(&name);
    pair.same(&["tag", &name, "second-name"]);
    pair.both_fail(&["rmi", &id[7..19]], &["conflict", "must be forced"]);
    pair.same(&["rmi", "-f", &id[7..19]]);
    pair.same(&["images", "-a"]);
    pair.both_fail(&["rmi", "nothing-has-this-name"], &["No such image: nothing-has-this-name"]);
    pair.both_fail(&["image", "rm"], &["requires at least 1 argument"]);

    // One that is there and one that is not.
    pair.same(&["pull", "-q", &name]);
    let (docker, cove) = pair.both(&["rmi", "nothing-has-this-name", &name]);
    assert_eq!((docker.code, docker.stdout), (cove.code, cove.stdout));
}

#[test]
fn push() {
    let pair = Pair::start();
    let name = pair.name("image:1");
    pair.publish(&Image::new(3, 20_000), &name);
    pair.same(&["pull", "-q", &name]);
    // Unchanged, to the same place and to another, from which the layers are taken.
    let printed = pair.same(&["push", &name]);
    assert!(printed.contains(&format!("The push refers to repository [{}]", pair.name("image"))), "{printed}");
    let second = pair.name("second:1");
    pair.same(&["tag", &name, &second]);
    let docker = pair.docker.command().args(["push", &second]).run();
    pair.server.as_user(&pair.alice).delete("/v2/alice/second/manifests/1").expect(202);
    let cove = pair.cove.words(["push", &second]).run();
    assert_eq!(told(&docker.stdout), told(&cove.stdout), "{docker}\n{cove}");
    let third = pair.name("third:1");
    pair.same(&["tag", &name, &third]);
    let cove = pair.cove.words(["push", &third]).run();
    assert_eq!(cove.printed().matches("Mounted from alice/").count(), 3, "{cove}");
    pair.same(&["push", "-q", &second]);
    pair.same(&["image", "inspect", "--format", "{{json .RepoTags}}", &name]);

    pair.both_fail(&["push", &pair.name("nothing")], &["does not exist locally"]);
    pair.server.add_user("bob");
    let foreign = format!("{}/bob/image:1", pair.server.address());
    pair.same(&["tag", &name, &foreign]);
    let (docker, cove) = pair.both(&["push", &foreign]);
    assert_eq!((docker.code, cove.code), (Some(1), Some(1)), "{docker}\n{cove}");
    let says = cove.stderr.to_lowercase();
    assert!(says.contains("denied") || says.contains("unauthorized: authentication required"), "{cove}");
    assert!(pair.server.as_admin().tags("alice/image").contains(&"1".to_owned()));

    // All tags of a repository.
    for tag in ["2", "3"] {
        pair.same(&["tag", &name, &pair.name(&format!("image:{tag}"))]);
    }
    pair.same(&["push", "--all-tags", &pair.name("image")]);
    assert_eq!(pair.server.as_user(&pair.alice).tags("alice/image"), ["1", "2", "3"]);
    pair.cove.words(["pull", "--all-tags", "-q", &pair.name("image")]).ok();
}

#[test]
fn what_is_refused() {
    let pair = Pair::start();
    let name = pair.name("image:1");
    pair.publish(&Image::new(1, 1_000), &name);
    pair.both_fail(&["pull", &pair.name("nothing")], &["not found"]);
    pair.both_fail(&["pull", &pair.name("image:nothing")], &["not found"]);
    pair.both_fail(&["pull", &pair.name("UPPER/case")], &["invalid reference format"]);
    pair.both_fail(&["pull", "--nonsense", &name], &["unknown flag: --nonsense"]);
    pair.both_fail(&["images", "--format"], &["flag needs an argument: --format"]);
    pair.both_fail(&["nonsense"], &["nonsense"]);
    pair.both_fail(&["pull"], &["requires"]);
    pair.both_fail(&["tag", "only-one"], &["requires"]);
    pair.both_fail(&["pull", "-a", &name], &["tag"]);
    pair.both_fail(&["save", "nothing-has-this-name"], &["nothing-has-this-name"]);
    pair.both_fail(&["load", "-i", "/nothing/here.tar"], &["no such file"]);
    pair.both_fail(&["pull", "127.0.0.1:9/alice/image"], &["127.0.0.1:9"]);

    pair.docker.logout(&pair.server.address());
    pair.cove.logout(&pair.server.address());
    let (docker, cove) = pair.both(&["pull", &name]);
    assert_eq!((docker.code, cove.code), (Some(1), Some(1)), "{docker}\n{cove}");
    let says = cove.stderr.to_lowercase();
    assert!(says.contains("denied") || says.contains("unauthorized"), "{cove}");
    assert!(says.contains("login"), "it is to say what to do: {cove}");
    pair.same(&["images", "-a", "-q"]);
}

#[test]
fn login_and_logout() {
    let pair = Pair::start();
    let address = pair.server.address();
    pair.same(&["logout", &address]);
    pair.same(&["logout", &address]);
    let login = ["login", "-u", "alice", "--password-stdin", &address];
    let docker = pair.docker.command().args(login).input(&pair.alice.password).run();
    let cove = pair.cove.words(login).input(&pair.alice.password).run();
    assert_eq!((docker.code, cove.code), (Some(0), Some(0)), "{docker}\n{cove}");
    assert!(docker.stdout.contains("Login Succeeded") && cove.stdout.contains("Login Succeeded"), "{docker}\n{cove}");
    // Once more without words, with what is stored.
    let cove = pair.cove.words(["login", &address]).run();
    assert!(cove.succeeded() && cove.printed().contains("Authenticating with existing credentials"), "{cove}");
    let cove = pair.cove.words(["login", "-u", "alice", "-p", &pair.alice.password, &address]).run();
    assert!(cove.succeeded() && cove.stderr.contains("WARNING! Using --password via the CLI is insecure"), "{cove}");

    let wrong = Login::new("alice", "not-her-password");
    for client in [&pair.docker as &dyn Client, &pair.cove] {
        let finished = client.try_login(&address, &wrong);
        assert_eq!(finished.code, Some(1), "{finished}");
        assert!(finished.stderr.contains("password or token is wrong"), "{finished}");
    }
    let (docker, cove) = pair.both(&["login", "-u", "alice", &address]);
    assert_eq!(docker.code, cove.code, "without a terminal: {docker}\n{cove}");
    pair.same(&["logout", &address]);
}

#[test]
fn search() {
    let pair = Pair::start();
    let registry = pair.server.as_user(&pair.alice);
    for repository in ["alice/centos", "alice/centos-tools", "alice/other"] {
        let image = Image::new(1, 1_000);
        pair.publish(&image, &format!("{}/{repository}:1", pair.server.address()));
        registry.pull(repository, "1");
    }
    let term = format!("{}/centos", pair.server.address());
    let printed = pair.same(&["search", &term]);
    assert_eq!(printed.lines().count(), 3, "{printed}");
    assert!(printed.starts_with("NAME"), "{printed}");
    pair.same(&["search", "--limit", "1", &term]);
    pair.same(&["search", "--no-trunc", &term]);
    pair.same(&["search", "--format", "{{.Name}}|{{.StarCount}}|{{.IsOfficial}}|{{.Description}}", &term]);
    pair.same(&["search", &format!("{}/nothing", pair.server.address())]);
}

#[test]
fn prune() {
    let pair = Pair::start();
    let name = pair.name("image:1");
    pair.publish(&Image::new(1, 10_000), &name);
    pair.same(&["pull", "-q", &name]);
    pair.publish(&Image::new(1, 10_000), &name);
    pair.same(&["pull", "-q", &name]);
    pair.same(&["image", "prune", "-f", "--filter", "label=nothing"]);
    pair.same(&["image", "prune", "-f", "--filter", "until=876000h"]);
    pair.same(&["image", "prune", "-f"]);
    pair.same(&["images", "-a", "-q"]);
    let (_, cove) = pair.both(&["image", "prune", "-a", "-f"]);
    assert!(cove.succeeded() && cove.stdout.contains("Total reclaimed space: "), "{cove}");
    pair.same(&["images", "-a", "-q"]);
    pair.cove.words(["system", "prune", "-f"]).ok();
    assert_eq!(pair.cove.content(), [""; 0], "what is left in a store without images");
}

#[test]
fn other_commands_work() {
    let pair = Pair::start();
    let name = pair.name("image:1");
    pair.publish(&Image::new(1, 10_000), &name);
    pair.same(&["pull", "-q", &name]);
    let version = pair.cove.words(["version"]).ok();
    assert!(version.contains("Client:") && version.contains("API version"), "{version}");
    pair.cove.words(["info"]).ok();
    let usage = pair.cove.words(["system", "df"]).ok();
    assert!(usage.starts_with("TYPE") && usage.contains("Images"), "{usage}");
    let manifest: serde_json::Value =
        serde_json::from_str(&pair.cove.words(["manifest", "inspect", &name]).ok()).unwrap();
    assert_eq!(manifest["config"]["digest"], *pair.cove.id(&name));
    for shell in ["bash", "zsh", "fish"] {
        assert!(pair.cove.words(["completion", shell]).ok().contains("cove"));
    }
    for words in [&["--help"][..], &["pull", "--help"], &["image", "--help"], &["image", "rm", "--help"]] {
        let help = pair.cove.words(words).ok();
        assert!(help.contains("Usage:"), "{help}");
    }
    let (docker, cove) = pair.both(&["-v"]);
    assert_eq!(docker.code, cove.code);
    let folder = Scratch::new("words");
    let archive = folder.join("image.tar");
    pair.cove.words(["save", "-o"]).arg(&archive).arg(&name).ok();
    let progress = pair.cove.words(["pull", "--progress", "none", &name]).run();
    assert_eq!(progress.stderr, "", "{progress}");
}
