//! Backing up while clients push, and restoring elsewhere.

use std::time::Duration;

use cove_tests::{Cmd, Dice, Noise, Pushers, Scratch, Server, Workload};

use super::recipe;

#[test]
fn a_backup_taken_during_pushes_is_restored_without_a_loss() {
    let grace = Duration::from_secs(20);
    let server = Server::builder().args(["--gc-grace", "20s"]).start();
    let alice = server.add_user("alice");
    let mut dice = Dice::from_environment("backup");
    let mut pushers = Pushers::new(4, "library", Workload { largest: 2_000_000, grace, power_cut: false }, &mut dice);
    let marker = server.as_user(&alice).push_blob("alice/marker", &Noise::bytes(100_000));
    let target = Scratch::new("backup");
    let backup = || {
        let script = Cmd::new(recipe("backup.sh")).arg(server.data()).arg(target.join("copy"));
        assert!(script.run().ok().is_empty(), "it is silent");
    };
    // So long that the collector has work all the while; the second backup goes on where the first was.
    pushers.push_for(Duration::from_secs(15), &server.address(), &server.admin_login(), backup);
    pushers.push_for(Duration::from_secs(15), &server.address(), &server.admin_login(), backup);
    assert!(pushers.acknowledged() > 50, "there were pushes: {}", pushers.acknowledged());
    assert!(server.log().contains("\"message\":\"collected\""), "the collector has worked meanwhile");

    let mut restored = Server::builder().prepare();
    Cmd::new("cp").arg("-a").arg(target.join("copy")).arg(restored.data()).ok();
    // Bytes without a row are what there may be; a row without its bytes is what must never be.
    let found = restored.command(["check", "--deep"]).run();
    let lines: Vec<_> = found.stdout.lines().collect();
    let (summary, problems) = lines.split_last().expect("a summary");
    assert!(problems.iter().all(|line| line.ends_with("bytes that the database does not know")), "{found}");
    assert!(summary.contains("bytes hashed"), "{found}");
    let repaired = restored.command(["check", "--deep", "--delete-unknown"]).ok();
    assert!(repaired.contains(&format!("{} unknown objects deleted", problems.len())), "{repaired}");
    assert!(repaired.contains("no problems"), "{repaired}");
    restored.check();

    restored.start_again();
    let registry = restored.as_user(&alice);
    registry.get("/v2/").expect(200);
    let kept = registry.head(&format!("/v2/alice/marker/blobs/{marker}")).status;
    assert!([200, 404].contains(&kept), "unused for longer than the grace, or not: {kept}");
    for repository in restored.as_admin().get("/v2/_catalog").expect(200).json()["repositories"].as_array().unwrap() {
        let repository = repository.as_str().expect("a name");
        for tag in restored.as_admin().tags(repository) {
            restored.as_admin().pull(repository, &tag);
        }
    }
    let digest = registry.push_blob("alice/after", b"life goes on");
    registry.check_blob("alice/after", &digest, 12);
    restored.check();
}
