//! See `cove_fuzz::reference`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cove_fuzz::reference(bytes));
