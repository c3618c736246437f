//! A public key as a client sends it. One that is taken is taken again in its canonical form.
#![no_main]

use doorward_certd::key::PublicKey;

libfuzzer_sys::fuzz_target!(|given: &[u8]| {
    if let Ok(key) = PublicKey::parse(given) {
        let again = PublicKey::from_spki(key.spki()).expect("what was taken is taken again");
        assert_eq!(key.fingerprint(), again.fingerprint());
    }
});
