//! Races: a folder or file of a volume is exchanged with a link while a container is set up in it (T-R2).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::attacks::Outcome;
use crate::{Bundle, Canary, Exchanger, OciRuntime};

/// A place that is exchanged while the container is made.
#[derive(Clone, Copy, Debug)]
pub struct Race {
    /// What it does, in a few words.
    pub name: &'static str,
    /// The place below the shared volume that is swapped with a link.
    place: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A file system is mounted at the place.
    Mount,
    /// A file of the host is mounted over it.
    File,
    /// A folder is made below it, to be mounted over.
    Below,
    /// It is masked.
    Masked,
    /// It is made read-only.
    ReadOnly,
    /// A device is made in it.
    Device,
    /// It is the working folder.
    WorkingFolder,
    /// It is what is mounted (the source).
    Source,
}

impl Race {
    /// Whether a runtime must hold it: what the source of a mount is, is the caller's to say and to guard.
    pub fn is_the_runtime_s_to_hold(&self) -> bool {
        self.kind != Kind::Source
    }
}

/// All races.
pub const RACES: [Race; 8] = [
    Race { name: "destination of a tmpfs", place: "at", kind: Kind::Mount },
    Race { name: "destination of a file", place: "at", kind: Kind::File },
    Race { name: "parent of a destination", place: "at", kind: Kind::Below },
    Race { name: "masked path", place: "at", kind: Kind::Masked },
    Race { name: "read-only path", place: "at", kind: Kind::ReadOnly },
    Race { name: "folder of a device", place: "at", kind: Kind::Device },
    Race { name: "working folder", place: "at", kind: Kind::WorkingFolder },
    Race { name: "source of a mount", place: "at", kind: Kind::Source },
];

/// Runs containers so many times while the attacker swaps, and says what was broken.
///
/// The volume is the attacker's: the root file system of the container lies in it (as a volume that is mounted first
/// does not differ from it for the runtime), so that everything that is set up goes through names that change.
pub fn race(runtime: &OciRuntime, race: &Race, rounds: u64) -> (Outcome, u64) {
    let (canary, volume) = (Canary::new(), Canary::new());
    let bundle = bundle(race, volume.path().as_path());
    let shared = bundle.inside("/shared");
    fs::create_dir_all(&shared).expect("make the volume");
    let (place, link) = (shared.join(race.place), shared.join("link"));
    match race.kind {
        Kind::File => fs::write(&place, "inside\n").expect("make a file"),
        _ => fs::create_dir(&place).expect("make a folder"),
    }
    let target = match race.kind {
        Kind::File => canary.path().join("file"),
        _ => canary.path(),
    };
    symlink(&target, &link).expect("make a link");
    bundle.write();
    let attacker = Exchanger::start(&place, &link);
    let mut outcome = Outcome::Held;
    for round in 0..rounds {
        let command = runtime.command(["run", "--bundle"]).arg(bundle.path()).arg(OciRuntime::new_id());
        let finished = command.run();
        outcome = check(race, &finished.stdout, &canary, &volume, &target);
        if outcome != Outcome::Held {
            outcome = Outcome::Broke(format!("round {round}: {outcome}"));
            break;
        }
    }
    let swaps = attacker.swaps();
    drop(attacker);
    (outcome, swaps)
}

fn check(race: &Race, printed: &str, canary: &Canary, volume: &Canary, target: &Path) -> Outcome {
    let damage = [canary.damage(), volume.damage()].concat();
    if !damage.is_empty() {
        return Outcome::Broke(damage);
    }
    // The host's files must not be seen either, nor anything be mounted but what was asked for and where.
    if printed.contains("the host's") && race.kind != Kind::File {
        return Outcome::Broke(format!("the container reads the host's files: {printed}"));
    }
    let target = target.to_string_lossy();
    let strange = printed.lines().filter(|line| line.contains(" - ")).find(|line| {
        let mut words = line.split(' ');
        let (root, at) = (words.nth(3).unwrap_or_default(), words.next().unwrap_or_default());
        root.starts_with(&*target) || (at.starts_with("/shared") && !expected(race, at))
    });
    strange.map_or(Outcome::Held, |line| Outcome::Broke(format!("an unexpected mount: {line}")))
}

/// Whether a mount below the volume may be there: at its place, or at what was exchanged with it since. (Where the
/// link leads to *inside*, below the container's root, a mount may be too: it does not begin with `/shared`.)
fn expected(race: &Race, at: &str) -> bool {
    let places: &[&str] = match race.kind {
        Kind::Below => &["/shared/at/below", "/shared/link/below"],
        _ => &["/shared/at", "/shared/link"],
    };
    places.contains(&at)
}

fn bundle(race: &Race, volume: &Path) -> Bundle {
    let script =
        "cat /proc/self/mountinfo; cat /shared/at/hosts /shared/at/below/hosts /taken/hosts ./hosts 2>/dev/null; true";
    let bundle = Bundle::script(script);
    let shared: PathBuf = bundle.inside("/shared");
    match race.kind {
        Kind::Mount => bundle.mount("/shared/at", "tmpfs", "tmpfs", &["nosuid"]),
        Kind::File => bundle.mount("/shared/at", "bind", volume.join("file"), &["bind", "ro"]),
        Kind::Below => bundle.mount("/shared/at/below", "tmpfs", "tmpfs", &["nosuid"]),
        Kind::Masked => bundle.add("/linux/maskedPaths", json!("/shared/at")),
        Kind::ReadOnly => bundle.add("/linux/readonlyPaths", json!("/shared/at")),
        Kind::Device => bundle.add(
            "/linux/devices",
            json!({"path": "/shared/at/device", "type": "c", "major": 1, "minor": 3, "fileMode": 438}),
        ),
        Kind::WorkingFolder => bundle.set("/process/cwd", json!("/shared/at/made")),
        // The caller says which path of the host is mounted: a race in it is the caller's to lose, but a link must
        // not be followed at another moment than the one in which the kind of the destination is decided.
        Kind::Source => bundle.mount("/taken", "bind", shared.join("at"), &["bind", "ro"]),
    }
}
