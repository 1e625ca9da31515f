//! Docker's file of credentials as docker, podman and their helpers leave it, and as we leave it to them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use cove_oci::RegistryName;
use cove_remote::{
    Agent, AgentServer, Credential, CredentialError, CredentialPaths, CredentialSource, DockerConfig, Stored,
};
use tempfile::TempDir;

struct Home {
    folder: TempDir,
}

impl Home {
    fn new() -> Self {
        Home { folder: tempfile::tempdir().unwrap() }
    }

    fn with(config: &str) -> Self {
        let home = Self::new();
        std::fs::create_dir(home.file().parent().unwrap()).unwrap();
        std::fs::write(home.file(), config).unwrap();
        home
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join(".docker/config.json")
    }

    fn podman(&self) -> PathBuf {
        self.folder.path().join("auth.json")
    }

    fn paths(&self) -> CredentialPaths {
        CredentialPaths {
            docker: self.file(),
            podman: vec![self.podman()],
            helpers: Some(format!("{}:/usr/bin:/bin", self.folder.path().display()).into()),
        }
    }

    fn load(&self) -> DockerConfig {
        DockerConfig::load(self.paths()).unwrap()
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap()
    }

    /// A helper that keeps each address's answer in a file and notes what it was asked, as the real ones do.
    fn add_helper(&self, name: &str) {
        let program = self.folder.path().join(format!("docker-credential-{name}"));
        let script = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
input=$(cat)
echo "$(basename "$0") $1" >> asked
key() { printf %s "$1" | tr -c 'a-zA-Z0-9.\n' _; }
case $1 in
get) cat "kept-$(key "$input")" 2>/dev/null && exit 0; echo "credentials not found in native keychain"; exit 1;;
store) server=$(printf %s "$input" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/'); printf %s "$input" > "kept-$(key "$server")";;
erase) rm "kept-$(key "$input")" 2>/dev/null && exit 0; echo "credentials not found in native keychain"; exit 1;;
list) echo '{"https://index.docker.io/v1/":"alice"}';;
esac
"#;
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn registry(name: &str) -> RegistryName {
    name.parse().unwrap()
}

fn password(username: &str, password: &str) -> Credential {
    Credential::Password { username: username.into(), password: password.into() }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn every_form_that_docker_has_written_is_read() {
    let home = Home::with(
        r#"{"auths": {
            "hub.example.com": {"auth": "YWxpY2U6czNjcmV0OndpdGg6Y29sb25z"},
            "https://old.example.com/v1/": {"auth": "Ym9iOm9sZAAA", "email": "bob@example.com"},
            "http://older.example.com": {"username": "carol", "password": "plain"},
            "path.example.com/v2/team": {"auth": "ZGFuOnBhdGg="},
            "token.example.com": {"auth": "ZXZlOg==", "identitytoken": "refresh"},
            "bearer.example.com": {"registrytoken": "bearer"},
            "kept-by-a-helper.example.com": {},
            "https://index.docker.io/v1/": {"auth": "YWxpY2U6aHVi"}
        }}"#,
    );
    let config = home.load();
    for (name, expected) in [
        ("hub.example.com", Some(password("alice", "s3cret:with:colons"))),
        ("old.example.com", Some(password("bob", "old"))),
        ("older.example.com", Some(password("carol", "plain"))),
        ("path.example.com", Some(password("dan", "path"))),
        (
            "token.example.com",
            Some(Credential::IdentityToken { username: Some("eve".into()), token: "refresh".into() }),
        ),
        ("bearer.example.com", Some(Credential::RegistryToken("bearer".into()))),
        ("kept-by-a-helper.example.com", None),
        ("docker.io", Some(password("alice", "hub"))),
        ("index.docker.io", Some(password("alice", "hub"))),
        ("hub.example.com:5000", None),
        ("example.com", None),
    ] {
        assert_eq!(config.find(&registry(name)).unwrap(), expected, "{name}");
        let any = "some/where".parse().unwrap();
        assert_eq!(config.find_for(&registry(name), &any).unwrap(), expected, "{name}");
    }
}

/// What the next test looks at, in a process with its own variables.
#[test]
fn print_paths() {
    if std::env::var_os("COVE_TEST_PATHS").is_some() {
        println!("{:?}", CredentialPaths::of_this_user().map_err(|error| error.to_string()));
        println!("{:?}", cove_remote::ConfigPaths::of_this_user());
    }
}

#[test]
fn files_are_where_docker_and_podman_have_them() {
    let print = |variables: &[(&str, &str)]| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "print_paths", "--nocapture"]).env_clear().env("COVE_TEST_PATHS", "1");
        String::from_utf8(command.envs(variables.iter().copied()).output().unwrap().stdout).unwrap()
    };
    let plain = print(&[("HOME", "/home/a"), ("XDG_RUNTIME_DIR", "/run/user/7")]);
    assert!(plain.contains(r#"docker: "/home/a/.docker/config.json""#), "{plain}");
    let podman = r#"podman: ["/run/user/7/containers/auth.json", "/home/a/.config/containers/auth.json"]"#;
    assert!(plain.contains(podman), "{plain}");
    assert!(plain.contains(r#"cove: ["/etc/cove/cove.toml", "/home/a/.config/cove/cove.toml"]"#), "{plain}");
    let conf = r#"registries_conf: ["/home/a/.config/containers/registries.conf", "/etc/containers/registries.conf"]"#;
    assert!(plain.contains(conf) && plain.contains(r#""/home/a/.docker/certs.d", "/etc/docker/certs.d""#), "{plain}");
    let told = print(&[
        ("DOCKER_CONFIG", "/d"),
        ("REGISTRY_AUTH_FILE", "/r"),
        ("XDG_CONFIG_HOME", "/x"),
        ("COVE_CONFIG", "/c.toml"),
        ("CONTAINERS_REGISTRIES_CONF", "/conf"),
        ("COVE_DEFAULT_REGISTRY", "hub.example.com"),
        ("COVE_INSECURE_REGISTRIES", "a,b"),
        ("COVE_REGISTRY_MIRRORS", "https://m"),
    ]);
    for part in [
        r#"docker: "/d/config.json""#,
        r#"podman: ["/r", "/run/containers/0/auth.json", "/x/containers/auth.json"]"#,
        r#"cove: ["/c.toml"]"#,
        r#"registries_conf: ["/conf"]"#,
        r#"default_registry: Some("hub.example.com")"#,
        r#"insecure_registries: Some("a,b")"#,
        r#"registry_mirrors: Some("https://m")"#,
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // As for a service: then the user's entry in /etc/passwd says where home is.
    assert!(print(&[]).contains("/.docker/config.json"), "{}", print(&[]));
}

#[test]
fn what_others_wrote_stays_as_it_was() {
    let before = "{\n\t\"HttpHeaders\": {\n\t\t\"User-Agent\": \"x\",   \"A\": 1e400\n\t},\n\t\"zzz\": [1.0, 18446744073709551616],\n\t\"auths\": {\n\t\t\"b.example.com\": {\n\t\t\t\"auth\": \"Yjpi\",\n\t\t\t\"later\": {\"z\": 1, \"a\": 2}\n\t\t},\n\t\t\"a.example.com\": {}\n\t},\n\t\"psFormat\": \"table\"\n}";
    let home = Home::with(before);
    let mut config = home.load();
    config.store(&registry("new.example.com:5000"), &password("alice", "s3cret")).unwrap();
    let expected = before.replace(
        "\"a.example.com\": {}",
        "\"a.example.com\": {},\n\t\t\"new.example.com:5000\": {\n\t\t\t\"auth\": \"YWxpY2U6czNjcmV0\"\n\t\t}",
    );
    assert_eq!(home.text(), expected);
    assert!(config.erase(&registry("new.example.com:5000")).unwrap());
    assert_eq!(home.text(), before, "erasing gives the file back");
    // Another credential for the same registry: unknown fields of the entry stay, the old secret goes.
    config
        .store(&registry("b.example.com"), &Credential::IdentityToken { username: Some("b".into()), token: "t".into() })
        .unwrap();
    let text = home.text();
    assert!(text.contains("\"later\": {\"z\": 1, \"a\": 2}") && !text.contains("Yjpi"), "{text}");
}

#[test]
fn a_new_file_is_as_docker_makes_it_and_private() {
    let home = Home::new();
    let mut config = home.load();
    let stored = config.store(&RegistryName::docker_hub(), &password("alice", "s3cret")).unwrap();
    assert_eq!(stored, Stored::File(home.file()));
    assert_eq!(
        home.text(),
        "{\n\t\"auths\": {\n\t\t\"https://index.docker.io/v1/\": {\n\t\t\t\"auth\": \"YWxpY2U6czNjcmV0\"\n\t\t}\n\t}\n}"
    );
    assert_eq!((mode(&home.file()), mode(home.file().parent().unwrap())), (0o600, 0o700));
    assert_eq!(home.load().find(&RegistryName::docker_hub()).unwrap(), Some(password("alice", "s3cret")));
    // A file that was open to others is closed, and its older keys for the same registry go.
    std::fs::write(home.file(), r#"{"auths":{"docker.io":{"auth":"b2xkOm9sZA=="}}}"#).unwrap();
    std::fs::set_permissions(home.file(), std::fs::Permissions::from_mode(0o644)).unwrap();
    home.load().store(&RegistryName::docker_hub(), &password("alice", "new")).unwrap();
    assert_eq!(mode(&home.file()), 0o600);
    assert!(!home.text().contains("\"docker.io\""), "{}", home.text());
    assert!(home.load().erase(&RegistryName::docker_hub()).unwrap());
    assert!(!home.load().erase(&RegistryName::docker_hub()).unwrap(), "there was nothing more to erase");
    let left = std::fs::read_dir(home.file().parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().ends_with(".new")), "temporary files are left");
}

#[test]
fn a_token_is_kept_without_the_password() {
    let home = Home::new();
    let token = Credential::IdentityToken { username: Some("alice".into()), token: "refresh".into() };
    home.load().store(&registry("hub.example.com"), &token).unwrap();
    assert!(home.text().contains(r#""auth": "YWxpY2U6""#), "docker's form of a name without password: {}", home.text());
    assert_eq!(home.load().find(&registry("hub.example.com")).unwrap(), Some(token));
}

#[test]
fn a_broken_file_is_named_with_its_line_and_left_alone() {
    for (text, line) in [
        ("{\n  \"auths\": {\n    \"a\": s3cret\n}}", 3),
        ("{\n  \"auths\": {\n    \"a\": {\"auth\": \"s3cret", 3),
        ("{\n  \"auths\": {\n    \"a\": {\"auth\": [\"s3cret\"]}\n}}", 3),
        ("{\"auths\": \"s3cret\"}", 1),
        ("s3cret", 1),
    ] {
        let home = Home::with("{}");
        let mut config = home.load();
        std::fs::write(home.file(), text).unwrap();
        for error in [
            DockerConfig::load(home.paths()).err().unwrap(),
            config.store(&registry("b.example.com"), &password("b", "b")).unwrap_err(),
            config.erase(&registry("b.example.com")).unwrap_err(),
        ] {
            let message = error.to_string();
            assert!(message.contains(home.file().to_str().unwrap()), "{message}");
            assert!(message.contains(&format!("line {line}")), "{message}");
            assert!(!format!("{message}{error:?}").contains("s3cret"), "{error:?}");
        }
        assert_eq!(home.text(), text, "nothing was written");
    }
    // A broken entry is an error for its own registry only.
    let home = Home::with(r#"{"auths":{"a.example.com":{"auth":"s3cret!"},"b.example.com":{"auth":"Yjpi"}}}"#);
    let error = home.load().find(&registry("a.example.com")).unwrap_err();
    assert!(matches!(error, CredentialError::Entry { .. }) && !error.to_string().contains("s3cret"), "{error}");
    assert_eq!(home.load().find(&registry("b.example.com")).unwrap(), Some(password("b", "b")));
}

#[test]
fn helpers_keep_secrets_out_of_the_file() {
    let home = Home::with(r#"{"credsStore":"general","credHelpers":{"own.example.com":"special"}}"#);
    home.add_helper("general");
    home.add_helper("special");
    let mut config = home.load();
    let token = Credential::IdentityToken { username: Some("alice".into()), token: "refresh".into() };
    assert_eq!(config.store(&RegistryName::docker_hub(), &token).unwrap(), Stored::Helper("general".into()));
    assert_eq!(
        config.store(&registry("own.example.com"), &password("bob", "s3cret")).unwrap(),
        Stored::Helper("special".into())
    );
    assert!(!home.text().contains("s3cret") && !home.text().contains("refresh"), "{}", home.text());
    assert!(home.text().contains("\"own.example.com\": {}"), "docker's mark that a helper has it: {}", home.text());
    // docker stores a token under the name `<token>`, so the account is not known afterwards.
    let found = config.find(&RegistryName::docker_hub()).unwrap();
    assert_eq!(found, Some(Credential::IdentityToken { username: None, token: "refresh".into() }));
    assert_eq!(config.find(&registry("own.example.com")).unwrap(), Some(password("bob", "s3cret")));
    assert_eq!(config.find(&registry("other.example.com")).unwrap(), None);
    assert!(config.addresses().unwrap().contains("https://index.docker.io/v1/"));
    assert!(config.erase(&registry("own.example.com")).unwrap());
    assert_eq!(config.find(&registry("own.example.com")).unwrap(), None);
    let asked = std::fs::read_to_string(home.folder.path().join("asked")).unwrap();
    assert!(
        asked.contains("docker-credential-special store") && asked.contains("docker-credential-special erase"),
        "{asked}"
    );
}

#[test]
fn a_helper_that_is_missing_or_fails_says_so() {
    let home = Home::with(r#"{"credsStore":"absent"}"#);
    let error = home.load().find(&registry("hub.example.com")).unwrap_err();
    assert!(
        matches!(error, CredentialError::HelperMissing { .. })
            && error.to_string().contains("docker-credential-absent")
    );
    for name in ["../evil", "a/b", "a b", "-\n"] {
        let home = Home::with(&serde_json::json!({ "credsStore": name }).to_string());
        assert!(matches!(home.load().find(&registry("x.example.com")), Err(CredentialError::HelperName(_))), "{name}");
    }
    let home = Home::with(r#"{"credsStore":"broken"}"#);
    home.add_helper("broken");
    let program = home.folder.path().join("docker-credential-broken");
    std::fs::write(&program, "#!/bin/sh\necho the keyring is locked\nexit 1\n").unwrap();
    let error = home.load().find(&registry("hub.example.com")).unwrap_err().to_string();
    assert!(
        error.starts_with("`docker-credential-broken get` failed: the keyring is locked: run it by hand"),
        "{error}"
    );
    std::fs::write(&program, "#!/bin/sh\necho '{\"Username\": \"s3cret\"'\n").unwrap();
    let error = home.load().find(&registry("hub.example.com")).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
}

#[test]
fn podmans_file_is_asked_where_dockers_has_nothing() {
    let home = Home::with(r#"{"auths":{"both.example.com":{"auth":"ZG9ja2VyOmQ="}}}"#);
    let podman = r#"{"auths":{
        "both.example.com":{"auth":"cG9kbWFuOnA="},
        "hub.example.com":{"auth":"d2hvbGU6dw=="},
        "hub.example.com/team":{"auth":"dGVhbTp0"},
        "hub.example.com/team/app":{"auth":"YXBwOmE="},
        "docker.io/team":{"auth":"ZG9ja2VyOmh1Yg=="}}}"#;
    std::fs::write(home.podman(), podman).unwrap();
    let config = home.load();
    assert_eq!(config.find(&registry("both.example.com")).unwrap(), Some(password("docker", "d")));
    assert_eq!(config.find(&registry("hub.example.com")).unwrap(), Some(password("whole", "w")));
    for (repository, user) in
        [("team/app", "app"), ("team/app/x", "app"), ("team/other", "team"), ("teams/app", "whole")]
    {
        let found = config.find_for(&registry("hub.example.com"), &repository.parse().unwrap()).unwrap().unwrap();
        assert_eq!(found.username(), Some(user), "{repository}");
    }
    let hub = RegistryName::docker_hub();
    assert_eq!(config.find(&hub).unwrap(), None, "podman's key for a namespace is for that only");
    assert_eq!(config.find_for(&hub, &"team/app".parse().unwrap()).unwrap(), Some(password("docker", "hub")));
    assert_eq!(config.find_for(&hub, &"library/debian".parse().unwrap()).unwrap(), None);
    let text = std::fs::read_to_string(home.podman()).unwrap();
    home.load().store(&registry("hub.example.com"), &password("new", "n")).unwrap();
    assert_eq!(std::fs::read_to_string(home.podman()).unwrap(), text, "podman's file is only read");
}

#[test]
fn what_a_link_leads_to_is_replaced() {
    let home = Home::new();
    let elsewhere = home.folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::create_dir(home.file().parent().unwrap()).unwrap();
    symlink("../elsewhere/second", home.file()).unwrap();
    symlink("real.json", elsewhere.join("second")).unwrap();
    for word in ["first", "again"] {
        home.load().store(&registry(&format!("{word}.example.com")), &password("a", word)).unwrap();
    }
    assert!(home.file().is_symlink() && elsewhere.join("second").is_symlink(), "the links are still there");
    let real = elsewhere.join("real.json");
    assert!(!real.is_symlink());
    let text = std::fs::read_to_string(real).unwrap();
    assert!(text.contains("first.example.com") && text.contains("again.example.com"), "{text}");
}

#[test]
fn a_mounted_file_is_written_in_place() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = Home::with("{}");
    let real = home.folder.path().join("real.json");
    let long = format!(r#"{{"auths":{{"old.example.com":{{"auth":"YTph"}}}},"filler":"{}"}}"#, "x".repeat(3000));
    std::fs::write(&real, long).unwrap();
    // In a mount namespace of its own, so that nothing stays mounted whatever happens.
    if std::env::var_os("COVE_TEST_MOUNTED").is_none() {
        let status = Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                r#"mount --bind "$1" "$2" && exec "$3" --exact a_mounted_file_is_written_in_place"#,
                "sh",
            ])
            .args([&real, &home.file(), &std::env::current_exe().unwrap()])
            .env("COVE_TEST_MOUNTED", home.folder.path())
            .status()
            .unwrap();
        assert!(status.success());
        let text = std::fs::read_to_string(&real).unwrap();
        assert!(text.contains("new.example.com") && !text.contains("old.example.com") && text.contains("xxx"));
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
        return;
    }
    let folder = PathBuf::from(std::env::var_os("COVE_TEST_MOUNTED").unwrap());
    let paths = CredentialPaths { docker: folder.join(".docker/config.json"), podman: vec![], helpers: None };
    let mut config = DockerConfig::load(paths).unwrap();
    config.store(&registry("new.example.com"), &password("b", "b")).unwrap();
    config.erase(&registry("old.example.com")).unwrap();
}

#[test]
fn roots_login_leaves_the_file_to_its_owner() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = Home::with("{}");
    let folder = home.file().parent().unwrap().to_owned();
    std::os::unix::fs::chown(&folder, Some(1234), Some(1235)).unwrap();
    std::os::unix::fs::chown(home.file(), Some(1234), Some(1235)).unwrap();
    home.load().store(&registry("hub.example.com"), &password("a", "a")).unwrap();
    let owner = std::fs::metadata(home.file()).unwrap();
    assert_eq!((owner.uid(), owner.gid(), mode(&home.file())), (1234, 1235, 0o600));
}

#[test]
fn writers_at_once_lose_nothing() {
    let home = Home::new();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let home = &home;
            scope.spawn(move || {
                for round in 0..10 {
                    let name = registry(&format!("r{writer}-{round}.example.com"));
                    home.load().store(&name, &password("a", "a")).unwrap();
                }
            });
        }
    });
    let config = home.load();
    for writer in 0..8 {
        for round in 0..10 {
            let name = registry(&format!("r{writer}-{round}.example.com"));
            assert!(config.find(&name).unwrap().is_some(), "{name} is lost");
        }
    }
}

#[test]
fn an_agent_runs_helpers_for_a_process_that_cannot() {
    let home = Home::with(r#"{"credsStore":"general"}"#);
    home.add_helper("general");
    let (server, inner) = AgentServer::new().unwrap();
    let server = server.searching(home.paths().helpers.unwrap());
    let serving = std::thread::spawn(move || server.serve());
    // Without the agent nothing would be found: this search path has no helper.
    let paths = CredentialPaths { helpers: Some("/nowhere".into()), ..home.paths() };
    let mut config = DockerConfig::load(paths).unwrap().with_agent(Agent::new(inner.into()));
    config.store(&registry("hub.example.com"), &password("alice", "s3cret")).unwrap();
    assert_eq!(config.find(&registry("hub.example.com")).unwrap(), Some(password("alice", "s3cret")));
    assert!(config.erase(&registry("hub.example.com")).unwrap());
    assert_eq!(config.find(&registry("hub.example.com")).unwrap(), None);
    std::fs::write(home.file(), r#"{"credsStore":"absent"}"#).unwrap();
    drop(config);
    serving.join().unwrap().unwrap();
}

/// The inner process of the next test: it finds the agent by the variable alone.
#[test]
fn inner_process() {
    let Some(folder) = std::env::var_os("COVE_TEST_INNER").map(PathBuf::from) else { return };
    let paths = CredentialPaths {
        docker: folder.join(".docker/config.json"),
        podman: vec![],
        helpers: Some("/nowhere".into()),
    };
    let config = DockerConfig::load(paths.clone()).unwrap();
    assert_eq!(config.find(&registry("hub.example.com")).unwrap(), Some(password("alice", "s3cret")));
    assert_eq!(DockerConfig::load(paths).unwrap().find(&registry("other.example.com")).unwrap(), None);
    // What this process starts has no way to the agent.
    let number = std::env::var("COVE_CREDENTIAL_AGENT").unwrap();
    assert!(!Command::new("test").args(["-e", &format!("/proc/self/fd/{number}")]).status().unwrap().success());
}

#[test]
fn another_process_finds_the_agent_by_its_variable() {
    use std::os::fd::AsRawFd;
    let home = Home::with(r#"{"credsStore":"general"}"#);
    home.add_helper("general");
    home.load().store(&registry("hub.example.com"), &password("alice", "s3cret")).unwrap();
    let (server, inner) = AgentServer::new().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "inner_process"])
        .env("COVE_TEST_INNER", home.folder.path())
        .env("COVE_CREDENTIAL_AGENT", inner.as_raw_fd().to_string())
        .spawn()
        .unwrap();
    drop(inner);
    server.searching(home.paths().helpers.unwrap()).serve().unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn an_agent_refuses_what_is_no_helper() {
    use std::io::{Read, Write};
    let ask = |request: &[u8], length: u32| {
        let (server, inner) = AgentServer::new().unwrap();
        let mut socket = std::os::unix::net::UnixStream::from(inner);
        let serving = std::thread::spawn(move || server.serve());
        let _ = socket.write_all(&[&length.to_be_bytes(), request].concat());
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        let mut bytes = Vec::new();
        let _ = socket.read_to_end(&mut bytes);
        answer.push_str(&String::from_utf8_lossy(&bytes));
        (answer, serving.join().unwrap())
    };
    let request = br#"{"helper":"../../bin/sh","verb":"get","input":""}"#;
    let (answer, ended) = ask(request, request.len() as u32);
    assert!(answer.contains("is not the name of a credential helper"), "{answer}");
    ended.unwrap();
    for (request, length) in
        [(&b"{}"[..], 2), (br#"{"helper":"a","verb":"run","input":""}"#, 38), (b"", u32::MAX), (b"ab", 10)]
    {
        let (answer, ended) = ask(request, length);
        assert!(answer.is_empty() && ended.is_err(), "{answer}");
    }
}
