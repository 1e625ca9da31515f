//! What containers change, told by docker and by us: the same random work in a container of docker and in one that is
//! mounted by hand, and docker's own folders read by us.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cove_engine::copy::{IntoOptions, archive_in, archive_out, stat};
use cove_engine::unpack::{UnpackOptions, settle, unpack};
use cove_engine::{SnapshotOptions, diff, write_layer, write_tree};
use cove_tests::{Cmd, Dice, Dockerd, Scratch, Tree};

const PATHS: [&str; 12] = [
    "/w/a", "/w/b", "/w/c", "/w/a/a", "/w/a/b", "/w/b/a", "/w/b/c", "/w/a/a/a", "/w/a/b/c", "/w/b/a/b", "/w/c/a",
    "/w/c/a/b",
];

/// A script of so many random steps in `/w`. What fails, fails for both.
fn script(dice: &mut Dice, steps: u64) -> String {
    // Pipes would wait for a reader, and a device is somebody's.
    let mut script = "umask 022\nwrite() { if [ -f $2 ] || [ ! -e $2 ]; then echo $1 >>$2; fi; }\n".to_owned();
    for _ in 0..steps {
        let one = *dice.pick(&PATHS).unwrap();
        let other = *dice.pick(&PATHS).unwrap();
        let number = dice.within(1..1000);
        let time = dice.within(1_000_000_000..1_400_000_000);
        let line = match dice.within(0..22) {
            0..=3 => format!("[ -f {one} ] && : >{one}; write {number} {one}"),
            4..=6 => format!("mkdir -p {one}"),
            7 => format!("write {number} {one}"),
            8 | 9 => format!("rm -rf {one}"),
            10 | 11 => format!("rm -rf {one} && mkdir {one} && write {number} {one}/a"),
            12 => format!("[ ! -d {one} ] && ln {one} {other}"),
            13 => format!("ln -s {other} {one}"),
            14 => format!("[ ! -d {other} ] && mv {one} {other}"),
            15 => format!("chmod {} {one}", dice.pick(&["600", "4755", "2755", "1777", "711"]).unwrap()),
            16 => format!("chown -h {}:{} {one}", number % 3, number),
            17 => format!("touch -h -d @{time} {one}"),
            18 => format!("mkfifo {one}"),
            19 => format!("mknod {one} c 120 {number}"),
            // Copied up, and nothing else.
            20 => format!("[ -f {one} ] && chmod $(stat -c %a {one}) {one}"),
            _ => format!("rm -rf {one}; write {number} {one}"),
        };
        script.push_str(&format!("( {line} ) <&- >&- 2>&-\n"));
    }
    script.push_str("true\n");
    script
}

/// Runs a script in a tree as if it were the whole system.
fn run(root: &Path, script: &str) {
    Cmd::new("chroot").arg(root).args(["/bin/sh", "-c", script]).ok();
}

/// Times that are now are others in each run.
fn without_now(root: &Path) {
    Cmd::new("find").arg(root).args(["-newermt", "2015-01-01", "-exec", "touch", "-h", "-d", "@0", "{}", "+"]).ok();
}

/// An overlay mount with its own writable folders.
struct Mounted {
    scratch: Scratch,
    lowers: Vec<PathBuf>,
}

impl Mounted {
    /// `lowers` come topmost first.
    fn new(lowers: &[PathBuf]) -> Self {
        let scratch = Scratch::new("mounted");
        let (upper, work, merged) = (scratch.folder("upper"), scratch.folder("work"), scratch.folder("merged"));
        let list: Vec<_> = lowers.iter().map(|folder| folder.to_str().unwrap()).collect();
        let options = format!(
            "lowerdir={},upperdir={},workdir={},redirect_dir=off,metacopy=off,index=off",
            list.join(":"),
            upper.display(),
            work.display()
        );
        Cmd::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(merged).ok();
        Mounted { scratch, lowers: lowers.to_vec() }
    }

    fn root(&self) -> PathBuf {
        self.scratch.join("merged")
    }

    fn upper(&self) -> PathBuf {
        self.scratch.join("upper")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Cmd::new("umount").arg("-l").arg(self.root()).run();
    }
}

/// What a layer makes of those below it.
fn seen_with(layer: &[u8], lowers: &[PathBuf]) -> Tree {
    let scratch = Scratch::new("layer");
    let folder = scratch.folder("own");
    let options = UnpackOptions::default();
    let unpacked = unpack(layer, &folder, &options).unwrap();
    if !unpacked.is_independent() {
        settle(&folder, &unpacked, lowers, &options).unwrap();
    }
    let mut all = vec![folder];
    all.extend_from_slice(lowers);
    let mounted = Mounted::new(&all);
    without_now(&mounted.root().join("w"));
    Tree::read(&mounted.root().join("w"))
}

/// `C /path` and the like.
fn told(upper: &Path, lowers: &[PathBuf]) -> BTreeSet<String> {
    let changes = diff(upper, lowers, &SnapshotOptions::default()).unwrap();
    changes.iter().map(|change| format!("{} {}", change.kind.letter(), change.path.display())).collect()
}

fn layer_of(upper: &Path, lowers: &[PathBuf]) -> Vec<u8> {
    let mut layer = Vec::new();
    write_layer(upper, lowers, &SnapshotOptions::default(), &mut layer).unwrap();
    layer
}

/// A docker with an image that has a shell and some files.
struct World {
    dockerd: Dockerd,
    scratch: Scratch,
}

impl World {
    fn start(dice: &mut Dice) -> Self {
        let world = World { dockerd: Dockerd::start(), scratch: Scratch::new("snapshots") };
        let base = world.scratch.folder("base");
        for folder in ["bin", "w", "proc", "sys", "dev", "etc"] {
            fs::create_dir(base.join(folder)).unwrap();
        }
        let busybox = Cmd::new("sh").args(["-c", "command -v busybox"]).ok();
        fs::copy(&busybox, base.join("bin/busybox")).unwrap();
        for name in ["sh", "mkdir", "rm", "ln", "mv", "chmod", "chown", "touch", "mkfifo", "mknod", "stat", "sleep"] {
            std::os::unix::fs::symlink("busybox", base.join("bin").join(name)).unwrap();
        }
        run(&base, &script(dice, 60));
        without_now(&base);
        let tar = world.scratch.join("base.tar");
        Cmd::new("tar").args(["--numeric-owner", "-cf"]).arg(&tar).arg("-C").arg(&base).arg(".").ok();
        world.docker(&["import", tar.to_str().unwrap(), "base"]).ok();
        world
    }

    fn docker(&self, words: &[&str]) -> Cmd {
        Cmd::new("docker")
            .args(["--host", &self.dockerd.host()])
            .args(words.iter().copied())
            .limit(Duration::from_secs(120))
    }

    /// A folder of a container, as docker has it: `UpperDir`, `LowerDir`.
    fn folders(&self, container: &str, which: &str) -> Vec<PathBuf> {
        let format = format!("{{{{.GraphDriver.Data.{which}}}}}");
        let list = self.docker(&["inspect", "--format", &format, container]).ok();
        list.trim().split(':').map(PathBuf::from).collect()
    }

    /// The topmost layer of an image; none if it has as many as the one below.
    fn layer(&self, image: &str) -> Option<Vec<u8>> {
        let saved = self.scratch.folder("saved");
        let tar = self.scratch.join("saved.tar");
        self.docker(&["save", "--output", tar.to_str().unwrap(), image]).ok();
        Cmd::new("tar").arg("-xf").arg(&tar).arg("-C").arg(&saved).ok();
        let list: serde_json::Value = serde_json::from_slice(&fs::read(saved.join("manifest.json")).unwrap()).unwrap();
        let layers = list[0]["Layers"].as_array().unwrap();
        let top = (layers.len() > 1).then(|| fs::read(saved.join(layers.last().unwrap().as_str().unwrap())).unwrap());
        fs::remove_dir_all(saved).unwrap();
        top
    }
}

#[test]
fn random_containers_are_told_and_committed_as_docker_does() {
    let mut dice = Dice::from_environment("snapshots");
    let world = World::start(&mut dice);
    let mut seen = BTreeSet::new();
    for round in 0..25 {
        let name = format!("c{round}");
        let script = {
            let steps = dice.within(1..25);
            script(&mut dice, steps)
        };
        world.docker(&["run", "--network=none", "--name", &name, "base", "sh", "-c", &script]).ok();
        let diff = world.docker(&["diff", &name]).ok();
        let expected: BTreeSet<String> = diff.lines().map(str::to_owned).collect();
        seen.extend(expected.iter().filter_map(|line| line.chars().next()));

        // Docker's own folders.
        let (upper, lowers) = (world.folders(&name, "UpperDir").remove(0), world.folders(&name, "LowerDir"));
        assert_eq!(told(&upper, &lowers), expected, "docker's folders, round {round}:\n{script}");
        // Our own container.
        let base = lowers.last().unwrap().clone();
        let ours = Mounted::new(std::slice::from_ref(&base));
        run(&ours.root(), &script);
        assert_eq!(told(&ours.upper(), &ours.lowers), expected, "our folders, round {round}:\n{script}");

        world.docker(&["commit", &name, &format!("i{round}")]).ok();
        let docker = world.layer(&format!("i{round}")).unwrap_or_else(|| vec![0; 1024]);
        let docker = seen_with(&docker, std::slice::from_ref(&base));
        let lowers = std::slice::from_ref(&base);
        for (what, layer) in [
            ("docker's folders", layer_of(&upper, &world.folders(&name, "LowerDir"))),
            ("our folders", layer_of(&ours.upper(), lowers)),
        ] {
            let differences = seen_with(&layer, lowers).differences(&docker);
            assert!(differences.is_empty(), "{what}, round {round}: {differences:#?}\n{script}");
        }
        world.docker(&["rm", &name]).ok();
    }
    assert_eq!(seen, BTreeSet::from(['A', 'C', 'D']), "the work was too little");
}

#[test]
fn files_go_in_and_out_as_docker_copies_them() {
    let mut dice = Dice::from_environment("copies");
    let world = World::start(&mut dice);
    let make = "mkdir -p /w/x/y /w/z; echo f >/w/x/f; ln /w/x/f /w/x/y/h; ln -s ../x/y /w/x/l; ln -s /w/x /w/to; mkfifo /w/x/p; \
                mknod /w/x/n c 1 3; chmod 4711 /w/x/f; chown 3:4 /w/x/y; ln -s /etc /w/z/etc; echo old >/w/z/f; mkdir /w/z/d";
    world.docker(&["run", "--network=none", "--name", "copied", "base", "sh", "-c", make]).ok();
    let lowers = world.folders("copied", "LowerDir");
    let ours = Mounted::new(&lowers);
    run(&ours.root(), make);
    let root = fs::File::open(ours.root()).unwrap();
    let list = |tar: &Path| {
        let lines = Cmd::new("tar").args(["--numeric-owner", "--absolute-names", "--full-time", "-tvf"]).arg(tar).ok();
        // All but the times, which are others, and the kernel's own folders and docker's mark.
        let words = lines.lines().map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            [&words[..3], &words[5..]].concat().join(" ")
        });
        words.filter(|line| !line.contains(".dockerenv")).collect::<Vec<_>>()
    };
    let tar = world.scratch.join("copied.tar");
    for path in [
        "/w/x", "/w/x/", "/w/x/.", "/w/to", "/w/to/", "/w/to/.", "/w/x/l", "/w/x/l/", "/w/x/f", "/w/x/n", "/w/to/y",
        "/bin/sh", "/w/.",
    ] {
        let script = "docker --host \"$1\" cp \"copied:$2\" - >\"$3\"";
        Cmd::new("sh").args(["-c", script, "sh", &world.dockerd.host(), path]).arg(&tar).ok();
        let docker = list(&tar);
        archive_out(root.as_fd(), Path::new(path), false, fs::File::create(&tar).unwrap()).unwrap();
        assert_eq!(list(&tar), docker, "{path}");
    }

    // An archive that replaces, merges, and goes through a link.
    let new = world.scratch.folder("new");
    for folder in ["f", "d"] {
        fs::create_dir(new.join(folder)).unwrap();
    }
    fs::write(new.join("f/inside"), "inside").unwrap();
    fs::write(new.join("d/file"), "file").unwrap();
    fs::set_permissions(new.join("d/file"), std::os::unix::fs::PermissionsExt::from_mode(0o6755)).unwrap();
    std::os::unix::fs::chown(new.join("d"), Some(1000), Some(1001)).unwrap();
    Cmd::new("mknod").arg(new.join("d/disk")).args(["b", "7", "1"]).ok();
    Cmd::new("tar").args(["--numeric-owner", "-cf"]).arg(&tar).arg("-C").arg(&new).args(["f", "d"]).ok();
    let put = |path: &str, more: &str| {
        let socket = world.dockerd.host();
        let url = format!("http://docker/v1.41/containers/copied/archive?path={path}{more}");
        let put = Cmd::new("curl").args([
            "--silent",
            "--show-error",
            "--unix-socket",
            socket.strip_prefix("unix://").unwrap(),
        ]);
        put.args(["--upload-file", tar.to_str().unwrap(), &url]).ok()
    };
    let bytes = fs::read(&tar).unwrap();
    let ours_put = |path: &str, no_overwrite_dir_non_dir| {
        let options = IntoOptions { no_overwrite_dir_non_dir, ..IntoOptions::default() };
        archive_in(root.as_fd(), Path::new(path), &bytes[..], &options)
    };
    // Refused with the same words, and without them replaced.
    let refused = put("/w/z", "&noOverwriteDirNonDir=true");
    let error = ours_put("/w/z", true).unwrap_err().to_string();
    assert!(refused.contains(&error.escape_default().to_string()), "{refused} and not {error}");
    for path in ["/w/z", "/w/to", "/w/z/etc"] {
        assert_eq!(put(path, ""), "", "{path}");
        ours_put(path, false).unwrap();
    }
    let refused = put("/w/z/d/file", "");
    let error = ours_put("/w/z/d/file", false).unwrap_err().to_string();
    assert!(refused.contains(&error), "{refused} and not {error}");
    assert!(stat(root.as_fd(), Path::new("/w/nothing")).is_err());

    // Both are the same then, and so are their exports.
    let docker = world.scratch.join("docker.tar");
    world.docker(&["export", "--output", docker.to_str().unwrap(), "copied"]).ok();
    write_tree(root.as_fd(), fs::File::create(&tar).unwrap()).unwrap();
    assert_eq!(list(&tar), list(&docker));
}
