//! Power cuts: the blobs and the database lie on a disk that loses whatever was not synced.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

use std::fs;
use std::time::Duration;

use cove_tests::{Dice, LoopDisk, Pushers, Server, Workload};

#[path = "powercut/order.rs"]
mod order;

const DISK: u64 = 2_000_000_000;

/// The disk does what the other test relies on.
#[test]
fn a_power_cut_loses_what_was_not_synced() {
    let server = Server::builder().prepare();
    let disk = LoopDisk::mount(100_000_000, &server.data());
    let (synced, not_synced) = (server.data().join("synced"), server.data().join("not-synced"));
    fs::write(&synced, "synced").unwrap();
    fs::File::open(&synced).unwrap().sync_all().unwrap();
    fs::File::open(server.data()).unwrap().sync_all().unwrap();
    fs::write(&not_synced, "not synced").unwrap();
    disk.cut_power();
    assert!(fs::write(&synced, "too late").is_err(), "nothing can be written without power");
    disk.repair();
    assert_eq!(fs::read_to_string(&synced).unwrap(), "synced");
    assert!(!not_synced.exists(), "this disk keeps what was not synced, so it proves nothing");
}

/// At 20 random moments of concurrent pushes.
#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let mut dice = Dice::from_environment("power cut");
    let workload = Workload { largest: 2_000_000, grace: Duration::from_secs(24 * 3600), power_cut: true };
    let mut server = Server::builder().prepare();
    let disk = LoopDisk::mount(DISK, &server.data());
    server.start_again();
    let alice = server.add_user("alice");
    let mut pushers = Pushers::new(6, "alice", workload, &mut dice);
    let address = server.address();
    const ROUNDS: u32 = 20;
    for round in 1..=ROUNDS {
        let time = Duration::from_millis(dice.within(20..1500));
        pushers.push_for(time, &address, &alice, || {
            disk.cut_power();
            server.kill9();
        });
        disk.repair();
        server.check();
        server.start_again();
        pushers.verify(&server.as_user(&alice), round == ROUNDS);
    }
    server.check();
    println!("{} requests were acknowledged", pushers.acknowledged());
    assert!(pushers.acknowledged() > u64::from(ROUNDS) * 10, "too little was pushed to prove anything");
    drop(server);
    drop(disk);
}
