//! `kill -9` of the server at random moments of concurrent pushes: what was acknowledged is there.

use std::time::Duration;

use cove_tests::{Dice, Pushers, Server, Workload};

const LARGEST: u64 = 30_000_000;
const PUSHERS: usize = 4;

/// With collection at full speed: whatever manifests and tags need must stay, everything else goes.
#[test]
fn killed_30_times_while_pushing_and_collecting() {
    let grace = Duration::from_secs(1);
    let server = Server::builder().args(["--gc-grace", "1s", "--upload-expiry", "2s"]).start();
    kill_and_verify(server, 30, Workload { largest: LARGEST, grace, power_cut: false });
}

/// Without collection: every single blob must stay.
#[test]
fn killed_20_times_while_pushing() {
    let grace = Duration::from_secs(24 * 3600);
    kill_and_verify(Server::start(), 20, Workload { largest: LARGEST / 10, grace, power_cut: false });
}

fn kill_and_verify(mut server: Server, rounds: u32, workload: Workload) {
    let mut dice = Dice::from_environment("kill -9");
    let mut pushers = Pushers::new(PUSHERS, "alice", workload, &mut dice);
    let alice = server.add_user("alice");
    let address = server.address();
    for round in 1..=rounds {
        let time = Duration::from_millis(dice.within(20..1200));
        pushers.push_for(time, &address, &alice, || server.kill9());
        if round % 2 == 0 {
            server.check();
        }
        server.start_again();
        pushers.verify(&server.as_user(&alice), round == rounds);
        if round % 2 == 1 {
            server.check();
        }
    }
    println!("{} requests were acknowledged", pushers.acknowledged());
    assert!(pushers.acknowledged() > u64::from(rounds) * 10, "too little was pushed to prove anything");
    // Beside pushes, a check finds nothing either.
    pushers.push_for(Duration::from_millis(100), &address, &alice, || (0..5).for_each(|_| server.check()));
    pushers.verify(&server.as_user(&alice), false);
}
