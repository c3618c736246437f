//! libFuzzer at the target `jwt` of doorward-fuzz.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| doorward_fuzz::run("jwt", input));
