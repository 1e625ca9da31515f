//! The options of `run` and `create` beside docker's: what they come to (`Config`, `HostConfig`, the networks), what is said
//! about wrong ones, and the `config.json` that a runtime gets.
//!
//! Docker's answers are recorded in `container_options/docker.json`, with the versions that gave them: messages and what is sent
//! are its client's, and a distribution's is older. `COVE_RECORD_DOCKER=1` asks docker anew, with a client of 28 in `PATH`.
//!
//! A line of the lists is a command line; behind `##` stands why ours differs from docker's. A line with such a reason must
//! differ, so that no reason outlives its cause.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Mutex;

use cove_tests::clients::Cove;
use cove_tests::{Cmd, Dockerd, Finished, Scratch, runc_program, runtime_program, words};
use serde_json::{Map, Value, json};

const OPTIONS: &str = include_str!("container_options/options.txt");
const SPECS: &str = include_str!("container_options/specs.txt");

/// What the image `full` says.
const FULL: [&str; 9] = [
    "ENV PATH=/bin A=image",
    "ENTRYPOINT [\"/entry\"]",
    "CMD [\"serve\"]",
    "EXPOSE 8000",
    "VOLUME /data",
    "LABEL image=yes own=0",
    "USER alice",
    "WORKDIR /srv",
    "HEALTHCHECK --interval=5s CMD check",
];

/// Files that options name, and docker's answers: recorded ones, or those of a daemon with the images `plain`, which says
/// nothing, and `full`.
struct World {
    dockerd: Option<Dockerd>,
    files: Scratch,
}

/// Where docker's answers are kept: `part` is a table of the file.
struct Answers {
    part: &'static str,
    kept: Map<String, Value>,
    is_new: bool,
}

/// A line of the lists as docker was asked it.
fn without_reason(line: &str) -> &str {
    line.split_once("  ## ").map_or(line, |(line, _)| line)
}

fn is_recording() -> bool {
    std::env::var_os("COVE_RECORD_DOCKER").is_some()
}

fn answers_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("suite/container_options/docker.json")
}

fn read_answers() -> Map<String, Value> {
    let text = std::fs::read_to_string(answers_file()).unwrap_or_else(|_| "{}".to_owned());
    serde_json::from_str(&text).expect("docker.json is JSON")
}

impl Answers {
    fn of(part: &'static str) -> Self {
        let kept = if is_recording() { Map::new() } else { read_answers()[part].as_object().cloned().unwrap() };
        Self { part, kept, is_new: is_recording() }
    }

    /// The answer to a line; `ask` gets it from docker.
    fn get(&mut self, line: &str, world: &World, ask: impl FnOnce() -> Value) -> Value {
        let line = without_reason(line);
        if self.is_new {
            // Folders of one run are of no use to the next.
            let text = ask().to_string().replace(&format!("{}/", world.files.path().display()), "F/");
            let text = text.replace(&format!("{}:", here()), "HERE:");
            self.kept.insert(line.to_owned(), serde_json::from_str(&text).unwrap());
        }
        let answer = self.kept.get(line).unwrap_or_else(|| {
            panic!("docker's answer to `{line}` is not recorded: run this with COVE_RECORD_DOCKER=1")
        });
        let text = answer.to_string().replace("F/", &format!("{}/", world.files.path().display()));
        serde_json::from_str(&text.replace("HERE:", &format!("{}:", here()))).unwrap()
    }

    /// Writes what was asked anew. The two tests write one file, one after the other.
    fn keep(self, world: &World) {
        static WRITING: Mutex<()> = Mutex::new(());
        if !self.is_new {
            let lines = if self.part == "options" { OPTIONS } else { SPECS };
            let stale: Vec<&String> =
                self.kept.keys().filter(|line| !lines.lines().any(|it| without_reason(it) == *line)).collect();
            assert!(stale.is_empty(), "docker's answers are recorded to lines that are gone: {stale:?}");
            return;
        }
        let _writing = WRITING.lock().unwrap();
        let mut file = read_answers();
        let version = |format: &str| world.docker(&["version", "--format", format]).ok();
        file.insert(
            "versions".to_owned(),
            json!({"client": version("{{.Client.Version}}"), "daemon": version("{{.Server.Version}}")}),
        );
        let image: Value = serde_json::from_str(&world.docker(&["image", "inspect", "full"]).ok()).unwrap();
        file.insert("image".to_owned(), image[0]["Config"].clone());
        file.insert(self.part.to_owned(), self.kept.into());
        // An answer a line, so that changes can be read.
        let mut text = String::from("{\n");
        for (at, (name, part)) in file.iter().enumerate() {
            let comma = if at + 1 == file.len() { "" } else { "," };
            match part {
                Value::Object(lines) if matches!(name.as_str(), "options" | "specs") => {
                    let lines: Vec<String> =
                        lines.iter().map(|(line, answer)| format!("{}:{answer}", json!(line))).collect();
                    text.push_str(&format!("{}:{{\n{}\n}}{comma}\n", json!(name), lines.join(",\n")));
                }
                part => text.push_str(&format!("{}:{part}{comma}\n", json!(name))),
            }
        }
        std::fs::write(answers_file(), text + "}\n").unwrap();
    }
}

impl World {
    fn new(dockerd: Option<Dockerd>, files: Scratch) -> Self {
        files.write("env", "A=1\n# c\n\n  B= two \nHOME\nNOPE_X\nC\n");
        files.write("badenv", "A B=1\n");
        files.write("badenv2", "=1\n");
        files.write("lab", "x=1\ny\n  z = 2\n");
        files.write("lab2", "x=1\ny\nz= 2\n");
        files.write("sec.json", "{\"defaultAction\": \"SCMP_ACT_ALLOW\"}");
        files.write("bad.json", "nojson");
        let world = Self { dockerd, files };
        let root = make_root(&world.files);
        if world.dockerd.is_none() {
            return world;
        }
        // Messages and what is sent are the client's; older ones say and send other things.
        let client = world.docker(&["version", "--format", "{{.Client.Version}}"]).ok();
        let major: u32 = client.split('.').next().unwrap().trim().parse().unwrap();
        assert!(major >= 28, "docker's client is {client}, and the answers are those of 28: put a newer one into PATH");
        let tar = world.files.join("root.tar");
        Cmd::new("tar").arg("-cf").arg(&tar).arg("-C").arg(root).arg(".").ok();
        let tar = tar.display().to_string();
        world.docker(&["import", &tar, "plain"]).ok();
        let changes = FULL.iter().flat_map(|change| ["--change", change]);
        world.docker(&["import"].into_iter().chain(changes).chain([&*tar, "full"]).collect::<Vec<_>>()).ok();
        world
    }

    fn docker(&self, words: &[&str]) -> Finished {
        let host = self.dockerd.as_ref().expect("docker is asked only where its answers are recorded").host();
        Cmd::new("docker").args(["--host", &host]).args(words).env("HOME", "/root").run()
    }

    fn inspect(&self, ids: &[String]) -> Vec<Value> {
        let words: Vec<&str> = ["inspect"].into_iter().chain(ids.iter().map(String::as_str)).collect();
        serde_json::from_str(&self.docker(&words).ok()).unwrap()
    }
}

/// What `/sys` said where docker's answers were recorded: cgroups of version 1 without shares of disks, two processors.
fn recorded_kernel(files: &Scratch) -> PathBuf {
    let sys = files.folder("sys");
    for (name, text) in [
        ("devices/system/cpu/online", "0-1\n"),
        ("devices/system/node/online", "0\n"),
        ("fs/cgroup/memory/memory.memsw.limit_in_bytes", "0\n"),
    ] {
        files.folder(&format!("sys/{}", name.rsplit_once('/').unwrap().0));
        files.write(&format!("sys/{name}"), text);
    }
    sys
}

/// A root with busybox, users and groups.
fn make_root(files: &Scratch) -> PathBuf {
    let root = files.folder("root");
    for name in ["bin", "etc", "tmp", "proc", "sys", "dev"] {
        files.folder(&format!("root/{name}"));
    }
    std::fs::copy(Cmd::new("sh").args(["-c", "command -v busybox"]).ok(), root.join("bin/busybox")).unwrap();
    for name in ["sh", "true", "id", "cat", "env", "hostname", "pwd", "mount", "touch", "ls"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    files.write(
        "root/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\nbob:x:1001:100::/home/bob:/bin/sh\n",
    );
    files.write("root/etc/group", "root:x:0:\nusers:x:100:\nalice:x:1000:\ndisk:x:6:alice\nweb:x:33:alice,bob\n");
    root
}

/// A command line in words, and why it may differ. `F/` is the folder of files.
fn read(line: &str, files: &Path) -> (Vec<String>, Option<String>) {
    let (line, reason) =
        line.split_once("  ## ").map_or((line, None), |(line, reason)| (line, Some(reason.to_owned())));
    let folder = format!("{}/", files.display());
    (words(line).into_iter().map(|word| word.replace("F/", &folder)).collect(), reason)
}

/// Everything in which two values differ, with its place.
fn differences(place: &str, docker: &Value, ours: &Value, found: &mut Vec<String>) {
    match (docker, ours) {
        (Value::Object(first), Value::Object(second)) => {
            for key in first.keys().chain(second.keys()).collect::<BTreeSet<_>>() {
                let of = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or(json!("absent"));
                differences(&format!("{place}.{key}"), &of(first), &of(second), found);
            }
        }
        _ if docker == ours => {}
        _ => found.push(format!("{place}: docker {docker}, ours {ours}")),
    }
}

/// Fails with all lines that differ without a reason, or do not differ though they have one.
fn judge(lines: impl Iterator<Item = (String, Option<String>, Vec<String>)>) {
    let mut wrong = Vec::new();
    let mut number = 0;
    for (line, reason, found) in lines {
        number += 1;
        match reason {
            None if !found.is_empty() => wrong.push(format!("{line}\n    {}", found.join("\n    "))),
            Some(reason) if found.is_empty() => {
                wrong.push(format!("{line}\n    is as docker's now, without: {reason}"))
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{} of {number} lines:\n{}", wrong.len(), wrong.join("\n"));
}

fn said(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| line.replace("docker", "cove")).collect()
}

fn sorted(list: &mut Value) {
    if let Value::Array(list) = list {
        list.sort_by_key(ToString::to_string);
    }
}

/// What a container came to, without what is docker's alone: the name of its runtime, and the order of variables, which its
/// client leaves to chance.
fn plain(mut config: Value, mut host: Value, networks: Value) -> Value {
    sorted(&mut config["Env"]);
    host["Runtime"] = Value::Null;
    json!({"Config": config, "HostConfig": host, "Networks": networks})
}

#[test]
fn options_come_to_what_docker_makes_of_them() {
    let world = World::new(is_recording().then(Dockerd::start), Scratch::new("options"));
    let mut answers = Answers::of("options");
    let lines: Vec<_> = OPTIONS.lines().map(|line| (line, read(line, world.files.path()))).collect();
    let kernel = recorded_kernel(&world.files);
    let forget_id = || drop(std::fs::remove_file(world.files.join("cid")));
    let docker: Vec<Value> = lines
        .iter()
        .map(|(line, (words, _))| {
            answers.get(line, &world, || {
                let made =
                    world.docker(&["create"].into_iter().chain(words.iter().map(String::as_str)).collect::<Vec<_>>());
                let mut answer = json!({"status": made.code, "stderr": made.stderr});
                if made.succeeded() {
                    let inspected = world.inspect(&[made.stdout.trim().to_owned()]).remove(0);
                    answer["Id"] = inspected["Id"].clone();
                    let networks = inspected["NetworkSettings"]["Networks"].clone();
                    answer["made"] = plain(inspected["Config"].clone(), inspected["HostConfig"].clone(), networks);
                }
                answer
            })
        })
        .collect();
    forget_id();
    answers.keep(&world);
    let image = read_answers()["image"].to_string();
    judge(lines.into_iter().zip(docker).map(|((line, (words, reason)), docker)| {
        let image = if words.iter().any(|word| word == "full") { &image } else { "{}" };
        let ours = Cmd::new(Cove::program())
            .args(["__options", image, "create"])
            .args(&words)
            .env("HOME", "/root")
            .env("COVE_OPTIONS_SYS", &kernel)
            .run();
        let mut found = Vec::new();
        if docker["status"] != json!(ours.code) {
            found.push(format!("status: docker {}, ours {:?}", docker["status"], ours.code));
        }
        let theirs = docker["stderr"].as_str().unwrap();
        if said(theirs) != said(&ours.stderr) {
            found.push(format!("docker says {theirs}\n    ours says {}", ours.stderr));
        }
        if docker["status"] == 0 && ours.succeeded() {
            let mut ours: Value = serde_json::from_str(&ours.stdout).unwrap();
            // The name is the id's beginning, which the options do not know.
            if ours["Config"]["Hostname"] == "" {
                ours["Config"]["Hostname"] = docker["Id"].as_str().unwrap()[..12].into();
            }
            let ours = plain(ours["Config"].take(), ours["HostConfig"].take(), ours["Networks"].take());
            differences("", &docker["made"], &ours, &mut found);
        }
        (line.to_owned(), reason, found)
    }));
}

/// The `config.json` of a container that `docker inspect` or `__options` describes, by the builder of Cove.
fn build_spec(asked: &Value, kernel: Option<&Path>) -> Finished {
    let program = Cove::program().parent().unwrap().join("examples/spec");
    let build = Cmd::new(program).input(asked.to_string());
    kernel.into_iter().fold(build, |build, kernel| build.env("COVE_OPTIONS_SYS", kernel)).run()
}

/// A specification without what says nothing: docker's zeroes, its rule that forbids what is forbidden already, paths, and the
/// order of what has none.
fn comparable(mut spec: Value) -> Value {
    for key in ["hooks", "ociVersion"] {
        spec.as_object_mut().unwrap().remove(key);
    }
    spec["root"].as_object_mut().unwrap().remove("path");
    for set in ["bounding", "effective", "permitted"] {
        let sets = spec["process"]["capabilities"].as_object_mut().unwrap();
        match sets.get_mut(set) {
            Some(list) if list.as_array().is_some_and(|list| !list.is_empty()) => sorted(list),
            _ => drop(sets.remove(set)),
        }
    }
    let resources = spec["linux"]["resources"].as_object_mut().unwrap();
    resources["devices"].as_array_mut().unwrap().retain(|rule| rule["allow"] != false || rule["minor"] != 229);
    for (group, key, nothing) in
        [("blockIO", "weight", json!(0)), ("cpu", "shares", json!(0)), ("memory", "disableOOMKiller", json!(false))]
    {
        if let Some(limits) = resources.get_mut(group).and_then(Value::as_object_mut) {
            if limits.get(key) == Some(&nothing) {
                limits.remove(key);
            }
            if limits.is_empty() {
                resources.remove(group);
            }
        }
    }
    let files = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];
    for mount in spec["mounts"].as_array_mut().unwrap() {
        sorted(&mut mount["options"]);
        let place = mount["destination"].as_str().unwrap().to_owned();
        let shared = place == "/dev/shm"
            && mount["type"] == "bind"
            && mount["source"] != "/dev/shm"
            && mount["source"] != "/usr";
        if files.contains(&place.as_str()) || shared {
            mount["source"] = "a file of the container".into();
        }
    }
    // A privileged container has the devices of the machine, which are others elsewhere.
    if spec.pointer("/linux/resources/devices/0/allow") == Some(&json!(true))
        && let Some(Value::Array(devices)) = spec.pointer_mut("/linux/devices")
    {
        devices.retain(|device| device["path"] == "/dev/x");
    }
    for (list, key) in [("/mounts", "destination"), ("/linux/namespaces", "type"), ("/linux/devices", "path")] {
        if let Some(list) = spec.pointer_mut(list) {
            let entries = list.take().as_array().cloned().unwrap_or_default();
            *list = entries.into_iter().map(|entry| (entry[key].as_str().unwrap().to_owned(), entry)).collect();
        }
    }
    spec
}

#[test]
fn the_runtime_gets_what_docker_s_runtime_gets() {
    let files = Scratch::new("specs");
    let mut answers = Answers::of("specs");
    let seen = files.folder("seen");
    let text = format!(
        "#!/bin/sh\nfor word; do [ \"$before\" = --bundle ] && bundle=$word; before=$word; done\n[ -z \"$bundle\" ] || cp \"$bundle/config.json\" \"{}/$(basename \"$bundle\")\"\nexec {} \"$@\"\n",
        seen.display(),
        runc_program().display()
    );
    let copying = files.write("copying", text);
    std::fs::set_permissions(&copying, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let world = World::new(is_recording().then(|| Dockerd::with_runtime("copying", &copying)), files);
    let kernel = recorded_kernel(&world.files);
    let ask = |words: &[String]| {
        let network: &[&str] = if words.iter().any(|word| word == "--network") { &[] } else { &["--network", "none"] };
        let words = ["create", "--runtime", "copying"]
            .into_iter()
            .chain(network.iter().copied())
            .chain(words.iter().map(String::as_str));
        let id = world.docker(&words.collect::<Vec<_>>()).ok().lines().last().unwrap().to_owned();
        // Whether it runs is runc's affair: some limits are none on some machines.
        world.docker(&["start", &id]);
        let inspected = world.inspect(std::slice::from_ref(&id)).remove(0);
        let docker = std::fs::read_to_string(seen.join(&id)).unwrap_or_else(|error| panic!("no config.json: {error}"));
        let docker: Value = serde_json::from_str(&docker).unwrap();
        world.docker(&["rm", "--force", "--volumes", &id]);
        json!({
            "Config": inspected["Config"],
            "HostConfig": inspected["HostConfig"],
            "Mounts": inspected["Mounts"],
            "spec": comparable(docker.clone()),
            "cgroup": docker["linux"]["cgroupsPath"],
        })
    };
    let lines: Vec<_> = SPECS.lines().map(|line| (line, read(line, world.files.path()))).collect();
    let recorded: Vec<Value> =
        lines.iter().map(|(line, (words, _))| answers.get(line, &world, || ask(words))).collect();
    answers.keep(&world);
    judge(lines.into_iter().zip(recorded).map(|((line, (_, reason)), inspected)| {
        let binds = inspected["Mounts"].as_array().unwrap().iter().filter(|mount| mount["Type"] != "tmpfs");
        let shareable = inspected["HostConfig"]["IpcMode"] == "shareable";
        let asked = json!({
            "Config": inspected["Config"],
            "HostConfig": inspected["HostConfig"],
            "Root": world.files.join("root"),
            "Binds": binds.collect::<Vec<_>>(),
            "Files": "/files",
            "Cgroup": inspected["cgroup"],
            "Shm": shareable.then_some("/shm"),
            // Where docker's runtime gets none, ours must not get the default either.
            "Profile": match &inspected["spec"]["linux"]["seccomp"] {
                Value::Null => json!({"defaultAction": "not wanted here"}),
                profile => profile.clone(),
            },
            // Those that this docker knows.
            "Capabilities": 38,
        });
        let ours: Value = serde_json::from_str(&build_spec(&asked, Some(&kernel)).ok()).unwrap();
        let mut found = Vec::new();
        differences("", &inspected["spec"], &comparable(ours), &mut found);
        (line.to_owned(), reason, found)
    }));
}

/// Options, what runs, and what it prints.
const RUNS: [(&str, &str, &str); 9] = [
    ("", "id; pwd; hostname", "uid=0(root) gid=0(root) groups=0(root)\n/\nbox"),
    ("-u alice -w /tmp", "id; pwd", "uid=1000(alice) gid=1000(alice) groups=6(disk),33(web),1000(alice)\n/tmp"),
    ("-e A=b -e PATH", "echo $A $HOME; ls /dev/null", "b /root\n/dev/null"),
    ("--read-only --tmpfs /tmp", "touch /x 2>/dev/null || echo no; touch /tmp/x && echo yes", "no\nyes"),
    ("", "touch /proc/sys/kernel/domainname 2>/dev/null || echo no; ls /dev/loop0 2>/dev/null || echo no", "no\nno"),
    ("--privileged", "touch /proc/sys/kernel/domainname && echo yes; ls /dev/tty0", "yes\n/dev/tty0"),
    (
        "--cap-drop ALL",
        "cat /proc/self/status | while read a b; do [ $a != CapEff: ] || echo $b; done",
        "0000000000000000",
    ),
    ("--shm-size 1m --ulimit nofile=64:128", "ulimit -n; ulimit -Hn", "64\n128"),
    ("--device /dev/null:/dev/other:rw", "echo x > /dev/other && echo yes", "yes"),
];

#[test]
fn the_launcher_runs_what_is_built() {
    let files = Scratch::new("runs");
    let root = make_root(&files);
    files.folder("files");
    for name in ["hosts", "hostname", "resolv.conf"] {
        files.write(&format!("files/{name}"), "");
    }
    for (at, (options, script, expected)) in RUNS.iter().enumerate() {
        let words = options.split_whitespace().chain(["-h", "box", "--network", "none", "image", "sh", "-c", script]);
        let asked = Cmd::new(Cove::program()).args(["__options", "{}", "create"]).args(words).ok();
        let mut asked: Value = serde_json::from_str(&asked).unwrap();
        asked["Root"] = json!(root);
        asked["Files"] = json!(files.join("files"));
        let name = format!("cove-options-{}-{at}", process::id());
        asked["Cgroup"] = json!(format!("/{name}"));
        asked["Capabilities"] = json!(41);
        let bundle = files.folder(&format!("bundle-{at}"));
        files.write(&format!("bundle-{at}/config.json"), build_spec(&asked, None).ok());
        let run = Cmd::new(runtime_program())
            .arg("--root")
            .arg(files.folder("state"))
            .args(["run", "--bundle"])
            .arg(&bundle)
            .arg(&name);
        assert_eq!(run.ok().trim(), *expected, "{options}");
    }
}

/// The folder that commands are run in.
fn here() -> String {
    std::env::current_dir().unwrap().display().to_string()
}
