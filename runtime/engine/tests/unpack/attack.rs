//! Layers that try to reach the host: a canary tree beside the folder stays as it is, whatever they do.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use cove_engine::unpack::{OneId, OverlayXattr, UnpackOptions, settle, unpack};

use crate::builder::{Block, Tar};
use crate::listing::{Listing, is_root, list};

/// Set in the process that runs the corpus in a user namespace.
const INSIDE: &str = "COVE_TEST_IN_A_USER_NAMESPACE";

/// A host with something to lose, and the folder of a layer on it.
struct Host {
    root: tempfile::TempDir,
    before: (Listing, Vec<(PathBuf, i64, i64)>),
}

impl Host {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let canary = root.path().join("canary");
        std::fs::create_dir_all(canary.join("folder")).unwrap();
        std::fs::write(canary.join("secret"), "secret").unwrap();
        std::fs::write(canary.join("folder/inside"), "inside").unwrap();
        symlink("secret", canary.join("link")).unwrap();
        std::fs::create_dir(root.path().join("layer")).unwrap();
        let mut host = Host { root, before: Default::default() };
        host.before = host.state();
        host
    }

    fn canary(&self) -> PathBuf {
        self.root.path().join("canary")
    }

    fn layer(&self) -> PathBuf {
        self.root.path().join("layer")
    }

    /// The canary, with the times of every change of an inode, and the names beside the layer.
    fn state(&self) -> (Listing, Vec<(PathBuf, i64, i64)>) {
        let listing = list(&self.canary());
        let mut paths: Vec<PathBuf> = listing.keys().map(|path| self.canary().join(path)).collect();
        paths.extend(self.root.path().read_dir().unwrap().map(|entry| entry.unwrap().path()));
        paths.sort();
        let change = |path: PathBuf| {
            let metadata = path.symlink_metadata().unwrap();
            let is_layer = path.ends_with("layer");
            let change = if is_layer { (0, 0) } else { (metadata.ctime(), metadata.ctime_nsec()) };
            (path, change.0, change.1)
        };
        (listing, paths.into_iter().map(change).collect())
    }

    /// Unpacks, and settles on a layer below that has the same traps. Errors are fine, changes of the host are not.
    fn attack(&self, name: &str, tar: &Tar) -> bool {
        let options = options();
        let layer = self.layer();
        let result = unpack(&*tar.end(), &layer, &options).and_then(|unpacked| {
            let below = self.root.path().join("layer/below");
            std::fs::create_dir(&below).unwrap();
            symlink(self.canary(), below.join("l")).unwrap();
            symlink("../../canary", below.join("r")).unwrap();
            symlink("/", below.join("a")).unwrap();
            settle(&layer, &unpacked, std::slice::from_ref(&below), &options)
        });
        assert!(self.state() == self.before, "{name} changed the host, and gave {result:?}");
        let is_secret = |(path, node): (&PathBuf, &crate::listing::Node)| {
            node.content == b"secret" && !path.starts_with("canary") && node.kind == '-'
        };
        assert!(!list(&layer).iter().any(is_secret), "{name} read the host");
        std::fs::remove_dir_all(&layer).unwrap();
        std::fs::create_dir(&layer).unwrap();
        result.is_ok()
    }
}

fn options() -> UnpackOptions {
    if std::env::var_os(INSIDE).is_some() {
        return UnpackOptions { rootless: Some(OneId), overlay: OverlayXattr::User, ..UnpackOptions::default() };
    }
    UnpackOptions::default()
}

/// What an entry behind a trap may be. `at` is the way to the canary.
fn payloads(at: &str) -> Vec<(&'static str, Tar)> {
    let mut payloads: Vec<(&'static str, Tar)> = Vec::new();
    let mut payload = |name, build: &dyn Fn(&mut Tar) -> &mut Tar| {
        let mut tar = Tar::new();
        build(&mut tar);
        payloads.push((name, tar));
    };
    payload("a new file", &|tar| tar.file(format!("{at}/new"), "x"));
    payload("a file over a file", &|tar| tar.file(format!("{at}/secret"), "overwritten"));
    payload("a file over a link", &|tar| tar.file(format!("{at}/link"), "overwritten"));
    payload("a file over a folder", &|tar| tar.file(format!("{at}/folder"), ""));
    payload("a file deeper", &|tar| tar.file(format!("{at}/folder/inside"), "overwritten"));
    payload("a new folder", &|tar| tar.folder(format!("{at}/made")));
    payload("a folder over the trap", &|tar| tar.add(Block::new(b'5', at).mode(0o777).owner(5, 5), &[]));
    payload("a folder with a slash", &|tar| tar.add(Block::new(b'5', format!("{at}/")).mode(0o777), &[]));
    payload("a folder with a dot", &|tar| tar.add(Block::new(b'5', format!("{at}/.")).mode(0o777), &[]));
    payload("attributes of a folder", &|tar| {
        tar.add(Block::new(b'5', format!("{at}/folder")).mode(0).owner(9, 9), &[])
    });
    payload("a file over the trap", &|tar| tar.file(at, "x").file(format!("{at}/x"), ""));
    payload("a link", &|tar| tar.link(format!("{at}/planted"), "secret"));
    payload("a link over a file", &|tar| tar.link(format!("{at}/secret"), "planted"));
    payload("a pipe", &|tar| tar.add(Block::new(b'6', format!("{at}/pipe")), &[]));
    payload("a device", &|tar| tar.add(Block::new(b'3', format!("{at}/null")).device(1, 3), &[]));
    payload("a device over a file", &|tar| tar.add(Block::new(b'4', format!("{at}/secret")).device(7, 0), &[]));
    payload("a hard link out", &|tar| tar.hard("stolen", format!("{at}/secret")).file("stolen", "overwritten"));
    payload("a hard link in", &|tar| tar.file("mine", "").hard(format!("{at}/planted"), "mine"));
    payload("a hard link to the trap", &|tar| tar.hard("again", at).file("again/new", "").file("again/secret", ""));
    payload("a chmod by hard link", &|tar| {
        tar.hard("x", format!("{at}/secret")).add(Block::new(b'0', "x").mode(0o777), &[])
    });
    payload("a whiteout", &|tar| tar.file(format!("{at}/.wh.secret"), ""));
    payload("a whiteout of a folder", &|tar| tar.file(format!("{at}/.wh.folder"), ""));
    payload("an opaque whiteout", &|tar| tar.file(format!("{at}/.wh..wh..opq"), ""));
    payload("a whiteout of the trap", &|tar| tar.file(format!(".wh.{at}"), "").file(format!("{at}/new"), ""));
    payload("attributes", &|tar| {
        tar.pax(&[("SCHILY.xattr.user.x", b"1"), ("SCHILY.xattr.security.capability", &[1; 20])])
            .file(format!("{at}/secret"), "")
    });
    payload("a sparse file", &|tar| {
        tar.pax(&[
            ("GNU.sparse.numblocks", b"1"),
            ("GNU.sparse.map", b"0,1"),
            ("GNU.sparse.size", b"9"),
            ("GNU.sparse.name", format!("{at}/secret").as_bytes()),
        ]);
        tar.file("decoy", "x")
    });
    payload("a long name", &|tar| tar.extension(b'L', format!("{at}/secret\0").as_bytes()).file("decoy", "x"));
    payload("a PAX path", &|tar| tar.pax(&[("path", format!("{at}/secret").as_bytes())]).file("decoy", "x"));
    payload("the trap replaced in between", &|tar| {
        tar.file(format!("{at}/x"), "")
            .folder("real")
            .link("real/up", "../canary")
            .link(at, "real")
            .file(format!("{at}/up/y"), "")
    });
    payload("many", &|tar| {
        tar.folder(at).file(format!("{at}/x"), "").link(at, "../canary").file(format!("{at}/secret"), "").folder(at);
        tar.file(format!("{at}/secret"), "").hard("out", format!("{at}/secret"))
    });
    payloads
}

/// Ways to lead to the canary, as the layer below has them too: `l`, `r` and `a`.
fn traps(host: &Host) -> Vec<(String, Tar, &'static str)> {
    let canary = host.canary().to_str().unwrap().to_owned();
    let mut traps = Vec::new();
    let mut trap = |name: String, at: &'static str, build: &dyn Fn(&mut Tar) -> &mut Tar| {
        let mut tar = Tar::new();
        build(&mut tar);
        traps.push((name, tar, at));
    };
    for target in [
        canary.clone(),
        "../canary".to_owned(),
        "./.././canary/".to_owned(),
        "../../../../../../../../".to_owned() + &canary,
        format!("/proc/self/root{canary}"),
        "/proc/self/cwd/../canary".to_owned(),
        format!("//{canary}//"),
    ] {
        trap(format!("a link to {target}"), "l", &|tar| tar.extension(b'K', target.as_bytes()).link("l", "x"));
    }
    trap("a chain".to_owned(), "l", &|tar| tar.link("l", "m").link("m", "n/o").folder("n").link("n/o", "../../canary"));
    trap("a chain in folders".to_owned(), "l", &|tar| tar.folder("d").link("d/up", "..").link("l", "d/up/../canary"));
    trap("a link that becomes one".to_owned(), "l", &|tar| tar.folder("l").file("l/x", "").link("l", "../canary"));
    trap("a hard link to a link".to_owned(), "l", &|tar| tar.link("first", "../canary").hard("l", "first"));
    trap("nothing, but a link below".to_owned(), "l", &|tar| tar);
    trap("nothing, but a relative link below".to_owned(), "r", &|tar| tar);
    trap("nothing, but a link to the root below".to_owned(), "a", &|tar| tar);
    traps
}

fn corpus() {
    let host = Host::new();
    let (mut cases, mut unpacked) = (0, 0);
    for (trap, prelude, at) in traps(&host) {
        for (payload, entries) in payloads(at) {
            let tar = Tar([prelude.0.clone(), entries.0].concat());
            cases += 1;
            unpacked += usize::from(host.attack(&format!("{payload} behind {trap}"), &tar));
        }
    }
    let canary = host.canary().to_str().unwrap().to_owned();
    for name in [
        "../canary/new".to_owned(),
        "../canary/secret".to_owned(),
        "./../canary/secret".to_owned(),
        "a/../../canary/secret".to_owned(),
        "/../canary/secret".to_owned(),
        "..".to_owned(),
        "../".to_owned(),
        "../layer/../canary".to_owned(),
        format!("{canary}/secret"),
        format!("/{canary}/secret"),
    ] {
        for flag in *b"01234567" {
            let mut tar = Tar::new();
            tar.file("x", "x").extension(b'L', name.as_bytes()).add(Block::new(flag, "decoy").link("x"), &[]);
            tar.extension(b'K', name.as_bytes())
                .add(Block::new(if flag == b'1' { b'1' } else { b'2' }, "y").link("x"), &[]);
            tar.file("y/z", "");
            cases += 1;
            unpacked += usize::from(host.attack(&format!("{name} as {}", flag as char), &tar));
        }
    }
    assert!(cases > 450 && unpacked > 150, "{cases} cases, {unpacked} of them unpacked to the end");
}

#[test]
fn no_layer_reaches_the_host() {
    corpus();
}

#[test]
fn no_layer_reaches_the_host_from_a_user_namespace() {
    if std::env::var_os(INSIDE).is_some() {
        return corpus();
    }
    let arguments = ["-U", "-r", "--"];
    let name = "attack::no_layer_reaches_the_host_from_a_user_namespace";
    let inside = Command::new("unshare").args(arguments).arg("true").status();
    if !inside.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no user namespaces here");
        return;
    }
    let program = std::env::current_exe().unwrap();
    let output =
        Command::new("unshare").args(arguments).arg(program).args(["--exact", name]).env(INSIDE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn devices_and_owners_that_a_user_cannot_have_are_counted() {
    if std::env::var_os(INSIDE).is_none() {
        let name = "attack::devices_and_owners_that_a_user_cannot_have_are_counted";
        let program = std::env::current_exe().unwrap();
        let output = Command::new("unshare")
            .args(["-U", "-r", "--"])
            .arg(program)
            .args(["--exact", name])
            .env(INSIDE, "1")
            .output();
        if let Ok(output) = output {
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains("1 passed") || !text.contains("running"), "{text}");
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut tar = Tar::new();
    tar.add(Block::new(b'3', "null").device(1, 3), &[])
        .add(Block::new(b'0', "file").owner(1000, 1000).mode(0o4755), &[]);
    tar.file(".wh.gone", "").file("opaque/.wh..wh..opq", "").pax(&[("SCHILY.xattr.trusted.x", b"1")]).folder("f");
    let unpacked = unpack(&*tar.end(), folder.path(), &options()).unwrap();
    assert_eq!((unpacked.skipped_devices, unpacked.skipped_owners, unpacked.skipped_xattrs), (1, 1, 1));
    let tree = list(folder.path());
    assert_eq!((tree[Path::new("gone")].kind, tree[Path::new("gone")].device), ('c', 0));
    assert!(tree[Path::new("opaque")].xattrs.contains_key(std::ffi::OsStr::new("user.overlay.opaque")));
    assert_eq!(tree[Path::new("file")].mode, 0o4755);
    // With all owners wanted, the one that is not mapped is an error that says what to do.
    let folder = tempfile::tempdir().unwrap();
    let options = UnpackOptions { rootless: None, ..options() };
    let mut tar = Tar::new();
    tar.add(Block::new(b'0', "file").owner(1000, 1000), &[]);
    let error = unpack(&*tar.end(), folder.path(), &options).unwrap_err().to_string();
    assert!(error.contains("1000:1000") && error.contains("/etc/subuid"), "{error}");
}

/// Somebody swaps folders for links to the canary while a layer is unpacked. The store's folders are closed to others,
/// so this needs a second fault; even then nothing is written outside.
#[test]
fn swapping_folders_for_links_leads_nowhere() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut tar = Tar::new();
    for number in 0..40 {
        // More folders than stay open, so that they are opened again and again.
        tar.folder(format!("d{number}"));
    }
    for round in 0..20 {
        for number in 0..40 {
            tar.file(format!("d{number}/secret"), format!("{round}"));
        }
    }
    let bytes = tar.end();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let layer = host.layer();
        let done = &done;
        scope.spawn(move || {
            let mut number = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                number = (number + 1) % 40;
                let (name, aside) = (layer.join(format!("d{number}")), layer.join("aside"));
                if std::fs::rename(&name, &aside).is_ok() {
                    let _ = symlink("../canary", &name);
                    let _ = std::fs::remove_file(&name);
                    let _ = std::fs::rename(&aside, &name);
                }
            }
        });
        for _ in 0..60 {
            let _ = unpack(&*bytes, &host.layer(), &UnpackOptions::default());
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(host.state() == host.before);
}
