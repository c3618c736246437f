//! The public RSA operation and the bare form, which no library offers: the whole block is rebuilt and
//! compared, nothing of it is parsed (Bleichenbacher 2006, CVE-2014-1568).

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, VerificationAlgorithm};
use num_bigint::BigUint;
use subtle::ConstantTimeEq as _;

use super::power::power;

/// The block under the signature, as long as the modulus. None when the signature's length is another or
/// its value is not below the modulus; nor of a key with an even number in it, which none is that was registered.
pub(super) fn recover(modulus: &BigUint, exponent: u64, signature: &[u8]) -> Option<Vec<u8>> {
    let length = usize::try_from(modulus.bits().div_ceil(8)).ok()?;
    if signature.len() != length {
        return None;
    }
    let value = BigUint::from_bytes_be(signature);
    if value >= *modulus {
        return None;
    }
    let bytes = power(&value, exponent, modulus)?.to_bytes_be();
    let mut block = vec![0; length.checked_sub(bytes.len())?];
    block.extend(bytes);
    Some(block)
}

/// 00 01 FF .. FF 00 text: PKCS#1 v1.5 type 1 without a DigestInfo.
pub(super) fn is_type_1_of(block: &[u8], text: &[u8]) -> bool {
    let Some(padding @ 8..) = block.len().checked_sub(3 + text.len()) else {
        return false;
    };
    let mut expected = vec![0, 1];
    expected.resize(2 + padding, 0xff);
    expected.push(0);
    expected.extend_from_slice(text);
    expected.ct_eq(block).into()
}

/// The hashed form that a block can be: PKCS#1 v1.5 begins with 00 01 and at least eight FF (RFC 8017 section 9.2), PSS
/// ends with BC. What is before that in PSS is random, so 00 01 alone says nothing: of a modulus of 2,049 bits one block
/// in 256 begins so.
pub(super) fn hashed_form(block: &[u8]) -> Option<&'static dyn VerificationAlgorithm> {
    match block {
        [0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, ..] => Some(&RSA_PKCS1_2048_8192_SHA256),
        [.., 0xbc] => Some(&RSA_PSS_2048_8192_SHA256),
        _ => None,
    }
}
