//! Single layers: whiteouts, repeated paths, links, implied folders.

use std::path::Path;

use cove_engine::unpack::{OverlayXattr, UnpackError, UnpackOptions, Unpacked, unpack};
use tempfile::TempDir;

use crate::builder::{Block, Tar};
use crate::listing::{Listing, is_root, list};

/// Unpacks into a new folder.
pub fn unpacked(tar: &Tar) -> (TempDir, Result<Unpacked, UnpackError>) {
    let folder = tempfile::tempdir().unwrap();
    let result = unpack(&*tar.end(), folder.path(), &UnpackOptions::default());
    (folder, result)
}

fn tree(tar: &Tar) -> Listing {
    let (folder, result) = unpacked(tar);
    result.unwrap();
    list(folder.path())
}

/// Kinds of all paths but the root: `d a`, `- a/b`, `w c` for a whiteout, `o d` for an opaque folder.
fn summary(tar: &Tar) -> Vec<String> {
    let tree = tree(tar);
    let line = |(path, node): (&std::path::PathBuf, &crate::listing::Node)| {
        let is_opaque = node.xattrs.contains_key(std::ffi::OsStr::new("trusted.overlay.opaque"));
        let kind = match node.kind {
            'd' if is_opaque => 'o',
            'c' if node.device == 0 => 'w',
            kind => kind,
        };
        format!("{kind} {}", path.display())
    };
    tree.iter().skip(1).map(line).collect()
}

#[test]
fn whiteouts_take_the_form_that_overlayfs_needs() {
    if !is_root() {
        return;
    }
    let mut tar = Tar::new();
    tar.folder("a").file("a/.wh.gone", "").file("b/.wh..wh..opq", "").file("b/kept", "").file(".wh.top", "");
    tar.hard(".wh.by-link", ".wh..wh.aufs").file(".wh..wh.aufs", "").folder(".wh..wh.plnk").file(".wh..wh.plnk/7", "x");
    assert_eq!(summary(&tar), ["d a", "w a/gone", "o b", "- b/kept", "w by-link", "w top"]);
}

#[test]
fn a_whiteout_beside_a_folder_makes_it_opaque_in_either_order() {
    if !is_root() {
        return;
    }
    let (mut before, mut after, mut implied, mut around) = (Tar::new(), Tar::new(), Tar::new(), Tar::new());
    before.file(".wh.x", "").folder("x").file("x/y", "");
    after.folder("x").file("x/y", "").file(".wh.x", "");
    implied.file(".wh.x", "").file("x/y", "");
    // The whiteout is not forgotten when a file was there for a while.
    around.file(".wh.x", "").file("x", "").folder("x").file("x/y", "");
    for tar in [&before, &after, &implied, &around] {
        assert_eq!(summary(tar), ["o x", "- x/y"]);
        assert!(unpacked(tar).1.unwrap().is_independent(), "nothing from below shows in it");
    }
    let (mut file_first, mut file_last) = (Tar::new(), Tar::new());
    file_first.file("x", "").file(".wh.x", "").folder("x");
    file_last.file(".wh.x", "").link("x", "y").file(".wh.x", "");
    assert_eq!(summary(&file_first), ["o x"]);
    assert_eq!(summary(&file_last), ["l x"]);
}

#[test]
fn the_last_entry_of_a_path_wins() {
    if !is_root() {
        return;
    }
    let mut tar = Tar::new();
    tar.file("a", "1").file("./a", "22").file("/a", "333");
    tar.folder("over").file("over/x/y", "").file("over", "file");
    tar.file("under", "").folder("under").file("under/x", "");
    tar.link("link", "under").file("link", "file");
    tar.link("to-folder", "under").folder("to-folder").file("to-folder/z", "");
    tar.folder("kept").file("kept/x", "").add(Block::new(b'5', "kept").mode(0o700), &[]);
    let tree = tree(&tar);
    assert_eq!(tree[Path::new("a")].content, b"333");
    assert_eq!(tree[Path::new("over")].content, b"file");
    assert_eq!(tree[Path::new("link")].content, b"file");
    assert_eq!(tree[Path::new("kept")].mode, 0o700);
    let paths: Vec<_> = tree.keys().skip(1).map(|path| path.to_str().unwrap()).collect();
    let expected = ["a", "kept", "kept/x", "link", "over", "to-folder", "to-folder/z", "under", "under/x"];
    assert_eq!(paths, expected);
}

#[test]
fn a_file_never_changes_through_another_name_of_what_it_replaces() {
    let mut tar = Tar::new();
    tar.file("a", "old").hard("b", "a").file("a", "new").hard("b", "b").hard("c", "b").hard("c", "c");
    let tree = tree(&tar);
    assert_eq!(tree[Path::new("a")].content, b"new");
    assert_eq!(tree[Path::new("b")].content, b"old");
    assert_eq!(tree[Path::new("c")].names.len(), 2);
}

#[test]
fn links_on_the_way_are_followed_inside_of_the_layer() {
    let mut tar = Tar::new();
    tar.link("run", "/var/run").file("run/pid", "1").link("up", "../../../etc").file("up/passwd", "2");
    tar.link("lib", "usr/lib").folder("usr").folder("usr/lib").file("lib/x", "3").hard("y", "lib/x");
    let (folder, result) = unpacked(&tar);
    let tree = list(folder.path());
    assert_eq!(tree[Path::new("var/run/pid")].content, b"1");
    assert_eq!(tree[Path::new("etc/passwd")].content, b"2");
    assert_eq!(tree[Path::new("usr/lib/x")].names, [Path::new("usr/lib/x"), Path::new("y")]);
    let implied: Vec<_> = result.unwrap().implied;
    assert_eq!(implied, ["etc", "var", "var/run"].map(std::path::PathBuf::from), "by their real paths");
}

#[test]
fn what_a_layer_needs_from_below_is_told() {
    let mut tar = Tar::new();
    tar.file("a/b/c", "").folder("a").hard("a/link", "lib/below").hard("again", "a/link").file("r/s", "").file("r", "");
    tar.hard("replaced", "a/nothing").file("replaced", "");
    let unpacked = unpacked(&tar).1.unwrap();
    assert_eq!(unpacked.implied, [Path::new("a/b")]);
    let links: Vec<_> = unpacked.links_below.iter().map(|link| (link.path.to_str(), link.target.to_str())).collect();
    assert_eq!(links, [(Some("a/link"), Some("lib/below")), (Some("again"), Some("lib/below"))]);
    assert!(!unpacked.carries_root);
}

type Build = fn(&mut Tar) -> &mut Tar;

#[test]
fn layers_that_cannot_be_are_refused() {
    let refused: &[(&str, Build)] = &[
        ("..", |tar| tar.file("../x", "")),
        ("..", |tar| tar.file("a/../../x", "")),
        ("..", |tar| tar.file("a/..", "")),
        ("..", |tar| tar.hard("a", "../x")),
        ("root", |tar| tar.file(".", "")),
        ("root", |tar| tar.link("/", "x")),
        ("no folder", |tar| tar.file("a", "").file("a/b", "")),
        ("links on the way", |tar| tar.link("a", "b").link("b", "a").file("a/x", "")),
        ("whiteout names no file", |tar| tar.file(".wh.", "")),
        ("whiteout names no file", |tar| tar.file("a/.wh..", "")),
        ("whiteout names no file", |tar| tar.file("a/.wh...", "")),
        ("reserved", |tar| tar.file(".wh.a/b", "")),
        ("reserved", |tar| tar.link("l", "x/../.wh.a").file("l/b", "")),
        ("hard links to folders", |tar| tar.folder("a").hard("b", "a")),
        ("hard links to folders", |tar| tar.hard("b", "/")),
        ("neither", |tar| tar.file(".wh.a", "").hard("b", "a")),
        ("neither", |tar| tar.file("a/.wh..wh..opq", "").hard("b", "a/c")),
    ];
    for (number, (reason, build)) in refused.iter().enumerate() {
        let mut tar = Tar::new();
        build(&mut tar);
        let error = unpacked(&tar).1.expect_err(&format!("case {number}: {reason}")).to_string();
        assert!(error.contains(reason), "case {number}: {error}");
    }
}

#[test]
fn overlayfs_attributes_of_an_image_cannot_fool_the_mount() {
    if !is_root() {
        return;
    }
    for (overlay, prefix) in [(OverlayXattr::Trusted, "trusted.overlay."), (OverlayXattr::User, "user.overlay.")] {
        let folder = tempfile::tempdir().unwrap();
        let mut tar = Tar::new();
        tar.pax(&[(&format!("SCHILY.xattr.{prefix}opaque"), b"y"), ("SCHILY.xattr.user.mine", b"z")]).folder("a");
        unpack(&*tar.end(), folder.path(), &UnpackOptions { overlay, ..UnpackOptions::default() }).unwrap();
        let names: Vec<_> = list(folder.path())[Path::new("a")].xattrs.keys().cloned().collect();
        let mut expected = [format!("{prefix}overlay.opaque"), "user.mine".to_owned()].map(std::ffi::OsString::from);
        expected.sort();
        assert_eq!(names, expected);
    }
}

#[test]
fn files_do_not_inherit_the_default_acl_of_their_folder() {
    // Version 2; user::rwx, user:7:rwx, group::r-x, mask::rwx, other::r-x.
    let entry =
        |tag: u16, rights: u16, id: u32| [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat();
    let none = u32::MAX;
    let acl = [
        2_u32.to_le_bytes().to_vec(),
        entry(1, 7, none),
        entry(2, 7, 7),
        entry(4, 5, none),
        entry(16, 7, none),
        entry(32, 5, none),
    ]
    .concat();
    if !is_root() {
        return;
    }
    let mut tar = Tar::new();
    tar.pax(&[("SCHILY.xattr.system.posix_acl_default", &acl)]).folder("a").file("a/f", "").folder("a/d");
    let tree = tree(&tar);
    assert_eq!(tree[Path::new("a")].xattrs.values().next(), Some(&acl));
    assert!(tree[Path::new("a/f")].xattrs.is_empty() && tree[Path::new("a/d")].xattrs.is_empty());
    assert_eq!(tree[Path::new("a/f")].mode, 0o644);
}

#[test]
fn bytes_after_the_end_are_read_and_counted() {
    let mut tar = Tar::new();
    tar.file("a", "x");
    let mut bytes = tar.end();
    bytes.extend_from_slice(b"garbage that belongs to the DiffID");
    let folder = tempfile::tempdir().unwrap();
    let unpacked = unpack(&*bytes, folder.path(), &UnpackOptions::default()).unwrap();
    assert_eq!(unpacked.bytes, bytes.len() as u64);
    assert_eq!(unpack(&b""[..], folder.path(), &UnpackOptions::default()).unwrap().entries, 0);
}
