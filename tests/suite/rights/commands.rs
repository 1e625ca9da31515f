//! The administrator's commands beside a running server: each takes effect with the next request.

use cove_tests::{Login, Postgres, Server, ServerBuilder};

use crate::{field, status, status_with};

fn bearer(server: &Server, login: &Login, scope: &str) -> String {
    field(&server.as_user(login).get(&format!("/token?scope={scope}")).expect(200), "token")
}

fn commands(builder: ServerBuilder) {
    let server = builder.start();
    let tags = "/v2/team/app/tags/list";
    server.as_admin().push_blob("team/app", b"content of the team");

    // Accounts.
    assert_eq!(status(&server, &Login::new("alice", "the-password-of-alice"), "/v2/"), 401);
    let alice = server.add_user("alice");
    assert_eq!(status(&server, &alice, "/v2/"), 200);
    assert!(server.command(["user", "add", "alice"]).fails().contains("exists already"));
    for wrong in ["library", "anonymous", "Alice", "a/b", "a:b", ""] {
        server.command(["user", "add", wrong]).fails();
    }
    let printed = server.admin(["user", "add", "bob"]);
    let made_up = printed.rsplit("password: ").next().expect("a password is made up and printed");
    assert_eq!(status(&server, &Login::new("bob", made_up), "/v2/"), 200);
    let printed = server.admin(["user", "passwd", "bob"]);
    let changed = printed.rsplit("password: ").next().expect("a password is made up and printed");
    assert_eq!(status(&server, &Login::new("bob", made_up), "/v2/"), 401);
    assert_eq!(status(&server, &Login::new("bob", changed), "/v2/"), 200);
    let chief = Login::new("chief", "the-password-of-chief");
    server.command(["user", "add", "chief", "--admin", "--password-stdin"]).input(&chief.password).ok();
    assert_eq!(status(&server, &chief, tags), 200, "administrators may everything");
    server.admin(["user", "add", "robot", "--robot"]);
    server.command(["user", "passwd", "robot"]).fails();
    server.command(["user", "add", "android", "--robot", "--admin"]).fails();

    // A password that was remembered a moment ago ends at once, and what was bought with it.
    let token = bearer(&server, &alice, "repository:alice/app:pull");
    assert_eq!(status_with(&server, &token, "/v2/"), 200);
    server.command(["user", "passwd", "alice", "--password-stdin"]).input("another-password\n").ok();
    assert_eq!(status(&server, &alice, "/v2/"), 401);
    assert_eq!(status_with(&server, &token, "/v2/"), 401);
    let alice = Login::new("alice", "another-password");
    let token = bearer(&server, &alice, "repository:alice/app:pull");
    for (command, expected) in [("disable", 401), ("enable", 200)] {
        server.admin(["user", command, "alice"]);
        assert_eq!(status(&server, &alice, "/v2/"), expected, "after user {command}");
        assert_eq!(status_with(&server, &token, "/v2/"), expected, "after user {command}");
    }
    let listed = server.admin(["user", "list"]);
    for (name, kind) in [("admin", "user, admin"), ("alice", "user"), ("chief", "user, admin"), ("robot", "robot")] {
        assert!(listed.lines().any(|line| line.starts_with(name) && line.ends_with(kind)), "{name}: {listed}");
    }

    // Grants: the token's scope stays, the rights are looked up.
    let scope = "repository:team/app:pull,push,delete";
    assert_eq!(status(&server, &alice, tags), 404, "as if there were nothing");
    server.admin(["grant", "alice", "team/*", "pull"]);
    assert_eq!(status(&server, &alice, tags), 200);
    server.as_user(&alice).post("/v2/team/app/blobs/uploads/", &[], b"").expect(403);
    server.admin(["grant", "alice", "team/*", "push"]);
    server.as_user(&alice).post("/v2/team/app/blobs/uploads/", &[], b"").expect(202);
    let token = bearer(&server, &alice, scope);
    assert_eq!(status_with(&server, &token, tags), 200);
    let listed = server.admin(["grants"]);
    let granted = |line: &str| line.split_whitespace().eq(["alice", "team/*", "push"]);
    assert!(listed.lines().any(granted), "{listed}");
    server.admin(["revoke", "alice", "team/*"]);
    assert!(!server.admin(["grants"]).contains("alice"));
    assert_eq!(status(&server, &alice, tags), 404);
    assert_eq!(status_with(&server, &token, tags), 404, "in the token's scope, and not allowed any more");
    server.as_anonymous().with_token(&token).post("/v2/team/app/blobs/uploads/", &[], b"").expect(403);
    server.command(["revoke", "alice", "team/*"]).fails();
    for wrong in
        [["alice", "team/", "pull"], ["alice", "*", "pull"], ["alice", "team/*", "fly"], ["nobody", "a", "pull"]]
    {
        server.command(["grant", wrong[0], wrong[1], wrong[2]]).fails();
    }

    // Visibility, and grants to everybody.
    let anonymous = bearer_of_nobody(&server);
    assert_eq!(status_with(&server, &anonymous, tags), 401, "there was nothing to cover");
    server.admin(["repo", "set", "team/app", "--public"]);
    let anonymous = bearer_of_nobody(&server);
    assert_eq!(status_with(&server, &anonymous, tags), 200);
    assert_eq!(status(&server, &alice, tags), 200);
    server.admin(["repo", "set", "team/app", "--private"]);
    assert_eq!(status_with(&server, &anonymous, tags), 404);
    server.admin(["grant", "anonymous", "team/app", "pull"]);
    assert_eq!(status_with(&server, &anonymous, tags), 200);
    assert_eq!(status(&server, &alice, tags), 200);
    server.admin(["revoke", "anonymous", "team/app"]);
    assert_eq!(status_with(&server, &anonymous, tags), 404);

    // Personal access tokens, of people and robots.
    server.admin(["grant", "robot", "team/*", "delete"]);
    let create = ["token", "create", "robot", "--name", "ci", "--scope", "repository:team/*:pull", "--expires", "90d"];
    let robot = Login::new("robot", &server.admin(create));
    assert_eq!(status(&server, &robot, tags), 200);
    server.as_user(&robot).post("/v2/team/app/blobs/uploads/", &[], b"").expect(403);
    let token = bearer(&server, &robot, scope);
    assert_eq!(status_with(&server, &token, tags), 200);
    let listed = server.admin(["token", "list", "robot"]);
    let line = listed.lines().find(|line| line.contains("ci")).unwrap_or_else(|| panic!("no token in {listed}"));
    assert!(line.contains("repository:team/*:pull") && !listed.contains(&robot.password), "{listed}");
    server.admin(["token", "revoke", line.split_whitespace().next().expect("an id")]);
    assert_eq!(status(&server, &robot, tags), 401);
    assert_eq!(status_with(&server, &token, tags), 401);
    server.command(["token", "revoke", "999999"]).fails();
    server.command(["token", "create", "robot", "--scope", "team/*"]).fails();
    server.command(["token", "create", "nobody"]).fails();

    // Repositories.
    let listed = server.admin(["repo", "list"]);
    assert!(listed.lines().any(|line| line.starts_with("team/app") && line.contains("private")), "{listed}");
    server.admin(["repo", "rm", "team/app"]);
    assert_eq!(status(&server, &server.admin_login(), tags), 404);
    server.command(["repo", "rm", "team/app"]).fails();

    // An account that goes takes what it was given with it; another of that name is somebody else.
    let token = bearer(&server, &alice, "repository:alice/app:pull,push");
    let upload = server.as_anonymous().with_token(&token).begin_upload("alice/app");
    server.admin(["user", "rm", "alice"]);
    assert_eq!(status(&server, &alice, "/v2/"), 401);
    assert_eq!(status_with(&server, &token, "/v2/"), 401);
    let alice = server.add_user("alice");
    assert_eq!(status(&server, &alice, "/v2/"), 200);
    assert_eq!(status_with(&server, &token, "/v2/"), 401);
    assert_eq!(status(&server, &alice, &upload), 404, "an upload of somebody who had the name before");
    for command in ["disable", "enable", "rm", "passwd"] {
        let printed = server.command(["user", command, "nobody"]).fails();
        assert!(printed.contains("there is no account `nobody`"), "{printed}");
    }
}

fn bearer_of_nobody(server: &Server) -> String {
    field(&server.as_anonymous().get("/token?scope=repository:team/app:pull").expect(200), "token")
}

#[test]
fn commands_beside_a_server_on_sqlite() {
    commands(Server::builder());
}

#[test]
fn commands_beside_a_server_on_postgresql() {
    let postgres = Postgres::start();
    commands(Server::builder().database(&postgres.url()));
}

#[test]
fn new_repositories_are_private_unless_the_operator_says_otherwise() {
    for (arguments, expected) in [(vec![], 404), (vec!["--default-visibility", "public"], 200)] {
        let server = Server::builder().args(arguments).start();
        let (alice, bob) = (server.add_user("alice"), server.add_user("bob"));
        server.as_user(&alice).push_blob("alice/app", b"content");
        assert_eq!(status(&server, &bob, "/v2/alice/app/tags/list"), expected);
    }
}
