//! An ordinary user of the machine, who exists for a test only.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::clients::Cove;
use crate::{Cmd, Scratch};

/// A user who is known to nobody but the programs that are started for them: these see files of users and of
/// subordinate ids of their own in `/etc`.
pub struct Ordinary {
    folder: Scratch,
}

impl Ordinary {
    /// The user's id.
    pub const ID: u32 = 4321;
    /// The first of the subordinate ids, of which there are 65,536.
    pub const SUBORDINATE: u32 = 700_000;

    /// A user with subordinate ids or without.
    pub fn new(subordinate: bool) -> Self {
        Self::with_ranges(if subordinate { &[(Self::SUBORDINATE, 65536)] } else { &[] })
    }

    /// A user with these ranges of subordinate ids: the first of each, and how many.
    pub fn with_ranges(ranges: &[(u32, u32)]) -> Self {
        let folder = Scratch::new("ordinary");
        let (id, home) = (Self::ID, folder.folder("home"));
        let passwd = format!("root:x:0:0::/root:/bin/sh\nordinary:x:{id}:{id}::{}:/bin/sh\n", home.display());
        folder.write("passwd", passwd);
        folder.write("group", format!("root:x:0:\nordinary:x:{id}:\n"));
        let ids: String = ranges.iter().map(|(first, count)| format!("ordinary:{first}:{count}\n")).collect();
        folder.write("subuid", &ids);
        folder.write("subgid", &ids);
        for name in ["home", "session"] {
            chown(folder.folder(name), Some(id), Some(id)).expect("give a folder away");
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o700)).expect("set a mode");
        }
        // Where the program was built, the user may not get.
        fs::copy(Cove::program(), folder.join("cove")).expect("copy the program");
        Self { folder }
    }

    /// The same user without subordinate groups.
    pub fn without_groups(self) -> Self {
        self.folder.write("subgid", "");
        self
    }

    /// The same user with a runtime of containers, and a device for networks that everybody may use, as most machines have
    /// it: `/dev/net/tun` of this one may be root's alone.
    pub fn with_containers(self) -> Self {
        fs::copy(crate::runtime_program(), self.folder.join("cove-runtime")).expect("copy the runtime");
        let tun = self.folder.join("tun");
        Cmd::new("mknod").arg(&tun).args(["c", "10", "200"]).ok();
        fs::set_permissions(&tun, fs::Permissions::from_mode(0o666)).expect("set a mode");
        self
    }

    /// A file of root's as a file of the user's, in the home folder.
    pub fn given(&self, file: &Path) -> PathBuf {
        let own = self.home().join(file.file_name().expect("a file has a name"));
        fs::copy(file, &own).expect("copy a file");
        chown(&own, Some(Self::ID), Some(Self::ID)).expect("give a file away");
        own
    }

    /// The folder of what goes with the user's session.
    pub fn session(&self) -> PathBuf {
        self.folder.join("session")
    }

    /// The folder that everything of the user lies in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The user's folder of images.
    pub fn store(&self) -> PathBuf {
        self.home().join(".local/share/cove")
    }

    /// The home folder.
    pub fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// Their copy of cove.
    pub fn program(&self) -> PathBuf {
        self.folder.join("cove")
    }

    /// A command line of cove.
    pub fn cove<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Cmd {
        self.run(&self.program(), words)
    }

    /// A command line of any program.
    pub fn run<S: AsRef<OsStr>>(&self, program: &Path, words: impl IntoIterator<Item = S>) -> Cmd {
        let script = "for name in passwd group subuid subgid; do [ -e /etc/$name ] || : >/etc/$name; \
                      mount --bind \"$0/$name\" /etc/$name || exit 99; done; \
                      [ ! -e \"$0/tun\" ] || mount --bind \"$0/tun\" /dev/net/tun || exit 99; exec setpriv \"$@\"";
        let id = Self::ID.to_string();
        Cmd::new("unshare")
            .args(["--mount", "sh", "-c", script])
            .arg(self.folder.path())
            .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"])
            .arg(program)
            .args(words)
            .env("HOME", self.home())
            .env("XDG_RUNTIME_DIR", self.folder.join("session"))
    }
}
