//! One PEM block out of what a client sent: exactly one, and nothing before or after it.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Why a text is not one PEM block of the label asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No BEGIN line of that label comes first.
    #[error("the first line is not the BEGIN line that is expected")]
    Begin,
    /// No END line of that label comes last: there may be a second block.
    #[error("the first END line is not the last line")]
    End,
    /// What stands between the lines is not base64.
    #[error("is not base64 between the BEGIN and END lines")]
    Base64,
}

/// Whether a text claims to be PEM.
pub fn is_pem(given: &[u8]) -> bool {
    given.trim_ascii_start().starts_with(b"-----BEGIN ")
}

/// The DER of the only block, whose label is `label`.
///
/// White space around lines is ignored. Headers (RFC 1421) are not taken: nothing here has any.
///
/// # Errors
/// [`Refused`] says which part of the text is wrong.
pub fn decode(given: &[u8], label: &str) -> Result<Vec<u8>, Refused> {
    let text = given.trim_ascii();
    let text = text.strip_prefix(format!("-----BEGIN {label}-----").as_bytes()).ok_or(Refused::Begin)?;
    let text = text.strip_suffix(format!("-----END {label}-----").as_bytes()).ok_or(Refused::End)?;
    // A second block would bring hyphens, which are not of the alphabet; say what it is all the same.
    if text.contains(&b'-') {
        return Err(Refused::End);
    }
    base64(text).ok_or(Refused::Base64)
}

/// Standard base64 with padding, white space ignored.
pub fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let packed: Vec<u8> = text.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    STANDARD.decode(packed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: &str = "PUBLIC KEY";

    #[test]
    fn one_block_with_any_line_ends_is_read() {
        for text in [
            "-----BEGIN PUBLIC KEY-----\nAAEC\n-----END PUBLIC KEY-----\n",
            "\r\n-----BEGIN PUBLIC KEY-----\r\nAA\r\nEC\r\n-----END PUBLIC KEY-----",
            "  -----BEGIN PUBLIC KEY-----AAEC-----END PUBLIC KEY-----  ",
        ] {
            assert_eq!(decode(text.as_bytes(), LABEL), Ok(vec![0, 1, 2]), "{text:?}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let block = "-----BEGIN PUBLIC KEY-----\nAAEC\n-----END PUBLIC KEY-----\n";
        for (text, why) in [
            (format!("{block}{block}"), Refused::End),
            (format!("{block}x"), Refused::End),
            (format!("x{block}"), Refused::Begin),
            (block.replace("PUBLIC", "RSA PUBLIC"), Refused::Begin),
            (block.replace("END PUBLIC", "END RSA PUBLIC"), Refused::End),
            (block.replace("AAEC", "AAE"), Refused::Base64),
            (block.replace("AAEC", "Proc: 4,X\n\nAAEC"), Refused::Base64),
            (String::new(), Refused::Begin),
        ] {
            assert_eq!(decode(text.as_bytes(), LABEL), Err(why), "{text:?}");
        }
    }
}
