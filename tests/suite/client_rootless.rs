//! The client for an ordinary user: with subordinate ids files belong to whom the image says, within the user's
//! namespace; without, all belong to the user.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use cove_tests::clients::{Client, Cove, Skopeo};
use cove_tests::{Cmd, Distribution, Image, Ordinary, Proxy, Scratch, Screen, Server, Terminal, sha256_of_file};

/// Files of several owners, a device, a setuid program; above it a whiteout and a file of another owner.
fn image() -> Image {
    let scratch = Scratch::new("owners");
    let root = scratch.folder("root");
    for (name, owner) in [("of-root", 0), ("of-user", 1000), ("of-nobody", 65534)] {
        fs::write(root.join(name), name).unwrap();
        chown(root.join(name), Some(owner), Some(owner)).unwrap();
    }
    fs::write(root.join("removed"), "by the upper layer").unwrap();
    fs::create_dir_all(root.join("folder/old")).unwrap();
    fs::set_permissions(root.join("of-root"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::write(root.join("closed"), "nobody may read it").unwrap();
    fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    Cmd::new("mknod").arg(root.join("device")).args(["c", "1", "3"]).ok();
    let upper = scratch.folder("upper");
    fs::write(upper.join(".wh.removed"), "").unwrap();
    fs::create_dir(upper.join("folder")).unwrap();
    fs::write(upper.join("folder/.wh..wh..opq"), "").unwrap();
    fs::write(upper.join("folder/new"), "new").unwrap();
    chown(upper.join("folder/new"), Some(1000), Some(50)).unwrap();
    let pack = |name: &str| {
        let tar = scratch.join(format!("{name}.tar"));
        Cmd::new("tar").args(["--numeric-owner", "-cf"]).arg(&tar).arg("-C").arg(scratch.join(name)).arg(".").ok();
        tar
    };
    Image::from_layers(&[&pack("root"), &pack("upper")])
}

struct World {
    distribution: Distribution,
    name: String,
    id: String,
    user: Ordinary,
}

impl World {
    fn start(subordinate: bool) -> Self {
        Self::of(Ordinary::new(subordinate))
    }

    fn of(user: Ordinary) -> Self {
        let (distribution, image) = (Distribution::start(), image());
        let name = format!("{}/somebody/image:1", distribution.address());
        Skopeo::new().push(&image, &name);
        let id = distribution.registry().pull("somebody/image", "1").config;
        Self { distribution, name, id, user }
    }

    /// Files of this name among the unpacked layers.
    fn find(&self, name: &str) -> Vec<PathBuf> {
        fn walk(folder: &Path, name: &str, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_name() == name {
                    found.push(entry.path());
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    walk(&entry.path(), name, found);
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.user.store().join("layers"), name, &mut found);
        found
    }

    fn owner(&self, name: &str) -> (u32, u32) {
        let found = self.find(name);
        assert_eq!(found.len(), 1, "{name} in the layers: {found:?}");
        let metadata = fs::symlink_metadata(&found[0]).unwrap();
        (metadata.uid(), metadata.gid())
    }

    /// Lists, inspects, pulls again, pushes, saves and removes.
    fn everything_else_works(&self) {
        let cove = |words: &[&str]| self.user.cove(words).ok();
        assert_eq!(cove(&["images", "-q", "--no-trunc"]), self.id);
        assert!(cove(&["images"]).contains("somebody/image"));
        assert_eq!(cove(&["image", "inspect", "--format", "{{.Id}}", &self.name]), self.id);
        assert!(cove(&["pull", &self.name]).contains("Image is up to date"));
        let copy = format!("{}/somebody/copy:1", self.distribution.address());
        cove(&["tag", &self.name, &copy]);
        cove(&["push", &copy]);
        let registry = self.distribution.registry();
        assert_eq!(registry.pull("somebody/copy", "1"), registry.pull("somebody/image", "1"));
        let archive = self.user.home().join("archive.tar");
        cove(&["save", "-o", &archive.display().to_string(), &self.name]);
        assert_eq!(fs::metadata(&archive).unwrap().uid(), Ordinary::ID);
        cove(&["rmi", "-f", &self.id]);
        assert_eq!(cove(&["images", "-a", "-q"]), "");
        cove(&["load", "-i", &archive.display().to_string()]);
        assert_eq!(cove(&["images", "-q", "--no-trunc"]), self.id);
        let before = sha256_of_file(&archive);
        cove(&["save", "-o", &archive.display().to_string(), &self.name]);
        assert_eq!(sha256_of_file(&archive), before, "saved again");
        cove(&["rmi", "-f", &self.id]);
        cove(&["system", "prune", "-f"]);
        for folder in ["layers", "blobs/sha256", "staging", "partial", "trash"] {
            let left = fs::read_dir(self.user.store().join(folder)).into_iter().flatten().flatten();
            let left: Vec<_> = left.map(|entry| entry.path()).collect();
            assert!(left.is_empty(), "left: {left:?}");
        }
    }
}

#[test]
fn with_subordinate_ids() {
    let world = World::start(true);
    let pulled = world.user.cove(["pull", &world.name]).run();
    assert!(pulled.succeeded(), "{pulled}");
    assert!(!pulled.stderr.contains("subuid"), "{pulled}");
    let subordinate = |id: u32| if id == 0 { Ordinary::ID } else { Ordinary::SUBORDINATE + id - 1 };
    for (name, user, group) in
        [("of-root", 0, 0), ("of-user", 1000, 1000), ("of-nobody", 65534, 65534), ("new", 1000, 50)]
    {
        assert_eq!(world.owner(name), (subordinate(user), subordinate(group)), "owner of {name}");
    }
    let mode = fs::metadata(&world.find("of-root")[0]).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o4755);
    for device in world.find("device") {
        assert_eq!(fs::symlink_metadata(device).unwrap().rdev(), 0, "a device that an ordinary user could not make");
    }
    world.everything_else_works();
}

#[test]
fn without_subordinate_ids() {
    let world = World::start(false);
    let pulled = world.user.cove(["pull", &world.name]).run();
    assert!(pulled.succeeded(), "{pulled}");
    assert!(pulled.stderr.contains("subuid"), "a warning says what is missing: {pulled}");
    for name in ["of-root", "of-user", "of-nobody", "new"] {
        assert_eq!(world.owner(name), (Ordinary::ID, Ordinary::ID), "owner of {name}");
    }
    world.everything_else_works();
}

/// Half of what is needed is as little as nothing, but no reason to do nothing.
#[test]
fn with_subordinate_users_and_no_groups() {
    let missing = Ordinary::new(true).without_groups();
    let failing = Ordinary::new(true);
    let programs = failing.home().join("programs");
    fs::create_dir(&programs).unwrap();
    fs::write(programs.join("newgidmap"), "#!/bin/sh\necho it is broken >&2\nexit 1\n").unwrap();
    fs::set_permissions(programs.join("newgidmap"), fs::Permissions::from_mode(0o755)).unwrap();
    let image = image();
    let archive = image.docker_archive("app:1").0;
    for (user, reason) in [(missing, "`/etc/subgid` has no ids"), (failing, "it is broken")] {
        let copy = user.home().join("archive.tar");
        fs::copy(&archive, &copy).unwrap();
        chown(&copy, Some(Ordinary::ID), None).unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let load = user.cove(["load", "-i", &copy.display().to_string()]).env("PATH", path).run();
        assert!(load.succeeded() && load.stderr.contains(reason), "{load}");
    }
}

#[test]
fn an_image_is_mounted_in_a_namespace_that_stays() {
    let user = Ordinary::new(true);
    let archive = user.home().join("archive.tar");
    let image = image();
    fs::copy(image.docker_archive("app:1").0, &archive).unwrap();
    chown(&archive, Some(Ordinary::ID), None).unwrap();
    user.cove(["load", "-i", &archive.display().to_string()]).ok();
    let refused = user.cove(["image", "mount", "app:1"]).run();
    assert_eq!(refused.stdout, "");
    assert!(refused.stderr.contains("unshare --user --map-root-user --mount"), "{refused}");
    let script = "cat \"$($0 image mount app:1)/folder/new\"; $0 image unmount app:1 >&2";
    let program = user.program();
    let words = ["--user", "--map-root-user", "--mount", "sh", "-c", script, &program.display().to_string()];
    assert_eq!(user.run(Path::new("unshare"), words).ok(), "new");
}

#[test]
fn with_several_ranges_of_subordinate_ids() {
    let ranges = [(Ordinary::SUBORDINATE, 1000), (900_000, 1), (800_000, 64_535)];
    let world = World::of(Ordinary::with_ranges(&ranges));
    let pulled = world.user.cove(["pull", &world.name]).run();
    assert!(pulled.succeeded() && !pulled.stderr.contains("subuid"), "{pulled}");
    // One range goes on where the one before it ends: 1 to 1000, 1001, 1002 to 65,536.
    let nobody = 800_000 + 65534 - 1002;
    for (name, user, group) in [
        ("of-root", Ordinary::ID, Ordinary::ID),
        ("of-user", Ordinary::SUBORDINATE + 999, Ordinary::SUBORDINATE + 999),
        ("of-nobody", nobody, nobody),
        ("new", Ordinary::SUBORDINATE + 999, Ordinary::SUBORDINATE + 49),
    ] {
        assert_eq!(world.owner(name), (user, group), "owner of {name}");
    }
    world.everything_else_works();
}

#[test]
fn with_too_few_subordinate_ids() {
    let world = World::of(Ordinary::with_ranges(&[(Ordinary::SUBORDINATE, 1000)]));
    let printed = world.user.cove(["pull", &world.name]).fails();
    assert!(printed.contains("of-nobody` belongs to 65534:65534, which is not mapped here"), "{printed}");
    assert!(printed.contains("/etc/subuid and /etc/subgid"), "{printed}");
    assert_eq!(world.user.cove(["images", "-a", "-q"]).ok(), "");
    world.user.cove(["system", "prune", "-f"]).ok();
    assert_eq!(world.find("of-root"), [""; 0].map(PathBuf::from));
}

/// Keeps what it is given in the user's home, and writes down who called it for what.
const HELPER: &str = r#"#!/bin/sh
printf '%s %s\n' "$(id -u)" "$1" >>"$HOME/calls"
case $1 in
store) cat >"$HOME/kept" ;;
get) if [ -s "$HOME/kept" ]; then cat "$HOME/kept"; else echo "credentials not found in native keychain"; exit 1; fi ;;
erase) rm -f "$HOME/kept" ;;
esac
"#;

/// A helper looks for a keyring of the user: it must be run as the user, outside of the namespace in which the store is.
#[test]
fn credential_helpers_are_run_as_the_user() {
    let server = Server::start();
    let alice = server.add_user("alice");
    let name = format!("{}/alice/image:1", server.address());
    let publisher = Cove::new();
    publisher.login(&server.address(), &alice);
    publisher.push(&Image::new(1, 10_000), &name);

    let (user, programs) = (Ordinary::new(true), Scratch::new("programs"));
    let helper = programs.write("docker-credential-fake", HELPER);
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let folder = user.home().join(".docker");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("config.json"), r#"{ "credsStore": "fake" }"#).unwrap();
    for path in [&folder, &folder.join("config.json")] {
        chown(path, Some(Ordinary::ID), Some(Ordinary::ID)).unwrap();
    }
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap());
    let cove = |words: &[&str]| {
        let command = user.cove(words).env("PATH", &path).env("COVE_CREDENTIAL_HELPER_TIMEOUT", "1");
        command.input(&alice.password)
    };
    let calls = || {
        let calls = fs::read_to_string(user.home().join("calls")).unwrap_or_default();
        let _ = fs::remove_file(user.home().join("calls"));
        let calls =
            calls.lines().map(|line| line.strip_prefix(&format!("{} ", Ordinary::ID)).unwrap_or(line).to_owned());
        calls.collect::<Vec<_>>()
    };

    cove(&["pull", &name]).fails();
    assert_eq!(calls(), ["get"]);
    cove(&["login", "-u", "alice", "--password-stdin", &server.address()]).ok();
    assert!(calls().contains(&"store".to_owned()));
    assert!(!fs::read_to_string(folder.join("config.json")).unwrap().contains("identitytoken"));
    cove(&["pull", &name]).ok();
    cove(&["push", &name]).ok();
    assert!(calls().iter().all(|call| call == "get"));
    cove(&["logout", &server.address()]).ok();
    assert_eq!(calls(), ["erase"]);
    assert!(!user.home().join("kept").exists());
    cove(&["pull", &name]).fails();

    // What the outer process cannot do is told by the inner one.
    for (script, says) in [
        ("#!/bin/sh\nexec sleep 1000", "`docker-credential-fake get` has not answered for"),
        ("#!/bin/sh\necho hello", "its answer is not the JSON of a credential"),
        ("", "`docker-credential-fake` cannot be run"),
    ] {
        match script {
            "" => fs::remove_file(&helper).unwrap(),
            script => fs::write(&helper, script).unwrap(),
        }
        let printed = cove(&["pull", &name]).fails();
        assert!(printed.contains(says), "{says}: {printed}");
    }
}

/// Three processes hear of Ctrl-C: the one inside cleans up and ends, and the others end as it did.
#[test]
fn ctrl_c_during_a_pull_leaves_a_clean_terminal() {
    let (distribution, user) = (Distribution::start(), Ordinary::new(true));
    Skopeo::new().push(&Image::new(2, 1_000_000), &format!("{}/somebody/image:1", distribution.address()));
    let proxy = Proxy::start(&distribution.address(), 300_000);
    let name = format!("{}/somebody/image:1", proxy.address());
    let mut terminal = Terminal::run(&user.cove(["pull", &name]), 40);
    terminal.wait_until("some frames are shown", |shown| shown.matches("Total: ").count() > 5);
    terminal.press("\x03");
    assert_eq!(terminal.wait().code(), Some(130), "{}", terminal.shown());
    let screen = Screen::of(&terminal.shown(), 40);
    assert_eq!((screen.wrapped, screen.column), (0, 0), "{screen:?}");
    assert!(screen.unknown.is_empty() && screen.cursor && screen.is_plain, "{screen:?}");
    proxy.set_rate(0);
    user.cove(["pull", "-q", &name]).ok();
    assert_eq!(
        user.cove(["images", "-q", "--no-trunc"]).ok(),
        distribution.registry().pull("somebody/image", "1").config
    );
}
