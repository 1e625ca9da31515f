//! 2,000 random requests over HTTP on each back end, compared with the reference. A hundred thousand go through
//! the router in the process: `server/tests/rights.rs`.

use cove_tests::rights::{Change, Reply, Request, Subject, World};
use cove_tests::{Cmd, Dice, Postgres, Registry, S3, Server, ServerBuilder};

const REQUESTS: usize = 2000;
/// Unless `COVE_TESTS_SEED` says otherwise.
const SEED: u64 = 20_240_229;

/// The program, with its commands for changes.
struct OverHttp {
    server: Server,
    registry: Registry,
    addresses: Dice,
}

impl OverHttp {
    fn command(&self, words: &[&str]) -> Cmd {
        self.server.command([]).args(words)
    }
}

impl Subject for OverHttp {
    fn ask(&mut self, request: &Request) -> Reply {
        // Failed logins slow an address down: everybody comes from somewhere else.
        let number = self.addresses.number() as u32;
        let client = std::net::Ipv4Addr::from(0x0a00_0000 | (number & 0x00ff_ffff)).to_string();
        let mut headers = vec![("X-Forwarded-For", client.as_str())];
        headers.extend(request.authorization.as_deref().map(|value| ("Authorization", value)));
        headers.extend(request.content_type.map(|value| ("Content-Type", value)));
        let answer = match request.method {
            "GET" | "HEAD" | "DELETE" => self.registry.send(request.method, &request.path, &headers, ()),
            method => self.registry.send(method, &request.path, &headers, &request.body),
        };
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("a header that is text");
        Reply {
            status: answer.status,
            headers: answer.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect(),
            body: answer.body,
        }
    }

    fn change(&mut self, change: &Change) -> String {
        let grantee = |to: &Option<String>| to.clone().unwrap_or_else(|| "anonymous".to_owned());
        match change {
            Change::AddAccount { name, robot: true, .. } => self.command(&["user", "add", name, "--robot"]).ok(),
            Change::AddAccount { name, administrator, password, .. } => {
                let command = self.command(&["user", "add", name, "--password-stdin"]).input(password);
                if *administrator { command.arg("--admin").ok() } else { command.ok() }
            }
            Change::SetPassword { name, password } => {
                self.command(&["user", "passwd", name, "--password-stdin"]).input(password).ok()
            }
            Change::SetDisabled { name, disabled } => {
                self.command(&["user", if *disabled { "disable" } else { "enable" }, name]).ok()
            }
            Change::RemoveAccount { name } => self.command(&["user", "rm", name]).ok(),
            Change::CreateToken { account, name, limits, expired } => {
                let command = self.command(&["token", "create", account, "--name", name]);
                let scopes = limits.iter().flat_map(|limits| limits.scopes());
                let command = scopes.fold(command, |command, scope| command.args(["--scope", &scope]));
                if *expired { command.args(["--expires", "1ms"]).ok() } else { command.ok() }
            }
            Change::RevokeToken { account, name } => {
                let listed = self.command(&["token", "list", account]).ok();
                let line = listed.lines().find(|line| line.split_whitespace().nth(2) == Some(name));
                let id = line.and_then(|line| line.split_whitespace().next());
                self.command(&["token", "revoke", id.unwrap_or_else(|| panic!("no {name} in {listed}"))]).ok()
            }
            Change::Grant { to, pattern, level } => self.command(&["grant", &grantee(to), pattern, level.word()]).ok(),
            Change::Revoke { to, pattern } => self.command(&["revoke", &grantee(to), pattern]).ok(),
            Change::SetVisibility { repository, public } => {
                self.command(&["repo", "set", repository, if *public { "--public" } else { "--private" }]).ok()
            }
            Change::RemoveRepository { repository } => self.command(&["repo", "rm", repository]).ok(),
        }
    }

    fn admin_password(&self) -> String {
        self.server.admin_login().password
    }
}

fn compare(builder: ServerBuilder) {
    let seed = std::env::var("COVE_TESTS_SEED").map_or(SEED, |seed| seed.parse().expect("COVE_TESTS_SEED is a number"));
    println!("COVE_TESTS_SEED={seed}");
    let server = builder.args(["--trusted-proxy", "127.0.0.1"]).start();
    let registry = server.as_anonymous();
    let mut subject = OverHttp { server, registry, addresses: Dice::new(seed) };
    let mut world = World::new(seed, false, &mut subject);
    world.run(REQUESTS, &mut subject);
    println!("{:#?}", world.counts);
    world.counts.assert_varied();
    subject.server.check();
}

#[test]
fn every_answer_on_sqlite_and_a_folder() {
    compare(Server::builder());
}

#[test]
fn every_answer_on_postgresql_and_a_folder() {
    let postgres = Postgres::start();
    compare(Server::builder().database(&postgres.url()));
}

#[test]
fn every_answer_on_postgresql_and_s3() {
    let (postgres, s3) = (Postgres::start(), S3::start());
    compare(Server::builder().database(&postgres.url()).s3(&s3, "rights"));
}
