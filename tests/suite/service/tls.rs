//! TLS by certificate and key files.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use cove_tests::{Authority, Cmd, Noise, Process, Scratch, Server, add_query, sha256, wait_until};

/// A server with TLS, and the authority that its clients trust.
struct Secure {
    server: Server,
    process: Process,
    authority: Authority,
    certificate: PathBuf,
    key: PathBuf,
    _folder: Scratch,
}

impl Secure {
    fn start() -> Self {
        let folder = Scratch::new("tls");
        let authority = Authority::new();
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        authority.issue(&certificate, &key);
        let server = Server::builder().prepare();
        let process = server
            .command(["--tls-certificate", &path(&certificate), "--tls-key", &path(&key)])
            .env("COVE_LISTEN", server.address())
            .env("COVE_ADMIN_PASSWORD", &server.admin_login().password)
            .start(&server.folder().join("log"));
        let secure = Secure { server, process, authority, certificate, key, _folder: folder };
        let url = format!("https://{}/readyz", secure.server.address());
        wait_until("the server is ready", Duration::from_secs(60), || secure.curl().arg(&url).run().succeeded());
        secure
    }

    /// curl with the administrator's login, failing on error statuses.
    fn curl(&self) -> Cmd {
        let login = self.server.admin_login().pair();
        Cmd::new("curl").args(["-fsS", "--max-time", "60", "-u", &login, "--cacert"]).arg(self.authority.certificate())
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.server.address())
    }

    /// The serial number of the certificate that the server shows.
    fn serial(&self) -> String {
        let shown = Cmd::new("openssl").args(["s_client", "-connect", &self.server.address()]).run().stdout;
        Cmd::new("openssl").args(["x509", "-noout", "-serial"]).input(shown).ok()
    }

    /// The serial number of the certificate in the file.
    fn serial_in_file(&self) -> String {
        Cmd::new("openssl").args(["x509", "-noout", "-serial", "-in"]).arg(&self.certificate).ok()
    }
}

fn path(path: &std::path::Path) -> String {
    path.to_str().expect("a path that is text").to_owned()
}

#[test]
fn both_versions_of_http_push_and_pull() {
    let secure = Secure::start();
    let folder = Scratch::new("tls-blob");
    for (option, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let bytes = Noise::bytes(20_000_000);
        let (file, back, digest) = (folder.write("blob", &bytes), folder.join("back"), sha256(&bytes));
        let curl = || secure.curl().arg(option);
        let printed = curl().args(["-o", "/dev/null", "-w", "%{http_version} %{http_code}", &secure.url("/v2/")]).ok();
        assert_eq!(printed, format!("{version} 200"));
        let begun = curl().args(["-i", "-X", "POST", &secure.url("/v2/library/image/blobs/uploads/")]).ok();
        let location = begun.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
        });
        let location = secure.url(&location.unwrap_or_else(|| panic!("no location: {begun}")));
        curl().args(["-X", "PATCH", "-T"]).arg(&file).arg(&location).ok();
        curl().args(["-X", "PUT", &add_query(&location, &format!("digest={digest}"))]).ok();
        let blob = secure.url(&format!("/v2/library/image/blobs/{digest}"));
        curl().arg("-o").arg(&back).arg(&blob).ok();
        assert_eq!(fs::read(&back).expect("what came back"), bytes, "by HTTP/{version}");
        let challenge = Cmd::new("curl").args(["-sS", "-i", option, "--cacert"]).arg(secure.authority.certificate());
        let challenge = challenge.arg(secure.url("/v2/")).ok();
        let realm = format!("realm=\"https://{}/token\"", secure.server.address());
        assert!(challenge.contains(&realm), "{challenge}");
    }
    // Not to be had without TLS, and the health check knows.
    Cmd::new("curl").args(["-fsS", &format!("http://{}/v2/", secure.server.address())]).fails();
    let check = secure.server.command(["healthcheck"]).env("COVE_LISTEN", secure.server.address());
    check.env("COVE_TLS_CERTIFICATE", &secure.certificate).env("COVE_TLS_KEY", &secure.key).ok();
}

#[test]
fn a_new_certificate_is_taken_up_and_a_broken_one_is_not() {
    let mut secure = Secure::start();
    let first = secure.serial();
    assert_eq!(first, secure.serial_in_file());

    // As renewal tools do it: one file after the other, each in one step.
    let renewed = Scratch::new("renewed");
    let (certificate, key) = (renewed.join("certificate.pem"), renewed.join("key.pem"));
    let renew = |secure: &Secure| {
        secure.authority.issue(&certificate, &key);
        fs::rename(&certificate, &secure.certificate).expect("replace the certificate");
        fs::rename(&key, &secure.key).expect("replace the key");
    };
    renew(&secure);
    let second = secure.serial_in_file();
    assert_ne!(second, first);
    wait_until("the new certificate is shown", Duration::from_secs(30), || secure.serial() == second);
    secure.curl().arg(secure.url("/v2/")).ok();

    fs::write(&secure.certificate, "this is no certificate").expect("break the certificate");
    secure.server.wait_for_log(&["the old one stays"]);
    assert_eq!(secure.serial(), second, "the old certificate stays");
    // A key that belongs to another certificate is as bad.
    secure.authority.issue(&secure.certificate, &renewed.join("another-key.pem"));
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(secure.serial(), second, "the old certificate stays");
    secure.curl().arg(secure.url("/v2/")).ok();

    renew(&secure);
    let third = secure.serial_in_file();
    wait_until("the next certificate is shown", Duration::from_secs(30), || secure.serial() == third);
    assert!(secure.process.ended().is_none(), "all that without a restart");
}
