//! Every dialect of the configuration of registries, and which of them wins.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use cove_oci::RegistryName;
use cove_remote::{Access, ConfigPaths, Host, Registries, RegistriesError};
use tempfile::TempDir;

struct Etc {
    folder: TempDir,
    paths: ConfigPaths,
}

impl Etc {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| vec![folder.path().join(name)];
        let paths = ConfigPaths {
            cove: vec![folder.path().join("cove.toml"), folder.path().join("user/cove.toml")],
            hosts: vec![folder.path().join("certs.d"), folder.path().join("more/certs.d")],
            registries_conf: at("registries.conf"),
            registries_conf_d: at("registries.conf.d"),
            daemon_json: at("daemon.json"),
            variables: Default::default(),
        };
        Etc { folder, paths }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn with(self, name: &str, text: &str) -> Self {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), text).unwrap();
        self
    }

    fn load(&self) -> Registries {
        Registries::load(&self.paths).unwrap()
    }

    fn refused(&self) -> String {
        Registries::load(&self.paths).err().expect("the configuration is refused").to_string()
    }

    fn hosts(&self, repository: &str, access: Access) -> Vec<Host> {
        let reference: cove_oci::Reference = repository.parse().unwrap();
        self.load().hosts_for(reference.registry(), reference.repository(), access).unwrap()
    }

    fn bases(&self, repository: &str) -> Vec<String> {
        self.hosts(repository, Access::Pull).iter().map(|host| host.base.to_string()).collect()
    }
}

fn registry(name: &str) -> RegistryName {
    name.parse().unwrap()
}

#[test]
fn without_configuration_everything_is_https_and_where_its_name_says() {
    let etc = Etc::new();
    assert_eq!(etc.load().default_registry(), RegistryName::docker_hub());
    assert_eq!(etc.bases("debian"), ["https://registry-1.docker.io/v2/"]);
    assert_eq!(etc.bases("hub.example.com:5000/app"), ["https://hub.example.com:5000/v2/"]);
    let host = etc.hosts("hub.example.com/app", Access::Push).remove(0);
    assert!(!host.skip_verify && host.over_plain_http().is_none() && host.capabilities.push && !host.is_mirror);
    let url = host.url(&"team/app".parse().unwrap(), "manifests/latest").unwrap();
    assert_eq!(url.as_str(), "https://hub.example.com/v2/team/app/manifests/latest");
    for name in ["localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
        let host = etc.hosts(&format!("{name}/app"), Access::Pull).remove(0);
        let plain = host.over_plain_http().expect("this machine may be spoken to in plain http");
        assert_eq!(plain.base.as_str(), format!("http://{name}/v2/"));
        assert!(Registries::is_loopback(&registry(name)) && plain.over_plain_http().is_none());
    }
    for name in ["localhost.example.com", "128.0.0.1", "[::2]", "10.0.0.1"] {
        let host = etc.hosts(&format!("{name}/app"), Access::Pull).remove(0);
        assert!(host.over_plain_http().is_none() && !host.skip_verify, "{name}");
    }
}

#[test]
fn dockers_daemon_json() {
    let etc = Etc::new().with(
        "daemon.json",
        r#"{"registry-mirrors": ["https://mirror.example.com/", "http://10.1.2.3:5000/hub"],
            "insecure-registries": ["lab.example.com:5000", "http://old.example.com", "10.1.0.0/16"],
            "max-concurrent-downloads": 7, "max-concurrent-uploads": 0, "storage-driver": "overlay2", "log-opts": {}}"#,
    );
    assert_eq!(
        etc.bases("debian"),
        ["https://mirror.example.com/v2/", "http://10.1.2.3:5000/hub/v2/", "https://registry-1.docker.io/v2/"]
    );
    assert_eq!(etc.bases("hub.example.com/app").len(), 1, "docker's mirrors are for Docker Hub only");
    assert_eq!(etc.hosts("debian", Access::Push).len(), 1, "nothing is pushed to a mirror");
    let mirror = etc.hosts("debian", Access::Pull).remove(0);
    assert!(mirror.is_mirror && mirror.name() == Some(registry("mirror.example.com")));
    for (name, insecure) in [
        ("lab.example.com:5000", true),
        ("lab.example.com", false),
        ("old.example.com", true),
        ("10.1.99.1:443", true),
        ("10.2.0.1", false),
    ] {
        let host = etc.hosts(&format!("{name}/app"), Access::Pull).remove(0);
        assert_eq!((host.skip_verify, host.over_plain_http().is_some()), (insecure, insecure), "{name}");
    }
    let limits = etc.load().limits(&registry("hub.example.com"));
    assert_eq!((limits.downloads, limits.uploads), (Some(7), None));
    assert!(Etc::new().with("daemon.json", "{\n\"registry-mirrors\": [\n").refused().contains("daemon.json` line 3"));
    let refused = Etc::new().with("daemon.json", r#"{"registry-mirrors": ["ftp://x"]}"#).refused();
    assert!(refused.contains("`ftp://x`") && refused.contains("daemon.json"), "{refused}");
}

#[test]
fn podmans_registries_conf() {
    let etc = Etc::new()
        .with(
            "registries.conf",
            r#"
unqualified-search-registries = ["one.example.com", "docker.io"]
short-name-mode = "enforcing"

[[registry]]
prefix = "hub.example.com/team"
location = "inner.example.com/copies/of-team"
mirror-by-digest-only = true
[[registry.mirror]]
location = "mirror.example.com/team"
insecure = true
[[registry.mirror]]
location = "tags.example.com"
pull-from-mirror = "tag-only"

[[registry]]
location = "blocked.example.com"
blocked = true

[[registry]]
prefix = "*.wild.example.com"
insecure = true

[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "hub-mirror.example.com/hub"
"#,
        )
        .with(
            "registries.conf.d/10.conf",
            "unqualified-search-registries = [\"two.example.com\"]\n[[registry]]\nlocation = \"late.example.com\"\ninsecure = true\n",
        )
        .with("registries.conf.d/readme.txt", "not toml [");
    assert_eq!(etc.load().unqualified(), [registry("two.example.com")]);
    let hosts = etc.hosts("hub.example.com/team/app", Access::Pull);
    let repository = "team/app".parse().unwrap();
    let urls: Vec<String> = hosts.iter().map(|host| host.url(&repository, "tags/list").unwrap().to_string()).collect();
    assert_eq!(
        urls,
        [
            "https://mirror.example.com/v2/team/app/tags/list",
            "https://tags.example.com/v2/app/tags/list",
            "https://inner.example.com/v2/copies/of-team/app/tags/list"
        ]
    );
    let (tag, digest) = ("latest".parse().unwrap(), format!("sha256:{}", "a".repeat(64)).parse().unwrap());
    let serves = |host: &Host| {
        use cove_oci::ManifestReference::{Digest, Tag};
        let (tag, digest): (&cove_oci::Tag, &cove_oci::Digest) = (&tag, &digest);
        (host.capabilities.serves(&Tag(tag.clone())), host.capabilities.serves(&Digest(digest.clone())))
    };
    assert_eq!(hosts.iter().map(serves).collect::<Vec<_>>(), [(false, true), (true, false), (true, true)]);
    assert!(hosts[0].over_plain_http().is_some() && hosts[1].over_plain_http().is_none());
    assert_eq!(etc.bases("hub.example.com/teams/app"), ["https://hub.example.com/v2/"], "a prefix ends at a slash");
    assert!(etc.hosts("a.wild.example.com/app", Access::Pull)[0].skip_verify);
    assert!(!etc.hosts("awild.example.com/app", Access::Pull)[0].skip_verify);
    assert!(etc.hosts("late.example.com/app", Access::Push)[0].skip_verify);
    let hub = etc.hosts("debian", Access::Pull);
    let url = hub[0].url(&"library/debian".parse().unwrap(), "manifests/12").unwrap();
    assert_eq!(url.as_str(), "https://hub-mirror.example.com/v2/hub/library/debian/manifests/12");
    assert_eq!(hub[1].base.as_str(), "https://registry-1.docker.io/v2/");
    let blocked = etc.load().hosts(&registry("blocked.example.com"), Access::Pull).unwrap_err();
    assert!(matches!(blocked, RegistriesError::Blocked { .. }) && blocked.to_string().contains("registries.conf"));
    let refused = Etc::new().with("registries.conf", "\n\n[[registry]\n").refused();
    assert!(refused.contains("registries.conf` line 3"), "{refused}");
    let old = Etc::new().with(
        "registries.conf",
        "[registries.search]\nregistries = ['x.example.com']\n[registries.insecure]\nregistries = ['y.example.com']\n",
    );
    assert!(old.hosts("y.example.com/app", Access::Pull)[0].skip_verify);
}

const HOSTS_TOML: &str = r#"
server = "https://real.example.com"
ca = "ca/server.pem"

[host."https://zzz.example.com"]
  capabilities = ["pull"]
  ca = ["one.pem", "/etc/two.pem"]
  client = [["a.cert", "a.key"], ["both.pem", ""]]
  [host."https://zzz.example.com".header]
    x-team = "s3cret"
    x-many = ["1", "2"]

[host."http://aaa.example.com:5000/mirrors/hub"]
  skip_verify = true

[host."https://third.example.com/v2/project"]
  override_path = true
  capabilities = ["pull", "resolve", "push"]
"#;

#[test]
fn containerds_hosts_toml() {
    let etc = Etc::new().with("certs.d/hub.example.com/hosts.toml", HOSTS_TOML);
    assert_eq!(
        etc.bases("hub.example.com/app"),
        [
            "https://zzz.example.com/v2/",
            "http://aaa.example.com:5000/mirrors/hub/v2/",
            "https://third.example.com/v2/project/",
            "https://real.example.com/v2/"
        ],
        "in the file's order"
    );
    let hosts = etc.hosts("hub.example.com/app", Access::Pull);
    let folder = etc.path("certs.d/hub.example.com");
    assert_eq!(hosts[0].ca, [folder.join("one.pem"), PathBuf::from("/etc/two.pem")]);
    assert_eq!(hosts[3].ca, [folder.join("ca/server.pem")]);
    let client = &hosts[0].client_certificates;
    assert_eq!((client[0].key.clone(), client[1].key.clone()), (Some(folder.join("a.key")), None));
    assert!(!hosts[0].capabilities.resolve && hosts[0].capabilities.pull);
    assert_eq!(hosts[0].headers.len(), 3);
    assert!(!format!("{hosts:?}").contains("s3cret"), "headers may be secrets");
    assert!(hosts[1].skip_verify && hosts[1].capabilities.resolve);
    let pushed: Vec<String> =
        etc.hosts("hub.example.com/app", Access::Push).iter().map(|host| host.base.to_string()).collect();
    assert_eq!(pushed, ["https://third.example.com/v2/project/", "https://real.example.com/v2/"]);

    let general = Etc::new().with("more/certs.d/_default/hosts.toml", "[host.\"https://all.example.com\"]\n");
    assert_eq!(general.bases("any.example.com/app"), ["https://all.example.com/v2/", "https://any.example.com/v2/"]);
    let port = Etc::new().with("certs.d/any.example.com_5000_/hosts.toml", "server = 'http://here:1'\n");
    assert_eq!(port.bases("any.example.com:5000/app"), ["http://here:1/v2/"]);
    for (text, line) in
        [("\nserver = ", 2), ("[host.'https://x']\nca = 3\n", 1), ("\n\n[host.'https://x']\nclient = 3\n", 3)]
    {
        let etc = Etc::new().with("certs.d/bad.example.com/hosts.toml", text);
        let refused = etc.load().hosts(&registry("bad.example.com"), Access::Pull).unwrap_err().to_string();
        assert!(refused.contains(&format!("hosts.toml` line {line}")), "{refused}");
        etc.load().hosts(&registry("good.example.com"), Access::Pull).unwrap();
    }
    let wrong = Etc::new().with("certs.d/bad.example.com/hosts.toml", "[host.'https://x']\ncapabilities = ['fly']\n");
    assert!(wrong.load().hosts(&registry("bad.example.com"), Access::Pull).unwrap_err().to_string().contains("`fly`"));
}

#[test]
fn certificates_beside_it() {
    let etc = Etc::new()
        .with("certs.d/hub.example.com:5000/b.crt", "")
        .with("certs.d/hub.example.com:5000/a.crt", "")
        .with("certs.d/hub.example.com:5000/me.cert", "")
        .with("certs.d/hub.example.com:5000/me.key", "")
        .with("more/certs.d/hub.example.com:5000/c.crt", "")
        .with("certs.d/lone.example.com/me.cert", "");
    let host = etc.hosts("hub.example.com:5000/app", Access::Pull).remove(0);
    let names: Vec<&str> = host.ca.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["a.crt", "b.crt", "c.crt"]);
    assert_eq!(host.client_certificates[0].key.as_deref().and_then(Path::file_name).unwrap(), "me.key");
    assert!(etc.hosts("hub.example.com/app", Access::Pull)[0].ca.is_empty(), "another port is another registry");
    let refused = etc.load().hosts(&registry("lone.example.com"), Access::Pull).unwrap_err().to_string();
    assert!(refused.contains("me.cert") && refused.contains(".key"), "{refused}");
}

#[test]
fn coves_own_file() {
    let etc = Etc::new()
        .with(
            "cove.toml",
            r#"
default-registry = "hub.example.com"
[limits]
downloads = 4
attempts = 9
[registry."hub.example.com"]
mirrors = ["https://mirror.example.com", "second.example.com:5000"]
ca = "hub.pem"
client-certificate = "me.cert"
client-key = "me.key"
realms = ["auth.example.com", "auth.example.com:8443"]
headers = { x-team = "s3cret" }
limits = { downloads = 2 }
[registry."plain.example.com"]
plain-http = true
[registry."lab.example.com"]
insecure = true
[registry.localhost]
insecure = false
"#,
        )
        .with(
            "user/cove.toml",
            "default-registry = \"mine.example.com\"\n[registry.\"hub.example.com\"]\nmirrors = []\n",
        );
    let registries = etc.load();
    assert_eq!(registries.default_registry(), registry("mine.example.com"), "the user's file wins");
    let host = etc.hosts("hub.example.com/app", Access::Pull);
    assert_eq!(host.len(), 1, "the user's file took the mirrors away");
    assert_eq!(host[0].ca, [etc.path("hub.pem")]);
    assert_eq!(host[0].client_certificates[0].key, Some(etc.path("me.key")));
    assert!(host[0].headers[0].1 == "s3cret" && !format!("{host:?}").contains("s3cret"));
    assert_eq!(etc.bases("plain.example.com/app"), ["http://plain.example.com/v2/"]);
    assert!(etc.hosts("lab.example.com/app", Access::Pull)[0].over_plain_http().is_some());
    assert!(etc.hosts("localhost/app", Access::Pull)[0].over_plain_http().is_none());
    let limits = |name: &str| registries.limits(&registry(name));
    assert_eq!((limits("hub.example.com").downloads, limits("hub.example.com").attempts), (Some(2), Some(9)));
    assert_eq!(limits("other.example.com").downloads, Some(4));
    for (realm, allowed) in [
        ("https://hub.example.com/token", true),
        ("https://hub.example.com:443/token", true),
        ("https://auth.example.com/token", true),
        ("https://auth.example.com:8443/token", true),
        ("https://auth.example.com:9443/token", false),
        ("https://hub.example.com:8443/token", false),
        ("http://hub.example.com/token", false),
        ("http://auth.example.com/token", false),
        ("https://auth.example.com.evil.example/token", false),
        ("https://evil.example/?hub.example.com", false),
        ("ftp://hub.example.com/", false),
    ] {
        let realm = realm.parse().unwrap();
        assert_eq!(registries.realm_allowed(&registry("hub.example.com"), &realm), allowed, "{realm}");
    }
    assert!(registries.realm_allowed(&registry("127.0.0.1:5000"), &"http://127.0.0.1:5000/token".parse().unwrap()));
    assert!(!registries.realm_allowed(&registry("127.0.0.1:5000"), &"http://127.0.0.1:22/token".parse().unwrap()));
    assert!(!registries.realm_allowed(&registry("lab.example.com"), &"http://hub.example.com/".parse().unwrap()));
}

#[test]
fn a_misspelt_setting_is_an_error_with_its_line() {
    for (text, line, word) in [
        ("default-registry = 'a'\nmirors = []\n", 2, "mirors"),
        ("[registry.'x.example.com']\n\nplain_http = true\n", 3, "plain_http"),
        ("[limits]\ndownloads = 0\n", 2, "nonzero"),
        ("[registry.'x.example.com']\ninsecure = 's3cret'\n", 2, "boolean"),
    ] {
        let refused = Etc::new().with("cove.toml", text).refused();
        assert!(refused.contains(&format!("cove.toml` line {line}")) && refused.contains(word), "{refused}");
    }
    for (text, word) in [
        ("default-registry = 'https://x'", "default-registry"),
        ("[registry.'a/b']", "a/b"),
        ("[registry.'x.example.com']\nmirrors = ['https://u:p@x']", "mirrors"),
        ("[registry.'x.example.com']\nclient-key = 'k'", "client-certificate"),
        ("[registry.'x.example.com']\nheaders = {'a b' = 's3cret'}", "header"),
    ] {
        let refused = Etc::new().with("cove.toml", text).refused();
        assert!(refused.contains(word) && refused.contains("cove.toml") && !refused.contains("s3cret"), "{refused}");
    }
}

#[test]
fn the_first_dialect_that_says_something_wins() {
    let mut etc = Etc::new()
        .with("daemon.json", r#"{"registry-mirrors":["https://daemon.example"],"insecure-registries":["docker.io"]}"#);
    let first = |etc: &Etc| etc.bases("debian")[0].clone();
    assert_eq!(first(&etc), "https://daemon.example/v2/");
    etc = etc.with(
        "registries.conf",
        "[[registry]]\nlocation = 'docker.io'\n[[registry.mirror]]\nlocation = 'conf.example'\n",
    );
    assert_eq!(first(&etc), "https://conf.example/v2/");
    etc = etc.with("certs.d/docker.io/hosts.toml", "[host.'https://hosts.example']\n");
    assert_eq!(first(&etc), "https://hosts.example/v2/");
    assert!(
        etc.hosts("debian", Access::Push)[0].skip_verify,
        "daemon.json is the only one that says something of that"
    );
    etc = etc.with("cove.toml", "default-registry = 'a.example'\n[registry.'docker.io']\nmirrors = ['https://cove.example']\ninsecure = false\n");
    assert_eq!(first(&etc), "https://cove.example/v2/");
    assert!(!etc.hosts("debian", Access::Push)[0].skip_verify);
    etc.paths.variables.registry_mirrors = Some("https://one.example, https://two.example".into());
    etc.paths.variables.insecure_registries = Some("docker.io,10.0.0.0/8".into());
    etc.paths.variables.default_registry = Some("b.example".into());
    assert_eq!(etc.bases("debian")[..2], ["https://one.example/v2/", "https://two.example/v2/"]);
    assert!(etc.hosts("debian", Access::Push)[0].skip_verify && etc.hosts("10.1.1.1/app", Access::Pull)[0].skip_verify);
    assert_eq!(etc.load().default_registry(), registry("b.example"));
    etc.paths.variables.registry_mirrors = Some(String::new());
    assert_eq!(etc.bases("debian").len(), 1, "an empty variable switches mirrors off");
    etc.paths.variables.insecure_registries = Some("not a host!".into());
    assert!(etc.refused().contains("COVE_INSECURE_REGISTRIES"));
}

#[test]
fn what_is_configured_for_a_registry_is_not_for_whoever_stands_in_for_it() {
    let etc = Etc::new()
        .with(
            "cove.toml",
            r#"
insecure-registries = ["hub.example.com"]
[registry."hub.example.com"]
ca = "hub.pem"
client-certificate = "hub.cert"
headers = { X-Key = "of-hub" }
[registry."other.example.com"]
headers = { X-Key = "of-other" }
"#,
        )
        .with(
            "registries.conf",
            "[[registry]]\nprefix = \"hub.example.com\"\nlocation = \"other.example.com/copies\"\n",
        );
    let check = |host: &Host| {
        assert_eq!(host.base.as_str(), "https://other.example.com/v2/");
        assert!(host.ca.is_empty() && host.client_certificates.is_empty());
        assert!(!host.skip_verify && !host.plain_http_fallback);
        let headers: Vec<&str> = host.headers.iter().map(|(_, value)| value.to_str().unwrap()).collect();
        assert_eq!(headers, ["of-other"]);
        assert_eq!(host.name(), Some(registry("other.example.com")));
    };
    check(&etc.hosts("hub.example.com/app", Access::Push).remove(0));
    let etc = etc.with("certs.d/hub.example.com/hosts.toml", "server = \"https://other.example.com\"\n");
    check(&etc.hosts("hub.example.com/app", Access::Push).remove(0));
    // Whoever logs in goes to the registry itself, with what is meant for it.
    let home = etc.load().home(&registry("hub.example.com")).unwrap();
    assert_eq!(home.base.as_str(), "https://hub.example.com/v2/");
    assert!(home.skip_verify && home.ca.len() == 1 && home.client_certificates.len() == 1 && home.headers.len() == 1);
    // A table of registries.conf that only says something of its location moves nothing.
    let conf = "[[registry]]\nlocation = \"lab.example.com\"\ninsecure = true\n";
    let home = Etc::new().with("registries.conf", conf).load().home(&registry("lab.example.com")).unwrap();
    assert!(home.skip_verify && home.over_plain_http().is_some());
    // Another scheme is no other host.
    let etc = etc.with("certs.d/hub.example.com/hosts.toml", "server = \"http://hub.example.com\"\n");
    let host = etc.hosts("hub.example.com/app", Access::Push).remove(0);
    assert!(host.base.scheme() == "http" && host.headers[0].1.to_str().unwrap() == "of-hub");
}

#[test]
fn addresses_with_passwords_are_refused_without_being_shown() {
    let address = "https://user:hunter2@mirror.example.com";
    let toml = |text: &str| Etc::new().with("cove.toml", text).refused();
    let conf = |text: &str| Etc::new().with("registries.conf", text).refused();
    let mut by_variable = Etc::new();
    by_variable.paths.variables.registry_mirrors = Some(address.to_owned());
    let hosts = Etc::new().with("certs.d/hub.example.com/hosts.toml", &format!("[host.\"{address}\"]\n"));
    let server = Etc::new().with("certs.d/hub.example.com/hosts.toml", &format!("server = \"{address}\"\n"));
    let hub: cove_oci::Reference = "hub.example.com/app".parse().unwrap();
    let of_hosts = |etc: &Etc| etc.load().hosts(hub.registry(), Access::Pull).unwrap_err().to_string();
    for refused in [
        toml(&format!("[registry.\"hub.example.com\"]\nmirrors = [\"{address}\"]\n")),
        toml("insecure-registries = [\"user:hunter2@mirror.example.com\"]\n"),
        conf(
            "[[registry]]\nlocation = \"hub.example.com\"\n[[registry.mirror]]\nlocation = \"user:hunter2@mirror.example.com\"\n",
        ),
        Etc::new().with("daemon.json", &format!("{{\"registry-mirrors\": [\"{address}\"]}}")).refused(),
        by_variable.refused(),
        of_hosts(&hosts),
        of_hosts(&server),
    ] {
        assert!(!refused.contains("hunter2") && refused.contains("…@mirror.example.com"), "{refused}");
    }
}
