//! Picking members out of a JSON object without copying and without trusting it.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

pub(super) use crate::depth::deeper_than;

/// The wanted members of an object, in the order of their names.
#[derive(Debug)]
pub(super) struct Members<'a, const N: usize> {
    /// The value of each, the first if it was given twice.
    pub(super) values: [Option<&'a RawValue>; N],
    /// A wanted member that was given twice: two readers could read two different requests.
    pub(super) twice: Option<&'static str>,
}

/// Why there are no members.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoMembers {
    /// Not JSON at all.
    NotJson,
    /// JSON, but no object.
    NotObject,
}

/// Reads the members of these names; others are skipped.
pub(super) fn members<'a, const N: usize>(
    text: &'a str,
    names: &[&'static str; N],
) -> Result<Members<'a, N>, NoMembers> {
    let mut json = serde_json::Deserializer::from_str(text);
    let members = Wanted(names)
        .deserialize(&mut json)
        .map_err(|error| if error.is_data() { NoMembers::NotObject } else { NoMembers::NotJson })?;
    json.end().map_err(|_| NoMembers::NotJson)?;
    Ok(members)
}

/// An object without its members of these names: the others as they are written, in their order.
///
/// # Errors
/// As [`members`]; also where a name cannot be read, as of a lone surrogate.
pub(super) fn without(text: &str, names: &[&str]) -> Result<String, NoMembers> {
    let mut json = serde_json::Deserializer::from_str(text);
    let written = json
        .deserialize_map(Others(names))
        .map_err(|error| if error.is_data() { NoMembers::NotObject } else { NoMembers::NotJson })?;
    json.end().map_err(|_| NoMembers::NotJson)?;
    Ok(written)
}

struct Others<'n>(&'n [&'n str]);

impl<'a> Visitor<'a> for Others<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<String, A::Error> {
        let mut written = String::from("{");
        while let Some((name, value)) = map.next_entry::<String, &'a RawValue>()? {
            if self.0.contains(&name.as_str()) {
                continue;
            }
            if written.len() > 1 {
                written.push(',');
            }
            written.push_str(&serde_json::to_string(&name).map_err(serde::de::Error::custom)?);
            written.push(':');
            written.push_str(value.get());
        }
        written.push('}');
        Ok(written)
    }
}

struct Wanted<'n, const N: usize>(&'n [&'static str; N]);

impl<'a, const N: usize> DeserializeSeed<'a> for Wanted<'_, N> {
    type Value = Members<'a, N>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a, const N: usize> Visitor<'a> for Wanted<'_, N> {
    type Value = Members<'a, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Members { values: [None; N], twice: None };
        while let Some(place) = map.next_key_seed(Name(self.0))? {
            let value: &'a RawValue = map.next_value()?;
            match place.and_then(|place| found.values.get_mut(place).zip(self.0.get(place))) {
                Some((slot @ None, _)) => *slot = Some(value),
                Some((Some(_), name)) => found.twice = Some(name),
                None => {}
            }
        }
        Ok(found)
    }
}

/// The place of a member's name among the wanted ones.
struct Name<'n, const N: usize>(&'n [&'static str; N]);

impl<'a, const N: usize> DeserializeSeed<'a> for Name<'_, N> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl<const N: usize> Visitor<'_> for Name<'_, N> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|wanted| *wanted == name))
    }
}

/// The text of a JSON string; borrowed where nothing is escaped.
pub(super) fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    let text = value.get();
    let inside = text.strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') {
        serde_json::from_str(text).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inside))
    }
}

/// The values of an array of at most `most` items.
pub(super) fn array(value: &RawValue, most: usize) -> Option<Vec<&RawValue>> {
    let mut json = serde_json::Deserializer::from_str(value.get());
    Items(most).deserialize(&mut json).ok()
}

struct Items(usize);

impl<'a> DeserializeSeed<'a> for Items {
    type Value = Vec<&'a RawValue>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'a> Visitor<'a> for Items {
    type Value = Vec<&'a RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of at most {} items", self.0)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while let Some(item) = items.next_element()? {
            if found.len() == self.0 {
                return Err(serde::de::Error::invalid_length(found.len() + 1, &self));
            }
            found.push(item);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_picked_and_doubles_are_seen() {
        let found = members(r#"{"b":[1, 2],"x":0,"\u0061":null}"#, &["a", "b", "c"]).expect("an object");
        let values: Vec<_> = found.values.iter().map(|value| value.map(RawValue::get)).collect();
        assert_eq!(values, [Some("null"), Some("[1, 2]"), None]);
        assert_eq!(found.twice, None);
        let found = members(r#"{"a":1,"x":0,"x":0,"a":2}"#, &["a"]).expect("an object");
        assert_eq!((found.values[0].map(RawValue::get), found.twice), (Some("1"), Some("a")));
    }

    #[test]
    fn members_are_left_out_and_the_others_stay_as_they_are() {
        for (text, expected) in [
            (r#"{"a":1,"id":{"id":2},"b": [1,  2.50],"n\u0061me":0}"#, r#"{"a":1,"b":[1,  2.50]}"#),
            (r#"{"x\"y":"\u00e9","x":1,"x":2}"#, r#"{"x\"y":"\u00e9","x":1,"x":2}"#),
            (r#"{"id":1}"#, "{}"),
            ("{}", "{}"),
            (
                r#"{"$serde_json::private::RawValue":"[1]","a":{"$serde_json::private::RawValue":"["}}"#,
                r#"{"$serde_json::private::RawValue":"[1]","a":{"$serde_json::private::RawValue":"["}}"#,
            ),
        ] {
            assert_eq!(without(text, &["id", "name"]).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(without("[]", &["id"]), Err(NoMembers::NotObject));
        assert_eq!(without("{} x", &["id"]), Err(NoMembers::NotJson));
        without(r#"{"\ud800":1}"#, &["id"]).expect_err("no name");
    }

    #[test]
    fn what_is_no_object_is_told_from_what_is_no_json() {
        let check = |text: &str| members(text, &["a"]).err();
        for text in ["", "{", "{\"a\"}", "{} x", "{\"a\":1,}", "\u{feff}{}", "{\"a\":01}", "nul"] {
            assert_eq!(check(text), Some(NoMembers::NotJson), "{text:?}");
        }
        for text in ["[]", "\"a\"", "1", "null", "true"] {
            assert_eq!(check(text), Some(NoMembers::NotObject), "{text:?}");
        }
        assert_eq!(check(" {} \n"), None);
    }

    #[test]
    fn arrays_have_a_bound() {
        let count = |text: &str| {
            let value: Box<RawValue> = serde_json::from_str(text).expect("JSON");
            array(&value, 2).map(|items| items.len())
        };
        assert_eq!(count("[]"), Some(0));
        assert_eq!(count("[1]"), Some(1));
        assert_eq!(count("[1,2]"), Some(2));
        assert_eq!(count("[1,2,3]"), None);
        assert_eq!(count("{}"), None);
    }
}
