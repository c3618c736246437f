//! libFuzzer at the target `http` of doorward-fuzz.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| doorward_fuzz::run("http", input));
