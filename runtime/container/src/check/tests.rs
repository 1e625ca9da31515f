//! What is refused, completed and warned of, beside what `tests/suite/container_options` compares with docker.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::{BindOptions, Mount, MountKind, NetworkMode};

/// A machine of four processors and the files that are named.
fn kernel(cgroup_files: &[&str]) -> (tempfile::TempDir, Kernel) {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("devices/system/cpu/online", "0-3\n");
    write("devices/system/node/online", "0\n");
    for file in cgroup_files {
        write(&format!("fs/cgroup/{file}"), "");
    }
    write("self/cgroup", "0::/mine\n");
    let kernel = Kernel::at(folder.path().to_owned(), folder.path().to_owned());
    (folder, kernel)
}

#[test]
fn without_swap_accounting_memory_is_limited_alone() {
    let (_folder, without) = kernel(&[]);
    let mut host = HostConfig { memory: 64 << 20, ..HostConfig::default() };
    let warnings = check(&mut Config::default(), &mut host, &without).unwrap();
    assert_eq!((host.memory_swap, warnings.len()), (-1, 1));
    let (_folder, with) = kernel(&["memory/memory.memsw.limit_in_bytes"]);
    let mut host = HostConfig { memory: 64 << 20, ..HostConfig::default() };
    assert!(check(&mut Config::default(), &mut host, &with).unwrap().is_empty());
    assert_eq!(host.memory_swap, 128 << 20);
}

#[test]
fn version_two_has_other_limits() {
    let (_folder, kernel) = kernel(&["cgroup.controllers", "mine/memory.swap.max", "mine/io.weight"]);
    let mut host = HostConfig {
        memory: 64 << 20,
        memory_swappiness: Some(10),
        oom_kill_disable: Some(true),
        blkio_weight: 300,
        ..HostConfig::default()
    };
    let warnings = check(&mut Config::default(), &mut host, &kernel).unwrap();
    assert_eq!((host.memory_swappiness, host.oom_kill_disable, host.blkio_weight), (None, None, 300));
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert_eq!(host.cgroupns_mode, CgroupnsMode::Private);
}

#[test]
fn processors_are_those_of_the_machine() {
    let (_folder, kernel) = kernel(&[]);
    let said = |host: HostConfig| check(&mut Config::default(), &mut host.clone(), &kernel).map_err(|e| e.to_string());
    assert!(
        said(HostConfig { nano_cpus: 4_000_000_000, cpuset_cpus: "0-1,3".into(), ..HostConfig::default() }).is_ok()
    );
    let many = said(HostConfig { nano_cpus: 4_000_000_001, ..HostConfig::default() }).unwrap_err();
    assert_eq!(many, "Range of CPUs is from 0.01 to 4.00, as there are only 4 CPUs available");
    let absent = said(HostConfig { cpuset_cpus: "2-4".into(), ..HostConfig::default() }).unwrap_err();
    assert_eq!(absent, "Requested CPUs are not available - requested 2-4, available: 0-3");
}

#[test]
fn capabilities_are_granted_as_asked() {
    let may = vec![true; 41];
    let granted = |add: &[&str], drop: &[&str], privileged| {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let host = HostConfig { cap_add: list(add), cap_drop: list(drop), privileged, ..HostConfig::default() };
        granted_capabilities(&host, &may)
    };
    assert_eq!(granted(&[], &[], false), DEFAULT_CAPABILITIES);
    assert_eq!(granted(&[], &["ALL"], false), Vec::<String>::new());
    assert_eq!(granted(&["NET_ADMIN"], &["all"], false), ["CAP_NET_ADMIN"]);
    assert_eq!(granted(&["ALL"], &["mknod"], false).len(), 40);
    assert!(!granted(&["ALL"], &["mknod"], false).contains(&"CAP_MKNOD".to_owned()));
    assert_eq!(granted(&[], &[], true).len(), 41);
    let fewer = granted_capabilities(&HostConfig { privileged: true, ..HostConfig::default() }, &[true; 38]);
    assert_eq!(fewer.len(), 38, "nobody gives away what he does not have");
}

#[test]
fn signals_by_name_and_number() {
    for (text, number) in
        [("9", 9), ("KILL", 9), ("sigterm", 15), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("SIGWINCH", 28)]
    {
        assert_eq!(signal(text), Some(number), "{text}");
    }
    assert_eq!((signal("FOO"), signal("0"), signal("RTMIN+99")), (None, None, None));
}

#[test]
fn mounts_are_listed_in_dockers_order() {
    let config = Config {
        volumes: ["/data", "/bound"].into_iter().map(|path| (path.to_owned(), crate::config::Empty {})).collect(),
        ..Config::default()
    };
    let host = HostConfig {
        binds: vec!["/tmp/../tmp:/bound/:ro,rslave".into(), "vol:/vol:nocopy".into()],
        mounts: vec![Mount { kind: MountKind::Tmpfs, target: "/memory".into(), ..Mount::default() }],
        ..HostConfig::default()
    };
    let all = crate::mounts::requested(&config, &host).unwrap();
    let places: Vec<&str> = all.iter().map(|mount| mount.destination.as_str()).collect();
    assert_eq!(places, ["/bound", "/vol", "/memory", "/data"]);
    assert!(!all[0].is_writable && all[0].makes_source && all[0].source == "/tmp");
    assert!(!all[1].copies && all[3].copies);
    let twice = HostConfig { binds: vec!["/tmp:/a".into(), "/var:/a/".into()], ..HostConfig::default() };
    assert_eq!(crate::mounts::requested(&config, &twice).unwrap_err().to_string(), "Duplicate mount point: /a");
    let options = BindOptions { create_mountpoint: true, ..BindOptions::default() };
    let made = Mount {
        kind: MountKind::Bind,
        source: "/no/such/folder".into(),
        target: "/a".into(),
        bind_options: Some(options),
        ..Mount::default()
    };
    let host = HostConfig { mounts: vec![made], ..HostConfig::default() };
    assert!(crate::mounts::requested(&config, &host).unwrap().iter().any(|mount| mount.makes_source));
}

#[test]
fn another_containers_network_excludes_what_is_its_own() {
    let (_folder, kernel) = kernel(&[]);
    let mut host = HostConfig { network_mode: NetworkMode::Container("x".into()), ..HostConfig::default() };
    let mut config = Config { hostname: "mine".into(), ..Config::default() };
    let error = check(&mut config, &mut host, &kernel).unwrap_err();
    assert_eq!(error.to_string(), "conflicting options: hostname and the network mode");
}
