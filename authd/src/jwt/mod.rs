//! Tokens that issuers of the configuration have signed (RFC 7519): who they are about, and for how long.
//!
//! An issuer says no more than its entry lets it: one kind of identity, some ACL entries, never root. The key
//! is chosen by the token's `iss` and then its `kid`, which are compared and nothing else; the algorithm is the
//! entry's, whatever the token says. The reading order is claims, keys, watch.

mod claims;
mod keys;
mod watch;

use std::{path::PathBuf, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward_launch::{Current, Plain};
use jsonwebtoken::{Algorithm, Validation};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::{Map, Value};

use self::keys::Key;
pub use self::keys::KeyError;
use crate::{method::Cause, secret::Jwt, session::Moment, vouched::Vouched};

/// The longest `kid` that is looked at.
const KID_MAX: usize = 128;

/// How an issuer signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum Signing {
    /// HMAC with SHA-256, and a key of 32 bytes or more that the issuer has, too.
    #[serde(rename = "HS256")]
    Hs256,
    /// RSA, PKCS #1 v1.5 with SHA-256; keys of 2,048 bits or more.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA, P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Signing {
    fn algorithm(self) -> Algorithm {
        match self {
            Self::Hs256 => Algorithm::HS256,
            Self::Rs256 => Algorithm::RS256,
            Self::Es256 => Algorithm::ES256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// Where an issuer's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyFile {
    /// One key: PEM, or of HS256 the bytes of the file.
    Key(PathBuf),
    /// A JSON Web Key Set (RFC 7517).
    Set(PathBuf),
}

/// An issuer, and what it may say.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// What sort of identities its tokens are about.
    pub kind: String,
    /// Its `iss`; None: tokens of no other issuer of the configuration, whatever they say of it.
    pub issuer: Option<String>,
    /// One of `aud` must be this; None: it is not looked at.
    pub audience: Option<String>,
    /// How it signs.
    pub signing: Signing,
    /// Where its keys are.
    pub file: KeyFile,
    /// The claim that names the identity.
    pub user_claim: String,
    /// The claim with the ACL entries.
    pub acl_claim: Option<String>,
    /// The most that its identities may do.
    pub acl_max: Arc<[String]>,
}

/// The issuers of the configuration, with their keys as they are now.
#[derive(Debug)]
pub struct Issuers(Vec<(Issuer, Current<Vec<Key>>)>);

impl Issuers {
    /// Reads all keys.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub fn open(issuers: Vec<Issuer>) -> Result<Self, KeyError> {
        let opened = issuers.into_iter().map(|issuer| {
            let keys = keys::read(&issuer.file, issuer.signing)?;
            Ok((issuer, Current::new(keys)))
        });
        Ok(Self(opened.collect::<Result<_, KeyError>>()?))
    }

    /// Whom a token is about, now.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn verify(&self, jwt: &Jwt, now: Moment) -> Result<Vouched, Cause> {
        let text = jwt.expose();
        let (header, body) = parts(text).ok_or(Cause::MalformedJwt)?;
        // RFC 7515, 4.1.11: what must be understood and is not refuses the token.
        if header.contains_key("crit") {
            return Err(Cause::MalformedJwt);
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= KID_MAX => Some(kid.as_str()),
            Some(_) => return Err(Cause::MalformedJwt),
        };
        let (issuer, keys) = self.issuer(&body).ok_or(Cause::NoSuchIssuer)?;
        if header.get("alg").and_then(Value::as_str) != Some(issuer.signing.name()) {
            return Err(Cause::ForgedJwt);
        }
        let keys = keys.get();
        let key = keys::choose(&keys, kid).ok_or(Cause::NoSuchIssuer)?;
        let mut rules = Validation::new(issuer.signing.algorithm());
        // What the claims say is judged by `claims`, with a clock of its own.
        rules.required_spec_claims.clear();
        (rules.validate_exp, rules.validate_nbf, rules.validate_aud) = (false, false, false);
        let decoded = jsonwebtoken::decode::<IgnoredAny>(text.as_bytes(), key, &rules);
        decoded.map_err(|_| Cause::ForgedJwt)?;
        claims::judge(issuer, &body, now)
    }

    /// By `iss`, or the only one that says nothing of it.
    fn issuer(&self, body: &Map<String, Value>) -> Option<&(Issuer, Current<Vec<Key>>)> {
        let iss = body.get("iss").and_then(Value::as_str);
        let named = iss.and_then(|iss| self.0.iter().find(|(of, _)| of.issuer.as_deref() == Some(iss)));
        named.or_else(|| self.0.iter().find(|(of, _)| of.issuer.is_none()))
    }
}

/// The header and the claims, before anything of them is believed.
fn parts(text: &str) -> Option<(Map<String, Value>, Map<String, Value>)> {
    let mut parts = text.split('.');
    let (header, body, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    let object = |part: &str| match Plain::read(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()? {
        Value::Object(object) => Some(object),
        _ => None,
    };
    Some((object(header)?, object(body)?))
}

#[cfg(test)]
mod tests;
