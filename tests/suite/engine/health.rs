//! Health checks: what runs them, what they find, and where that is seen.

use std::time::Duration;

use cove_tests::{CoveEngine, runc_program, wait_until};

#[test]
fn checks_tell_how_well_a_container_is() {
    checks(&CoveEngine::new());
}

#[test]
fn checks_tell_how_well_a_container_is_on_runc() {
    checks(&CoveEngine::new().on(runc_program()));
}

fn checks(engine: &CoveEngine) {
    let check = "yes 123456789 | head -c 5000; test -e /good";
    let run = engine.run(["-d", "--name", "web", "--health-cmd", check, "--health-interval", "300ms"]);
    let id = run.args(["--health-retries", "2", "--label", "tier=front", "box", "sleep", "1000"]).ok();
    assert!(engine.status("web").ends_with("(health: starting)"), "{}", engine.status("web"));
    wait_for_health(engine, "web", "unhealthy");
    engine.words(["exec", "web", "touch", "/good"]).ok();
    wait_for_health(engine, "web", "healthy");
    let health = |path: &str| engine.words(["inspect", "--format"]).arg(format!("{{{{{path}}}}}")).arg("web").ok();
    assert_eq!(health(".State.Health.FailingStreak"), "0");
    wait_until("five results", Duration::from_secs(30), || health("len .State.Health.Log") == "5");
    let log = health("json .State.Health.Log");
    let log: Vec<serde_json::Value> = serde_json::from_str(&log).expect("a list");
    let last = log.last().expect("a result");
    assert_eq!(last["ExitCode"], 0);
    let output = last["Output"].as_str().expect("text");
    assert!(output.len() == 4096 + "...".len() && output.ends_with("..."), "{}", output.len());

    let listed = |filter: &str| engine.words(["ps", "-aq", "--no-trunc", "-f"]).arg(format!("health={filter}")).ok();
    assert_eq!((listed("healthy"), listed("starting"), listed("none")), (id.clone(), String::new(), String::new()));
    let refused = engine.words(["ps", "-f", "health=well"]).fails();
    assert!(refused.contains("Unrecognised filter value for health: well"), "{refused}");

    // Nobody looks while it is paused; it begins anew when it is started again.
    engine.words(["pause", "web"]).ok();
    assert!(engine.status("web").ends_with("(Paused)"));
    assert_eq!(health(".State.Health.Status"), "unhealthy");
    let before = health("json .State.Health.Log");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(health("json .State.Health.Log"), before);
    engine.words(["unpause", "web"]).ok();
    wait_for_health(engine, "web", "healthy");
    engine.words(["restart", "-t", "0", "web"]).ok();
    assert!(engine.status("web").contains("(health"), "{}", engine.status("web"));
    wait_for_health(engine, "web", "healthy");
    engine.words(["rm", "-f", "web"]).ok();

    let events = engine.words(["events", "--since", "1", "--until", "0s", "-f", "label=tier=front"]);
    let events = events.args(["-f", "event=health_status", "--format", "{{.Action}}"]).ok();
    let told: Vec<&str> = events.lines().collect();
    let words = ["unhealthy", "healthy", "healthy", "healthy"].map(|word| format!("health_status: {word}"));
    assert_eq!(told, words);
    let events = engine.words(["events", "--since", "1", "--until", "0s", "-f", "event=exec_create"]).ok();
    assert!(events.contains(&format!("exec_create: /bin/sh -c {check}")), "{events}");
    assert_eq!(engine.leftovers(&[id]), Vec::<String>::new());
}

#[test]
fn a_check_that_takes_too_long_is_killed() {
    let engine = CoveEngine::new();
    let run = engine.run(["-d", "--name", "slow", "--health-cmd", "echo begun; exec sleep 777"]);
    let run = run.args(["--health-interval", "200ms", "--health-timeout", "1s", "--health-retries", "1"]);
    run.args(["box", "sleep", "1000"]).ok();
    wait_for_health(&engine, "slow", "unhealthy");
    let log = engine.words(["inspect", "--format", "{{json (index .State.Health.Log 0)}}", "slow"]).ok();
    assert!(log.contains(r#""ExitCode":-1,"Output":"Health check exceeded timeout (1s): begun\n""#), "{log}");
    // A stopping container takes the check that runs with it.
    engine.words(["stop", "-t", "0", "slow"]).ok();
    assert!(engine.status("slow").starts_with("Exited (137)"));
}

#[test]
fn an_image_says_how_to_look_and_options_win() {
    let engine = CoveEngine::new();
    engine.create(["--name", "one", "box", "sleep", "1000"]).ok();
    let change = r#"HEALTHCHECK --interval=200ms --retries=1 CMD ["test", "-e", "/bin/sh"]"#;
    engine.words(["commit", "-c", change, "one", "checked"]).ok();
    engine.run(["-d", "--name", "well", "checked"]).ok();
    engine.run(["-d", "--name", "ill", "--health-cmd", "false", "checked"]).ok();
    engine.run(["-d", "--name", "unseen", "--no-healthcheck", "checked"]).ok();
    wait_for_health(&engine, "well", "healthy");
    wait_for_health(&engine, "ill", "unhealthy");
    assert!(!engine.status("unseen").contains('('), "{}", engine.status("unseen"));
    assert!(!engine.words(["inspect", "unseen"]).ok().contains("\"Health\""));
    assert_eq!(engine.words(["ps", "-f", "health=none", "--format", "{{.Names}}"]).ok(), "unseen");
    // What cannot even begin is a failure, too.
    let run = engine.run(["-d", "--name", "broken", "--health-interval", "200ms", "--health-retries", "1"]);
    run.args(["--health-cmd", "true", "--workdir", "/gone", "box", "sh", "-c", "rmdir /gone; sleep 1000"]).ok();
    wait_for_health(&engine, "broken", "unhealthy");
}

#[test]
fn failures_of_the_start_period_do_not_count() {
    let engine = CoveEngine::new();
    let run = engine.run(["-d", "--name", "one", "--health-cmd", "false", "--health-interval", "1h"]);
    let run = run.args(["--health-start-period", "1h", "--health-start-interval", "100ms", "--health-retries", "1"]);
    run.args(["box", "sleep", "1000"]).ok();
    let health = |path: &str| engine.words(["inspect", "--format"]).arg(format!("{{{{{path}}}}}")).arg("one").ok();
    wait_until("five results", Duration::from_secs(30), || health("len .State.Health.Log") == "5");
    assert_eq!(health(".State.Health.Status"), "starting");
    assert_eq!(health(".State.Health.FailingStreak"), "0");
}

fn wait_for_health(engine: &CoveEngine, name: &str, word: &str) {
    let what = format!("{name} is {word}");
    wait_until(&what, Duration::from_secs(30), || engine.status(name).ends_with(&format!("({word})")));
}
