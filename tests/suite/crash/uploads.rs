//! Interrupted uploads: what arrived is kept, and the client goes on where the registry says.

use std::path::Path;
use std::thread;
use std::time::Duration;

use cove_tests::{Answer, Cmd, Login, Noise, Postgres, Registry, S3, Server, ServerBuilder, Wire, sha256, wait_until};

const MIB: usize = 1024 * 1024;

/// One or two servers over one state.
struct Servers {
    first: Server,
    second: Option<Server>,
    postgres: Option<Postgres>,
    s3: Option<S3>,
}

impl Servers {
    fn on_a_folder(builder: ServerBuilder) -> Self {
        Self { first: builder.start(), second: None, postgres: None, s3: None }
    }

    fn on_postgres_and_s3(builder: ServerBuilder) -> Self {
        let (postgres, s3) = (Postgres::start(), S3::start());
        let builder = builder.database(&postgres.url()).s3(&s3, "blobs");
        let first = builder.clone().start();
        Self { first, second: Some(builder.start()), postgres: Some(postgres), s3: Some(s3) }
    }

    /// The first server is killed; the one that goes on is the other one, or the same, started again.
    fn kill_and_go_on(&mut self) -> &Server {
        self.first.kill9();
        match &self.second {
            Some(second) => second,
            None => {
                self.first.start_again();
                &self.first
            }
        }
    }

    /// What a statement prints in the database, a line a row.
    fn query(&self, statement: &str) -> String {
        match &self.postgres {
            Some(postgres) => postgres.query(statement),
            None => {
                let database = self.first.data().join("cove.db");
                Cmd::new("sqlite3").arg("-readonly").arg(database).arg(statement).ok()
            }
        }
    }

    /// The files that hold blobs, those of unfinished multipart uploads too.
    fn files(&self) -> Vec<String> {
        match &self.s3 {
            Some(s3) => files_below(&s3.objects()),
            None => {
                files_below(&self.first.data().join("blobs")).into_iter().filter(|f| !f.ends_with("/lock")).collect()
            }
        }
    }
}

fn files_below(folder: &Path) -> Vec<String> {
    Cmd::new("find").arg(folder).args(["-type", "f"]).ok().lines().map(str::to_owned).collect()
}

/// The offset at which an upload goes on, once nobody writes to it any more.
fn offset(registry: &Registry, location: &str) -> usize {
    let range = registry.get(location).expect(204).header("Range");
    let last: usize = range.strip_prefix("0-").unwrap().parse().unwrap();
    if last == 0 { 0 } else { last + 1 }
}

/// Sends bytes from `start` in one request.
fn append(registry: &Registry, location: &str, start: usize, bytes: &[u8]) -> Answer {
    let range = format!("{start}-{}", start + bytes.len() - 1);
    registry.patch(location, &[("Content-Range", &range)], bytes)
}

fn finish(registry: &Registry, location: &str, digest: &str, rest: &[u8]) -> Answer {
    registry.put(&format!("{location}?digest={digest}"), &[], rest)
}

fn a_connection_breaks(servers: &Servers) {
    let server = &servers.first;
    let alice = server.add_user("alice");
    let registry = server.as_user(&alice);
    let bytes = Noise::bytes(25_000_001);
    let digest = sha256(&bytes);
    let location = registry.begin_upload("alice/broken");
    // In the middle of a stream, and then of a request that has declared its length.
    let mut arrived = 0;
    for (sent, length) in [(11_000_000, None), (7_000_000, Some(14_000_000))] {
        let mut wire = Wire::begin(&server.address(), &alice, "PATCH", &location, &[], length).unwrap();
        wire.send(&bytes[arrived..arrived + sent]).unwrap();
        // What the server has not even read when the connection breaks off may be lost; this waits for it.
        wait_until("the server has read everything", Duration::from_secs(30), || unread(&server.address()) == 0);
        wire.break_off();
        arrived += sent;
        wait_until("what arrived is recorded", Duration::from_secs(30), || offset(&registry, &location) == arrived);
    }
    let wrong = append(&registry, &location, arrived - 1, &bytes[arrived - 1..]).expect(416);
    assert_eq!(wrong.header("Range"), format!("0-{}", arrived - 1));
    assert_eq!(offset(&registry, &location), arrived, "a chunk in the wrong place changes nothing");
    append(&registry, &location, arrived, &bytes[arrived..]).expect(202);
    finish(&registry, &location, &digest, b"").expect(201);
    registry.check_blob("alice/broken", &digest, bytes.len() as u64);
    server.check();
}

/// Bytes that wait in the kernel for somebody to read them, on connections to and from an address.
fn unread(address: &str) -> u64 {
    let sockets = Cmd::new("ss").args(["-Htn", "state", "established"]).ok();
    let ours = sockets.lines().filter(|line| line.split_whitespace().any(|word| word == address));
    let queues = ours.flat_map(|line| line.split_whitespace().take(2).filter_map(|queue| queue.parse::<u64>().ok()));
    queues.sum()
}

#[test]
fn a_broken_patch_goes_on_in_a_folder() {
    a_connection_breaks(&Servers::on_a_folder(Server::builder()));
}

#[test]
fn a_broken_patch_goes_on_in_s3() {
    a_connection_breaks(&Servers::on_postgres_and_s3(Server::builder()));
}

fn a_server_is_killed_in_a_stream(mut servers: Servers) {
    const LENGTH: usize = 200 * MIB;
    const SENT: usize = 170 * MIB;
    let alice = servers.first.add_user("alice");
    let bytes = Noise::bytes(LENGTH as u64);
    let digest = sha256(&bytes);
    let location = servers.first.as_user(&alice).begin_upload("alice/killed");
    let mut wire = Wire::begin(&servers.first.address(), &alice, "PATCH", &location, &[], None).unwrap();
    bytes[..SENT].chunks(MIB).for_each(|piece| wire.send(piece).unwrap());
    wait_until("the server has read everything", Duration::from_secs(60), || unread(&servers.first.address()) == 0);
    let server = servers.kill_and_go_on();
    let registry = server.as_user(&alice);
    let kept = offset(&registry, &location);
    assert!(kept + 64 * MIB >= SENT, "{} bytes must be sent again", SENT - kept);
    assert!(kept <= SENT);
    append(&registry, &location, kept, &bytes[kept..190 * MIB]).expect(202);
    finish(&registry, &location, &digest, &bytes[190 * MIB..]).expect(201);
    registry.check_blob("alice/killed", &digest, LENGTH as u64);
    server.check();
}

#[test]
fn at_most_64_mib_are_sent_again_after_kill_9_in_a_folder() {
    a_server_is_killed_in_a_stream(Servers::on_a_folder(Server::builder()));
}

/// And the upload goes on at another server.
#[test]
fn at_most_64_mib_are_sent_again_after_kill_9_in_s3() {
    a_server_is_killed_in_a_stream(Servers::on_postgres_and_s3(Server::builder()));
}

fn two_requests_at_once(servers: &Servers) {
    let alice = servers.first.add_user("alice");
    let (one, other) = (servers.first.address(), servers.second.as_ref().unwrap_or(&servers.first).address());
    let registry = servers.first.as_user(&alice);
    let bytes = Noise::bytes(30_000_000);
    let digest = sha256(&bytes);
    // The newer request begins while the older one is in the middle, after different numbers of bytes.
    for sent in [0, 1, 100_000, 9_000_000, 20_000_000] {
        let location = registry.begin_upload("alice/two");
        let mut older = Wire::begin(&one, &alice, "PATCH", &location, &[], Some(bytes.len() as u64)).unwrap();
        older.send(&bytes[..sent]).unwrap();
        wait_until("the server has read everything", Duration::from_secs(30), || unread(&one) == 0);
        // It does not know how far the older one came: refused with the right offset at most once.
        let mut start = offset(&registry, &location);
        let newer = loop {
            let range = format!("{start}-{}", bytes.len() - 1);
            let headers = [("Content-Range", range.as_str())];
            let answer = Wire::ask(&other, &alice, "PATCH", &location, &headers, &bytes[start..]).unwrap();
            if answer.status != 416 {
                break answer;
            }
            let range = answer.header("Range");
            let now = range.strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1;
            assert!(now > start, "{answer}");
            start = now;
        };
        newer.expect(202);
        // The older one is told, by an answer or by the end of its connection.
        let told = older.send(&bytes[sent..]).and_then(|()| older.answer());
        assert!(told.as_ref().map_or(true, |answer| answer.status >= 400), "the older request: {}", told.unwrap());
        assert_eq!(offset(&registry, &location), bytes.len(), "the newer request's bytes stay");
        finish(&registry, &location, &digest, b"").expect(201);
    }
    // All at once, each with the whole content: whoever wins, nothing is mixed.
    let location = registry.begin_upload("alice/many");
    let answers: Vec<Option<Answer>> = thread::scope(|scope| {
        let send = |number: usize| {
            let address = if number.is_multiple_of(2) { &one } else { &other };
            let (alice, location, bytes) = (&alice, &location, &bytes);
            move || put_slowly(address, alice, location, bytes).ok()
        };
        let threads: Vec<_> = (0..6).map(|number| scope.spawn(send(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let won = answers.iter().flatten().filter(|answer| answer.status == 202).count();
    let kept = offset(&registry, &location);
    assert!(won <= 1 && (won == 0 || kept == bytes.len()), "{won} requests were told that they had won, {kept} bytes");
    if kept < bytes.len() {
        append(&registry, &location, kept, &bytes[kept..]).expect(202);
    }
    finish(&registry, &location, &digest, b"").expect(201);
    registry.check_blob("alice/many", &digest, bytes.len() as u64);
    servers.first.check();
}

/// All of it from byte 0, in pieces with pauses.
fn put_slowly(address: &str, login: &Login, location: &str, bytes: &[u8]) -> std::io::Result<Answer> {
    let range = format!("0-{}", bytes.len() - 1);
    let headers = [("Content-Range", range.as_str())];
    let mut wire = Wire::begin(address, login, "PATCH", location, &headers, Some(bytes.len() as u64))?;
    for piece in bytes.chunks(bytes.len() / 20) {
        wire.send(piece)?;
        thread::sleep(Duration::from_millis(5));
    }
    wire.answer()
}

#[test]
fn of_two_requests_to_one_upload_the_newer_wins_in_a_folder() {
    two_requests_at_once(&Servers::on_a_folder(Server::builder()));
}

#[test]
fn of_two_requests_to_one_upload_the_newer_wins_in_s3() {
    two_requests_at_once(&Servers::on_postgres_and_s3(Server::builder()));
}

/// A digest whose algorithm is only told at the end.
fn sha512_unannounced(servers: &Servers) {
    let registry = servers.first.as_admin();
    let bytes = Noise::bytes(20_000_000);
    let path = servers.first.folder().join("content");
    std::fs::write(&path, &bytes).unwrap();
    let sum = Cmd::new("sha512sum").arg(&path).ok();
    let digest = format!("sha512:{}", sum.split(' ').next().unwrap());
    let location = registry.begin_upload("library/sha512");
    append(&registry, &location, 0, &bytes[..9_000_000]).expect(202);
    append(&registry, &location, 9_000_000, &bytes[9_000_000..19_000_000]).expect(202);
    let wrong = format!("sha512:{}", "0".repeat(128));
    let answer = finish(&registry, &location, &wrong, &bytes[19_000_000..]).expect(400);
    assert_eq!(answer.code(), "DIGEST_INVALID");
    finish(&registry, &location, &digest, b"").expect(201);
    let blob = registry.get(&format!("/v2/library/sha512/blobs/{digest}")).expect(200);
    assert_eq!(blob.header("Docker-Content-Digest"), digest);
    assert!(blob.body == bytes, "other bytes came back");
    servers.first.check();
}

#[test]
fn sha512_that_was_not_announced_works_in_a_folder() {
    sha512_unannounced(&Servers::on_a_folder(Server::builder()));
}

#[test]
fn sha512_that_was_not_announced_works_in_s3() {
    sha512_unannounced(&Servers::on_postgres_and_s3(Server::builder()));
}

fn uploads_expire(mut servers: Servers) {
    let alice = servers.first.add_user("alice");
    let registry = servers.first.as_user(&alice);
    let files_before = servers.files();
    let bytes = Noise::bytes(80_000_000);
    // One without a byte, one with a small part, one with several.
    let locations: Vec<_> = (0..3).map(|_| registry.begin_upload("alice/expires")).collect();
    append(&registry, &locations[1], 0, &bytes[..1_000]).expect(202);
    append(&registry, &locations[2], 0, &bytes[..20_000_000]).expect(202);
    append(&registry, &locations[2], 20_000_000, &bytes[20_000_000..20_000_007]).expect(202);
    // One that is cut off by kill -9 in the middle of its object.
    let location = registry.begin_upload("alice/expires");
    let mut wire = Wire::begin(&servers.first.address(), &alice, "PATCH", &location, &[], None).unwrap();
    wire.send(&bytes).unwrap();
    wait_until("the server has read everything", Duration::from_secs(60), || unread(&servers.first.address()) == 0);
    let registry = servers.kill_and_go_on().as_user(&alice);
    wait_until("the uploads have left no row", Duration::from_secs(60), || {
        ["uploads", "objects", "garbage"]
            .iter()
            .all(|table| servers.query(&format!("select * from {table}")).is_empty())
    });
    assert_eq!(servers.files(), files_before, "files or parts of uploads that have expired");
    for location in locations.iter().chain([&location]) {
        let gone = registry.get(location).expect(404);
        assert_eq!(gone.code(), "BLOB_UPLOAD_UNKNOWN");
    }
    servers.second.as_ref().unwrap_or(&servers.first).check();
}

#[test]
fn expired_uploads_leave_nothing_in_a_folder() {
    uploads_expire(Servers::on_a_folder(Server::builder().args(["--upload-expiry", "5s"])));
}

#[test]
fn expired_uploads_leave_nothing_in_s3() {
    uploads_expire(Servers::on_postgres_and_s3(Server::builder().args(["--upload-expiry", "5s"])));
}
