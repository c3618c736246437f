//! Keys of issuers, from files: one key as PEM or as bytes, or a JSON Web Key Set.

use std::path::PathBuf;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    VerificationAlgorithm,
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use doorward_launch::file::{self, FileError};
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{KID_MAX, KeyFile, Signing};

/// Keys of one set.
const KEYS_MAX: usize = 64;
/// The shortest key of HS256: what is shorter is found by trying (RFC 7518, 3.2).
const SECRET_MIN: usize = 32;

/// The shortest RSA key, and how long its SubjectPublicKeyInfo is at least. What is a little shorter than the former
/// and passes the latter verifies nothing.
const RSA_BITS_MIN: usize = 2048;
const RSA_DER_MIN: usize = 292;

/// Why a file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read, or somebody else could write or read it.
    #[error(transparent)]
    File(#[from] FileError),
    /// It holds something else.
    #[error("{}: {what}", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// A key, and what a set calls it by.
#[derive(Clone)]
pub(super) struct Key {
    kid: Option<String>,
    key: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// The key that a token is to be verified with: the one of its `kid`, or the only one, if that has no name or the
/// token says none.
pub(super) fn choose<'a>(keys: &'a [Key], kid: Option<&str>) -> Option<&'a DecodingKey> {
    let named = kid.and_then(|kid| keys.iter().find(|key| key.kid.as_deref() == Some(kid)));
    let only = match keys {
        [only] if kid.is_none() || only.kid.is_none() => Some(only),
        _ => None,
    };
    named.or(only).map(|key| &key.key)
}

/// The keys that are in the file now.
pub(super) fn read(file: &KeyFile, signing: Signing) -> Result<Vec<Key>, KeyError> {
    let path = match file {
        KeyFile::Key(path) | KeyFile::Set(path) => path,
    };
    let content = match signing {
        // Whoever can read it can sign.
        Signing::Hs256 => file::read_own_key(path)?,
        Signing::Rs256 | Signing::Es256 | Signing::EdDsa => Zeroizing::new(file::read_public(path)?),
    };
    let read = match file {
        KeyFile::Key(_) => one(&content, signing).map(|key| vec![Key { kid: None, key }]),
        KeyFile::Set(_) => set(&content, signing),
    };
    read.map_err(|what| KeyError::NoKey { path: path.clone(), what })
}

fn one(content: &[u8], signing: Signing) -> Result<DecodingKey, String> {
    match signing {
        // An editor ends the last line.
        Signing::Hs256 => shared_secret(content.strip_suffix(b"\n").unwrap_or(content)),
        Signing::Rs256 | Signing::Es256 | Signing::EdDsa => {
            let der = pem(content).ok_or("is no public key in PEM (BEGIN PUBLIC KEY)")?;
            public(&der, signing)
        }
    }
}

fn shared_secret(secret: &[u8]) -> Result<DecodingKey, String> {
    if secret.len() < SECRET_MIN {
        return Err(format!("the key has {} bytes; HS256 needs {SECRET_MIN} or more", secret.len()));
    }
    Ok(DecodingKey::from_secret(secret))
}

/// A SubjectPublicKeyInfo of the algorithm.
fn public(der: &[u8], signing: Signing) -> Result<DecodingKey, String> {
    let (algorithm, key): (&'static dyn VerificationAlgorithm, _) = match signing {
        Signing::Rs256 => (&RSA_PKCS1_2048_8192_SHA256, DecodingKey::from_rsa_der(der)),
        Signing::Es256 => (&ECDSA_P256_SHA256_FIXED, DecodingKey::from_ec_der(der)),
        Signing::EdDsa => (&ED25519, DecodingKey::from_ed_der(der)),
        Signing::Hs256 => return Err("is no shared secret".into()),
    };
    if ParsedPublicKey::new(algorithm, der).is_err() {
        return Err(format!("is no public key for {}", signing.name()));
    }
    if signing == Signing::Rs256 && der.len() < RSA_DER_MIN {
        return Err(format!("is an RSA key of less than {RSA_BITS_MIN} bits"));
    }
    Ok(key)
}

/// The DER of the one block of a PEM file.
fn pem(content: &[u8]) -> Option<Vec<u8>> {
    let text = content.trim_ascii().strip_prefix(b"-----BEGIN PUBLIC KEY-----")?;
    let text = text.strip_suffix(b"-----END PUBLIC KEY-----")?;
    let packed: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(packed).ok()
}

/// Every key of a set that is for signatures of this algorithm. The others are somebody else's.
fn set(content: &[u8], signing: Signing) -> Result<Vec<Key>, String> {
    let set: Map<String, Value> = serde_json::from_slice(content).map_err(|_| "is no JSON object")?;
    let listed = set.get("keys").and_then(Value::as_array).ok_or("has no list `keys`")?;
    if listed.len() > KEYS_MAX {
        return Err(format!("has more than {KEYS_MAX} keys"));
    }
    let mut keys: Vec<Key> = Vec::new();
    for (place, listed) in listed.iter().enumerate() {
        let number = place + 1;
        let listed = listed.as_object().ok_or_else(|| format!("key {number} is no object"))?;
        if !is_of(listed, signing) {
            continue;
        }
        let kid = match listed.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= KID_MAX => Some(kid.clone()),
            Some(_) => return Err(format!("key {number} has a kid that is no text of {KID_MAX} bytes")),
        };
        if keys.iter().any(|key| key.kid == kid) {
            return Err(format!("key {number} has the same kid as another, or none as another"));
        }
        let key = of_set(listed, signing).map_err(|what| format!("key {number}: {what}"))?;
        keys.push(Key { kid, key });
    }
    Ok(keys)
}

fn is_of(key: &Map<String, Value>, signing: Signing) -> bool {
    let says = |name: &str, word: &str| key.get(name).and_then(Value::as_str) == Some(word);
    let silent = |name: &str| !key.contains_key(name);
    let of = match signing {
        Signing::Hs256 => says("kty", "oct"),
        Signing::Rs256 => says("kty", "RSA"),
        Signing::Es256 => says("kty", "EC") && says("crv", "P-256"),
        Signing::EdDsa => says("kty", "OKP") && says("crv", "Ed25519"),
    };
    of && (silent("use") || says("use", "sig")) && (silent("alg") || says("alg", signing.name()))
}

fn of_set(key: &Map<String, Value>, signing: Signing) -> Result<DecodingKey, String> {
    let text = |name: &str| key.get(name).and_then(Value::as_str).ok_or_else(|| format!("has no {name}"));
    let bytes = |name: &str| {
        let decoded = URL_SAFE_NO_PAD.decode(text(name)?.trim_end_matches('='));
        decoded.map(Zeroizing::new).map_err(|_| format!("{name} is no base64url"))
    };
    let broken = |_| format!("is no key for {}", signing.name());
    match signing {
        Signing::Hs256 => shared_secret(&bytes("k")?),
        Signing::Rs256 => {
            let (n, e) = (bytes("n")?, bytes("e")?);
            let components = RsaPublicKeyComponents { n: &n[..], e: &e[..] };
            let parsed = components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256);
            let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
            if parsed.is_err() || bits < RSA_BITS_MIN {
                return Err(format!("is no RSA key of {RSA_BITS_MIN} bits or more"));
            }
            DecodingKey::from_rsa_components(text("n")?, text("e")?).map_err(broken)
        }
        Signing::Es256 => {
            // Some libraries leave out zeros at the beginning, which RFC 7518, 6.2.1.2 wants there.
            let whole = |number: &[u8]| [&vec![0; 32_usize.saturating_sub(number.len())], number].concat();
            let point = [&[4][..], &whole(&bytes("x")?), &whole(&bytes("y")?)].concat();
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point)
                .map_err(|_| "is no point of P-256".to_owned())?;
            Ok(DecodingKey::from_ec_der(&point))
        }
        Signing::EdDsa => {
            ParsedPublicKey::new(&ED25519, &bytes("x")?[..])
                .map_err(|_| "is no key of Ed25519".to_owned())?;
            DecodingKey::from_ed_components(text("x")?).map_err(broken)
        }
    }
}
