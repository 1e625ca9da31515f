//! See `cove_fuzz::tar`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cove_fuzz::tar(bytes));
