//! Who is calling, by authd's signed word: a JWT (RFC 7519) of at most 60 seconds, for one audience.
//!
//! Services that users act through verify it here: certd, and every subsystem that is written in Rust.
//! One algorithm, one issuer, one key: what the token's own header says is only compared. The public key
//! is read from authd's file each time: authd may start after certd, and may make a new key.

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use doorward_launch::file::{self, FileError};
use doorward_proto::acl::{self, Holder};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

/// Longer assertions are not looked at.
pub const JWT_MAX: usize = doorward_proto::ASSERTION_MAX;

/// The longest header, in base64url: twice what authd writes.
const HEADER_MAX: usize = 80;

/// authd's longest validity.
const LIFE_SECONDS: i64 = 60;

/// A step of the clock between authd's stamp and our look at it that is no reason to refuse.
const CLOCK_STEP_SECONDS: i64 = 5;

/// What stands before the 32 bytes of an Ed25519 key (RFC 8410).
const ED25519_HEAD: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

/// The kind of the users of the host.
pub const USER: &str = "user";

/// A caller, as authd says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user's name; of others the kind, `/` and the id, which is no user's name.
    pub user: String,
    /// The uid of a local user. Only these have one.
    pub uid: Option<u32>,
    /// What sort of identity it is: [`USER`], else as authd's configuration names it.
    pub kind: String,
    /// What its authenticator calls it; local users have none.
    pub pk: Option<String>,
    /// What it is called for people, if it is no local user. Its authenticator may call it as somebody else.
    pub name: Option<String>,
    /// Whether the access class is full.
    pub full: bool,
    /// The id that ACL entries mean by `me`: of a local user, the uid in decimal.
    pub auth_id: String,
    /// The ACL entries.
    pub acl: Vec<String>,
    /// The session's id.
    pub session: String,
    /// How the session was opened.
    pub method: String,
    /// When, in seconds of UTC.
    pub login_time: i64,
    /// The assertion's own name (`jti`), under which it was signed once.
    pub assertion: String,
    /// When it was signed, in seconds of UTC.
    pub issued: i64,
    /// When the assertion ends, in seconds of UTC.
    pub expires: i64,
}

impl Caller {
    /// Whether the ACL grants this subject (`sysadm.NAMESPACE.NAME.ACTION`).
    pub fn may(&self, subject: &str) -> bool {
        acl::granted(&self.acl, subject, Holder { auth_id: &self.auth_id, session: &self.session })
    }
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
    #[error("the assertion is not authd's for this service")]
    Invalid(#[from] jsonwebtoken::errors::Error),
    /// Validity over, or longer than a minute, or from the future.
    #[error("the assertion is not valid at this time")]
    Time,
    /// It says so itself: not a user of this host, whom alone this service knows.
    #[error("the caller is no user of this host")]
    NoUser,
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
    aud: String,
    sub: String,
    uid: Option<u32>,
    kind: Option<String>,
    pk: Option<String>,
    name: Option<String>,
    auth_id: String,
    access: String,
    acl: Vec<String>,
    sid: String,
    method: String,
    auth_time: i64,
    iat: i64,
    exp: i64,
    jti: String,
}

/// Checks `jwt`, which must be for `audience`, against `key` (32 bytes, Ed25519) at `now` (seconds of UTC).
///
/// # Errors
/// [`Refused`] says why it is not believed.
pub fn read(jwt: &str, key: &[u8; 32], audience: &str, now: i64) -> Result<Caller, Refused> {
    // A header is parsed before it is believed; authd's has no room for more than what it says.
    let header = jwt.split('.').next().map_or(0, str::len);
    if jwt.len() > JWT_MAX || header > HEADER_MAX {
        return Err(Refused::TooLong);
    }
    let mut rules = Validation::new(Algorithm::EdDSA);
    rules.set_issuer(&["doorward-authd"]);
    rules.set_audience(&[audience]);
    rules.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
    // Judged below, by the time that the caller gives.
    rules.validate_exp = false;
    let claims =
        jsonwebtoken::decode::<Claims>(jwt.as_bytes(), &DecodingKey::from_ed_der(key), &rules)?.claims;
    // The library is content with a list that has it.
    if claims.aud != audience {
        return Err(Refused::Claim("audience"));
    }
    let life = claims.exp.checked_sub(claims.iat).ok_or(Refused::Time)?;
    if now >= claims.exp
        || !(0..=LIFE_SECONDS).contains(&life)
        || claims.iat > now.saturating_add(CLOCK_STEP_SECONDS)
    {
        return Err(Refused::Time);
    }
    let kind = claims.kind.unwrap_or_else(|| USER.to_owned());
    let subject = match (kind.as_str(), claims.uid, &claims.pk) {
        (USER, Some(_), None) => is_user(&claims.sub),
        (USER, ..) | (_, Some(_), _) | (_, _, None) => return Err(Refused::Claim("kind")),
        (kind, None, Some(pk)) => {
            is_word(kind) && is_pk(pk) && claims.sub == format!("{kind}/{}", claims.auth_id)
        }
    };
    if !subject {
        return Err(Refused::Claim("subject"));
    }
    if !is_word(&claims.sid) {
        return Err(Refused::Claim("session"));
    }
    if !is_word(&claims.method) {
        return Err(Refused::Claim("method"));
    }
    if !is_word(&claims.auth_id) {
        return Err(Refused::Claim("auth_id"));
    }
    if !is_word(&claims.jti) {
        return Err(Refused::Claim("name"));
    }
    let full = match claims.access.as_str() {
        "full" => true,
        "limited" => false,
        _ => return Err(Refused::Claim("access class")),
    };
    Ok(Caller {
        user: claims.sub,
        uid: claims.uid,
        kind,
        pk: claims.pk,
        name: claims.name,
        full,
        auth_id: claims.auth_id,
        acl: claims.acl,
        session: claims.sid,
        method: claims.method,
        login_time: claims.auth_time,
        assertion: claims.jti,
        issued: claims.iat,
        expires: claims.exp,
    })
}

/// The grammar of user names in docs/protocols/sysadm.md.
pub fn is_user(name: &str) -> bool {
    (1..=256).contains(&name.len())
        && !name.starts_with('-')
        && !name.chars().any(|c| c.is_control() || c == '/')
}

/// 1 to 128 bytes without control characters: an authenticator's own key of somebody.
pub fn is_pk(text: &str) -> bool {
    (1..=128).contains(&text.len()) && !text.contains(char::is_control)
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
    audience: String,
}

impl Verifier {
    /// For the key in `path`, which need not be there yet; the file is root's or authd's. `audience` is the
    /// service that is called: `certd`, `NAMESPACE/NAME` of a subsystem, or `channel/NAME` of the handler of
    /// a channel.
    pub fn new(path: PathBuf, authd: u32, audience: impl Into<String>) -> Self {
        Self { path, authd, audience: audience.into() }
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
        read(jwt, &key, &self.audience, now)
    }

    /// The same for a service whose callers are users of this host: who has no uid is refused.
    ///
    /// # Errors
    /// [`Refused`] says why he is not believed; [`Refused::NoUser`] of one who is, and is none.
    pub fn user(&self, jwt: &str, now: i64) -> Result<Caller, Refused> {
        let caller = self.caller(jwt, now)?;
        if caller.uid.is_none() { Err(Refused::NoUser) } else { Ok(caller) }
    }

    fn load(&self) -> Result<[u8; 32], KeyError> {
        let text = file::read_public_of(&self.path, self.authd)?;
        key_of(&text).ok_or_else(|| KeyError::Other(self.path.clone()))
    }
}

/// The one key of a PEM file as authd writes it. A second block would bring hyphens, which are no base64.
fn key_of(pem: &[u8]) -> Option<[u8; 32]> {
    let text = pem.trim_ascii().strip_prefix(b"-----BEGIN PUBLIC KEY-----")?;
    let text = text.strip_suffix(b"-----END PUBLIC KEY-----")?;
    let packed: Vec<u8> = text.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    STANDARD.decode(packed).ok()?.strip_prefix(ED25519_HEAD)?.try_into().ok()
}

#[cfg(test)]
mod tests;
