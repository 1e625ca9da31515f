//! Credentials: kept where docker keeps them, in docker's form, and told to nobody.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use cove_tests::clients::{Client, Cove, Docker};
use cove_tests::{Image, Login, Proxy, Scratch, Server, wait_until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

struct World {
    server: Server,
    alice: Login,
    name: String,
}

impl World {
    /// A server with an image that only alice may pull.
    fn start() -> Self {
        let server = Server::start();
        let alice = server.add_user("alice");
        let docker = Docker::new();
        docker.login(&server.address(), &alice);
        let name = format!("{}/alice/image:1", server.address());
        docker.push(&Image::new(2, 10_000), &name);
        Self { server, alice, name }
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn docker_and_cove_use_each_others_logins() {
    let world = World::start();
    let (docker, cove, address) = (Docker::new(), Cove::new(), world.server.address());
    let (of_docker, of_cove) = (docker.configuration().join("config.json"), cove.configuration().join("config.json"));
    cove.pull_fails(&world.name);

    // From docker to cove, with what else docker keeps there.
    docker.login(&address, &world.alice);
    let mut configuration = read(&of_docker);
    configuration["psFormat"] = "table {{.ID}}".into();
    configuration["auths"]["registry.example:5000"] = json!({ "auth": "YTpi", "unknown": true });
    configuration["plugins"] = json!({ "somebody": { "else": "s" } });
    fs::write(&of_cove, configuration.to_string()).unwrap();
    cove.pull(&world.name);

    // A login by cove leaves the rest as it was.
    cove.logout(&address);
    cove.pull_fails(&world.name);
    cove.login(&address, &world.alice);
    let written = read(&of_cove);
    for field in ["psFormat", "plugins"] {
        assert_eq!(written[field], configuration[field], "{field}");
    }
    assert_eq!(written["auths"]["registry.example:5000"], configuration["auths"]["registry.example:5000"]);
    assert_eq!(fs::metadata(&of_cove).unwrap().permissions().mode() & 0o777, 0o600);

    // From cove to docker.
    docker.logout(&address);
    docker.pull_fails(&world.name);
    fs::copy(&of_cove, &of_docker).unwrap();
    docker.pull(&world.name);
    docker.logout(&address);
    fs::copy(&of_docker, &of_cove).unwrap();
    cove.pull_fails(&world.name);
}

/// cove-server gives a refresh token to those who ask for one, so the password is not stored.
#[test]
fn the_password_is_not_stored() {
    let world = World::start();
    let cove = Cove::new();
    cove.login(&world.server.address(), &world.alice);
    cove.pull(&world.name);
    let path = cove.configuration().join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    let entry = &read(&path)["auths"][world.server.address()];
    let decoded = BASE64.decode(entry["auth"].as_str().unwrap_or_default()).unwrap();
    let decoded = String::from_utf8(decoded).unwrap();
    assert!(!text.contains(&world.alice.password) && !decoded.contains(&world.alice.password), "{text} {decoded}");
    assert!(entry["identitytoken"].as_str().is_some_and(|token| token.len() > 10), "{text}");
    // It ends with the logout of all, and the message says what to do.
    world.server.command(["user", "passwd", "alice", "--password-stdin"]).input("another password").ok();
    let printed = cove.pull_fails(&world.name);
    assert!(printed.contains("login"), "{printed}");
}

#[test]
fn the_file_is_written_through_a_link_and_where_the_folder_is_missing() {
    let world = World::start();
    let (cove, folder) = (Cove::new(), Scratch::new("elsewhere"));
    let file = folder.write("real.json", "{}");
    let link = cove.configuration().join("config.json");
    symlink(&file, &link).unwrap();
    cove.login(&world.server.address(), &world.alice);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "the link was replaced");
    assert!(read(&file)["auths"][world.server.address()].is_object());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let missing = folder.join("not/yet");
    let login = cove.words(["login", "-u", "alice", "--password-stdin", &world.server.address()]);
    login.env("DOCKER_CONFIG", &missing).input(&world.alice.password).ok();
    assert!(missing.join("config.json").exists());
    assert_eq!(fs::metadata(&missing).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn podmans_file_is_read() {
    let world = World::start();
    let cove = Cove::new();
    let folder = cove.scratch().folder("session/containers");
    let auth = BASE64.encode(world.alice.pair());
    fs::write(folder.join("auth.json"), json!({ "auths": { world.server.address(): { "auth": auth } } }).to_string())
        .unwrap();
    cove.pull(&world.name);
}

/// A helper as the protocol has it: it keeps what it is given in a file, and writes down how it was called.
const HELPER: &str = r#"#!/bin/sh
store=$(dirname "$0")/store; log=$(dirname "$0")/log
printf '%s\n' "$*" >>"$log"
case $1 in
store) cat >"$store" ;;
get) read -r server; if [ -s "$store" ] && grep -q "$server" "$store"; then cat "$store"; else
     echo "credentials not found in native keychain"; exit 1; fi ;;
erase) rm -f "$store" ;;
list) echo '{}' ;;
esac
"#;

#[test]
fn credential_helpers() {
    let world = World::start();
    let address = world.server.address();
    for setting in [json!({ "credHelpers": { address.clone(): "fake" } }), json!({ "credsStore": "fake" })] {
        let (docker, cove, folder) = (Docker::new(), Cove::new(), Scratch::new("helper"));
        let helper = folder.write("docker-credential-fake", HELPER);
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let file = cove.configuration().join("config.json");
        fs::write(&file, setting.to_string()).unwrap();
        fs::copy(&file, docker.configuration().join("config.json")).unwrap();
        let cove_words = |words: &[&str]| cove.words(words).env("PATH", &path);
        let docker_words = |words: &[&str]| docker.command().env("PATH", &path).args(words);

        assert!(!cove_words(&["pull", &world.name]).run().succeeded());
        let login = ["login", "-u", "alice", "--password-stdin", &address];
        let finished = cove_words(&login).input(&world.alice.password).run();
        assert!(finished.succeeded() && !finished.stderr.contains("unencrypted"), "{finished}");
        let stored: Value = serde_json::from_str(&fs::read_to_string(folder.join("store")).unwrap()).unwrap();
        assert_eq!(stored["ServerURL"], *address);
        assert!(!fs::read_to_string(&file).unwrap().contains("identitytoken"), "the secret is in the file too");
        cove_words(&["pull", "-q", &world.name]).ok();
        // What cove has stored, docker can use, and the other way round.
        docker_words(&["pull", "-q", &world.name]).ok();
        docker_words(&login).input(&world.alice.password).ok();
        cove_words(&["pull", "-q", &world.name]).ok();
        cove_words(&["logout", &address]).ok();
        assert!(!folder.join("store").exists());
        assert!(!cove_words(&["pull", &world.name]).run().succeeded());
        let calls = fs::read_to_string(folder.join("log")).unwrap();
        assert!(calls.lines().all(|call| ["get", "store", "erase", "list"].contains(&call)), "{calls}");
    }
}

/// What a helper does wrong is told with its name and what to do.
#[test]
fn helpers_that_do_not_do_their_work() {
    let world = World::start();
    let address = world.server.address();
    let (cove, folder) = (Cove::new(), Scratch::new("helper"));
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    fs::write(cove.configuration().join("config.json"), json!({ "credsStore": "fake" }).to_string()).unwrap();
    let run = |words: &[&str]| {
        let started = Instant::now();
        let command = cove.words(words).env("PATH", &path).env("COVE_CREDENTIAL_HELPER_TIMEOUT", "1");
        let printed = command.input(&world.alice.password).fails();
        assert!(started.elapsed() < Duration::from_secs(20), "{printed}");
        printed
    };
    let login = ["login", "-u", "alice", "--password-stdin", &address];
    for words in [&["pull", &world.name][..], &["push", &world.name], &login] {
        if words[0] == "push" {
            cove.load(&Image::new(1, 1000), &world.name);
        }
        for (script, says) in [
            (None, "`docker-credential-fake` cannot be run"),
            (Some("#!/bin/sh\nexec sleep 1000"), "has not answered for"),
            (Some("#!/bin/sh\necho hello"), "its answer is not the JSON of a credential"),
            (Some("#!/bin/sh\necho the keyring is locked; exit 1"), "failed: the keyring is locked"),
            (Some("#!/bin/sh\nexit 3"), "failed: it ended without a message"),
        ] {
            // A login with name and password only stores, and what `store` prints counts for nothing.
            if words[0] == "login" && says.contains("JSON") {
                continue;
            }
            let helper = folder.join("docker-credential-fake");
            let _ = fs::remove_file(&helper);
            if let Some(script) = script {
                fs::write(&helper, script).unwrap();
                fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
            }
            let printed = run(words);
            assert!(printed.contains(says) && printed.contains("docker-credential-fake"), "{words:?} {printed}");
            assert!(!printed.contains(&world.alice.password), "{printed}");
        }
    }
}

/// Neither what is printed with all details nor what other users see of the process has a secret in it.
#[test]
fn secrets_are_in_no_log_and_no_command_line() {
    let world = World::start();
    let cove = Cove::new();
    let proxy = Proxy::start(&world.server.address(), 0);
    let login = Login::new("alice", &world.alice.password);
    let mut printed = String::new();
    let mut run = |words: &[&str], input: &str| {
        let words = ["--debug", "--log-level", "debug"].iter().chain(words);
        let finished = cove.words(words).env("RUST_LOG", "trace").env("COVE_LOG", "trace").input(input).run();
        printed += &finished.printed();
        finished
    };
    let name = format!("{}/alice/image:1", proxy.address());
    let copy = format!("{}/alice/copy:1", proxy.address());
    run(&["login", "-u", "alice", "--password-stdin", &proxy.address()], &login.password).ok();
    run(&["pull", &name], "").ok();
    run(&["tag", &name, &copy], "").ok();
    run(&["push", &copy], "").ok();
    run(&["pull", &format!("{}/bob/secret:1", proxy.address())], "").fails();
    run(&["login", "-u", "alice", "--password-stdin", &proxy.address()], "a-wrong-secret").fails();
    proxy.set_rate(20_000);
    run(&["rmi", "-f", &name], "").ok();
    run(&["image", "prune", "-a", "-f"], "").ok();

    // While it pulls slowly: its command line and those of all that it has started.
    let log = cove.scratch().join("log");
    let mut process = cove.words(["--debug", "pull", &name]).start(&log);
    wait_until("the pull has begun", Duration::from_secs(20), || {
        proxy.asked().iter().any(|asked| asked.blob().is_some())
    });
    let lines = fs::read_dir("/proc").unwrap().flatten();
    let lines: Vec<_> = lines.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok()).collect();
    proxy.set_rate(0);
    process.wait(Duration::from_secs(60)).expect("the pull ends");
    printed += &process.log();

    let configuration = read(&cove.configuration().join("config.json"));
    let entry = &configuration["auths"][proxy.address()];
    let mut secrets = vec![login.password.clone(), "a-wrong-secret".to_owned(), BASE64.encode(login.pair())];
    secrets.extend(["identitytoken", "auth"].iter().filter_map(|field| Some(entry[field].as_str()?.to_owned())));
    let sent = proxy.asked();
    let sent = sent.iter().filter_map(|asked| asked.headers.get("authorization")?.split(' ').nth(1).map(str::to_owned));
    secrets.extend(sent);
    secrets.sort();
    secrets.dedup();
    secrets.retain(|secret| secret.len() > 7);
    assert!(secrets.len() >= 4, "there should be a password, a refresh token and bearer tokens");
    for secret in secrets {
        assert!(!printed.contains(&secret), "{secret} is in the log:\n{printed}");
        assert!(
            lines.iter().all(|line| !String::from_utf8_lossy(line).contains(&secret)),
            "{secret} is in a command line"
        );
    }
}
