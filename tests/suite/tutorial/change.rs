//! An image from a registry, a program installed in a container of it, the change committed, pushed, and run by docker.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use cove_tests::clients::{Client, Docker};
use cove_tests::{Cmd, CoveEngine, Login, Scratch, Server, Terminal, sha256_of_file};

use super::{LIMIT, answers, id, is_clean};

#[test]
fn a_program_is_installed_and_committed() {
    // What runs beside the test lies in the machine's own network, the containers in one of their own.
    let (server, network) = (Server::start(), File::open("/proc/thread-self/ns/net").unwrap());
    let docker = Docker::new();
    let hub = Hub { server, network };
    let engine = CoveEngine::with_small_debian();
    let committed = change(&engine, &hub);
    docker.login(&hub.server.address(), &hub.server.admin_login());
    docker.command().args(["pull", &committed]).limit(LIMIT).ok();
    let run = docker.command().args(["run", "--rm", "--network", "none", &committed, "git", "--version"]);
    assert_eq!(run.ok(), "git version 99.0");
}

/// A registry that is reached from outside of the containers' network.
struct Hub {
    server: Server,
    network: File,
}

impl Hub {
    fn outside(&self, command: Cmd) -> Cmd {
        let network = format!("--net=/proc/{}/fd/{}", std::process::id(), self.network.as_raw_fd());
        command.wrapped("nsenter", &[&network, "--"]).limit(LIMIT)
    }
}

/// A repository of apt with a package `git`, newer than all others.
fn repository() -> Scratch {
    let repository = Scratch::new("repository");
    let tree = Scratch::new("package");
    let program = {
        tree.folder("usr/bin");
        tree.write("usr/bin/git", "#!/bin/sh\necho git version 99.0\n")
    };
    std::fs::set_permissions(program, PermissionsExt::from_mode(0o755)).unwrap();
    let fields = "Package: git\nVersion: 1:99.0-1\nArchitecture: all\nMaintainer: Somebody <nobody@example.com>\n\
                  Description: stands for a program\n";
    tree.folder("DEBIAN");
    tree.write("DEBIAN/control", fields);
    let package: PathBuf = repository.join("git.deb");
    Cmd::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(tree.path()).arg(&package).ok();
    let (size, digest) = (std::fs::metadata(&package).unwrap().len(), sha256_of_file(&package));
    let digest = digest.trim_start_matches("sha256:");
    repository.write("Packages", format!("{fields}Filename: ./git.deb\nSize: {size}\nSHA256: {digest}\n"));
    repository
}

/// The chapter; the name of what was committed in the registry.
fn change(engine: &CoveEngine, hub: &Hub) -> String {
    let (address, repository) = (hub.server.address(), repository());
    let Login { user, password } = hub.server.admin_login();
    let login = engine.words(["login", "-u", &user, "--password-stdin", &address]).input(password);
    assert!(hub.outside(login).ok().contains("Login Succeeded"));
    let base = format!("{address}/library/debian:12");
    engine.words(["tag", "debian:12", &base]).ok();
    hub.outside(engine.words(["push", &base])).ok();
    engine.words(["rmi", "debian:12", &base]).ok();

    let found = hub.outside(engine.words(["search", &format!("{address}/debian")])).ok();
    assert!(found.contains("debian"), "{found}");
    let pulled = hub.outside(engine.words(["pull", &base])).ok();
    assert!(pulled.contains("Status: Downloaded newer image for") && pulled.ends_with(&base), "{pulled}");
    assert!(engine.words(["images"]).ok().contains(&format!("{address}/library/debian")));

    let mount = format!("{}:/repository:ro", repository.path().display());
    let serves = ["python3", "-m", "http.server", "80"];
    engine.run(["-d", "--name", "repository", "-v", &mount, "-w", "/repository", &base]).args(serves).ok();
    let mut shell = Terminal::run(&engine.run(["-it", "--name", "work", &base, "/bin/bash"]), 100);
    shell.wait_for("# ");
    let long = id(engine, "work");
    let prompt = format!("root@{}:/# ", &long[..12]);
    shell.wait_for(&prompt);
    answers(&mut shell, "git --version", "git: command not found", 1);
    answers(&mut shell, "stty size", "24 100", 1);
    shell.resize(40, 133);
    answers(&mut shell, "sleep 1; stty size", "40 133", 1);
    shell.press("sleep 1000\r");
    shell.wait_for("sleep 1000\r\n");
    shell.wait_until_quiet();
    shell.press("\x03");
    answers(&mut shell, "echo ended with $?", "ended with 130", 1);
    let source = "echo 'deb [trusted=yes] http://repository/ ./' > /etc/apt/sources.list";
    answers(&mut shell, &format!("{source} && apt-get update; echo updated: $?"), "updated: 0", 1);
    answers(&mut shell, "apt-get install -y git; echo installed: $?", "installed: 0", 1);
    answers(&mut shell, "git --version", "git version 99.0", 1);
    shell.press("exit\r");
    assert_eq!(shell.wait().code(), Some(0), "{}", shell.shown());

    let listed = engine.words(["ps", "-a", "--filter", "name=work"]).ok();
    assert!(
        listed.contains(&long[..12]) && listed.contains("\"/bin/bash\"") && listed.contains("Exited (0)"),
        "{listed}"
    );
    let changes = engine.words(["diff", "work"]).ok();
    assert!(changes.lines().any(|line| line == "A /usr/bin/git"), "{changes}");
    assert!(changes.lines().any(|line| line == "C /etc/apt/sources.list"), "{changes}");
    let made = format!("{address}/library/debian:git");
    let image = engine.words(["commit", "-m", "git is there", "-a", "Somebody", "work", &made]).limit(LIMIT).ok();
    assert!(image.starts_with("sha256:"), "{image}");
    let history = engine.words(["history", "--format", "{{.Comment}}", &made]).ok();
    assert_eq!(history.lines().next(), Some("git is there"));
    assert_eq!(engine.run(["--rm", &made, "git", "--version"]).ok(), "git version 99.0");
    assert_eq!(engine.run(["--rm", &base, "git", "--version"]).run().code, Some(127), "the image is as it was");
    let pushed = hub.outside(engine.words(["push", &made])).ok();
    assert!(pushed.contains("git: digest: sha256:"), "{pushed}");

    // Another shell in it: its status is that of `run`.
    let mut shell = Terminal::run(&engine.run(["-it", "--rm", &made, "bash"]), 80);
    shell.wait_for(":/# ");
    shell.press("exit 3\r");
    assert_eq!(shell.wait().code(), Some(3), "{}", shell.shown());
    engine.words(["rm", "work"]).ok();
    engine.words(["rm", "-f", "repository"]).ok();
    is_clean(engine, &[long]);
    made
}
