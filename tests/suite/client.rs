//! The client: what it pulls is what was pushed, to the last attribute; what it prints is what docker prints.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "client/archives.rs"]
mod archives;
#[path = "client/completion.rs"]
mod completion;
#[path = "client/credentials.rs"]
mod credentials;
#[path = "client/matrix.rs"]
mod matrix;
#[path = "client/network.rs"]
mod network;
#[path = "client/pair.rs"]
mod pair;
#[path = "client/platforms.rs"]
mod platforms;
#[path = "client/pushed.rs"]
mod pushed;
#[path = "client/real.rs"]
mod real;
#[path = "client/settings.rs"]
mod settings;
#[path = "client/terminal.rs"]
mod terminal;
#[path = "client/words.rs"]
mod words;
