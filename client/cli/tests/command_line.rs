//! What the binary says about itself and about wrong command lines: what docker 28.2.2 says, with `cove` in its place.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod common;

use common::Home;

#[test]
fn help_is_grouped_as_dockers_is() {
    let home = Home::new();
    let help = home.ok(&["--help"]);
    let mut rest = help.as_str();
    for title in
        ["Usage:  cove [OPTIONS] COMMAND", "Common Commands:", "Management Commands:", "Commands:", "Global Options:"]
    {
        let at = rest.find(title).unwrap_or_else(|| panic!("{title} is missing, or not in its place: {help}"));
        rest = &rest[at + title.len()..];
    }
    assert!(help.ends_with("Run 'cove COMMAND --help' for more information on a command.\n"), "{help}");
    // Docker's own longest line is that of `attach`.
    for line in help.lines() {
        assert!(line.chars().count() <= 92, "{line}");
    }
    assert_eq!(home.ok(&[]), help, "no command is a wish for help");
}

#[test]
fn help_of_a_command() {
    let home = Home::new();
    let expected = "\
Usage:  cove rmi [OPTIONS] IMAGE [IMAGE...]

Remove one or more images

Aliases:
  cove image rm, cove image remove, cove rmi

Options:
  -f, --force             Force removal of the image
      --no-prune          Do not delete untagged parents
      --platform string   Remove only the image of this platform,
                          'os[/arch[/variant]]', from what the name stands for
";
    assert_eq!(home.ok(&["rmi", "--help"]), expected);
    let of_image = home.ok(&["image", "rm", "--help"]);
    assert_eq!(of_image, expected.replace("cove rmi [OPTIONS]", "cove image rm [OPTIONS]"));
    assert_eq!(home.ok(&["image"]), home.ok(&["image", "--help"]), "a group alone shows its help");
    assert!(home.ok(&["tag", "--help"]).starts_with("Usage:  cove tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]\n"));
}

#[test]
fn every_command_has_help() {
    let home = Home::new();
    for line in [
        "login",
        "logout",
        "pull",
        "push",
        "images",
        "tag",
        "rmi",
        "inspect",
        "history",
        "save",
        "load",
        "import",
        "search",
        "version",
        "info",
        "completion",
        "image ls",
        "image list",
        "image pull",
        "image push",
        "image rm",
        "image remove",
        "image inspect",
        "image history",
        "image tag",
        "image save",
        "image load",
        "image import",
        "image prune",
        "image mount",
        "image unmount",
        "manifest inspect",
        "system df",
        "system prune",
        "system info",
    ] {
        let mut words: Vec<&str> = line.split(' ').collect();
        words.push("--help");
        let help = home.ok(&words);
        assert!(help.starts_with("Usage:  cove "), "{line}: {help}");
    }
}

#[test]
fn wrong_flags_end_with_125_and_wrong_use_with_1() {
    let home = Home::new();
    let ended = home.run(&["pull", "--badflag"]);
    assert_eq!(ended.status, 125);
    assert_eq!(
        ended.error,
        "unknown flag: --badflag\n\nUsage:  cove pull [OPTIONS] NAME[:TAG|@DIGEST]\n\nRun 'cove pull --help' for more information\n"
    );
    assert_eq!(ended.out, "");
    let ended = home.run(&["pull"]);
    assert_eq!(ended.status, 1);
    assert!(ended.error.starts_with("cove: 'cove pull' requires 1 argument\n"), "{ended:?}");
    let ended = home.run(&["nosuch"]);
    assert_eq!((ended.status, ended.error.lines().next()), (1, Some("cove: unknown command: cove nosuch")));
    let ended = home.run(&["-H", "tcp://127.0.0.1:2375", "images"]);
    assert_eq!(ended.status, 125);
    assert!(ended.error.contains("`--host` cannot be used"), "{ended:?}");
    let ended = home.run(&["-l", "loud", "version"]);
    assert_eq!(ended.status, 125);
}

#[test]
fn version_has_dockers_blocks() {
    let home = Home::new();
    let version = home.ok(&["version"]);
    assert!(version.starts_with("Client:\n Version:           "), "{version}");
    for key in [
        "\n API version:       ",
        "\n Rust version:      ",
        "\n Git commit:        ",
        "\n Built:             ",
        "\n OS/Arch:           linux/",
    ] {
        assert!(version.contains(key), "{key}: {version}");
    }
    assert!(version.contains("\nServer:\n Engine:\n  Version:          "), "{version}");
    assert!(home.ok(&["--version"]).starts_with("Cove version "));
    assert_eq!(home.ok(&["-v"]), home.ok(&["--version"]));
    let number = home.ok(&["version", "--format", "{{.Server.Version}}"]);
    assert!(home.ok(&["--version"]).contains(number.trim()));
    let json: serde_json::Value = serde_json::from_str(&home.ok(&["version", "-f", "json"])).unwrap();
    assert!(json["Client"]["ApiVersion"].is_string());
}

#[test]
fn info_shows_mirrors() {
    let home = Home::new();
    home.file("cove.toml", b"");
    let mut command = home.command(&["info"]);
    let output = command.env("COVE_REGISTRY_MIRRORS", "https://mirror.example.com").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(" Registry Mirrors:\n  https://mirror.example.com"), "{text}");
    assert!(text.contains(" Images: 0\n"), "{text}");
    assert!(!home.path().join("root").exists(), "who only asks makes no store");
}

#[test]
fn shells_get_a_script_that_asks_the_program() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = home.ok(&["completion", shell]);
        assert!(script.contains("cove") && script.contains("COVE_COMPLETE"), "{shell}: {script}");
    }
    let mut command = home.command(&["--", "cove", "image", "pu"]);
    command.env("COVE_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "2").env("_CLAP_IFS", "\n");
    let output = command.output().unwrap();
    let words: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    assert_eq!(words, ["pull", "push"]);
}

#[test]
fn login_says_what_docker_says() {
    let home = Home::new();
    let registry = "registry.example.com";
    for (arguments, error) in [
        (&["login", registry][..], "Error: Cannot perform an interactive login from a non TTY device\n"),
        (&["login", "-u", "x", registry], "Error: Cannot perform an interactive login from a non TTY device\n"),
        (
            &["login", "-p", "y", registry],
            "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\nError: Cannot perform an interactive login from a non TTY device\n",
        ),
        (&["login", "--password-stdin", registry], "the --password-stdin option requires --username to be set\n"),
        (
            &["login", "-u", "x", "-p", "y", "--password-stdin", registry],
            "conflicting options: cannot specify both --password and --password-stdin\n",
        ),
    ] {
        let ended = home.run(arguments);
        assert_eq!((ended.status, ended.error.as_str(), ended.out.as_str()), (1, error, ""), "{arguments:?}");
    }
}

#[test]
fn logout_removes_the_credential() {
    let home = Home::new();
    std::fs::create_dir(home.path().join("docker")).unwrap();
    let config =
        r#"{"auths":{"registry.example.com:5000":{"auth":"eDp5"},"other.example.com":{"auth":"eDp5"}},"psFormat":"x"}"#;
    let path = home.file("docker/config.json", config.as_bytes());
    assert_eq!(
        home.ok(&["logout", "https://registry.example.com:5000/v2/"]),
        "Removing login credentials for registry.example.com:5000\n"
    );
    let left: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(left["auths"].as_object().unwrap().keys().collect::<Vec<_>>(), ["other.example.com"]);
    assert_eq!(left["psFormat"], "x");
    assert_eq!(home.ok(&["logout"]), "Removing login credentials for https://index.docker.io/v1/\n");
}

#[test]
fn names_that_are_none_are_refused_as_docker_refuses_them() {
    let home = Home::new();
    let ended = home.run(&["pull", "UPPER"]);
    assert_eq!(ended.status, 1);
    assert!(ended.error.starts_with("invalid reference format: repository name"), "{ended:?}");
    let ended = home.run(&["tag", "a", "B"]);
    assert!(
        ended
            .error
            .starts_with("Error parsing reference: \"B\" is not a valid repository/tag: invalid reference format"),
        "{ended:?}"
    );
    let ended = home.run(&["search", "x", "--limit", "1000"]);
    assert_eq!(ended.error, "Error response from daemon: Limit 1000 is outside the range of [1, 100]\n");
    let ended = home.run(&["search", "--limit", "0", "127.0.0.1:1/x"]);
    assert!(ended.error.contains("cannot be reached"), "0 is the default: {ended:?}");
}

/// A configuration with this entry under `auths` for a registry that is not there.
fn with_auth(entry: &str) -> Home {
    let home = Home::new();
    std::fs::create_dir(home.path().join("docker")).unwrap();
    home.file("docker/config.json", format!(r#"{{"auths":{{"127.0.0.1:1":{entry}}}}}"#).as_bytes());
    home
}

#[test]
fn a_token_that_is_kept_is_tried_and_not_believed() {
    let home = with_auth(r#"{"auth":"YWxpY2U6","identitytoken":"t"}"#);
    let ended = home.run(&["login", "127.0.0.1:1"]);
    assert_eq!((ended.status, ended.out.as_str()), (1, ""), "{ended:?}");
    assert!(ended.error.contains("[Username: alice]") && ended.error.contains("cannot be reached"), "{ended:?}");
}

#[test]
fn what_is_damaged_does_not_keep_anybody_from_logging_in() {
    let home = with_auth(r#"{"auth":"%%%"}"#);
    let ended = home.run_with(&["login", "-u", "alice", "--password-stdin", "127.0.0.1:1"], b"password");
    assert!(ended.error.contains("cannot be reached"), "{ended:?}");
    let ended = home.run(&["login", "127.0.0.1:1"]);
    assert!(ended.error.contains("The stored credentials are not used: "), "{ended:?}");
    assert!(ended.error.ends_with("Error: Cannot perform an interactive login from a non TTY device\n"), "{ended:?}");
}

#[test]
fn variables_that_are_set_to_nothing_are_not_set() {
    let home = Home::new();
    let mut command = home.command(&["--root", "elsewhere", "pull", "--platform", "", "127.0.0.1:1/x"]);
    for name in ["DOCKER_CONFIG", "COVE_ROOT", "COVE_RUN", "COVE_LOG", "DOCKER_DEFAULT_PLATFORM", "COVE_PROGRESS"] {
        command.env(name, "");
    }
    let output = command.current_dir(home.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && text.contains("cannot be reached"), "{text}");
}

#[test]
fn a_place_for_credentials_is_enough() {
    let home = Home::new();
    let config = home.path().join("config");
    std::fs::create_dir(&config).unwrap();
    let file = home.file("config/config.json", br#"{"auths":{"registry.example.com":{"auth":"eDp5"}}}"#);
    let mut command = home.command(&["--config", config.to_str().unwrap(), "logout", "registry.example.com"]);
    let output = command.env_remove("HOME").env_remove("DOCKER_CONFIG").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!std::fs::read_to_string(file).unwrap().contains("eDp5"), "the option is where the credentials lie");
}

#[test]
fn help_is_a_command_too() {
    let home = Home::new();
    assert_eq!(home.ok(&["help"]), home.ok(&["--help"]));
    assert_eq!(home.ok(&["help", "image", "ls"]), home.ok(&["image", "ls", "--help"]));
    assert_eq!(home.ok(&["--log-level", "warn", "help", "pull"]), home.ok(&["pull", "--help"]));
    let ended = home.run(&["help", "nosuch"]);
    assert_eq!((ended.status, ended.error.as_str()), (1, "unknown help topic: nosuch\n"));
}

#[test]
fn info_and_version_have_dockers_fields() {
    let home = Home::new();
    let json = |arguments: &[&str]| -> serde_json::Value { serde_json::from_str(&home.ok(arguments)).unwrap() };
    let info = json(&["-D", "info", "--format", "json"]);
    for name in [
        "ID",
        "CgroupDriver",
        "CgroupVersion",
        "SecurityOptions",
        "Runtimes",
        "DefaultRuntime",
        "Plugins",
        "DriverStatus",
        "Labels",
        "Warnings",
        "HttpProxy",
        "HttpsProxy",
        "NoProxy",
        "IndexServerAddress",
    ] {
        assert!(info.get(name).is_some(), "{name}: {info}");
    }
    assert_eq!(info["RegistryConfig"]["IndexConfigs"]["docker.io"]["Official"], true);
    assert_eq!(info["ID"].as_str().unwrap().len(), 36);
    assert_eq!((&info["Debug"], &info["ClientInfo"]["Debug"]), (&true.into(), &true.into()));
    assert!(home.ok(&["-D", "info"]).contains(" Debug Mode: true\n"));
    let mut command = home.command(&["info", "--format", "{{.HttpsProxy}}"]);
    let output = command.env("HTTPS_PROXY", "http://user:hunter2@proxy.example.com:3128").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "http://xxxxx:xxxxx@proxy.example.com:3128\n");
    let version = json(&["version", "--format", "json"]);
    assert!(version["Client"]["Platform"]["Name"].is_string() && version["Client"]["GoVersion"].is_string());
    assert!(!version["Server"]["KernelVersion"].as_str().unwrap().is_empty());
    assert!(version["Server"]["GoVersion"].is_string());
}
