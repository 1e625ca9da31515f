//! `cove info`

use cove_oci::RegistryName;
use cove_remote::Access;
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
            "RegistryConfig": { "Mirrors": mirrors, "InsecureRegistryCIDRs": ["127.0.0.0/8", "::1/128"] },
            "ClientInfo": { "Version": VERSION, "GitCommit": commit(), "Context": "default" },
        });
        return Ok(print_document(&context.printer, format, &document)?);
    }
    let mut text = format!(
        "Client:\n Version:    {VERSION}\n Context:    default\n Debug Mode: false\n\n\
         Server:\n Images: {images}\n Server Version: {VERSION}\n Storage Driver: overlay2\n Kernel Version: {}\n \
         Operating System: {}\n OSType: linux\n Architecture: {}\n CPUs: {}\n Total Memory: {}\n Name: {}\n \
         Docker Root Dir: {root}\n Default Registry: {default}\n Insecure Registries:\n  127.0.0.0/8\n  ::1/128\n",
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
    Ok(hosts.iter().filter(|host| host.is_mirror).map(|host| host.base.to_string()).collect())
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
