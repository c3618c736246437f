//! What the claims of a verified token say, and what of it counts. Pure.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value};

use super::Issuer;
use crate::{
    account::Username,
    method::Cause,
    rights::{beyond, common, too_heavy, too_many},
    session::{Identity, Moment, USER},
    vouched::{Limit, Newcomer, Vouched, is_id},
};

/// How far apart the clocks may be, for `nbf` and `iat`. For `exp` there is no leeway.
const LEEWAY: u64 = 30;
/// A token that is to live longer than this has its time in another unit.
const LIFE_MAX: u64 = 315_360_000;

/// Whom the claims are about, now.
pub(super) fn judge(issuer: &Issuer, claims: &Map<String, Value>, now: Moment) -> Result<Vouched, Cause> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if issuer.issuer.is_some() && text("iss") != issuer.issuer.as_deref() {
        return Err(Cause::JwtClaims);
    }
    if let Some(audience) = &issuer.audience
        && !is_for(claims.get("aud"), audience)
    {
        return Err(Cause::JwtClaims);
    }
    if claims.contains_key("token_type") && text("token_type") != Some("access") {
        return Err(Cause::JwtClaims);
    }
    let life = life(claims, now.utc).ok_or(Cause::JwtTime)?;
    let id = match claims.get(&issuer.user_claim) {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) => id.as_u64().ok_or(Cause::JwtClaims)?.to_string(),
        _ => return Err(Cause::JwtClaims),
    };
    let given = given(issuer, claims)?;
    if issuer.kind == USER {
        let acl = weighed(common(&given, &issuer.acl_max, ""))?;
        let user = Username::parse(id).ok_or(Cause::MalformedUser)?;
        return Ok(Vouched::User(user, Limit { acl, ends: now.after(life) }));
    }
    if !is_id(&id) {
        return Err(Cause::JwtClaims);
    }
    let acl = weighed(common(&given, &issuer.acl_max, &id))?;
    let who = Identity::Other { kind: issuer.kind.clone(), pk: id.clone(), name: id.clone(), id };
    Ok(Vouched::Other(Newcomer { who, acl, life: Some(life), only_one: false }))
}

/// What an assertion has room for.
fn weighed(acl: Vec<String>) -> Result<Arc<[String]>, Cause> {
    if too_heavy(&acl) { Err(Cause::JwtClaims) } else { Ok(acl.into()) }
}

fn is_for(aud: Option<&Value>, audience: &str) -> bool {
    match aud {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    }
}

/// What is left of it; None: it has no end, is over, or is not valid yet.
fn life(claims: &Map<String, Value>, now: u64) -> Option<Duration> {
    let left = seconds(claims.get("exp")?)?.checked_sub(now)?;
    if left == 0 || left > LIFE_MAX {
        return None;
    }
    for name in ["nbf", "iat"] {
        if let Some(from) = claims.get(name)
            && seconds(from)? > now.saturating_add(LEEWAY)
        {
            return None;
        }
    }
    Some(Duration::from_secs(left))
}

/// A NumericDate, which may have a fraction.
fn seconds(value: &Value) -> Option<u64> {
    if let Some(whole) = value.as_u64() {
        return Some(whole);
    }
    let number = value.as_f64().filter(|number| number.is_finite() && (0.0..1e15).contains(number))?;
    // Within the range above no digit is lost.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Some(number.trunc() as u64)
}

/// The entries that the token gives, without those that no token may give. Where the issuer gives none itself they
/// are the entry's own.
fn given(issuer: &Issuer, claims: &Map<String, Value>) -> Result<Vec<String>, Cause> {
    let Some(name) = &issuer.acl_claim else { return Ok(issuer.acl_max.to_vec()) };
    let entries: Vec<&str> = match claims.get(name) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(entries)) => entries.split(' ').filter(|entry| !entry.is_empty()).collect(),
        Some(Value::Array(entries)) => {
            entries.iter().map(Value::as_str).collect::<Option<_>>().ok_or(Cause::JwtClaims)?
        }
        Some(_) => return Err(Cause::JwtClaims),
    };
    if too_many(&entries) {
        return Err(Cause::JwtClaims);
    }
    Ok(entries.into_iter().filter(|entry| beyond(entry).is_none()).map(str::to_owned).collect())
}
