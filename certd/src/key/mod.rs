//! A public key that may be registered: read from what a client sent, in one canonical form.
//!
//! One key has one encoding and so one fingerprint; the registry's "a key has one owner" rests on that.

mod der;
mod weak;

use std::fmt;

use aws_lc_rs::{digest, signature};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use num_bigint::BigUint;

use crate::pem;

/// More than any encoding of a key that is taken: base64 of the PEM of 8,192 bits is 1,900 bytes.
pub const GIVEN_MAX: usize = 4096;

/// The largest RSA modulus in bytes, and so the largest signature of all.
pub const SIGNATURE_MAX: usize = 1024;

/// SHA-256 of the key's SubjectPublicKeyInfo: its identity.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of a DER-encoded SubjectPublicKeyInfo.
    pub fn of(spki: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, spki).as_ref());
        Self(bytes)
    }

    /// From the wire: 32 bytes.
    pub fn from_wire(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SHA256:{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a key is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// More bytes than any key needs.
    #[error("is longer than {GIVEN_MAX} bytes")]
    TooLong,
    /// Not one PEM block.
    #[error(transparent)]
    Pem(#[from] pem::Refused),
    /// Neither PEM nor DER nor base64 of one of them.
    #[error("is neither PEM nor DER")]
    Unreadable,
    /// Not the one encoding that DER allows, or more bytes after it.
    #[error("is not a canonical DER SubjectPublicKeyInfo, alone")]
    NotCanonical,
    /// Another algorithm or curve, or a compressed point.
    #[error("is of a type that is not taken; taken are RSA, P-256, P-384 (uncompressed) and Ed25519")]
    Type,
    /// An RSA modulus out of bounds.
    #[error("is an RSA key of {0} bits; from 2048 to 8192 are taken")]
    Size(u64),
    /// A public exponent out of bounds.
    #[error("has an RSA exponent that is even, below 65537 or longer than 33 bits")]
    Exponent,
    /// The private key can be computed from it.
    #[error("is weak: {0}")]
    Weak(&'static str),
}

/// What a key can verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// RSA: odd modulus of 2,048 to 8,192 bits, odd exponent from 65,537 of at most 33 bits.
    Rsa {
        /// n.
        modulus: BigUint,
        /// e.
        exponent: u64,
    },
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// Ed25519.
    Ed25519,
}

/// A key in its canonical encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    spki: Vec<u8>,
    kind: Kind,
}

impl PublicKey {
    /// From a client: PEM, DER, or base64 of either; one key and nothing after it; a key that is fit to be
    /// registered. That takes long to find out.
    ///
    /// # Errors
    /// [`Refused`] says why.
    pub fn parse(given: &[u8]) -> Result<Self, Refused> {
        let key = Self::read(given)?;
        key.fit()?;
        Ok(key)
    }

    /// The same, fit or not: which key it is.
    ///
    /// # Errors
    /// [`Refused`] says why.
    pub fn read(given: &[u8]) -> Result<Self, Refused> {
        if given.len() > GIVEN_MAX {
            return Err(Refused::TooLong);
        }
        let spki = match Self::bare(given)? {
            Some(spki) => spki,
            None => {
                let inner = pem::base64(given).ok_or(Refused::Unreadable)?;
                Self::bare(&inner)?.ok_or(Refused::Unreadable)?
            }
        };
        Self::from_spki(&spki)
    }

    /// PEM or DER, or None for what looks like neither.
    fn bare(given: &[u8]) -> Result<Option<Vec<u8>>, Refused> {
        if pem::is_pem(given) {
            return Ok(Some(pem::decode(given, "PUBLIC KEY")?));
        }
        Ok((given.first() == Some(&der::SEQUENCE)).then(|| given.to_vec()))
    }

    /// From DER, without the search for weaknesses: for keys that were registered before.
    ///
    /// # Errors
    /// [`Refused`] says why.
    pub fn from_spki(spki: &[u8]) -> Result<Self, Refused> {
        if spki.len() > GIVEN_MAX {
            return Err(Refused::TooLong);
        }
        let kind = if der::is_point(spki, &der::P256) {
            Kind::P256
        } else if der::is_point(spki, &der::P384) {
            Kind::P384
        } else if der::is_point(spki, &der::ED25519) {
            Kind::Ed25519
        } else {
            let (modulus, exponent) = der::rsa(spki)?;
            let modulus = BigUint::from_bytes_be(modulus);
            if !(2048..=8192).contains(&modulus.bits()) {
                return Err(Refused::Size(modulus.bits()));
            }
            let exponent = BigUint::from_bytes_be(exponent);
            let exponent = u64::try_from(&exponent).map_err(|_| Refused::Exponent)?;
            if exponent & 1 == 0 || exponent < 65_537 || exponent >> 33 != 0 {
                return Err(Refused::Exponent);
            }
            Kind::Rsa { modulus, exponent }
        };
        Ok(Self { spki: spki.to_vec(), kind })
    }

    /// Refuses what only looks like a key: points off the curve, of small order, moduli with known factors.
    fn fit(&self) -> Result<(), Refused> {
        let on_curve = |algorithm| {
            signature::ParsedPublicKey::new(algorithm, &self.spki)
                .map(drop)
                .map_err(|_| Refused::Weak("the point is not on the curve"))
        };
        match &self.kind {
            Kind::Rsa { modulus, .. } => weak::modulus(modulus),
            Kind::P256 => on_curve(&signature::ECDSA_P256_SHA256_ASN1),
            Kind::P384 => on_curve(&signature::ECDSA_P384_SHA384_ASN1),
            Kind::Ed25519 => {
                weak::edwards_point(self.spki.get(der::ED25519.head.len()..).unwrap_or_default())
            }
        }
    }

    /// The SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// What it can verify.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Its identity.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.spki)
    }

    /// Which signatures can be its own.
    pub fn class(&self) -> SignatureClass {
        SignatureClass(match &self.kind {
            // 8,192 bits at most: 1,024 bytes.
            Kind::Rsa { modulus, .. } => u16::try_from(modulus.bits().div_ceil(8)).unwrap_or(u16::MAX),
            Kind::P256 => 72,
            Kind::P384 => 104,
            Kind::Ed25519 => 64,
        })
    }
}

/// Keys whose signatures have the same length (for ECDSA: the same greatest length).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignatureClass(pub u16);

impl SignatureClass {
    /// The only keys that can have made a signature of this length.
    ///
    /// ECDSA's DER shrinks with leading zeros of r and s; eight bytes less happens once in 2^60.
    pub fn of_length(signature: usize) -> Option<Self> {
        match signature {
            64 => Some(Self(64)),
            65..=72 => Some(Self(72)),
            96..=104 => Some(Self(104)),
            256..=SIGNATURE_MAX => u16::try_from(signature).ok().map(Self),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
