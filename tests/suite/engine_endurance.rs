//! What the engine endures: kills, two commands at one instant, a start of the machine, a full disk, floods.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "engine_endurance/floods.rs"]
mod floods;
#[path = "engine_endurance/full_disk.rs"]
mod full_disk;
#[path = "engine_endurance/kills.rs"]
mod kills;
#[path = "engine_endurance/pairs.rs"]
mod pairs;
#[path = "engine_endurance/reboot.rs"]
mod reboot;
#[path = "engine_endurance/silent.rs"]
mod silent;
