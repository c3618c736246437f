//! The args of `rpc/settings`.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::value::RawValue;

use super::{bad, object, text};
use crate::{
    call::{Call, Error, KeyRequest, Registration, username_is_well_formed},
    namespace::{Row, Subject},
};

/// The longest key, as PEM or DER.
const KEY_MAX: usize = 16 << 10;
/// The longest certificate: PEM of 16 KiB DER, with line ends.
const CERTIFICATE_MAX: usize = 24 << 10;
/// The longest signature; RSA of 8,192 bits has 1,024 bytes.
const PROOF_MAX: usize = 2 << 10;
/// The longest nickname or e-mail address, in bytes; certd counts characters and takes fewer.
const TEXT_MAX: usize = 1 << 10;

/// What the args ask for. An action that there is not means nothing at all; args that are wrong are told
/// so after the right to the action was looked at.
pub(super) fn decode(row: &'static Row, args: &str) -> (Option<Subject>, Call) {
    let action = match action(args) {
        Ok(action) => action,
        Err(error) => return (None, Call::Malformed(error)),
    };
    let Some(subject) = row.subject(&action) else { return (None, Call::Absent) };
    let request = match subject.action.name {
        "list_ssl_certs" => Ok(KeyRequest::List),
        "list_ssl_checksums" => Ok(KeyRequest::Checksums),
        "register_challenge" => Ok(KeyRequest::Challenge),
        "register_ssl_cert" => register(args),
        "revoke_ssl_cert" => revoke(args),
        _ => return (None, Call::Absent),
    };
    (Some(subject), request.map_or_else(Call::Malformed, Call::Settings))
}

pub(super) fn action(args: &str) -> Result<Cow<'_, str>, Error> {
    let [action] = object(args, &["action"])?;
    text("action", action)?.map_or_else(|| bad("action is missing"), Ok)
}

fn register(args: &str) -> Result<KeyRequest, Error> {
    let [public_key, certificate, nickname, email, proof] =
        object(args, &["pub_key", "certificate", "nickname", "email", "proof"])?;
    let proof = match text("proof", proof)? {
        None => Vec::new(),
        Some(given) => base64(&given).map_or_else(|| bad("proof is not base64"), Ok)?,
    };
    Ok(KeyRequest::Register(Box::new(Registration {
        public_key: public_key_of(public_key)?,
        certificate: match text("certificate", certificate)? {
            None => Vec::new(),
            Some(given) => within("certificate", CERTIFICATE_MAX, unpacked("certificate", &given)?)?,
        },
        nickname: words("nickname", nickname)?,
        email: words("email", email)?,
        proof: within("proof", PROOF_MAX, proof)?,
    })))
}

fn revoke(args: &str) -> Result<KeyRequest, Error> {
    let [public_key, user] = object(args, &["pub_key", "user"])?;
    let user = text("user", user)?.unwrap_or_default().into_owned();
    if !user.is_empty() && !username_is_well_formed(&user) {
        return bad("user cannot be a user's name");
    }
    Ok(KeyRequest::Revoke { public_key: public_key_of(public_key)?, user })
}

fn public_key_of(value: Option<&RawValue>) -> Result<Vec<u8>, Error> {
    match text("pub_key", value)? {
        None => bad("pub_key is missing"),
        Some(given) if given.is_empty() => bad("pub_key is empty"),
        Some(given) => within("pub_key", KEY_MAX, unpacked("pub_key", &given)?),
    }
}

fn words(field: &'static str, value: Option<&RawValue>) -> Result<String, Error> {
    let given = text(field, value)?.unwrap_or_default();
    if given.len() > TEXT_MAX { bad(format!("{field} is too long")) } else { Ok(given.into_owned()) }
}

fn within(field: &'static str, most: usize, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
    if bytes.len() > most { bad(format!("{field} is too long")) } else { Ok(bytes) }
}

/// Bare PEM as it is; everything else is base64, of PEM or of DER.
fn unpacked(field: &'static str, given: &str) -> Result<Vec<u8>, Error> {
    if given.trim_ascii_start().starts_with("-----BEGIN ") {
        return Ok(given.as_bytes().to_vec());
    }
    base64(given).map_or_else(|| bad(format!("{field} is neither PEM nor base64")), Ok)
}

/// Standard base64 with padding; white space does not count, programs break lines.
pub(super) fn base64(given: &str) -> Option<Vec<u8>> {
    let packed: Vec<u8> = given.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(packed).ok()
}

#[cfg(test)]
mod tests;
