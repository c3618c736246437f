//! What a transcript expects of a reply, compared with what came.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::client::is_uuid4;
use crate::secrets;

/// Whether `seen` is what was expected. `"<NAME>"` matches a text and remembers it: what is called
/// token... must be a UUIDv4 and is a secret, what is called string... a challenge. `"<any>"` matches
/// everything, `"<number>"` a number, `<*>` in a longer text whatever is left of a line.
pub(super) fn matches(
    expected: &Value,
    seen: &Value,
    known: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    match (expected, seen) {
        (Value::String(text), _) if text == "<any>" => Ok(()),
        (Value::String(text), seen) if text == "<number>" => {
            seen.is_number().then_some(()).ok_or_else(|| format!("{seen}, not a number"))
        }
        (Value::String(text), Value::String(seen)) if text.contains("<*>") => {
            has_parts(text, seen).then_some(()).ok_or_else(|| format!("{seen:?}, not {text:?}"))
        }
        (Value::String(text), Value::String(seen)) => {
            let Some(name) = text.strip_prefix('<').and_then(|t| t.strip_suffix('>')) else {
                return (text == seen).then_some(()).ok_or_else(|| format!("{seen:?}, not {text:?}"));
            };
            if name.starts_with("token") {
                secrets::register(seen);
                if !is_uuid4(seen) {
                    return Err(format!("{name} is no UUIDv4"));
                }
            }
            if name.starts_with("string")
                && (seen.len() != 128 || !seen.bytes().all(|b| b.is_ascii_alphanumeric()))
            {
                return Err(format!("{name} is not 128 letters and digits"));
            }
            let before = known.entry(name.to_owned()).or_insert_with(|| seen.clone());
            (before == seen).then_some(()).ok_or_else(|| format!("{name} differs from before"))
        }
        (Value::Array(expected), Value::Array(seen)) => {
            if expected.len() != seen.len() {
                return Err(format!("{} elements, not {}", seen.len(), expected.len()));
            }
            expected.iter().zip(seen).try_for_each(|(e, s)| matches(e, s, known))
        }
        (Value::Object(expected), Value::Object(seen)) => {
            if let Some(extra) = seen.keys().find(|key| !expected.contains_key(*key)) {
                return Err(format!("a member {extra:?} that is not expected"));
            }
            for (key, value) in expected {
                let seen = seen.get(key).ok_or_else(|| format!("no member {key:?}"))?;
                matches(value, seen, known).map_err(|e| format!("{key}: {e}"))?;
            }
            Ok(())
        }
        (expected, seen) => (expected == seen).then_some(()).ok_or_else(|| format!("{seen}, not {expected}")),
    }
}

/// Whether a text is these parts in this order, with one line or less of anything between them.
fn has_parts(expected: &str, seen: &str) -> bool {
    let mut parts = expected.split("<*>");
    let Some(mut rest) = parts.next().and_then(|first| seen.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        let at = if parts.peek().is_some() { rest.find(part) } else { rest.len().checked_sub(part.len()) };
        let Some((gap, after)) = at.and_then(|at| rest.split_at_checked(at)) else { return false };
        if gap.contains('\n') {
            return false;
        }
        let Some(after) = after.strip_prefix(part) else { return false };
        rest = after;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_differs_is_told() {
        let mut known = BTreeMap::new();
        let mut check = |expected: Value, seen: Value| matches(&expected, &seen, &mut known);
        let token = "0f9d5f2c-1b7e-4c55-9a0e-2a6a4f0c9b11";
        assert_eq!(check(json!(["<token>", "<number>"]), json!([token, 300])), Ok(()));
        assert_eq!(check(json!("<token>"), json!(token)), Ok(()));
        assert!(check(json!("<token>"), json!("0f9d5f2c-1b7e-4c55-9a0e-2a6a4f0c9b12")).is_err());
        assert!(check(json!("<token2>"), json!("no token at all")).is_err());
        assert!(check(json!({"a": 1}), json!({"a": 1, "b": 2})).is_err());
        assert!(check(json!({"a": 1, "b": 2}), json!({"a": 1})).is_err());
        assert!(check(json!([1]), json!([1, 2])).is_err());
        assert!(check(json!("<number>"), json!("300")).is_err());
        assert!(check(json!(401), json!("401")).is_err());
        assert_eq!(check(json!("<string1>"), json!("a1".repeat(64))), Ok(()));
        assert!(check(json!("<string2>"), json!("a1".repeat(63))).is_err());
        assert!(check(json!("<string2>"), json!("a+".repeat(64))).is_err());
        assert_eq!(check(json!("a: <*>\nb: <*>"), json!("a: 1\nb: 2")), Ok(()));
        assert_eq!(check(json!("a: <*>."), json!("a: 1.2.")), Ok(()));
        for other in ["a: 1\nc: 2\nb: 2", "a: 1\nb: 2\n", "x a: 1\nb: 2", "a: 1"] {
            assert!(check(json!("a: <*>\nb: <*>"), json!(other)).is_err(), "{other}");
        }
        assert_eq!(check(json!("<any>"), json!({"x": []})), Ok(()));
    }
}
