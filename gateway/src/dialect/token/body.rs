//! Bodies of the token API.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    call::{Credentials, Identity, SCOPES_MAX, TokenWish},
    dialect::json::{self as members, NoMembers},
    utc,
};

/// Reads what a token is to be like. What is given as `expiration` and is no positive integer is only told
/// later: the credentials come first.
///
/// # Errors
/// What is wrong with the body.
pub fn wish(body: &[u8], depth: usize, credentials: Credentials) -> Result<TokenWish, &'static str> {
    let [backend, expiration] = object(body, depth, &["backend", "expiration"])?;
    let backend = match given(backend).map(members::string) {
        None => String::new(),
        Some(Some(name)) => name.into_owned(),
        Some(None) => return Err("backend must be a string"),
    };
    let expiration = given(expiration).map(|value| value.get().parse().unwrap_or(0));
    Ok(TokenWish { credentials, backend, expiration })
}

/// Reads the ACLs that are asked about.
///
/// # Errors
/// What is wrong with the body.
pub fn wished_scopes(body: &[u8], depth: usize) -> Result<Vec<String>, &'static str> {
    let [scopes] = object(body, depth, &["scopes"])?;
    let wrong = "scopes must be an array of strings";
    let items = scopes.and_then(|value| members::array(value, SCOPES_MAX)).ok_or(wrong)?;
    items.into_iter().map(|item| members::string(item).map(|text| text.into_owned()).ok_or(wrong)).collect()
}

/// `null` is the same as nothing.
fn given(value: Option<&RawValue>) -> Option<&RawValue> {
    value.filter(|value| value.get() != "null")
}

fn object<'a, const N: usize>(
    body: &'a [u8],
    depth: usize,
    names: &[&'static str; N],
) -> Result<[Option<&'a RawValue>; N], &'static str> {
    let text = std::str::from_utf8(body).map_err(|_| "the body is not UTF-8")?;
    if text.trim_ascii().is_empty() {
        return Err("a JSON body is needed");
    }
    if members::deeper_than(text, depth) {
        return Err("nested too deeply");
    }
    match members::members(text, names) {
        Ok(found) if found.twice.is_some() => Err("a member is given twice"),
        Ok(found) => Ok(found.values),
        Err(NoMembers::NotJson) => Err("the body is not JSON"),
        Err(NoMembers::NotObject) => Err("the body must be a JSON object"),
    }
}

/// A token, for its holder and for whoever was shown it.
pub fn token(identity: &Identity, server: Option<&str>) -> Vec<u8> {
    let (issued, expires) = (utc::naive(identity.issued), utc::naive(identity.expires));
    let session = identity.session.0.hyphenated().to_string();
    text(&json!({ "data": {
        "token": identity.token.expose(),
        "auth_id": identity.who.auth_id,
        "xivo_user_uuid": null,
        "xivo_uuid": server,
        "issued_at": issued,
        "expires_at": expires,
        "utc_issued_at": issued,
        "utc_expires_at": expires,
        "acls": identity.acl,
        "acl": identity.acl,
        "session_uuid": session,
        "metadata": {},
    }}))
}

/// The end of a token.
pub fn done() -> Vec<u8> {
    text(&json!({ "data": { "message": "success" } }))
}

/// Names of back ends.
pub fn backends(names: &[String]) -> Vec<u8> {
    text(&json!({ "data": names }))
}

/// Each ACL, and whether it is granted.
pub fn scopes(answers: Vec<(String, bool)>) -> Vec<u8> {
    let answers: Map<String, Value> =
        answers.into_iter().map(|(scope, granted)| (scope, Value::Bool(granted))).collect();
    text(&json!({ "scopes": answers }))
}

/// A failure.
pub fn error(status: u16, reason: &str, now: SystemTime) -> Vec<u8> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    text(&json!({ "reason": [reason], "timestamp": [now.as_secs_f64()], "status_code": status }))
}

fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Secret;

    fn wished(body: &str) -> Result<(String, Option<u64>), &'static str> {
        let credentials = Credentials { username: "a".into(), password: Secret::new("b".into()) };
        wish(body.as_bytes(), 32, credentials).map(|wish| (wish.backend, wish.expiration))
    }

    #[test]
    fn a_life_is_a_positive_integer_or_is_told_later() {
        for (given, expected) in [
            ("1", Some(1)),
            ("7200", Some(7200)),
            ("null", None),
            ("0", Some(0)),
            ("-1", Some(0)),
            ("1.0", Some(0)),
            ("1e3", Some(0)),
            ("true", Some(0)),
            (r#""7200""#, Some(0)),
            ("[1]", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", Some(0)),
        ] {
            let body = format!(r#"{{"backend":"pam","expiration":{given},"other":1}}"#);
            assert_eq!(wished(&body), Ok(("pam".to_owned(), expected)), "{given}");
        }
        assert_eq!(wished("{}"), Ok((String::new(), None)));
        assert_eq!(wished(r#"{"backend":null}"#), Ok((String::new(), None)));
    }

    #[test]
    fn what_is_no_object_is_named() {
        for (body, expected) in [
            ("", "a JSON body is needed"),
            ("  ", "a JSON body is needed"),
            ("{", "the body is not JSON"),
            ("[]", "the body must be a JSON object"),
            (r#"{"backend":1}"#, "backend must be a string"),
            (r#"{"backend":"a","backend":"b"}"#, "a member is given twice"),
        ] {
            assert_eq!(wished(body), Err(expected), "{body:?}");
        }
    }

    #[test]
    fn scopes_are_strings() {
        let read = |body: &str| wished_scopes(body.as_bytes(), 32);
        assert_eq!(read(r#"{"scopes":["a.b","","é"]}"#), Ok(vec!["a.b".into(), String::new(), "é".into()]));
        assert_eq!(read(r#"{"scopes":[]}"#), Ok(vec![]));
        for body in [r#"{"scopes":[1]}"#, r#"{"scopes":"a"}"#, "{}", r#"{"scopes":null}"#, "[]", ""] {
            assert!(read(body).is_err(), "{body}");
        }
        let many = format!(r#"{{"scopes":[{}""]}}"#, r#""","#.repeat(SCOPES_MAX));
        assert!(read(&many).is_err());
    }

    #[test]
    fn an_error_has_the_form_that_clients_read() {
        let body = error(404, "No such token", UNIX_EPOCH + Duration::from_millis(1_456_780));
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body, json!({"reason": ["No such token"], "timestamp": [1456.78], "status_code": 404}));
    }
}
