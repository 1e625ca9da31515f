//! A Debian file system.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Cmd, Scratch, cache_folder};

/// The tar of a Debian installation with a compiler, git and python, made once by debootstrap and kept under
/// `target/`.
pub fn debian() -> PathBuf {
    let tar = cache_folder().join("debian-bookworm.tar");
    if !tar.exists() {
        let folder = Scratch::new("debootstrap");
        let mut debootstrap = Cmd::new("debootstrap").limit(Duration::from_secs(1200));
        for name in ["http_proxy", "https_proxy", "no_proxy"] {
            debootstrap =
                std::env::var_os(name).into_iter().fold(debootstrap, |command, value| command.env(name, value));
        }
        let packages = "--include=build-essential,ca-certificates,git,python3";
        debootstrap.args(["--variant=minbase", packages, "bookworm"]).arg(folder.join("root")).ok();
        let unfinished = tar.with_extension("unfinished");
        let command =
            Cmd::new("tar").args(["--numeric-owner", "--sort=name", "--exclude=./var/cache/apt/archives/*.deb", "-cf"]);
        command.arg(&unfinished).arg("-C").arg(folder.join("root")).arg(".").ok();
        fs::rename(&unfinished, &tar).expect("rename in a folder");
    }
    tar
}

/// The same without compiler, git and documentation: what they fill is left out, while dpkg goes on knowing them. A
/// quarter of its size; apt works, and installs what it is offered.
pub fn small_debian() -> PathBuf {
    let tar = cache_folder().join("debian-bookworm-small.tar");
    if !tar.exists() {
        let folder = Scratch::new("debian");
        let left_out = [
            "./usr/bin/*-linux-gnu-*",
            "./usr/bin/git*",
            "./usr/include/*",
            "./usr/lib/*/*.a",
            "./usr/lib/*/lib?san.so*",
            "./usr/lib/*/perl/*/CORE",
            "./usr/lib/gcc/*",
            "./usr/lib/git-core/*",
            "./usr/share/doc/*",
            "./usr/share/locale/*",
            "./usr/share/man/*",
            "./var/cache/apt/*.bin",
            "./var/lib/apt/lists/*",
        ];
        let root = folder.folder("root");
        let without = left_out.map(|pattern| format!("--exclude={pattern}"));
        Cmd::new("tar").args(["--numeric-owner", "-xpf"]).arg(debian()).arg("-C").arg(&root).args(&without).ok();
        let unfinished = tar.with_extension("unfinished");
        let command = Cmd::new("tar").args(["--numeric-owner", "--sort=name", "-cf"]).arg(&unfinished);
        command.arg("-C").arg(&root).arg(".").ok();
        fs::rename(&unfinished, &tar).expect("rename in a folder");
    }
    tar
}
