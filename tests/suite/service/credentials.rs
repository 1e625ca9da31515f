//! The files of credentials that docker and podman write are read by us, and what we write is read by docker.

use cove_oci::RegistryName;
use cove_remote::{Credential, CredentialPaths, CredentialSource, DockerConfig};
use cove_tests::clients::Docker;
use cove_tests::{Cmd, Login, Scratch, Server};

fn load(folder: &Scratch) -> DockerConfig {
    let podman = vec![folder.join("auth.json")];
    DockerConfig::load(CredentialPaths { docker: folder.join("config.json"), podman, helpers: None }).unwrap()
}

fn logged_in(docker: &Docker, folder: &Scratch, server: &Server, login: Option<&Login>) -> String {
    let command = docker.command().env("DOCKER_CONFIG", folder.path()).arg("login");
    match login {
        Some(login) => {
            let command = command.args(["-u", &login.user, "--password-stdin", &server.address()]);
            command.input(&login.password).ok()
        }
        None => command.arg(server.address()).ok(),
    }
}

#[test]
fn docker_and_we_use_one_file() {
    let server = Server::start();
    let docker = Docker::new();
    let folder = Scratch::new("credentials");
    let registry: RegistryName = server.address().parse().unwrap();
    let (admin, alice) = (server.admin_login(), server.add_user("alice"));

    // docker writes: a refresh token, for our token service gives one.
    logged_in(&docker, &folder, &server, Some(&alice));
    match load(&folder).find(&registry).unwrap() {
        Some(Credential::IdentityToken { username, token }) => {
            assert_eq!(username.as_deref(), Some("alice"));
            let form = format!("grant_type=refresh_token&service=cove-server&refresh_token={token}");
            let headers = [("content-type", "application/x-www-form-urlencoded")];
            server.as_anonymous().post("/token", &headers, form.as_bytes()).expect(200);
        }
        other => panic!("docker's file gave {other:?}"),
    }

    // We write: docker logs in with what it finds.
    let password = Credential::Password { username: admin.user.clone(), password: admin.password.clone() };
    load(&folder).store(&registry, &password).unwrap();
    let printed = logged_in(&docker, &folder, &server, None);
    assert!(printed.contains("Login Succeeded"), "{printed}");
    // It has exchanged the password for a token of its own; the name is still ours.
    assert_eq!(load(&folder).find(&registry).unwrap().unwrap().username(), Some("admin"));
    let wrong = Credential::Password { username: admin.user.clone(), password: "wrong".into() };
    load(&folder).store(&registry, &wrong).unwrap();
    let command = docker.command().env("DOCKER_CONFIG", folder.path()).args(["login", &server.address()]);
    command.fails();

    // Whoever logs out, both are.
    load(&folder).store(&registry, &password).unwrap();
    docker.command().env("DOCKER_CONFIG", folder.path()).args(["logout", &server.address()]).ok();
    assert_eq!(load(&folder).find(&registry).unwrap(), None);
}

#[test]
fn podmans_logins_are_ours_too() {
    let server = Server::start();
    let folder = Scratch::new("credentials");
    let alice = server.add_user("alice");
    for name in [server.address(), format!("{}/team", server.address())] {
        let command =
            Cmd::new("podman").args(["login", "--tls-verify=false", "--authfile"]).arg(folder.join("auth.json"));
        command.args(["-u", &alice.user, "--password-stdin", &name]).input(&alice.password).ok();
    }
    let config = load(&folder);
    let registry = server.address().parse().unwrap();
    let expected = Some(Credential::Password { username: alice.user, password: alice.password });
    assert_eq!(config.find(&registry).unwrap(), expected);
    assert_eq!(config.find_for(&registry, &"team/app".parse().unwrap()).unwrap(), expected);
    Cmd::new("podman").args(["logout", "--authfile"]).arg(folder.join("auth.json")).arg(server.address()).ok();
    assert_eq!(
        config.find_for(&registry, &"team/app".parse().unwrap()).unwrap(),
        expected,
        "the namespace has its own"
    );
}
