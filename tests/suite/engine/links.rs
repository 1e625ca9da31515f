//! `--link`: one container is told of another.

use std::time::Duration;

use cove_tests::{CoveEngine, wait_until};

fn database(engine: &CoveEngine) -> String {
    engine
        .run(["-d", "--name", "wordpressdb", "--hostname", "dbhost", "-e", "MYSQL_ROOT_PASSWORD=a=b"])
        .args(["--expose", "3306", "box", "sh", "-c", "mkdir /w; echo db >/w/index.html; exec httpd -f -p 3306 -h /w"])
        .ok();
    engine.words(["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "wordpressdb"]).ok()
}

#[test]
fn a_link_is_told_in_the_hosts_file_and_the_environment() {
    let engine = CoveEngine::new();
    let address = database(&engine);
    engine.run(["-d", "--name", "wordpress", "--link", "wordpressdb:mysql", "box", "sleep", "1000"]).ok();
    let inside = |words: &[&str]| engine.words(["exec", "wordpress"]).args(words).ok();
    let hosts = inside(&["cat", "/etc/hosts"]);
    assert!(hosts.contains(&format!("{address}\tmysql dbhost wordpressdb\n")), "{hosts}");
    for name in ["mysql", "dbhost", "wordpressdb"] {
        assert_eq!(inside(&["wget", "-q", "-O", "-", &format!("http://{name}:3306/")]), "db", "{name}");
    }
    let expected = [
        format!("MYSQL_PORT=tcp://{address}:3306"),
        format!("MYSQL_PORT_3306_TCP=tcp://{address}:3306"),
        format!("MYSQL_PORT_3306_TCP_ADDR={address}"),
        "MYSQL_PORT_3306_TCP_PORT=3306".to_owned(),
        "MYSQL_PORT_3306_TCP_PROTO=tcp".to_owned(),
        "MYSQL_NAME=/wordpress/mysql".to_owned(),
        "MYSQL_ENV_MYSQL_ROOT_PASSWORD=a=b".to_owned(),
    ];
    // Of its first process, and of one that was brought in.
    for environment in [inside(&["sh", "-c", "tr '\\0' '\\n' </proc/1/environ"]), inside(&["env"])] {
        let told: Vec<&str> = environment.lines().filter(|line| line.starts_with("MYSQL_")).collect();
        assert_eq!(told, expected);
    }
    let links = engine.words(["inspect", "-f", "{{json .HostConfig.Links}}", "wordpress"]).ok();
    assert_eq!(links, r#"["/wordpressdb:/wordpress/mysql"]"#);

    engine.words(["rename", "wordpressdb", "renamed"]).ok();
    let links = engine.words(["inspect", "-f", "{{.HostConfig.Links}}", "wordpress"]).ok();
    assert_eq!(links, "[/renamed:/wordpress/mysql]");
    assert_eq!(inside(&["wget", "-q", "-O", "-", "http://renamed:3306/"]), "db", "by its new name, from the resolver");

    assert!(engine.words(["rm", "--link", "wordpress"]).fails().contains("cannot remove the default name"));
    assert!(engine.words(["rm", "--link", "wordpress/other"]).fails().contains("No such container: wordpress/other"));
    assert_eq!(engine.words(["rm", "--link", "/wordpress/mysql"]).ok(), "/wordpress/mysql");
    assert_eq!(engine.words(["inspect", "-f", "{{json .HostConfig.Links}}", "wordpress"]).ok(), "null");
    engine.words(["restart", "-t", "0", "wordpress"]).ok();
    assert!(!inside(&["cat", "/etc/hosts"]).contains("mysql"));
}

#[test]
fn the_hosts_file_follows_when_the_other_starts_again() {
    let engine = CoveEngine::new();
    let before = database(&engine);
    engine.run(["-d", "--name", "web", "--link", "wordpressdb:my-db", "box", "sleep", "1000"]).ok();
    engine.words(["stop", "-t", "0", "wordpressdb"]).ok();
    // Somebody else gets the address that it had.
    engine.run(["-d", "--name", "thief", "--ip", &before, "box", "sleep", "1000"]).ok();
    engine.words(["start", "wordpressdb"]).ok();
    let after = engine.words(["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "wordpressdb"]).ok();
    assert_ne!(before, after);
    let hosts = || engine.words(["exec", "web", "cat", "/etc/hosts"]).ok();
    let has = |address: &str| hosts().contains(&format!("{address}\tmy-db dbhost wordpressdb\n"));
    assert!(has(&after) && !has(&before), "{}", hosts());
    let got = || engine.words(["exec", "web", "wget", "-q", "-O", "-", "http://my-db:3306/"]).run().stdout;
    wait_until("the file is used", Duration::from_secs(20), || got() == "db\n");
}

#[test]
fn links_that_cannot_be_are_refused_in_dockers_words() {
    let engine = CoveEngine::new();
    let refused = |words: &[&str], text: &str| {
        let said = engine.words(["run"]).args(words).args(["box", "true"]).run();
        assert_eq!(said.code, Some(125), "{said}");
        assert!(said.stderr.contains(text), "{words:?}: {said}");
    };
    refused(&["--link", "missing:x"], "could not get container for missing: No such container: missing");
    engine.create(["--name", "idle", "box", "sleep", "1000"]).ok();
    refused(&["--name", "web", "--link", "idle:x"], "Cannot link to a non running container: /idle AS /web/x");
    assert!(engine.status("web").starts_with("Created"), "it is made, and can be started when the other runs");
    engine.words(["start", "idle"]).ok();
    assert_eq!(engine.words(["start", "-a", "web"]).ok(), "");
    let conflict = "type network";
    refused(
        &["--network", "container:idle", "--link", "idle:x"],
        &format!("container {conflict} can't be used with links"),
    );
    refused(&["--network", "host", "--link", "idle:x"], &format!("host {conflict}ing can't be used with links"));
    engine.run(["-d", "--network", "host", "--name", "hosted", "box", "sleep", "1000"]).ok();
    refused(&["--link", "hosted:x"], &format!("host {conflict}ing can't be used with links"));
    engine.run(["-d", "--network", "none", "--name", "alone", "box", "sleep", "1000"]).ok();
    refused(&["--link", "alone:x"], "Cannot link to /alone, as it does not belong to the default network");
    // One that was removed takes the link along.
    engine.words(["rm", "-f", "idle"]).ok();
    assert_eq!(engine.words(["start", "-a", "web"]).ok(), "");
}
