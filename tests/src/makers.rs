//! Programs that make images: each takes an image, puts a layer of its own on it, and pushes the result.

use crate::clients::{Buildah, Client, Docker, Podman, Skopeo};
use crate::{Cmd, Image, Login, Scratch};

/// The makers, with a folder or daemon each.
pub struct Makers {
    /// docker, with the builder that its daemon has built in.
    pub docker: Docker,
    podman: Podman,
    buildah: Buildah,
    skopeo: Skopeo,
}

/// Their names.
pub const MAKERS: [&str; 5] = ["docker", "podman", "buildah", "skopeo", "umoci"];

/// What the added layers do, with busybox as the image's shell: a file, a link, a folder that goes, one that goes
/// and comes back, another mode.
const SCRIPT: &str = "echo added >/added && ln /added /added-too && rm -rf /empty /data/sub && rm -rf /odd/... && \
                      rm -rf /times && mkdir /times && echo new >/times/new && chmod 0501 /etc/kept && ln -s added /to-added";

impl Makers {
    /// All of them.
    pub fn new() -> Self {
        Self { docker: Docker::new(), podman: Podman::new(), buildah: Buildah::new(), skopeo: Skopeo::new() }
    }

    /// Logs all of them in.
    pub fn login(&self, registry: &str, login: &Login) {
        let clients: [&dyn Client; 4] = [&self.docker, &self.podman, &self.buildah, &self.skopeo];
        clients.iter().for_each(|client| client.login(registry, login));
    }

    /// Lets one make its image on top of `base` and push it.
    pub fn push(&self, maker: &str, base: &Image, reference: &str) {
        match maker {
            "docker" => self.docker(base, reference),
            "podman" => self.podman(base, reference),
            "buildah" => self.buildah(base, reference),
            "skopeo" => drop(self.skopeo.push(base, reference)),
            "umoci" => self.umoci(base, reference),
            _ => panic!("nobody is called {maker}"),
        }
    }

    fn docker(&self, base: &Image, reference: &str) {
        let name = "base-for-docker:latest";
        self.docker.load(base, name);
        let context = Scratch::new("context");
        context.write("Dockerfile", dockerfile(name));
        let build = self.docker.command().env("DOCKER_BUILDKIT", "0").args(["build", "-q", "--network=none", "-t"]);
        build.arg(reference).arg(context.path()).ok();
        self.docker.push_loaded(reference);
        self.docker.forget(reference);
        self.docker.forget(name);
    }

    fn podman(&self, base: &Image, reference: &str) {
        let name = "localhost/base-for-podman:latest";
        let (archive, _) = base.docker_archive(name);
        self.podman.command().args(["load", "-q", "-i"]).arg(archive).ok();
        let context = Scratch::new("context");
        context.write("Dockerfile", dockerfile(name));
        let build = self.podman.command().args(["build", "-q", "--isolation=chroot", "--network=host", "-t"]);
        build.arg(reference).arg(context.path()).ok();
        self.podman.command().args(["push", "-q", "--tls-verify=false", reference]).ok();
        self.podman.command().args(["rmi", "-f", reference, name]).ok();
    }

    fn buildah(&self, base: &Image, reference: &str) {
        let from = format!("docker-archive:{}", base.docker_archive("localhost/base-for-buildah:latest").0.display());
        let container = self.buildah.command().args(["from", "--name", "nasty", &from]).ok();
        let run = ["run", "--isolation=chroot", "--network=host", &container, "--", "/bin/busybox", "sh", "-c", SCRIPT];
        self.buildah.command().args(run).ok();
        self.buildah.command().args(["config", "--entrypoint", r#"["/bin/busybox"]"#, &container]).ok();
        let commit = ["commit", "-q", "--tls-verify=false", &container, &format!("docker://{reference}")];
        self.buildah.command().args(commit).ok();
        self.buildah.command().args(["rm", &container]).ok();
    }

    /// umoci keeps images in a layout folder; skopeo carries them away from there.
    fn umoci(&self, base: &Image, reference: &str) {
        let folder = Scratch::new("umoci");
        let layout = folder.join("layout");
        Cmd::new("cp").arg("-a").arg(base.layout()).arg(&layout).ok();
        let umoci = |words: &[&str]| Cmd::new("umoci").env("HOME", folder.path()).args(words);
        let (image, bundle) = (format!("{}:latest", layout.display()), folder.join("bundle"));
        umoci(&["unpack", "--image", &image]).arg(&bundle).ok();
        let chroot = Cmd::new("chroot").arg(bundle.join("rootfs")).args(["/bin/busybox", "sh", "-c", SCRIPT]);
        chroot.env("PATH", "/bin:/usr/bin:/sbin:/usr/sbin").ok();
        umoci(&["repack", "--image", &format!("{}:made", layout.display())]).arg(&bundle).ok();
        let made = umoci(&["config", "--image", &format!("{}:made", layout.display())]);
        made.args(["--config.entrypoint", "/bin/busybox", "--author", "somebody"]).ok();
        self.skopeo.try_copy(&format!("oci:{}:made", layout.display()), &format!("docker://{reference}")).ok();
    }
}

impl Default for Makers {
    fn default() -> Self {
        Self::new()
    }
}

fn dockerfile(base: &str) -> String {
    let run = serde_json::to_string(&["/bin/busybox", "sh", "-c", SCRIPT]).expect("JSON");
    format!("FROM {base}\nENV PATH=/bin\nRUN {run}\nLABEL made=here\nENTRYPOINT [\"/bin/busybox\"]\n")
}
