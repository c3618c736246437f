//! Whether a signature answers a challenge: every form that docs/protocols/sysadm.md lists, and no other.
//!
//! Pure. The bare form (RSA PKCS#1 v1.5 type 1 of the string itself) is what deployed SysAdm clients
//! make; it says nothing of purpose or server, so only logins take it. All others sign context, newline,
//! string.

mod power;
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
    let block = match key.kind() {
        Kind::Rsa { modulus, exponent } => Some(rsa::recover(modulus, *exponent, signature)?),
        Kind::P256 | Kind::P384 | Kind::Ed25519 => None,
    };
    if let (Forms::Login, Some(block)) = (forms, &block) {
        let bare = asked.iter().position(|one| rsa::is_type_1_of(block, one.text.as_bytes()));
        if bare.is_some() {
            return bare;
        }
    }
    let algorithm = hashed_form(key.kind(), block.as_deref())?;
    asked.iter().position(|one| verifies(algorithm, key, &one.message(), signature))
}

/// The library judges the hashed forms; of RSA the block tells which of them it can be at all.
fn hashed_form(kind: &Kind, block: Option<&[u8]>) -> Option<&'static dyn VerificationAlgorithm> {
    match kind {
        Kind::Rsa { .. } => rsa::hashed_form(block?),
        Kind::P256 => Some(&ECDSA_P256_SHA256_ASN1),
        Kind::P384 => Some(&ECDSA_P384_SHA384_ASN1),
        Kind::Ed25519 => Some(&ED25519),
    }
}

fn verifies(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &PublicKey,
    message: &[u8],
    signature: &[u8],
) -> bool {
    UnparsedPublicKey::new(algorithm, key.spki()).verify(message, signature).is_ok()
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
