//! curl: the protocol by hand, as scripts use it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::Value;

use super::{Client, Pulled, config_of, hex, parts};
use crate::registry::{add_query, media_type, read};
use crate::{Cmd, Finished, Image, Index, Login, Scratch, sha256, sha256_of_file};

/// curl, and what a script would do with it. It pushes with Basic credentials and pulls with a bearer token.
pub struct Curl {
    folder: Scratch,
    login: Mutex<Option<Login>>,
}

/// A status line, the headers and the place of the body.
struct Reply {
    status: u16,
    headers: String,
    body: PathBuf,
}

impl Curl {
    /// One without credentials.
    pub fn new() -> Self {
        Self { folder: Scratch::new("curl"), login: Mutex::new(None) }
    }

    fn login_now(&self) -> Option<Login> {
        self.login.lock().expect("no panic with it").clone()
    }

    fn basic(&self) -> Vec<String> {
        self.login_now().map(|login| vec!["-u".to_owned(), login.pair()]).unwrap_or_default()
    }

    /// A bearer token, as the challenge of `/v2/` says.
    fn bearer(&self, registry: &str, scope: &str) -> Result<Vec<String>, String> {
        let challenge = self.request(&[], "GET", &format!("http://{registry}/v2/"), &[], None);
        assert_eq!(challenge.status, 401, "/v2/ without a token: {}", challenge.headers);
        let challenge = challenge.header("www-authenticate");
        let field = |name: &str| challenge.split_once(&format!("{name}=\""))?.1.split('"').next();
        let (realm, service) = (field("realm").expect("a realm"), field("service").expect("a service"));
        let reply = self.request(&self.basic(), "GET", &format!("{realm}?service={service}&scope={scope}"), &[], None);
        if reply.status != 200 {
            return Err(reply.text());
        }
        let answer: Value = serde_json::from_slice(&read(&reply.body)).expect("a token answer is JSON");
        let token = answer["token"].as_str().expect("a token answer has a token");
        Ok(vec!["-H".to_owned(), format!("Authorization: Bearer {token}")])
    }

    fn request(
        &self,
        authorization: &[String],
        method: &str,
        url: &str,
        headers: &[&str],
        upload: Option<&Path>,
    ) -> Reply {
        let (head, body) = (self.folder.join("headers"), self.folder.join("body"));
        let _ = fs::remove_file(&body);
        let mut command =
            Cmd::new("curl").args(["-sS", "-w", "%{http_code}"]).arg("-D").arg(&head).arg("-o").arg(&body);
        command = command.args(authorization);
        command = if method == "HEAD" { command.arg("-I") } else { command.args(["-X", method]) };
        command = headers.iter().fold(command, |command, header| command.args(["-H", header]));
        if let Some(path) = upload {
            command = command.arg("-T").arg(path);
        }
        let status = command.arg(url).ok();
        Reply { status: status.parse().expect("curl prints the status"), headers: super::read_text(&head), body }
    }

    fn push_blob(&self, registry: &str, repository: &str, path: &Path, digest: &str) {
        let basic = self.basic();
        let begun = self
            .request(&basic, "POST", &format!("http://{registry}/v2/{repository}/blobs/uploads/"), &[], None)
            .expect(202);
        let location = absolute(registry, &begun.header("location"));
        let url = add_query(&location, &format!("digest={digest}"));
        self.request(&basic, "PUT", &url, &["Content-Type: application/octet-stream"], Some(path)).expect(201);
    }

    fn push_layout(&self, layout: &Path, reference: &str) -> String {
        let (registry, repository, tag) = parts(reference);
        let root: Value = serde_json::from_slice(&read(&layout.join("index.json"))).expect("a layout's index is JSON");
        self.push_node(layout, registry, repository, tag, &root["manifests"][0])
    }

    fn push_node(&self, layout: &Path, registry: &str, repository: &str, reference: &str, node: &Value) -> String {
        let digest = node["digest"].as_str().expect("a digest");
        let path = layout.join("blobs/sha256").join(hex(digest));
        let manifest: Value = serde_json::from_slice(&read(&path)).expect("a manifest is JSON");
        for child in manifest["manifests"].as_array().into_iter().flatten() {
            self.push_node(layout, registry, repository, child["digest"].as_str().expect("a digest"), child);
        }
        for blob in manifest["layers"].as_array().into_iter().flatten().chain(manifest.get("config")) {
            let digest = blob["digest"].as_str().expect("a digest");
            self.push_blob(registry, repository, &layout.join("blobs/sha256").join(hex(digest)), digest);
        }
        let content_type = format!("Content-Type: {}", node["mediaType"].as_str().expect("a media type"));
        let url = format!("http://{registry}/v2/{repository}/manifests/{reference}");
        let reply = self.request(&self.basic(), "PUT", &url, &[&content_type], Some(&path)).expect(201);
        reply.header("docker-content-digest")
    }

    /// Gets a manifest and everything below it, into memory what is a manifest and through a file what is a blob.
    fn pull_node(
        &self,
        bearer: &[String],
        registry: &str,
        repository: &str,
        reference: &str,
    ) -> Result<Vec<u8>, String> {
        let url = format!("http://{registry}/v2/{repository}/manifests/{reference}");
        let accept = [media_type::MANIFEST, media_type::INDEX, media_type::DOCKER_MANIFEST, media_type::DOCKER_LIST];
        let reply = self.request(bearer, "GET", &url, &[&format!("Accept: {}", accept.join(", "))], None);
        if reply.status != 200 {
            return Err(reply.text());
        }
        let bytes = read(&reply.body);
        assert_eq!(sha256(&bytes), reply.header("docker-content-digest"), "the digest of {url}");
        let manifest: Value = serde_json::from_slice(&bytes).expect("a manifest is JSON");
        for child in manifest["manifests"].as_array().into_iter().flatten() {
            self.pull_node(bearer, registry, repository, child["digest"].as_str().expect("a digest"))?;
        }
        for blob in manifest["layers"].as_array().into_iter().flatten().chain(manifest.get("config")) {
            let digest = blob["digest"].as_str().expect("a digest");
            let reply =
                self.request(bearer, "GET", &format!("http://{registry}/v2/{repository}/blobs/{digest}"), &[], None);
            if reply.status != 200 {
                return Err(reply.text());
            }
            assert_eq!(sha256_of_file(&reply.body), digest, "the digest of a blob of {url}");
        }
        Ok(bytes)
    }
}

impl Default for Curl {
    fn default() -> Self {
        Self::new()
    }
}

impl Client for Curl {
    fn name(&self) -> &'static str {
        "curl"
    }

    fn try_login(&self, registry: &str, login: &Login) -> Finished {
        *self.login.lock().expect("no panic with it") = Some(login.clone());
        Cmd::new("curl").args(["-fsS", "-u", &login.pair(), &format!("http://{registry}/v2/")]).run()
    }

    fn logout(&self, _registry: &str) {
        *self.login.lock().expect("no panic with it") = None;
    }

    fn push(&self, image: &Image, reference: &str) -> String {
        self.push_layout(&image.layout(), reference)
    }

    fn push_index(&self, index: &Index, reference: &str) -> String {
        self.push_layout(&index.layout(), reference)
    }

    fn try_pull(&self, reference: &str) -> Result<Pulled, String> {
        let (registry, repository, tag) = parts(reference);
        let bearer = self.bearer(registry, &format!("repository:{repository}:pull"))?;
        let manifest = self.pull_node(&bearer, registry, repository, tag)?;
        let get =
            |digest: &str| self.pull_node(&bearer, registry, repository, digest).expect("it was there a moment ago");
        Ok(Pulled { manifest: sha256(&manifest), config: config_of(&manifest, &get) })
    }

    fn copy(&self, from: &str, to: &str) -> String {
        let (registry, source, tag) = parts(from);
        let (_, target, new_tag) = parts(to);
        let bearer = self.bearer(registry, &format!("repository:{source}:pull")).expect("a token");
        let bytes = self.pull_node(&bearer, registry, source, tag).expect("the source is there");
        let manifest: Value = serde_json::from_slice(&bytes).expect("a manifest is JSON");
        for blob in manifest["layers"].as_array().into_iter().flatten().chain(manifest.get("config")) {
            let digest = blob["digest"].as_str().expect("a digest");
            let url = format!("http://{registry}/v2/{target}/blobs/uploads/?mount={digest}&from={source}");
            self.request(&self.basic(), "POST", &url, &[], None).expect(201);
        }
        let content_type = format!("Content-Type: {}", manifest["mediaType"].as_str().unwrap_or(media_type::MANIFEST));
        let path = self.folder.write("manifest", &bytes);
        let url = format!("http://{registry}/v2/{target}/manifests/{new_tag}");
        self.request(&self.basic(), "PUT", &url, &[&content_type], Some(&path))
            .expect(201)
            .header("docker-content-digest")
    }

    fn delete(&self, reference: &str) -> bool {
        let (registry, repository, tag) = parts(reference);
        let url = format!("http://{registry}/v2/{repository}/manifests");
        let accept =
            format!("Accept: {}, {}, {}", media_type::MANIFEST, media_type::INDEX, media_type::DOCKER_MANIFEST);
        let head = self.request(&self.basic(), "HEAD", &format!("{url}/{tag}"), &[&accept], None).expect(200);
        let digest = head.header("docker-content-digest");
        self.request(&self.basic(), "DELETE", &format!("{url}/{digest}"), &[], None).expect(202);
        true
    }
}

impl Reply {
    fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    fn header(&self, name: &str) -> String {
        let mut lines = self.headers.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.unwrap_or_else(|| panic!("no header {name} in {}", self.headers)).1.to_owned()
    }

    fn text(&self) -> String {
        let body = fs::read(&self.body).unwrap_or_default();
        format!("{}\n{}", self.headers, String::from_utf8_lossy(&body))
    }
}

fn absolute(registry: &str, location: &str) -> String {
    if location.starts_with('/') { format!("http://{registry}{location}") } else { location.to_owned() }
}
