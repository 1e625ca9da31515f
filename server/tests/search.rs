//! `/v1/search`: what it finds, for whom, in which order; and how pulls are counted.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{ADMIN_PASSWORD, InProcess};
use cove_oci::Action;
use cove_server::metadata::{MetadataStore, Policy, Viewer, Visibility};
use cove_server::pulls;
use cove_tests::Postgres;
use cove_tests::rights::{Change, Reply, Request, Subject};
use serde_json::{Value, json};

const PASSWORD: &str = "password-of-ann-and-nobody-else";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn ask(
    server: &mut InProcess,
    method: &'static str,
    path: &str,
    authorization: Option<String>,
    content_type: Option<&'static str>,
    body: &str,
) -> Reply {
    server.ask(&Request { method, path: path.to_owned(), authorization, content_type, body: body.into() })
}

fn basic(name: &str, secret: &str) -> Option<String> {
    Some(format!("Basic {}", STANDARD.encode(format!("{name}:{secret}"))))
}

fn admin() -> Option<String> {
    basic("admin", ADMIN_PASSWORD)
}

fn push(server: &mut InProcess, repository: &str) -> String {
    let config = format!("{{\"of\":\"{repository}\"}}");
    let digest = cove_tests::sha256(&config);
    let upload = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
    assert_eq!(ask(server, "POST", &upload, admin(), None, &config).status, 201);
    let config =
        json!({ "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": config.len() });
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [] }).to_string();
    let path = format!("/v2/{repository}/manifests/latest");
    assert_eq!(ask(server, "PUT", &path, admin(), Some(MANIFEST), &manifest).status, 201);
    let digest = cove_tests::sha256(&manifest);
    let child = json!({ "mediaType": MANIFEST, "digest": digest, "size": manifest.len() });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [child] }).to_string();
    let path = format!("/v2/{repository}/manifests/index");
    assert_eq!(ask(server, "PUT", &path, admin(), Some(INDEX), &index).status, 201);
    digest
}

fn search(server: &mut InProcess, query: &str, authorization: Option<String>) -> Value {
    let reply = ask(server, "GET", &format!("/v1/search?{query}"), authorization, None, "");
    assert_eq!(reply.status, 200, "{reply:?}");
    serde_json::from_slice(&reply.body).unwrap()
}

fn names(found: &Value) -> Vec<String> {
    let results = found["results"].as_array().unwrap();
    results.iter().map(|result| result["name"].as_str().unwrap().to_owned()).collect()
}

fn found(server: &mut InProcess, query: &str, authorization: Option<String>) -> Vec<String> {
    names(&search(server, query, authorization))
}

fn set_public(server: &InProcess, repository: &str) {
    let repository = repository.parse().unwrap();
    server.runtime.block_on(server.store.set_visibility(&repository, Visibility::Public)).unwrap();
}

fn pull_count(server: &mut InProcess, repository: &str) -> u64 {
    server.runtime.block_on(pulls::write(&server.server));
    let found = search(server, &format!("q={repository}"), admin());
    let result = found["results"].as_array().unwrap().iter().find(|result| result["name"] == repository).unwrap();
    result["pull_count"].as_u64().unwrap()
}

#[test]
fn a_search_shows_what_its_caller_may_see() {
    let mut server = InProcess::start(false);
    for name in ["ann", "bob"] {
        let password = PASSWORD.to_owned();
        server.change(&Change::AddAccount { name: name.into(), robot: false, administrator: false, password });
    }
    for repository in ["ann/app", "bob/app", "team/app", "library/app", "team/tool"] {
        push(&mut server, repository);
    }
    // Nothing was ever pushed to it: there is nothing to find.
    set_public(&server, "empty/app");
    set_public(&server, "library/app");
    let grant = |to: Option<i64>, pattern: &str| {
        server.runtime.block_on(server.store.grant(to, pattern, Action::Pull)).unwrap()
    };
    let ann = server.runtime.block_on(server.store.account("ann")).unwrap().unwrap().id;
    grant(Some(ann), "team/app");
    let everything = ["library/app", "ann/app", "bob/app", "team/app"];
    assert_eq!(found(&mut server, "q=app", admin()), everything);
    assert_eq!(found(&mut server, "q=app", basic("ann", PASSWORD)), ["library/app", "ann/app", "team/app"]);
    assert_eq!(found(&mut server, "q=app", basic("bob", PASSWORD)), ["library/app", "bob/app"]);
    assert_eq!(found(&mut server, "q=app", None), ["library/app"]);
    assert_eq!(found(&mut server, "q=", None), ["library/app"], "no term: everything that is public");

    // A wrong password is told, and not taken for nobody.
    assert_eq!(ask(&mut server, "GET", "/v1/search?q=app", basic("ann", "wrong"), None, "").status, 401);
    // docker with an identity token asks for this scope.
    let path = "/token?service=cove-server&scope=registry:catalog:search";
    let reply = ask(&mut server, "GET", path, basic("ann", PASSWORD), None, "");
    let token = serde_json::from_slice::<Value>(&reply.body).unwrap()["token"].as_str().unwrap().to_owned();
    let bearer = Some(format!("Bearer {token}"));
    assert_eq!(found(&mut server, "q=app", bearer), ["library/app", "ann/app", "team/app"]);
    // A token for something else allows no list.
    let reply = ask(&mut server, "GET", "/token?scope=repository:ann/app:pull", basic("ann", PASSWORD), None, "");
    let token = serde_json::from_slice::<Value>(&reply.body).unwrap()["token"].as_str().unwrap().to_owned();
    assert_eq!(ask(&mut server, "GET", "/v1/search?q=app", Some(format!("Bearer {token}")), None, "").status, 401);
    assert_eq!(ask(&mut server, "POST", "/v1/search?q=app", admin(), None, "").status, 405);
    let ping = ask(&mut server, "GET", "/v1/_ping", None, None, "");
    assert_eq!((ping.status, ping.header("x-docker-registry-standalone")), (200, Some("true")));
}

#[test]
fn limits_of_a_token_hold_for_a_search() {
    use cove_tests::rights::reference::{Action::Pull, Limits};
    let mut server = InProcess::start(false);
    let (name, password) = ("ann".to_owned(), PASSWORD.to_owned());
    server.change(&Change::AddAccount { name, robot: false, administrator: false, password });
    for repository in ["ann/app", "ann/app-two", "ann/app-three"] {
        push(&mut server, repository);
    }
    let mut token = |name: &str, catalog: bool| {
        let limits = Some(Limits { repositories: vec![("ann/app".to_owned(), vec![Pull])], catalog });
        let change = Change::CreateToken { account: "ann".into(), name: name.to_owned(), limits, expired: false };
        server.change(&change)
    };
    let (listing, other) = (token("listing", true), token("other", false));
    let result = search(&mut server, "q=app", basic("ann", &listing));
    assert_eq!((names(&result), &result["num_results"]), (vec!["ann/app".to_owned()], &json!(1)));
    assert_eq!(ask(&mut server, "GET", "/v1/search?q=app", basic("ann", &other), None, "").status, 403);
}

#[test]
fn names_and_descriptions_are_searched_official_and_pulled_first() {
    let mut server = InProcess::start(true);
    for repository in ["team/debian-tools", "library/debian", "library/debian-slim", "bob/debian", "bob/other"] {
        push(&mut server, repository);
    }
    let describe = |name: &str, text: &str| {
        server.runtime.block_on(server.store.set_description(&name.parse().unwrap(), text)).unwrap()
    };
    assert!(describe("bob/other", "Not DEBIAN at all: 100% _own_ 'work'"));
    assert!(!describe("bob/absent", "x"));
    for _ in 0..3 {
        ask(&mut server, "GET", "/v2/library/debian-slim/manifests/latest", admin(), None, "");
    }
    ask(&mut server, "GET", "/v2/team/debian-tools/manifests/latest", admin(), None, "");
    server.runtime.block_on(pulls::write(&server.server));
    let in_order = ["library/debian-slim", "library/debian", "team/debian-tools", "bob/debian", "bob/other"];
    assert_eq!(found(&mut server, "q=debian", None), in_order);
    assert_eq!(found(&mut server, "q=DeBian", None), in_order);
    // Characters that a pattern would have a meaning for are themselves.
    for (term, expected) in
        [("%25", &["bob/other"][..]), ("_own_%20%27", &["bob/other"]), ("b_b", &[]), ("debian'", &[])]
    {
        assert_eq!(found(&mut server, &format!("q={term}"), None), expected, "{term}");
    }
    let page = search(&mut server, "q=debian&n=2&page=2", None);
    assert_eq!(names(&page), &in_order[2..4]);
    let expected = json!({ "query": "debian", "num_results": 5, "num_pages": 3, "page": 2, "page_size": 2 });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&page[field], value, "{field}");
    }
    assert_eq!(found(&mut server, "q=debian&n=2&page=4", None), [""; 0]);
    assert_eq!(found(&mut server, "q=debian&n=0", None).len(), 5);
    assert_eq!(found(&mut server, &format!("q={}", "x".repeat(5000)), None), [""; 0]);
    assert_eq!(ask(&mut server, "GET", "/v1/search?q=a&n=many", None, None, "").status, 400);
    assert_eq!(
        search(&mut server, "q=not%20debian", None)["results"],
        json!([{ "name": "bob/other", "description": "Not DEBIAN at all: 100% _own_ 'work'", "star_count": 0,
            "is_official": false, "is_automated": false, "is_trusted": false, "pull_count": 0 }])
    );
}

#[test]
fn pulls_are_counted_once_an_image_and_disturb_nothing() {
    let mut server = InProcess::start(true);
    let digest = push(&mut server, "bob/app");
    let generation = server.store.generation();
    assert!(generation.is_some());
    for (method, reference, counted) in [
        ("HEAD", "latest", 0),
        ("GET", "latest", 1),
        ("GET", &digest, 2),
        ("HEAD", &digest, 2),
        ("GET", "index", 2),
        ("GET", "absent", 2),
    ] {
        ask(&mut server, method, &format!("/v2/bob/app/manifests/{reference}"), admin(), None, "");
        assert_eq!(pull_count(&mut server, "bob/app"), counted, "{method} {reference}");
    }
    assert_eq!(server.store.generation(), generation, "kept answers must stay good while pulls are counted");
    // What was pulled from a repository that is gone meanwhile is forgotten with it.
    ask(&mut server, "GET", "/v2/bob/app/manifests/latest", admin(), None, "");
    server.change(&Change::RemoveRepository { repository: "bob/app".into() });
    push(&mut server, "bob/other");
    ask(&mut server, "GET", "/v2/bob/other/manifests/latest", admin(), None, "");
    assert_eq!(pull_count(&mut server, "bob/other"), 1);
    push(&mut server, "bob/app");
    assert_eq!(pull_count(&mut server, "bob/app"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_servers_add_up() {
    let postgres = Postgres::start();
    let policy = Policy { visibility: Visibility::Public, ..Policy::default() };
    let one = MetadataStore::open(&postgres.url(), policy).await.unwrap();
    let two = MetadataStore::open(&postgres.url(), policy).await.unwrap();
    let repositories: Vec<_> = ["a/a", "b/b", "c/c"].into_iter().map(|name| name.parse().unwrap()).collect();
    for repository in &repositories {
        one.set_visibility(repository, Visibility::Public).await.unwrap();
        assert!(one.set_description(repository, "Some TEXT about it").await.unwrap());
    }
    let writer = |store: MetadataStore, mut pulls: Vec<_>| async move {
        pulls.reverse(); // not even in the same order
        for _ in 0..50 {
            store.add_pulls(&pulls).await.unwrap();
        }
    };
    let pulls: Vec<_> = repositories.iter().cloned().map(|repository| (repository, 2)).collect();
    let (first, second) = (writer(one.clone(), pulls.clone()), writer(two.clone(), pulls.into_iter().rev().collect()));
    tokio::join!(tokio::spawn(first), tokio::spawn(second)).0.unwrap();
    use sqlx::{Connection, Row};
    let mut connection = sqlx::PgConnection::connect(&postgres.url()).await.unwrap();
    let rows = sqlx::query("SELECT total FROM pulls").fetch_all(&mut connection).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [200, 200, 200]);
    // The statement of the search is PostgreSQL's too. Nothing has a manifest here, so nothing is found.
    let (total, found) = two.search(&Viewer::default(), "text", 0, 10).await.unwrap();
    assert_eq!((total, found.len()), (0, 0));
    let insert = "INSERT INTO manifests (repository_id, digest, media_type, bytes, created_ms)
                  SELECT id, 'sha256:x', 'x', '', 0 FROM repositories";
    sqlx::query(insert).execute(&mut connection).await.unwrap();
    let (total, found) = two.search(&Viewer::default(), "text", 1, 1).await.unwrap();
    assert_eq!((total, found[0].name.as_str(), found[0].pulls), (3, "b/b", 200));
}
