//! Powers modulo a modulus of RSA, by Montgomery's multiplication: a search does one for each key that may have
//! signed.
//!
//! What it works on is public (keys and signatures), so how long it takes may tell what they are. Limbs have 59 bits, so
//! that a whole column of products, which are 118 bits each, fits in 128 without a carry to look after: the largest
//! modulus has 139 limbs, and two products for each of them are less than 2^127.

use std::{iter, ops::Range};

use num_bigint::BigUint;

const BITS: u32 = 59;
const MASK: u64 = (1 << BITS) - 1;
/// Limbs of 8,192 bits and two more.
const LIMBS_MAX: usize = 139;

/// base ^ exponent modulo `modulus`, for a base below it. None where either of the others is even or the modulus longer
/// than any that is registered.
pub(super) fn power(base: &BigUint, exponent: u64, modulus: &BigUint) -> Option<BigUint> {
    // Two bits more than the modulus: no product needs to be brought below it then, twice as much is good enough.
    let count = usize::try_from((modulus.bits() + 2).div_ceil(BITS.into())).ok()?;
    if !modulus.bit(0) || exponent & 1 == 0 || count > LIMBS_MAX {
        return None;
    }
    let limbs_of = |value: &BigUint| limbs(value, count);
    let own_form = (BigUint::from(1_u8) << (2 * usize::try_from(BITS).ok()? * count)) % modulus;
    let (mut by, base) = (Montgomery::of(limbs_of(modulus))?, limbs_of(base));
    let in_own_form = by.product(&base, &limbs_of(&own_form));
    let mut result = in_own_form.clone();
    // Left to right: 16 squarings and one product for 65,537.
    for bit in (0..=exponent.ilog2()).rev().skip(1) {
        result = by.square(&result);
        if exponent >> bit & 1 == 1 {
            // By the base as it is given at the end, which leads out of Montgomery's form.
            result = by.product(&result, if bit == 0 { &base } else { &in_own_form });
        }
    }
    // An exponent of one has led nowhere.
    Some(if exponent == 1 { value(&base) } else { value(&result) } % modulus)
}

/// A modulus n, with room to work. Values are below 2 n, and so are products of two of them.
struct Montgomery {
    modulus: Vec<u64>,
    /// -1 / n, modulo one limb.
    inverse: u64,
    columns: Vec<u128>,
    quotient: Vec<u64>,
}

impl Montgomery {
    fn of(modulus: Vec<u64>) -> Option<Self> {
        let lowest = *modulus.first()?;
        // Newton: each step doubles the bits that are right, and of an odd number one is from the beginning.
        let inverse = (0..6)
            .fold(1_u64, |inverse, _| inverse.wrapping_mul(2_u64.wrapping_sub(lowest.wrapping_mul(inverse))));
        let (columns, quotient) = (Vec::with_capacity(2 * modulus.len()), Vec::with_capacity(modulus.len()));
        Some(Self { modulus, inverse: inverse.wrapping_neg() & MASK, columns, quotient })
    }

    fn product(&mut self, a: &[u64], b: &[u64]) -> Vec<u64> {
        self.columns.clear();
        self.columns.extend(columns(a.len()).map(|range| sum(within(a, range.clone()), within(b, range))));
        self.reduced()
    }

    /// Every two different limbs meet twice.
    fn square(&mut self, a: &[u64]) -> Vec<u64> {
        self.columns.clear();
        self.columns.extend(columns(a.len()).map(|Range { start, end }| {
            let half = (end - start) / 2;
            let pairs = sum(within(a, start..start + half), within(a, end - half..end)) << 1;
            let middle = within(a, start + half..end - half);
            pairs + sum(middle, middle)
        }));
        self.reduced()
    }

    /// The columns and as many times n as it takes for the lower half to be zero; the upper half of it.
    fn reduced(&mut self) -> Vec<u64> {
        let count = self.modulus.len();
        let (low, high) = self.columns.split_at(count.min(self.columns.len()));
        let lowest = within(&self.modulus, 0..1);
        let mut carried = 0_u128;
        self.quotient.clear();
        for (place, column) in low.iter().enumerate() {
            carried += column + sum(&self.quotient, within(&self.modulus, 1..place + 1));
            self.quotient.push(low_bits(carried).wrapping_mul(self.inverse) & MASK);
            carried += sum(within(&self.quotient, place..place + 1), lowest);
            carried >>= BITS;
        }
        let mut result = Vec::with_capacity(count);
        for (place, column) in high.iter().enumerate() {
            let range = place + 1..count;
            carried += column + sum(within(&self.quotient, range.clone()), within(&self.modulus, range));
            result.push(low_bits(carried));
            carried >>= BITS;
        }
        result.push(low_bits(carried));
        result
    }
}

/// For each column of a product of two numbers of so many limbs, which limbs of either meet there.
fn columns(count: usize) -> impl Iterator<Item = Range<usize>> {
    (1..2 * count).map(move |end| end.saturating_sub(count)..end.min(count))
}

/// Every range that is asked for is there.
fn within(limbs: &[u64], range: Range<usize>) -> &[u64] {
    limbs.get(range).unwrap_or_default()
}

/// The products of the limbs of one with those of the other from its end.
#[inline]
fn sum(a: &[u64], b: &[u64]) -> u128 {
    let product = |a: &u64, b: &u64| u128::from(*a) * u128::from(*b);
    let ((fours, rest), (front, fours_b)) = (a.as_chunks(), b.as_rchunks());
    let mut sum = 0;
    // By fours and one after the other: the time of a search is this loop's.
    for ([a0, a1, a2, a3], [b0, b1, b2, b3]) in fours.iter().zip(fours_b.iter().rev()) {
        sum += product(a0, b3);
        sum += product(a1, b2);
        sum += product(a2, b1);
        sum += product(a3, b0);
    }
    rest.iter().zip(front.iter().rev()).fold(sum, |sum, (a, b)| sum + product(a, b))
}

/// What one limb holds of it.
fn low_bits(wide: u128) -> u64 {
    u64::try_from(wide & u128::from(MASK)).unwrap_or_default()
}

fn limbs(value: &BigUint, count: usize) -> Vec<u64> {
    let mut digits = value.iter_u64_digits();
    let (mut held, mut bits) = (0_u128, 0);
    let next = || {
        if bits < BITS {
            held |= u128::from(digits.next().unwrap_or(0)) << bits;
            bits += u64::BITS;
        }
        let limb = low_bits(held);
        held >>= BITS;
        bits -= BITS;
        limb
    };
    iter::repeat_with(next).take(count).collect()
}

fn value(limbs: &[u64]) -> BigUint {
    let mut bytes = Vec::with_capacity(limbs.len() * 8);
    let (mut held, mut bits) = (0_u128, 0);
    for limb in limbs {
        held |= u128::from(*limb) << bits;
        bits += BITS;
        while bits >= 8 {
            bytes.extend(held.to_le_bytes().first());
            held >>= 8;
            bits -= 8;
        }
    }
    bytes.extend(held.to_le_bytes().first());
    BigUint::from_bytes_le(&bytes)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// As the library has it, which is slower.
    fn agrees(base: &BigUint, exponent: u64, modulus: &BigUint) {
        let right = base.modpow(&BigUint::from(exponent), modulus);
        assert_eq!(power(base, exponent, modulus), Some(right), "{base} ^ {exponent} mod {modulus}");
    }

    fn two_to(bits: u32) -> BigUint {
        BigUint::from(1_u8) << bits
    }

    #[test]
    fn the_ends_of_every_size_of_modulus_agree_with_the_library() {
        // 2,122 bits and two more are 36 whole limbs.
        for bits in [2_041, 2_047, 2_048, 2_049, 2_050, 2_121, 2_122, 2_123, 3_072, 4_097, 8_191, 8_192] {
            let (smallest, largest) = (two_to(bits - 1) + 1_u8, two_to(bits) - 1_u8);
            for modulus in [smallest, largest] {
                let last = &modulus - 1_u8;
                for base in [BigUint::ZERO, BigUint::from(1_u8), two_to(bits / 2) - 1_u8, last] {
                    agrees(&base, 65_537, &modulus);
                }
            }
        }
    }

    #[test]
    fn every_exponent_that_a_key_may_have_agrees_with_the_library() {
        let modulus = two_to(2_048) - 1_942_289_u32;
        let base = two_to(2_047) + 12_345_u32;
        for exponent in [1, 3, 5, 17, 65_537, 65_539, 0xffff_ffff, 0x1_5555_5555, 0x1_ffff_ffff] {
            agrees(&base, exponent, &modulus);
        }
    }

    #[test]
    fn what_montgomery_cannot_do_is_not_done() {
        let (odd, base) = (two_to(2_048) - 1_u8, BigUint::from(2_u8));
        assert!(power(&base, 65_537, &odd).is_some());
        assert_eq!(power(&base, 65_537, &(&odd - 1_u8)), None);
        assert_eq!(power(&base, 65_536, &odd), None);
        assert_eq!(power(&base, 65_537, &BigUint::ZERO), None);
        assert_eq!(power(&base, 65_537, &(two_to(8_200) + 1_u8)), None, "its columns might not fit");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn any_power_agrees_with_the_library(
            base in vec(any::<u8>(), 1..1_024),
            modulus in vec(any::<u8>(), 1..1_024),
            exponent in 1_u64..1 << 33,
        ) {
            let modulus = BigUint::from_bytes_le(&modulus) | BigUint::from(1_u8);
            agrees(&(BigUint::from_bytes_le(&base) % &modulus), exponent | 1, &modulus);
        }
    }
}
