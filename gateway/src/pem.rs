//! PEM as everybody writes it: lines of 64 columns and a newline at the end (RFC 7468).

use base64::{Engine, engine::general_purpose::STANDARD};

/// The PEM text of a DER structure.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let packed = STANDARD.encode(der);
    let mut text = String::with_capacity(packed.len() + packed.len() / 64 + 2 * label.len() + 40);
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    for (place, c) in packed.chars().enumerate() {
        if place > 0 && place % 64 == 0 {
            text.push('\n');
        }
        text.push(c);
    }
    text.push_str(&format!("\n-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_64_columns_and_the_last_ends() {
        let check = |bytes: usize, lines: &[usize]| {
            let text = encode("X", &vec![0; bytes]);
            let found: Vec<_> = text.lines().map(str::len).collect();
            let inside = found.get(1..found.len() - 1).expect("two lines at least");
            assert_eq!(inside, lines);
            assert!(
                text.starts_with("-----BEGIN X-----\n") && text.ends_with("=\n-----END X-----\n"),
                "{text}"
            );
        };
        check(1, &[4]);
        check(46, &[64]);
        check(49, &[64, 4]);
        check(94, &[64, 64]);
        assert_eq!(encode("X", &[0; 48]).lines().nth(1).map(str::len), Some(64));
        assert_eq!(encode("X", &[0; 48]).lines().count(), 3);
    }
}
