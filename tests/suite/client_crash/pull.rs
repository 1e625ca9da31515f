//! `kill -9` of `cove pull`.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use cove_tests::clients::Cove;
use cove_tests::{Asked, Dice, Image, debian};
use rustix::process::Signal;

use crate::{Puller, World};

/// 200 times, each time from an empty store: what has arrived is not asked for again, the image is right, nothing
/// stays behind.
#[test]
fn killed_200_times_while_pulling() {
    let mut dice = Dice::from_environment("kill -9 of pull");
    let world = World::with(&Image::new(5, 2_000_000));
    // Each at the end of its own slow line, so they hardly disturb one another.
    let resumed: u32 = thread::scope(|scope| {
        let pullers: Vec<_> = (0..4)
            .map(|_| {
                let (dice, world) = (dice.split(), &world);
                scope.spawn(move || kill(&world.puller(Cove::new(), 20_000_000), 50, dice))
            })
            .collect();
        pullers.into_iter().map(|puller| puller.join().unwrap()).sum()
    });
    println!("{resumed} of 200 pulls went on where another had been killed");
    assert!(resumed > 60, "only {resumed} kills came when a part had arrived, which proves too little");
}

/// Returns how many pulls have gone on in the middle of a blob.
fn kill(puller: &Puller<'_>, times: u32, mut dice: Dice) -> u32 {
    let start = Instant::now();
    puller.pull();
    let longest = start.elapsed().as_millis() as u64;
    puller.leaves_nothing();
    let mut resumed = 0;
    for _ in 0..times {
        let mut process = puller.start();
        thread::sleep(Duration::from_millis(dice.within(0..longest)));
        process.kill9();
        if go_on(puller) {
            resumed += 1;
        }
        puller.is_right();
        puller.leaves_nothing();
    }
    resumed
}

/// After a kill: pulls to the end, asking only for what is missing. Whether some blob was there in part.
fn go_on(puller: &Puller<'_>) -> bool {
    puller.sees_only_what_is_right();
    let (partial, blobs) = (puller.partial(), puller.blobs());
    let asked = puller.pull();
    let mut resumed = false;
    for (digest, starts) in starts(&asked) {
        assert!(!blobs.contains_key(&digest), "{digest} was there and was asked for again");
        let there = partial.get(&digest).copied().unwrap_or(0);
        assert_eq!(starts[0], there, "where the request for the rest of {digest} begins, and what was there of it");
        assert!(starts.windows(2).all(|two| two[0] < two[1]), "{digest} was asked for more than once: {starts:?}");
        resumed |= there > 0;
    }
    resumed
}

/// Where the requests for each blob begin, the first byte first. (A large one may be asked for in pieces.)
fn starts(asked: &[Asked]) -> BTreeMap<String, Vec<u64>> {
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for asked in asked.iter().filter(|asked| asked.method == "GET") {
        if let Some(digest) = asked.blob() {
            let start = asked.range_start().unwrap_or(0);
            found.entry(digest.trim_start_matches("sha256:").to_owned()).or_default().push(start);
        }
    }
    found.values_mut().for_each(|starts| starts.sort_unstable());
    found
}

/// An image of real size, killed five times on its way: each pull goes on where the one before was killed.
#[test]
fn a_real_image_killed_5_times() {
    let mut dice = Dice::from_environment("kill -9 of a large pull");
    let world = World::with(&Image::from_layers(&[&debian()]));
    let puller = world.puller(Cove::new(), 150_000_000);
    let mut arrived = 0;
    for _ in 0..5 {
        let before = puller.partial();
        puller.proxy.take();
        let mut process = puller.start();
        thread::sleep(Duration::from_millis(dice.within(300..900)));
        process.kill9();
        assert!(!puller.sees_only_what_is_right(), "it cannot be complete yet");
        for (digest, starts) in starts(&puller.proxy.take()) {
            let there = before.get(&digest).copied().unwrap_or(0);
            assert_eq!(starts[0], there, "where the request for the rest of {digest} begins");
        }
        let now = puller.partial().values().copied().max().unwrap_or(0);
        assert!(now >= arrived, "{now} bytes are there, and {arrived} were");
        arrived = now;
    }
    assert!(arrived > 50_000_000, "only {arrived} bytes have arrived in five goes");
    puller.proxy.set_rate(0);
    go_on(&puller);
    puller.is_right();
    puller.leaves_nothing();
}

/// Ctrl-C ends a pull at once, and what has arrived stays.
#[test]
fn interrupted_from_the_keyboard() {
    let world = World::with(&Image::new(2, 5_000_000));
    let puller = world.puller(Cove::new(), 2_000_000);
    let mut process = puller.start();
    thread::sleep(Duration::from_millis(2500));
    process.signal(Signal::INT);
    let status = process.wait(Duration::from_secs(5)).expect("Ctrl-C ends a pull at once");
    assert!(!status.success());
    assert!(!puller.partial().is_empty(), "nothing has stayed: {:?}", puller.cove.content());
    puller.proxy.set_rate(0);
    assert!(go_on(&puller), "the pull began anew");
    puller.is_right();
    puller.leaves_nothing();
}
