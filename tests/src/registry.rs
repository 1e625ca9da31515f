//! A plain client of the distribution protocol, for set-up and for checks.
//!
//! It does what it is told, one request a call, and never follows, retries or repairs anything: what a server
//! answered is what the test sees.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Request};
use ureq::{AsSendBody, SendBody};

use crate::digest::{sha256, sha256_of};

/// The media types that the tests name.
pub mod media_type {
    /// An OCI image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An OCI image configuration.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// A gzipped OCI layer.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// The two bytes `{}`.
    pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
    /// A Docker image manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
}

/// A user name and a password, or a token in its place.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The password, or a personal access token.
    pub password: String,
}

impl Login {
    /// A user and their password.
    pub fn new(user: &str, password: &str) -> Self {
        Self { user: user.to_owned(), password: password.to_owned() }
    }

    /// `user:password`.
    pub fn pair(&self) -> String {
        format!("{}:{}", self.user, self.password)
    }
}

/// A registry, as seen by one user.
#[derive(Clone)]
pub struct Registry {
    address: String,
    authorization: Option<String>,
    agent: ureq::Agent,
}

/// What a server answered.
pub struct Answer {
    /// The request, for messages.
    pub request: String,
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

/// A manifest as a server gave it, and what it points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The exact bytes.
    pub bytes: Vec<u8>,
    /// Their sha256 digest.
    pub digest: String,
    /// The media type that they came with.
    pub media_type: String,
    /// The digest of the image's manifest: the same, or for an index that of its first image (linux/amd64 in the
    /// tests).
    pub image: String,
    /// The digest of that image's configuration.
    pub config: String,
}

impl Registry {
    /// The registry at `HOST:PORT`, spoken to without credentials.
    pub fn anonymous(address: &str) -> Self {
        let configuration = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(300)))
            .build();
        Self { address: address.to_owned(), authorization: None, agent: configuration.new_agent() }
    }

    /// The registry at `HOST:PORT`, spoken to with Basic credentials on every request.
    pub fn with_login(address: &str, login: &Login) -> Self {
        let mut registry = Self::anonymous(address);
        registry.authorization = Some(format!("Basic {}", BASE64.encode(login.pair())));
        registry
    }

    /// The same registry, spoken to with a bearer token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { authorization: Some(format!("Bearer {token}")), ..self.clone() }
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends one request. `path` is a path with its query, or a whole URL as in `Location`.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl AsSendBody) -> Answer {
        let url = if path.starts_with("http://") { path.to_owned() } else { format!("http://{}{path}", self.address) };
        let mut request = Request::builder().method(method).uri(&url);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
            request = request.header(name, HeaderValue::from_str(value).expect("a header's value"));
        }
        let request = request.body(body).unwrap_or_else(|error| panic!("{method} {url}: {error}"));
        let mut response = self.agent.run(request).unwrap_or_else(|error| panic!("{method} {url}: {error}"));
        let body = response.body_mut().with_config().limit(u64::MAX).read_to_vec();
        let body = body.unwrap_or_else(|error| panic!("{method} {url}: reading the answer: {error}"));
        Answer {
            request: format!("{method} {url}"),
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body,
        }
    }

    /// GET.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], ())
    }

    /// HEAD.
    pub fn head(&self, path: &str) -> Answer {
        self.send("HEAD", path, &[], ())
    }

    /// DELETE.
    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], ())
    }

    /// POST with bytes.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send("POST", path, headers, body)
    }

    /// PATCH with bytes.
    pub fn patch(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send("PATCH", path, headers, body)
    }

    /// PUT with bytes.
    pub fn put(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send("PUT", path, headers, body)
    }

    /// A bearer token for `scope`, got as clients do: from the place that the challenge of `/v2/` names.
    pub fn token(&self, scope: &str) -> String {
        let challenge = Self::anonymous(&self.address).get("/v2/").expect(401).header("WWW-Authenticate");
        let field = |name: &str| {
            let (_, rest) = challenge.split_once(&format!("{name}=\""))?;
            Some(rest.split_once('"')?.0.to_owned())
        };
        let realm = field("realm").unwrap_or_else(|| panic!("no realm in the challenge `{challenge}`"));
        let service = field("service").unwrap_or_default();
        let answer = self.get(&format!("{realm}?service={service}&scope={scope}")).expect(200).json();
        answer["token"].as_str().unwrap_or_else(|| panic!("no token in {answer}")).to_owned()
    }

    /// Uploads a blob by POST and PUT and returns its digest.
    pub fn push_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        let location = self.begin_upload(repository);
        self.put(&add_query(&location, &format!("digest={digest}")), &[], bytes).expect(201);
        digest
    }

    /// Uploads a blob from a file by POST, PATCH and PUT, and returns its digest.
    pub fn push_blob_file(&self, repository: &str, path: &Path, digest: &str) {
        let location = self.begin_upload(repository);
        let file = File::open(path).unwrap_or_else(|error| panic!("open {}: {error}", path.display()));
        let patched = self.send("PATCH", &location, &[], SendBody::from_owned_reader(file)).expect(202);
        self.put(&add_query(&patched.header("Location"), &format!("digest={digest}")), &[], b"").expect(201);
    }

    /// Begins an upload and returns its location.
    pub fn begin_upload(&self, repository: &str) -> String {
        self.post(&format!("/v2/{repository}/blobs/uploads/"), &[], b"").expect(202).header("Location")
    }

    /// PUTs a manifest under a tag or a digest, which must work, and returns its digest.
    pub fn push_manifest(&self, repository: &str, reference: &str, media_type: &str, bytes: &[u8]) -> String {
        self.put(&manifest_path(repository, reference), &[("Content-Type", media_type)], bytes).expect(201);
        sha256(bytes)
    }

    /// GETs a manifest, whatever comes of it.
    pub fn manifest(&self, repository: &str, reference: &str) -> Answer {
        self.ask_manifest("GET", repository, reference)
    }

    fn ask_manifest(&self, method: &str, repository: &str, reference: &str) -> Answer {
        use media_type::{DOCKER_LIST, DOCKER_MANIFEST, INDEX, MANIFEST};
        let accept = format!("{MANIFEST}, {INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}");
        self.send(method, &manifest_path(repository, reference), &[("Accept", &accept)], ())
    }

    /// GETs a manifest, checks that HEAD, the headers and the digest agree with it, and that everything it
    /// points to can be had and is what its digest says.
    pub fn pull(&self, repository: &str, reference: &str) -> Served {
        let answer = self.manifest(repository, reference).expect(200);
        let digest = sha256(&answer.body);
        assert_eq!(answer.header("Docker-Content-Digest"), digest, "{}", answer.request);
        assert_eq!(answer.header("Content-Length"), answer.body.len().to_string(), "{}", answer.request);
        let media_type = answer.header("Content-Type");
        let head = self.ask_manifest("HEAD", repository, reference).expect(200);
        for name in ["Docker-Content-Digest", "Content-Type", "Content-Length"] {
            assert_eq!(head.header(name), answer.header(name), "{name} of {}", head.request);
        }
        let manifest = answer.json();
        let config = manifest["config"]["digest"].as_str();
        let mut image = config.map(|config| (digest.clone(), config.to_owned()));
        for child in manifest["manifests"].as_array().into_iter().flatten() {
            let served = self.pull(repository, text(&child["digest"]));
            assert_eq!(served.digest, text(&child["digest"]), "{}", answer.request);
            image.get_or_insert((served.image, served.config));
        }
        let layers = manifest["layers"].as_array().into_iter().flatten();
        for blob in layers.chain(manifest.get("config")) {
            self.check_blob(repository, text(&blob["digest"]), blob["size"].as_u64().expect("a size"));
        }
        let (image, config) = image.unwrap_or_default();
        Served { bytes: answer.body, digest, media_type, image, config }
    }

    /// GETs a blob and checks its digest and its length.
    pub fn check_blob(&self, repository: &str, digest: &str, size: u64) {
        let url = format!("http://{}/v2/{repository}/blobs/{digest}", self.address);
        let mut request = self.agent.get(&url);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let mut response = request.call().unwrap_or_else(|error| panic!("GET {url}: {error}"));
        assert_eq!(
            response.status().as_u16(),
            200,
            "GET {url}: {}",
            response.body_mut().read_to_string().unwrap_or_default()
        );
        assert!(response.headers().get("Content-Encoding").is_none(), "GET {url}: a blob must come as it is");
        let mut reader = response.body_mut().with_config().limit(u64::MAX).reader();
        let read = sha256_of(&mut reader).unwrap_or_else(|error| panic!("GET {url}: reading the answer: {error}"));
        assert_eq!(read, (digest.to_owned(), size), "GET {url}: digest and length");
    }

    /// The tags of a repository.
    pub fn tags(&self, repository: &str) -> Vec<String> {
        let answer = self.get(&format!("/v2/{repository}/tags/list")).expect(200).json();
        answer["tags"].as_array().into_iter().flatten().map(|tag| text(tag).to_owned()).collect()
    }
}

impl Answer {
    /// The answer itself, if its status is the one that must be.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }

    /// A header's value; panics if there is none.
    pub fn header(&self, name: &str) -> String {
        self.find_header(name).unwrap_or_else(|| panic!("no header {name} in {self}"))
    }

    /// A header's value, if there is one.
    pub fn find_header(&self, name: &str) -> Option<String> {
        Some(self.headers.get(name)?.to_str().expect("a header that is text").to_owned())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self}"))
    }

    /// The first error code of an error body.
    pub fn code(&self) -> String {
        text(&self.json()["errors"][0]["code"]).to_owned()
    }

    /// The first message of an error body.
    pub fn message(&self) -> String {
        text(&self.json()["errors"][0]["message"]).to_owned()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered {}\n{:#?}\n", self.request, self.status, self.headers)?;
        write!(f, "{}", self.text().chars().take(2000).collect::<String>())
    }
}

fn manifest_path(repository: &str, reference: &str) -> String {
    format!("/v2/{repository}/manifests/{reference}")
}

/// Adds a parameter to an upload's location, which may have some already.
pub fn add_query(location: &str, parameter: &str) -> String {
    let sign = if location.contains('?') { '&' } else { '?' };
    format!("{location}{sign}{parameter}")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut file = File::open(path).unwrap_or_else(|error| panic!("open {}: {error}", path.display()));
    file.read_to_end(&mut bytes).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    bytes
}
