//! Power cuts while pulling: the store lies on a disk that loses whatever was not synced.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use cove_tests::clients::Cove;
use cove_tests::{Dice, Image, LoopDisk, Scratch};

use crate::World;

#[test]
fn after_a_power_cut_every_image_that_is_visible_is_right() {
    let mut dice = Dice::from_environment("power cut while pulling");
    let world = World::with(&Image::new(4, 1_000_000));
    let folder = Scratch::new("powercut");
    let root = folder.join("root");
    let disk = LoopDisk::mount(200_000_000, &root);
    let puller = world.puller(Cove::with_root(&root), 8_000_000);
    let start = Instant::now();
    puller.pull();
    let whole = start.elapsed().as_millis() as u64;
    puller.leaves_nothing();
    let (mut seen, mut resumed) = (0, 0);
    for round in 0..20 {
        let mut process = puller.start();
        // Most cuts come in the middle or near the end, some right after it.
        let to_the_end = round % 4 == 3;
        if to_the_end {
            process.wait(Duration::from_secs(60)).expect("a pull ends");
        } else {
            thread::sleep(Duration::from_millis(dice.within(whole / 5..whole + whole / 5)));
        }
        let done = process.ended().is_some_and(|status| status.success());
        disk.cut_power();
        process.kill9();
        disk.repair();
        started_anew(&root);
        let visible = puller.sees_only_what_is_right();
        assert!(visible || !done, "a pull that had ended well was lost");
        seen += u32::from(visible);
        let asked = puller.pull();
        resumed += u32::from(!visible && asked.iter().any(|asked| asked.range_start().is_some_and(|start| start > 0)));
        puller.is_right();
        puller.leaves_nothing();
    }
    println!("after 20 cuts the image was visible {seen} times, and {resumed} pulls went on in the middle of a blob");
    assert!((5..=18).contains(&seen), "cuts at such moments prove little: visible {seen} times of 20");
}

/// After a real power cut the machine has another boot id than the one that the store has noted beside what was
/// arriving; here it still has the same, so the notes are given another.
fn started_anew(root: &Path) {
    for file in fs::read_dir(root.join("partial")).into_iter().flatten().flatten() {
        let path = file.path();
        let text = fs::read_to_string(&path).unwrap_or_default();
        let (first, rest) = text.split_once('\n').unwrap_or_default();
        if path.extension().is_some_and(|ending| ending == "sums") && !first.is_empty() {
            fs::write(&path, format!("00000000-0000-0000-0000-000000000000\n{rest}")).unwrap();
        }
    }
}
