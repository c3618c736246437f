//! Whether an example configuration says what a daemon does without one. For the tests of the daemons.

use std::fmt::Debug;

use serde::de::DeserializeOwned;

/// `text` must be the default, as it is and with every commented key taken at its word, and must have
/// all the fields that Debug shows, except those that no file can set.
pub(crate) fn check<C: Debug + Default + DeserializeOwned>(text: &str, without: &[&str]) {
    let default = format!("{:?}", C::default());
    for text in [text.to_owned(), uncommented(text)] {
        let config: C = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(format!("{config:?}"), default, "{text}");
    }
    for field in fields(&default).filter(|field| !without.contains(field)) {
        let there = |line: &str| {
            let line = line.trim_start_matches('#');
            let table = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            line.starts_with(&format!("{field} = "))
                || table.is_some_and(|path| path.rsplit('.').next() == Some(field))
        };
        assert!(text.lines().any(there), "{field} is not in the example");
    }
}

/// A key stands right after its `#`, prose after a space; `##` is a key without a default.
fn uncommented(text: &str) -> String {
    let key = |line: &str| line.as_bytes().get(1).is_some_and(u8::is_ascii_lowercase);
    let line =
        |line: &str| if line.starts_with('#') && key(line) { line[1..].to_owned() } else { line.to_owned() };
    text.lines().map(|text| line(text) + "\n").collect()
}

/// The names before `: ` outside of strings.
fn fields(debug: &str) -> impl Iterator<Item = &str> {
    let outside = debug.split('"').step_by(2);
    outside
        .flat_map(|text| text.split(": ").filter_map(|before| before.rsplit([' ', '{', '(']).next()))
        .filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
}
