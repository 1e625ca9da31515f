//! cove
fn main() {}
