//! A signature as a client sends it, under keys of every kind. Nobody here has the private halves.
#![no_main]

use std::sync::OnceLock;

use doorward_certd::{
    key::PublicKey,
    proof::{Asked, Forms, answered},
};

/// Public keys of every kind, made by openssl.
const KEYS: [&[u8]; 4] = [
    include_bytes!("../keys/rsa.pem"),
    include_bytes!("../keys/p256.pem"),
    include_bytes!("../keys/p384.pem"),
    include_bytes!("../keys/ed25519.pem"),
];

fn keys() -> &'static [PublicKey] {
    static PARSED: OnceLock<Vec<PublicKey>> = OnceLock::new();
    PARSED.get_or_init(|| KEYS.iter().map(|pem| PublicKey::parse(pem).expect("a good key")).collect())
}

libfuzzer_sys::fuzz_target!(|signature: &[u8]| {
    let asked = [Asked { text: "x".repeat(128), context: "doorward auth_ssl v1 local".into() }];
    for key in keys() {
        for forms in [Forms::Login, Forms::Registration] {
            assert_eq!(answered(key, signature, &asked, forms), None, "a forged proof");
        }
    }
});
