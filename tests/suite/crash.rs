//! What holds when machines, connections and clients fail: the server is killed, uploads break off, disks are
//! full, servers are stopped and started twice, and content is collected while it is pushed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "crash/full.rs"]
mod full;
#[path = "crash/garbage.rs"]
mod garbage;
#[path = "crash/kill.rs"]
mod kill;
#[path = "crash/stop.rs"]
mod stop;
#[path = "crash/twice.rs"]
mod twice;
#[path = "crash/uploads.rs"]
mod uploads;
