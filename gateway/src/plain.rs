//! What all readers of JSON read alike, beside what the grammar says.

/// Whether JSON has no half of a surrogate pair alone and no number beyond what a double holds: some readers
/// refuse these, some make others of them, and two could see two requests. Linear; for text that is no JSON the
/// answer means nothing.
pub(crate) fn is_plain(text: &str) -> bool {
    let mut rest = text.as_bytes();
    let mut in_string = false;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => match after.split_first() {
                Some((b'u', digits)) => match unit(digits) {
                    Some((0xdc00..=0xdfff, _)) => return false,
                    Some((0xd800..=0xdbff, second)) => {
                        let second = second.strip_prefix(b"\\u").and_then(unit);
                        let Some((0xdc00..=0xdfff, after)) = second else { return false };
                        rest = after;
                    }
                    Some((_, after)) => rest = after,
                    None => return false,
                },
                Some((_, after)) => rest = after,
                None => return false,
            },
            b'-' | b'0'..=b'9' if !in_string => {
                let more = after
                    .iter()
                    .take_while(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
                let (number, after) = rest.split_at(more.count());
                rest = after;
                if !is_finite(*byte, number) {
                    return false;
                }
            }
            _ => {}
        }
    }
    true
}

/// The number of an escape, and what follows.
fn unit(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_at_checked(4)?;
    let number =
        digits.iter().try_fold(0, |number, digit| Some((number << 4) | char::from(*digit).to_digit(16)?))?;
    Some((number, rest))
}

fn is_finite(first: u8, more: &[u8]) -> bool {
    // So few digits are, without an exponent.
    if more.len() < 300 && !more.iter().any(|byte| matches!(byte, b'e' | b'E')) {
        return true;
    }
    let text = [&[first], more].concat();
    str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).is_some_and(f64::is_finite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_surrogate_pair_is_not_plain() {
        for text in [
            r#"{"\ud800":1}"#,
            r#""\udc00""#,
            r#""\ud83d\ud83d""#,
            r#""\uD83Dx""#,
            r#""\ud83d\n""#,
            r#""\ud83d""#,
            r#"["\\","\ud800"]"#,
            r#""\ud83d\ude00\ude00""#,
        ] {
            assert!(!is_plain(text), "{text}");
        }
        for text in [r#""\ud83d\ude00\uD83D\uDE00""#, r#""\\ud800""#, r#""\u00e4\ue000\"\/""#, "\"😀\"", "{}"]
        {
            assert!(is_plain(text), "{text}");
        }
    }

    #[test]
    fn a_number_that_no_double_holds_is_not_plain() {
        let long = |digits: usize| "9".repeat(digits);
        for text in
            ["1e999", "[-1E+400]", r#"{"a":1.5e309}"#, "0.1e500", &long(400), &format!("-{}.5", long(310))]
        {
            assert!(!is_plain(text), "{text}");
        }
        for text in ["1e308", "[-0.0,1,2.50]", "1e-999", r#""1e999""#, &long(308), "18446744073709551616"] {
            assert!(is_plain(text), "{text}");
        }
        assert!(is_plain(&format!("0.{}", long(400))));
    }
}
