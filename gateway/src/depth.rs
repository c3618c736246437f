//! How deeply JSON is nested, before anybody parses it.

/// Whether arrays and objects are nested deeper than `limit`. Linear, without recursion; it counts
/// brackets outside strings, so for text that is no JSON the answer only has to be safe.
pub(crate) fn deeper_than(text: &str, limit: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
        } else {
            match byte {
                b'"' => in_string = true,
                b'[' | b'{' => {
                    depth += 1;
                    if depth > limit {
                        return true;
                    }
                }
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_strings() {
        let nested = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        assert!(!deeper_than(&nested(31), 32));
        assert!(!deeper_than(&nested(32), 32));
        assert!(deeper_than(&nested(33), 32));
        assert!(!deeper_than(&format!("\"{}\"", "[".repeat(40)), 32));
        assert!(!deeper_than(&format!("\"\\\"{}\"", "[".repeat(40)), 32));
        assert!(deeper_than(&format!("\"\\\\\"{}", "[".repeat(40)), 32));
        assert!(!deeper_than(&"[]".repeat(100), 1));
    }
}
