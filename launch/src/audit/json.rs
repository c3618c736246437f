//! Text as a JSON string of printable ASCII, cut where it would be too long.

use std::fmt::Write;

/// Stands at the end of a text that was cut.
const MARK: &str = "\\u2026";

/// Appends `text` as a JSON string whose content takes at most `limit` bytes; whether it was cut.
///
/// Everything but printable ASCII is escaped, so a line stays one line in every reader, and DEL or a
/// character that runs from right to left does nothing to a terminal.
pub(super) fn push(out: &mut String, text: &str, limit: usize) -> bool {
    out.push('"');
    let (start, mut fits, mut cut) = (out.len(), out.len(), false);
    let mut units = [0; 2];
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut units) {
                    // A String takes everything.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
        if out.len() - start > limit {
            cut = true;
            break;
        }
        if out.len() - start + MARK.len() <= limit {
            fits = out.len();
        }
    }
    if cut {
        out.truncate(fits);
        out.push_str(MARK);
    }
    out.push('"');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(text: &str, limit: usize) -> (String, bool) {
        let mut out = String::new();
        let cut = push(&mut out, text, limit);
        (out, cut)
    }

    #[test]
    fn what_is_not_plain_is_escaped_and_what_is_too_long_cut() {
        for (text, limit, expected) in [
            ("alice", 128, "\"alice\""),
            ("a\"b\\c", 128, r#""a\"b\\c""#),
            ("a\nb\u{7f}\u{e9}", 128, r#""a\u000ab\u007f\u00e9""#),
            ("\u{1f600}", 128, r#""\ud83d\ude00""#),
            ("12345678", 8, "\"12345678\""),
            ("123456789", 8, r#""12\u2026""#),
            ("\u{1f600}\u{1f600}", 18, r#""\ud83d\ude00\u2026""#),
            ("\u{1f600}\u{1f600}", 17, r#""\u2026""#),
        ] {
            let (out, cut) = pushed(text, limit);
            assert_eq!(out, expected, "{text:?}");
            assert_eq!(cut, expected.ends_with("\\u2026\""), "{text:?}");
            assert!(out.len() <= limit + 2);
        }
    }
}
