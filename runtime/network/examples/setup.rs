//! How long a container's network takes: `cargo run --release -p cove-network --example setup -- [rounds] [pause in ms]`.
//!
//! As root. The machine is a namespace of its own; the real one is not touched. Prints of every step the least, the median and what nine of ten stay
//! below. Whoever else on the machine makes or unmakes links at that time is in these figures: the kernel does one at a time.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use cove_network::{Networks, PublishedPort, Request, new_namespace};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().map_or(200, |text| text.parse().unwrap());
    let pause = Duration::from_millis(arguments.next().map_or(0, |text| text.parse().unwrap()));
    let host = new_namespace().unwrap();
    move_into_link_name_space(host.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    let folder = std::env::temp_dir().join(format!("cove-network-setup-{}", std::process::id()));
    let networks = Networks::of(&folder.join("root"), &folder.join("run"));
    let ports = PublishedPort::parse("8080:80").unwrap();
    let mut steps: [Vec<Duration>; 6] = Default::default();
    for round in 0..=rounds {
        std::thread::sleep(pause);
        let mut times = [Instant::now(); 6];
        let namespace = new_namespace().unwrap();
        times[1] = Instant::now();
        let container = format!("{round:064x}");
        let request = Request { network: "bridge".into(), name: "one".into(), container, ..Request::default() };
        let mut endpoint = networks.connect(namespace.as_fd(), &request, &|_| true).unwrap().endpoint;
        times[2] = Instant::now();
        let held = networks.publish(&mut endpoint, &ports).unwrap();
        times[3] = Instant::now();
        networks.disconnect(&endpoint).unwrap();
        times[4] = Instant::now();
        drop((held, namespace));
        times[5] = Instant::now();
        // The first round makes the bridge and the table.
        if round == 0 {
            println!("first of all: connect {:?}", times[2] - times[1]);
            continue;
        }
        for (step, pair) in steps.iter_mut().zip(times.windows(2)) {
            step.push(pair[1] - pair[0]);
        }
        steps[5].push(times[3] - times[0]);
    }
    let names = ["namespace", "connect", "publish", "disconnect", "drop", "namespace + connect + publish"];
    for (name, step) in names.iter().zip(&mut steps) {
        step.sort_unstable();
        println!("{name}: least {:?}, median {:?}, 90% {:?}", step[0], step[rounds / 2], step[rounds * 9 / 10]);
    }
    std::fs::remove_dir_all(folder).unwrap();
}
