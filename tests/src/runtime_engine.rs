//! Engines that run containers on an OCI runtime of one's choice: podman as root, podman as an ordinary user, docker.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::{Cmd, Dockerd, Ordinary, Scratch, busybox_image};

/// An engine of one's own, with [`busybox_image`] in it and nothing else. It removes all containers when it is dropped.
pub struct Engine {
    owner: Owner,
    runtime: PathBuf,
    folder: Scratch,
}

enum Owner {
    Podman,
    Rootless(Ordinary),
    Docker(Box<Dockerd>),
}

/// The image's name in every engine.
const IMAGE: &str = "localhost/busybox:1";

/// What dockerd calls the runtime.
const NAME: &str = "tested";

impl Engine {
    /// podman for root.
    pub fn podman(runtime: &Path) -> Self {
        let folder = Scratch::new("engine");
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
            folder.folder("storage").display(),
            folder.folder("run").display()
        );
        folder.write("storage.conf", storage);
        folder.write("containers.conf", containers_conf(&folder.folder("libpod")));
        Self { owner: Owner::Podman, runtime: runtime.to_owned(), folder }.with_image()
    }

    /// podman for an ordinary user with subordinate ids.
    pub fn rootless(runtime: &Path) -> Self {
        let (user, folder) = (Ordinary::new(true), Scratch::new("engine"));
        fs::write(user.home().join("containers.conf"), containers_conf(&user.home().join("libpod")))
            .expect("write a file");
        // The user cannot get to where the program was built.
        let copy = folder.join(runtime.file_name().expect("a program has a name"));
        fs::copy(runtime, &copy).expect("copy the runtime");
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("set a mode");
        Self { owner: Owner::Rootless(user), runtime: copy, folder }.with_image()
    }

    /// docker with a daemon of its own.
    pub fn docker(runtime: &Path) -> Self {
        let (daemon, folder) = (Dockerd::with_runtime(NAME, runtime), Scratch::new("engine"));
        Self { owner: Owner::Docker(Box::new(daemon)), runtime: runtime.to_owned(), folder }.with_image()
    }

    fn with_image(self) -> Self {
        let image = busybox_image();
        let (archive, _) = image.docker_archive(IMAGE);
        if let Owner::Rootless(user) = &self.owner {
            let copy = user.home().join("image.tar");
            fs::copy(&archive, &copy).expect("copy the image");
            chown(&copy, Some(Ordinary::ID), Some(Ordinary::ID)).expect("give a file away");
            self.command(["load", "-q", "-i"]).arg(copy).ok();
        } else {
            self.command(["load", "-q", "-i"]).arg(archive).ok();
        }
        self
    }

    /// A command line of the engine.
    pub fn command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Cmd {
        let podman = ["--runtime".as_ref(), self.runtime.as_os_str()];
        let command = match &self.owner {
            // conmon writes the file `oom` into its working folder, which must not be the repository.
            Owner::Podman => Cmd::new("env")
                .arg("-C")
                .args([self.folder.path(), Path::new("podman")])
                .args(podman)
                .env("HOME", self.folder.path())
                .env("XDG_RUNTIME_DIR", self.folder.path())
                .env("CONTAINERS_STORAGE_CONF", self.folder.join("storage.conf"))
                .env("CONTAINERS_CONF", self.folder.join("containers.conf")),
            // The tests' own TMPDIR is closed to this user, and podman unpacks there.
            Owner::Rootless(user) => user
                .run(Path::new("podman"), podman)
                .env("CONTAINERS_CONF", user.home().join("containers.conf"))
                .env("TMPDIR", user.home()),
            Owner::Docker(daemon) => Cmd::new("docker")
                .env("HOME", self.folder.path())
                .env("DOCKER_CONFIG", self.folder.path())
                .args(["--host", &daemon.host()]),
        };
        command.args(words)
    }

    /// `run FLAGS IMAGE COMMAND`.
    pub fn run(&self, flags: &[&str], command: &[&str]) -> Cmd {
        // Without CAP_SYS_RESOURCE podman's own defaults cannot be set.
        let engine: &[&str] = match &self.owner {
            Owner::Docker(_) => &["--runtime", NAME],
            _ => &["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"],
        };
        self.command(["run", "--network", "none"]).args(engine).args(flags).arg(IMAGE).args(command)
    }

    /// What `run` is told, as `inspect` shows it: the Go template, and what it gives.
    pub fn runtime_shown(&self) -> (&'static str, String) {
        match &self.owner {
            Owner::Docker(_) => ("{{.HostConfig.Runtime}}", NAME.to_owned()),
            _ => ("{{.OCIRuntime}}", self.runtime.display().to_string()),
        }
    }

    /// Whether its containers have control groups: on version 1, those of an ordinary user have not.
    pub fn has_groups(&self) -> bool {
        !matches!(self.owner, Owner::Rootless(_))
    }

    /// Whether this is docker.
    pub fn is_docker(&self) -> bool {
        matches!(self.owner, Owner::Docker(_))
    }

    /// Removes all containers, whatever they do.
    pub fn remove_all(&self) {
        let ids = self.command(["ps", "-a", "-q", "--no-trunc"]).run().stdout;
        if !ids.trim().is_empty() {
            let _ = self.command(["rm", "-f"]).args(ids.split_whitespace()).run();
        }
    }

    /// A folder whose files the engine's user may share with containers.
    pub fn shared_folder(&self) -> PathBuf {
        match &self.owner {
            Owner::Rootless(user) => {
                let folder = user.home().join("shared");
                fs::create_dir_all(&folder).expect("make a folder");
                chown(&folder, Some(Ordinary::ID), Some(Ordinary::ID)).expect("give a folder away");
                folder
            }
            _ => self.folder.folder("shared"),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.remove_all();
        if matches!(self.owner, Owner::Rootless(_)) {
            // It ends the process that keeps the user's namespaces, and removes what belongs to subordinate ids.
            let _ = self.command(["system", "reset", "-f"]).run();
        }
    }
}

fn containers_conf(temporary: &Path) -> String {
    format!(
        "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nlock_type = \"file\"\ntmp_dir = \"{}\"\n",
        temporary.display()
    )
}
