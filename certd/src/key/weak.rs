//! Keys that anybody can sign for: cheap checks at registration, not proofs of strength.

use std::sync::LazyLock;

use num_bigint::BigUint;

use super::Refused;

/// Odd, without a factor below 8,192, and not made by the library of CVE-2017-15361 (ROCA).
pub(super) fn modulus(n: &BigUint) -> Result<(), Refused> {
    if !n.bit(0) {
        return Err(Refused::Weak("the modulus is even"));
    }
    if SMALL.iter().any(|p| remainder(n, *p) == 0) {
        return Err(Refused::Weak("the modulus has a small factor"));
    }
    let root = n.sqrt();
    if &root * &root == *n {
        return Err(Refused::Weak("the modulus is a square"));
    }
    // That library's primes are powers of 65,537 modulo the product of these primes, so is their product.
    // By chance a modulus looks so once in 2^27 or less.
    if primes(168).skip(1).all(|p| is_power_of_65537(remainder(n, p), p)) {
        return Err(Refused::Weak("it was made by a library whose keys can be factored (CVE-2017-15361)"));
    }
    Ok(())
}

static SMALL: LazyLock<Vec<u64>> = LazyLock::new(|| primes(8192).collect());

fn primes(below: u64) -> impl Iterator<Item = u64> {
    (2..below).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d)))
}

fn remainder(n: &BigUint, p: u64) -> u64 {
    u64::try_from(n % p).unwrap_or(0)
}

fn is_power_of_65537(residue: u64, p: u64) -> bool {
    let generator = 65_537 % p;
    let mut power = 1;
    for _ in 0..p {
        if power == residue {
            return true;
        }
        power = power * generator % p;
    }
    false
}

/// The prime of Ed25519's field.
static FIELD: LazyLock<BigUint> = LazyLock::new(|| (BigUint::from(1_u8) << 255_u32) - 19_u8);
/// The d of its curve: -121665 / 121666.
static CURVE: LazyLock<BigUint> = LazyLock::new(|| {
    let p = &*FIELD;
    (p - 121_665_u32) * BigUint::from(121_666_u32).modpow(&(p - 2_u8), p) % p
});

/// A point of Ed25519 in its one encoding, whose order is not 1, 2, 4 or 8.
///
/// For those eight points signatures verify that nobody signed. Doubling three times leads them to the
/// neutral element; y alone tells, by x^2 = (y^2 - 1) / (d y^2 + 1). With y^2 = n / m that doubles without a division,
/// each of which would be a power as long as the field: y becomes
/// (d n^2 + 2 n m - m^2) / (m^2 + 2 d n m - d n^2).
pub(super) fn edwards_point(encoded: &[u8]) -> Result<(), Refused> {
    let (p, d) = (&*FIELD, &*CURVE);
    let mut bytes = encoded.to_vec();
    if let Some(top) = bytes.last_mut() {
        *top &= 0x7f;
    }
    let y = BigUint::from_bytes_le(&bytes);
    if encoded.len() != 32 || y >= *p {
        return Err(Refused::NotCanonical);
    }
    let one = BigUint::from(1_u8);
    let minus = |a: &BigUint, b: &BigUint| (a + p - b) % p;
    let y2 = &y * &y % p;
    // A fraction is a square where the product of both its parts is.
    let x2 = minus(&y2, &one) * ((d * &y2 + &one) % p) % p;
    if x2 != BigUint::ZERO && x2.modpow(&((p - 1_u8) >> 1_u32), p) != one {
        return Err(Refused::Weak("the point is not on the curve"));
    }
    let mut doubled = (y, one);
    for _ in 0..3 {
        let (n, m) = (&doubled.0 * &doubled.0 % p, &doubled.1 * &doubled.1 % p);
        let (n2, m2, twice) = (d * (&n * &n % p) % p, &m * &m % p, ((&n * &m) << 1_u32) % p);
        doubled = (minus(&((&n2 + &twice) % p), &m2), minus(&((&m2 + d * &twice) % p), &n2));
    }
    if doubled.0 == doubled.1 {
        return Err(Refused::Weak("the point is of small order"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

    use super::*;

    fn weak(why: &'static str) -> Result<(), Refused> {
        Err(Refused::Weak(why))
    }

    #[test]
    fn points_of_small_order_are_refused_and_real_keys_are_not() {
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut minus_one = [0xff; 32];
        (minus_one[0], minus_one[31]) = (0xec, 0x7f);
        let mut eighth = *b"\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f\
                            \x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03\x7a";
        for point in [neutral, minus_one, [0; 32], eighth] {
            assert_eq!(edwards_point(&point), weak("the point is of small order"), "{point:x?}");
        }
        eighth[31] |= 0x80;
        assert_eq!(edwards_point(&eighth), weak("the point is of small order"));
        for seed in 0..8_u8 {
            let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a key");
            assert_eq!(edwards_point(pair.public_key().as_ref()), Ok(()));
        }
    }

    #[test]
    fn a_point_of_small_order_would_verify_a_signature_that_nobody_made() {
        // R = neutral element, s = 0, A = neutral element: s B = R + h A for every message.
        let mut forged = [0; 64];
        forged[0] = 1;
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let verdict = UnparsedPublicKey::new(&ED25519, neutral).verify(b"anything", &forged);
        assert!(verdict.is_ok(), "the library refuses it itself now: the check may go");
    }

    #[test]
    fn y_above_the_field_and_points_off_the_curve_are_refused() {
        assert_eq!(edwards_point(&[0xff; 32]), Err(Refused::NotCanonical));
        let mut two = [0; 32];
        two[0] = 2;
        assert_eq!(edwards_point(&two), weak("the point is not on the curve"));
        assert_eq!(edwards_point(&[]), Err(Refused::NotCanonical));
    }

    #[test]
    fn moduli_with_known_factors_are_refused() {
        let odd = (BigUint::from(1_u8) << 2048_u32) - 1_u8;
        assert_eq!(modulus(&odd), weak("the modulus has a small factor"));
        assert_eq!(modulus(&(&odd - 1_u8)), weak("the modulus is even"));
        // 2^1279 - 1 is a prime.
        let prime = (BigUint::from(1_u8) << 1279_u32) - 1_u8;
        assert_eq!(modulus(&(&prime * &prime)), weak("the modulus is a square"));
        let other = (BigUint::from(1_u8) << 2203_u32) - 1_u8;
        assert_eq!(modulus(&(&prime * &other)), Ok(()));
    }

    #[test]
    fn a_modulus_with_the_structure_of_roca_is_refused() {
        // n = 65537^a mod M, plus a multiple of M: what the library's moduli look like from outside.
        let m: BigUint = primes(168).map(BigUint::from).product();
        let power = BigUint::from(65_537_u32).modpow(&BigUint::from(123_457_u32), &m);
        let mut n = power + (&m << 1800_u32);
        while primes(8192).any(|p| remainder(&n, p) == 0) {
            n += &m << 1_u32;
        }
        assert!(matches!(modulus(&n), Err(Refused::Weak(why)) if why.contains("CVE-2017-15361")));
    }
}
