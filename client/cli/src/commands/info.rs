//! `cove info`

use std::path::Path;

use cove_engine::user_namespace::outer_user;
use cove_oci::{Algorithm, Digest, RegistryName};
use cove_remote::{Access, ShownUrl};
use rustix::system::{sysinfo, uname};
use serde_json::json;

use super::logout::DOCKER_HUB_KEY;
use super::version::{VERSION, commit};
use crate::arguments::Info;
use crate::context::Context;
use crate::error::Error;
use crate::format::print_document;
use crate::units::binary_size;

/// What the system says of itself.
struct System {
    kernel: String,
    name: String,
    operating_system: String,
    architecture: String,
    processors: usize,
    memory: u64,
}

/// Shows the system, the store and the registries.
pub fn run(context: &Context, arguments: &Info) -> Result<(), Error> {
    let system = system();
    let mirrors: Vec<String> = mirrors(context)?;
    let default = context.defaults()?.registry;
    let places = context.places();
    let images = match context.store_if_there()? {
        Some(store) => store.images()?.len(),
        None => 0,
    };
    let root = places.root.display().to_string();
    if let Some(format) = &arguments.format {
        let document = json!({
            "ServerVersion": VERSION, "Images": images, "Containers": 0, "ContainersRunning": 0, "ContainersPaused": 0,
            "ContainersStopped": 0, "Driver": "overlay2", "LoggingDriver": "json-file", "KernelVersion": system.kernel,
            "OperatingSystem": system.operating_system, "OSType": "linux", "Architecture": system.architecture,
            "NCPU": system.processors, "MemTotal": system.memory, "Name": system.name, "DockerRootDir": root,
            "IndexServerAddress": if default.is_docker_hub() { DOCKER_HUB_KEY } else { default.as_str() },
            "ID": id(), "DriverStatus": driver_status(&places.root), "CgroupDriver": "cgroupfs",
            "CgroupVersion": cgroup_version(), "SecurityOptions": security_options(), "Labels": [],
            "Warnings": [], "Debug": context.debug,
            // Nothing runs here yet, so there is nothing to run it with.
            "Runtimes": {}, "DefaultRuntime": "",
            "Plugins": { "Volume": [], "Network": [], "Authorization": null, "Log": [] },
            "HttpProxy": proxy("HTTP_PROXY"), "HttpsProxy": proxy("HTTPS_PROXY"), "NoProxy": proxy("NO_PROXY"),
            "RegistryConfig": {
                "Mirrors": mirrors, "InsecureRegistryCIDRs": ["127.0.0.0/8", "::1/128"],
                "IndexConfigs": {
                    "docker.io": { "Name": "docker.io", "Mirrors": mirrors, "Secure": true, "Official": true },
                },
            },
            "ClientInfo": {
                "Version": VERSION, "GitCommit": commit(), "Context": "default", "Debug": context.debug, "Plugins": [],
            },
        });
        return Ok(print_document(&context.printer, format, &document)?);
    }
    let mut text = format!(
        "Client:\n Version:    {VERSION}\n Context:    default\n Debug Mode: {}\n\n\
         Server:\n Images: {images}\n Server Version: {VERSION}\n Storage Driver: overlay2\n Kernel Version: {}\n \
         Operating System: {}\n OSType: linux\n Architecture: {}\n CPUs: {}\n Total Memory: {}\n Name: {}\n \
         Docker Root Dir: {root}\n Default Registry: {default}\n Insecure Registries:\n  127.0.0.0/8\n  ::1/128\n",
        context.debug,
        system.kernel,
        system.operating_system,
        system.architecture,
        system.processors,
        binary_size(system.memory),
        system.name,
    );
    if !mirrors.is_empty() {
        text.push_str(" Registry Mirrors:\n");
        text.extend(mirrors.iter().map(|mirror| format!("  {mirror}\n")));
    }
    Ok(context.printer.text(&text)?)
}

/// The mirrors of Docker Hub.
fn mirrors(context: &Context) -> Result<Vec<String>, Error> {
    let hosts = context.registries()?.hosts(&RegistryName::docker_hub(), Access::Pull)?;
    Ok(hosts.iter().filter(|host| host.is_mirror).map(|host| ShownUrl::from(&host.base).to_string()).collect())
}

/// An id of this machine in the form of a UUID, from which the machine's own cannot be found.
fn id() -> String {
    let machine = fs_err::read_to_string("/etc/machine-id").unwrap_or_default();
    let digest = Digest::of(Algorithm::Sha256, format!("cove {}", machine.trim()).as_bytes());
    let hex = digest.hex();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32]].join("-")
}

fn cgroup_version() -> &'static str {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "2" } else { "1" }
}

fn security_options() -> Vec<&'static str> {
    if outer_user() == 0 { Vec::new() } else { vec!["name=rootless"] }
}

/// Docker's pairs, for those parts of the storage driver that there are.
fn driver_status(root: &Path) -> Vec<[String; 2]> {
    // The store may not be there yet: then what it would lie on.
    let there = root.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let name = match rustix::fs::statfs(there).map(|found| found.f_type as u32) {
        Ok(0xef53) => "extfs".to_owned(),
        Ok(0x5846_5342) => "xfs".to_owned(),
        Ok(0x9123_683e) => "btrfs".to_owned(),
        Ok(0x0102_1994) => "tmpfs".to_owned(),
        Ok(0x794c_7630) => "overlayfs".to_owned(),
        Ok(0x2fc1_2fc1) => "zfs".to_owned(),
        Ok(other) => format!("{other:#x}"),
        Err(_) => "<unknown>".to_owned(),
    };
    vec![["Backing Filesystem".to_owned(), name]]
}

/// A variable of proxies, as docker shows it: user and password hidden.
fn proxy(name: &str) -> String {
    let value = [name.to_owned(), name.to_ascii_lowercase()].into_iter().find_map(|name| std::env::var(name).ok());
    let value = value.unwrap_or_default();
    match value.split_once("://").map_or(("", value.as_str()), |(scheme, rest)| (scheme, rest)) {
        (scheme, rest) if rest.contains('@') => {
            let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
            if scheme.is_empty() { format!("xxxxx:xxxxx@{rest}") } else { format!("{scheme}://xxxxx:xxxxx@{rest}") }
        }
        _ => value,
    }
}

fn system() -> System {
    let names = uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let memory = sysinfo();
    let release = fs_err::read_to_string("/etc/os-release").unwrap_or_default();
    let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    System {
        kernel: text(names.release()),
        name: text(names.nodename()),
        operating_system: pretty.map_or("linux", |name| name.trim_matches('"')).to_owned(),
        architecture: text(names.machine()),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        memory: memory.totalram as u64 * u64::from(memory.mem_unit),
    }
}
