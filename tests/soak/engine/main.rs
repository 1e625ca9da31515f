//! The long forms of `tests/suite/engine_endurance`, by hand.
//!
//! `soak-engine kills 3000`, `soak-engine pairs`, `soak-engine log 10`; `TMPDIR` should be a short path.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

use cove_tests::endurance::{Kind, kills, log_of, pairs};
use cove_tests::{CoveEngine, Dice};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let dice = || Dice::from_environment("soak");
    match words.as_slice() {
        ["kills", count] => {
            let count = count.parse().expect("a number of kills");
            kills(&CoveEngine::new(), dice(), count, |done| println!("{done} kills"));
        }
        ["pairs"] => {
            for kind in [Kind::Running, Kind::Passing, Kind::Paused, Kind::Ended] {
                pairs(&CoveEngine::new(), kind, true, dice(), |row| println!("{kind:?}: row {row}"));
            }
        }
        ["log", gigabytes] => {
            let gigabytes: u64 = gigabytes.parse().expect("a number of gigabytes");
            log_of(&CoveEngine::new(), gigabytes << 30);
        }
        _ => panic!("kills COUNT | pairs | log GIGABYTES"),
    }
}
