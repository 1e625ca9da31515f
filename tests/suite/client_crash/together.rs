//! Several at once in one store.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use cove_tests::Image;
use cove_tests::clients::Cove;

use crate::World;

#[test]
fn two_pulls_of_one_image_fetch_each_blob_once() {
    let world = World::with(&Image::new(4, 2_000_000));
    let puller = world.puller(Cove::new(), 6_000_000);
    for pause in [0, 300, 900] {
        puller.proxy.take();
        let (mut one, log) = (puller.start(), puller.cove.scratch().join("other-log"));
        thread::sleep(Duration::from_millis(pause));
        let mut other = puller.cove.words(["pull", &puller.name]).start(&log);
        for process in [&mut one, &mut other] {
            let status = process.wait(Duration::from_secs(60)).expect("a pull ends");
            assert!(status.success(), "{}", process.log());
            assert!(process.log().contains(&format!("Digest: {}", world.digest)), "{}", process.log());
        }
        let mut times = BTreeMap::new();
        for asked in puller.proxy.take().iter().filter(|asked| asked.method == "GET") {
            asked.blob().into_iter().for_each(|blob| *times.entry(blob.to_owned()).or_insert(0) += 1);
        }
        assert_eq!(times.len(), 5, "four layers and a configuration: {times:?}");
        assert!(times.values().all(|times| *times == 1), "asked for, pause {pause} ms: {times:?}");
        puller.is_right();
        puller.leaves_nothing();
    }
}

/// Who is killed while another waits for them does not take the other along.
#[test]
fn a_pull_goes_on_when_the_one_that_it_waits_for_is_killed() {
    let world = World::with(&Image::new(2, 4_000_000));
    let puller = world.puller(Cove::new(), 4_000_000);
    let (mut one, log) = (puller.start(), puller.cove.scratch().join("other-log"));
    thread::sleep(Duration::from_millis(700));
    let mut other = puller.cove.words(["pull", &puller.name]).start(&log);
    thread::sleep(Duration::from_millis(400));
    one.kill9();
    let status = other.wait(Duration::from_secs(60)).expect("a pull ends");
    assert!(status.success(), "{}", other.log());
    puller.is_right();
    puller.leaves_nothing();
}

/// A prune takes nothing away that a pull counts on.
#[test]
fn pulling_beside_prunes_and_removals() {
    let world = World::with(&Image::new(6, 500_000));
    let puller = world.puller(Cove::new(), 3_000_000);
    for _ in 0..5 {
        let mut process = puller.start();
        while process.ended().is_none() {
            puller.cove.words(["system", "prune", "-a", "-f"]).ok();
            puller.cove.words(["images", "-a"]).ok();
            puller.cove.words(["rmi", "-f", &puller.name]).run();
            thread::sleep(Duration::from_millis(30));
        }
        assert!(process.ended().is_some_and(|status| status.success()), "{}", process.log());
        puller.pull();
        puller.is_right();
        puller.leaves_nothing();
    }
}
