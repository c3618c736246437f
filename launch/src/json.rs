//! JSON of others as a value.
//!
//! `serde_json::Value` takes an object whose first name is one of serde_json's own for the text of JSON, and reads
//! that with a limit on depth that begins anew: text of the kind, within text of the kind, and so on, ends the stack.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// With what serde_json's own names begin.
const RESERVED: &str = "$serde_json::";

/// JSON as it is written, 127 levels deep at most. What a program of ours could take for more than it is, is an error.
#[derive(Debug)]
pub struct Plain(pub Value);

impl Plain {
    /// Reads the whole of `text`.
    ///
    /// # Errors
    /// It is no JSON, is too deep, or has a member with a name that is reserved.
    pub fn read(text: &[u8]) -> serde_json::Result<Value> {
        serde_json::from_slice(text).map(|Self(value)| value)
    }
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading).map(Self)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Plain(element)) = elements.next_element()? {
            all.push(element);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if name.starts_with(RESERVED) {
                return Err(A::Error::custom("a member has a name that is reserved"));
            }
            let Plain(value) = members.next_value()?;
            all.insert(name, value);
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let text = r#"{"a":[null,true,-1,18446744073709551615,1.5,"x\n"],"b":{"":{}},"a2":[]}"#;
        let expected: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(Plain::read(text.as_bytes()).expect("JSON"), expected);
        for no in ["", "{", "[1,]", "{\"a\" 1}", "1 2", "\u{feff}1", "1e999"] {
            assert!(Plain::read(no.as_bytes()).is_err(), "{no}");
        }
        assert!(Plain::read(b"\"\xff\"").is_err());
    }

    #[test]
    fn depth_has_a_limit() {
        let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(Plain::read(nested(127).as_bytes()).is_ok());
        assert!(Plain::read(nested(128).as_bytes()).is_err());
        assert!(Plain::read("[".repeat(1_000_000).as_bytes()).is_err());
        assert!(Plain::read("{\"a\":".repeat(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn text_in_a_member_is_not_read_as_json() {
        // If this no longer holds of serde_json, nothing here is needed any more.
        let member = r#"{"$serde_json::private::RawValue":"[1]"}"#;
        assert_eq!(serde_json::from_str::<Value>(member).expect("JSON"), serde_json::json!([1]));
        let escaped = member.replace("$serde", r"\u0024serde");
        for text in [member, &escaped, &format!("[{member}]"), &member.replace("RawValue", "Number")] {
            let error = Plain::read(text.as_bytes()).expect_err("reserved");
            assert!(error.to_string().starts_with("a member has a name that is reserved"), "{error}");
        }
        assert!(
            Plain::read(br#"{"a":"{\"$serde_json::private::RawValue\":\"[1]\"}"}"#).is_ok(),
            "a text is a text"
        );
    }
}
