//! `cove`: push, pull and run images with docker's words, flags and output.

mod arguments;
mod command_line;
mod completion;
mod filter;
mod format;
mod help;
mod printer;
mod table;
mod template;
mod units;
mod usage;
fn main() {}
