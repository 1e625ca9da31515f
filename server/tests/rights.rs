//! Who may do what: 100,000 random requests through the router, compared with the reference of
//! `cove_tests::rights`. The same model drives the program over HTTP, on every back end, in `tests/suite/rights.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod common;

use common::InProcess;
use cove_tests::Dice;
use cove_tests::rights::{Counts, World};

/// All requests, and how many registries share them.
const REQUESTS: usize = 100_000;
const WORLDS: usize = 25;
/// Unless `COVE_TESTS_SEED` says otherwise.
const SEED: u64 = 20_240_229;

#[test]
fn every_answer_is_the_one_that_the_rules_ask_for() {
    let seed = std::env::var("COVE_TESTS_SEED").map_or(SEED, |seed| seed.parse().expect("COVE_TESTS_SEED is a number"));
    println!("COVE_TESTS_SEED={seed}");
    let mut dice = Dice::new(seed);
    let mut all = Counts::default();
    for number in 0..WORLDS {
        let default_public = number % 4 == 3;
        let mut subject = InProcess::start(default_public);
        let mut world = World::new(dice.number(), default_public, &mut subject);
        world.run(REQUESTS / WORLDS, &mut subject);
        all += world.counts;
    }
    println!("{all:#?}");
    all.assert_varied();
}
