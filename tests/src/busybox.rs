//! An image with a shell: busybox, and files that a runtime cannot run.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::{Cmd, Image, Scratch};

/// An image of one layer. In `/bin` are busybox under all of its names, `script`, `plain` (not executable) and `orphan`
/// (a script whose interpreter is missing); `/folder` is a folder. Besides root there is `user` (1000), who is in the
/// group `extra` (2000).
pub fn busybox_image() -> Image {
    let scratch = Scratch::new("busybox");
    for name in ["bin", "etc", "tmp", "proc", "sys", "dev", "folder", "data", "home"] {
        scratch.folder(&format!("root/{name}"));
    }
    let busybox = Cmd::new("sh").args(["-c", "command -v busybox"]).ok();
    fs::copy(&busybox, scratch.join("root/bin/busybox")).expect("copy busybox");
    for name in Cmd::new(&busybox).arg("--list").ok().lines().filter(|name| *name != "busybox") {
        symlink("busybox", scratch.join("root/bin").join(name)).expect("make a link");
    }
    scratch.write("root/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home:/bin/sh\n");
    scratch.write("root/etc/group", "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n");
    for (name, mode, text) in [
        ("script", 0o755, "#!/bin/sh\necho \"$0 $*\"\n"),
        ("orphan", 0o755, "#!/missing/interpreter\n"),
        ("plain", 0o644, "not a program\n"),
    ] {
        let path = scratch.write(&format!("root/bin/{name}"), text);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set a mode");
    }
    fs::set_permissions(scratch.join("root/tmp"), fs::Permissions::from_mode(0o1777)).expect("set a mode");
    let tar = scratch.join("layer.tar");
    Cmd::new("tar").args(["--numeric-owner", "-cf"]).arg(&tar).arg("-C").arg(scratch.join("root")).arg(".").ok();
    Image::from_layers(&[&tar])
}
