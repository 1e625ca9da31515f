//! The talk with systemd: a thread stands for the bus and for systemd behind it, and records what it is asked.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::super::systemd::{Message, Reader};
use super::super::{CgroupError, Cgroups, Request};
use super::{Imitation, resources};

/// What the peer was asked: the method, and its arguments in words.
type Record = Arc<Mutex<Vec<String>>>;

/// A bus with a systemd that does everything, or has something against one method.
struct Peer {
    folder: tempfile::TempDir,
    record: Record,
}

#[derive(Clone, Copy, Default)]
struct Behaviour {
    /// The method that is refused, and the name of the error.
    refuse: Option<(&'static str, &'static str)>,
    /// How jobs end, if not well.
    result: Option<&'static str>,
    /// Whether the end of a job is told before the answer to the call that began it.
    is_early: bool,
    /// Whether numbers come in the other byte order.
    is_big: bool,
    rejects: bool,
}

impl Peer {
    fn start(behaviour: Behaviour) -> Peer {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("bus")).unwrap();
        let record = Record::default();
        let own = record.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), behaviour, &own);
            }
        });
        Peer { folder, record }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("bus")
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.record.lock().unwrap())
    }
}

fn line(stream: &mut UnixStream) -> Option<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        line.extend(byte);
    }
    Some(String::from_utf8(line).unwrap())
}

/// Talks to one client until it goes.
fn serve(mut stream: UnixStream, behaviour: Behaviour, record: &Record) -> Option<()> {
    assert_eq!(line(&mut stream)?, "\0AUTH EXTERNAL\r\n");
    stream.write_all(b"DATA\r\n").unwrap();
    assert_eq!(line(&mut stream)?, "DATA\r\n");
    if behaviour.rejects {
        stream.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
        return None;
    }
    stream.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n").unwrap();
    assert_eq!(line(&mut stream)?, "BEGIN\r\n");
    loop {
        let mut bytes = vec![0; 16];
        stream.read_exact(&mut bytes).ok()?;
        let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let length = (16 + number(12)).next_multiple_of(8) + number(4);
        bytes.resize(length, 0);
        stream.read_exact(&mut bytes[16..]).ok()?;
        let message = Message::parse(bytes).unwrap();
        record.lock().unwrap().push(words(&message));
        answer(&mut stream, &message, behaviour);
    }
}

fn answer(stream: &mut UnixStream, message: &Message, behaviour: Behaviour) {
    let write = |stream: &mut UnixStream, bytes: Vec<u8>| stream.write_all(&bytes).unwrap();
    let is_big = behaviour.is_big;
    if let Some((_, name)) = behaviour.refuse.filter(|(method, _)| *method == message.member) {
        let fields = [(4, "s", name), (8, "g", "s")];
        write(stream, build(is_big, 3, message.serial, &fields, &text(is_big, "as was to be expected", 0)));
        return;
    }
    let job = "/org/freedesktop/systemd1/job/7";
    let begins_job = ["StartTransientUnit", "StopUnit"].contains(&message.member.as_str());
    let reply = match message.member.as_str() {
        "Get" => {
            let mut whole = b"\x01s\0\0".to_vec();
            whole.extend(text(is_big, "/user.slice/user-7.slice/user@7.service", 4));
            build(is_big, 2, message.serial, &[(8, "g", "v")], &whole)
        }
        _ if begins_job => build(is_big, 2, message.serial, &[(8, "g", "o")], &text(is_big, job, 0)),
        _ => build(is_big, 2, message.serial, &[], &[]),
    };
    let mut ends = Vec::new();
    if begins_job {
        for (job, result) in [("/org/freedesktop/systemd1/job/6", "failed"), (job, behaviour.result.unwrap_or("done"))]
        {
            let mut body = number(is_big, 7).to_vec();
            for value in [job, "some.scope", result] {
                body.resize(body.len().next_multiple_of(4), 0);
                let value = text(is_big, value, body.len());
                body.extend(value);
            }
            ends.extend(build(is_big, 4, 0, &[(3, "s", "JobRemoved"), (8, "g", "uoss")], &body));
        }
    }
    let mut all = [reply, ends];
    if behaviour.is_early {
        all.reverse();
    }
    write(stream, all.concat());
}

fn number(is_big: bool, number: u32) -> [u8; 4] {
    if is_big { number.to_be_bytes() } else { number.to_le_bytes() }
}

/// A text that begins at a multiple of four.
fn text(is_big: bool, text: &str, at: usize) -> Vec<u8> {
    assert_eq!(at % 4, 0);
    [&number(is_big, u32::try_from(text.len()).unwrap()), text.as_bytes(), b"\0"].concat()
}

/// A message to the client.
fn build(is_big: bool, kind: u8, reply_to: u32, fields: &[(u8, &str, &str)], body: &[u8]) -> Vec<u8> {
    let mut header = Vec::new();
    if reply_to != 0 {
        header.extend([5, 1, b'u', 0]);
        header.extend(number(is_big, reply_to));
    }
    for (field, kind, value) in fields {
        header.resize(header.len().next_multiple_of(8), 0);
        header.extend([*field, 1, kind.as_bytes()[0], 0]);
        if *kind == "g" {
            header.push(u8::try_from(value.len()).unwrap());
            header.extend(value.as_bytes());
            header.push(0);
        } else {
            header.extend(text(is_big, value, header.len()));
        }
    }
    let mut message = vec![if is_big { b'B' } else { b'l' }, kind, 0, 1];
    for value in [body.len(), 99, header.len()] {
        message.extend(number(is_big, u32::try_from(value).unwrap()));
    }
    message.extend(header);
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend(body);
    message
}

/// A call as text: the method, its texts and flags, and each property in a line.
fn words(message: &Message) -> String {
    let mut reader = message.reader();
    let mut words = vec![message.member.clone()];
    let mut signature = message.signature.as_str();
    while !signature.is_empty() {
        if let Some(rest) = signature.strip_prefix("a(sv)") {
            words.extend(properties(&mut reader));
            signature = rest;
            continue;
        }
        if let Some(rest) = signature.strip_prefix("a(sa(sv))") {
            assert_eq!(reader.number().unwrap(), 0);
            signature = rest;
            continue;
        }
        let (kind, rest) = signature.split_at(1);
        words.push(match kind {
            "s" => reader.text().unwrap(),
            "b" => (reader.number().unwrap() == 1).to_string(),
            other => panic!("{other}"),
        });
        signature = rest;
    }
    words.join("\n")
}

/// Calls `read` until an array ends.
fn array<T>(reader: &mut Reader<'_>, size: usize, mut read: impl FnMut(&mut Reader<'_>) -> T) -> Vec<T> {
    let length = reader.number().unwrap() as usize;
    reader.align(size);
    let end = reader.position() + length;
    let mut all = Vec::new();
    while reader.position() < end {
        all.push(read(reader));
    }
    assert_eq!(reader.position(), end);
    all
}

fn properties(reader: &mut Reader<'_>) -> Vec<String> {
    array(reader, 8, |reader| {
        reader.align(8);
        let name = reader.text().unwrap();
        let value = match reader.signature().unwrap().as_str() {
            "s" => reader.text().unwrap(),
            "b" => (reader.number().unwrap() == 1).to_string(),
            "t" => reader.long().unwrap().to_string(),
            "au" => format!("{:?}", array(reader, 4, |reader| reader.number().unwrap())),
            "ay" => format!("{:?}", array(reader, 1, |reader| reader.byte().unwrap())),
            "as" => format!("{:?}", array(reader, 4, |reader| reader.text().unwrap())),
            "a(ss)" => array(reader, 8, |reader| {
                reader.align(8);
                format!("{} {}", reader.text().unwrap(), reader.text().unwrap())
            })
            .join(", "),
            other => panic!("{other}"),
        };
        format!("{name}={value}")
    })
}

/// Where the imitation of version 2 has the cgroup of `a.slice:p:box`.
fn imitation(files: &[&str]) -> Imitation {
    let imitation = Imitation::v2("cpu memory pids cpuset\n", &[]);
    std::fs::create_dir_all(imitation.base.path().join("a.slice/p-box.scope")).unwrap();
    for folder in ["a.slice", "a.slice/p-box.scope"] {
        for (file, text) in [("cgroup.controllers", "cpu memory pids cpuset\n"), ("cgroup.subtree_control", "")] {
            imitation.put(&format!("{folder}/{file}"), text);
        }
    }
    for file in files {
        imitation.put(&format!("a.slice/p-box.scope/{file}"), "");
    }
    imitation
}

fn plan(imitation: &Imitation, peer: &Peer, path: &str, rootless: bool) -> Result<Cgroups, CgroupError> {
    let request = Request { id: "box", path: Some(Path::new(path)), systemd: true, rootless, resources: None };
    Cgroups::plan_in(&request, &imitation.tree, Some(&peer.socket()))
}

const FILES: [&str; 6] = ["memory.max", "memory.swap.max", "cpu.weight", "cpu.max", "pids.max", "cpuset.cpus"];

#[test]
fn a_scope_begins_with_a_process_and_the_limits() {
    for behaviour in [Behaviour::default(), Behaviour { is_early: true, is_big: true, ..Behaviour::default() }] {
        let (imitation, peer) = (imitation(&FILES), Peer::start(behaviour));
        let cgroups = plan(&imitation, &peer, "a.slice:p:box", false).unwrap();
        assert_eq!(cgroups.paths()[""], imitation.base.path().join("a.slice/p-box.scope"));
        assert_eq!(peer.asked(), Vec::<String>::new());
        let limits = resources(json!({
            "devices": [{"allow": true, "type": "c", "major": 10, "minor": 200, "access": "rwm"}],
            "memory": {"limit": 100, "swap": 300},
            "cpu": {"shares": 1024, "quota": 12345, "period": 100_000, "cpus": "0-1,9"},
            "pids": {"limit": -1},
        }));
        cgroups.create(Some(&limits)).unwrap();
        let asked = peer.asked();
        let methods: Vec<&str> = asked.iter().map(|call| call.lines().next().unwrap()).collect();
        assert_eq!(methods, ["Hello", "AddMatch", "Subscribe", "StartTransientUnit"]);
        let start: Vec<&str> = asked[3].lines().skip(1).collect();
        assert_eq!(start[..4], ["p-box.scope", "replace", "Description=cove container p-box.scope", "Slice=a.slice"]);
        for property in [
            "Delegate=true",
            "DefaultDependencies=false",
            "MemoryAccounting=true",
            "DevicePolicy=strict",
            "MemoryMax=100",
            "MemorySwapMax=200",
            "CPUWeight=100",
            "CPUQuotaPeriodUSec=100000",
            // 12.345 % of a processor, rounded up to what systemd can express.
            "CPUQuotaPerSecUSec=130000",
            "AllowedCPUs=[3, 2]",
            "TasksMax=18446744073709551615",
        ] {
            assert!(start.contains(&property), "{property} is missing in {start:?}");
        }
        let devices = start.iter().find_map(|line| line.strip_prefix("DeviceAllow=")).unwrap();
        assert!(devices.starts_with("/dev/char/10:200 rwm, char-* m, block-* m, /dev/char/1:3 rwm, "), "{devices}");
        assert!(devices.contains("char-pts rwm"), "{devices}");
        let process = start.iter().find_map(|line| line.strip_prefix("PIDs=[")).unwrap().trim_end_matches(']');
        assert_kept_until_entered(&cgroups, process);
        let written = std::fs::read_to_string(imitation.base.path().join("a.slice/p-box.scope/memory.max"));
        assert_eq!(written.unwrap(), "100");
    }
}

/// The process that a scope begins with is there until the entrance closes, and not longer.
fn assert_kept_until_entered(cgroups: &Cgroups, process: &str) {
    let proc = PathBuf::from(format!("/proc/{process}"));
    assert!(proc.exists());
    std::fs::write(cgroups.paths()[""].join("cgroup.procs"), "").unwrap();
    let entrance = cgroups.entrance().unwrap();
    assert!(proc.exists());
    drop(entrance);
    assert!(!proc.exists());
}

#[test]
fn a_failed_create_stops_the_unit() {
    let (imitation, peer) = (imitation(&FILES), Peer::start(Behaviour::default()));
    let cgroups = plan(&imitation, &peer, "a.slice:p:box", false).unwrap();
    let limits = resources(json!({"unified": {"memory.unknown": "1"}}));
    assert!(matches!(cgroups.create(Some(&limits)), Err(CgroupError::Write { .. })));
    let asked = peer.asked();
    assert!(asked.contains(&"StopUnit\np-box.scope\nreplace".to_owned()), "{asked:?}");
    assert!(cgroups.placeholder.borrow().is_none());
}

#[test]
fn an_update_is_told_to_systemd_and_written() {
    let (imitation, peer) = (imitation(&FILES), Peer::start(Behaviour::default()));
    let cgroups = plan(&imitation, &peer, "a.slice:p:box", false).unwrap();
    cgroups.update(&resources(json!({"pids": {"limit": 5}}))).unwrap();
    assert_eq!(peer.asked(), ["Hello", "SetUnitProperties\np-box.scope\ntrue\nTasksMax=5"]);
    let written = std::fs::read_to_string(imitation.base.path().join("a.slice/p-box.scope/pids.max"));
    assert_eq!(written.unwrap(), "5");
}

#[test]
fn delete_stops_the_unit_and_removes_what_is_left() {
    for refuse in [None, Some(("StopUnit", "org.freedesktop.systemd1.NoSuchUnit"))] {
        let (imitation, peer) = (imitation(&[]), Peer::start(Behaviour { refuse, ..Behaviour::default() }));
        let folder = imitation.base.path().join("a.slice/p-box.scope");
        // Files of a real cgroup do not stop its removal.
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
        plan(&imitation, &peer, "a.slice:p:box", false).unwrap().delete().unwrap();
        let asked = peer.asked();
        assert_eq!(asked[3..], ["StopUnit\np-box.scope\nreplace", "ResetFailedUnit\np-box.scope"]);
        assert!(!folder.exists());
        assert!(folder.parent().unwrap().exists());
    }
}

#[test]
fn a_user_has_units_below_those_of_its_own_systemd() {
    let (imitation, peer) = (imitation(&[]), Peer::start(Behaviour::default()));
    let cgroups = plan(&imitation, &peer, "a.slice:p:box", true).unwrap();
    let expected = "user.slice/user-7.slice/user@7.service/a.slice/p-box.scope";
    assert_eq!(cgroups.paths()[""], imitation.base.path().join(expected));
    assert_eq!(peer.asked(), ["Hello", "Get\norg.freedesktop.systemd1.Manager\nControlGroup"]);
}

#[test]
fn what_systemd_has_against_it_is_told() {
    let create = |behaviour: Behaviour| {
        let (imitation, peer) = (imitation(&[]), Peer::start(behaviour));
        let cgroups = plan(&imitation, &peer, "a.slice:p:box", false).unwrap();
        let error = cgroups.create(None).unwrap_err().to_string();
        assert!(cgroups.placeholder.borrow().is_none());
        error
    };
    let name = "org.freedesktop.systemd1.UnitExists";
    let refused = create(Behaviour { refuse: Some(("StartTransientUnit", name)), ..Behaviour::default() });
    assert_eq!(refused, format!("StartTransientUnit p-box.scope: as was to be expected ({name})"));
    let failed = create(Behaviour { result: Some("timeout"), ..Behaviour::default() });
    assert!(failed.starts_with("StartTransientUnit p-box.scope: the job ended with `timeout`\n"), "{failed}");
    let rejected = create(Behaviour { rejects: true, ..Behaviour::default() });
    assert_eq!(rejected, "unable to connect to D-Bus: authentication failed: REJECTED EXTERNAL");
}

#[test]
fn without_a_bus_it_says_what_to_do() {
    let (imitation, peer) = (imitation(&[]), Peer::start(Behaviour::default()));
    let cgroups = plan(&imitation, &peer, "a.slice:p:box", false).unwrap();
    std::fs::remove_file(peer.socket()).unwrap();
    let error = cgroups.create(None).unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert!(lines[0].starts_with("unable to connect to D-Bus: dial unix /"), "{error}");
    assert!(lines[0].ends_with(": no such file or directory"), "{error}");
    assert!(lines[1].contains("--systemd-cgroup"), "{error}");
}

#[test]
fn a_process_in_the_unit_is_in_the_way() {
    let (imitation, peer) = (imitation(&[]), Peer::start(Behaviour::default()));
    imitation.put("a.slice/p-box.scope/cgroup.procs", "17\n");
    let error = plan(&imitation, &peer, "a.slice:p:box", false).unwrap().create(None).unwrap_err().to_string();
    assert!(error.starts_with("container's cgroup is not empty: 1 process(es) found\n"), "{error}");
    assert_eq!(peer.asked(), Vec::<String>::new());
}

/// The bus that most hosts have, where it is installed: it lets us in and understands the call, but has no systemd.
#[test]
fn a_real_bus_understands_us() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("bus");
    // Without the services that are installed here, of which one stands for systemd.
    let configuration = format!(
        "<busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context=\"default\">\
         <allow send_destination=\"*\"/><allow receive_sender=\"*\"/><allow own=\"*\"/></policy></busconfig>",
        socket.display()
    );
    std::fs::write(folder.path().join("configuration"), configuration).unwrap();
    let file = format!("--config-file={}", folder.path().join("configuration").display());
    let bus = std::process::Command::new("dbus-daemon").args(["--nofork", "--nopidfile", &file]).spawn();
    let Ok(mut bus) = bus else { return };
    let begun = std::time::Instant::now();
    while !socket.exists() && begun.elapsed().as_secs() < 5 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let imitation = imitation(&[]);
    let request = Request { id: "box", path: None, systemd: true, rootless: true, resources: None };
    let error = Cgroups::plan_in(&request, &imitation.tree, Some(&socket)).unwrap_err().to_string();
    bus.kill().unwrap();
    bus.wait().unwrap();
    assert!(error.contains("org.freedesktop.systemd1"), "{error}");
    assert!(error.ends_with("(org.freedesktop.DBus.Error.ServiceUnknown)"), "{error}");
}
