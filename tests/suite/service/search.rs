//! `docker search` against the server.

use cove_tests::clients::{Client, Docker};
use cove_tests::{Image, Server};

/// The rows that docker prints, without its heading.
fn search(docker: &Docker, server: &Server, term: &str) -> Vec<String> {
    let format = "{{.Name}}|{{.Description}}|{{.StarCount}}|{{.IsOfficial}}";
    let term = format!("{}/{term}", server.address());
    let printed = docker.command().args(["search", "--no-trunc", "--format", format, &term]).ok();
    printed.lines().map(str::to_owned).collect()
}

#[test]
fn docker_search_shows_what_one_may_see() {
    let mut server = Server::start();
    let docker = Docker::new();
    let alice = server.add_user("alice");
    docker.login(&server.address(), &server.admin_login());
    let image = Image::new(1, 1000);
    for name in ["library/tool", "team/tool", "alice/tool"] {
        docker.push(&image, &format!("{}/{name}:latest", server.address()));
    }
    server.admin(["repo", "set", "library/tool", "--public", "--description", "A tool for everybody"]);
    let refused = server.command(["repo", "set", "team/absent", "--description", "x"]).fails();
    assert!(refused.contains("there is no repository `team/absent`"), "{refused}");
    server.command(["repo", "set", "team/tool", "--description", "two\nlines"]).fails();
    let official = "library/tool|A tool for everybody|0|[OK]";
    let all = [official, "alice/tool||0|", "team/tool||0|"];
    assert_eq!(search(&docker, &server, "tool"), all, "the administrator sees all");

    // docker keeps the refresh token that our token service gives it: searching with it goes through /token.
    let as_alice = docker.beside();
    as_alice.login(&server.address(), &alice);
    assert_eq!(search(&as_alice, &server, "tool"), all[..2]);
    let nobody = docker.beside();
    assert_eq!(search(&nobody, &server, "tool"), all[..1]);
    assert_eq!(search(&nobody, &server, "everybody"), all[..1], "descriptions are searched");
    assert_eq!(search(&nobody, &server, "nothing-like-it"), [""; 0]);

    // Pulls survive a restart, and put what is pulled first. docker pulls by tag once, and asks HEAD before.
    let reference = format!("{}/team/tool:latest", server.address());
    docker.try_pull(&reference).expect("pull");
    server.restart();
    assert_eq!(search(&docker, &server, "tool"), [all[0], all[2], all[1]]);
    let found = server.as_admin().get("/v1/search?q=team/tool").expect(200).json();
    assert_eq!(found["results"][0]["pull_count"], 1, "{found}");
}
