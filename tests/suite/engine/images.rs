//! Images that containers use, and what goes with a container: `rmi`, the prunes, volumes.

use cove_tests::CoveEngine;

#[test]
fn an_image_stays_as_long_as_a_container_needs_it() {
    let engine = CoveEngine::new();
    let id = engine.run(["-d", "--name", "one", "box", "sleep", "1000"]).ok();
    let image = engine.words(["images", "-q", "box"]).ok();
    let short = &id[..12];
    let refused = |words: &[&str], expected: String| {
        let said = engine.words(["rmi"]).args(words).fails();
        assert!(said.contains(&expected), "rmi {words:?}: {said}");
    };
    let by_name = format!(
        "conflict: unable to remove repository reference \"box\" (must force) - container {short} is using its referenced image {image}"
    );
    refused(&["box"], by_name.clone());
    let running = format!(
        "conflict: unable to delete {image} (cannot be forced) - image is being used by running container {short}"
    );
    refused(&[&image], running.clone());
    refused(&["-f", &image], running);
    engine.words(["kill", "one"]).ok();
    engine.wait_for_status("one", "Exited");
    refused(&["box"], by_name);
    refused(
        &[&image],
        format!(
            "conflict: unable to delete {image} (must be forced) - image is being used by stopped container {short}"
        ),
    );
    assert!(!engine.words(["image", "prune", "-af"]).ok().contains("untagged"));
    // Another name may go.
    engine.words(["tag", "box", "other"]).ok();
    assert_eq!(engine.words(["rmi", "other"]).ok(), "Untagged: other:latest");

    let removed = engine.words(["rmi", "-f", "box"]).ok();
    assert_eq!(removed.lines().count(), 2, "the name and the image, not its layers: {removed}");
    engine.words(["start", "one"]).ok();
    engine.words(["exec", "one", "true"]).ok();
    let layers = || std::fs::read_dir(engine.cove().root().join("layers")).unwrap().count();
    assert_eq!(layers(), 1);
    engine.words(["rm", "-f", "one"]).ok();
    assert_eq!(layers(), 0, "nobody needs them");
}

#[test]
fn a_name_can_be_taken_from_the_image_of_a_container_that_runs() {
    let engine = CoveEngine::new();
    engine.run(["-d", "--name", "one", "box", "sleep", "1000"]).ok();
    assert_eq!(engine.words(["rmi", "-f", "box"]).ok(), "Untagged: box:latest");
    assert_eq!(engine.words(["images", "-q"]).ok().lines().count(), 1, "it has no name and stays");
    engine.words(["exec", "one", "true"]).ok();
}

#[test]
fn containers_that_do_not_run_are_pruned() {
    let engine = CoveEngine::new();
    let gone = engine.create(["--name", "gone", "--label", "a=b", "box", "true"]).ok();
    let kept = engine.create(["--name", "kept", "--label", "a=c", "box", "true"]).ok();
    engine.run(["-d", "--name", "runs", "--label", "a=b", "box", "sleep", "1000"]).ok();
    let asked = engine.words(["container", "prune"]).input("n\n").ok();
    assert!(asked.contains("WARNING! This will remove all stopped containers."), "{asked}");
    assert!(asked.contains("Are you sure you want to continue? [y/N]"), "{asked}");
    assert_eq!(engine.words(["container", "prune", "-f", "--filter", "until=24h"]).ok(), "Total reclaimed space: 0B");
    let pruned = engine.words(["container", "prune", "-f", "--filter", "label=a=b"]).ok();
    assert_eq!(pruned, format!("Deleted Containers:\n{gone}\n\nTotal reclaimed space: 0B"));
    let pruned = engine.words(["system", "prune", "-f"]).ok();
    assert!(pruned.starts_with(&format!("Deleted Containers:\n{kept}\n")), "{pruned}");
    assert_eq!(engine.words(["ps", "-a", "--format", "{{.Names}}"]).ok(), "runs");
}

#[test]
fn volumes_without_a_name_go_with_their_container() {
    let engine = CoveEngine::new();
    let volumes = || {
        let folder = std::fs::read_dir(engine.cove().root().join("volumes")).unwrap();
        folder.filter(|entry| !entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.')).count()
    };
    engine.run(["--rm", "-v", "/data", "box", "true"]).ok();
    assert_eq!(volumes(), 0, "with the end of --rm");
    engine.run(["--name", "one", "-v", "/data", "-v", "named:/named", "box", "true"]).ok();
    assert_eq!(volumes(), 2);
    engine.words(["rm", "-v", "one"]).ok();
    assert_eq!(volumes(), 1, "the one with a name stays");
    engine.run(["--name", "two", "-v", "/data", "box", "true"]).ok();
    engine.words(["rm", "two"]).ok();
    assert_eq!(volumes(), 2, "without -v it stays");
}
