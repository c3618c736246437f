//! Whether a signature answers a challenge: every form that docs/protocols/sysadm.md lists, and no other.
//!
//! Pure. The bare form (RSA PKCS#1 v1.5 type 1 of the string itself) is what deployed SysAdm clients
//! make; it says nothing of purpose or server, so only logins take it. All others sign context, newline,
//! string.

mod rsa;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm,
};

use crate::key::{Kind, PublicKey};

/// What may be signed to prove possession.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forms {
    /// The bare string too.
    Login,
    /// Context and string together only.
    Registration,
}

/// A challenge as its answer is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The random string.
    pub text: String,
    /// The context that is signed with it.
    pub context: String,
}

impl Asked {
    fn message(&self) -> Vec<u8> {
        [self.context.as_bytes(), b"\n", self.text.as_bytes()].concat()
    }
}

/// Which of the challenges `signature` answers by `key`, if any.
pub fn answered(key: &PublicKey, signature: &[u8], asked: &[Asked], forms: Forms) -> Option<usize> {
    let by = |algorithm: &'static dyn VerificationAlgorithm| {
        let key = UnparsedPublicKey::new(algorithm, key.spki());
        asked.iter().position(|one| key.verify(&one.message(), signature).is_ok())
    };
    match key.kind() {
        Kind::Rsa { modulus, exponent } => {
            let block = rsa::recover(modulus, *exponent, signature)?;
            let bare = |one: &Asked| forms == Forms::Login && rsa::is_type_1_of(&block, one.text.as_bytes());
            // The library judges the hashed forms; the block tells which of them it can be at all.
            asked.iter().position(bare).or_else(|| rsa::hashed_form(&block).and_then(by))
        }
        Kind::P256 => by(&ECDSA_P256_SHA256_ASN1),
        Kind::P384 => by(&ECDSA_P384_SHA384_ASN1),
        Kind::Ed25519 => by(&ED25519),
    }
}

#[cfg(test)]
mod tests;
