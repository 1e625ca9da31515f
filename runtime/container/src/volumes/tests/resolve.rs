//! What a container gets of what was asked for. The expectations are what `docker inspect` of 20.10 printed.

use serde_json::{Value, json};

use super::*;
use crate::config::{BindOptions, Driver, Empty, Mount, MountKind, Propagation, VolumeOptions};

fn config(volumes: &[&str]) -> Config {
    Config { volumes: volumes.iter().map(|path| ((*path).to_owned(), Empty {})).collect(), ..Config::default() }
}

fn host(binds: &[&str]) -> HostConfig {
    HostConfig { binds: binds.iter().map(|bind| (*bind).to_owned()).collect(), ..HostConfig::default() }
}

fn mount(kind: MountKind, source: &str, target: &str) -> Mount {
    Mount { kind, source: source.to_owned(), target: target.to_owned(), ..Mount::default() }
}

/// As `inspect` shows them, without what differs between two runs: the root folder and names of 64 digits.
fn shown(place: &Place, config: &Config, host_config: &HostConfig) -> Value {
    let mounts = match place.volumes.resolve(config, host_config, &place.containers) {
        Ok(resolved) => resolved.mounts,
        Err(error) => return json!(error.to_string()),
    };
    let mut text = serde_json::to_string(&mounts).unwrap();
    for mount in mounts.iter().filter(|mount| mount.name.len() == 64) {
        text = text.replace(&mount.name, "ANON");
    }
    serde_json::from_str(&text.replace(place.folder.path().to_str().unwrap(), "")).unwrap()
}

fn volume(name: &str, destination: &str, mode: &str, writable: bool) -> Value {
    json!({"Type": "volume", "Name": name, "Source": format!("/lib/volumes/{name}/_data"), "Destination": destination,
        "Driver": "local", "Mode": mode, "RW": writable, "Propagation": ""})
}

fn bind(source: &str, destination: &str, mode: &str, writable: bool, propagation: &str) -> Value {
    json!({"Type": "bind", "Source": source, "Destination": destination, "Mode": mode, "RW": writable,
        "Propagation": propagation})
}

#[test]
fn dash_v_becomes_what_docker_makes_of_it() {
    let place = Place::new();
    for (text, expected) in [
        ("named:/x", volume("named", "/x", "z", true)),
        ("named:/x:ro", volume("named", "/x", "ro", false)),
        ("named:/x:nocopy", volume("named", "/x", "nocopy", true)),
        ("named:/x:ro,nocopy,z", volume("named", "/x", "ro,nocopy,z", false)),
        ("named:/x/../y/", volume("named", "/y", "z", true)),
        ("/missing/:/x/", bind("/missing", "/x", "", true, "rprivate")),
        ("/missing2/a/../b:/x", bind("/missing2/b", "/x", "", true, "rprivate")),
        ("/missing:/x:rslave", bind("/missing", "/x", "rslave", true, "rslave")),
        ("/missing:/x:shared,ro", bind("/missing", "/x", "shared,ro", false, "shared")),
        ("/missing:/x:Z", bind("/missing", "/x", "Z", true, "rprivate")),
        ("/missing:/x:cached", bind("/missing", "/x", "cached", true, "rprivate")),
    ] {
        assert_eq!(shown(&place, &config(&[]), &host(&[text])), json!([expected]), "{text}");
    }
    for (text, words) in [
        ("/anon:ro", "invalid volume specification: '/anon:ro'"),
        (
            "named:/x:rshared",
            "invalid volume specification: 'named:/x:rshared': invalid mount config for type \"volume\": \
             field BindOptions must not be specified",
        ),
        ("named:/x:bogus", "invalid mode: bogus"),
        ("named:/x:ro,rw", "invalid mode: ro,rw"),
        ("/m:/x:z,Z", "invalid mode: z,Z"),
        ("/m:/x:consistent,delegated", "invalid mode: consistent,delegated"),
        ("/m:/x:rprivate,rslave", "invalid mode: rprivate,rslave"),
        (
            "named:x",
            "invalid volume specification: 'named:x': invalid mount config for type \"volume\": \
             invalid mount path: 'x' mount path must be absolute",
        ),
        (
            "/m:/x:nocopy",
            "invalid volume specification: '/m:/x:nocopy': invalid mount config for type \"bind\": \
             field VolumeOptions must not be specified",
        ),
        (
            "/m:/",
            "invalid volume specification: '/m:/': invalid mount config for type \"bind\": \
             invalid specification: destination can't be '/'",
        ),
        ("a:/x:ro:z", "invalid volume specification: 'a:/x:ro:z'"),
        (
            "na me:/x",
            "create na me: \"na me\" includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path",
        ),
    ] {
        assert_eq!(shown(&place, &config(&[]), &host(&[text])), json!(words), "{text}");
    }
    assert!(!Path::new("/missing").exists(), "folders are made at the start");
}

#[test]
fn dash_dash_mount_becomes_what_docker_makes_of_it() {
    let place = Place::new();
    let there = place.path("there");
    std::fs::create_dir(&there).unwrap();
    let there = there.to_str().unwrap();
    let asked =
        |mount: Mount| shown(&place, &config(&[]), &HostConfig { mounts: vec![mount], ..HostConfig::default() });
    let read_only = |mount: Mount| Mount { read_only: true, ..mount };
    use MountKind::{Bind, Tmpfs, Volume};
    assert_eq!(asked(read_only(mount(Bind, there, "/x"))), json!([bind("/there", "/x", "", false, "rprivate")]));
    let slave = BindOptions { propagation: Some(Propagation::Rslave), ..BindOptions::default() };
    let slave = Mount { bind_options: Some(slave), ..mount(Bind, there, "/x") };
    assert_eq!(asked(slave), json!([bind("/there", "/x", "", true, "rslave")]));
    assert_eq!(asked(mount(Volume, "", "/x")), json!([volume("ANON", "/x", "z", true)]));
    let driver = Driver { name: "local".into(), options: map([("type", "tmpfs"), ("device", "tmpfs")]) };
    let options =
        VolumeOptions { labels: map([("a", "b")]), driver_config: Some(driver.clone()), ..VolumeOptions::default() };
    let named = Mount { volume_options: Some(options), ..mount(Volume, "nn", "/x") };
    assert_eq!(asked(named), json!([volume("nn", "/x", "z", true)]));
    let made = place.volumes.find("nn").unwrap();
    assert_eq!((&made.record().labels, &made.record().options), (&map([("a", "b")]), &driver.options));
    let memory =
        json!([{"Type": "tmpfs", "Source": "", "Destination": "/x", "Mode": "", "RW": false, "Propagation": ""}]);
    assert_eq!(asked(read_only(mount(Tmpfs, "", "/x"))), memory);

    let refused = |mount: Mount| asked(mount).as_str().map(str::to_owned).unwrap_or_default();
    let kind = |kind: &str, problem: &str| format!("invalid mount config for type \"{kind}\": {problem}");
    let relative = |path: &str| format!("invalid mount path: '{path}' mount path must be absolute");
    let no_source = kind("bind", "bind source path does not exist: /not/there");
    assert_eq!(refused(mount(Bind, "/not/there", "/x")), no_source);
    assert_eq!(refused(mount(Bind, "rel", "/x")), kind("bind", &relative("rel")));
    assert_eq!(refused(mount(Bind, there, "x")), kind("bind", &relative("x")));
    assert_eq!(refused(mount(Bind, there, "/")), kind("bind", "invalid specification: destination can't be '/'"));
    assert_eq!(refused(mount(Bind, "", "/x")), kind("bind", "field Source must not be empty"));
    let anonymous = kind("volume", "must not set ReadOnly mode when using anonymous volumes");
    assert_eq!(refused(read_only(mount(Volume, "", "/x"))), anonymous);
    assert_eq!(refused(mount(Tmpfs, "foo", "/x")), kind("tmpfs", "field Source must not be specified"));
    let subpath = VolumeOptions { subpath: "a/../../b".into(), ..VolumeOptions::default() };
    let subpath = Mount { volume_options: Some(subpath), ..mount(Volume, "nn", "/x") };
    assert_eq!(refused(subpath), kind("volume", "subpath must be a relative path within the volume"));
    let other = Driver { name: "nodriver".into(), ..Driver::default() };
    let other = VolumeOptions { driver_config: Some(other), ..VolumeOptions::default() };
    let other = Mount { volume_options: Some(other), ..mount(Volume, "named", "/x") };
    assert_eq!(refused(other), "create named: error looking up volume plugin nodriver: plugin \"nodriver\" not found");
}

#[test]
fn who_comes_first_at_one_place() {
    let place = Place::new();
    let image = config(&["/data"]);
    assert_eq!(shown(&place, &image, &host(&[])), json!([volume("ANON", "/data", "", true)]));
    assert_eq!(shown(&place, &image, &host(&["named:/data"])), json!([volume("named", "/data", "z", true)]));
    let memory = HostConfig { tmpfs: map([("/data", "")]), ..host(&[]) };
    assert_eq!(shown(&place, &image, &memory), json!([]));
    let by_mount = HostConfig { mounts: vec![mount(MountKind::Volume, "named", "/data")], ..host(&[]) };
    assert_eq!(shown(&place, &image, &by_mount), json!([volume("named", "/data", "z", true)]));
    let duplicate = json!("Duplicate mount point: /x");
    assert_eq!(shown(&place, &image, &host(&["/m:/x", "named:/x/"])), duplicate);
    let both = HostConfig { mounts: vec![mount(MountKind::Volume, "named", "/x")], ..host(&["/m:/x"]) };
    assert_eq!(shown(&place, &image, &both), duplicate);
    let both = HostConfig { tmpfs: map([("/x", "")]), ..host(&["/m:/x"]) };
    assert_eq!(shown(&place, &image, &both), duplicate);
    let tmpfs = |path: &str, options: &str| HostConfig { tmpfs: map([(path, options)]), ..host(&[]) };
    assert_eq!(shown(&place, &image, &tmpfs("/x", "bogus")), json!("invalid tmpfs option [\"bogus\"]"));
    assert_eq!(shown(&place, &image, &tmpfs("/", "")), json!("invalid specification: destination can't be '/'"));
    let relative = json!("invalid mount path: 'rel' mount path must be absolute");
    assert_eq!(shown(&place, &image, &tmpfs("rel", "")), relative);
    assert_eq!(shown(&place, &config(&["rel"]), &host(&[])), json!([volume("ANON", "/rel", "", true)]));
    assert!(shown(&place, &config(&["/"]), &host(&[])).as_str().unwrap().contains("destination can't be '/'"));
}

#[test]
fn mounts_of_another_container_come_first_and_yield() {
    let place = Place::new();
    let non_recursive = BindOptions { non_recursive: true, ..BindOptions::default() };
    let mounts = vec![
        Mount { read_only: true, bind_options: Some(non_recursive), ..mount(MountKind::Bind, "/proc", "/hro") },
        mount(MountKind::Tmpfs, "", "/tm"),
    ];
    let base = HostConfig { mounts, ..host(&["nv:/nv", "nr:/nr:ro", "/hostd:/h:rslave"]) };
    let record = place.create("base", &config(&["/data"]), &base).unwrap();
    let from = |text: &str| HostConfig { volumes_from: vec![text.to_owned()], ..host(&[]) };
    let inherited = |writable: bool| {
        json!([
            volume("ANON", "/data", "", writable),
            bind("/hostd", "/h", "", writable, "rslave"),
            bind("/proc", "/hro", "", false, "rprivate"),
            volume("nr", "/nr", "", false),
            volume("nv", "/nv", "", writable),
        ])
    };
    assert_eq!(shown(&place, &config(&["/data"]), &from("base")), inherited(true), "the image's volume is that one");
    assert_eq!(shown(&place, &config(&[]), &from("base:rw")), inherited(true));
    assert_eq!(shown(&place, &config(&[]), &from("base:z")), inherited(true));
    assert_eq!(shown(&place, &config(&[]), &from("base:")), inherited(true));
    assert_eq!(shown(&place, &config(&[]), &from("base:ro,z")), inherited(false));
    assert_eq!(shown(&place, &config(&[]), &from(record.id.short())), inherited(true));
    for (text, words) in [
        ("base:bogus", "invalid mode: bogus"),
        ("base:nocopy", "invalid mode: nocopy"),
        ("base:rslave", "invalid mode: rslave"),
        ("nobody", "No such container: nobody"),
        ("", "volumes-from specification cannot be an empty string"),
    ] {
        assert_eq!(shown(&place, &config(&[]), &from(text)), json!(words));
    }
    let other = HostConfig { binds: vec!["other:/nv".to_owned()], ..from("base") };
    let found = shown(&place, &config(&[]), &other);
    assert_eq!(found[4], volume("other", "/nv", "z", true));

    let sharing = place.create("sharing", &config(&[]), &from("base")).unwrap();
    assert!(sharing.mounts.iter().all(|mount| !mount.details.seeded));
    assert!(sharing.mounts[2].details.non_recursive && sharing.mounts[1].details.creates_source);
    let base = place.containers.find("base").unwrap();
    place.containers.remove(&base).unwrap();
    place.volumes.remove_anonymous(&record, &place.containers).unwrap();
    assert!(place.volumes.get(&record.mounts[0].name).unwrap().is_some(), "another container has it");
}

#[test]
fn a_container_that_cannot_be_leaves_no_volume_without_a_name() {
    let place = Place::new();
    let driver = Driver { name: "nodriver".into(), ..Driver::default() };
    let options = VolumeOptions { driver_config: Some(driver), ..VolumeOptions::default() };
    let failing = Mount { volume_options: Some(options), ..mount(MountKind::Volume, "nn", "/z") };
    let mounts = vec![mount(MountKind::Volume, "", "/x"), failing];
    let asked = HostConfig { mounts, ..host(&[]) };
    assert!(shown(&place, &config(&[]), &asked).is_string());
    assert_eq!(place.volumes.all().unwrap().0, []);
}
