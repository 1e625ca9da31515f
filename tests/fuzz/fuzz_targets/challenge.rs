//! See `cove_fuzz::challenge`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cove_fuzz::challenge(bytes));
