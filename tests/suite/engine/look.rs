//! What is told of containers and networks: `inspect`, `port`, `top`, `stats`, `update`, `network` and `events`.

use std::collections::BTreeSet;
use std::time::Duration;

use cove_tests::{Cmd, CoveEngine, Dockerd, busybox_image, free_port, wait_until};
use serde_json::Value;

/// The places of all fields of a document.
fn places(place: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let place = format!("{place}.{name}");
                places(&place, value, found);
                found.insert(place);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| places(&format!("{place}[]"), item, found)),
        _ => {}
    }
}

#[test]
fn inspect_has_every_field_that_dockers_has() {
    let dockerd = Dockerd::start();
    let docker = Cmd::new("docker").args(["--host", &dockerd.host()]).env("HOME", "/root");
    let docker = |words: &[&str]| docker.clone().args(words);
    let image = busybox_image();
    docker(&["load", "-q", "-i"]).arg(image.docker_archive("box:latest").0).ok();
    let engine = CoveEngine::new();
    let ours = |words: &[&str]| engine.words([]).args(words);
    let bind = format!("{}:/data:ro", engine.cove().scratch().path().display());
    let made = ["create", "--network", "none", "--name"];
    let options =
        ["-v", &bind, "-v", "named:/named", "-p", "80", "--label", "a=b", "-m", "64m", "box", "sleep", "1000"];
    for name in ["created", "running", "ended"] {
        docker(&made).arg(name).args(options).ok();
        ours(&made).arg(name).args(options).ok();
    }
    for words in [&["start", "running", "ended"][..], &["kill", "ended"], &["wait", "ended"]] {
        docker(words).ok();
        ours(words).ok();
    }
    for name in ["created", "running", "ended"] {
        let read = |text: String| serde_json::from_str::<Value>(&text).unwrap()[0].clone();
        let (theirs, own) = (read(docker(&["inspect", name]).ok()), read(ours(&["inspect", name]).ok()));
        let [mut expected, mut found] = [BTreeSet::new(), BTreeSet::new()];
        places("", &theirs, &mut expected);
        places("", &own, &mut found);
        let missing: Vec<&String> = expected.difference(&found).collect();
        assert!(missing.is_empty(), "{name}: {missing:?}");
        let further: Vec<&String> = found.difference(&expected).collect();
        assert!(further.is_empty(), "{name}: {further:?}");
        let same = ["Path", "Args", "Name", "RestartCount", "Driver", "Platform", "ExecIDs", "MountLabel"];
        for place in same.map(|field| format!("/{field}")).into_iter().chain(
            ["Status", "Running", "Paused", "ExitCode", "Dead", "Error", "OOMKilled"]
                .map(|field| format!("/State/{field}")),
        ) {
            assert_eq!(own.pointer(&place), theirs.pointer(&place), "{name}: {place}");
        }
        if name == "created" {
            assert_eq!(own["State"], theirs["State"]);
            assert_eq!(own["NetworkSettings"]["Ports"], theirs["NetworkSettings"]["Ports"]);
        }
    }
}

#[test]
fn a_containers_place_in_the_network() {
    let engine = CoveEngine::new();
    let port = free_port();
    let publish = format!("{port}:80");
    let id = engine.run(["-d", "--name", "web", "-p", &publish, "--expose", "443", "box", "sleep", "1000"]).ok();
    let inspect = |format: &str, name: &str| engine.words(["inspect", "-f", format, name]).ok();
    let address = engine.words(["exec", "web", "hostname", "-i"]).ok();
    assert_eq!(inspect("{{.NetworkSettings.IPAddress}}", "web"), address);
    assert_eq!(inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", &id[..12]), address);
    assert_eq!(inspect("{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}", "web"), port.to_string());
    assert_eq!(inspect("{{json (index .NetworkSettings.Ports \"443/tcp\")}}", "web"), "null");
    assert_eq!(inspect("{{.Name}} {{json .Config.Cmd}} {{.State.ExitCode}}", "web"), "/web [\"sleep\",\"1000\"] 0");

    let lines = engine.words(["port", "web"]).ok();
    assert!(lines.lines().any(|line| line == format!("80/tcp -> 0.0.0.0:{port}")), "{lines}");
    assert_eq!(engine.words(["port", "web", "80"]).ok(), engine.words(["port", "web", "80/tcp"]).ok());
    let none = engine.words(["port", "web", "81/tcp"]).run();
    assert_eq!((none.code, none.stderr.trim()), (Some(1), "Error: No public port '81/tcp' published for web"));

    let member = format!("{{{{(index .Containers \"{id}\").IPv4Address}}}} {{{{(index .Containers \"{id}\").Name}}}}");
    let network = engine.words(["network", "inspect", "-f", &member, "bridge"]).ok();
    assert!(network.starts_with(&format!("{address}/")) && network.ends_with(" web"), "{network}");
    let listed = engine.words(["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"]).ok();
    assert_eq!(listed, "bridge bridge local\nhost host local\nnone null local");
    let chosen = engine.words(["network", "ls", "-q", "--no-trunc", "-f", "driver=null"]).ok();
    assert_eq!(chosen, engine.words(["network", "inspect", "-f", "{{.Id}}", "none"]).ok());

    engine.words(["stop", "-t", "0", "web"]).ok();
    assert_eq!(inspect("{{.NetworkSettings.IPAddress}}{{.NetworkSettings.Ports}}", "web"), "map[]");
    assert_eq!(engine.words(["port", "web"]).ok(), "");
    assert_eq!(engine.words(["network", "inspect", "-f", "{{len .Containers}}", "bridge"]).ok(), "0");
}

#[test]
fn what_is_not_there_is_told_in_dockers_words() {
    let engine = CoveEngine::new();
    for (words, text) in [
        (&["inspect", "nothing"][..], "Error: No such object: nothing"),
        (&["container", "inspect", "nothing"], "Error response from daemon: No such container: nothing"),
        (&["inspect", "--type", "container", "box"], "Error response from daemon: No such container: box"),
        (&["inspect", "--type", "volume", "nothing"], "Error response from daemon: get nothing: no such volume"),
        (&["network", "inspect", "nothing"], "Error response from daemon: network nothing not found"),
    ] {
        let refused = engine.words([]).args(words).run();
        assert_eq!((refused.code, refused.stdout.trim(), refused.stderr.trim()), (Some(1), "[]", text), "{words:?}");
    }
}

#[test]
fn processes_of_a_container() {
    let engine = CoveEngine::new();
    engine.run(["-d", "--name", "many", "box", "sh", "-c", "sleep 999 & exec sleep 1000"]).ok();
    wait_until("both run", Duration::from_secs(10), || engine.words(["top", "many"]).ok().lines().count() == 3);
    let pid = engine.words(["inspect", "-f", "{{.State.Pid}}", "many"]).ok();
    let listed = engine.words(["top", "many", "-o", "pid,cmd"]).ok();
    assert!(listed.starts_with("PID                 CMD\n"), "{listed}");
    assert!(listed.contains(&format!("{pid:20}sleep 1000\n")) || listed.ends_with(&format!("{pid:20}sleep 1000")));
    assert!(engine.words(["top", "many"]).ok().starts_with("UID                 PID                 PPID"));
    let refused = engine.words(["top", "many", "-o", "cmd"]).fails();
    assert!(refused.contains("Couldn't find PID field in ps output"), "{refused}");
    engine.words(["kill", "many"]).ok();
    engine.wait_for_status("many", "Exited");
    assert!(engine.words(["top", "many"]).fails().contains("is not running"));
}

#[test]
fn limits_and_the_restart_policy_change_while_it_runs() {
    let engine = CoveEngine::new();
    engine.run(["-d", "--name", "one", "box", "sleep", "1000"]).ok();
    let stats = |format: &str| engine.words(["stats", "--no-stream", "--format", format, "one"]).ok();
    let refused = engine.words(["update", "-m", "100m", "one"]).fails();
    assert!(refused.contains("Memory limit should be smaller than already set memoryswap limit"), "{refused}");
    assert!(engine.words(["update", "-m", "1m", "one"]).fails().contains("Minimum memory limit allowed is 6MB"));
    let refused = engine.words(["update", "one"]).fails();
    assert!(refused.contains("you must provide one or more flags when using this command"), "{refused}");
    assert!(!stats("{{.MemUsage}}").ends_with("/ 100MiB"), "what was refused has changed nothing");
    let changed = engine.words(["update", "-m", "100m", "--memory-swap", "200m", "--pids-limit", "20", "one"]).run();
    assert_eq!((changed.code, changed.stdout.trim()), (Some(0), "one"), "{changed}");
    assert!(stats("{{.MemUsage}}").ends_with(" / 100MiB"), "{}", stats("{{.MemUsage}}"));
    assert_eq!(stats("{{.Name}} {{.PIDs}}"), "one 1");
    let format = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.PidsLimit}}";
    assert_eq!(engine.words(["inspect", "-f", format, "one"]).ok(), "104857600 209715200 20");
    let forks = "for i in $(seq 30); do sleep 5 & done; wait";
    assert!(
        engine.words(["exec", "one", "sh", "-c", forks]).run().stderr.contains("fork"),
        "the limit is the kernel's"
    );

    let inspect = |format: &str| engine.words(["inspect", "-f", format, "one"]).ok();
    engine.words(["update", "--restart", "always", "one"]).ok();
    let pid = inspect("{{.State.Pid}}");
    Cmd::new("kill").args(["-9", &pid]).ok();
    wait_until("it runs again", Duration::from_secs(20), || {
        inspect("{{.State.Running}} {{.RestartCount}}") == "true 1" && inspect("{{.State.Pid}}") != pid
    });
    let (_, limit) = stats("{{.MemUsage}}").split_once(" / ").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert_eq!(limit, "100MiB", "the limits are those of the record");
}

#[test]
fn what_containers_use() {
    let engine = CoveEngine::new();
    engine.run(["-d", "--name", "busy", "box", "sh", "-c", "while :; do :; done"]).ok();
    engine.create(["--name", "idle", "box", "true"]).ok();
    let stats = |words: &[&str]| engine.words(["stats", "--no-stream"]).args(words).ok();
    let share = stats(&["--format", "{{.CPUPerc}}", "busy"]);
    assert!(share.trim_end_matches('%').parse::<f64>().unwrap() > 0.0, "{share}");
    let table = stats(&[]);
    assert!(table.starts_with("CONTAINER ID   NAME      CPU %"), "{table}");
    assert_eq!(table.lines().count(), 2, "{table}");
    assert_eq!(stats(&["-a"]).lines().count(), 3);
    let nothing = stats(&["--format", "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.NetIO}} {{.PIDs}}", "idle"]);
    assert_eq!(nothing, "idle 0.00% 0B / 0B 0B / 0B 0");
    let refused = engine.words(["stats", "--no-stream", "nothing"]).fails();
    assert!(refused.contains("No such container: nothing"), "{refused}");
}

#[test]
fn what_happens_is_told() {
    let engine = CoveEngine::new();
    let log = engine.cove().scratch().join("events");
    let follow = engine.words(["events", "--since", "1", "--format", "{{.Type}} {{.Action}}"]).start(&log);
    let id = engine.run(["-d", "--name", "one", "--label", "tier=front", "box", "sleep", "1000"]).ok();
    engine.words(["exec", "one", "true"]).ok();
    engine.words(["pause", "one"]).ok();
    engine.words(["unpause", "one"]).ok();
    engine.words(["rename", "one", "two"]).ok();
    engine.words(["kill", "-s", "USR1", "two"]).ok();
    engine.words(["stop", "-t", "0", "two"]).ok();
    engine.words(["start", "two"]).ok();
    engine.words(["rm", "-f", "two"]).ok();
    assert_eq!(engine.run(["--rm", "box", "sh", "-c", "exit 3"]).run().code, Some(3));
    engine.words(["tag", "box", "other:1"]).ok();
    engine.words(["rmi", "other:1"]).ok();

    let events = |filters: &[&str]| engine.words(["events", "--since", "1", "--until", "0s"]).args(filters).ok();
    let actions = |filters: &[&str]| {
        let filters = filters.iter().flat_map(|filter| ["-f", *filter]);
        let words: Vec<&str> = ["--format", "{{.Action}}"].into_iter().chain(filters).collect();
        events(&words).lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>()
    };
    let container = format!("container={id}");
    let expected = [
        "create",
        "start",
        "exec_create: true",
        "exec_start: true",
        "exec_die",
        "pause",
        "unpause",
        "rename",
        "kill",
        "kill",
        "kill",
        "die",
        "stop",
        "start",
        "kill",
        "die",
        "destroy",
    ];
    let mut own = actions(&[&container]);
    // Whether SIGTERM or the end of the patience comes first, is not ours to say.
    let kills = own.iter().filter(|action| *action == "kill").count();
    assert!((3..=4).contains(&kills), "{own:?}");
    own.retain(|action| action != "kill");
    let expected: Vec<&str> = expected.into_iter().filter(|action| *action != "kill").collect();
    assert_eq!(own, expected);
    assert_eq!(actions(&["container=two", "event=die", "event=destroy"]), ["die", "die", "destroy"]);
    assert_eq!(actions(&["type=image"]), ["load", "tag", "untag"]);
    assert_eq!(actions(&["label=tier=front", "event=create"]), ["create"]);
    assert_eq!(actions(&["label=tier=back"]), Vec::<String>::new());
    let codes = events(&["--format", "{{.Actor.Attributes.exitCode}}", "-f", "event=die"]);
    assert_eq!(codes, "137\n137\n3");

    let lines = events(&["-f", "event=rename"]);
    let (time, rest) = lines.split_once(' ').unwrap();
    assert_eq!(time.len(), "2026-11-24T15:12:32.442676932Z".len(), "{time}");
    assert_eq!(rest, format!("container rename {id} (image=box, name=two, oldName=/one, tier=front)"));
    let json: Value = serde_json::from_str(&events(&["--format", "json", "-f", "event=pause"])).unwrap();
    assert_eq!(
        (&json["status"], &json["id"], &json["from"]),
        (&json["Action"], &json["Actor"]["ID"], &json["Actor"]["Attributes"]["image"])
    );
    assert_eq!(json["Actor"]["ID"], id);

    let told = events(&["--format", "{{.Type}} {{.Action}}"]);
    wait_until("who follows has read all", Duration::from_secs(10), || {
        std::fs::read_to_string(&log).unwrap().trim_end() == told
    });
    drop(follow);
}
