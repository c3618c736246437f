//! Text for one line of the log, whatever it was made of.
//!
//! In a value everything but printable ASCII is written `\u{hex}`, and `"` and `\` get a backslash;
//! a value that is not plain is quoted. In the message `=` is escaped too, so the first `=` of a line
//! ends the first key. What had no room is left out where `\...` stands, which no value can fake.

use std::fmt::{self, Write};

/// The longest line, its newline included.
pub(super) const LIMIT: usize = 2048;
/// The longest single text in it, so that one long name does not hide the fields after it.
const TEXT_LIMIT: usize = 800;
/// Kept free for a closing quote, the mark and the newline.
const TAIL: usize = " \\...\"\n".len() + " \\...".len();
const CUT: &str = "\\...";

/// A line that never grows beyond [`LIMIT`].
pub(super) struct Line {
    text: String,
    full: bool,
}

impl Line {
    pub(super) fn new() -> Line {
        Line { text: String::with_capacity(256), full: false }
    }

    /// What this program itself says: time, level, name.
    pub(super) fn own(&mut self, write: impl FnOnce(&mut String) -> fmt::Result) {
        // A String takes everything.
        let _ = write(&mut self.text);
    }

    pub(super) fn message(&mut self, message: &str) {
        self.escaped(message, |c| c == '=');
    }

    pub(super) fn field(&mut self, key: &str, value: &str) {
        let plain = !value.is_empty() && value.len() <= TEXT_LIMIT && value.bytes().all(is_plain);
        let room = LIMIT.saturating_sub(self.text.len() + TAIL);
        // Without room for the key and something of the value the field tells nothing.
        if self.full || key.len() + 16 > room {
            self.full = true;
            return;
        }
        self.text.push(' ');
        self.text.extend(
            key.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }),
        );
        self.text.push('=');
        if plain && key.len() + 2 + value.len() <= room {
            self.text.push_str(value);
        } else {
            self.text.push('"');
            self.escaped(value, |_| false);
            self.text.push('"');
        }
    }

    fn escaped(&mut self, text: &str, special: impl Fn(char) -> bool) {
        let end = (self.text.len() + TEXT_LIMIT).min(LIMIT - TAIL);
        let mut unit = String::with_capacity(10);
        for c in text.chars() {
            unit.clear();
            escape(&mut unit, c, special(c));
            if self.text.len() + unit.len() > end {
                self.text.push_str(CUT);
                return;
            }
            self.text.push_str(&unit);
        }
    }

    pub(super) fn finish(mut self) -> String {
        if self.full {
            self.text.push(' ');
            self.text.push_str(CUT);
        }
        self.text.push('\n');
        self.text
    }
}

fn escape(out: &mut String, c: char, special: bool) {
    match c {
        '"' | '\\' => out.extend(['\\', c]),
        ' '..='~' if !special => out.push(c),
        _ => {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._/:@%+,-[]#".contains(&byte)
}

/// Any text as printable ASCII on one line, for a message to a person on stderr.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' => out.push(c),
            _ => escape(&mut out, c, true),
        }
    }
    out
}
