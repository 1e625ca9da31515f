//! The recipes for reverse proxies, run with the real programs: TLS outside, plain HTTP inside.

use std::path::PathBuf;
use std::time::Duration;

use cove_tests::clients::{Client, Docker, Podman, Skopeo};
use cove_tests::{
    Authority, Cmd, Image, Login, Noise, Process, Scratch, Server, add_query, free_port, sha256, tool, wait_until,
};

use super::{recipe_text, replaced};

/// A server that trusts a proxy on 127.0.0.1, and that proxy.
struct Proxied {
    server: Server,
    address: String,
    authority: Authority,
    _proxy: Process,
    folder: Scratch,
}

impl Proxied {
    /// `start` gets the server's address, the proxy's own, certificate and key, and a folder.
    fn start(start: impl FnOnce(&str, &str, [&str; 2], &Scratch) -> Process) -> Self {
        let server = Server::builder().args(["--trusted-proxy", "127.0.0.1"]).start();
        let (authority, folder) = (Authority::new(), Scratch::new("proxy"));
        let files: [PathBuf; 2] = ["certificate.pem", "key.pem"].map(|name| folder.join(name));
        authority.issue(&files[0], &files[1]);
        let address = format!("127.0.0.1:{}", free_port());
        let texts = files.each_ref().map(|path| path.to_str().expect("a path that is text"));
        let proxy = start(&server.address(), &address, texts, &folder);
        let proxied = Self { server, address, authority, _proxy: proxy, folder };
        let ready = proxied.curl().arg(proxied.url("/readyz"));
        wait_until("the proxy passes requests on", Duration::from_secs(60), || ready.run().succeeded());
        proxied
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// curl that trusts the authority, with the administrator's login.
    fn curl(&self) -> Cmd {
        let login = self.server.admin_login().pair();
        Cmd::new("curl").args(["-fsS", "-u", &login, "--cacert"]).arg(self.authority.certificate())
    }

    /// The realm is the proxy's, and the log has the client's address, which is not the proxy's.
    fn tells_the_truth(&self) {
        let plain = Cmd::new("curl").args(["-sS", "-i", "--http1.1", "--interface", "127.0.0.2", "--cacert"]);
        let answer = plain.arg(self.authority.certificate()).arg(self.url("/v2/")).ok();
        let header = |name: &str| {
            let found = answer.lines().filter_map(|line| line.split_once(": "));
            let found = found.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
            found.unwrap_or_else(|| panic!("no {name} in {answer}")).1.trim().to_owned()
        };
        let realm = format!("realm=\"https://{}/token\"", self.address);
        assert!(header("WWW-Authenticate").contains(&realm), "{answer}");
        self.server.wait_for_log(&[&header("X-Request-Id"), "\"client\":\"127.0.0.2\""]);
        assert!(!self.server.log().contains("is not trusted"), "{}", self.server.log());
    }

    /// A body reaches the server while it is still being sent: what arrived before a break is kept.
    fn streams_requests(&self) {
        let begun = self.curl().args(["-i", "-X", "POST", &self.url("/v2/library/broken/blobs/uploads/")]).ok();
        let location = begun
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("location")));
        let location = self.url(location.unwrap_or_else(|| panic!("no location in {begun}")).1.trim());
        let bytes = Noise::bytes(40_000_000);
        let file = self.folder.write("large", &bytes);
        let slow = self.curl().args(["--limit-rate", "4M", "--max-time", "4", "-X", "PATCH", "-T"]);
        slow.arg(&file).arg(&location).fails();
        let kept = || {
            let status = self.curl().args(["-I", &location]).ok();
            let range =
                status.lines().find_map(|line| line.to_lowercase().strip_prefix("range: 0-").map(str::to_owned));
            range.and_then(|last| last.trim().parse::<usize>().ok()).map_or(0, |last| last + 1)
        };
        wait_until("the server keeps what arrived", Duration::from_secs(30), || kept() > 1_000_000);
        let have = kept();
        assert!(have < bytes.len(), "it was broken off: {have}");
        let rest = self.folder.write("rest", &bytes[have..]);
        self.curl().args(["-X", "PATCH", "-T"]).arg(rest).arg(&location).ok();
        let finish = add_query(&location, &format!("digest={}", sha256(&bytes)));
        self.curl().args(["-X", "PUT", &finish]).ok();
        self.server.as_admin().check_blob("library/broken", &sha256(&bytes), bytes.len() as u64);
    }

    fn reference(&self, name: &str) -> String {
        format!("{}/library/{name}:1", self.address)
    }

    /// skopeo logs in, pushes a large layer and copies it, with the certificate checked.
    fn skopeo_pushes(&self, name: &str) -> String {
        let skopeo = Skopeo::new();
        let trusted = self.authority.folder();
        let Login { user, password } = self.server.admin_login();
        let login = skopeo.command().args(["login", "-u", &user, "--password-stdin", "--cert-dir"]).arg(&trusted);
        login.arg(&self.address).input(password).ok();
        let image = Image::new(1, 150_000_000);
        let copy = || skopeo.command().args(["copy", "--all", "--src-cert-dir"]).arg(&trusted).arg("--dest-cert-dir");
        let to = format!("docker://{}", self.reference(name));
        copy().arg(&trusted).args([&format!("oci:{}:latest", image.layout().display()), &to]).ok();
        let copied = format!("docker://{}", self.reference(&format!("{name}-copy")));
        copy().arg(&trusted).args([&to, &copied]).ok();
        let served = self.server.as_admin().pull(&format!("library/{name}"), "1");
        assert_eq!(self.server.as_admin().pull(&format!("library/{name}-copy"), "1"), served);
        served.digest
    }
}

#[test]
fn docker_podman_and_skopeo_push_and_pull_through_nginx() {
    let proxied = Proxied::start(|server, own, [certificate, key], folder| {
        let recipe = replaced(&recipe_text("nginx.conf"), "127.0.0.1:5000", server);
        let recipe = replaced(&recipe, "listen 443", &format!("listen {own}"));
        let recipe = replaced(&recipe, "/etc/nginx/registry.pem", certificate);
        let recipe = replaced(&recipe, "/etc/nginx/registry-key.pem", key);
        let at = |name: &str| folder.join(name).display().to_string();
        let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let paths: String = paths.iter().map(|name| format!("{name}_temp_path {};\n", at(name))).collect();
        let whole = format!(
            "daemon off;\nuser root;\npid {};\nerror_log {};\nevents {{}}\nhttp {{\naccess_log off;\n{paths}{recipe}}}\n",
            at("pid"),
            at("error.log")
        );
        let whole = folder.write("nginx.conf", whole);
        Cmd::new("nginx").arg("-p").arg(folder.path()).arg("-c").arg(whole).start(&folder.join("log"))
    });
    proxied.tells_the_truth();
    proxied.streams_requests();
    let by_skopeo = proxied.skopeo_pushes("by-skopeo");

    let podman = Podman::new();
    let trusted = proxied.authority.folder();
    let Login { user, password } = proxied.server.admin_login();
    let login = podman.command().args(["login", "-u", &user, "--password-stdin", "--cert-dir"]).arg(&trusted);
    login.arg(&proxied.address).input(password).ok();
    podman.command().args(["pull", "-q", "--cert-dir"]).arg(&trusted).arg(proxied.reference("by-skopeo")).ok();
    let push = podman.command().args(["push", "-q", "--cert-dir"]).arg(&trusted);
    push.args([proxied.reference("by-skopeo"), proxied.reference("by-podman")]).ok();

    // docker takes 127.0.0.0/8 for insecure: it speaks TLS there, and does not look at the certificate.
    let docker = Docker::new();
    docker.login(&proxied.address, &proxied.server.admin_login());
    assert_eq!(docker.pull(&proxied.reference("by-skopeo")).manifest, by_skopeo);
    let pushed = docker.push(&Image::new(2, 100_000_000), &proxied.reference("by-docker"));
    for name in ["by-podman", "by-docker"] {
        let served = proxied.server.as_admin().pull(&format!("library/{name}"), "1");
        assert!(name != "by-docker" || served.digest == pushed, "what docker has pushed");
    }
    assert!(!proxied.server.log().contains("\"status\":413"));
    proxied.server.check();
}

#[test]
fn skopeo_pushes_and_pulls_through_caddy() {
    let proxied = Proxied::start(|server, own, [certificate, key], folder| {
        let recipe = replaced(&recipe_text("Caddyfile"), "127.0.0.1:5000", server);
        // Its certificate comes from a file here, for there is nobody to ask for one.
        let site = format!("https://{own} {{\n\ttls {certificate} {key}\n");
        let recipe = replaced(&recipe, "registry.example.com {\n", &site);
        let whole = format!("{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{recipe}");
        let whole = folder.write("Caddyfile", whole);
        let caddy =
            Cmd::new(tool("caddy")).env("HOME", folder.path()).args(["run", "--adapter", "caddyfile", "--config"]);
        caddy.arg(whole).start(&folder.join("log"))
    });
    proxied.tells_the_truth();
    proxied.streams_requests();
    proxied.skopeo_pushes("by-skopeo");
    proxied.server.check();
}
