//! Measures what the cgroups of a container cost: plan, create, enter (by a child) and delete, in microseconds.
//!
//!     cargo run --release -p cove-launcher --example cgroups [ROUNDS] [PAUSE_MS]
//!
//! As root. `PAUSE_MS` lets the machine idle between rounds, as it does between the starts of containers.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cove_launcher::cgroups::{Cgroups, Entrance, Request};
use oci_spec::runtime::LinuxResources;

/// A child that begins in the cgroup of version 2 if there is one, joins the others, tells how long that took, and ends.
#[allow(unsafe_code)]
fn enter(entrance: &Entrance) -> u128 {
    let (reader, writer) = std::io::pipe().unwrap();
    let folder = entrance.folder_v2();
    let mut arguments = [0_u64; 11];
    arguments[0] = if folder.is_some() { 1 << 33 } else { 0 };
    arguments[4] = libc::SIGCHLD as u64;
    arguments[10] = folder.map_or(0, |folder| folder.as_raw_fd() as u64);
    // SAFETY: this program has one thread, so the child may do what it likes.
    let child = unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        let begun = Instant::now();
        entrance.enter(folder.is_some()).unwrap();
        let took = begun.elapsed().as_nanos().to_le_bytes();
        rustix::io::write(&writer, &took).unwrap();
        std::process::exit(0);
    }
    let mut took = [0; 16];
    rustix::io::read(&reader, &mut took).unwrap();
    rustix::process::waitpid(rustix::process::Pid::from_raw(child as i32), rustix::process::WaitOptions::empty())
        .unwrap();
    u128::from_le_bytes(took) / 1000
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse().unwrap());
    let (rounds, pause) = (arguments.next().unwrap_or(200), arguments.next().unwrap_or(0));
    let limits: LinuxResources = serde_json::from_str(
        r#"{"memory": {"limit": 67108864}, "pids": {"limit": 100}, "cpu": {"shares": 512},
            "devices": [{"allow": false, "access": "rwm"},
                        {"allow": true, "type": "c", "major": 10, "minor": 200, "access": "rwm"}]}"#,
    )
    .unwrap();
    let path = PathBuf::from(format!("/cove-measured-{}", std::process::id()));
    let mut times: [Vec<u128>; 6] = Default::default();
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_millis(pause));
        let request = Request {
            id: "measured",
            path: Some(Path::new(&path)),
            systemd: false,
            rootless: false,
            resources: Some(&limits),
        };
        let mut begun = Instant::now();
        let mut lap = || {
            let took = begun.elapsed().as_micros();
            begun = Instant::now();
            took
        };
        let cgroups = Cgroups::plan(&request).unwrap();
        let plan = lap();
        cgroups.create(Some(&limits)).unwrap();
        let create = lap();
        let entrance = cgroups.entrance().unwrap();
        let open = lap();
        let entered = enter(&entrance);
        lap();
        cgroups.delete().unwrap();
        let delete = lap();
        for (list, took) in
            times.iter_mut().zip([plan, create, open, entered, delete, plan + create + open + entered + delete])
        {
            list.push(took);
        }
    }
    for (name, mut list) in ["plan", "create", "entrance", "enter", "delete", "all"].into_iter().zip(times) {
        list.sort_unstable();
        let at = |percent: usize| list[(list.len() - 1) * percent / 100];
        println!("{name:9} p10 {:5}  p50 {:5}  p90 {:5} µs", at(10), at(50), at(90));
    }
}
