//! An ordinary user runs containers: without root's rights, and without reach to what is not the user's.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use cove_tests::{Bundle, Cmd, Finished, OciRuntime, Scratch};
use serde_json::json;

const USER: u32 = 4321;

/// A user of the machine, who is known by the number only, with a copy of the runtime.
struct User {
    folder: Scratch,
    runtime: OciRuntime,
}

impl User {
    fn new() -> Self {
        let (folder, runtime) = (Scratch::new("rootless"), OciRuntime::under_test());
        let program = folder.join("runtime");
        fs::copy(runtime.program(), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["state", "session", "home"] {
            chown(folder.folder(name), Some(USER), Some(USER)).unwrap();
        }
        Self { folder, runtime }
    }

    fn program(&self) -> PathBuf {
        self.folder.join("runtime")
    }

    /// A bundle as podman makes it for such a user: one id, which is the user's.
    fn bundle(script: &str) -> Bundle {
        let mapping = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
        let bundle = Bundle::script(script)
            .namespace("user", None)
            .set("/linux/uidMappings", mapping.clone())
            .set("/linux/gidMappings", mapping)
            .set("/linux/resources", json!(null))
            .without_mount("/dev/pts")
            .mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]);
        chown(bundle.path(), Some(USER), Some(USER)).unwrap();
        bundle.give_away(USER)
    }

    fn command(&self, words: &[&str]) -> Cmd {
        let id = USER.to_string();
        Cmd::new("setpriv")
            .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--bounding-set", "-all", "--"])
            .arg(self.program())
            .arg("--root")
            .arg(self.folder.join("state"))
            .args(words)
            .env("XDG_RUNTIME_DIR", self.folder.join("session"))
            .env("HOME", self.folder.join("home"))
    }

    fn run(&self, bundle: &Bundle) -> Finished {
        bundle.write();
        self.command(&["run", "--bundle", bundle.path().to_str().unwrap(), &OciRuntime::new_id()]).run()
    }
}

#[test]
fn an_ordinary_user_runs_a_container() {
    let user = User::new();
    let script = "id -u; id -g; cat /proc/self/uid_map; grep -E 'CapInh|NoNewPrivs' /proc/self/status; \
                  touch /made; hostname; echo x >/dev/null && echo devices; exit 3";
    let bundle = User::bundle(script);
    let finished = user.run(&bundle);
    assert_eq!(finished.code, Some(3), "{finished}");
    let words: Vec<_> = finished.stdout.split_whitespace().collect();
    assert_eq!(&words[..5], ["0", "0", "0", "4321", "1"], "{finished}");
    assert!(finished.stdout.ends_with("inside\ndevices\n"), "{finished}");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(bundle.inside("/made")).unwrap()), USER);
}

#[test]
fn an_ordinary_user_goes_through_the_life_cycle() {
    let user = User::new();
    let bundle = User::bundle("trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done");
    bundle.write();
    let id = OciRuntime::new_id();
    let create = user.command(&["create", "--bundle", bundle.path().to_str().unwrap(), &id]);
    let output = user.runtime.file("rootless.out");
    let created = user.runtime.finish(&create, &output);
    assert!(created.succeeded(), "{created}");
    user.command(&["start", &id]).ok();
    assert_eq!(user.command(&["exec", &id, "/bin/sh", "-c", "id -u; hostname"]).ok(), "0\ninside");
    assert!(user.command(&["state", &id]).ok().contains("running"));
    user.command(&["kill", &id, "KILL"]).ok();
    cove_tests::wait_until("it stops", std::time::Duration::from_secs(10), || {
        user.command(&["state", &id]).ok().contains("stopped")
    });
    user.command(&["delete", &id]).ok();
    assert_eq!(fs::read_dir(user.folder.join("state")).unwrap().count(), 0);
}

#[test]
fn control_groups_cannot_be_written_by_an_ordinary_user_s_container() {
    let user = User::new();
    let bundle = User::bundle(
        "for at in /sys/fs/cgroup/*; do mkdir $at/evil 2>/dev/null && echo made $at/evil; \
         echo 1 2>/dev/null >$at/cgroup.procs && echo wrote $at; done; \
         for name in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$name; done",
    )
    .namespace("cgroup", None)
    .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]);
    let finished = user.run(&bundle);
    assert!(!finished.stdout.contains("made") && !finished.stdout.contains("wrote"), "{finished}");
    // Where it starts at all, nothing of it is the host's.
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        let host = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert!(!finished.stdout.contains(host.to_str().unwrap()), "{name}: {finished}");
    }
}

#[test]
fn limits_that_cannot_be_set_are_not_forgotten() {
    let user = User::new();
    for resources in
        [json!({"memory": {"limit": 50_000_000}}), json!({"pids": {"limit": 10}}), json!({"cpu": {"shares": 300}})]
    {
        let finished = user.run(&User::bundle("echo ran").set("/linux/resources", resources.clone()));
        let refused = !finished.succeeded() && !finished.stdout.contains("ran");
        assert!(refused && finished.stderr.to_lowercase().contains("cgroup"), "{resources}: {finished}");
    }
}

#[test]
fn an_ordinary_user_cannot_take_the_ids_of_others() {
    let user = User::new();
    for (first, size) in [(0, 1), (USER + 1, 1), (USER, 2)] {
        let mapping = json!([{"containerID": 0, "hostID": first, "size": size}]);
        let bundle = User::bundle("cat /proc/self/uid_map").set("/linux/uidMappings", mapping);
        let finished = user.run(&bundle);
        assert!(!finished.succeeded() && finished.stdout.is_empty(), "{first}+{size}: {finished}");
    }
}

#[test]
fn files_of_others_stay_closed() {
    let user = User::new();
    let secret = Scratch::new("secret");
    let file = secret.write("file", "secret\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let bundle =
        User::bundle("cat /data/file 2>&1; echo x 2>&1 >/data/file").mount("/data", "bind", secret.path(), &["rbind"]);
    let finished = user.run(&bundle);
    assert!(!finished.printed().contains("secret\n") && finished.printed().contains("denied"), "{finished}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "secret\n");
    // What is closed to others by its folder is closed as a source too.
    fs::set_permissions(secret.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let bundle = User::bundle("cat /data").mount("/data", "bind", &file, &["bind"]);
    assert!(!user.run(&bundle).printed().contains("secret\n"));
}
