//! The rows of the table: what is measured.

use std::time::Duration;

use cove_tests::{add_query, media_type};

use crate::content::{Blobs, Content, LARGE, REPOSITORY, SMALL, manifest_path, unique};
use crate::load::{Connection, Done, Work, repeat};
use crate::peers::Peer;

/// A row.
pub struct Row {
    /// For `--only`.
    pub name: &'static str,
    /// In the table.
    pub title: &'static str,
    /// In the table.
    pub unit: &'static str,
    /// How many times distribution's figure ours must be.
    pub target: f64,
    pub does: Does,
}

/// What is done in a row, on how many connections.
#[derive(Clone, Copy)]
pub enum Does {
    GetManifest(usize),
    GetConfig(usize),
    GetLayer(usize),
    PushLarge(usize),
    PushSmall(usize),
    PushSmallInThree(usize),
    PutManifest,
}

const fn row(name: &'static str, title: &'static str, unit: &'static str, target: f64, does: Does) -> Row {
    Row { name, title, unit, target, does }
}

/// All of them.
pub const ROWS: &[Row] = &[
    row("manifest-get", "manifest GET by tag, 32 connections", "/s", 2.0, Does::GetManifest(32)),
    row("blob-get", "10 kB blob GET, 32 connections", "/s", 2.0, Does::GetConfig(32)),
    row("layer-get-1", "100 MB blob GET, 1 connection", "MB/s", 1.0, Does::GetLayer(1)),
    row("layer-get-8", "100 MB blob GET, 8 connections", "MB/s", 1.0, Does::GetLayer(8)),
    row("layer-push-1", "100 MB blob push, 1 at a time", "MB/s", 1.0, Does::PushLarge(1)),
    row("layer-push-4", "100 MB blob push, 4 at once", "MB/s", 1.0, Does::PushLarge(4)),
    row("blob-push", "10 kB blob push (POST, PUT), 8 at once", "/s", 2.0, Does::PushSmall(8)),
    row("blob-push-3", "10 kB blob push (POST, PATCH, PUT), 8 at once", "/s", 2.0, Does::PushSmallInThree(8)),
    row("manifest-put", "manifest PUT, new tags, one at a time", "/s", 2.0, Does::PutManifest),
];

impl Row {
    /// What a peer has done in this time; none if it cannot do that.
    pub fn measure(&self, peer: &Peer, content: &Content, time: Duration) -> Option<Done> {
        let authorization = peer.authorization();
        let get = |connections: usize, path: &str| {
            let get = Get(request("GET", path, &authorization, "").into_bytes());
            Some(repeat(peer.address, connections, time, get))
        };
        let push = |connections: usize, size: usize, patch: bool| {
            let push = Push { blobs: Blobs::new(size), authorization: authorization.clone(), patch };
            Some(repeat(peer.address, connections, time, push))
        };
        match self.does {
            Does::GetManifest(connections) => get(connections, &manifest_path("latest")),
            Does::GetConfig(connections) => get(connections, &content.config_path()),
            Does::GetLayer(connections) => get(connections, &content.layer_path()),
            _ if !peer.pushes => None,
            Does::PushLarge(connections) => push(connections, LARGE, false),
            Does::PushSmall(connections) => push(connections, SMALL, false),
            Does::PushSmallInThree(connections) => push(connections, SMALL, true),
            Does::PutManifest => {
                let template = String::from_utf8(content.manifest_named(PLACE)).expect("UTF-8");
                Some(repeat(peer.address, 1, time, PutManifest { template, authorization }))
            }
        }
    }

    /// The figure in the row's unit.
    pub fn figure(&self, done: &Done) -> f64 {
        match self.does {
            Does::GetLayer(_) | Does::PushLarge(_) => done.per_second() * LARGE as f64 / 1e6,
            _ => done.per_second(),
        }
    }
}

fn request(method: &str, path: &str, authorization: &str, more: &str) -> String {
    let accept = media_type::MANIFEST;
    format!("{method} {path} HTTP/1.1\r\nHost: bench\r\nAccept: {accept}\r\n{authorization}{more}\r\n")
}

struct Get(Vec<u8>);

impl Work for Get {
    async fn once(&self, connection: &mut Connection) {
        let answer = connection.exchange(&[&self.0]).await;
        assert!(answer.status == 200 && answer.length > 0, "{} for a GET", answer.status);
    }
}

/// Pushes blobs as containerd does, or with a PATCH in between as docker, podman and crane do.
struct Push {
    blobs: Blobs,
    authorization: String,
    patch: bool,
}

impl Work for Push {
    async fn once(&self, connection: &mut Connection) {
        let (tail, digest) = self.blobs.next();
        let path = format!("/v2/{REPOSITORY}/blobs/uploads/");
        let post = request("POST", &path, &self.authorization, "Content-Length: 0\r\n");
        let mut location = connection.expect(202, &[post.as_bytes()]).await.location.expect("a location");
        let length = format!("Content-Type: application/octet-stream\r\nContent-Length: {}\r\n", self.blobs.size());
        if self.patch {
            let head = request("PATCH", &location, &self.authorization, &length);
            location = self.send(connection, 202, head, &tail).await.expect("a location");
            let location = add_query(&location, &format!("digest={digest}"));
            let head = request("PUT", &location, &self.authorization, "Content-Length: 0\r\n");
            connection.expect(201, &[head.as_bytes()]).await;
        } else {
            let location = add_query(&location, &format!("digest={digest}"));
            let head = request("PUT", &location, &self.authorization, &length);
            self.send(connection, 201, head, &tail).await;
        }
    }
}

impl Push {
    async fn send(&self, connection: &mut Connection, status: u16, head: String, tail: &[u8]) -> Option<String> {
        // What is small goes out in one piece.
        let answer = if self.blobs.size() <= SMALL {
            let whole = [head.as_bytes(), &self.blobs.start, tail].concat();
            connection.expect(status, &[&whole]).await
        } else {
            connection.expect(status, &[head.as_bytes(), &self.blobs.start, tail]).await
        };
        answer.location
    }
}

/// Stands in the template for what differs.
const PLACE: &str = "a-place-for-a-name";

struct PutManifest {
    template: String,
    authorization: String,
}

impl Work for PutManifest {
    async fn once(&self, connection: &mut Connection) {
        let number = unique();
        let manifest = self.template.replace(PLACE, &format!("number {number}"));
        let headers = format!("Content-Type: {}\r\nContent-Length: {}\r\n", media_type::MANIFEST, manifest.len());
        let head = request("PUT", &manifest_path(&format!("t{number}")), &self.authorization, &headers);
        connection.expect(201, &[(head + &manifest).as_bytes()]).await;
    }
}
