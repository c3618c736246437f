//! What people read: tables. What programs read: one JSON document. Nothing in between.
//!
//! Texts from a server are never written to a terminal as they came: an escape sequence in a reply
//! could retitle the window, move the cursor over what we printed, or answer as if typed.

use std::io::{ErrorKind, Write};

use serde_json::Value;

use crate::error::Error;

/// Where results go, and in which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// One JSON document instead of tables.
    pub(crate) json: bool,
}

impl Output {
    /// The result of a command: `rows` for people, `value` for programs.
    pub(crate) fn result(self, rows: &[(&str, String)], value: &Value) -> Result<(), Error> {
        if self.json { write_out(&(json_text(value) + "\n")) } else { write_out(&table(rows)) }
    }

    /// A list: a head and rows for people, `value` for programs.
    pub(crate) fn list<const N: usize>(
        self,
        head: [&str; N],
        rows: &[[String; N]],
        value: &Value,
    ) -> Result<(), Error> {
        if self.json {
            return write_out(&(json_text(value) + "\n"));
        }
        let mut all = vec![head.map(str::to_owned).to_vec()];
        all.extend(rows.iter().map(|row| row.to_vec()));
        write_out(&columns(&all))
    }

    /// A value of unknown shape.
    pub(crate) fn value(self, value: &Value) -> Result<(), Error> {
        if self.json { write_out(&(json_text(value) + "\n")) } else { write_out(&for_people(value)) }
    }

    /// The error that ends the command: a sentence on stderr, and for programs a document on stdout.
    pub(crate) fn error(self, error: &Error) {
        // Both streams may be gone; the exit code still tells.
        let _ = writeln!(std::io::stderr(), "doorward: {}", printable(&error.to_string()));
        if self.json {
            let mut fields = serde_json::Map::new();
            fields.insert("kind".into(), error.kind().into());
            if let Some(code) = error.code() {
                fields.insert("code".into(), code.into());
            }
            fields.insert("message".into(), error.to_string().into());
            let _ = write_out(&(json_text(&serde_json::json!({ "error": fields })) + "\n"));
        }
    }
}

/// Writes to stdout. A reader that went away (`| head`) is no error of ours.
pub(crate) fn write_out(text: &str) -> Result<(), Error> {
    still_read(text).map(drop)
}

/// The same, and whether the reader is still there, for what has no end of its own.
pub(crate) fn still_read(text: &str) -> Result<bool, Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::Failed(format!("cannot write the result: {error}"))),
    }
}

/// One line of JSON. What a terminal would act on is escaped, which changes nothing of what it says.
pub(crate) fn json_text(value: &Value) -> String {
    let mut text = String::new();
    // Only strings hold such characters, and all of them have four digits.
    for c in value.to_string().chars() {
        if c.is_control() || deceives(c) {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text
}

/// At most so many characters.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain("…".chars().take(most)).collect(),
    }
}

/// Marks that reorder the line or take no room, so that it reads as what it is not.
fn deceives(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
    )
}

/// The text with everything escaped that a terminal would act on or that hides other text.
pub(crate) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || deceives(c) {
            safe.extend(c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Two aligned columns.
pub(crate) fn table(rows: &[(&str, String)]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|(name, text)| vec![(*name).to_owned(), text.clone()]).collect();
    columns(&rows)
}

/// Aligned columns; the last one is not padded.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        for (index, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(index) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let mut text = String::new();
    for row in &rows {
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if index + 1 == row.len() {
                text.push_str(cell);
            } else {
                text.push_str(&format!("{cell:<width$}  "));
            }
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    text
}

/// A flat object is a table of its members, a list of flat objects a table with a head; the rest is
/// indented JSON.
fn for_people(value: &Value) -> String {
    if let Some(rows) = flat_object(value).or_else(|| list_of_objects(value)) {
        return columns(&rows);
    }
    let text = serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string());
    text.lines().map(|line| printable(line) + "\n").collect()
}

fn flat_object(value: &Value) -> Option<Vec<Vec<String>>> {
    let members = value.as_object().filter(|members| !members.is_empty())?;
    members.iter().map(|(name, value)| Some(vec![name.clone(), scalar(value)?])).collect()
}

fn list_of_objects(value: &Value) -> Option<Vec<Vec<String>>> {
    let list = value.as_array()?;
    let head: Vec<String> = list.first()?.as_object()?.keys().cloned().collect();
    let mut rows = vec![head.clone()];
    for item in list {
        let members = item.as_object().filter(|members| members.len() == head.len())?;
        rows.push(head.iter().map(|name| members.get(name).and_then(scalar)).collect::<Option<_>>()?);
    }
    Some(rows)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Null | Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_flat_object_is_a_table() {
        assert_eq!(for_people(&json!({"a": 1, "long": "x y"})), "a     1\nlong  x y\n");
    }

    #[test]
    fn a_list_of_flat_objects_is_a_table_with_a_head() {
        assert_eq!(for_people(&json!([{"a": 1, "b": "x"}, {"a": 22, "b": ""}])), "a   b\n1   x\n22\n");
    }

    #[test]
    fn the_rest_is_json() {
        for value in
            [json!({}), json!([]), json!([1, {"a": 1}]), json!({"a": {"b": 1}}), json!("x"), json!(null)]
        {
            let text = for_people(&value);
            assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value, "{text}");
        }
    }

    #[test]
    fn nothing_from_a_server_reaches_the_terminal_as_a_command() {
        let hostile = "\u{1b}]0;x\u{7}\u{9b}31m\r\n\u{202e}txt\u{7f}\u{200b}";
        for text in [
            printable(hostile),
            for_people(&json!({ "a": hostile })),
            for_people(&json!({ hostile: 1 })),
            for_people(&json!([[hostile]])),
            for_people(&json!([{ hostile: hostile }])),
            table(&[("name", hostile.to_owned())]),
        ] {
            assert!(
                text.trim_end_matches('\n').chars().all(|c| c == '\n' || (' '..='~').contains(&c)),
                "{text:?}"
            );
            assert!(!text.contains("\r"), "{text:?}");
        }
        assert_eq!(printable("Grüße, 日本"), "Grüße, 日本");
        let value = json!({ hostile: [hostile, "Grüße"] });
        let text = json_text(&value);
        assert!(text.chars().all(|c| !c.is_control() && !deceives(c)), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value);
    }

    #[test]
    fn a_text_is_cut_where_it_is_too_long() {
        for (text, most, cut) in
            [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("ab", 1, "…"), ("a", 0, ""), ("", 0, "")]
        {
            assert_eq!(shortened(text, most), cut);
        }
    }
}
