//! Which certificates are taken beside a key. Pure: `now` is an argument.
//!
//! A certificate proves nothing here: no chain is built and its signature is not looked at. What counts
//! is possession of the key; the certificate limits when it may be used and says whose it is.

use x509_parser::{
    certificate::{X509Certificate, X509CertificateParser},
    nom::Parser as _,
};

use crate::{
    key::{self, PublicKey},
    pem,
};

/// The largest certificate, DER.
pub const DER_MAX: usize = 16 * 1024;

/// The largest certificate as a client sends it: PEM of [`DER_MAX`], with line ends.
pub const GIVEN_MAX: usize = 24 * 1024;

/// Longer subjects are cut: this is for people to read.
const SUBJECT_MAX: usize = 256;

/// Why a certificate is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// More bytes than are read.
    #[error("is larger than 16 KiB of DER")]
    TooLong,
    /// Not one PEM block.
    #[error(transparent)]
    Pem(#[from] pem::Refused),
    /// Not X.509.
    #[error("is not an X.509 certificate in DER or PEM")]
    Unreadable,
    /// More bytes after it.
    #[error("is followed by more bytes; exactly one certificate is taken")]
    Trailing,
    /// No version that exists.
    #[error("is of a version that does not exist; v1, v2 and v3 are taken")]
    Version,
    /// Ends before it begins.
    #[error("ends before it begins")]
    Period,
    /// Before its time.
    #[error("is not valid yet")]
    NotYet,
    /// After its time.
    #[error("has expired")]
    Expired,
    /// Its key.
    #[error("holds a key that {0}")]
    Key(#[from] key::Refused),
    /// Another key than the one it comes with.
    #[error("is for another key")]
    OtherKey,
}

/// A certificate that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its DER.
    pub der: Vec<u8>,
    /// Its key.
    pub key: PublicKey,
    /// Its subject, printable ASCII.
    pub subject: String,
    /// Seconds of UTC.
    pub not_before: i64,
    /// Seconds of UTC.
    pub not_after: i64,
}

/// The policy, for a certificate in PEM or DER at `now` (seconds of UTC).
///
/// Its key may have any weakness: looking for them takes long. Whoever asks has a key that is fit, and compares.
///
/// # Errors
/// [`Refused`] says why.
pub fn policy(given: &[u8], now: i64) -> Result<Accepted, Refused> {
    let accepted = read(given)?;
    if now < accepted.not_before {
        return Err(Refused::NotYet);
    }
    if now > accepted.not_after {
        return Err(Refused::Expired);
    }
    Ok(accepted)
}

/// All of the policy that does not depend on the time.
///
/// # Errors
/// [`Refused`] says why.
pub fn read(given: &[u8]) -> Result<Accepted, Refused> {
    if given.len() > GIVEN_MAX {
        return Err(Refused::TooLong);
    }
    let der = if pem::is_pem(given) { pem::decode(given, "CERTIFICATE")? } else { given.to_vec() };
    if der.len() > DER_MAX {
        return Err(Refused::TooLong);
    }
    // Extensions decide nothing here, so they are not parsed.
    let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
    let (rest, certificate): (_, X509Certificate<'_>) =
        parser.parse(&der).map_err(|_| Refused::Unreadable)?;
    if !rest.is_empty() {
        return Err(Refused::Trailing);
    }
    if certificate.version().0 > 2 {
        return Err(Refused::Version);
    }
    let validity = certificate.validity();
    let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    if not_after < not_before {
        return Err(Refused::Period);
    }
    let key = PublicKey::from_spki(certificate.public_key().raw)?;
    let subject = printable(&certificate.subject().to_string());
    Ok(Accepted { key, subject, not_before, not_after, der })
}

fn printable(text: &str) -> String {
    text.chars().take(SUBJECT_MAX).map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests;
