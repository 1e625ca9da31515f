//! Two commands on one container at the same instant: nobody hangs, everybody says what docker says, nothing is left.

use cove_tests::endurance::{Kind, pairs};
use cove_tests::{CoveEngine, Dice};

#[test]
fn every_two_commands_at_one_instant() {
    pairs(&CoveEngine::new(), Kind::Running, false, Dice::from_environment("pairs"), |_| {});
}
