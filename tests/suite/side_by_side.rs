//! The same command lines run by docker and by `cove`: what both print, on which stream, and their exit codes.
//!
//! The lines are in `side_by_side/scripts`; how they are written stands at `Line`. A line with a reason must differ, so that no
//! reason outlives its cause. JSON documents of `inspect` are compared place by place; `side_by_side/masks.txt` has the places
//! that differ, each with its reason. `COVE_SCRIPTS=life,lists` runs these scripts only.
//!
//! Every client of docker that is in `PATH` is a side of its own: a distribution's, and a newer one if there is one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "side_by_side/mask.rs"]
mod mask;
#[path = "side_by_side/script.rs"]
mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::thread;

use cove_tests::{Cmd, CoveEngine, Dockerd, busybox_image, own_network};
use mask::{mask, mask_numbers, mask_words, without_advice, without_log};
use script::{Clients, Line, Outcome, Side, scripts};
use serde_json::{Value, json};

const MASKS: &str = include_str!("side_by_side/masks.txt");

type Script = BTreeMap<String, Vec<Line>>;
type Outcomes = BTreeMap<String, Vec<Outcome>>;

/// The clients of docker in `PATH`.
fn clients() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> = Vec::new();
    for program in std::env::split_paths(&path).map(|folder| folder.join("docker")) {
        if let Ok(program) = program.canonicalize()
            && !found.contains(&program)
        {
            found.push(program);
        }
    }
    assert!(!found.is_empty(), "there is no docker in PATH");
    found
}

/// What docker's daemon says to this client.
fn by_docker(client: &PathBuf, scripts: &Script) -> (Clients, Outcomes) {
    own_network();
    let dockerd = Dockerd::with_bridge();
    let files = cove_tests::Scratch::new("docker-home");
    let docker = Cmd::new(client)
        .args(["--host", &dockerd.host()])
        .env("HOME", files.path())
        .env("DOCKER_CONFIG", files.path())
        .env("DOCKER_CLI_HINTS", "false");
    docker.clone().args(["load", "-q", "-i"]).arg(busybox_image().docker_archive("box:latest").0).ok();
    let version = docker.clone().args(["version", "--format", "{{.Client.Version}}"]).ok();
    let major: u32 = version.split('.').next().unwrap().parse().unwrap();
    let side = Side::new(docker, &[(dockerd.data(), "ROOT")]);
    let outcomes = scripts.iter().map(|(name, lines)| (name.clone(), side.run(lines))).collect();
    (if major < 28 { Clients::Old } else { Clients::New }, outcomes)
}

fn by_cove(scripts: &Script) -> Outcomes {
    let engine = CoveEngine::new();
    let cove = engine.cove();
    let places = [(cove.root().to_owned(), "ROOT"), (cove.scratch().join("run"), "RUN")];
    let side = Side::new(engine.words([]), &places);
    scripts.iter().map(|(name, lines)| (name.clone(), side.run(lines))).collect()
}

/// Places of `inspect` that differ, each behind the kind of what is described, for which clients they do, and whether one of
/// them has been met.
struct Places(Vec<(&'static str, Clients, bool)>);

impl Places {
    fn read() -> Self {
        let lines = MASKS.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let read = |line: &'static str| match line.split_once("  ## ") {
            Some((place, _)) => (place, Clients::All, false),
            None => (line.split_once("  #20 ").expect("a reason").0, Clients::Old, false),
        };
        Self(lines.map(read).collect())
    }

    fn has(&mut self, place: &str) -> bool {
        let known = self.0.iter_mut().find(|(known, ..)| match known.strip_suffix('*') {
            Some(begin) => place.starts_with(begin),
            None => place == *known,
        });
        known.map(|known| known.2 = true).is_some()
    }
}

/// Everything in which two values differ, with its place.
fn differences(place: &str, docker: &Value, ours: &Value, known: &mut Places, found: &mut Vec<String>) {
    match (docker, ours) {
        (Value::Object(first), Value::Object(second)) => {
            for key in first.keys().chain(second.keys()).collect::<BTreeSet<_>>() {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(json!("absent"));
                let key = mask(key);
                let place = if key == "ID" { format!("{place}.ID") } else { format!("{place}.{key}") };
                differences(&place, &of(first), &of(second), known, found);
            }
        }
        (Value::Array(first), Value::Array(second)) if first.len() == second.len() => {
            let (mut first, mut second) = (first.clone(), second.clone());
            // Docker leaves the order of mounts to chance.
            if place.ends_with(".Mounts") {
                let by_place = |mount: &Value| mount["Destination"].to_string();
                first.sort_by_key(by_place);
                second.sort_by_key(by_place);
            }
            for (docker, ours) in first.iter().zip(&second) {
                differences(&format!("{place}[]"), docker, ours, known, found);
            }
        }
        _ if docker == ours => {}
        _ if known.has(place) => {}
        _ => found.push(format!("{place}: docker {docker}, ours {ours}")),
    }
}

fn in_order(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// In what the outcomes of a line differ.
fn compare(line: &Line, age: Clients, docker: &Outcome, ours: &Outcome, known: &mut Places) -> Vec<String> {
    let mut found = Vec::new();
    if docker.code != ours.code {
        found.push(format!("exit code: docker {:?}, ours {:?}", docker.code, ours.code));
    }
    let [theirs, own] = [docker, ours].map(|outcome| {
        let shown = mask(&outcome.stdout);
        let shown = if line.words.first().is_some_and(|word| word == "top") { mask_numbers(&shown) } else { shown };
        if line.in_any_order { in_order(&shown) } else { shown }
    });
    let kind = line.words.first().map_or("", |word| if word == "inspect" { "container" } else { word.as_str() });
    let documents = [&theirs, &own].map(|text| serde_json::from_str::<Value>(text));
    match documents {
        [Ok(theirs), Ok(own)] if line.inspects() => differences(kind, &theirs, &own, known, &mut found),
        _ if theirs == own => {}
        _ => found.push(format!("stdout: docker\n{theirs}\nours\n{own}")),
    }
    let [theirs, own] = [docker, ours].map(|outcome| without_log(&mask_words(&outcome.stderr)));
    // Clients before 28 tell of wrong use at length, and each in its own words.
    let is_old = age == Clients::Old;
    let [theirs, own] = if is_old { [without_advice(&theirs), without_advice(&own)] } else { [theirs, own] };
    let is_usage = is_old && theirs.contains("--help") && own.contains("usage:  cove");
    if theirs != own && !is_usage {
        found.push(format!("stderr: docker\n{theirs}\nours\n{own}"));
    }
    found
}

#[test]
fn docker_and_cove_answer_alike() {
    let scripts = scripts();
    let clients = clients();
    let (theirs, ours) = thread::scope(|scope| {
        let ours = scope.spawn(|| by_cove(&scripts));
        let theirs: Vec<_> = clients.iter().map(|client| scope.spawn(|| by_docker(client, &scripts))).collect();
        let theirs: Vec<_> = theirs.into_iter().map(|side| side.join().expect("docker's side")).collect();
        (theirs, ours.join().expect("our side"))
    });
    let (mut wrong, mut places, mut number) = (Vec::new(), Places::read(), 0);
    for (client, (age, docker)) in clients.iter().zip(&theirs) {
        for (name, lines) in &scripts {
            for (line, (docker, ours)) in lines.iter().zip(docker[name].iter().zip(&ours[name])) {
                number += 1;
                let found = compare(line, *age, docker, ours, &mut places);
                let reason = line.reason.as_ref().filter(|(clients, _)| *clients == Clients::All || clients == age);
                match reason {
                    None if !found.is_empty() => {
                        let found = found.join("\n").replace('\n', "\n    ");
                        wrong.push(format!("{name}, {}: {}\n    {found}", client.display(), line.text));
                    }
                    Some((_, reason)) if found.is_empty() => {
                        wrong.push(format!(
                            "{name}, {}: {}\n    is as docker's now, without: {reason}",
                            client.display(),
                            line.text
                        ));
                    }
                    _ => {}
                }
            }
        }
    }
    if std::env::var_os("COVE_SCRIPTS").is_none() {
        let has_run = |clients: Clients| clients == Clients::All || theirs.iter().any(|(age, _)| *age == clients);
        let stale = places.0.iter().filter(|(_, clients, met)| !met && has_run(*clients));
        wrong.extend(stale.map(|(place, ..)| format!("masks.txt: {place} is as docker's now")));
    }
    assert!(wrong.is_empty(), "{} of {number} lines:\n{}", wrong.len(), wrong.join("\n"));
}
