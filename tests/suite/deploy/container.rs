//! The image of `deploy/Containerfile`, built on a Debian base and run with docker.

use std::fs;
use std::time::Duration;

use cove_tests::clients::{Client, Docker};
use cove_tests::{Cmd, Image, Login, Registry, Scratch, Server, debian, free_port, wait_until};

use super::recipe;

/// Builds the image, and returns its name.
fn build(docker: &Docker) -> &'static str {
    docker.command().arg("import").arg(debian()).arg("cove-base").ok();
    let context = Scratch::new("context");
    fs::copy(Server::program(), context.join("cove-server")).expect("copy the program");
    let build = docker.command().env("DOCKER_BUILDKIT", "0").args(["build", "-q", "--build-arg", "BASE=cove-base"]);
    build.args(["-t", "cove-server", "-f"]).arg(recipe("Containerfile")).arg(context.path()).ok();
    "cove-server"
}

struct Container<'a> {
    docker: &'a Docker,
    address: String,
}

impl Container<'_> {
    fn start<'a>(docker: &'a Docker, image: &str, address: &str) -> Container<'a> {
        let run = docker.command().args(["run", "-d", "--name", "cove", "--network", "host", "--read-only"]);
        let run = run.args(["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "-v", "state:/var/lib/cove"]);
        let run = run.args(["--health-interval", "1s", "-e", &format!("COVE_LISTEN={address}")]);
        run.args(["-e", "COVE_ADMIN_PASSWORD=a-first-password", image]).ok();
        let container = Container { docker, address: address.to_owned() };
        wait_until("the container is healthy", Duration::from_secs(60), || {
            let state = container.inspect("{{.State.Status}} {{.State.Health.Status}}");
            assert!(!state.starts_with("exited"), "{}", container.logs());
            state == "running healthy"
        });
        container
    }

    fn inspect(&self, format: &str) -> String {
        self.docker.command().args(["inspect", "--format", format, "cove"]).ok()
    }

    fn logs(&self) -> String {
        self.docker.command().args(["logs", "cove"]).run().printed()
    }

    fn execute(&self, words: &[&str]) -> Cmd {
        self.docker.command().args(["exec", "cove"]).args(words)
    }

    /// `docker stop`, as deploy/Containerfile says; panics unless the server ends by itself.
    fn stop(self) {
        self.docker.command().args(["stop", "-t", "40", "cove"]).ok();
        assert_eq!(self.inspect("{{.State.ExitCode}}"), "0", "{}", self.logs());
        assert!(self.logs().contains("\"message\":\"stopped\""), "{}", self.logs());
        self.docker.command().args(["rm", "cove"]).ok();
    }
}

#[test]
fn the_image_runs_as_nobody_on_a_read_only_root_and_keeps_its_state() {
    let docker = Docker::new();
    let image = build(&docker);
    let address = format!("127.0.0.1:{}", free_port());
    let admin = Login::new("admin", "a-first-password");
    let container = Container::start(&docker, image, &address);

    assert_eq!(container.execute(&["id", "-u"]).ok(), "65532");
    container.execute(&["touch", "/etc/written"]).fails();
    assert!(container.execute(&["cove-server", "user", "list"]).ok().contains("admin"));
    container.execute(&["cove-server", "healthcheck"]).ok();
    let listed = docker.command().args(["image", "inspect", "--format", "{{json .Config.ExposedPorts}}", image]).ok();
    assert!(listed.contains("5000/tcp"), "{listed}");

    docker.login(&address, &admin);
    let name = format!("{address}/library/image:1");
    let digest = docker.push(&Image::new(2, 20_000_000), &name);
    assert_eq!(docker.pull(&name).manifest, digest);
    let served = Registry::with_login(&address, &admin).pull("library/image", "1");
    container.stop();

    let container = Container::start(&docker, image, &address);
    assert_eq!(Registry::with_login(&container.address, &admin).pull("library/image", "1"), served);
    assert_eq!(docker.pull(&name).manifest, digest, "the login is still good");
    let checked = container.execute(&["cove-server", "check", "--deep"]).ok();
    assert!(checked.contains("no problems"), "{checked}");
    container.stop();
}
