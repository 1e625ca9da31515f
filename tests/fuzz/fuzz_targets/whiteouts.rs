//! See `cove_fuzz::whiteouts`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cove_fuzz::whiteouts(bytes));
