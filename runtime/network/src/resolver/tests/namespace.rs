//! The C library of a container, in a network namespace whose only way out is the resolver.

use std::fs;
use std::process::Command;

use super::*;

/// Runs something in a thread with namespaces of its own (network and mounts), its loopback interface up. Only this
/// process's thread is there: namespaces go with it.
fn in_container<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(move || {
        use rustix::mount::{MountPropagationFlags, mount_change};
        use rustix::thread::{UnshareFlags, unshare_unsafe};
        #[allow(unsafe_code)]
        // SAFETY: this thread's namespaces and working folder part from the others'; no descriptor table does.
        unsafe {
            unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS | UnshareFlags::FS).unwrap();
        }
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        work()
    })
    .join()
    .unwrap()
}

#[test]
fn the_c_library_finds_containers_and_others_through_the_hosts_namespace() {
    // At the host's loopback address: no way leads there from the other namespace.
    let upstream = server(|query, _| {
        let kind = query[question_end(query) - 3];
        vec![if kind == 1 { answer(query, 42) } else { refusal(query, 0) }]
    });
    let (give, take) = std::sync::mpsc::channel();
    let (started, wait) = std::sync::mpsc::channel();
    let resolver = thread::spawn(move || {
        let namespace: fs::File = take.recv().unwrap();
        let home = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let sockets = sockets_in(namespace.as_fd(), 53).unwrap();
        assert_eq!(fs::read_link("/proc/thread-self/ns/net").unwrap(), home, "there and back");
        let running = Running::start_at(sockets, &[upstream]);
        started.send(()).unwrap();
        running
    });
    let folder = tempfile::tempdir().unwrap();
    let configuration = folder.path().join("resolv.conf");
    let text = super::super::container_resolv_conf(
        &super::super::HostResolver::default(),
        &super::super::DnsOptions::default(),
        &[ADDRESS],
    );
    fs::write(&configuration, text).unwrap();
    let found = in_container(move || {
        give.send(fs::File::open("/proc/thread-self/ns/net").unwrap()).unwrap();
        wait.recv().unwrap();
        rustix::mount::mount_bind(&configuration, "/etc/resolv.conf").unwrap();
        ["WEB", "both", "www.example.com", "172.18.0.2"].map(|name| {
            let database = if name.starts_with("172") { "hosts" } else { "ahostsv4" };
            // Without -A it asks for no addresses where there is only a loopback interface, as here.
            let output = Command::new("getent").args(["-A", database, name]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().split_whitespace().take(2).collect::<Vec<_>>().join(" ")
        })
    });
    drop(resolver.join().unwrap());
    assert_eq!(found, ["172.18.0.2 STREAM", "172.18.0.2 STREAM", "10.0.0.42 STREAM", "172.18.0.2 web.net"]);
}

#[test]
fn a_free_port_leaves_53_to_the_container() {
    in_container(|| {
        let here = fs::File::open("/proc/thread-self/ns/net").unwrap();
        let free = sockets_in(here.as_fd(), 0).unwrap();
        assert_ne!(free.port, 53);
        let taken = (UdpSocket::bind("0.0.0.0:53").unwrap(), TcpListener::bind("0.0.0.0:53").unwrap());
        let error = sockets_in(here.as_fd(), 53).unwrap_err().to_string();
        assert!(error.starts_with("cannot listen at `127.0.0.11:53` in the container"), "{error}");
        drop(taken);
        sockets_in(here.as_fd(), 53).unwrap();
        let not_a_namespace = fs::File::open("/dev/null").unwrap();
        assert!(sockets_in(not_a_namespace.as_fd(), 0).is_err());
    });
}

#[test]
fn port_53_of_the_container_is_free_and_the_resolver_answers_there_all_the_same() {
    in_container(|| {
        let here = fs::File::open("/proc/thread-self/ns/net").unwrap();
        let sockets = sockets_behind_53(here.as_fd()).unwrap();
        assert_ne!(sockets.port, 53);
        let _running = Running::start_at(sockets, &[]);
        // A name server of the container: it hears what is not for the resolver.
        let own = UdpSocket::bind("0.0.0.0:53").unwrap();
        let _own = TcpListener::bind("0.0.0.0:53").unwrap();
        let query = question(7, "web", 1);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // A socket that is connected hears nothing from elsewhere.
        client.connect((ADDRESS, 53)).unwrap();
        client.send(&query).unwrap();
        assert_eq!(data(&receive(&client)), [[172, 18, 0, 2]]);
        let mut connection = TcpStream::connect((ADDRESS, 53)).unwrap();
        send_framed(&mut connection, &query);
        assert_eq!(data(&receive_framed(&mut connection).unwrap()), [[172, 18, 0, 2]]);
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        other.send_to(b"for its own", "127.0.0.1:53").unwrap();
        own.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(receive(&own), b"for its own");
    });
}
