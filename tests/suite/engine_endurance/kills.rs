//! Killed anywhere, at any moment: the next commands put it right, and nothing is left.

use cove_tests::endurance::kills;
use cove_tests::{CoveEngine, Dice};

#[test]
fn three_hundred_kills_leave_nothing() {
    std::thread::scope(|scope| {
        for seed in [1, 2] {
            scope.spawn(move || {
                let dice = Dice::from_environment(&format!("kills {seed}"));
                kills(&CoveEngine::new(), dice, 150, |_| {});
            });
        }
    });
}
