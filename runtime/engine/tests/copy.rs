//! `cp` into a container's root and out of it, and `export`.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "unpack/listing.rs"]
#[allow(dead_code)]
mod listing;

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use cove_engine::copy::{CopyError, IntoOptions, archive_in, archive_out, glob, stat};
use cove_engine::tar::{Archive, Entry, EntryKind, TarLimits, Writer, Xattr};
use cove_engine::write_tree;
use listing::{assert_same, is_root, list};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, makedev, mknodat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// A name that is nowhere else.
const MARKER: &str = "this-is-the-root-of-a-test-of-cove";

/// A root with links of all kinds.
struct Root {
    place: tempfile::TempDir,
    root: File,
}

impl Root {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("root");
        for folder in ["etc/ssl", "data/sub", "empty"] {
            fs::create_dir_all(path.join(folder)).unwrap();
        }
        for (name, content) in
            [("etc/a.conf", "a"), ("etc/b.conf", "b"), ("etc/.c.conf", "c"), ("data/file", "file"), ("data/sub/x", "x")]
        {
            fs::write(path.join(name), content).unwrap();
        }
        symlink("/data", path.join("link")).unwrap();
        symlink("../../../../data/file", path.join("etc/up")).unwrap();
        symlink("nowhere/at/all", path.join("dangling")).unwrap();
        symlink("round", path.join("round")).unwrap();
        fs::write(path.join(MARKER), "").unwrap();
        let root = Root { root: File::open(path).unwrap(), place };
        // Before anything is written: if paths were not resolved inside of the root, they would be those of this machine.
        assert!(stat(root.root.as_fd(), &Path::new("/").join(MARKER)).is_ok(), "paths lead out of the root");
        fs::remove_file(root.path().join(MARKER)).unwrap();
        root
    }

    fn path(&self) -> PathBuf {
        self.place.path().join("root")
    }

    fn out(&self, path: &str, follow: bool) -> Result<Vec<Entry>, CopyError> {
        let mut tar = Vec::new();
        archive_out(self.root.as_fd(), Path::new(path), follow, &mut tar)?;
        Ok(entries(&tar))
    }

    fn names(&self, path: &str) -> Vec<String> {
        self.out(path, false).unwrap().iter().map(|entry| String::from_utf8(entry.path.clone()).unwrap()).collect()
    }

    fn put(&self, path: &str, entries: &[(Entry, &[u8])], options: &IntoOptions) -> Result<(), CopyError> {
        archive_in(self.root.as_fd(), Path::new(path), &*tar(entries), options)
    }

    fn glob(&self, pattern: &str) -> Vec<String> {
        let found = glob(self.root.as_fd(), Path::new(pattern)).unwrap();
        found.into_iter().map(|path| path.into_os_string().into_string().unwrap()).collect()
    }
}

const DEEP: &str = "COVE_TEST_DEEP_TREE";

/// Not a test of its own: the process that may open few files.
#[test]
fn deep() {
    let Some(folder) = std::env::var_os(DEEP) else { return };
    let root = File::open(&folder).unwrap();
    let mut exported = Vec::new();
    write_tree(root.as_fd(), &mut exported).unwrap();
    let mut copied = Vec::new();
    archive_out(root.as_fd(), Path::new("/d"), false, &mut copied).unwrap();
    for archive in [exported, copied] {
        let entries = entries(&archive);
        assert_eq!(entries.len(), 2 * 400);
        assert_eq!(entries.iter().filter(|entry| entry.path.ends_with(b"/z")).count(), 400);
    }
}

#[test]
fn a_deep_tree_needs_no_more_open_files_than_a_shallow_one() {
    let place = tempfile::tempdir().unwrap();
    let mut path = place.path().to_owned();
    for _ in 0..400 {
        path.push("d");
        fs::create_dir(&path).unwrap();
        // After the folder: seen on the way back.
        fs::write(path.join("z"), "").unwrap();
    }
    let status = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 100; exec \"$0\" --exact deep"])
        .arg(std::env::current_exe().unwrap())
        .env(DEEP, place.path())
        .status();
    assert!(status.unwrap().success());
}

fn entries(tar: &[u8]) -> Vec<Entry> {
    let mut archive = Archive::new(tar, TarLimits { header_bytes: 1 << 20, bytes: 1 << 40 });
    let (mut entry, mut entries) = (Entry::default(), Vec::new());
    while archive.next(&mut entry).unwrap() {
        entries.push(entry.clone());
    }
    entries
}

fn tar(entries: &[(Entry, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in entries {
        writer.entry(&Entry { size: data.len() as u64, ..entry.clone() }).unwrap();
        writer.data(data).unwrap();
    }
    writer.finish().unwrap()
}

fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry { path: path.as_bytes().to_vec(), kind, mode: 0o755, ..Entry::default() }
}

fn file<'a>(path: &str, data: &'a str) -> (Entry, &'a [u8]) {
    (Entry { mode: 0o644, ..entry(path, EntryKind::File) }, data.as_bytes())
}

fn link(path: &str, target: &str, kind: EntryKind) -> (Entry, &'static [u8]) {
    (Entry { link: target.as_bytes().to_vec(), ..entry(path, kind) }, b"")
}

fn folder(path: &str) -> (Entry, &'static [u8]) {
    (entry(path, EntryKind::Folder), b"")
}

#[test]
fn paths_are_told_as_dockers_api_tells_them() {
    let root = Root::new();
    let look = |path: &str| stat(root.root.as_fd(), Path::new(path));
    let found = look("/etc/a.conf").unwrap();
    assert_eq!((found.name.as_path(), found.size, found.go_mode()), (Path::new("a.conf"), 1, found.mode & 0o777));
    for (path, name, target) in [
        ("/link", "link", "/data"),
        ("link/", "link", ""),
        ("/link/.", ".", ""),
        ("/link/sub", "sub", ""),
        ("/etc/up", "up", "/data/file"),
        ("/dangling", "dangling", "/nowhere/at/all"),
        ("/", "/", ""),
        ("/../..", "/", ""),
        ("/nothing/../etc", "etc", ""),
    ] {
        let found = look(path).unwrap();
        assert_eq!((found.name.as_path(), found.link_target.as_path()), (Path::new(name), Path::new(target)), "{path}");
    }
    assert_eq!(look("/link").unwrap().go_mode(), 1 << 27 | 0o777);
    assert_eq!(look("/data").unwrap().go_mode() & !0o777, 1 << 31);
    for path in ["/nothing", "/nothing/x", "/dangling/"] {
        assert!(matches!(look(path), Err(CopyError::NotFound(_))), "{path}");
    }
    assert!(look("/etc/a.conf/").is_err() && look("/round").is_err());
    let path = root.path().join("special");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o7711)).unwrap();
    assert_eq!(look("/special").unwrap().go_mode(), 0o711 | 1 << 23 | 1 << 22 | 1 << 20);
}

/// The names that docker 20.10 gives.
#[test]
fn names_in_the_archive_are_dockers() {
    let root = Root::new();
    for (path, expected) in [
        ("/data", &["data/", "data/file", "data/sub/", "data/sub/x"][..]),
        ("/data/", &["data/", "data/file", "data/sub/", "data/sub/x"]),
        ("/data/.", &["./", "./file", "./sub/", "./sub/x"]),
        ("/link", &["link"]),
        ("/link/", &["link/", "link/file", "link/sub/", "link/sub/x"]),
        ("/link/.", &["./", "./file", "./sub/", "./sub/x"]),
        ("/link/sub", &["sub/", "sub/x"]),
        ("/etc/a.conf", &["a.conf"]),
        ("/empty", &["empty/"]),
    ] {
        assert_eq!(root.names(path), expected, "{path}");
    }
    assert_eq!(root.names("/")[..2], ["/", "/dangling"]);
    assert_eq!(root.names("/.")[..2], ["./", "./dangling"]);
    assert_eq!(root.out("/link", false).unwrap()[0].kind, EntryKind::SymbolicLink);
    let followed = root.out("/link", true).unwrap();
    assert_eq!((followed[0].kind, followed[0].path.as_slice()), (EntryKind::Folder, &b"link/"[..]));
    let up = root.out("/etc/up", true).unwrap();
    assert_eq!((up[0].kind, up[0].path.as_slice(), up[0].size), (EntryKind::File, &b"up"[..], 4));
    assert!(matches!(root.out("/dangling", true), Err(CopyError::NotFound(_))));
}

#[test]
fn what_goes_out_comes_in_again_the_same() {
    if !is_root() {
        return;
    }
    let root = Root::new();
    let data = root.path().join("data");
    fs::set_permissions(data.join("file"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(data.join("file"), data.join("sub/same")).unwrap();
    for (name, kind, device) in [
        ("null", FileType::CharacterDevice, makedev(1, 3)),
        ("disk", FileType::BlockDevice, makedev(7, 300)),
        ("pipe", FileType::Fifo, 0),
    ] {
        mknodat(CWD, data.join(name), kind, Mode::from_raw_mode(0o620), device).unwrap();
    }
    std::os::unix::fs::lchown(data.join("sub"), Some(3), Some(4)).unwrap();
    symlink("../etc", data.join("sub/l")).unwrap();
    std::os::unix::fs::lchown(data.join("sub/l"), Some(5), Some(6)).unwrap();
    lsetxattr(
        data.join("file"),
        "security.capability",
        b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        XattrFlags::empty(),
    )
    .unwrap();
    let mut archive = Vec::new();
    archive_out(root.root.as_fd(), Path::new("/data/."), false, &mut archive).unwrap();
    archive_in(root.root.as_fd(), Path::new("/empty"), &archive[..], &IntoOptions::default()).unwrap();
    let (mut found, mut expected) = (list(&root.path().join("empty")), list(&data));
    // docker leaves the folder itself as it is.
    for listing in [&mut found, &mut expected] {
        listing.remove(Path::new(""));
    }
    assert_same(&found, &expected);

    let owner = IntoOptions { owner: Some((7, 8)), ..IntoOptions::default() };
    archive_in(root.root.as_fd(), Path::new("/empty"), &archive[..], &owner).unwrap();
    assert!(
        list(&root.path().join("empty")).iter().all(|(path, node)| path.as_os_str().is_empty() || node.owner == (7, 8))
    );
}

#[test]
fn what_is_there_is_replaced_and_folders_are_merged() {
    let root = Root::new();
    let own = rustix::process::getuid().as_raw();
    let options = IntoOptions { owner: Some((own, rustix::process::getgid().as_raw())), ..IntoOptions::default() };
    root.put(
        "/",
        &[
            folder("data"),
            file("data/new", "new"),
            file("empty", "a file"),
            folder("etc/a.conf"),
            file("deep/er/x", "x"),
        ],
        &options,
    )
    .unwrap();
    let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
    assert_eq!(
        (read("data/new"), read("data/file"), read("empty"), read("deep/er/x")),
        ("new".into(), "file".into(), "a file".into(), "x".into())
    );
    assert!(root.path().join("etc/a.conf").is_dir());
    // A link is replaced and not followed; one on the way is followed, inside of the root.
    root.put("/link", &[file("through", "t")], &options).unwrap();
    assert_eq!(read("data/through"), "t");
    root.put(
        "/",
        &[file("link/more", "m"), file("etc/up", "no link"), link("hard", "data/file", EntryKind::HardLink)],
        &options,
    )
    .unwrap();
    assert_eq!((read("data/more"), read("etc/up"), read("data/file")), ("m".into(), "no link".into(), "file".into()));
    assert_eq!(
        root.path().join("hard").metadata().unwrap().ino(),
        root.path().join("data/file").metadata().unwrap().ino()
    );

    let careful = IntoOptions { no_overwrite_dir_non_dir: true, ..options };
    let error = root.put("/", &[file("data", "x")], &careful).unwrap_err().to_string();
    assert_eq!(error, r#"cannot overwrite directory "/data" with non-directory "/""#);
    let error = root.put("/data", &[folder("file")], &careful).unwrap_err().to_string();
    assert_eq!(error, r#"cannot overwrite non-directory "/data/file" with directory "/data""#);
    root.put("/", &[file("data", "x")], &options).unwrap();
    assert_eq!(read("data"), "x");

    assert!(matches!(root.put("/nothing", &[], &options), Err(CopyError::NotFound(_))));
    assert!(matches!(root.put("/empty", &[], &options), Err(CopyError::NotAFolder)));
    for name in ["../x", "a/../../x", "/../x"] {
        assert!(matches!(root.put("/etc", &[file(name, "")], &options), Err(CopyError::Outside(_))), "{name}");
    }
    let hard = link("h", "../data", EntryKind::HardLink);
    assert!(matches!(root.put("/etc", &[hard], &options), Err(CopyError::Outside(_))));
}

#[test]
fn links_of_the_archive_and_of_the_container_do_not_lead_out() {
    let place = tempfile::tempdir().unwrap();
    let outside = place.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    let root = Root::new();
    let options = IntoOptions {
        owner: Some((rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())),
        ..IntoOptions::default()
    };
    for (number, target) in
        [outside.to_str().unwrap().to_owned(), format!("../../../../../..{}", outside.display())].iter().enumerate()
    {
        symlink(target, root.path().join(format!("out{number}"))).unwrap();
        let from_archive = [
            link(&format!("l{number}"), target, EntryKind::SymbolicLink),
            file(&format!("l{number}/secret"), "changed"),
        ];
        let _ = root.put("/", &from_archive, &options);
        let _ = root.put("/", &[file(&format!("out{number}/secret"), "changed")], &options);
        assert!(root.put(&format!("/out{number}"), &[file("secret", "changed")], &options).is_err());
        let _ = root.put(
            "/",
            &[link(&format!("h{number}"), &format!("out{number}/secret"), EntryKind::HardLink)],
            &options,
        );
        assert!(root.out(&format!("/out{number}/secret"), true).is_err());
        assert!(stat(root.root.as_fd(), Path::new(&format!("/out{number}/secret"))).is_err());
        assert!(root.glob(&format!("/out{number}/*")).is_empty());
    }
    symlink("/proc/self/root", root.path().join("magic")).unwrap();
    assert!(root.out("/magic/etc/passwd", true).is_err());
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "secret");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    // The kernel's own links, of a container's /proc.
    if is_root() {
        fs::create_dir(root.path().join("proc")).unwrap();
        rustix::mount::mount_bind("/proc", root.path().join("proc")).unwrap();
        let magic = ["/proc/self/root/etc/passwd", "/proc/self/exe", "/magic/etc/passwd"];
        let led_out: Vec<_> = magic.iter().filter(|path| root.out(path, true).is_ok()).collect();
        let listed = root.out("/proc/.", false).map(|entries| entries.len());
        unmount(root.path().join("proc"), UnmountFlags::DETACH).unwrap();
        assert!(led_out.is_empty(), "{led_out:?}");
        assert_eq!(listed.unwrap(), 1, "as docker has it, which does not mount it for copying");
    }
}

/// A process of the container exchanges a folder for links that lead out, all the time.
#[test]
fn a_racing_process_leads_nobody_out() {
    let rounds = std::env::var("COVE_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2000);
    let root = Root::new();
    let outside = root.place.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "outside").unwrap();
    fs::set_permissions(outside.join("file"), fs::Permissions::from_mode(0o600)).unwrap();
    let before = list(&outside);
    let options = IntoOptions {
        owner: Some((rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())),
        ..IntoOptions::default()
    };
    let inside = root.path().join("data");
    let (absolute, relative) = (root.path().join("a"), root.path().join("r"));
    symlink(&outside, &absolute).unwrap();
    symlink("../outside", &relative).unwrap();
    let over = AtomicBool::new(false);
    let (mut read, mut written, mut refused) = (0, 0, 0);
    std::thread::scope(|scope| {
        let racing = scope.spawn(|| {
            let exchange = |path: &Path| {
                rustix::fs::renameat_with(CWD, &inside, CWD, path, rustix::fs::RenameFlags::EXCHANGE).unwrap();
            };
            while !over.load(Ordering::Relaxed) {
                for link in [&absolute, &relative] {
                    exchange(link);
                    exchange(link);
                }
                // And a file for a link.
                let file = root.path().join("etc/raced");
                let _ = fs::remove_file(&file);
                let _ = symlink(outside.join("file"), &file);
            }
        });
        for round in 0..rounds {
            let mut archive = Vec::new();
            match archive_out(root.root.as_fd(), Path::new("/data/file"), true, &mut archive) {
                Ok(_) => {
                    assert!(!archive.windows(7).any(|bytes| bytes == b"outside"), "what is outside was read");
                    read += 1;
                }
                Err(_) => refused += 1,
            }
            let _ = archive_out(root.root.as_fd(), Path::new("/data/"), false, &mut archive);
            if round % 10 == 0 {
                let _ = archive_out(root.root.as_fd(), Path::new("/."), false, &mut archive);
            }
            assert!(!archive.windows(7).any(|bytes| bytes == b"outside\0"), "what is outside was read");
            for put in [
                root.put("/data", &[file("new", "changed"), folder("sub"), file("sub/file", "changed")], &options),
                root.put(
                    "/",
                    &[file("data/file", "file"), link("data/hard", "data/file", EntryKind::HardLink)],
                    &options,
                ),
                root.put("/etc", &[file("raced", "changed"), (entry("raced", EntryKind::Fifo), b"")], &options),
            ] {
                match put {
                    Ok(()) => written += 1,
                    Err(_) => refused += 1,
                }
            }
            let _ = glob(root.root.as_fd(), Path::new("/data/*"));
        }
        over.store(true, Ordering::Relaxed);
        racing.join().unwrap();
    });
    assert_same(&list(&outside), &before);
    assert!(
        read > 0 && written > 0 && refused > 0,
        "the race was none: {read} read, {written} written, {refused} refused"
    );
}

#[test]
fn patterns_are_names_of_the_container() {
    let root = Root::new();
    assert_eq!(root.glob("/etc/*.conf"), ["/etc/a.conf", "/etc/b.conf"]);
    assert_eq!(root.glob("etc/.*.conf"), ["/etc/.c.conf"]);
    assert_eq!(root.glob("/link/*"), ["/link/file", "/link/sub"]);
    assert_eq!(root.glob("/*/file"), ["/data/file", "/link/file"]);
    assert_eq!(root.glob("/d*/s*/"), ["/data/sub/"]);
    assert_eq!(root.glob("/etc/[!a].conf"), ["/etc/b.conf"]);
    assert_eq!(root.glob("/nothing/*"), Vec::<String>::new());
    assert_eq!(root.glob("/no/pattern"), ["/no/pattern"]);
    assert_eq!(root.glob("/round/*"), Vec::<String>::new());
    fs::write(root.path().join("etc/*"), "star").unwrap();
    assert_eq!(root.glob(r"/etc/\*"), ["/etc/*"]);
    let odd = root.path().join("etc").join(std::ffi::OsStr::from_bytes(b"\xff.odd"));
    fs::write(&odd, "").unwrap();
    let found = glob(root.root.as_fd(), Path::new("/etc/*.odd")).unwrap();
    assert_eq!(found[0].as_os_str().as_bytes(), b"/etc/\xff.odd");
}

#[test]
fn an_export_has_everything_but_what_is_mounted() {
    if !is_root() {
        return;
    }
    let root = Root::new();
    let path = root.path();
    fs::create_dir(path.join("volume")).unwrap();
    fs::write(path.join("mounted"), "hidden").unwrap();
    fs::hard_link(path.join("data/file"), path.join("same")).unwrap();
    mknodat(CWD, path.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 3)).unwrap();
    lsetxattr(path.join("etc/a.conf"), "user.mark", b"m", XattrFlags::empty()).unwrap();
    let expected = list(&path);
    mount("tmpfs", path.join("volume"), "tmpfs", MountFlags::empty(), None).unwrap();
    fs::write(path.join("volume/inside"), "inside").unwrap();
    rustix::mount::mount_bind(path.join("volume/inside"), path.join("mounted")).unwrap();
    let mut archive = Vec::new();
    let exported = write_tree(root.root.as_fd(), &mut archive);
    let mut out = Vec::new();
    let copied = archive_out(root.root.as_fd(), Path::new("/volume"), false, &mut out);
    for mounted in ["mounted", "volume"] {
        unmount(path.join(mounted), UnmountFlags::DETACH).unwrap();
    }
    exported.unwrap();
    copied.unwrap();
    assert_eq!(entries(&out).len(), 2, "what is mounted can be copied");

    let found = entries(&archive);
    assert!(found.iter().all(|entry| !matches!(entry.path.as_slice(), b"./" | b"/" | b".")), "docker's has no root");
    let marked = found.iter().find(|entry| entry.path == b"etc/a.conf").unwrap();
    assert_eq!(marked.xattrs, [Xattr { name: b"user.mark".to_vec(), value: b"m".to_vec() }]);
    let place = tempfile::tempdir().unwrap();
    listing::gnu_tar(&archive, place.path(), &[]);
    let (mut found, mut expected) = (list(place.path()), expected);
    let mounted = found.remove(Path::new("mounted")).unwrap();
    assert_eq!((mounted.kind, mounted.content), ('-', Vec::new()));
    assert!(found.remove(Path::new("volume")).unwrap().kind == 'd');
    for listing in [&mut found, &mut expected] {
        for name in ["", "mounted", "volume"] {
            listing.remove(Path::new(name));
        }
    }
    assert_same(&found, &expected);
}
