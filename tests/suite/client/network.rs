//! The ways to a registry: through proxies, and past a server that wants to know who asks by a certificate.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cove_tests::clients::Cove;
use cove_tests::{Authority, Cmd, ForwardProxy, Image, Login, Process, Scratch, Server, free_port, wait_until};

/// A name that only the proxy knows.
const HUB: &str = "hub.test:5000";
const IMAGE: &str = "hub.test:5000/alice/image:1";

/// A client with a configuration of its own, and a server with a user.
struct World {
    server: Server,
    alice: Login,
    cove: Cove,
    settings: PathBuf,
}

impl World {
    fn start(settings: &str) -> Self {
        let server = Server::start();
        let alice = server.add_user("alice");
        Self::with(server, alice, settings)
    }

    fn with(server: Server, alice: Login, settings: &str) -> Self {
        let cove = Cove::new();
        let settings = cove.scratch().write("cove.toml", format!("[limits]\nattempts = 1\n{settings}"));
        Self { server, alice, cove, settings }
    }

    fn words(&self, words: &[&str], variables: &[(&str, &str)]) -> Cmd {
        let command = self.cove.words(words).env("COVE_CONFIG", &self.settings);
        variables.iter().fold(command, |command, (name, value)| command.env(name, value))
    }

    fn log_in(&self, registry: &str, variables: &[(&str, &str)]) -> Cmd {
        self.words(&["login", "-u", "alice", "--password-stdin", registry], variables).input(&self.alice.password)
    }

    /// Logs in, pushes, forgets, pulls.
    fn there_and_back(&self, variables: &[(&str, &str)]) {
        self.log_in(HUB, variables).ok();
        let image = Image::new(2, 200_000);
        let id = self.cove.load(&image, IMAGE);
        self.words(&["push", IMAGE], variables).ok();
        self.words(&["rmi", "-f", IMAGE], variables).ok();
        self.words(&["system", "prune", "-f"], variables).ok();
        self.words(&["pull", IMAGE], variables).ok();
        assert_eq!(self.cove.id(IMAGE), id);
        self.words(&["rmi", "-f", IMAGE], variables).ok();
    }
}

const PLAIN: &str = "[registry.'hub.test:5000']\nplain-http = true\n";

#[test]
fn plain_http_through_a_proxy() {
    let world = World::start(PLAIN);
    let proxy = ForwardProxy::start(&[(HUB, &world.server.address())]);
    let url = format!("http://{}", proxy.address());
    for variables in [
        &[("HTTP_PROXY", url.as_str())][..],
        &[("http_proxy", &proxy.address())],
        &[("ALL_PROXY", &url), ("HTTP_PROXY", ""), ("NO_PROXY", "other.test, .hub.test,hub.test:5001")],
    ] {
        world.there_and_back(variables);
        let asked = proxy.take();
        assert!(asked.iter().any(|line| line.starts_with("PUT http://hub.test:5000/v2/alice/image/")), "{asked:?}");
        assert!(asked.iter().any(|line| line.starts_with("GET http://hub.test:5000/v2/alice/image/")), "{asked:?}");
        assert!(asked.iter().any(|line| line.contains("/token")), "{asked:?}");
    }
    // Docker's daemon may have been told in its file.
    let daemon = world.cove.scratch().folder(".config/docker").join("daemon.json");
    fs::write(&daemon, format!(r#"{{ "proxies": {{ "http-proxy": "{url}", "no-proxy": "other.test" }} }}"#)).unwrap();
    world.there_and_back(&[]);
    assert!(!proxy.take().is_empty());
    fs::remove_file(&daemon).unwrap();
    // Past the proxy nobody knows the name.
    for variables in [
        &[][..],
        &[("HTTPS_PROXY", url.as_str())],
        &[("HTTP_PROXY", &url), ("NO_PROXY", "hub.test")],
        &[("HTTP_PROXY", &url), ("no_proxy", "x,hub.test:5000")],
        &[("HTTP_PROXY", &url), ("NO_PROXY", "*")],
    ] {
        let printed = world.words(&["pull", IMAGE], variables).fails();
        assert!(printed.contains("cannot be reached") && !printed.contains(&proxy.address()), "{printed}");
    }
    assert_eq!(proxy.take(), [""; 0]);
}

#[test]
fn this_machine_is_not_reached_through_a_proxy() {
    let world = World::start("");
    let address = world.server.address();
    let proxy = ForwardProxy::start(&[(&address, &address)]);
    let name = format!("{address}/alice/image:1");
    let local = name.replace("127.0.0.1", "localhost");
    let url = format!("http://{}", proxy.address());
    let variables = [("HTTP_PROXY", url.as_str()), ("HTTPS_PROXY", &url), ("ALL_PROXY", &url)];
    world.log_in(&address, &variables).ok();
    world.cove.load(&Image::new(1, 10_000), &name);
    world.words(&["push", &name], &variables).ok();
    world.words(&["pull", &name], &variables).ok();
    world.words(&["pull", &local], &variables).fails(); // not logged in under this name
    assert_eq!(proxy.take(), [""; 0]);
}

#[test]
fn a_proxy_that_wants_a_password_or_fails_is_named() {
    let world = World::start(PLAIN);
    let proxy = ForwardProxy::with_login(&[(HUB, &world.server.address())], Some("me@net:s3cret/word"));
    let address = proxy.address();
    let with = |login: &str| format!("http://{login}@{address}");
    world.there_and_back(&[("HTTP_PROXY", &with("me%40net:s3cret%2Fword"))]);
    // Not even to whoever wants to know everything is the password told.
    let talk = world.words(
        &["--debug", "--log-level", "trace", "pull", IMAGE],
        &[("HTTP_PROXY", &with("me%40net:s3cret%2Fword")), ("RUST_LOG", "trace")],
    );
    let said = talk.run();
    assert!(said.succeeded() && said.stderr.contains("DEBUG"), "{said}");
    for secret in ["s3cret", "me%40net", "bWVAbmV0OnMzY3JldC93b3Jk"] {
        assert!(!said.printed().contains(secret), "{said}");
    }
    let insecure = "https://hub.test:5000/alice/image:1".trim_start_matches("https://");
    let secure = "tls.test:5000/alice/image:1";
    for (variable, name) in [("HTTP_PROXY", insecure), ("HTTPS_PROXY", secure)] {
        let printed = |login: &str| {
            let url = if login.is_empty() { format!("http://{address}") } else { with(login) };
            let finished = world.words(&["pull", name], &[(variable, &url)]).run();
            assert_eq!(finished.code, Some(1), "{finished}");
            assert!(finished.stderr.contains(&format!("the proxy `http://{address}`")), "{variable} {finished}");
            assert!(!finished.stderr.contains("wrong-word") && !finished.stderr.contains("me%40"), "{finished}");
            finished.stderr
        };
        let none = printed("");
        assert!(none.contains("wants a user name and a password (407)") && none.contains(variable), "{none}");
        let wrong = printed("me%40net:wrong-word");
        assert!(wrong.contains("refused the user name") && wrong.contains(variable), "{wrong}");
        // All is well with the proxy's login, and there is no way on.
        proxy.refuse_with("502 Bad Gateway");
        let nowhere = printed("me%40net:s3cret%2Fword");
        assert!(nowhere.contains("does not connect") || nowhere.contains("502 bad gateway"), "{nowhere}");
        assert!(!nowhere.contains("s3cret"), "{nowhere}");
    }
    let gone = format!("http://127.0.0.1:{}", free_port());
    for (variable, name) in [("HTTP_PROXY", insecure), ("HTTPS_PROXY", secure)] {
        let printed = world.words(&["pull", name], &[(variable, &gone)]).fails();
        assert!(printed.contains(&format!("the proxy `{gone}` cannot be reached")), "{printed}");
        assert!(printed.contains(variable) && printed.contains("NO_PROXY"), "{printed}");
        let printed = world.words(&["pull", name], &[(variable, "ftp://user:s3cret@proxy")]).fails();
        assert!(printed.contains(&format!("`{variable}` is not the address of a proxy")), "{printed}");
        assert!(!printed.contains("s3cret"), "{printed}");
    }
}

/// `cove-server` with TLS.
struct Secure {
    _process: Process,
    authority: Authority,
    folder: Scratch,
}

impl Secure {
    fn start(server: &Server) -> Self {
        let (authority, folder) = (Authority::new(), Scratch::new("secure"));
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        authority.issue(&certificate, &key);
        let process = server
            .command(["--tls-certificate", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()])
            .env("COVE_LISTEN", server.address())
            .env("COVE_ADMIN_PASSWORD", &server.admin_login().password)
            .start(&server.folder().join("log"));
        let ready = Cmd::new("curl").args(["-fsS", "--cacert"]).arg(authority.certificate());
        let ready = ready.arg(format!("https://{}/readyz", server.address()));
        wait_until("the server is ready", Duration::from_secs(60), || ready.run().succeeded());
        Self { _process: process, authority, folder }
    }
}

#[test]
fn https_through_a_proxys_tunnel() {
    let server = Server::builder().prepare();
    let secure = Secure::start(&server);
    let alice = server.add_user("alice");
    let world = World::with(server, alice, "");
    let proxy = ForwardProxy::with_login(&[(HUB, &world.server.address())], Some("me:s3cret"));
    let url = format!("http://me:s3cret@{}", proxy.address());

    // The proxy does not make a certificate better.
    let printed = world.words(&["pull", IMAGE], &[("HTTPS_PROXY", &url)]).fails();
    assert!(
        printed.contains("no secure connection to `https://hub.test:5000") && !printed.contains("s3cret"),
        "{printed}"
    );

    let folder = world.cove.scratch().folder(".config/cove/certs.d/hub.test:5000");
    fs::copy(secure.authority.certificate(), folder.join("ca.crt")).unwrap();
    for variable in ["HTTPS_PROXY", "https_proxy"] {
        world.there_and_back(&[(variable, &url), ("HTTP_PROXY", "http://127.0.0.1:1")]);
        let asked = proxy.take();
        assert!(!asked.is_empty() && asked.iter().all(|line| line == "CONNECT hub.test:5000"), "{asked:?}");
    }
    drop(secure.folder);
}

/// nginx with these sites, its files in this folder.
fn nginx(folder: &Scratch, sites: &str) -> Process {
    let at = |name: &str| folder.join(name).display().to_string();
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let paths = paths.map(|name| format!("{name}_temp_path {};\n", at(name))).concat();
    let configuration = format!(
        "daemon off;\nuser root;\npid {};\nerror_log {};\nevents {{}}\nhttp {{\naccess_log off;\n{paths}{sites}}}\n",
        at("pid"),
        at("error.log"),
    );
    let configuration = folder.write("nginx.conf", configuration);
    Cmd::new("nginx").arg("-p").arg(folder.path()).arg("-c").arg(configuration).start(&folder.join("log"))
}

/// nginx before a server, which wants a certificate of the authority from everybody.
struct Guarded {
    _nginx: Process,
    authority: Authority,
    folder: Scratch,
    address: String,
}

impl Guarded {
    fn start(server: &Server) -> Self {
        let (authority, folder) = (Authority::new(), Scratch::new("guarded"));
        let address = format!("127.0.0.1:{}", free_port());
        for name in ["server", "client"] {
            authority.issue(&folder.join(format!("{name}.cert")), &folder.join(format!("{name}.key")));
        }
        let at = |name: &str| folder.join(name).display().to_string();
        let site = format!(
            "server {{ listen {address} ssl; ssl_certificate {}; ssl_certificate_key {};\n\
             ssl_client_certificate {}; ssl_verify_client on; client_max_body_size 0;\n\
             location / {{ proxy_pass http://{}; proxy_set_header Host $http_host;\n\
             proxy_set_header X-Forwarded-Proto https; proxy_request_buffering off; }} }}\n",
            at("server.cert"),
            at("server.key"),
            authority.certificate().display(),
            server.address(),
        );
        let nginx = nginx(&folder, &site);
        let ready = Cmd::new("curl").args(["-fsS", "--cacert"]).arg(authority.certificate());
        let ready = ready.arg("--cert").arg(folder.join("client.cert")).arg("--key").arg(folder.join("client.key"));
        let ready = ready.arg(format!("https://{address}/readyz"));
        wait_until("nginx passes requests on", Duration::from_secs(60), || ready.run().succeeded());
        Self { _nginx: nginx, authority, folder, address }
    }

    /// Puts what docker and podman have in such folders into one.
    fn fill(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        fs::copy(self.authority.certificate(), folder.join("ca.crt")).unwrap();
        for name in ["client.cert", "client.key"] {
            fs::copy(self.folder.join(name), folder.join(name)).unwrap();
        }
    }
}

#[test]
fn a_server_that_wants_a_client_certificate() {
    let server = Server::builder().args(["--trusted-proxy", "127.0.0.1"]).start();
    let alice = server.add_user("alice");
    let guarded = Guarded::start(&server);
    let address = &guarded.address;
    let world = World::with(server, alice, "");
    let name = format!("{address}/alice/image:1");
    world.cove.load(&Image::new(2, 50_000), &name);
    let home = world.cove.scratch().path().to_owned();

    // Without one, and with one that somebody else has issued.
    let wants = |printed: &str| printed.contains("client.cert") && printed.contains("certs.d");
    let printed = world.log_in(address, &[]).fails();
    assert!(wants(&printed), "{printed}");
    let others = home.join(".config/cove/certs.d").join(address);
    fs::create_dir_all(&others).unwrap();
    Authority::new().issue(&others.join("client.cert"), &others.join("client.key"));
    let printed = world.log_in(address, &[]).fails();
    assert!(wants(&printed), "{printed}");
    fs::write(others.join("client.key"), "no key").unwrap();
    let printed = world.log_in(address, &[]).fails();
    assert!(printed.contains("client.cert") && printed.contains("cannot be used for TLS"), "{printed}");
    fs::remove_file(others.join("client.key")).unwrap();
    let printed = world.log_in(address, &[]).fails();
    assert!(printed.contains("client.cert") && printed.contains("without a `.key`"), "{printed}");
    fs::remove_dir_all(&others).unwrap();

    // In the folders of docker and podman.
    for folder in [".docker/certs.d", ".config/containers/certs.d", ".config/docker/certs.d"] {
        let folder = home.join(folder).join(address);
        guarded.fill(&folder);
        world.log_in(address, &[]).ok();
        world.words(&["push", &name], &[]).ok();
        world.words(&["pull", &name], &[]).ok();
        fs::remove_dir_all(&folder).unwrap();
        world.words(&["pull", &name], &[]).fails();
    }

    // In cove.toml, with paths from its own folder on.
    guarded.fill(&home.join("tls"));
    let table = format!(
        "[registry.'{address}']\nca = 'tls/ca.crt'\nclient-certificate = 'tls/client.cert'\nclient-key = 'tls/client.key'\n"
    );
    fs::write(&world.settings, table).unwrap();
    world.words(&["push", &name], &[]).ok();
    world.words(&["pull", &name], &[]).ok();
}

/// nginx is friendly; others end the connection.
#[test]
fn a_server_that_ends_the_connection_without_a_certificate() {
    let world = World::start("");
    let (authority, folder) = (Authority::new(), Scratch::new("strict"));
    authority.issue(&folder.join("server.cert"), &folder.join("server.key"));
    let address = format!("127.0.0.1:{}", free_port());
    let server = Cmd::new("openssl").args(["s_server", "-accept", &address, "-www", "-Verify", "1"]);
    let server = server.arg("-verify_return_error").arg("-cert").arg(folder.join("server.cert")).arg("-key");
    let server = server.arg(folder.join("server.key")).arg("-CAfile").arg(authority.certificate());
    let _server = server.start(&folder.join("log"));
    wait_until("it listens", Duration::from_secs(20), || std::net::TcpStream::connect(&address).is_ok());
    let printed = world.words(&["pull", &format!("{address}/x:1")], &[]).fails();
    assert!(printed.contains("client certificate") && printed.contains("certs.d"), "{printed}");
}

#[test]
fn import_from_an_address() {
    let world = World::start("");
    let (authority, folder, image) = (Authority::new(), Scratch::new("files"), Image::new(1, 3_000_000));
    authority.issue(&folder.join("server.cert"), &folder.join("server.key"));
    let (plain, secure) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    fs::copy(&image.layers()[0], folder.folder("files").join("root.tar")).unwrap();
    let at = |name: &str| folder.join(name).display().to_string();
    let files = at("files");
    let sites = format!(
        "server {{ listen {plain}; root {files}; }}\n\
         server {{ listen {secure} ssl; ssl_certificate {}; ssl_certificate_key {}; root {files};\n\
         location /moved {{ return 302 https://{secure}/root.tar; }}\n\
         location /down {{ return 302 http://{plain}/root.tar; }}\n\
         location /round {{ return 302 https://{secure}/round; }} }}\n",
        at("server.cert"),
        at("server.key"),
    );
    let _nginx = nginx(&folder, &sites);
    wait_until("nginx listens", Duration::from_secs(20), || std::net::TcpStream::connect(&secure).is_ok());
    let trusted = world.cove.scratch().folder(&format!(".docker/certs.d/{secure}"));
    fs::copy(authority.certificate(), trusted.join("ca.crt")).unwrap();

    let expected = world.cove.words(["import"]).arg(&image.layers()[0]).arg("from-file").ok();
    let layers = world.cove.inspect(&expected, "{{json .RootFS.Layers}}");
    for (number, address) in
        [format!("http://{plain}/root.tar"), format!("https://{secure}/root.tar"), format!("https://{secure}/moved")]
            .iter()
            .enumerate()
    {
        let name = format!("from-web:{number}");
        let id = world.words(&["import", address, &name], &[]).ok();
        assert_eq!(world.cove.id(&name), id);
        assert_eq!(world.cove.inspect(&name, "{{json .RootFS.Layers}}"), layers);
        assert_eq!(world.cove.inspect(&name, "{{.Comment}}"), format!("Imported from {address}"));
    }
    for (address, says) in [
        (format!("https://{secure}/down"), "it leaves https"),
        (format!("https://{secure}/round"), "eleventh redirect"),
        (format!("https://{secure}/missing"), "404 not found"),
        (format!("https://user:s3cret@{secure}/root.tar"), "a user name or a password"),
        ("http://hub.test/root.tar".to_owned(), "plain http is for this machine"),
        ("https://".to_owned(), "it is no URL"),
    ] {
        let printed = world.words(&["import", &address, "wrong"], &[]).fails();
        assert!(printed.contains(says) && !printed.contains("s3cret"), "{address}: {printed}");
    }
    // What breaks off is no image, though what came was a whole tar.
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = format!("http://{}/root.tar", listener.local_addr().unwrap());
    let tar = fs::read(&image.layers()[0]).unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", tar.len() + 1);
            let _ = client.read(&mut [0; 4096]);
            let _ = client.write_all(&[head.as_bytes(), &tar].concat());
        }
    });
    let printed = world.words(&["import", &address, "wrong"], &[]).fails();
    assert!(printed.contains(&address), "{printed}");
    assert_eq!(world.cove.words(["images", "-q", "wrong"]).ok(), "");
}
