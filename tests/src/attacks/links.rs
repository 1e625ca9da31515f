//! Links in a root file system, at places where a runtime mounts, creates, masks or opens something (T-R1, T-R3).

use std::path::Path;

use serde_json::json;

use crate::attacks::{Attack, Outcome};
use crate::console::Console;
use crate::{Bundle, Canary, OciRuntime};

/// The places that are set up by a runtime or by the configuration of `links`.
pub const LINKED_PLACES: [&str; 28] = [
    "/dev",
    "/dev/console",
    "/dev/ptmx",
    "/dev/null",
    "/dev/fd",
    "/dev/stdin",
    "/dev/core",
    "/dev/shm",
    "/dev/pts",
    "/dev/mqueue",
    "/dev/mine",
    "/proc",
    "/sys",
    "/sys/fs",
    "/sys/fs/cgroup",
    "/etc",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/hostname",
    "/etc/passwd",
    "/etc/group",
    "/etc/mtab",
    "/run",
    "/work",
    "/work/deep",
    "/volume",
    "/masked",
    "/closed",
];

/// Where a link may lead to.
const TARGETS: [&str; 6] = ["absolute", "relative", "deeper", "file", "dangling", "loop"];

/// Every place, linked to everywhere.
pub fn links() -> Vec<Attack> {
    let mut attacks = Vec::new();
    for place in LINKED_PLACES {
        for target in TARGETS {
            let name = format!("{place} is a link ({target})");
            attacks.push(Attack::new(name, "T-R1", move |runtime| attack(runtime, place, target)));
        }
    }
    attacks
}

fn attack(runtime: &OciRuntime, place: &str, target: &str) -> Outcome {
    let (canary, volume) = (Canary::new(), Canary::new());
    let bundle = bundle(place, volume.path().as_path());
    let to = match target {
        "absolute" => canary.path(),
        // Enough steps up to leave the root file system from anywhere.
        "relative" => canary.relative(&bundle.inside("/a/b/c/d")),
        "deeper" => canary.path().join("folder"),
        "file" => canary.path().join("file"),
        "dangling" => canary.path().join("not/there"),
        _ => Path::new(place).to_owned(),
    };
    let bundle = bundle.link(place, &to);
    // With its own /dev in the way a link below it would never be met.
    let bundle = if place.starts_with("/dev/") { bundle.without_mount("/dev") } else { bundle };
    // A terminal is put over /dev/console.
    let has_terminal = place == "/dev/console" || place == "/dev/ptmx" || place == "/dev/pts";
    let bundle = bundle.set("/process/terminal", json!(has_terminal));
    let socket = runtime.file(&format!("{}.console", OciRuntime::new_id()));
    let console = has_terminal.then(|| Console::listen(&socket));
    let options: Vec<&str> = console.iter().flat_map(|console| ["--console-socket", console.path()]).collect();
    let (container, created) = runtime.try_create(&bundle, &options);
    let mut seen = String::new();
    if created.succeeded() {
        let _ = container.start();
        seen = container.script("cat /masked /masked-file /closed/* /dev/mine </dev/null").stdout;
        let _ = container.command(&["exec", "--cwd", "/work/deep"], &["true"]).run();
    }
    drop(container);
    let read = if seen.contains("the host's") { format!("the container reads {seen:?}") } else { String::new() };
    Outcome::of(canary.damage()).and(Outcome::of(volume.damage())).and(Outcome::of(read))
}

/// A container that has something mounted, made or hidden at every place.
fn bundle(place: &str, volume: &Path) -> Bundle {
    let file = volume.join("file");
    let cwd = if place.starts_with("/work") { "/work/deep" } else { "/" };
    let bundle = Bundle::script("sleep 5")
        .file("/masked-file", 0o644, "inside\n")
        .set("/process/cwd", json!(cwd))
        .mount("/etc/hosts", "bind", &file, &["bind", "ro"])
        .mount("/etc/resolv.conf", "bind", &file, &["bind", "ro"])
        .mount("/etc/hostname", "bind", &file, &["bind", "ro"])
        .mount("/run", "tmpfs", "tmpfs", &["nosuid", "mode=755"])
        .mount("/volume", "bind", volume, &["bind", "ro"])
        .mount("/work/deep/volume", "tmpfs", "tmpfs", &[])
        .add("/linux/devices", json!({"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 438}))
        .add("/linux/maskedPaths", json!("/masked"))
        .add("/linux/maskedPaths", json!("/masked-file"))
        .add("/linux/readonlyPaths", json!("/closed"));
    if place.starts_with("/sys/") {
        return bundle.without_mount("/sys").mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"]);
    }
    bundle
}
