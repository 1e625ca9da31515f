//! An image with everything in it that layers may hold and that is easily got wrong.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use crate::tree::set_attribute;
use crate::{Cmd, Image, Noise, Scratch};

/// `cap_net_raw=ep` as the kernel keeps it: version 2, effective, bit 13 of what is permitted.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// An image of about 2 MB. Its lowest layer is a folder as GNU tar packs it, with busybox; the others are made by
/// hand, so that their tars hold what no program writes.
pub fn nasty_image() -> Image {
    let folder = Scratch::new("nasty");
    let layers = [base(&folder), upper(&folder), top(&folder)];
    Image::from_layers(&layers.each_ref().map(PathBuf::as_path))
}

/// The same with two layers that docker or umoci cannot unpack, or not pack again.
pub fn nastier_image() -> Image {
    let folder = Scratch::new("nasty");
    let layers = [base(&folder), upper(&folder), top(&folder), holes(&folder), peak(&folder)];
    Image::from_layers(&layers.each_ref().map(PathBuf::as_path))
}

/// Hard links, attributes, capabilities, devices, holes, odd names, modes, owners and times.
fn base(scratch: &Scratch) -> PathBuf {
    let root = scratch.folder("base");
    let at = |path: &str| root.join(path);
    let folders = "bin dev data/sub etc gone-folder/sub opaque/old beside/old rebeside/old lib-real tmp run var odd \
                   times owners empty becomes-file/sub through/a/b usr/share";
    for folder in folders.split_whitespace() {
        fs::create_dir_all(at(folder)).expect("make a folder");
    }
    let write = |path: &str, content: &[u8]| fs::write(at(path), content).expect("write a file");
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    fs::copy(busybox.expect("busybox is there"), at("bin/busybox")).expect("copy busybox");
    symlink("busybox", at("bin/sh")).expect("make a link");

    write("data/alone", b"one file with one name");
    write("data/one", b"one file with four names");
    for name in ["data/two", "data/sub/three", "usr/share/four"] {
        fs::hard_link(at("data/one"), at(name)).expect("make a hard link");
    }
    symlink("one", at("data/link")).expect("make a link");
    fs::hard_link(at("data/link"), at("data/link-again")).expect("make a hard link to a link");
    write("data/noise", &Noise::bytes(100_000));
    write("data/empty", b"");
    for path in [
        "etc/kept",
        "etc/removed",
        "etc/replaced",
        "etc/to-folder",
        "gone-folder/sub/file",
        "opaque/old/file",
        "opaque/file",
        "beside/old/file",
        "rebeside/old/file",
        "becomes-file/sub/file",
        "through/a/b/file",
    ] {
        write(path, format!("{path} of the lowest layer\n").as_bytes());
    }

    set_attribute(&at("etc/kept"), "user.colour", b"blue\0green");
    set_attribute(&at("etc"), "user.of-a-folder", b"1");
    set_attribute(&at("opaque"), "user.lost", b"the upper layer has none");
    set_attribute(&at("tmp"), "user.implied", b"kept");
    write("bin/ping", b"not really");
    set_attribute(&at("bin/ping"), "security.capability", &CAPABILITY);

    Cmd::new("mknod").arg(at("dev/null")).args(["c", "1", "3"]).ok();
    Cmd::new("mknod").arg(at("dev/loop-like")).args(["b", "7", "300"]).ok();
    Cmd::new("mkfifo").arg(at("dev/pipe")).ok();

    symlink("lib-real", at("lib")).expect("make a link");
    symlink("/run", at("var/run")).expect("make a link");
    symlink("../../../../../run", at("var/far")).expect("make a link");
    symlink("nowhere/at/all", at("data/dangling")).expect("make a link");
    symlink("loop", at("data/loop")).expect("make a link");
    symlink("through/a", at("way")).expect("make a link");
    symlink("etc", at("becomes-real")).expect("make a link");

    let long = "l".repeat(255);
    let names: [&[u8]; 12] = [
        b"new\nline",
        b"end\n",
        b"not-\xff\xfe-utf8",
        b" space ",
        b"-dash",
        b"back\\slash",
        b"*?[star]",
        b"\"quote'",
        "ümläut-\u{1f433}".as_bytes(),
        b"tab\tbell\x07",
        b"...",
        long.as_bytes(),
    ];
    for name in names {
        fs::write(root.join("odd").join(OsStr::from_bytes(name)), name).expect("write a file with an odd name");
    }
    let deep = (0..20).map(|number| format!("a-folder-with-a-long-name-{number:02}")).collect::<Vec<_>>().join("/");
    fs::create_dir_all(root.join("odd").join(&deep)).expect("make folders");
    write(&format!("odd/{deep}/file"), b"far down");
    fs::create_dir(root.join("odd").join(OsStr::from_bytes(b"folder\xc3\x28\n"))).expect("make a folder");

    for (path, mode) in
        [("bin/busybox", 0o4755), ("bin/ping", 0o2755), ("tmp", 0o1777), ("data/empty", 0o000), ("empty", 0o700)]
    {
        fs::set_permissions(at(path), fs::Permissions::from_mode(mode)).expect("set a mode");
    }
    for (name, user, group) in [("users", 1000, 1001), ("large", 4_000_000, 3_999_999), ("nobody", 65534, 65534)] {
        write(&format!("owners/{name}"), name.as_bytes());
        chown(at(&format!("owners/{name}")), Some(user), Some(group)).expect("give a file away");
    }
    // As chown clears these bits, they come after it.
    for (name, time) in [
        ("nanoseconds", "@1234567890.123456789"),
        ("before-1970", "@-86400.25"),
        ("far", "@9000000000.5"),
        ("zero", "@0"),
    ] {
        write(&format!("times/{name}"), name.as_bytes());
        Cmd::new("touch").args(["-d", time]).arg(at(&format!("times/{name}"))).ok();
    }
    for folder in ["times", "etc", "tmp", "lib-real", "data/sub", "run", "through/a/b"] {
        Cmd::new("touch").args(["-d", "@1600000000.987654321"]).arg(at(folder)).ok();
    }
    Cmd::new("touch").args(["-h", "-d", "@1500000000.111"]).arg(at("data/link")).ok();

    pack(scratch, "base", ".")
}

/// What GNU tar makes of a folder.
fn pack(scratch: &Scratch, name: &str, what: &str) -> PathBuf {
    let tar = scratch.join(format!("{name}.tar"));
    // Without times of access and change, which differ from run to run for no use.
    Cmd::new("tar")
        .args([
            "--format=posix",
            "--pax-option=delete=atime,delete=ctime",
            "--sparse",
            "--numeric-owner",
            "--sort=name",
        ])
        .args(["--xattrs", "--xattrs-include=*", "-cf"])
        .arg(&tar)
        .arg("-C")
        .arg(scratch.join(name))
        .arg(what)
        .ok();
    tar
}

/// Implied parents, links through folders, whiteouts of every kind, changes of kind.
fn upper(scratch: &Scratch) -> PathBuf {
    let mut layer = Layer::default();
    layer.file("tmp/implied", b"its folder is in the layer below");
    layer.file("lib/through-a-link", b"lib is a link");
    layer.file("var/run/through-an-absolute-link", b"var/run leads to /run");
    layer.file("way/b/through-a-link-in-between", b"way leads to through/a");
    layer.file("deep/er/est/file", b"its folders are nowhere");
    layer.file("etc/.wh.removed", b"");
    layer.file(".wh.gone-folder", b"");
    layer.file(".wh.never-was", b"");
    layer.folder("opaque/", 0o750);
    layer.file("opaque/new-before", b"before the mark");
    layer.file("opaque/.wh..wh..opq", b"");
    layer.file("opaque/new-after", b"after the mark");
    layer.file(".wh.beside", b"");
    layer.folder("beside/", 0o755);
    layer.file("beside/new", b"beside a whiteout of its own folder");
    layer.file("once", b"of the upper layer");
    layer.file("/absolute/name", b"from the root");
    layer.file("./dot/./slash//slash", b"a name with more than it needs");
    layer.hard_link("data/of-this-layer", "once");
    layer.file("etc/replaced", b"of the upper layer");
    layer.folder("etc/to-folder", 0o711);
    layer.file("etc/to-folder/inside", b"a file became a folder");
    layer.file("becomes-file", b"a folder became a file");
    layer.folder("becomes-real", 0o755);
    layer.file("becomes-real/inside", b"a link became a folder");
    layer.link("etc/link-here", "../data/one");
    layer.write(scratch, "upper")
}

/// Extended headers by hand, old forms of members, and a second go at what the layer below has done.
fn top(scratch: &Scratch) -> PathBuf {
    let mut layer = Layer::default();
    layer.extended(&[("mtime", b"-1.5"), ("uid", b"123456"), ("SCHILY.xattr.user.hand", b"made\nby hand\0")]);
    layer.file("hand/extended", b"negative time, an owner and an attribute");
    layer.extended(&[("path", b"hand/not-\xff-utf8\n")]);
    layer.file("hand/never-seen", b"its name is in the extended header");
    layer.extended(&[("mtime", b"1700000000.000000001")]);
    layer.folder("hand/", 0o755);
    layer.member(Member { kind: 0, ..Member::new("hand/old-form") }, b"a member of the kind NUL");
    layer.member(Member { kind: b'3', device: (5, 1), mode: 0o620, ..Member::new("hand/console") }, b"");
    layer.file("gone-folder/again", b"removed below, and here again");
    layer.file("deep/.wh.er", b"");
    layer.file("opaque/.wh.new-after", b"");
    layer.file(".wh.once", b"");
    layer.file("data/of-this-layer", b"no longer a link");
    layer.write(scratch, "top")
}

/// Files with holes, in the form that GNU tar gives them.
fn holes(scratch: &Scratch) -> PathBuf {
    let root = scratch.folder("holes");
    let at = |path: &str| root.join(path);
    fs::create_dir(at("sparse")).expect("make a folder");
    let holes = fs::File::create(at("sparse/holes")).expect("make a file");
    holes.set_len(8_000_000).expect("a sparse file");
    std::os::unix::fs::FileExt::write_all_at(&holes, b"an island", 3_000_000).expect("write into a sparse file");
    let hole = fs::File::create(at("sparse/nothing-but-hole")).expect("make a file");
    hole.set_len(1_000_000).expect("a sparse file");
    pack(scratch, "holes", "sparse")
}

/// Whiteouts after what they stand beside, members that come again, a link to a file of a lower layer.
fn peak(scratch: &Scratch) -> PathBuf {
    let mut layer = Layer::default();
    layer.global("comment=made by hand");
    layer.folder("rebeside/", 0o755);
    layer.file("rebeside/new", b"before the whiteout of its own folder");
    layer.file(".wh.rebeside", b"");
    for time in 1..=3 {
        layer.file("repeated", format!("time {time}").as_bytes());
        layer.member(Member { mode: 0o600 + time, ..Member::new("repeated-mode") }, format!("{time}").as_bytes());
    }
    layer.hard_link("data/of-repeated", "repeated");
    layer.member(Member { kind: b'7', ..Member::new("hand/contiguous") }, b"a member of the kind 7");
    layer.hard_link("data/late", "data/alone");
    layer.write(scratch, "peak")
}

/// A layer's tar, written member by member.
#[derive(Default)]
struct Layer(Vec<u8>);

struct Member<'a> {
    name: &'a str,
    kind: u8,
    mode: u32,
    link: &'a str,
    device: (u32, u32),
}

impl<'a> Member<'a> {
    fn new(name: &'a str) -> Self {
        Self { name, kind: b'0', mode: 0o644, link: "", device: (0, 0) }
    }
}

impl Layer {
    fn file(&mut self, name: &str, content: &[u8]) {
        self.member(Member::new(name), content);
    }

    fn folder(&mut self, name: &str, mode: u32) {
        self.member(Member { kind: b'5', mode, ..Member::new(name) }, b"");
    }

    fn link(&mut self, name: &str, to: &str) {
        self.member(Member { kind: b'2', mode: 0o777, link: to, ..Member::new(name) }, b"");
    }

    fn hard_link(&mut self, name: &str, to: &str) {
        self.member(Member { kind: b'1', link: to, ..Member::new(name) }, b"");
    }

    /// Records for the next member.
    fn extended(&mut self, records: &[(&str, &[u8])]) {
        let content: Vec<u8> = records.iter().flat_map(|(name, value)| record(name, value)).collect();
        self.member(Member { kind: b'x', ..Member::new("PaxHeaders/next") }, &content);
    }

    /// A record for all members.
    fn global(&mut self, text: &str) {
        let (name, value) = text.split_once('=').expect("a record");
        self.member(Member { kind: b'g', ..Member::new("pax_global_header") }, &record(name, value.as_bytes()));
    }

    fn member(&mut self, member: Member<'_>, content: &[u8]) {
        let mut header = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, member.name.as_bytes());
        put(100, format!("{:07o}\0", member.mode).as_bytes());
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", content.len()).as_bytes());
        put(136, format!("{:011o}\0", 1_600_000_000).as_bytes());
        put(148, b"        ");
        put(156, &[member.kind]);
        put(157, member.link.as_bytes());
        put(257, b"ustar\x0000");
        put(329, format!("{:07o}\0", member.device.0).as_bytes());
        put(337, format!("{:07o}\0", member.device.1).as_bytes());
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    fn write(mut self, scratch: &Scratch, name: &str) -> PathBuf {
        self.0.resize(self.0.len() + 1024, 0);
        scratch.write(&format!("{name}.tar"), self.0)
    }
}

/// A record of an extended header, which begins with its own length.
fn record(name: &str, value: &[u8]) -> Vec<u8> {
    let rest = name.len() + value.len() + 3;
    let length = (rest + 1..).find(|length| rest + length.to_string().len() == *length).expect("some length fits");
    [format!("{length} {name}=").as_bytes(), value, b"\n"].concat()
}
