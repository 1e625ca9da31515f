//! The systemd unit and the compose file, read by the programs that they are for.

use cove_tests::{Cmd, Scratch, Server};

use super::{recipe, recipe_text, replaced};

#[test]
fn systemd_accepts_the_unit() {
    let folder = Scratch::new("unit");
    let program = Server::program().display().to_string();
    let unit = replaced(&recipe_text("cove-server.service"), "/usr/local/bin/cove-server\n", &format!("{program}\n"));
    let unit = folder.write("cove-server.service", unit);
    let verified = Cmd::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).run();
    assert!(verified.succeeded(), "{verified}");
    let about_us: Vec<_> = verified.stderr.lines().filter(|line| line.contains("cove-server.service")).collect();
    assert!(about_us.is_empty(), "{about_us:?}");
    // Exposure of 10 is that of a unit without any hardening; most services that ship with a system have 9.
    let security = ["security", "--offline=yes", "--threshold=20", "--no-pager"];
    Cmd::new("systemd-analyze").args(security).arg(&unit).ok();
}

#[test]
fn the_compose_file_is_complete_with_the_example_and_refuses_to_go_without_secrets() {
    let folder = Scratch::new("compose");
    let compose = |environment: &std::path::Path| {
        let command = Cmd::new("docker-compose").arg("-f").arg(recipe("compose.yaml"));
        command.env("HOME", folder.path()).arg("--env-file").arg(environment).arg("config")
    };
    let shown = compose(&recipe("env.example")).ok();
    let example = recipe_text("env.example");
    let secrets = example.lines().filter_map(|line| line.split_once('=').filter(|_| !line.starts_with('#')));
    for (name, value) in secrets {
        assert!(shown.contains(value), "{name} is used: {shown}");
        let without: String =
            example.lines().filter(|line| !line.starts_with(name)).map(|l| format!("{l}\n")).collect();
        let printed = compose(&folder.write("env", without)).fails();
        assert!(printed.contains(name) || printed.contains("set it in .env"), "without {name}: {printed}");
    }
    for word in ["cove", "postgres", "s3"] {
        assert!(shown.contains(&format!("  {word}:\n")), "the service {word}: {shown}");
    }
    // Every variable that it gives to the server is a setting.
    let table = recipe_text("README.md");
    let variables = shown.lines().filter_map(|line| line.trim().split_once(':')).map(|(name, _)| name);
    let variables: Vec<_> = variables.filter(|name| name.starts_with("COVE_")).collect();
    assert!(variables.len() >= 7, "{variables:?}");
    for name in variables {
        assert!(table.contains(&format!("`{name}`")), "{name} is no setting");
    }
}
