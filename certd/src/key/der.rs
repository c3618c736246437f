//! SubjectPublicKeyInfo (RFC 5280), compared byte for byte with the one encoding that we would make.
//!
//! Elliptic keys are a constant and a point. RSA keys are read by x509-parser and encoded anew: what
//! differs by a byte is refused, whatever the parser is lenient about.

use x509_parser::{prelude::FromDer as _, public_key, x509::SubjectPublicKeyInfo};

use super::Refused;

/// The tag that every SubjectPublicKeyInfo begins with.
pub(super) const SEQUENCE: u8 = 0x30;

/// What stands before the point of a key of fixed size, and how long the point is.
pub(super) struct Fixed {
    pub(super) head: &'static [u8],
    /// The first byte of the point, where only one is possible.
    form: Option<u8>,
    point: usize,
}

/// id-ecPublicKey with prime256v1; 0x04: uncompressed.
pub(super) const P256: Fixed = Fixed {
    head: b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00",
    form: Some(4),
    point: 65,
};
/// id-ecPublicKey with secp384r1.
pub(super) const P384: Fixed = Fixed {
    head: b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00",
    form: Some(4),
    point: 97,
};
/// RFC 8410.
pub(super) const ED25519: Fixed =
    Fixed { head: b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", form: None, point: 32 };

/// rsaEncryption with NULL parameters.
const RSA_ALGORITHM: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";

pub(super) fn is_point(spki: &[u8], fixed: &Fixed) -> bool {
    spki.strip_prefix(fixed.head).is_some_and(|point| {
        point.len() == fixed.point && fixed.form.is_none_or(|form| point.first() == Some(&form))
    })
}

/// Modulus and exponent, big-endian, without the sign byte.
pub(super) fn rsa(spki: &[u8]) -> Result<(&[u8], &[u8]), Refused> {
    let (rest, info) = SubjectPublicKeyInfo::from_der(spki).map_err(|_| Refused::NotCanonical)?;
    if !rest.is_empty() {
        return Err(Refused::NotCanonical);
    }
    if info.algorithm.algorithm != x509_parser::oid_registry::OID_PKCS1_RSAENCRYPTION {
        return Err(Refused::Type);
    }
    // The reader of the bit string borrows from `spki` itself, so the parts outlive `info`.
    let Ok((_, key)) = public_key::RSAPublicKey::from_der(bits(spki, &info.subject_public_key.data)) else {
        return Err(Refused::NotCanonical);
    };
    let (modulus, exponent) = (unsigned(key.modulus), unsigned(key.exponent));
    if encode_rsa(modulus, exponent) != spki {
        return Err(Refused::NotCanonical);
    }
    Ok((modulus, exponent))
}

/// The content of the bit string as a part of `spki`, in which it comes last.
fn bits<'a>(spki: &'a [u8], content: &[u8]) -> &'a [u8] {
    spki.get(spki.len().saturating_sub(content.len())..).unwrap_or_default()
}

fn unsigned(integer: &[u8]) -> &[u8] {
    match integer {
        [0, rest @ ..] => rest,
        other => other,
    }
}

fn encode_rsa(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let numbers = [integer(modulus), integer(exponent)].concat();
    let mut bits = vec![0];
    bits.extend(tagged(SEQUENCE, &numbers));
    tagged(SEQUENCE, &[RSA_ALGORITHM, &tagged(0x03, &bits)].concat())
}

/// A non-negative INTEGER: a zero byte first where the top bit is set.
fn integer(magnitude: &[u8]) -> Vec<u8> {
    match magnitude.first() {
        Some(top) if top & 0x80 == 0 => tagged(0x02, magnitude),
        _ => tagged(0x02, &[&[0], magnitude].concat()),
    }
}

/// Tag, shortest length, content.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=0x7f => out.push(u8::try_from(short).unwrap_or(0)),
        long => {
            let bytes = long.to_be_bytes();
            let used = bytes.iter().position(|b| *b != 0).unwrap_or(0);
            let bytes = bytes.get(used..).unwrap_or_default();
            out.push(0x80 | u8::try_from(bytes.len()).unwrap_or(0));
            out.extend_from_slice(bytes);
        }
    }
    out.extend_from_slice(content);
    out
}
