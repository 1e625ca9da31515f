//! See `cove_fuzz::manifest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cove_fuzz::manifest(bytes));
