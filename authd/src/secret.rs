//! Passwords, answers and tokens: types that never show what they hold and wipe it when dropped.

use std::fmt;

use aws_lc_rs::digest;
use doorward_proto::LOGIN_JWT_MAX;
use zeroize::Zeroizing;

/// The longest password or answer, in bytes. Longer ones have hung PAM modules (CVE-2015-3238).
const SECRET_MAX: usize = 512;

/// Why a text is no secret that could be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("empty, too long, or with a NUL in it")]
pub struct Malformed;

/// What a person types as the password: 1 to 512 bytes without NUL.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes the text over.
    ///
    /// # Errors
    /// [`Malformed`], and the text is wiped.
    pub fn parse(text: String) -> Result<Self, Malformed> {
        let text = Zeroizing::new(text);
        if text.is_empty() || text.len() > SECRET_MAX || text.contains('\0') {
            return Err(Malformed);
        }
        Ok(Self(text))
    }

    /// The answer to a prompt that this password is.
    pub fn into_answer(self) -> Answer {
        Answer(self.0)
    }
}

/// What a person answers to a prompt: up to 512 bytes without NUL; empty is an answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer(Zeroizing<String>);

impl Answer {
    /// Takes the text over.
    ///
    /// # Errors
    /// [`Malformed`], and the text is wiped.
    pub fn parse(text: String) -> Result<Self, Malformed> {
        let text = Zeroizing::new(text);
        if text.len() > SECRET_MAX || text.contains('\0') {
            return Err(Malformed);
        }
        Ok(Self(text))
    }

    /// The text, for the packet to the worker.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// The key to a session: UUIDv4 text in lower case.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

/// What is kept of a token, in memory and on disk: its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenHash(pub [u8; 32]);

impl Token {
    /// Takes the text over; every token that was ever given out has this one form.
    ///
    /// # Errors
    /// [`Malformed`], and the text is wiped.
    pub fn parse(text: String) -> Result<Self, Malformed> {
        let text = Zeroizing::new(text);
        if text.len() != 36 {
            return Err(Malformed);
        }
        for (place, byte) in text.bytes().enumerate() {
            let fits = match place {
                8 | 13 | 18 | 23 => byte == b'-',
                14 => byte == b'4',
                19 => matches!(byte, b'8' | b'9' | b'a' | b'b'),
                _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            };
            if !fits {
                return Err(Malformed);
            }
        }
        Ok(Self(text))
    }

    /// A token of these random bytes.
    pub fn mint(random: [u8; 16]) -> Self {
        Self(Zeroizing::new(uuid::Builder::from_random_bytes(random).into_uuid().hyphenated().to_string()))
    }

    /// The text, for its holder.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn hash(&self) -> TokenHash {
        let mut hash = [0; 32];
        // SHA-256 gives 32 bytes; were it ever otherwise the copy would panic, not truncate.
        hash.copy_from_slice(digest::digest(&digest::SHA256, self.0.as_bytes()).as_ref());
        TokenHash(hash)
    }
}

/// The most that is passed on to a plug-in authenticator, in bytes.
const CREDENTIALS_MAX: usize = 8 << 10;

/// A token that an issuer has signed: ASCII of 1 to [`LOGIN_JWT_MAX`] bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Jwt(Zeroizing<String>);

impl Jwt {
    /// Takes the text over.
    ///
    /// # Errors
    /// [`Malformed`], and the text is wiped.
    pub fn parse(text: String) -> Result<Self, Malformed> {
        let text = Zeroizing::new(text);
        let fits = (1..=LOGIN_JWT_MAX).contains(&text.len()) && text.is_ascii();
        if fits { Ok(Self(text)) } else { Err(Malformed) }
    }

    /// The text, for whoever verifies it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// What a plug-in authenticator judges: a JSON object of at most 8 KiB.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(Zeroizing<Vec<u8>>);

impl Credentials {
    /// Takes the bytes over.
    ///
    /// # Errors
    /// [`Malformed`], and the bytes are wiped.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, Malformed> {
        let bytes = Zeroizing::new(bytes);
        let object = |bytes: &[u8]| {
            serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
                && bytes.trim_ascii_start().starts_with(b"{")
        };
        let fits = bytes.len() <= CREDENTIALS_MAX && std::str::from_utf8(&bytes).is_ok() && object(&bytes);
        if fits { Ok(Self(bytes)) } else { Err(Malformed) }
    }

    /// Those of a login of the token API.
    ///
    /// # Errors
    /// [`Malformed`] when they are too long.
    pub fn of(username: &str, password: &Password) -> Result<Self, Malformed> {
        #[derive(serde::Serialize)]
        struct Both<'a> {
            username: &'a str,
            password: &'a str,
        }
        // Reserved once: a buffer that grows leaves copies behind.
        let mut bytes = Vec::with_capacity(CREDENTIALS_MAX * 2);
        let both = Both { username, password: &password.0 };
        serde_json::to_writer(&mut bytes, &both).map_err(|_| Malformed)?;
        Self::parse(bytes)
    }

    /// The bytes, for the plug-in.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// Random bytes of the operating system.
///
/// # Errors
/// When the system gives none; nothing is ever minted then.
pub fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

macro_rules! redacted {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), " [redacted]"))
            }
        }
    )*};
}
redacted!(Password, Answer, Token, TokenHash, Jwt, Credentials);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jwt_has_its_bound_to_the_byte() {
        for (length, fits) in [(0, false), (1, true), (8_000, true), (8_001, false)] {
            assert_eq!(Jwt::parse("a".repeat(length)).is_ok(), fits, "{length}");
        }
        assert!(Jwt::parse("\u{e4}".into()).is_err());
    }

    #[test]
    fn debug_shows_nothing() {
        let shown = format!(
            "{:?} {:?} {:?}",
            Password::parse("hunter2".into()),
            Answer::parse("hunter2".into()),
            Token::mint([7; 16])
        );
        assert!(!shown.contains("hunter2") && !shown.contains("0707"), "{shown}");
        assert_eq!(shown.matches("[redacted]").count(), 3);
    }

    #[test]
    fn a_password_is_1_to_512_bytes_without_nul() {
        for (text, fits) in [
            (String::new(), false),
            ("x".into(), true),
            ("x".repeat(511), true),
            ("x".repeat(512), true),
            ("x".repeat(513), false),
            ("a\0b".into(), false),
            ("é".repeat(256), true),
            ("é".repeat(257), false),
        ] {
            assert_eq!(Password::parse(text.clone()).is_ok(), fits, "{} bytes", text.len());
        }
        assert!(Answer::parse(String::new()).is_ok());
        assert!(Answer::parse("x".repeat(513)).is_err());
        assert!(Answer::parse("\0".into()).is_err());
    }

    #[test]
    fn a_token_is_its_own_text_and_nothing_else_is() {
        let token = Token::mint([0xab; 16]);
        assert_eq!(token.expose(), "abababab-abab-4bab-abab-abababababab");
        assert_eq!(Token::parse(token.expose().into()).map(|t| t.hash()), Ok(token.hash()));
        for wrong in [
            "",
            "abababab-abab-4bab-abab-ababababab",
            "ABABABAB-ABAB-4BAB-ABAB-ABABABABABAB",
            "abababab-abab-1bab-abab-abababababab",
            "abababab-abab-4bab-cbab-abababababab",
            "abababababab-4bab-abab-ababababababab",
            "ababababéabab-4bab-abab-ababababababa",
        ] {
            assert_eq!(Token::parse(wrong.into()), Err(Malformed), "{wrong}");
        }
    }
}
