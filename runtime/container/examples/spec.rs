//! Prints the `config.json` of a container: `Config`, `HostConfig` and what else is needed are read from standard input, as
//! `docker inspect` writes them. For tests that compare it with docker's.

#![allow(clippy::print_stdout)]

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;

use cove_container::check::Kernel;
use cove_container::config::{Config, HostConfig};
use cove_container::spec::{self, Bind, Facts, Rootless};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Asked {
    config: Config,
    host_config: HostConfig,
    root: PathBuf,
    #[serde(default)]
    binds: Vec<AskedBind>,
    #[serde(default)]
    files: Option<PathBuf>,
    #[serde(default)]
    cgroup: Option<PathBuf>,
    #[serde(default)]
    network: Option<PathBuf>,
    #[serde(default)]
    pid: Option<PathBuf>,
    #[serde(default)]
    ipc: Option<PathBuf>,
    #[serde(default)]
    shm: Option<PathBuf>,
    #[serde(default)]
    rootless: bool,
    #[serde(default)]
    profile: Option<Box<RawValue>>,
    capabilities: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AskedBind {
    source: PathBuf,
    destination: PathBuf,
    #[serde(rename = "RW")]
    is_writable: bool,
    propagation: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let asked: Asked = serde_json::from_reader(std::io::stdin())?;
    let root = File::open(&asked.root)?;
    let identity = spec::identity(root.as_fd(), &asked.config.user, &asked.host_config.group_add)?;
    let bind = |bind: AskedBind| Bind {
        source: bind.source,
        destination: bind.destination,
        is_writable: bind.is_writable,
        propagation: bind.propagation.parse().ok(),
        is_recursive: true,
    };
    let file = |name: &str| asked.files.as_ref().map(|folder| folder.join(name));
    // A folder that stands for `/sys`, so that the answer is the same on every machine.
    let kernel = match std::env::var_os("COVE_OPTIONS_SYS") {
        Some(folder) => Kernel::at(folder.clone().into(), folder.into()),
        None => Kernel::read(),
    };
    let facts = Facts {
        root: asked.root.clone(),
        identity,
        binds: asked.binds.into_iter().map(bind).collect(),
        hosts: file("hosts"),
        hostname_file: file("hostname"),
        resolv_conf: file("resolv.conf"),
        cgroup: asked.cgroup,
        network: asked.network,
        pid: asked.pid,
        ipc: asked.ipc,
        shm: asked.shm,
        init: "/sbin/docker-init".into(),
        cgroup_version: kernel.cgroup_version(),
        rootless: asked.rootless.then_some(Rootless { has_cgroup: false, has_many_ids: false, oom_score_adj: 0 }),
        bounding: vec![true; asked.capabilities],
        default_profile: &|_| asked.profile.clone(),
        link_environment: Vec::new(),
    };
    let spec = spec::build(&asked.config, &asked.host_config, &facts)?;
    println!("{}", serde_json::to_string(&spec)?);
    Ok(())
}
