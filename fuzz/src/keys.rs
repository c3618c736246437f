//! What is registered and proven.

use std::sync::LazyLock;

use doorward_certd::{
    key::PublicKey,
    proof::{Asked, Forms, answered},
    x509,
};

/// Public keys of every kind, made by openssl.
pub(crate) const KEYS: &[&[u8]] = &[
    include_bytes!("../keys/rsa.pem"),
    include_bytes!("../keys/p256.pem"),
    include_bytes!("../keys/p384.pem"),
    include_bytes!("../keys/ed25519.pem"),
];

/// A public key as a client sends it. One that is taken is taken again in its canonical form.
pub(crate) fn key(input: &[u8]) -> bool {
    let Ok(key) = PublicKey::parse(input) else { return false };
    let again = PublicKey::from_spki(key.spki()).expect("what was taken is taken again");
    assert_eq!(key.fingerprint(), again.fingerprint());
    true
}

pub(crate) const CERTIFICATES: &[&[u8]] = &[include_bytes!("../keys/certificate.der")];

/// A certificate as a client sends it. What the policy takes, the reader reads.
pub(crate) fn certificate(input: &[u8]) -> bool {
    let read = x509::read(input).is_ok();
    assert!(read || x509::policy(input, 1_800_000_000).is_err());
    read
}

pub(crate) const PROOFS: &[&[u8]] = &[&[0; 64], &[0xff; 256], b"\x30\x06\x02\x01\x01\x02\x01\x01", &[1; 96]];

/// A signature as a client sends it, under keys of every kind. Nobody here has the private halves, so that "taken" is to
/// have been looked at by all of them.
pub(crate) fn proof(input: &[u8]) -> bool {
    static PARSED: LazyLock<Vec<PublicKey>> =
        LazyLock::new(|| KEYS.iter().map(|pem| PublicKey::parse(pem).expect("a good key")).collect());
    let asked = [Asked { text: "x".repeat(128), context: "doorward auth_ssl v1 local".into() }];
    for key in PARSED.iter() {
        for forms in [Forms::Login, Forms::Registration] {
            assert_eq!(answered(key, input, &asked, forms), None, "a forged proof");
        }
    }
    true
}
