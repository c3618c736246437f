//! A certificate as a client sends it. What the policy takes, the reader reads.
#![no_main]

use doorward_certd::x509;

libfuzzer_sys::fuzz_target!(|given: &[u8]| {
    if x509::policy(given, 1_800_000_000).is_ok() {
        assert!(x509::read(given).is_ok());
    }
});
