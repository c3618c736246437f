//! Who is calling, by authd's signed word (a JWT of at most 60 seconds, audience "certd").
//!
//! One algorithm, one issuer, one key: what the token's own header says is only compared. The public key
//! is read from authd's file each time: authd may start after certd, and may make a new key.

use std::path::PathBuf;

use doorward_launch::file::{self, FileError};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use crate::pem;

/// Longer assertions are not looked at.
pub const JWT_MAX: usize = 16 * 1024;

/// authd's longest validity.
const LIFE_SECONDS: i64 = 60;

/// A step of the clock between authd's stamp and our look at it that is no reason to refuse.
const CLOCK_STEP_SECONDS: i64 = 5;

/// What stands before the 32 bytes of an Ed25519 key (RFC 8410).
const ED25519_HEAD: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

/// A caller, as authd says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user's name.
    pub user: String,
    /// The uid of a local user.
    pub uid: Option<u32>,
    /// Whether the access class is full.
    pub full: bool,
    /// The ACL entries.
    pub acl: Vec<String>,
    /// The session's id.
    pub session: String,
    /// How the session was opened.
    pub method: String,
    /// When, in seconds of UTC.
    pub login_time: i64,
}

/// Why an assertion is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// No key to verify it with.
    #[error("authd's public key cannot be read")]
    NoKey(#[source] Box<KeyError>),
    /// Longer than any that authd makes.
    #[error("the assertion is too long")]
    TooLong,
    /// The library's verdict: form, algorithm, signature, issuer, audience, missing claims.
    #[error("the assertion is not authd's for certd")]
    Invalid(#[from] jsonwebtoken::errors::Error),
    /// Validity over, or longer than a minute, or from the future.
    #[error("the assertion is not valid at this time")]
    Time,
    /// A user name or id that authd would not sign.
    #[error("the assertion's {0} is malformed")]
    Claim(&'static str),
}

/// Why the key file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It holds something else.
    #[error("{0} is not an Ed25519 public key in PEM; authd writes it at its start")]
    Other(PathBuf),
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    uid: Option<u32>,
    access: String,
    acl: Vec<String>,
    sid: String,
    method: String,
    auth_time: i64,
    iat: i64,
    exp: i64,
}

/// Checks `jwt` against `key` (32 bytes, Ed25519) at `now` (seconds of UTC).
///
/// # Errors
/// [`Refused`] says why it is not believed.
pub fn read(jwt: &str, key: &[u8; 32], now: i64) -> Result<Caller, Refused> {
    if jwt.len() > JWT_MAX {
        return Err(Refused::TooLong);
    }
    let mut rules = Validation::new(Algorithm::EdDSA);
    rules.set_issuer(&["doorward-authd"]);
    rules.set_audience(&["certd"]);
    rules.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
    // Judged below, by the time that the caller gives.
    rules.validate_exp = false;
    let claims =
        jsonwebtoken::decode::<Claims>(jwt.as_bytes(), &DecodingKey::from_ed_der(key), &rules)?.claims;
    let life = claims.exp.checked_sub(claims.iat).ok_or(Refused::Time)?;
    if now >= claims.exp
        || !(0..=LIFE_SECONDS).contains(&life)
        || claims.iat > now.saturating_add(CLOCK_STEP_SECONDS)
    {
        return Err(Refused::Time);
    }
    if !is_user(&claims.sub) {
        return Err(Refused::Claim("subject"));
    }
    if !is_word(&claims.sid) {
        return Err(Refused::Claim("session"));
    }
    if !is_word(&claims.method) {
        return Err(Refused::Claim("method"));
    }
    let full = match claims.access.as_str() {
        "full" => true,
        "limited" => false,
        _ => return Err(Refused::Claim("access class")),
    };
    Ok(Caller {
        user: claims.sub,
        uid: claims.uid,
        full,
        acl: claims.acl,
        session: claims.sid,
        method: claims.method,
        login_time: claims.auth_time,
    })
}

/// The grammar of user names in docs/protocols/sysadm.md.
pub fn is_user(name: &str) -> bool {
    (1..=256).contains(&name.len())
        && !name.starts_with('-')
        && !name.chars().any(|c| c.is_control() || c == '/')
}

/// 1 to 64 characters of printable ASCII without space: ids of sessions and connections, methods.
pub fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// authd's public key, read for every assertion: a key that authd has replaced, because it was stolen, is
/// believed no more from then on.
#[derive(Debug)]
pub struct Verifier {
    path: PathBuf,
    authd: u32,
}

impl Verifier {
    /// For the key in `path`, which need not be there yet; the file is root's or authd's.
    pub fn new(path: PathBuf, authd: u32) -> Self {
        Self { path, authd }
    }

    /// Who is calling. Reads a file of a hundred bytes.
    ///
    /// # Errors
    /// [`Refused`] says why he is not believed.
    pub fn caller(&self, jwt: &str, now: i64) -> Result<Caller, Refused> {
        if jwt.len() > JWT_MAX {
            return Err(Refused::TooLong);
        }
        let key = self.load().map_err(|error| Refused::NoKey(Box::new(error)))?;
        read(jwt, &key, now)
    }

    fn load(&self) -> Result<[u8; 32], KeyError> {
        let text = file::read_public_of(&self.path, self.authd)?;
        pem::decode(&text, "PUBLIC KEY")
            .ok()
            .and_then(|der| der.strip_prefix(ED25519_HEAD)?.try_into().ok())
            .ok_or_else(|| KeyError::Other(self.path.clone()))
    }
}

#[cfg(test)]
mod tests;
