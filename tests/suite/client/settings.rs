//! Settings of the store: how much a layer may demand, from the file and from the environment.

use std::fs;

use cove_tests::clients::{Client, Cove};
use cove_tests::{Cmd, Image, Scratch, Server};

/// An archive of an image with this many folders inside each other and a large file of zeros.
fn archive(depth: usize) -> (Scratch, Image) {
    let scratch = Scratch::new("demanding");
    let root = scratch.folder("root");
    let deep = (0..depth).fold(root.clone(), |folder, _| folder.join("d"));
    fs::create_dir_all(deep).unwrap();
    fs::write(root.join("zeros"), vec![0; 3_000_000]).unwrap();
    let tar = scratch.join("layer.tar");
    Cmd::new("tar").arg("-cf").arg(&tar).arg("-C").arg(&root).arg(".").ok();
    let image = Image::from_layers(&[&tar]);
    (scratch, image)
}

#[test]
fn limits_of_unpacking_are_settings_that_errors_name() {
    let cove = Cove::new();
    let (_scratch, image) = archive(12);
    let (docker, _) = image.docker_archive("demanding:1");
    let file = cove.scratch().join("cove.toml");
    let load = |settings: &str| {
        fs::write(&file, settings).unwrap();
        cove.words(["load", "-q", "-i"]).arg(&docker).env("COVE_CONFIG", &file)
    };
    for (settings, says) in [
        ("[unpack]\nentries = 5\n", "more entries than 5: raise `unpack.entries`"),
        ("[unpack]\ndepth = 10\n", "deeper folders than 10: raise `unpack.depth`"),
        ("[unpack]\nbytes = 1000000\n", "more than 1000000 bytes: raise `unpack.bytes`"),
        ("[unpack]\nentries = 'many'\n", "`unpack.entries` is `\"many\"`: write a whole number from 1"),
        ("[unpack]\nentry = 5\n", "`unpack` is `entry`: write one of entries, depth"),
    ] {
        let printed = load(settings).fails();
        assert!(printed.contains(says), "{settings}: {printed}");
        assert_eq!(cove.words(["images", "-a", "-q"]).ok(), "");
    }
    // The environment wins, both ways.
    let tight = "[unpack]\nentries = 5\n";
    let printed = load("").env("COVE_UNPACK_ENTRIES", "7").fails();
    assert!(printed.contains("more entries than 7"), "{printed}");
    let printed = load("").env("COVE_UNPACK_ENTRIES", "0").fails();
    assert!(printed.contains("`COVE_UNPACK_ENTRIES` is `0`"), "{printed}");
    load(tight).env("COVE_UNPACK_ENTRIES", "1000").ok();
}

/// What is small and becomes large, and what wants much memory to become it.
#[test]
fn limits_of_decompression_are_settings_that_errors_name() {
    let (server, cove) = (Server::start(), Cove::new());
    cove.login(&server.address(), &server.admin_login());
    let (_scratch, zeros) = archive(1);
    // What fits into the buffers needs no window.
    let noise = Image::new(1, 3_000_000);
    for (image, codec, variables, says) in [
        (&zeros, "gzip", [("RATIO", "20"), ("RATIO_FROM", "1000000")], "20 times as large: raise `unpack.ratio`"),
        (
            &noise,
            "zstd",
            [("ZSTD_WINDOW_LOG", "10"), ("DEPTH", "9")],
            "larger than 2^10 bytes: raise `unpack.zstd-window-log`",
        ),
    ] {
        let name = format!("{}/library/{codec}:1", server.address());
        cove.load(image, &name);
        cove.words(["push", "--compression", codec, &name]).ok();
        let fresh = Cove::new();
        fresh.login(&server.address(), &server.admin_login());
        let pull = fresh.words(["pull", &name]);
        let limited = variables
            .iter()
            .fold(pull.clone(), |command, (setting, value)| command.env(format!("COVE_UNPACK_{setting}"), value));
        let printed = limited.fails();
        assert!(printed.contains(says), "{codec}: {printed}");
        assert_eq!(fresh.words(["images", "-a", "-q"]).ok(), "");
        pull.ok();
    }
}
