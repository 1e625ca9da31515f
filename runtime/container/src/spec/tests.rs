//! What docker's daemon does not do, or only elsewhere: ordinary users, joined namespaces, refusals. The rest is compared with
//! docker's own files by `tests/suite/container_options`.

#![allow(clippy::unwrap_used)]

use serde_json::Value;

use super::*;
use crate::config::{DeviceMapping, DeviceRequest, Ulimit};

fn facts() -> Facts<'static> {
    Facts {
        root: "/root-of-it".into(),
        identity: Identity::default(),
        binds: Vec::new(),
        hosts: None,
        hostname_file: None,
        resolv_conf: None,
        cgroup: Some("/cove/x".into()),
        network: None,
        pid: None,
        ipc: None,
        shm: None,
        init: "/dev/init".into(),
        cgroup_version: CgroupVersion::One,
        rootless: None,
        bounding: vec![true; 41],
        default_profile: &|granted| Some(RawValue::from_string(format!("{{\"granted\":{}}}", granted.len())).unwrap()),
        link_environment: Vec::new(),
    }
}

fn ordinary() -> Facts<'static> {
    let rootless = Rootless { has_cgroup: false, has_many_ids: false, oom_score_adj: 100 };
    Facts { rootless: Some(rootless), ..facts() }
}

fn built(host: &HostConfig, facts: &Facts<'_>) -> Value {
    let config = Config { cmd: vec!["true".into()], hostname: "box".into(), ..Config::default() };
    serde_json::to_value(build(&config, host, facts).unwrap()).unwrap()
}

fn mount<'a>(spec: &'a Value, place: &str) -> Option<&'a Value> {
    spec["mounts"].as_array().unwrap().iter().find(|mount| mount["destination"] == place)
}

#[test]
fn an_ordinary_user_gets_what_he_can_have() {
    let spec = built(&HostConfig::default(), &ordinary());
    assert!(mount(&spec, "/sys/fs/cgroup").is_none(), "those of version 1 are the host's");
    assert_eq!(mount(&spec, "/sys").unwrap()["type"], "sysfs", "its network namespace is its own");
    let terminals = mount(&spec, "/dev/pts").unwrap()["options"].to_string();
    assert!(!terminals.contains("gid=5"), "the group is not mapped");
    assert_eq!(spec["process"]["oomScoreAdj"], 100, "only root makes it less");
    assert!(spec["linux"]["sysctl"].get("net.ipv4.ping_group_range").is_none());
    let host = built(&HostConfig { network_mode: NetworkMode::Host, ..HostConfig::default() }, &ordinary());
    assert_eq!(mount(&host, "/sys").unwrap()["type"], "bind");
}

#[test]
fn an_ordinary_users_devices_are_bound() {
    let device = DeviceMapping {
        path_on_host: "/dev/null".into(),
        path_in_container: "/dev/other".into(),
        cgroup_permissions: "rwm".into(),
    };
    let host = HostConfig { devices: vec![device], ..HostConfig::default() };
    let spec = built(&host, &ordinary());
    assert_eq!(mount(&spec, "/dev/other").unwrap()["source"], "/dev/null");
    assert!(spec["linux"].get("devices").is_none());
    let root = built(&host, &facts());
    assert_eq!(root["linux"]["devices"][0]["minor"], 3);
    assert!(mount(&root, "/dev/other").is_none());
}

#[test]
fn limits_that_cannot_hold_are_refused() {
    let host = HostConfig { memory: 64 << 20, ..HostConfig::default() };
    let error = build(&Config::default(), &host, &ordinary()).unwrap_err().to_string();
    assert!(error.starts_with("`--memory` cannot be held: an ordinary user"), "{error}");
    let own = Rootless { has_cgroup: true, has_many_ids: true, oom_score_adj: 0 };
    let two = Facts { rootless: Some(own), cgroup_version: CgroupVersion::Two, ..facts() };
    let host = HostConfig { cgroupns_mode: CgroupnsMode::Private, ..host };
    let spec = built(&host, &two);
    assert_eq!(spec["linux"]["resources"]["memory"]["limit"], 64 << 20);
    assert!(mount(&spec, "/sys/fs/cgroup").is_some());
    let gpus = HostConfig { device_requests: vec![DeviceRequest::default()], ..HostConfig::default() };
    assert!(build(&Config::default(), &gpus, &facts()).unwrap_err().to_string().contains("leave `--gpus` away"));
    let absent = DeviceMapping { path_on_host: "/dev/no-such".into(), ..DeviceMapping::default() };
    let absent = HostConfig { devices: vec![absent], ..HostConfig::default() };
    assert_eq!(
        build(&Config::default(), &absent, &facts()).unwrap_err().to_string(),
        "error gathering device information while adding custom device \"/dev/no-such\": no such file or directory"
    );
}

#[test]
fn namespaces_of_others_are_joined_by_path() {
    let host = HostConfig {
        network_mode: NetworkMode::Container("x".into()),
        pid_mode: PidMode::Container("x".into()),
        ipc_mode: IpcMode::Container("x".into()),
        init: Some(true),
        ..HostConfig::default()
    };
    let facts = Facts {
        network: Some("/proc/7/ns/net".into()),
        pid: Some("/proc/7/ns/pid".into()),
        ipc: Some("/proc/7/ns/ipc".into()),
        shm: Some("/proc/7/root/dev/shm".into()),
        ..facts()
    };
    let spec = built(&host, &facts);
    let path = |kind: &str| {
        let all = spec["linux"]["namespaces"].as_array().unwrap();
        all.iter().find(|namespace| namespace["type"] == kind).unwrap()["path"].clone()
    };
    assert_eq!(
        (path("network"), path("pid"), path("ipc")),
        ("/proc/7/ns/net".into(), "/proc/7/ns/pid".into(), "/proc/7/ns/ipc".into())
    );
    assert_eq!(mount(&spec, "/dev/shm").unwrap()["source"], "/proc/7/root/dev/shm");
    assert_eq!(spec["process"]["args"], serde_json::json!(["true"]), "it is not the first process");
    assert!(spec["linux"].get("sysctl").is_none(), "the network's settings are the other's");
}

#[test]
fn what_is_mounted_over_ours_takes_its_place() {
    let bind = |place: &str| Bind {
        source: "/somewhere".into(),
        destination: place.into(),
        is_writable: true,
        propagation: Some(Propagation::Rshared),
        is_recursive: true,
    };
    let hosts = Some("/files/hosts".into());
    let facts = Facts { binds: vec![bind("/a/b/c"), bind("/dev"), bind("/a"), bind("/etc/hosts")], hosts, ..facts() };
    let spec = built(&HostConfig::default(), &facts);
    assert!(mount(&spec, "/dev/pts").is_none() && mount(&spec, "/dev/shm").is_none());
    assert_eq!(mount(&spec, "/etc/hosts").unwrap()["source"], "/somewhere");
    let places: Vec<&str> =
        spec["mounts"].as_array().unwrap().iter().map(|mount| mount["destination"].as_str().unwrap()).collect();
    let at = |place: &str| places.iter().position(|other| *other == place).unwrap();
    assert!(at("/a") < at("/a/b/c") && at("/proc") < at("/a"));
    assert_eq!(spec["linux"]["rootfsPropagation"], "shared");
}

#[test]
fn the_environment_is_made_in_dockers_order() {
    let config = Config {
        hostname: "box".into(),
        tty: true,
        env: vec!["PATH=/own".into(), "A=1".into(), "TERM".into(), "LINK=mine".into()],
        ..Config::default()
    };
    let links = ["LINK=other".to_owned(), "LINK_PORT=1".to_owned()];
    assert_eq!(environment(&config, &links), ["PATH=/own", "HOSTNAME=box", "LINK=mine", "LINK_PORT=1", "A=1"]);
}

#[test]
fn the_profile_depends_on_who_asks() {
    let profile = |host: HostConfig| built(&host, &facts())["linux"].get("seccomp").cloned();
    assert_eq!(profile(HostConfig::default()).unwrap()["granted"], 14);
    let with = |option: &str| HostConfig { security_opt: vec![option.to_owned()], ..HostConfig::default() };
    assert_eq!(profile(with("seccomp=unconfined")), None);
    assert_eq!(
        profile(with("seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}")).unwrap()["defaultAction"],
        "SCMP_ACT_ALLOW"
    );
    assert_eq!(profile(HostConfig { privileged: true, ..HostConfig::default() }), None);
    let unlimited = Ulimit { name: "core".into(), hard: -1, soft: -1 };
    let spec = built(&HostConfig { ulimits: vec![unlimited], ..HostConfig::default() }, &facts());
    assert_eq!(spec["process"]["rlimits"][0]["hard"], u64::MAX);
}
